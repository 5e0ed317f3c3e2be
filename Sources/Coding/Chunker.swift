internal import CDigest

/// Cuts a stream where its content says, so that equal content gives equal chunks wherever it stands:
/// FastCDC with normalised chunking.
///
/// A gear hash runs over the last 64 bytes. A chunk ends at the first length, from `minimum` up, at
/// which that hash has zeros in certain bits: two bits more than log2(average) below the *bend*, two
/// fewer from there on; at `maximum` at the latest. The bend is at 25/32 of the average, which makes
/// chunks of random bytes `average` long on average (at it they would be 1.18 times that) when minimum
/// and maximum are half and twice the average.
///
/// Every candidate is judged by its own 64 bytes, those before `minimum` included, never by where the
/// chunk began: two streams that share content cut it alike from the first common end on.
///
/// Table, masks and bend are frozen: other cuts would still be correct, but would find no duplicates
/// among what is stored.
///
/// - Source: Xia et al., FastCDC, USENIX ATC 2016.
package struct Chunker: Hashable, Sendable {
  /// How many bytes a cut depends on: older ones have left the hash's 64 bits.
  static let window = 64

  /// 32, 64 and 128 KiB: what objects are cut by.
  package static let standard = Chunker(minimum: 32 << 10, average: 64 << 10, maximum: 128 << 10)

  package let minimum: Int
  package let average: Int
  package let maximum: Int
  /// The first length at which the easier condition holds.
  private let bend: Int
  private let hardMask: UInt64
  private let easyMask: UInt64

  /// - Parameters:
  ///   - minimum: at least 64.
  ///   - average: a power of two, at least 256, not below `minimum`.
  ///   - maximum: not below `average`.
  package init(minimum: Int, average: Int, maximum: Int) {
    precondition(minimum >= Self.window && minimum <= average && average <= maximum)
    precondition(average >= 256 && average.nonzeroBitCount == 1 && average <= 1 << 30)
    self.minimum = minimum
    self.average = average
    self.maximum = maximum
    bend = max(minimum, average / 32 * 25)
    // High bits have seen the most bytes. Bit 63 is left out so that a hash one place further on still
    // holds all mask bits of the one before: that is what lets `scan` take two bytes in a step.
    func mask(bitCount: Int) -> UInt64 { ((1 << UInt64(bitCount)) - 1) << UInt64(63 - bitCount) }
    hardMask = mask(bitCount: average.trailingZeroBitCount + 2)
    easyMask = mask(bitCount: average.trailingZeroBitCount - 2)
  }

  /// The length of the first chunk of `bytes`, in `minimum...maximum` unless the end comes sooner.
  ///
  /// - Parameters:
  ///   - bytes: the stream from the chunk's first byte on.
  ///   - scanned: how many of them an earlier call for the same chunk was given when it answered nil;
  ///     they are not looked at for a cut again.
  ///   - isEnd: no bytes follow these.
  /// - Returns: nil when more bytes are needed to decide, or there are none; never nil for `maximum`
  ///   bytes or more, or at the end of at least one.
  package func cut(_ bytes: UnsafeRawBufferPointer, scanned: Int = 0, isEnd: Bool) -> Int? {
    guard let start = bytes.baseAddress, bytes.count > 0 else { return nil }
    precondition((0...bytes.count).contains(scanned))
    let limit = min(bytes.count, maximum)
    let first = max(minimum, scanned + 1)
    if first <= limit {
      let base = start.assumingMemoryBound(to: UInt8.self)
      let gear = Self.gear
      var hash: UInt64 = 0
      for place in first - Self.window..<first - 1 {
        hash = hash << 1 &+ gear[Int(base[place])]
      }
      let middle = min(limit, bend - 1)
      if first <= middle,
        let length = Self.scan(base, first...middle, mask: hardMask, hash: &hash)
      {
        return length
      }
      let easy = max(first, bend)
      if easy <= limit,
        let length = Self.scan(base, easy...limit, mask: easyMask, hash: &hash)
      {
        return length
      }
    }
    if bytes.count >= maximum { return maximum }
    return isEnd ? bytes.count : nil
  }

  /// The lengths of all chunks of a whole stream.
  package func lengths(of bytes: UnsafeRawBufferPointer) -> [Int] {
    var lengths: [Int] = []
    var start = 0
    while let length = cut(UnsafeRawBufferPointer(rebasing: bytes[start...]), isEnd: true) {
      lengths.append(length)
      start += length
    }
    return lengths
  }

  /// The first of `lengths` whose hash has none of the bits of `mask`.
  ///
  /// - Parameter hash: before, of the bytes up to `lengths.lowerBound - 1`; after, when there was no
  ///   such length, of the bytes up to `lengths.upperBound`.
  @inline(__always)
  private static func scan(
    _ base: UnsafePointer<UInt8>, _ lengths: ClosedRange<Int>, mask: UInt64, hash: inout UInt64
  ) -> Int? {
    let gear = Self.gear
    let doubled = gear + 256
    let wideMask = mask << 1
    var value = hash
    var next = base + (lengths.lowerBound - 1)
    let end = base + lengths.upperBound

    /// The bytes at `offset` and after it. The first step gives (value << 1 + gear) << 1, so it is
    /// held against the mask one place further on. What the two bytes add is summed apart: the next
    /// pair waits for one shift and one addition only.
    @inline(__always)
    func two(_ offset: Int) -> Int? {
      let first = doubled[Int(next[offset])]
      let both = cairn_opaque(first &+ gear[Int(next[offset + 1])])
      let shifted = value << 2
      value = shifted &+ both
      if (shifted &+ first) & wideMask == 0 { return next - base + offset + 1 }
      if value & mask == 0 { return next - base + offset + 2 }
      return nil
    }

    // What else was measured: docs/decisions/0010-kernels.md.
    while end - next >= 8 {
      if let length = two(0) { return length }
      if let length = two(2) { return length }
      if let length = two(4) { return length }
      if let length = two(6) { return length }
      next += 8
    }
    while next < end {
      value = value << 1 &+ gear[Int(next.pointee)]
      next += 1
      if value & mask == 0 { return next - base }
    }
    hash = value
    return nil
  }

  /// One word for each byte value, then the same words doubled: the first 256 numbers of SplitMix64
  /// (Steele, Lea, Flood, OOPSLA 2014) from the seed "CairnGea" in ASCII. Never freed.
  // Written once, before anyone can see it.
  nonisolated(unsafe) static let gear: UnsafePointer<UInt64> = {
    let table = UnsafeMutablePointer<UInt64>.allocate(capacity: 512)
    var state: UInt64 = 0x4361_6972_6E47_6561
    for byte in 0..<256 {
      state &+= 0x9E37_79B9_7F4A_7C15
      var word = state
      word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
      word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
      word ^= word >> 31
      (table + byte).initialize(to: word)
      (table + 256 + byte).initialize(to: word << 1)
    }
    return UnsafePointer(table)
  }()
}
