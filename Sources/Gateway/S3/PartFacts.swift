import Coding
import Messages
import Service

/// What an upload in parts is to become: what was said at its beginning, and the digests that follow from its parts.
struct PartFacts {
  var object: ObjectFacts
  /// Nil: no checksum was asked for.
  var algorithm: Algorithm?

  struct Algorithm: Equatable {
    /// "CRC32"
    var name: String
    var kind: RunningDigest.Kind
    /// Of all bytes; else of the parts' checksums, one after the other.
    var isFull: Bool
    var typeText: String { isFull ? "FULL_OBJECT" : "COMPOSITE" }
    var header: String { "x-amz-checksum-" + name.lowercased() }
    /// The element of a document: "ChecksumCRC32".
    var element: String { "Checksum" + name }
  }

  /// Of an attribute that says which checksum an upload is to have; of one that says which upload an object came from.
  private static let algorithmName = "multipart-checksum"
  private static let uploadName = "multipart-upload"

  /// What CreateMultipartUpload says.
  init(_ request: S3Request, now: UInt64) throws(S3Error) {
    object = try ObjectFacts(request, now: now)
    let type = try request.header("x-amz-checksum-type")?.uppercased()
    guard let name = try request.header("x-amz-checksum-algorithm")?.uppercased() else {
      guard type == nil else {
        throw S3Error(
          .invalidRequest,
          "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
        )
      }
      return
    }
    guard let found = BodyClaims.checksums.first(where: { $0.name == name }) else {
      throw S3Error(.invalidRequest, "Checksum algorithm provided is unsupported.")
    }
    let isFull: Bool
    switch type {
    case nil: isFull = found.kind == .crc64nvme
    case "FULL_OBJECT": isFull = true
    case "COMPOSITE": isFull = false
    default:
      throw S3Error(.invalidRequest, "Value for x-amz-checksum-type header is invalid.")
    }
    guard isFull ? found.kind.isJoinable : found.kind != .crc64nvme else {
      throw S3Error(
        .invalidRequest,
        "The \(type ?? "") checksum type cannot be used with the \(name.lowercased()) checksum algorithm."
      )
    }
    algorithm = Algorithm(name: name, kind: found.kind, isFull: isFull)
  }

  /// - Parameter attributes: as ``attributes`` gave them.
  init(_ attributes: ObjectAttributes) {
    object = ObjectFacts(attributes, contentName: "")
    object.etag = ""
    let words = attributes.user.first { $0.name == Self.algorithmName }?.value.split(
      separator: " ")
    if let words, words.count == 2,
      let found = BodyClaims.checksums.first(where: { $0.name == words[0] })
    {
      algorithm = Algorithm(
        name: found.name, kind: found.kind, isFull: words[1] == "FULL_OBJECT")
    }
  }

  /// What is kept with the upload.
  var attributes: ObjectAttributes {
    var attributes = object.attributes
    attributes.user.removeAll { $0.name == "etag" }
    if let algorithm {
      attributes.user.append(
        .init(name: Self.algorithmName, value: "\(algorithm.name) \(algorithm.typeText)"))
      attributes.user.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    }
    return attributes
  }

  /// What is kept with the object that these parts become.
  ///
  /// - Parameter upload: its id, so that a request that comes twice is known.
  func attributes(_ parts: [ListParts.Part], upload: String) throws(S3Error) -> ObjectAttributes {
    var attributes = try completed(parts).attributes
    attributes.user.append(.init(name: Self.uploadName, value: upload))
    attributes.user.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    return attributes
  }

  /// The upload that an object was completed from; nil when it came as a whole, or was copied since.
  static func upload(of attributes: ObjectAttributes) -> String? {
    attributes.user.first { $0.name == uploadName }?.value
  }

  /// The facts of the object that these parts become.
  ///
  /// The ETag is S3's: the MD5 of the parts' MD5s, and how many they are.
  func completed(_ parts: [ListParts.Part]) throws(S3Error) -> ObjectFacts {
    var facts = object
    let digests = parts.flatMap(\.part.etagBytes)
    if object.customer != nil { facts.customerParts = try CustomerParts(parts) }
    facts.etag = hexText(RunningDigest.of(digests, .md5)) + "-\(parts.count)"
    guard let algorithm else { return facts }
    guard parts.allSatisfy({ $0.part.checksum.count == algorithm.kind.byteCount }) else {
      throw S3Error(.internalError, "A part has no checksum.")
    }
    if algorithm.isFull {
      var sum = parts[0].part.checksum
      for part in parts.dropFirst() {
        sum = algorithm.kind.joined(
          sum, part.part.checksum, secondByteCount: part.part.byteCount)
      }
      facts.checksum = ObjectFacts.Checksum(name: algorithm.name, value: Base64.encode(sum))
    } else {
      let sum = RunningDigest.of(parts.flatMap(\.part.checksum), algorithm.kind)
      facts.checksum = ObjectFacts.Checksum(
        name: algorithm.name, value: Base64.encode(sum) + "-\(parts.count)")
    }
    return facts
  }
}

extension ObjectFacts {
  /// How many parts an object was completed from; nil when it came as a whole.
  var partCount: UInt32? {
    guard isETagKept, let mark = etag.lastIndex(of: "-"),
      let count = UInt32(etag[etag.index(after: mark)...]), NewPart.numbers.contains(count)
    else { return nil }
    return count
  }
}
