import Coding
import DataPath
import HTTP
import Ring
import Service

/// The bytes of an object on their way from a client, checked against all that the client said of them. Each digest is
/// made once, on this pass. Loop-confined.
///
/// What is wrong is told when the source ends or by ``check()``, so before anything is visible.
final class BodySource: ByteSource, @unchecked Sendable {
  // Loop-confined.
  private let body: any BytePull
  private let bodyByteCount: UInt64?
  private let pieces: ChunkedPayload?
  private let wanted: BodyClaims
  private let md5: BodyDigest
  private let sha256: RunningDigest?
  private let checksum: RunningDigest?
  private var count: UInt64 = 0
  /// So far.
  var readByteCount: UInt64 { count }
  private var isAtEnd = false
  /// Why reading failed.
  private(set) var failure: S3Error?
  /// After ``check()``.
  private(set) var md5Digest: [UInt8] = []
  /// Once it has ended.
  private(set) var checksumValue: String?
  var checksumName: String? { wanted.checksum?.name }

  let byteCount: UInt64?
  /// Whoever reads writes over what was read, where it was read to.
  var isWrittenOver = false

  convenience init(
    _ body: HTTPRequestBody, _ wanted: BodyClaims, _ payload: Payload, pool: BufferPool,
    lanes: DigestLanes
  ) {
    self.init(pull: body, length: body.byteCount, wanted, payload, pool: pool, lanes: lanes)
  }

  /// - Parameter length: of `body`; nil when its end alone tells.
  init(
    pull body: any BytePull, length: UInt64?, _ wanted: BodyClaims, _ payload: Payload,
    pool: BufferPool, lanes: DigestLanes
  ) {
    self.body = body
    md5 = BodyDigest(lanes)
    bodyByteCount = length
    self.wanted = wanted
    switch payload {
    case .unsigned, .digest:
      pieces = nil
      byteCount = length ?? wanted.decodedByteCount
    case .pieces(let signing, let hasTrailer):
      pieces = ChunkedPayload(body, signing: signing, hasTrailer: hasTrailer, pool: pool)
      byteCount = wanted.decodedByteCount
    }
    if case .digest = payload { sha256 = RunningDigest(.sha256) } else { sha256 = nil }
    if case .digest(let digest) = payload { signedDigest = digest } else { signedDigest = nil }
    checksum = wanted.checksum.map { RunningDigest($0.kind) }
  }
  private let signedDigest: [UInt8]?

  func rewind() -> Bool { false }

  func read(into slice: Slice) async throws(DataPathError) -> Int {
    if isAtEnd { return 0 }
    await md5.prepare(for: slice)
    let found = try await receive(into: slice)
    slice[0..<found].withBytes { bytes in
      sha256?.update(bytes)
      checksum?.update(bytes)
    }
    await md5.update(slice[0..<found])
    if isWrittenOver { await md5.settle() }
    count += UInt64(found)
    guard count <= wanted.byteLimit else { throw fail(S3Error(.entityTooLarge)) }
    if let byteCount, count > byteCount { throw fail(S3Error(.incompleteBody)) }
    if found == 0 || count == byteCount {
      // What says that it is the end, and may say more, stands behind the last byte.
      if found > 0, pieces != nil || bodyByteCount == nil {
        let rest = try await receive(into: Slice(copying: [0]))
        guard rest == 0 else { throw fail(S3Error(.incompleteBody)) }
      }
      isAtEnd = true
      try finish()
    }
    return found
  }

  private func receive(into slice: Slice) async throws(DataPathError) -> Int {
    do throws(ChunkedPayload.Failure) {
      if let pieces { return try await pieces.read(into: slice) }
      do throws(HTTPError) {
        return try await body.read(into: slice)
      } catch {
        throw .http(error)
      }
    } catch {
      switch error {
      case .s3(let error): throw fail(error)
      case .http(.lost), .http(.unreachable), .http(.cancelled):
        throw fail(S3Error(.incompleteBody))
      case .http(.malformed(let reason)): throw fail(S3Error(.invalidRequest, reason))
      }
    }
  }

  private func fail(_ error: S3Error) -> DataPathError {
    failure = error
    return .source(error.message)
  }

  /// Makes the MD5 and holds it against the one that the client said. Once, when the source has ended and before what it
  /// brought is visible; the later, the more bodies share the work.
  func check() async throws(DataPathError) {
    md5Digest = await md5.finish()
    if let expected = wanted.md5, expected != md5Digest { throw fail(S3Error(.badDigest)) }
  }

  private func finish() throws(DataPathError) {
    if let byteCount, byteCount != count { throw fail(S3Error(.incompleteBody)) }
    if let signedDigest, let sha256, sha256.finish() != signedDigest {
      throw fail(S3Error(.contentSHA256Mismatch))
    }
    guard let checksum, let claim = wanted.checksum else { return }
    let value = Base64.encode(checksum.finish())
    var claimed = claim.value
    if claim.isInTrailer {
      claimed = pieces?.trailers.first { $0.name == claim.header }?.value
      guard claimed != nil else {
        throw fail(S3Error(.malformedTrailer, "The trailer \(claim.header) is missing."))
      }
    }
    if let claimed, claimed != value {
      throw fail(
        S3Error(
          .badDigest, "The \(claim.name) you specified did not match the calculated checksum."))
    }
    checksumValue = value
  }
}

/// What a request says of the bytes it brings.
struct BodyClaims {
  struct Checksum {
    var kind: RunningDigest.Kind
    /// "x-amz-checksum-crc32"
    var header: String
    /// "CRC32"
    var name: String
    /// Base64; nil when it comes later, or when none was claimed and one is only to be made.
    var value: String?
    var isInTrailer = false
  }
  var md5: [UInt8]?
  var checksum: Checksum?
  var decodedByteCount: UInt64?
  var byteLimit: UInt64 = 5 << 40

  static let checksums: [(kind: RunningDigest.Kind, name: String)] = [
    (.crc32, "CRC32"), (.crc32c, "CRC32C"), (.crc64nvme, "CRC64NVME"), (.sha1, "SHA1"),
    (.sha256, "SHA256"),
  ]

  init() {}

  /// A checksum is to be made though the client claims none.
  mutating func wantChecksum(_ kind: RunningDigest.Kind) {
    guard let found = Self.checksums.first(where: { $0.kind == kind }) else { return }
    checksum = Checksum(
      kind: kind, header: "x-amz-checksum-" + found.name.lowercased(), name: found.name)
  }

  init(_ request: S3Request) throws(S3Error) {
    if let text = try request.header("Content-MD5") {
      guard let digest = Base64.decode(text), digest.count == 16 else {
        throw S3Error(.invalidDigest)
      }
      md5 = digest
    }
    if let text = try request.header("x-amz-decoded-content-length") {
      guard let count = UInt64(text), text.utf8.allSatisfy({ (48...57).contains($0) }) else {
        throw S3Error(.invalidArgument, "x-amz-decoded-content-length is no number.")
      }
      decodedByteCount = count
    }
    let trailer = try request.header("x-amz-trailer")?.lowercased()
    let asked = try request.header("x-amz-sdk-checksum-algorithm")?.uppercased()
    for (kind, name) in Self.checksums {
      let header = "x-amz-checksum-" + name.lowercased()
      let value = try request.header(header)
      let isInTrailer = trailer == header
      guard value != nil || isInTrailer else { continue }
      guard checksum == nil, !(value != nil && isInTrailer) else {
        throw S3Error(.invalidRequest, "Expecting a single x-amz-checksum- header")
      }
      if let value {
        guard let bytes = Base64.decode(value), bytes.count == kind.byteCount else {
          throw S3Error(.invalidRequest, "Value for \(header) header is invalid.")
        }
      }
      checksum = Checksum(
        kind: kind, header: header, name: name, value: value, isInTrailer: isInTrailer)
    }
    if let trailer, checksum?.isInTrailer != true {
      throw S3Error(
        .invalidRequest,
        "The value specified in the x-amz-trailer header is not supported: \(trailer)")
    }
    if let asked, !asked.isEmpty, !Self.checksums.contains(where: { $0.name == asked }) {
      throw S3Error(.invalidRequest, "Checksum algorithm provided is unsupported.")
    }
    if checksum == nil, let asked, let found = Self.checksums.first(where: { $0.name == asked }) {
      checksum = Checksum(
        kind: found.kind, header: "x-amz-checksum-" + found.name.lowercased(), name: found.name)
    }
  }
}
