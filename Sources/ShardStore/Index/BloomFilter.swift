internal import Cluster

/// Says "surely not here" for most keys a run does not hold: ten bits and seven probes for each key, so one absent
/// key in about 120 passes.
struct BloomFilter: Equatable, Sendable {
  private(set) var words: [UInt64]
  private static let probes = 7

  /// - Parameter capacity: keys it is made for.
  init(capacity: Int) {
    words = [UInt64](repeating: 0, count: max(1, (capacity * 10 + 63) / 64))
  }

  init(words: [UInt64]) {
    precondition(!words.isEmpty)
    self.words = words
  }

  mutating func insert(_ key: BlockKey) {
    forEachProbe(key) { word, bit in
      words[word] |= bit
      return true
    }
  }

  func mayContain(_ key: BlockKey) -> Bool {
    var found = true
    forEachProbe(key) { word, bit in
      found = words[word] & bit != 0
      return found
    }
    return found
  }

  /// Kirsch and Mitzenmacher: two hashes make all probes. The hash is part of the run format.
  private func forEachProbe(_ key: BlockKey, _ body: (Int, UInt64) -> Bool) {
    var hash = mix(key.shard.container.raw)
    hash = mix(hash ^ key.shard.generation)
    hash = mix(hash ^ key.stripe)
    hash = mix(hash ^ UInt64(key.shard.shardIndex))
    let step = mix(hash) | 1
    let bitCount = UInt64(words.count) * 64
    for _ in 0..<Self.probes {
      let bit = hash.multipliedFullWidth(by: bitCount).high
      if !body(Int(bit / 64), 1 << (bit % 64)) { return }
      hash &+= step
    }
  }

  /// The finaliser of SplitMix64.
  private func mix(_ value: UInt64) -> UInt64 {
    var z = value &+ 0x9E37_79B9_7F4A_7C15
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
