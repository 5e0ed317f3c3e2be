import Cluster
import Ring
import TestSupport
import Testing

@Suite("Balance")
struct BalanceTests {
  private struct Shards {
    var devices: [DeviceID]
    var byteCount: UInt64
  }

  /// Moves until nothing more is to be moved; the bytes that were.
  private func run(
    _ map: ClusterMap, _ containers: inout [Shards], capacity: [DeviceID: UInt64]
  ) -> UInt64 {
    var moved: UInt64 = 0
    for _ in 0..<4 {
      var balance = Balance(
        map: map, fill: fill(containers, capacity), width: containers[0].devices.count,
        leastExcess: 0)
      var isDone = true
      var exhausted = Set<DeviceID>()
      var taken = Set<Int>()
      while let source = balance.sources.first(where: { !exhausted.contains($0) }) {
        exhausted.insert(source)
        for index in containers.indices where !taken.contains(index) {
          guard let shard = containers[index].devices.firstIndex(of: source),
            let target = balance.move(
              containers[index].byteCount, from: source, of: containers[index].devices)
          else { continue }
          taken.insert(index)
          containers[index].devices[shard] = target
          moved += containers[index].byteCount
          isDone = false
        }
      }
      if isDone { break }
    }
    return moved
  }

  private func fill(_ containers: [Shards], _ capacity: [DeviceID: UInt64]) -> [DeviceID: (
    used: UInt64, capacity: UInt64
  )] {
    var used: [DeviceID: UInt64] = [:]
    for container in containers {
      for device in container.devices { used[device, default: 0] += container.byteCount }
    }
    var fill: [DeviceID: (used: UInt64, capacity: UInt64)] = [:]
    for (device, most) in capacity { fill[device] = (used[device] ?? 0, most) }
    return fill
  }

  @Test(
    "a node of any size that joins gets its due, and hardly more bytes move than must",
    arguments: Seed.several)
  func joining(seed: Seed) {
    var random = seed.generator
    for _ in 0..<10 {
      let nodeCount = Int.random(in: 6...16, using: &random)
      let width = Int.random(in: 2...nodeCount - 3, using: &random)
      var map = PlacementTests.map(
        racks: Array(repeating: "", count: nodeCount), random: &random)
      let domains = map.failureDomains
      var containers = (0..<600).map { _ in
        // As over the years, with many maps.
        Shards(
          devices: placementGroups(epoch: random.next() % 64, domains: domains, width: width)
            .randomElement(using: &random)!,
          byteCount: UInt64.random(in: 50...170, using: &random) << 20)
      }
      var capacity = PlacementTests.allFree(map)
      _ = run(map, &containers, capacity: capacity)
      let new = PlacementTests.map(racks: [""], random: &random).nodes[0]
      map.nodes = (map.nodes + [new]).sorted { $0.id < $1.id }
      let size = UInt64.random(in: 1...4, using: &random)
      capacity[new.devices[0].id] = size << 39
      let moved = run(map, &containers, capacity: capacity)
      let full = fill(containers, capacity)
      let balance = Balance(map: map, fill: full, width: width, leastExcess: 0)
      // Where a node should have a shard of most containers, few can move without another that makes way.
      let isCrowded =
        max(
          Double(Int(size) * width) / Double(nodeCount + Int(size)),
          Double(width) / Double(nodeCount))
        > 0.6
      for (device, (used, _)) in full where !isCrowded {
        #expect(
          abs(Double(used) / balance.due(device) - 1) < 0.05,
          "\(nodeCount) nodes, width \(width), size \(size), new \(device == new.devices[0].id), \(Double(used) / balance.due(device)), over \(balance.sources.count)"
        )
      }
      #expect(Double(moved) < balance.due(new.devices[0].id) * 1.1)
      for container in containers {
        #expect(
          Set(container.devices.map { map.node(holding: $0)!.id }).count == width)
      }
      // Nothing is left to be done.
      #expect(run(map, &containers, capacity: capacity) == 0)
    }
  }

  @Test(
    "no move puts two shards into one domain, spreads racks worse, or uses a device that is not there",
    arguments: Seed.several)
  func rules(seed: Seed) {
    var random = seed.generator
    var moves = 0
    for _ in 0..<40 {
      let nodeCount = Int.random(in: 1...10, using: &random)
      var map = PlacementTests.map(
        racks: (0..<nodeCount).map { _ in ["a", "b", "c"].randomElement(using: &random)! },
        devicesPerNode: Int.random(in: nodeCount == 1 ? 3...6 : 1...3, using: &random),
        random: &random)
      let width = Int.random(in: 1...min(4, nodeCount == 1 ? 3 : nodeCount), using: &random)
      let groups = placementGroups(epoch: 3, domains: map.failureDomains, width: width)
      for node in map.nodes.indices where Int.random(in: 0..<5, using: &random) == 0 {
        map.nodes[node].devices[0].state = .draining
      }
      var fill: [DeviceID: (used: UInt64, capacity: UInt64)] = [:]
      for device in map.nodes.flatMap(\.devices) where Int.random(in: 0..<6, using: &random) > 0 {
        fill[device.id] = (UInt64.random(in: 0...1000, using: &random), 1000)
      }
      var balance = Balance(map: map, fill: fill, width: width, leastExcess: 0)
      for _ in 0..<30 {
        let devices = groups.randomElement(using: &random)!
        let source = devices.randomElement(using: &random)!
        let before = balance.used
        let byteCount = UInt64.random(in: 0...200, using: &random)
        guard let target = balance.move(byteCount, from: source, of: devices) else {
          #expect(balance.used == before)
          continue
        }
        moves += 1
        #expect(fill[target] != nil && fill[source] != nil && !devices.contains(target))
        #expect(
          map.nodes.flatMap(\.devices).first { $0.id == target }!.state == .healthy)
        let after = devices.map { $0 == source ? target : $0 }
        if nodeCount > 1 {
          #expect(Set(after.map { map.node(holding: $0)!.id }).count == width)
        }
        func racks(_ devices: [DeviceID]) -> Int {
          Set(devices.map { map.node(holding: $0)!.domain[0] }).count
        }
        #expect(racks(after) >= racks(devices))
      }
    }
    #expect(moves > 0)
  }
}
