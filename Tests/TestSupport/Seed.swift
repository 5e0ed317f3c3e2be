public import Testing

/// Where a test's randomness comes from. Printed with a failure as the test's argument; `TEST_SEED=N`
/// runs just that one.
public struct Seed: Sendable, Hashable, CustomTestStringConvertible {
  public let value: UInt64
  public init(_ value: UInt64) { self.value = value }
  public var testDescription: String { "TEST_SEED=\(value)" }

  /// A few fixed seeds and a fresh one, or only `TEST_SEED`.
  public static let several: [Seed] = {
    if let text = environment("TEST_SEED"), let value = UInt64(text) { return [Seed(value)] }
    return [Seed(1), Seed(2), Seed(3), Seed(UInt64.random(in: 1000...UInt64.max))]
  }()

  public var generator: SeededGenerator { SeededGenerator(seed: value) }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
public struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  public init(seed: UInt64) { state = seed }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  public mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
  }
}
