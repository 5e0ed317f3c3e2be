/// How long block reads took lately, and so when one is slow; and how many bytes may be read on top because of it.
struct ReadLatency {
  private var recent: [Duration] = []
  private var next = 0
  private var sampleCount = 0
  private var delay = Duration.milliseconds(100)
  /// Bytes that hedges may still read: a twentieth of what was read, with a little to begin with.
  private(set) var allowance = 4 << 20

  private static let window = 128
  /// Below this a hedge costs more than it saves.
  private static let shortest = Duration.milliseconds(20)
  private static let largestAllowance = 32 << 20

  mutating func record(_ duration: Duration, byteCount: Int) {
    sampleCount += 1
    allowance = min(allowance + byteCount / 20, Self.largestAllowance)
    if recent.count < Self.window {
      recent.append(duration)
    } else {
      recent[next] = duration
      next = (next + 1) % Self.window
    }
    // Sorting 128 values once in 32 reads costs nothing beside the reads.
    if sampleCount % 32 == 0 {
      delay = max(Self.shortest, recent.sorted()[recent.count * 95 / 100])
    }
  }

  /// How long to wait for a block before others are asked: the recent 95th percentile.
  var hedgeDelay: Duration { delay }

  mutating func recordHedge(byteCount: Int) { allowance -= byteCount }
}
