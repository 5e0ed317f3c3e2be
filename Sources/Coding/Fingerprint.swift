internal import CCrypto

/// The SHA-256 of plain bytes; names a chunk.
///
/// Kept as four words, the first bytes in the most significant place of `w0`, so that comparing words
/// gives the order of the 32 bytes.
package struct Fingerprint: Hashable, Comparable, Sendable, CustomStringConvertible {
  package static let byteCount = 32

  package var w0, w1, w2, w3: UInt64

  package init(w0: UInt64, w1: UInt64, w2: UInt64, w3: UInt64) {
    self.w0 = w0
    self.w1 = w1
    self.w2 = w2
    self.w3 = w3
  }

  /// A stored fingerprint; nil unless there are exactly 32 bytes.
  package init?(_ bytes: some Collection<UInt8>) {
    guard bytes.count == Self.byteCount else { return nil }
    func load(_ bytes: UnsafeRawBufferPointer) -> Fingerprint {
      func word(_ offset: Int) -> UInt64 {
        UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
      }
      return Fingerprint(w0: word(0), w1: word(8), w2: word(16), w3: word(24))
    }
    self =
      bytes.withContiguousStorageIfAvailable { load(UnsafeRawBufferPointer($0)) }
      ?? Array(bytes).withUnsafeBytes(load)
  }

  /// Computes the SHA-256 of `bytes`.
  package init(of bytes: UnsafeRawBufferPointer) {
    var hasher = SHA256Hasher()
    hasher.update(bytes)
    self = hasher.finish()
  }

  /// Computes the SHA-256 of `bytes`.
  package init(of bytes: [UInt8]) {
    self = bytes.withUnsafeBytes { Fingerprint(of: $0) }
  }

  /// The digest's 32 bytes.
  package var bytes: [UInt8] {
    [UInt8](unsafeUninitializedCapacity: Self.byteCount) { buffer, count in
      let target = UnsafeMutableRawBufferPointer(buffer)
      target.storeBytes(of: w0.bigEndian, toByteOffset: 0, as: UInt64.self)
      target.storeBytes(of: w1.bigEndian, toByteOffset: 8, as: UInt64.self)
      target.storeBytes(of: w2.bigEndian, toByteOffset: 16, as: UInt64.self)
      target.storeBytes(of: w3.bigEndian, toByteOffset: 24, as: UInt64.self)
      count = Self.byteCount
    }
  }

  package static func < (left: Fingerprint, right: Fingerprint) -> Bool {
    if left.w0 != right.w0 { return left.w0 < right.w0 }
    if left.w1 != right.w1 { return left.w1 < right.w1 }
    if left.w2 != right.w2 { return left.w2 < right.w2 }
    return left.w3 < right.w3
  }

  /// 64 lower-case hexadecimal digits.
  package var hex: String {
    let digits: StaticString = "0123456789abcdef"
    return String(unsafeUninitializedCapacity: 64) { text in
      var place = 0
      for word in [w0, w1, w2, w3] {
        for shift in stride(from: 60, through: 0, by: -4) {
          text[place] = digits.utf8Start[Int(truncatingIfNeeded: word >> UInt64(shift)) & 15]
          place += 1
        }
      }
      return place
    }
  }

  package var description: String { hex }

  /// - Parameter hex: exactly 64 hexadecimal digits, of either case; anything else gives nil.
  package init?(hex: String) {
    guard hex.utf8.count == 2 * Self.byteCount, let bytes = hexBytes(hex) else { return nil }
    self.init(bytes)
  }
}

/// SHA-256 of bytes that arrive in pieces. Allocates nothing.
package struct SHA256Hasher: ~Copyable {
  private var state: SHA256_CTX

  package init() {
    state = SHA256_CTX()
    SHA256_Init(&state)
  }

  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    guard let base = bytes.baseAddress, bytes.count > 0 else { return }
    SHA256_Update(&state, base, bytes.count)
  }

  package mutating func update(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { update($0) }
  }

  /// The digest of all bytes so far. Afterwards the hasher is as new.
  package mutating func finish() -> Fingerprint {
    var digest: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
    withUnsafeMutableBytes(of: &digest) { target in
      _ = SHA256_Final(target.baseAddress!.assumingMemoryBound(to: UInt8.self), &state)
    }
    SHA256_Init(&state)
    return Fingerprint(
      w0: UInt64(bigEndian: digest.0), w1: UInt64(bigEndian: digest.1),
      w2: UInt64(bigEndian: digest.2), w3: UInt64(bigEndian: digest.3))
  }
}
