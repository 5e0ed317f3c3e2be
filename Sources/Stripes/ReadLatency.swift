/// How long block reads took lately, and so when one is slow.
struct ReadLatency {
  private var recent: [Duration] = []
  private var next = 0
  private var readCount = 0
  private var hedgeCount = 0
  private var cached = Duration.milliseconds(100)

  private static let window = 128
  /// Below this a hedge costs more than it saves.
  private static let floor = Duration.milliseconds(20)

  mutating func record(_ duration: Duration) {
    readCount += 1
    if recent.count < Self.window {
      recent.append(duration)
    } else {
      recent[next] = duration
      next = (next + 1) % Self.window
    }
    // Sorting 128 values once in 32 reads costs nothing beside the reads.
    if readCount % 32 == 0 {
      let sorted = recent.sorted()
      cached = max(Self.floor, sorted[sorted.count * 95 / 100] * 2)
    }
  }

  /// How long to wait for a block before asking others; nil when hedges are already too many (one read in ten).
  mutating func hedgeDelay() -> Duration? {
    hedgeCount * 10 <= readCount + 20 ? cached : nil
  }

  mutating func recordHedge() { hedgeCount += 1 }
}
