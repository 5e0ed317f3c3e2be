/// Smallest, largest, mean and deviation of a stream of values, in constant room.
///
/// - Source: Welford, Technometrics 4(3), 1962; merging after Chan, Golub and LeVeque, 1979.
package struct RunningStatistic: Sendable {
  package private(set) var count: UInt64 = 0
  private var least = Double.infinity
  private var most = 0.0
  package private(set) var mean = 0.0
  private var squares = 0.0

  package init() {}

  package var minimum: Double { count == 0 ? 0 : least }
  package var maximum: Double { count == 0 ? 0 : most }
  package var deviation: Double { count < 2 ? 0 : (squares / Double(count - 1)).squareRoot() }

  @inline(__always)
  package mutating func add(_ value: Double) {
    count &+= 1
    least = min(least, value)
    most = max(most, value)
    let delta = value - mean
    mean += delta / Double(count)
    squares += delta * (value - mean)
  }

  package mutating func merge(_ other: RunningStatistic) {
    guard other.count > 0 else { return }
    let total = Double(count + other.count)
    let delta = other.mean - mean
    squares += other.squares + delta * delta * Double(count) * Double(other.count) / total
    mean += delta * Double(other.count) / total
    least = min(least, other.least)
    most = max(most, other.most)
    count += other.count
  }
}
