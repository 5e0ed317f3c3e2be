/// What the way from one host to another is like.
package struct LinkOptions: Sendable {
  /// Drawn evenly for each segment; a stream stays in order.
  package var latency: ClosedRange<Duration>
  package var bytesPerSecond: Int
  package var tail = LatencyTail()

  package init(latency: ClosedRange<Duration>, bytesPerSecond: Int) {
    self.latency = latency
    self.bytesPerSecond = bytesPerSecond
  }

  package static let localNetwork = LinkOptions(
    latency: .microseconds(20)...(.microseconds(300)), bytesPerSecond: 1_250_000_000)
  package static let loopback = LinkOptions(
    latency: .microseconds(5)...(.microseconds(40)), bytesPerSecond: 5_000_000_000)
  package static let slow = LinkOptions(
    latency: .milliseconds(20)...(.milliseconds(400)), bytesPerSecond: 1_000_000)
}

extension LinkOptions {
  func drawLatency(_ random: inout SimulationRandom) -> Int64 {
    tail.draw(random.within(latency), &random)
  }
}

/// The way from one host to another, as it is now.
final class Link {
  var options: LinkOptions
  var isCut = false
  /// New connections are refused.
  var isRefusing = false
  /// When the last byte given to it will have left.
  var busyUntil: Instant = 0

  init(_ options: LinkOptions) { self.options = options }
}
