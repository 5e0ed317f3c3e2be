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
  private static let masterKeysPath = "/master.keys"
  private var hasMasterKeys = false

  /// - Parameter masterKeys: names; nil: the coordinator is told of none.
  init(_ world: SimulatedWorld, scheme: String, nodes: Int, masterKeys: [String]? = nil)
    async throws
  {
    self.world = world
    hasMasterKeys = masterKeys != nil
    self.scheme = Scheme(scheme)!
    nodeCount = nodes
    if let masterKeys {
      let maker = world.process("c1")
      try await Self.write(masterKeys, salt: 0, maker)
      maker.kill()
    }
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
    if hasMasterKeys { configuration.masterKeys = .file(Self.masterKeysPath) }
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

  private static func write(_ names: [String], salt: UInt8, _ driver: any Driver) async throws {
    let lines = names.map { name in
      KeyFile.line(name, Fingerprint(of: Array(name.utf8) + [salt]).bytes)
    }
    try await driver.replaceFile(
      masterKeysPath, with: Array(lines.joined().utf8), mode: 0o600)
  }

  /// Each a key that comes of its name and `salt`; the last one wraps.
  func writeMasterKeys(_ names: [String], salt: UInt8 = 0) async throws {
    try await Self.write(names, salt: salt, world.living("c1")!)
  }

  func restartCoordinator() async throws {
    killCoordinator()
    try await startCoordinator()
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

extension SmallClient {
  func makeDomain(_ name: String) async throws {
    _ = try await coordinator.query(CreateKeyDomain(name: name))
  }

  /// All of an object.
  ///
  /// - Parameter cluster: where a client that knows no key yet reads; nil: this one does.
  func read(_ name: ObjectName, _ byteCount: Int, _ cluster: SmallCluster?) async
    -> Result<[UInt8], DataPathError>
  {
    let client = cluster.map { SmallClient($0, "reader \($0.world.now)") } ?? self
    let sink = TestSink(0..<UInt64(byteCount), isOrdered: true, driver: client.driver)
    var failure: DataPathError?
    do throws(DataPathError) {
      try await ObjectReader(client.access).read(
        name, identity: 0, range: 0..<UInt64(byteCount), into: sink)
    } catch {
      failure = error
    }
    if cluster != nil { await client.close() }
    return failure.map { .failure($0) } ?? .success(sink.bytes)
  }

  /// What the groups of an object are sealed with, by where they are.
  func seals(of name: ObjectName) async throws -> [String: GroupHeader.Seal] {
    var seals: [String: GroupHeader.Seal] = [:]
    let plan = try await coordinator.query(
      ResolveRange(level: .strong, name: name, identity: 0, first: 0, byteCount: .max))
    try await access.map.prepare(
      epoch: plan.mapEpoch, devices: plan.containers.flatMap(\.places).map(\.device))
    for piece in plan.pieces {
      let stripe = plan.stripes[Int(piece.stripeIndex)]
      let container = plan.containers[Int(stripe.containerIndex)]
      let start = Int(piece.groupOffset)
      let header = try await access.stripes.read(
        StripeTarget(
          container: container.container, places: container.places, stripe: stripe.stripe),
        layout: stripe.layout, range: start..<start + GroupHeader.byteCount
      ).flatMap(\.array)
      seals["\(container.container) \(stripe.stripe) \(start)"] = try GroupHeader(
        decoding: header
      ).seal
    }
    return seals
  }
}
