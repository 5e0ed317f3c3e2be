import Cluster
import Coding
import Coordinator
import Messages
import Metadata
import Node
import Ring
import Service
import ShardStore
import Simulation
import Stripes
import TestSupport
import Wire

@testable import DataPath

let clusterKey = ClusterKey(secret: Array(2..<34))

/// Runs `body` in a world whose time ends soon enough to tell that something waits for ever.
func simulate(
  _ seed: UInt64, _ body: @escaping @Sendable (SimulatedWorld) async throws -> Void
) throws {
  var options = SimulatedWorld.Options()
  options.maximumTime = .seconds(900)
  if environment("TEST_TRACE") != nil { options.trace = { print($0) } }
  try SimulatedWorld.run(seed: seed, options: options, body)
}

/// A coordinator and nodes as they are, on simulated machines; the coordinator's state is kept in memory.
final class SmallCluster: @unchecked Sendable {
  // Loop-confined.
  let world: SimulatedWorld
  private let scheme: Scheme
  private let storage = MemoryStorage()
  private(set) var nodeCount: Int
  /// As they were started last, by number.
  private(set) var nodes: [Int: StorageNode] = [:]
  private let coordinator = SocketAddress(host: "c1", port: 7400)

  init(_ world: SimulatedWorld, scheme: String, nodes: Int) async throws {
    self.world = world
    self.scheme = Scheme(scheme)!
    nodeCount = nodes
    try await startCoordinator()
    for number in 0..<nodes { try await startNode(number) }
    let client = SmallClient(self, "waiting")
    let end = world.now + .seconds(60)
    while true {
      let known = try? await client.wire.call(
        GetMap(level: .strong), at: coordinator, deadline: .seconds(2)
      ).answer.map
      if known?.nodes.count == nodes { break }
      if world.now > end { throw TooLate() }
      await world.sleep(.milliseconds(100))
    }
    _ = try await client.coordinator.execute(.createBucket(name: "bucket"))
    await client.close()
  }

  struct TooLate: Error {}

  func startCoordinator() async throws {
    let process = world.process("c1")
    var configuration = CoordinatorConfiguration(
      name: "c1", address: coordinator, dataDirectory: "/data", key: clusterKey, scheme: scheme,
      expectedNodes: nodeCount)
    configuration.security = .never
    configuration.leastFree = 0
    let server = CoordinatorServer(
      driver: process, configuration: configuration, storage: storage,
      log: Log(driver: process, level: .error))
    _ = try await server.start()
  }

  func startNode(_ number: Int) async throws {
    let process = world.process("n\(number)")
    let configuration = NodeConfiguration(
      name: "n\(number)", listen: SocketAddress(host: "n\(number)", port: 7000),
      coordinators: [coordinator], key: clusterKey, security: .never, directory: "/data",
      devices: [
        NodeConfiguration.Device(
          path: "/data/device", tier: "nvme",
          settings: StoreSettings(
            capacity: 512 << 20, volumeByteCount: 64 << 20, reserveByteCount: 16 << 20))
      ])
    let node = StorageNode(
      configuration, driver: process, log: Log(driver: process, level: .error))
    _ = try await node.start()
    self.nodes[number] = node
  }

  func killNode(_ number: Int) { world.living("n\(number)")?.kill() }
  func killCoordinator() { world.living("c1")?.kill() }

  var addresses: [SocketAddress] { [coordinator] }
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

/// What a client process has.
final class SmallClient: @unchecked Sendable {
  // Loop-confined.
  let driver: SimulatedProcess
  let wire: WireClient
  let coordinator: CoordinatorClient
  let access: ClusterAccess

  init(
    _ cluster: SmallCluster, _ name: String, readBudget: Int = 8 << 20,
    coordinators: [SocketAddress]? = nil
  ) {
    driver = cluster.world.process(name)
    wire = WireClient(driver: driver, key: clusterKey, name: name, security: .never)
    coordinator = CoordinatorClient(
      driver: driver, wire: wire, addresses: coordinators ?? cluster.addresses,
      name: name)
    let map = MapCache(driver: driver, coordinator: coordinator)
    access = ClusterAccess(
      driver: driver, coordinator: coordinator, map: map,
      stripes: StripeIO(driver: driver, client: wire, directory: map),
      readBudgetByteCount: readBudget)
  }

  func close() async {
    await access.close()
    await coordinator.close()
    await wire.close()
    driver.kill()
  }

  func stat(_ key: String) async -> ObjectRecord? {
    try? await coordinator.query(
      StatObject(level: .strong, name: ObjectName(bucket: "bucket", key: key))
    ).record
  }

  func put(
    _ writer: ObjectWriter, _ key: String, _ source: TestSource,
    precondition: Precondition = .none, unlessIdentical: Bool = true,
    attributes: ObjectAttributes = ObjectAttributes()
  ) async -> Result<PutResult, DataPathError> {
    do throws(DataPathError) {
      return .success(
        try await writer.put(
          ObjectName(bucket: "bucket", key: key), attributes: attributes, source: source,
          precondition: precondition, unlessIdentical: unlessIdentical))
    } catch {
      return .failure(error)
    }
  }

  func get(_ key: String, _ range: Range<UInt64>, isOrdered: Bool = true) async
    -> Result<[UInt8], DataPathError>
  {
    let sink = TestSink(range, isOrdered: isOrdered, driver: driver)
    do throws(DataPathError) {
      try await ObjectReader(access).read(
        ObjectName(bucket: "bucket", key: key), identity: 0, range: range, into: sink)
    } catch {
      return .failure(error)
    }
    if !sink.isComplete { return .failure(.corrupt("not all was written")) }
    if let problem = sink.problems.first { return .failure(.corrupt(problem)) }
    return .success(sink.bytes)
  }
}
