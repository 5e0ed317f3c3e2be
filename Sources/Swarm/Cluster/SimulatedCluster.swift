internal import Cluster
internal import Coding
package import Coordinator
package import DataPath
internal import Messages
internal import Metadata
package import Node
package import Ring
internal import Service
internal import ShardStore
package import Simulation
internal import Stripes
package import Wire

/// The real daemons with their real configuration, on simulated machines.
package final class SimulatedCluster: @unchecked Sendable {
  // Loop-confined.
  package let world: SimulatedWorld
  package let scenario: Scenario
  package private(set) var nodes: [Int: StorageNode] = [:]
  package private(set) var coordinators: [Int: CoordinatorServer] = [:]
  private let storage = LossyStorage()

  package static let key = ClusterKey(secret: Array(2..<34))

  package init(_ world: SimulatedWorld, _ scenario: Scenario) {
    self.world = world
    self.scenario = scenario
  }

  package var coordinatorAddresses: [SocketAddress] {
    (0..<scenario.coordinatorCount).map { SocketAddress(host: "c\($0)", port: 7400) }
  }

  /// Starts everything and waits until the cluster takes commands.
  package func start() async throws {
    for number in 0..<scenario.coordinatorCount { try await startCoordinator(number) }
    for number in 0..<scenario.nodeCount { try await startNode(number) }
    let client = client(named: "waiting")
    let end = world.now + .seconds(60)
    while true {
      var known = 0
      if let answer = try? await client.coordinator.query(GetMap(level: .strong)) {
        known = answer.map.nodes.count
      }
      if known == scenario.nodeCount { break }
      if world.now > end {
        throw TrialFailure(
          property: "the cluster starts", detail: "\(known) nodes after a minute", at: world.now)
      }
      await world.sleep(.milliseconds(100))
    }
    await client.close()
  }

  package func startNode(_ number: Int) async throws {
    let process = world.process("n\(number)")
    let devices = (0..<scenario.devicesPerNode).map { device in
      NodeConfiguration.Device(
        path: "/data/device-\(device)", tier: "nvme",
        settings: StoreSettings(
          capacity: 512 << 20, volumeByteCount: 64 << 20, reserveByteCount: 16 << 20))
    }
    let configuration = NodeConfiguration(
      name: "n\(number)", listen: SocketAddress(host: "n\(number)", port: 7000),
      coordinators: coordinatorAddresses, key: Self.key, security: .never, directory: "/data/node",
      devices: devices)
    let node = StorageNode(
      configuration, driver: process, log: Log(driver: process, level: .error))
    try await node.start()
    nodes[number] = node
  }

  package func startCoordinator(_ number: Int) async throws {
    let process = world.process("c\(number)")
    var configuration = CoordinatorConfiguration(
      name: "c\(number)", address: coordinatorAddresses[number], dataDirectory: "/data",
      key: Self.key, scheme: scenario.scheme, expectedNodes: scenario.nodeCount)
    configuration.security = .never
    configuration.leastFree = 0
    let server = CoordinatorServer(
      driver: process, configuration: configuration, storage: storage,
      log: Log(driver: process, level: .error))
    _ = try await server.start()
    coordinators[number] = server
  }

  /// A process of its own on a machine of its own.
  package func client(named name: String) -> SwarmClient { SwarmClient(self, name) }
}

/// What a client process has.
package final class SwarmClient: @unchecked Sendable {
  // Loop-confined.
  package let name: String
  package let driver: SimulatedProcess
  package let wire: WireClient
  package let coordinator: CoordinatorClient
  package let access: ClusterAccess

  init(_ cluster: SimulatedCluster, _ name: String) {
    self.name = name
    driver = cluster.world.process(name)
    wire = WireClient(driver: driver, key: SimulatedCluster.key, name: name, security: .never)
    coordinator = CoordinatorClient(
      driver: driver, wire: wire, addresses: cluster.coordinatorAddresses, name: name)
    let map = MapCache(driver: driver, coordinator: coordinator)
    access = ClusterAccess(
      driver: driver, coordinator: coordinator, map: map,
      stripes: StripeIO(driver: driver, client: wire, directory: map),
      readBudgetByteCount: 8 << 20)
  }

  /// Hands its session back and ends.
  package func close() async {
    await coordinator.close()
    await wire.close()
    driver.kill()
  }
}
