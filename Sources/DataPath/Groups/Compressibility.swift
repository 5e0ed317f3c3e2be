import Ring

/// Whether bytes are worth compressing, by a sample of them.
///
/// 2 KiB, taken in sixteen places, are counted by value. The sum of the squares of the counts is an estimate of the collision
/// entropy (Rényi's, of order 2), which is never above Shannon's: where it is close to 8 bits no entropy coder gains, and
/// repeats, which it does not see, are rare in bytes that look random. No logarithm is taken. Random bytes are 12 standard
/// deviations away from the bound. It costs about a microsecond a chunk, less than 2 % of hashing it.
enum Compressibility {
  private static let windowByteCount = 128
  private static let windowCount = 16
  /// Fewer bytes tell too little, and cost little to try.
  private static let least = 4096
  /// Of 2,048 sampled bytes with 7.8 bits of collision entropy: n + n(n - 1) / 2^7.8.
  private static let mostEven = 20_858

  static func isWorthTrying(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard bytes.count >= least else { return true }
    return withUnsafeTemporaryAllocation(of: UInt16.self, capacity: 256) { counts in
      counts.initialize(repeating: 0)
      let stride = (bytes.count - windowByteCount) / (windowCount - 1)
      for window in 0..<windowCount {
        let start = window * stride
        for index in start..<start + windowByteCount { counts[Int(bytes[index])] &+= 1 }
      }
      var sum = 0
      for count in counts { sum &+= Int(count) &* Int(count) }
      return sum > mostEven
    }
  }

  static func isWorthTrying(_ slice: Slice) -> Bool { slice.withBytes { isWorthTrying($0) } }
}
