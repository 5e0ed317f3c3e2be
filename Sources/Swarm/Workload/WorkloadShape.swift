internal import Ring
internal import Simulation

/// What clients do.
package struct WorkloadShape: Sendable {
  /// Again and again, at the end of each interval, clients only read for a while.
  package struct Lull: Sendable {
    package var interval: Duration
    package var length: Duration

    /// - Parameter time: since the workload began.
    func covers(_ time: Duration) -> Bool {
      let interval = max(1, interval.saturatedNanoseconds)
      return time.saturatedNanoseconds % interval >= interval - length.saturatedNanoseconds
    }
  }

  package var clientCount = 2
  /// How long clients begin new operations.
  package var duration: Duration = .seconds(30)
  /// Of all clients together, when nothing slows them down.
  package var operationsPerSecond = 20
  package var bucketCount = 2
  package var keyCount = 40
  package var largestByteCount: UInt64 = 8 << 20
  /// Of objects that are put once each, and read in ranges.
  package var largeByteCounts: [UInt64] = []
  /// So many bytes of them all are like no others.
  package var distinctByteCount: UInt64 = 192 << 20
  /// Share of content that repeats other content, in percent.
  package var duplicatePercent = 30
  package var lull: Lull?
  /// Objects and uploads end soon, so that whole containers do.
  package var churns = false

  package init() {}
}

extension SimulationRandom {
  /// One of several, which are never none.
  mutating func pick<Element>(_ elements: [Element]) -> Element { elements[below(elements.count)] }

  /// Between two times, short ones as often as long ones ten times their length.
  mutating func spread(_ range: ClosedRange<Duration>) -> Duration {
    let low = max(1, range.lowerBound.saturatedNanoseconds)
    let high = max(low, range.upperBound.saturatedNanoseconds)
    // Without logarithms, whose last bits may differ between machines: a number of doublings, then evenly.
    var steps = 0
    while low << Int64(steps + 1) <= high { steps += 1 }
    let floor = low << Int64(below(steps + 1))
    return .nanoseconds(within(floor...min(high, floor * 2)))
  }
}
