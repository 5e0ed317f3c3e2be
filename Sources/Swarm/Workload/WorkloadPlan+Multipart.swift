internal import Simulation

extension WorkloadPlan {
  /// One to four parts in any order, some of them put twice.
  func multipart(_ client: Int, _ index: Int, _ random: inout SimulationRandom)
    -> PlannedOperation.Multipart
  {
    var parts: [(number: UInt32, source: PlannedOperation.Multipart.Source)] = []
    for number in 1...UInt32(1 + random.below(4)) {
      for _ in 0..<(random.chance(1, in: 4) ? 2 : 1) {
        let source: PlannedOperation.Multipart.Source
        if random.chance(1, in: 5) {
          let first = UInt64(random.below(1_000_000))
          let count = Self.spread(1, 1_000_000 - first, &random)
          source = .copy(name(&random), part: first..<first + count)
        } else {
          source = .content(content(&random).0)
        }
        parts.append((number * 3, source))
      }
    }
    for place in parts.indices.reversed() { parts.swapAt(place, random.below(place + 1)) }
    let endings: [PlannedOperation.Multipart.Ending] = [
      .complete, .complete, .complete, .complete, .abort, .leave,
    ]
    return PlannedOperation.Multipart(
      name: name(&random), tag: "\(client)/\(index)", condition: condition(&random), parts: parts,
      ending: endings[random.below(endings.count)],
      longestPause: random.chance(1, in: 4) ? .milliseconds(random.below(80)) : .zero)
  }
}
