/// By what the devices of a new container are chosen among the placement groups that have room.
///
/// All of them keep to failure domains and zones, for groups are made so, and to what is up, has room and is not degraded.
package enum PlacementPolicy: String, Sendable, CaseIterable {
  /// Groups about equally empty take turns.
  case emptiest
  /// All groups take turns.
  case roundRobin = "round-robin"
  /// Of the group whose turn it is and another one drawn, the one whose busiest device has less under way. Taking the least busy of all would send everybody to the
  /// same devices until the next report.
  ///
  /// - Source: Mitzenmacher, "The power of two choices in randomized load balancing", IEEE TPDS 12 (10), 2001.
  case leastLoaded = "least-loaded"
  /// Groups have their turn the more often the sooner their slowest device answers.
  case responseTime = "response-time"
}

/// What a device has had to do lately.
package struct DeviceWork: Sendable, Equatable {
  /// Reads and writes under way, on average.
  package var underWay: Double
  /// From a write's arrival to its answer, on average, in microseconds; nil when too few were seen.
  package var writeMicroseconds: Double?

  package init(underWay: Double, writeMicroseconds: Double?) {
    self.underWay = underWay
    self.writeMicroseconds = writeMicroseconds
  }
}

extension PlacementPolicy {
  /// The index of the group to take.
  ///
  /// - Parameters:
  ///   - groups: at least one.
  ///   - room: of each group, bytes that its fullest device can take.
  ///   - work: of devices; those of which nothing is known are idle, and answer as the middle one of the others does.
  ///   - turn: counts up from choice to choice.
  func choose(
    _ groups: [[DeviceID]], room: [UInt64], work: [DeviceID: DeviceWork], turn: UInt64
  ) -> Int {
    let most = room.max() ?? 0
    func withRoom(_ least: UInt64) -> [Int] { groups.indices.filter { room[$0] >= least } }
    switch self {
    case .emptiest:
      let roomy = withRoom(most - most / 4)
      return roomy[Int(turn % UInt64(roomy.count))]
    case .roundRobin:
      let roomy = withRoom(most / 8)
      return roomy[Int(turn % UInt64(roomy.count))]
    case .leastLoaded:
      let roomy = withRoom(most / 8)
      func busiest(_ index: Int) -> Double {
        groups[index].map { work[$0]?.underWay ?? 0 }.max() ?? 0
      }
      let first = Int(turn % UInt64(roomy.count))
      // Any other as likely as the rest: groups made in the same round share no device.
      let others = UInt64(max(1, roomy.count - 1))
      let second = roomy[(first + 1 + Int(mix(turn, 1, 0) % others)) % roomy.count]
      return busiest(second) < busiest(roomy[first]) ? second : roomy[first]
    case .responseTime:
      let roomy = withRoom(most / 8)
      let known = work.values.compactMap(\.writeMicroseconds).sorted()
      let usual = known.isEmpty ? 1 : max(1, known[known.count / 2])
      let weights = roomy.map { index in
        let slowest = groups[index].map { work[$0]?.writeMicroseconds ?? usual }.max() ?? usual
        // What answers much faster than most is as good as idle: its next answers say more.
        return 1 / max(slowest, usual / 4)
      }
      // Multiples of the golden ratio are spread more evenly than draws would be (Weyl): nobody gets two in a row by chance.
      var rest =
        Double((turn &* 0x9E37_79B9_7F4A_7C15) >> 11) / Double(1 << 53) * weights.reduce(0, +)
      for (index, weight) in zip(roomy, weights) {
        if rest < weight { return index }
        rest -= weight
      }
      return roomy[roomy.count - 1]
    }
  }
}
