import Ring

/// Bytes a second over the last half minute.
struct RateMeter {
  private static let window = Duration.seconds(30)
  private var samples: [(at: Duration, byteCount: UInt64)] = []

  mutating func add(_ byteCount: UInt64, at now: Duration) {
    samples.removeAll { now - $0.at > Self.window }
    samples.append((now, byteCount))
  }

  /// 0 while nothing is known.
  func byteRate(at now: Duration) -> UInt64 {
    let recent = samples.filter { now - $0.at <= Self.window }
    guard let first = recent.first else { return 0 }
    let seconds = max(1, (now - first.at) / .seconds(1))
    return UInt64(Double(recent.reduce(UInt64(0)) { $0 &+ $1.byteCount }) / seconds)
  }
}
