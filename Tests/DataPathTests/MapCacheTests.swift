import Cluster
import Coding
import Messages
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import DataPath

/// Answers questions for the map with what it is when they come, as late as it is told to.
private final class FakeCoordinator: @unchecked Sendable {
  // Loop-confined.
  let address = SocketAddress(host: "c1", port: 1)
  var map = ClusterMap(epoch: 1)
  var delay = Duration.zero
  private(set) var questionCount = 0
  private let process: SimulatedProcess

  init(_ world: SimulatedWorld) async throws {
    process = world.process("c1")
    let server = WireServer(driver: process, key: clusterKey, name: "c1", security: .never) {
      [unowned self] (method, _, _) async throws(Refusal) in
      guard method == GetMap.method else { throw Refusal(.unknownMethod, "\(method)") }
      questionCount += 1
      let answer = GetMap.Answer(map: map, down: [], scheme: Scheme("1+1")!)
      await process.sleep(delay)
      return Packet(message: answer.encoded)
    }
    _ = try await server.start(on: address)
  }

  func add(_ number: UInt64) {
    map.epoch += 1
    map.nodes.append(
      NodeRecord(
        id: NodeID(number), name: "n\(number)", address: SocketAddress(host: "n", port: 2),
        domain: [],
        devices: [DeviceRecord(id: DeviceID(number), capacity: 1, tier: "nvme", state: .healthy)]))
  }
}

@Suite struct MapCacheTests {
  @Test("who asks for new devices while an older map is on its way waits for a newer one")
  func joining() throws {
    try simulate(3) { world in
      let fake = try await FakeCoordinator(world)
      fake.add(1)
      let process = world.process("client")
      let wire = WireClient(driver: process, key: clusterKey, name: "client", security: .never)
      let coordinator = CoordinatorClient(
        driver: process, wire: wire, addresses: [fake.address], name: "client")
      let map = MapCache(driver: process, coordinator: coordinator)
      fake.delay = .milliseconds(100)
      let first = process.spawn("first") { try? await map.refresh() }
      await world.sleep(.milliseconds(50))
      #expect(fake.questionCount == 1)
      fake.add(2)
      // Many at once still share one question.
      let others = (0..<5).map { _ in
        process.spawn("another") {
          try? await map.prepare(epoch: 3, devices: [DeviceID(2)])
          #expect(map.address(of: DeviceID(2)) != nil)
        }
      }
      for other in others { await other.wait() }
      await first.wait()
      #expect(fake.questionCount == 2)
      // A device that nobody knows is asked for once, not for ever.
      try await map.prepare(epoch: 3, devices: [DeviceID(9)])
      #expect(fake.questionCount == 3)
      await coordinator.close()
      await wire.close()
    }
  }
}
