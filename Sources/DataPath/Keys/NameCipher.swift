import Coding
import Messages
import Service

/// Names of objects as a bucket keeps them whose key is its clients' alone.
///
/// Each part between slashes is sealed with AES-256-SIV, in the context of the bucket and the parts before it, and written in base64url without
/// padding (RFC 4648, 5). So the same name is always sealed the same way, a folder's objects have one prefix, and names that
/// are the same in two folders or buckets do not look it. What shows is how many parts a name has, and how long they are.
struct NameCipher: Sendable {
  private let key: [UInt8]
  private let bucket: String

  init(_ domain: KeyedDomain, bucket: String) {
    key = KeyDerivation.hkdf(
      key: domain.fingerprintKey, salt: [], info: "cairn names of objects",
      byteCount: AES256SIV.keyByteCount)
    self.bucket = bucket
  }

  /// - Parameter name: a key, or a prefix that ends in a slash.
  func sealed(_ name: String) -> String {
    var context = Array(bucket.utf8) + [0]
    var sealed: [UInt8] = []
    for (index, part) in parts(name).enumerated() {
      if index > 0 { sealed.append(Self.slash) }
      if !part.isEmpty {
        sealed += Self.text(AES256SIV.seal(Array(part), key: key, context: context))
      }
      context += part + [Self.slash]
    }
    return String(decoding: sealed, as: UTF8.self)
  }

  /// Nil when that was not sealed here.
  func plain(_ sealed: String) -> String? {
    var context = Array(bucket.utf8) + [0]
    var plain: [UInt8] = []
    for (index, part) in parts(sealed).enumerated() {
      if index > 0 { plain.append(Self.slash) }
      var opened: [UInt8] = []
      if !part.isEmpty {
        guard let bytes = Self.bytes(part),
          let name = AES256SIV.open(bytes, key: key, context: context)
        else { return nil }
        opened = name
      }
      plain += opened
      context += opened + [Self.slash]
    }
    return String(validating: plain, as: UTF8.self)
  }

  private static let slash = UInt8(ascii: "/")

  private func parts(_ name: String) -> [Array<UInt8>.SubSequence] {
    Array(name.utf8).split(separator: Self.slash, omittingEmptySubsequences: false)
  }

  private static func text(_ bytes: [UInt8]) -> [UInt8] {
    Base64.encode(bytes).utf8.compactMap { digit in
      switch digit {
      case UInt8(ascii: "+"): UInt8(ascii: "-")
      case UInt8(ascii: "/"): UInt8(ascii: "_")
      case UInt8(ascii: "="): nil
      default: digit
      }
    }
  }

  private static func bytes(_ text: Array<UInt8>.SubSequence) -> [UInt8]? {
    var digits: [UInt8] = []
    for digit in text {
      switch digit {
      case UInt8(ascii: "-"): digits.append(UInt8(ascii: "+"))
      case UInt8(ascii: "_"): digits.append(slash)
      case UInt8(ascii: "+"), slash, UInt8(ascii: "="): return nil
      default: digits.append(digit)
      }
    }
    while !digits.count.isMultiple(of: 4) { digits.append(UInt8(ascii: "=")) }
    return String(validating: digits, as: UTF8.self).flatMap(Base64.decode)
  }
}
