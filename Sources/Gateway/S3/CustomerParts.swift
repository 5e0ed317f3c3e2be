import Coding
import Messages
import Ring
import Service
import Wire

/// The parts of an object that came encrypted with a client's key. Each part is encrypted by itself, under a key made of the upload's
/// key and a nonce of its own: a part that is put again, or at the same time twice, never has the key stream of another.
///
/// A part's record has the nonce behind the digest that its ETag is; an object has, for each part in its order, how long it is and
/// its nonce: in attributes, since records of parts end with their upload.
struct CustomerParts: Equatable, Sendable {
  struct Part: Equatable, Sendable {
    /// Where it ends in the object.
    var end: UInt64
    var nonce: [UInt8]
  }
  let parts: [Part]

  static let nonceByteCount = 8
  static let digestByteCount = 16
  /// So that the attributes of an object stay below some 70 KB: listings carry them.
  static let countLimit = 4000
  static let attributePrefix = "sse-customer-parts-"
  private static let valueByteLimit = 8000

  /// - Throws: when a part has no nonce.
  init(_ listed: [ListParts.Part]) throws(S3Error) {
    var parts: [Part] = []
    var end: UInt64 = 0
    for one in listed where one.part.byteCount > 0 {
      guard one.part.nonce.count == Self.nonceByteCount else {
        throw S3Error(.internalError, "A part is not encrypted.")
      }
      end += one.part.byteCount
      parts.append(Part(end: end, nonce: one.part.nonce))
    }
    self.parts = parts
  }

  /// Nil when the object did not come in parts.
  init?(_ attributes: ObjectAttributes) {
    let text = attributes.user.filter { $0.name.hasPrefix(Self.attributePrefix) }.map(\.value)
      .joined()
    guard !text.isEmpty, let bytes = Base64.decode(text) else { return nil }
    var reader = ByteReader(bytes)
    var parts: [Part] = []
    var end: UInt64 = 0
    while reader.remaining > 0 {
      guard let count = try? reader.varint(), count > 0,
        let nonce = try? reader.raw(Self.nonceByteCount)
      else { return nil }
      let (next, overflow) = end.addingReportingOverflow(count)
      guard !overflow else { return nil }
      end = next
      parts.append(Part(end: end, nonce: nonce))
    }
    self.parts = parts
  }

  var attributes: [ObjectAttributes.UserAttribute] {
    var writer = ByteWriter(reserving: 16 * parts.count)
    var start: UInt64 = 0
    for part in parts {
      writer.varint(part.end - start)
      writer.raw(part.nonce)
      start = part.end
    }
    let text = Array(Base64.encode(writer.bytes).utf8)
    return stride(from: 0, to: text.count, by: Self.valueByteLimit).enumerated().map {
      index, first in
      .init(
        name: Self.attributePrefix + (index < 10 ? "0" : "") + String(index),
        value: String(
          decoding: text[first..<min(first + Self.valueByteLimit, text.count)], as: UTF8.self))
    }
  }

  /// Which part has the byte at `place`, and where it lies; what is past the end counts to the last. Nil when there are none.
  func part(at place: UInt64) -> (index: Int, range: Range<UInt64>)? {
    var (low, high) = (0, parts.count - 1)
    while low < high {
      let middle = (low + high) / 2
      if parts[middle].end <= place { low = middle + 1 } else { high = middle }
    }
    guard low < parts.count else { return nil }
    let start = low == 0 ? 0 : parts[low - 1].end
    return (low, start..<(low == parts.count - 1 ? .max : parts[low].end))
  }
}

/// One part that is being encrypted.
struct CustomerPart {
  /// The upload's.
  let whole: CustomerSeal.Opened
  let nonce: [UInt8]
  var opened: CustomerSeal.Opened { whole.part(nonce) }

  /// What is kept as the part's digest.
  func digest(_ md5: [UInt8]) -> [UInt8] { whole.etagBytes(md5) + nonce }
}

extension NewPart {
  /// What the part's ETag says.
  var etagBytes: [UInt8] { Array(digest.prefix(CustomerParts.digestByteCount)) }
  /// Empty: it is not encrypted with a client's key.
  var nonce: [UInt8] { Array(digest.dropFirst(CustomerParts.digestByteCount)) }
}

extension S3Service {
  /// With what a part is encrypted; nil: the upload was begun without a key.
  ///
  /// - Throws: when the request's key is not that of the upload.
  func customerPart(_ facts: PartFacts, _ key: CustomerKey?, number: UInt32) throws(S3Error)
    -> CustomerPart?
  {
    guard let whole = try customerUpload(facts, key, isNeeded: true) else { return nil }
    guard number <= CustomerParts.countLimit else {
      throw S3Error(
        .invalidArgument,
        "Parts encrypted with the client's key have numbers up to \(CustomerParts.countLimit).")
    }
    return CustomerPart(whole: whole, nonce: driver.randomBytes(CustomerParts.nonceByteCount))
  }

  /// - Parameter isNeeded: whether a request without a key is refused.
  @discardableResult
  func customerUpload(_ facts: PartFacts, _ key: CustomerKey?, isNeeded: Bool) throws(S3Error)
    -> CustomerSeal.Opened?
  {
    guard let seal = facts.object.customer else {
      guard key == nil else {
        throw S3Error(
          .invalidRequest,
          "The multipart upload initiate did not request encryption. Please resend the request without including encryption parameters."
        )
      }
      return nil
    }
    guard let key else {
      guard isNeeded else { return nil }
      throw S3Error(
        .invalidRequest,
        "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption parameters."
      )
    }
    guard let opened = seal.open(key) else {
      throw S3Error(
        .invalidRequest,
        "The provided encryption parameters did not match the ones used originally.")
    }
    return opened
  }
}
