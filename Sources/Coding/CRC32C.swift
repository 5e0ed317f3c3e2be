internal import CISAL

/// CRC-32C (Castagnoli), as iSCSI and RFC 3720 define it: "123456789" gives 0xE3069283.
package enum CRC32C {
  /// ISA-L counts bytes in a C `int`; longer input goes in pieces of this many bytes.
  static let largestCall = 1 << 30

  /// - Parameter seed: the checksum of the bytes before these, so that
  ///   `checksum(b, seed: checksum(a)) == checksum(a + b)`; 0 at the start.
  package static func checksum(_ bytes: UnsafeRawBufferPointer, seed: UInt32 = 0) -> UInt32 {
    checksum(bytes, seed: seed, largestCall: largestCall)
  }

  static func checksum(
    _ bytes: UnsafeRawBufferPointer, seed: UInt32, largestCall: Int
  ) -> UInt32 {
    guard let base = bytes.baseAddress else { return seed }
    // ISA-L declares its input mutable but only reads it. It leaves both inversions to the caller.
    var next = UnsafeMutablePointer(mutating: base.assumingMemoryBound(to: UInt8.self))
    var left = bytes.count
    var register = ~seed
    while left > 0 {
      let count = min(left, largestCall)
      register = crc32_iscsi(next, Int32(count), register)
      next += count
      left -= count
    }
    return ~register
  }

  package static func checksum(_ bytes: [UInt8], seed: UInt32 = 0) -> UInt32 {
    bytes.withUnsafeBytes { checksum($0, seed: seed) }
  }

  /// One checksum, starting anew, for each `unit` bytes; the last unit may be short.
  package static func checksums(of bytes: UnsafeRawBufferPointer, unit: Int = 4096) -> [UInt32] {
    precondition(unit > 0)
    let unitCount = bytes.count / unit + (bytes.count % unit == 0 ? 0 : 1)
    return [UInt32](unsafeUninitializedCapacity: unitCount) { sums, count in
      var start = 0
      while start < bytes.count {
        let end = min(unit, bytes.count - start) + start
        sums.initializeElement(
          at: count, to: checksum(UnsafeRawBufferPointer(rebasing: bytes[start..<end])))
        count += 1
        start = end
      }
    }
  }
}
