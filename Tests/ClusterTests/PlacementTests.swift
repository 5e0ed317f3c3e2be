import Cluster
import Coding
import Ring
import TestSupport
import Testing

@Suite("Placement")
struct PlacementTests {
  /// A map with as many nodes as `racks` has entries, each in that rack (empty: in none).
  static func map(
    racks: [String], devicesPerNode: Int = 1, epoch: UInt64 = 1, random: inout SeededGenerator
  ) -> ClusterMap {
    let nodes = racks.enumerated().map { index, rack in
      NodeRecord(
        id: NodeID(random.next()), name: "n\(index)",
        address: SocketAddress(host: "127.0.0.1", port: 1000 + UInt16(index)),
        domain: rack.isEmpty ? [] : [rack],
        devices: (0..<devicesPerNode).map { _ in
          DeviceRecord(
            id: DeviceID(random.next()), capacity: 1 << 40, tier: "ssd", state: .healthy)
        })
    }
    return ClusterMap(epoch: epoch, nodes: nodes.sorted { $0.id < $1.id })
  }

  static func allFree(_ map: ClusterMap, _ bytes: UInt64 = 1 << 40) -> [DeviceID: UInt64] {
    var free: [DeviceID: UInt64] = [:]
    for node in map.nodes { for device in node.devices { free[device.id] = bytes } }
    return free
  }

  @Test(
    "fewer live domains than k + m keep m and shrink k",
    arguments: [
      (9, "6+3", "6+3"), (12, "6+3", "6+3"), (8, "6+3", "5+3"), (7, "6+3", "4+3"),
      (6, "6+3", "3+3"), (5, "6+3", "2+3"), (4, "6+3", "1+3"), (3, "6+3", nil), (0, "6+3", nil),
      (2, "1+1", "1+1"), (1, "1+1", nil), (1, "1+0", "1+0"), (0, "1+0", nil), (3, "2+1", "2+1"),
      (2, "2+1", "1+1"), (3, "4+0", "3+0"),
    ] as [(Int, String, String?)])
  func shrinking(live: Int, wanted: String, effective: String?) throws {
    let scheme = try #require(Scheme(wanted))
    #expect(
      effectiveScheme(class: scheme, liveDomains: live) == effective.flatMap { Scheme($0) })
  }

  @Test(
    "the widest usual scheme fits the number of domains",
    arguments: [
      (1, "1+0"), (2, "1+1"), (3, "2+1"), (4, "2+1"), (5, "3+2"), (6, "4+2"), (8, "4+2"),
      (9, "6+3"), (20, "6+3"),
    ])
  func widest(domains: Int, scheme: String) {
    #expect(Scheme.widest(forDomains: domains).description == scheme)
  }

  @Test("groups are distinct domains, cover every device and are few", arguments: Seed.several)
  func groups(seed: Seed) {
    var random = seed.generator
    for _ in 0..<30 {
      let nodeCount = Int.random(in: 2...24, using: &random)
      let devicesPerNode = Int.random(in: 1...5, using: &random)
      let width = Int.random(in: 1...nodeCount, using: &random)
      let map = Self.map(
        racks: Array(repeating: "", count: nodeCount), devicesPerNode: devicesPerNode,
        epoch: random.next(), random: &random)
      let groups = placementGroups(
        epoch: map.epoch, domains: map.failureDomains, width: width)
      for group in groups {
        #expect(group.count == width)
        #expect(Set(group.map { map.node(holding: $0)!.id }).count == width)
      }
      #expect(Set(groups.flatMap { $0 }) == Set(Self.allFree(map).keys))
      let perRound = (nodeCount + width - 1) / width
      #expect(groups.count <= max(4, devicesPerNode) * perRound)
      #expect(
        groups == placementGroups(epoch: map.epoch, domains: map.failureDomains, width: width))
    }
  }

  @Test("racks are shared only when there are too few of them", arguments: Seed.several)
  func racks(seed: Seed) {
    var random = seed.generator
    for _ in 0..<20 {
      let rackCount = Int.random(in: 2...8, using: &random)
      var racks: [String] = []
      for rack in 0..<rackCount {
        racks += Array(repeating: "r\(rack)", count: Int.random(in: 1...4, using: &random))
      }
      let map = Self.map(racks: racks, random: &random)
      let width = Int.random(in: 1...min(racks.count, rackCount), using: &random)
      for group in placementGroups(epoch: 7, domains: map.failureDomains, width: width) {
        let used = group.map { map.node(holding: $0)!.domain[0] }
        #expect(Set(used).count == width, "\(used)")
      }
      let links = Placement(map: map, free: Self.allFree(map)).linkDevices(copies: width)
      #expect(Set((links ?? []).map { map.node(holding: $0)!.domain[0] }).count == width)
    }
  }

  @Test(
    "shards that leave go to live devices with room, in domains that hold no other of the container",
    arguments: Seed.several)
  func replacements(seed: Seed) {
    var random = seed.generator
    var moved = 0
    for _ in 0..<60 {
      let nodeCount = Int.random(in: 1...12, using: &random)
      var map = Self.map(
        racks: (0..<nodeCount).map { _ in ["", "a", "b", "c"].randomElement(using: &random)! },
        devicesPerNode: Int.random(in: nodeCount == 1 ? 4...6 : 1...3, using: &random),
        random: &random)
      let width = Int.random(in: 1...(nodeCount == 1 ? 4 : nodeCount), using: &random)
      let devices = placementGroups(epoch: 3, domains: map.failureDomains, width: width)[0]
      for node in map.nodes.indices {
        for device in map.nodes[node].devices.indices
        where Int.random(in: 0..<6, using: &random) == 0 {
          map.nodes[node].devices[device].state = Bool.random(using: &random) ? .retired : .draining
        }
      }
      var free = Self.allFree(map)
      for device in free.keys.sorted() where Int.random(in: 0..<5, using: &random) == 0 {
        free[device] = Bool.random(using: &random) ? nil : 1 << 20
      }
      let leaving = devices.indices.filter { _ in Int.random(in: 0..<3, using: &random) == 0 }
        .shuffled(using: &random)
      let chosen = Placement(map: map, free: free, leastFree: 1 << 20).replacements(
        of: devices, leaving: leaving, byteCount: 1 << 20, turn: random.next())
      // The most urgent come first.
      #expect(chosen.map(\.shard) == Array(leaving.prefix(chosen.count)))
      moved += chosen.count
      var after = devices
      for (shard, device) in chosen {
        #expect(free[device] ?? 0 >= 2 << 20 && !devices.contains(device))
        #expect(map.node(holding: device)!.devices.first { $0.id == device }!.state == .healthy)
        after[shard] = device
      }
      #expect(Set(after).count == width)
      let staying = after.indices.filter { shard in
        !leaving.contains(shard) || chosen.contains { $0.shard == shard }
      }
      if nodeCount > 1 {
        #expect(
          Set(staying.map { map.node(holding: after[$0])!.id }).count == staying.count)
      }
      // As many as there are domains for.
      let used = Set(
        devices.indices.filter { !leaving.contains($0) }.map { shard in
          nodeCount > 1 ? map.node(holding: devices[shard])!.id.raw : devices[shard].raw
        })
      let others = map.failureDomains.filter { domain in
        !used.contains(domain.id)
          && domain.devices.contains { free[$0] ?? 0 >= 2 << 20 && !devices.contains($0) }
      }
      #expect(chosen.count == min(leaving.count, others.count))
    }
    #expect(moved > 0)
  }

  @Test(
    "shards that came to lie close together part, one move at a time, and come to rest",
    arguments: Seed.several)
  func closestShard(seed: Seed) {
    var random = seed.generator
    var moved = 0
    for _ in 0..<60 {
      let nodeCount = Int.random(in: 2...12, using: &random)
      let map = Self.map(
        racks: (0..<nodeCount).map { _ in ["a", "b", "c"].randomElement(using: &random)! },
        devicesPerNode: Int.random(in: 1...3, using: &random), random: &random)
      let width = Int.random(in: 1...nodeCount, using: &random)
      let placement = Placement(map: map, free: Self.allFree(map))
      // As a map may leave them that changed: anywhere.
      var devices = Array(
        map.nodes.flatMap(\.devices).map(\.id).shuffled(using: &random).prefix(width))
      var rounds = 0
      while let (shard, device) = placement.closestShard(of: devices, byteCount: 1), rounds < 100 {
        #expect(!devices.contains(device))
        devices[shard] = device
        rounds += 1
      }
      #expect(rounds < 100)
      moved += rounds
      #expect(Set(devices.map { map.node(holding: $0)!.id }).count == width)
      // No rack has two shards more than another that could take one.
      let racks = Dictionary(grouping: map.nodes, by: { $0.domain[0] }).mapValues(\.count)
      var counts: [String: Int] = [:]
      for device in devices { counts[map.node(holding: device)!.domain[0], default: 0] += 1 }
      for (rack, size) in racks where counts[rack, default: 0] < size {
        #expect(counts.values.max()! <= counts[rack, default: 0] + 1)
      }
    }
    #expect(moved > 0)
  }

  @Test(
    "a choice is alive, avoids what it should and shrinks by the table", arguments: Seed.several)
  func choice(seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<40 {
      let nodeCount = Int.random(in: 2...12, using: &random)
      let map = Self.map(
        racks: Array(repeating: "", count: nodeCount),
        devicesPerNode: Int.random(in: 1...3, using: &random), random: &random)
      var free = Self.allFree(map)
      for device in free.keys.sorted() where Int.random(in: 0..<4, using: &random) == 0 {
        free[device] = nil
      }
      let avoid = free.keys.sorted().filter { _ in Int.random(in: 0..<8, using: &random) == 0 }
      let wanted = try #require(
        Scheme(
          k: Int.random(in: 1...6, using: &random), m: Int.random(in: 0...3, using: &random)))
      let usable = Set(free.keys).subtracting(avoid)
      let liveNodes = map.nodes.count { node in node.devices.contains { usable.contains($0.id) } }
      let placement = Placement(map: map, free: free)
      let choice = placement.choose(class: wanted, avoiding: avoid, turn: random.next())
      #expect(choice?.scheme == effectiveScheme(class: wanted, liveDomains: liveNodes))
      guard let choice else { continue }
      #expect(choice.devices.count == choice.scheme.width)
      #expect(choice.devices.allSatisfy { usable.contains($0) })
      #expect(
        Set(choice.devices.map { map.node(holding: $0)!.id }).count == choice.devices.count)
    }
  }

  @Test("one node's devices are its domains; one device makes one copy")
  func oneNode() throws {
    var random = SeededGenerator(seed: 1)
    let three = Self.map(racks: [""], devicesPerNode: 3, random: &random)
    let scheme = try #require(Scheme("2+1"))
    let choice = Placement(map: three, free: Self.allFree(three)).choose(class: scheme, turn: 0)
    #expect(Set(choice?.devices ?? []).count == 3)
    #expect(choice?.scheme == scheme)

    let one = Self.map(racks: [""], devicesPerNode: 1, random: &random)
    let single = Placement(map: one, free: Self.allFree(one))
    #expect(single.choose(class: scheme, turn: 0) == nil)
    let copy = single.choose(class: Scheme("1+0")!, turn: 0)
    #expect(copy?.devices == one.nodes[0].devices.map(\.id))
    #expect(single.linkDevices(copies: 1) == copy?.devices)
    #expect(single.linkDevices(copies: 2) == nil)
  }

  @Test("fuller groups wait until the others have caught up")
  func emptiest() throws {
    var random = SeededGenerator(seed: 2)
    let map = Self.map(racks: Array(repeating: "", count: 12), random: &random)
    var free = Self.allFree(map)
    let full = map.nodes[3].devices[0].id
    free[full] = 1 << 30
    let scheme = try #require(Scheme("4+2"))
    for turn in 0..<50 {
      let choice = Placement(map: map, free: free).choose(class: scheme, turn: UInt64(turn))
      #expect(choice?.devices.contains(full) == false)
    }
    // Nothing else is left when all twelve are needed.
    let wide = try #require(Scheme("10+2"))
    #expect(Placement(map: map, free: free).choose(class: wide, turn: 0) != nil)
    #expect(
      Placement(map: map, free: free, leastFree: 1 << 31).choose(class: wide, turn: 0)?.scheme
        == Scheme("9+2"))
  }

  @Test("links go to live devices first, to silent ones rather than nowhere, to retired ones never")
  func links() throws {
    var random = SeededGenerator(seed: 3)
    var map = Self.map(racks: Array(repeating: "", count: 5), random: &random)
    var free = Self.allFree(map)
    let silent = map.nodes[0].devices[0].id
    let retired = map.nodes[1].devices[0].id
    free[silent] = nil
    map.nodes[1].devices[0].state = .retired
    let placement = Placement(map: map, free: free)
    #expect(placement.linkDevices(copies: 3)?.contains(silent) == false)
    let four = try #require(placement.linkDevices(copies: 4))
    #expect(four.contains(silent) && !four.contains(retired))
    #expect(placement.linkDevices(copies: 5) == nil)
    #expect(placement.linkDevices(copies: 4, avoiding: [silent]) == nil)
  }
}
