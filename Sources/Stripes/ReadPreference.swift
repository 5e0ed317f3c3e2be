import Cluster

/// Finds the blocks to read when bytes cost more from some devices than from others. Pure.
enum ReadPreference {
  /// What asking costs beside the bytes, as bytes.
  private static let perRequest = 16 << 10

  /// The blocks to leave for when the others fail; empty when the wanted ones are to be read as they are.
  ///
  /// - Parameters:
  ///   - costs: of a byte, by block index.
  ///   - barred: blocks that are asked last anyway, or not at all.
  /// - Complexity: O(w² log w) for w blocks.
  static func spared(
    layout: StripeLayout, wanted: [BlockRange], costs: [Double], barred: Set<Int>
  ) -> [Int] {
    let stored = layout.storedBlocks
    let needed = layout.dataBlockCount
    let byCost = stored.filter { !barred.contains($0) }.sorted { (costs[$0], $0) < (costs[$1], $1) }
    guard byCost.count >= needed else { return [] }

    /// The blocks to read without those in `dropped`, and what that costs.
    func choice(without dropped: Set<Int>) -> (blocks: Set<Int>, cost: Double)? {
      let rebuilt = union(wanted.filter { dropped.contains($0.index) }.map(\.range))
      var ranges: [Int: [Range<Int>]] = [:]
      for part in wanted where !dropped.contains(part.index) {
        ranges[part.index, default: []].append(part.range)
      }
      if !rebuilt.isEmpty {
        let others = byCost.filter { ranges[$0] == nil && !dropped.contains($0) }
        guard ranges.count + others.count >= needed else { return nil }
        for index in others.prefix(needed - ranges.count) { ranges[index] = [] }
        // None too many: of wanted blocks there are at most as many as are needed, and one at least is dropped.
        for (index, own) in ranges { ranges[index] = union(own + rebuilt) }
      }
      // In their order, for sums depend on it.
      let cost = ranges.keys.sorted().reduce(0.0) { sum, index in
        sum + costs[index] * Double(perRequest + ranges[index]!.reduce(0) { $0 + $1.count })
      }
      return (Set(ranges.keys), cost)
    }

    var dropped = Set(wanted.map(\.index)).intersection(barred)
    guard var best = choice(without: dropped) else { return [] }
    for part in wanted.sorted(by: { costs[$0.index] > costs[$1.index] })
    where !dropped.contains(part.index) {
      guard let next = choice(without: dropped.union([part.index])), next.cost < best.cost * 7 / 8
      else { continue }
      dropped.insert(part.index)
      best = next
    }
    if dropped.isEmpty { return [] }
    return stored.filter { !best.blocks.contains($0) && !barred.contains($0) }
  }
}
