import Cluster
import Coding
import Coordinator
import DataPath
import Messages
import Metadata
import Node
import Ring
import Service
import ShardStore
import Simulation
import Stripes
import Wire

@testable import Gateway

/// A coordinator and a few nodes as they are, on simulated machines, for a backend that keeps objects there.
final class TestCluster: @unchecked Sendable {
  // Loop-confined.
  private static let key = ClusterKey(secret: Array(2..<34))
  private static let coordinator = SocketAddress(host: "c1", port: 7400)
  private static let masterKeysPath = "/master.keys"

  static let secrets = SecretBox(key)

  struct TooLate: Error {}

  private let world: SimulatedWorld
  private let nodeCount: Int
  private let storage = MemoryStorage()

  static func start(_ world: SimulatedWorld, nodes: Int = 3) async throws -> ClusterBackend {
    try await TestCluster(world, nodes: nodes).backend()
  }

  /// - Parameter hasMasterKey: so that it can have key domains.
  init(_ world: SimulatedWorld, nodes: Int = 3, hasMasterKey: Bool = false) async throws {
    self.world = world
    nodeCount = nodes
    if hasMasterKey {
      let maker = world.process("c1")
      try await maker.replaceFile(
        Self.masterKeysPath,
        with: Array(KeyFile.line("first", Fingerprint(of: Array("first".utf8)).bytes).utf8),
        mode: 0o600)
      maker.kill()
    }
    try await startCoordinator(hasMasterKey: hasMasterKey)
    for number in 0..<nodes {
      let process = world.process("n\(number)")
      let node = StorageNode(
        NodeConfiguration(
          name: "n\(number)", listen: SocketAddress(host: "n\(number)", port: 7000),
          coordinators: [Self.coordinator], key: Self.key, security: .never, directory: "/data",
          devices: [
            NodeConfiguration.Device(
              path: "/data/device", tier: "nvme",
              settings: StoreSettings(
                capacity: 512 << 20, volumeByteCount: 64 << 20, reserveByteCount: 16 << 20))
          ]), driver: process, log: Log(driver: process, level: .error))
      _ = try await node.start()
    }
  }

  private func startCoordinator(hasMasterKey: Bool) async throws {
    let process = world.process("c1")
    var configuration = CoordinatorConfiguration(
      name: "c1", address: Self.coordinator, dataDirectory: "/data", key: Self.key,
      scheme: Scheme("2+1")!, expectedNodes: nodeCount)
    configuration.security = .never
    configuration.leastFree = 0
    if hasMasterKey { configuration.masterKeys = .file(Self.masterKeysPath) }
    let server = CoordinatorServer(
      driver: process, configuration: configuration, storage: storage,
      log: Log(driver: process, level: .error))
    _ = try await server.start()
  }

  func restartCoordinator(hasMasterKey: Bool) async throws {
    world.living("c1")?.kill()
    try await startCoordinator(hasMasterKey: hasMasterKey)
  }

  /// What a gateway keeps objects in.
  ///
  /// - Parameters:
  ///   - name: of its process.
  ///   - keyDomain: of the buckets that it makes.
  func backend(_ name: String = "gateway", keyDomain: String = "") async throws -> ClusterBackend {
    let driver = world.process(name)
    let wire = WireClient(driver: driver, key: Self.key, name: name, security: .never)
    let end = world.now + .seconds(60)
    while true {
      let known = try? await wire.call(
        GetMap(level: .strong), at: Self.coordinator, deadline: .seconds(2)
      ).answer.map
      if known?.nodes.count == nodeCount { break }
      if world.now > end { throw TooLate() }
      await world.sleep(.milliseconds(100))
    }
    let client = CoordinatorClient(
      driver: driver, wire: wire, addresses: [Self.coordinator], name: name)
    let map = MapCache(driver: driver, coordinator: client)
    let access = ClusterAccess(
      driver: driver, coordinator: client, map: map,
      stripes: StripeIO(driver: driver, client: wire, directory: map))
    return ClusterBackend(access, secrets: Self.secrets, keyDomain: keyDomain) {
      await access.close()
      await client.close()
      await wire.close()
    }
  }
}

/// State stores in memory that outlive the coordinator's process.
private final class MemoryStorage: StateStorage, @unchecked Sendable {
  // Loop-confined.
  private var stores: [String: MemoryStore] = [:]
  func open(_ path: String) throws(Metadata.StoreError) -> any SnapshotStore {
    if let known = stores[path] { return known }
    let store = MemoryStore()
    stores[path] = store
    return store
  }
  func close(_ store: any SnapshotStore) { try? store.flush() }
  func discard(_ path: String) throws(Metadata.StoreError) { stores[path] = nil }
}
