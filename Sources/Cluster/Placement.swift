package import Coding

/// Where new containers go. Pure: the same map, reports and question give the same answer.
///
/// Placement groups are made from the map alone, so few distinct device sets exist and simultaneous failures
/// seldom hit all of one container; what is alive and how full it is only chooses among them.
package struct Placement: Sendable {
  package let map: ClusterMap
  private let domains: [FailureDomain]
  /// Bytes each device can still take for data, of those believed alive. Others count as down.
  package let free: [DeviceID: UInt64]
  /// A device with less than this takes no new container.
  package let leastFree: UInt64
  private let policy: PlacementPolicy
  private let work: [DeviceID: DeviceWork]
  private let groupCache: PlacementGroupCache

  /// - Parameters:
  ///   - free: what live devices reported; a device that is missing here is not used.
  ///   - work: what they have had to do lately, for policies that ask.
  package init(
    map: ClusterMap, free: [DeviceID: UInt64], leastFree: UInt64 = 0,
    policy: PlacementPolicy = .emptiest, work: [DeviceID: DeviceWork] = [:],
    groupCache: PlacementGroupCache = PlacementGroupCache()
  ) {
    self.map = map
    self.free = free
    self.leastFree = leastFree
    self.policy = policy
    self.work = work
    self.groupCache = groupCache
    domains = map.failureDomains
  }

  private func isUsable(_ device: DeviceID, avoiding avoid: Set<DeviceID>) -> Bool {
    guard let bytes = free[device] else { return false }
    return bytes >= leastFree && !avoid.contains(device)
  }

  /// Failure domains with a device that can take a container now.
  package func liveDomains(avoiding avoid: Set<DeviceID> = []) -> [FailureDomain] {
    domains.compactMap { domain in
      var live = domain
      live.devices = domain.devices.filter { isUsable($0, avoiding: avoid) }
      return live.devices.isEmpty ? nil : live
    }
  }

  /// The scheme and devices of a new container of class `wanted`: k + m devices in distinct domains, all alive,
  /// none in `avoid`. Nil when fewer than 1 + m domains are left.
  ///
  /// - Parameter turn: counts up from grant to grant; see ``PlacementPolicy``.
  package func choose(
    class wanted: Scheme, avoiding avoid: [DeviceID] = [], turn: UInt64
  ) -> (scheme: Scheme, devices: [DeviceID])? {
    let avoid = Set(avoid)
    let live = liveDomains(avoiding: avoid)
    guard let scheme = effectiveScheme(class: wanted, liveDomains: live.count) else { return nil }
    var groups = groupCache.groups(epoch: map.epoch, domains: domains, width: scheme.width)
      .filter { $0.allSatisfy { isUsable($0, avoiding: avoid) } }
    if groups.isEmpty {
      groups = groupCache.groups(epoch: map.epoch, domains: live, width: scheme.width)
    }
    let room = groups.map { group in group.map { free[$0] ?? 0 }.min() ?? 0 }
    if groups.isEmpty { return nil }
    return (scheme, groups[policy.choose(groups, room: room, work: work, turn: turn)])
  }

  /// 1 + m devices in distinct domains for a link: the emptiest of those alive first, then others that are
  /// known, for being silent is no proof of being gone. Nil when fewer domains are left than copies.
  ///
  /// - Parameter avoid: devices that failed lately; used only by nobody.
  package func linkDevices(copies: Int, avoiding avoid: [DeviceID] = []) -> [DeviceID]? {
    let avoid = Set(avoid)
    var candidates: [Candidate] = domains.compactMap { domain in
      let usable = domain.devices.filter { !avoid.contains($0) }
      guard
        let best = usable.max(by: { (free[$0] ?? 0, $1) < (free[$1] ?? 0, $0) })
      else { return nil }
      return Candidate(
        domain: domain, device: best, isLive: free[best] != nil, free: free[best] ?? 0)
    }
    guard candidates.count >= copies else { return nil }
    // Like for like by eighths of the emptiest, so that small differences do not spoil the spread.
    let step = max(1, (candidates.map(\.free).max() ?? 0) / 8)
    candidates.sort {
      ($0.isLive ? 0 : 1, $1.free / step, $0.domain.id) < (
        $1.isLive ? 0 : 1, $0.free / step, $1.domain.id
      )
    }
    return spread(copies, of: candidates, beside: []).map(\.device)
  }

  /// Devices for shards of a container that are to leave where they are: alive, with room, in failure domains that hold no
  /// other shard of it, the emptiest first. Fewer than shards when there are too few such domains.
  ///
  /// - Parameters:
  ///   - devices: of the container, by shard.
  ///   - leaving: the shards to be moved, the most urgent first.
  ///   - byteCount: of the largest of them.
  ///   - turn: any number; devices about equally empty take turns.
  package func replacements(
    of devices: [DeviceID], leaving: [Int], byteCount: UInt64, avoiding avoid: Set<DeviceID> = [],
    turn: UInt64
  ) -> [(shard: Int, device: DeviceID)] {
    let staying = Set(devices.indices.filter { !leaving.contains($0) }.map { devices[$0] })
    // By node: what stays on a device that takes no more is not among the domains.
    let nodes = map.nodes.count > 1 ? Set(staying.compactMap { map.node(holding: $0)?.id }) : []
    let taken = domains.filter {
      nodes.contains($0.node) || !staying.isDisjoint(with: $0.devices)
    }
    let takenIDs = Set(taken.map(\.id))
    var candidates: [Candidate] = domains.compactMap { domain in
      guard !takenIDs.contains(domain.id) else { return nil }
      let usable = domain.devices.filter {
        isUsable($0, avoiding: avoid) && !devices.contains($0)
          && (free[$0] ?? 0) >= leastFree + byteCount
      }
      guard let best = usable.max(by: { (free[$0] ?? 0, $1) < (free[$1] ?? 0, $0) }) else {
        return nil
      }
      return Candidate(domain: domain, device: best, isLive: true, free: free[best] ?? 0)
    }
    let step = max(1, (candidates.map(\.free).max() ?? 0) / 8)
    candidates.sort {
      ($1.free / step, mix(turn, 1, $0.domain.id), $0.domain.id) < (
        $0.free / step, mix(turn, 1, $1.domain.id), $1.domain.id
      )
    }
    let chosen = spread(min(leaving.count, candidates.count), of: candidates, beside: taken)
    return zip(leaving, chosen).map { ($0, $1.device) }
  }

  /// A shard of a container that would lie better elsewhere, and where: one of two in a failure domain, or one that shares more
  /// of its path with the others than it need. Nil when all lie as far apart as they can by moving one.
  ///
  /// Each such move leaves fewer pairs of shards that share the widest part of their paths, or as many and fewer that share
  /// more, so a container comes to rest.
  ///
  /// - Parameters:
  ///   - devices: of the container, by shard.
  ///   - byteCount: of a shard.
  package func closestShard(
    of devices: [DeviceID], byteCount: UInt64, avoiding avoid: Set<DeviceID> = []
  ) -> (shard: Int, device: DeviceID)? {
    let homes = devices.map { device -> FailureDomain? in
      guard let node = map.node(holding: device) else { return nil }
      return FailureDomain(
        id: map.nodes.count == 1 ? device.raw : node.id.raw, path: node.domain, node: node.id,
        devices: [device])
    }
    for shard in devices.indices {
      guard let home = homes[shard] else { continue }
      let others = homes.indices.compactMap { $0 == shard ? nil : homes[$0] }
      let isDouble = others.contains { $0.id == home.id }
      let crowd = crowding(home, among: others)
      // Where nothing is shared nothing can be won.
      guard isDouble || crowd.contains(where: { $0 > 0 }),
        let (_, device) = replacements(
          of: devices, leaving: [shard], byteCount: byteCount, avoiding: avoid, turn: 0
        ).first,
        let target = domains.first(where: { $0.devices.contains(device) })
      else { continue }
      if isDouble || crowding(target, among: others).lexicographicallyPrecedes(crowd) {
        return (shard, device)
      }
    }
    return nil
  }

  /// The first candidates, and of them those that share least of their path with the others chosen.
  private func spread(
    _ count: Int, of candidates: [Candidate], beside taken: [FailureDomain]
  ) -> [Candidate] {
    var candidates = candidates
    var taken = taken
    var chosen: [Candidate] = []
    while chosen.count < count {
      let next = candidates.indices.min { a, b in
        let left = candidates[a]
        let right = candidates[b]
        if left.isLive != right.isLive { return left.isLive }
        let crowdLeft = crowding(left.domain, among: taken)
        let crowdRight = crowding(right.domain, among: taken)
        if crowdLeft != crowdRight { return crowdLeft.lexicographicallyPrecedes(crowdRight) }
        return a < b
      }!
      chosen.append(candidates.remove(at: next))
      taken.append(chosen[chosen.count - 1].domain)
    }
    return chosen
  }

  private struct Candidate {
    var domain: FailureDomain
    var device: DeviceID
    var isLive: Bool
    var free: UInt64
  }
}

/// How many of `taken` share the widest part of `domain`'s path, how many the two widest, and so on.
func crowding(_ domain: FailureDomain, among taken: [FailureDomain]) -> [Int] {
  domain.path.indices.map { level in
    taken.count { $0.path.starts(with: domain.path[...level]) }
  }
}

/// Remembers the groups of the last few questions: they cost O(domains squared) to make.
package final class PlacementGroupCache: @unchecked Sendable {
  // Loop-confined.
  private struct Question: Hashable {
    var epoch: UInt64
    var domains: [FailureDomain]
    var width: Int
  }
  private var known: [Question: [[DeviceID]]] = [:]

  package init() {}

  func groups(epoch: UInt64, domains: [FailureDomain], width: Int) -> [[DeviceID]] {
    let question = Question(epoch: epoch, domains: domains, width: width)
    if let groups = known[question] { return groups }
    if known.count >= 16 { known.removeAll() }
    let groups = placementGroups(epoch: epoch, domains: domains, width: width)
    known[question] = groups
    return groups
  }
}

/// Ordered device sets of `width` distinct domains each. Every device is in at least one; there are about
/// `rounds` * domains / width of them. Empty when there are fewer domains than `width`.
///
/// Each round is a permutation of the domains drawn from the epoch, cut into groups: a group starts with the
/// first domain not covered in this round and goes on with whatever shares least of its path with the group,
/// uncovered ones first. (The idea is copysets': Cidon et al., USENIX ATC 2013.)
package func placementGroups(
  epoch: UInt64, domains: [FailureDomain], width: Int
) -> [[DeviceID]] {
  guard width > 0, domains.count >= width else { return [] }
  let leastRounds = 4
  let rounds = max(leastRounds, domains.map(\.devices.count).max() ?? 0)
  var groups: [[DeviceID]] = []
  for round in 0..<rounds {
    let order = domains.sorted {
      (mix(epoch, UInt64(round), $0.id), $0.id) < (mix(epoch, UInt64(round), $1.id), $1.id)
    }
    var covered = [Bool](repeating: false, count: order.count)
    while let first = covered.firstIndex(of: false) {
      var members = [first]
      covered[first] = true
      var isMember = [Bool](repeating: false, count: order.count)
      isMember[first] = true
      while members.count < width {
        let taken = members.map { order[$0] }
        var best: (index: Int, cost: [Int])?
        for index in order.indices where !isMember[index] {
          let cost = crowding(order[index], among: taken) + [covered[index] ? 1 : 0]
          // A path that ends early shares nothing further down.
          if best == nil || isLess(cost, best!.cost) { best = (index, cost) }
        }
        members.append(best!.index)
        isMember[best!.index] = true
        covered[best!.index] = true
      }
      let group = members.map { index in
        let domain = order[index]
        let start = Int(mix(epoch, 0, domain.id) % UInt64(domain.devices.count))
        return domain.devices[(start + round) % domain.devices.count]
      }
      groups.append(group)
    }
  }
  return groups
}

/// Compares costs whose last element is the cover mark and whose others are crowding by level.
private func isLess(_ a: [Int], _ b: [Int]) -> Bool {
  let levels = max(a.count, b.count) - 1
  for level in 0..<levels {
    let left = level < a.count - 1 ? a[level] : 0
    let right = level < b.count - 1 ? b[level] : 0
    if left != right { return left < right }
  }
  return a[a.count - 1] < b[b.count - 1]
}

/// SplitMix64's finisher over three numbers: an order that nobody prefers and everybody computes alike.
func mix(_ a: UInt64, _ b: UInt64, _ c: UInt64) -> UInt64 {
  var z = a &* 0x9E37_79B9_7F4A_7C15 &+ b &* 0xD1B5_4A32_D192_ED03 &+ c
  z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
  z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
  return z ^ (z >> 31)
}
