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
enum TestCluster {
  private static let key = ClusterKey(secret: Array(2..<34))
  private static let coordinator = SocketAddress(host: "c1", port: 7400)

  static let secrets = SecretBox(key)

  struct TooLate: Error {}

  static func start(_ world: SimulatedWorld, nodes: Int = 3) async throws -> ClusterBackend {
    let process = world.process("c1")
    var configuration = CoordinatorConfiguration(
      name: "c1", address: coordinator, dataDirectory: "/data", key: key,
      scheme: Scheme("2+1")!, expectedNodes: nodes)
    configuration.security = .never
    configuration.leastFree = 0
    let server = CoordinatorServer(
      driver: process, configuration: configuration, storage: MemoryStorage(),
      log: Log(driver: process, level: .error))
    _ = try await server.start()
    for number in 0..<nodes {
      let process = world.process("n\(number)")
      let node = StorageNode(
        NodeConfiguration(
          name: "n\(number)", listen: SocketAddress(host: "n\(number)", port: 7000),
          coordinators: [coordinator], key: key, security: .never, directory: "/data",
          devices: [
            NodeConfiguration.Device(
              path: "/data/device", tier: "nvme",
              settings: StoreSettings(
                capacity: 512 << 20, volumeByteCount: 64 << 20, reserveByteCount: 16 << 20))
          ]), driver: process, log: Log(driver: process, level: .error))
      _ = try await node.start()
    }
    let driver = world.process("gateway")
    let wire = WireClient(driver: driver, key: key, name: "gateway", security: .never)
    let end = world.now + .seconds(60)
    while true {
      let known = try? await wire.call(
        GetMap(level: .strong), at: coordinator, deadline: .seconds(2)
      ).answer.map
      if known?.nodes.count == nodes { break }
      if world.now > end { throw TooLate() }
      await world.sleep(.milliseconds(100))
    }
    let client = CoordinatorClient(
      driver: driver, wire: wire, addresses: [coordinator], name: "gateway")
    let map = MapCache(driver: driver, coordinator: client)
    let access = ClusterAccess(
      driver: driver, coordinator: client, map: map,
      stripes: StripeIO(driver: driver, client: wire, directory: map))
    return ClusterBackend(access, secrets: secrets) {
      await access.close()
      await client.close()
      await wire.close()
    }
  }
}

/// State stores in memory.
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
