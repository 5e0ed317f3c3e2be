/// One of the world's streams of random numbers. Streams are split off the seed by name, so that a new
/// consumer with a name of its own does not change what the others draw.
///
/// - Source: SplitMix64; Steele, Lea, Flood, OOPSLA 2014.
package struct SimulationRandom: RandomNumberGenerator, Sendable {
  private var state: UInt64

  package init(seed: UInt64, name: String) {
    var hash = EventHash()
    hash.combine(seed)
    hash.combine(name)
    state = hash.value
    _ = next()
  }

  package mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// A number in `0..<bound`.
  package mutating func below(_ bound: Int) -> Int {
    precondition(bound > 0)
    return Int(truncatingIfNeeded: next().multipliedFullWidth(by: UInt64(bound)).high)
  }

  /// True `numerator` times in `denominator`.
  package mutating func chance(_ numerator: Int, in denominator: Int) -> Bool {
    numerator > 0 && below(denominator) < numerator
  }

  /// A number in `range`, nanoseconds as a rule.
  package mutating func within(_ range: ClosedRange<Int64>) -> Int64 {
    let width = range.upperBound - range.lowerBound
    return width == 0 ? range.lowerBound : range.lowerBound + Int64(below(Int(width) + 1))
  }

  /// A time in `range`.
  package mutating func within(_ range: ClosedRange<Duration>) -> Int64 {
    within(range.lowerBound.saturatedNanoseconds...range.upperBound.saturatedNanoseconds)
  }
}
