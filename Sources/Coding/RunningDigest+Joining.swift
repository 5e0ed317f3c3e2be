extension RunningDigest.Kind {
  /// The reflected polynomial of a CRC and its width in bits; nil for digests, which cannot be joined.
  private var polynomial: (bits: UInt64, width: UInt64)? {
    switch self {
    case .crc32: (0xEDB8_8320, 32)
    case .crc32c: (0x82F6_3B78, 32)
    case .crc64nvme: (0x9A6C_9329_AC4B_C9B5, 64)
    case .md5, .sha1, .sha256: nil
    }
  }

  /// Whether a checksum of bytes follows from those of their parts.
  package var isJoinable: Bool { polynomial != nil }

  /// The checksum of bytes that lie one after the other, from those of each; see `CRC32C+Joining.swift` for the how.
  ///
  /// - Parameters:
  ///   - first, second: most significant byte first, as ``RunningDigest/finish()`` gives them.
  ///   - secondByteCount: of the bytes that `second` is of.
  /// - Complexity: O(log `secondByteCount`), some microseconds.
  package func joined(_ first: [UInt8], _ second: [UInt8], secondByteCount: UInt64) -> [UInt8] {
    guard let polynomial, first.count == byteCount, second.count == byteCount else {
      preconditionFailure("checksums of \(self) cannot be joined")
    }
    let one = UInt64(1) << (polynomial.width - 1)
    func product(_ a: UInt64, _ b: UInt64) -> UInt64 {
      var sum: UInt64 = 0
      var shifted = b
      var place = one
      while place != 0 {
        if a & place != 0 { sum ^= shifted }
        place >>= 1
        shifted = shifted >> 1 ^ (shifted & 1 == 0 ? 0 : polynomial.bits)
      }
      return sum
    }
    var power = one
    // x^8: what one byte that follows multiplies by.
    var square = one >> 8
    var rest = secondByteCount
    while rest != 0 {
      if rest & 1 != 0 { power = product(square, power) }
      square = product(square, square)
      rest >>= 1
    }
    func number(_ bytes: [UInt8]) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
    let joined = product(power, number(first)) ^ number(second)
    return (0..<byteCount).reversed().map { UInt8(truncatingIfNeeded: joined >> UInt64(8 * $0)) }
  }
}
