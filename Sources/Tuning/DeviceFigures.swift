/// Median and tail of one kind of operation.
package struct Latency: Equatable, Sendable {
  package var median: Duration
  /// One of ten was no slower: nearer to what the device needs than the median while others use it too.
  package var quick: Duration
  /// 99 of a hundred were no slower.
  package var tail: Duration
  package var count: Int

  /// - Parameter quick: by default the median.
  package init(median: Duration, tail: Duration, count: Int, quick: Duration? = nil) {
    self.median = median
    self.quick = quick ?? median
    self.tail = tail
    self.count = count
  }

  /// Nil for none.
  package init?(_ times: [Duration]) {
    guard !times.isEmpty else { return nil }
    let sorted = times.sorted()
    median = sorted[sorted.count / 2]
    quick = sorted[sorted.count / 10]
    tail = sorted[min(sorted.count - 1, sorted.count * 99 / 100)]
    count = sorted.count
  }
}

/// Bytes a second with so many operations of 1 MiB under way.
package struct Bandwidth: Equatable, Sendable {
  package var depth: Int
  package var bytesPerSecond: Double

  package init(depth: Int, bytesPerSecond: Double) {
    self.depth = depth
    self.bytesPerSecond = bytesPerSecond
  }
}

/// What a device turned out to do. Nil where nothing was, or could be, measured.
package struct DeviceFigures: Equatable, Sendable {
  package init() {}

  /// Whether what was measured went past the page cache; if not it tells of memory.
  package var isDirect = true
  /// Bytes that were read from, at random.
  package var scratchByteCount: UInt64 = 0
  /// 4 KiB, one at a time.
  package var randomRead: Latency?
  package var sequentialRead: Latency?
  /// 4 KiB at random, 32 under way, a second.
  package var randomReadRate: Double?
  package var reads: [Bandwidth] = []
  package var writes: [Bandwidth] = []
  /// fdatasync after 4 KiB and after 1 MiB were written.
  package var smallSync: Latency?
  package var largeSync: Latency?
  /// Whether the file system has them; nil when that was not tried.
  package var hasDirectIO: Bool?
  package var hasPreallocation: Bool?
  package var hasPunching: Bool?

  /// How many times as long a read at a random place takes as the one that follows the last.
  package var seekPenalty: Double? {
    guard isDirect, let randomRead, let sequentialRead, sequentialRead.median > .zero else {
      return nil
    }
    return randomRead.median / sequentialRead.median
  }
}

/// "91 us", "8.3 ms", "1.2 s".
package func shortTime(_ duration: Duration) -> String {
  let nanoseconds =
    Double(duration.components.seconds) * 1e9 + Double(duration.components.attoseconds) / 1e9
  func digits(_ value: Double) -> String {
    guard value < 9.95 else { return "\(Int(value.rounded()))" }
    let tenths = Int((value * 10).rounded())
    return tenths % 10 == 0 ? "\(tenths / 10)" : "\(tenths / 10).\(tenths % 10)"
  }
  if nanoseconds < 999_500 { return digits(nanoseconds / 1e3) + " us" }
  if nanoseconds < 999.5e6 { return digits(nanoseconds / 1e6) + " ms" }
  return digits(nanoseconds / 1e9) + " s"
}
