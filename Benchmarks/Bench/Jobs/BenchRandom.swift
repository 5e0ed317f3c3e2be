/// Repeatable random numbers. (SplitMix64; Steele, Lea, Flood, OOPSLA 2014.)
struct BenchRandom: Sendable {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    return Self.mix(state)
  }

  static func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  /// - Parameter bound: above 0.
  mutating func below(_ bound: UInt64) -> UInt64 { next().multipliedFullWidth(by: bound).high }

  mutating func fill(_ bytes: UnsafeMutableRawBufferPointer) {
    var at = 0
    while at + 8 <= bytes.count {
      bytes.storeBytes(of: next(), toByteOffset: at, as: UInt64.self)
      at += 8
    }
    while at < bytes.count {
      bytes[at] = UInt8(truncatingIfNeeded: next())
      at += 1
    }
  }
}

/// Each number below `count` once, in an order that the key decides, without a table: a Feistel network over the next
/// power of four, walked until it falls inside.
///
/// - Source: Black and Rogaway, CT-RSA 2002 (cycle walking).
struct Permutation: Sendable {
  let count: UInt64
  private let halfBits: UInt64
  private let mask: UInt64
  private let key: UInt64

  /// - Parameter count: above 0.
  init(count: UInt64, key: UInt64) {
    self.count = count
    self.key = key
    let bits = UInt64(64 - max(1, count - 1).leadingZeroBitCount)
    halfBits = (bits + 1) / 2
    mask = (1 << halfBits) - 1
  }

  subscript(place: UInt64) -> UInt64 {
    var value = place
    repeat {
      var left = value >> halfBits
      var right = value & mask
      for round: UInt64 in 0..<3 {
        let next = left ^ (BenchRandom.mix(right ^ key &+ round) & mask)
        left = right
        right = next
      }
      value = left << halfBits | right
    } while value >= count
    return value
  }
}
