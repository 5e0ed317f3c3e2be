/// Spreads a direction's bytes over time, so that no more than a rate goes out.
struct Pacer: Sendable {
  private let rate: UInt64
  private var due: Duration

  /// - Parameter rate: bytes a second, above 0.
  init(rate: UInt64, start: Duration) {
    self.rate = rate
    due = start
  }

  /// When these bytes may go.
  mutating func reserve(_ count: Int, now: Duration) -> Duration {
    // What was not used in time is lost, so that a stall is not followed by a burst; a tenth of a second is forgiven.
    due = max(due, now - .milliseconds(100))
    let mine = due
    due += .nanoseconds(Int64(Double(count) / Double(rate) * 1e9))
    return mine
  }
}
