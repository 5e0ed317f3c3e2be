import Cluster
import Coding
import HTTP
import Messages
import Metadata
import Ring
import Service
import Simulation
import TestSupport
import Testing
import Wire

@testable import Coordinator

/// State stores in memory, by coordinator and path: they outlive a process, but not a wiped directory.
final class ModelStorage: StateStorage, @unchecked Sendable {
  // Loop-confined.
  var stores: [String: MemoryStore] = [:]
  /// What the next open finds.
  var trouble: StoreError?
  private(set) var discards = 0

  func open(_ path: String) throws(StoreError) -> any SnapshotStore {
    if let trouble {
      self.trouble = nil
      throw trouble
    }
    if let known = stores[path] { return known }
    let store = MemoryStore()
    stores[path] = store
    return store
  }
  func close(_ store: any SnapshotStore) { try? store.flush() }
  func discard(_ path: String) throws(StoreError) {
    stores[path] = nil
    discards += 1
  }
  /// What a crash leaves: of the batches that were not flushed, some first ones.
  func crash(_ random: inout SimulationRandom) {
    for path in stores.keys.sorted() {
      let store = stores[path]!
      store.crash(keeping: random.below(store.unflushedBatchCount + 1))
    }
  }
}

/// Model nodes and real coordinators in a simulated world.
final class ModelCluster: @unchecked Sendable {
  // Loop-confined.
  let world: SimulatedWorld
  let scheme: Scheme
  let expectedNodes: Int
  private(set) var disks: [ModelDisk] = []
  private(set) var nodes: [ModelNode?] = []
  private(set) var coordinators: [String: CoordinatorServer] = [:]
  private(set) var storages: [String: ModelStorage] = [:]
  /// Of a coordinator's monotonic clock, parts per million.
  var drift: [String: Int] = [:]
  var coordinatorAddresses: [SocketAddress] = [SocketAddress(host: "c1", port: 7400)]
  /// What any coordinator ever applied, by position; a different command at one position is recorded as wrong.
  private(set) var applied: [UInt64: [UInt8]] = [:]
  private(set) var wrong: [String] = []
  var configure: (inout CoordinatorConfiguration) -> Void = { _ in }
  /// Who names the leader; each coordinator's file arbiter when both are nil.
  var register: LeaseRegister?
  var etcd: EtcdModel?
  var etcdUser: (name: String, password: String)?

  init(_ world: SimulatedWorld, scheme: String, nodes count: Int, expected: Int? = nil) {
    self.world = world
    self.scheme = Scheme(scheme)!
    expectedNodes = expected ?? count
    for index in 0..<count {
      disks.append(
        ModelDisk(node: NodeID(UInt64(index + 1) * 11), device: DeviceID(UInt64(index + 1) * 101)))
      nodes.append(nil)
    }
  }

  func startNode(_ index: Int) async throws {
    let process = world.process("n\(index)")
    let node = ModelNode(
      process, name: "n\(index)", disk: disks[index], coordinators: coordinatorAddresses)
    nodes[index] = node
    try await node.start()
  }
  func startNodes() async throws { for index in disks.indices { try await startNode(index) } }
  /// A node whose disk was lost and that starts as a new one.
  func replaceDisk(_ index: Int) {
    let old = disks[index]
    disks[index] = ModelDisk(
      node: NodeID(old.node.raw + 1000), device: DeviceID(old.device.raw + 1000))
  }
  func killNode(_ index: Int) {
    nodes[index]?.process.kill()
    nodes[index] = nil
  }

  @discardableResult
  func startCoordinator(
    _ name: String = "c1", machine: String? = nil, directory: String = "/data"
  ) async throws -> CoordinatorServer {
    var options = SimulatedProcess.Options(machine: machine.map { world.machine($0) })
    options.clockDriftPartsPerMillion = drift[name] ?? 0
    let process = world.process(name, options)
    var configuration = CoordinatorConfiguration(
      name: name, address: SocketAddress(host: machine ?? name, port: machine == nil ? 7400 : 7500),
      dataDirectory: directory,
      key: clusterKey, scheme: scheme, expectedNodes: expectedNodes)
    configuration.security = .never
    configuration.leastFree = 0
    configure(&configuration)
    let storage = storages[name] ?? ModelStorage()
    storages[name] = storage
    var arbiter = ArbiterChoice.file
    if let register { arbiter = .made { RegisterArbiter(register, $0) } }
    if etcd != nil {
      let etcd = EtcdConfiguration(
        endpoints: [HTTPEndpoint(address: EtcdModel.address, isSecure: false)], prefix: "cairn",
        user: etcdUser?.name, password: etcdUser?.password)
      arbiter = .made { EtcdArbiter($0, etcd) }
    }
    let server = CoordinatorServer(
      driver: process, configuration: configuration, storage: storage, arbiter: arbiter,
      log: Log(driver: process, level: .error))
    coordinators[name] = server
    server.keeper.onApply = { [weak self] batch in
      guard let self else { return }
      for (index, command) in batch.commands.enumerated() {
        let position = batch.firstPosition + UInt64(index)
        let bytes = command.encoded
        if let known = applied[position], known != bytes {
          wrong.append("position \(position) was applied in two ways")
        }
        applied[position] = bytes
      }
    }
    _ = try await server.start()
    return server
  }

  /// Those that would answer a strong query at this moment.
  var leaders: [String] {
    coordinators.keys.sorted().filter { coordinators[$0]?.leadership?.isLeading() == true }
  }

  /// SIGKILL, or a power cut that takes what was not flushed.
  func killCoordinator(_ name: String = "c1", power: Bool = false) {
    guard let process = world.living(name) else { return }
    if power {
      process.machine.powerCut()
      var random = world.random(named: "store crash \(world.now)")
      storages[name]?.crash(&random)
    } else {
      process.kill()
    }
    coordinators[name] = nil
  }

  /// `rm -r` of the data directory.
  func wipeCoordinator(_ name: String = "c1") async throws {
    storages[name] = nil
    let driver = world.process("wiper", .init(machine: world.machine(name)))
    for folder in ["/data/arbiter", "/data/state"] {
      if let entries = try? await driver.list(folder) {
        for entry in entries {
          try await driver.remove(folder + "/" + String(decoding: entry.name, as: UTF8.self))
        }
      }
    }
    driver.kill()
  }

  func status(_ name: String = "c1", from client: ModelClient) async -> GetStatus.Answer? {
    try? await client.wire.call(
      GetStatus(), at: SocketAddress(host: name, port: 7400), deadline: .seconds(2)
    ).answer
  }

  /// Waits until `name` leads.
  func waitForLeader(_ client: ModelClient, _ name: String = "c1", within: Duration = .seconds(60))
    async throws -> GetStatus.Answer
  {
    let end = world.now + within
    var last = "silent"
    while world.now < end {
      if let status = await status(name, from: client) {
        if status.role == "leader" { return status }
        last = "\(status.role): \(status.detail)"
      }
      await world.sleep(.milliseconds(100))
    }
    throw TestFailure("no leader at \(name) after \(within): \(last)")
  }

  /// Waits until any coordinator leads.
  func waitForAnyLeader(_ client: ModelClient, within: Duration = .seconds(60)) async throws
    -> GetStatus.Answer
  {
    let end = world.now + within
    var last = ""
    while world.now < end {
      for address in coordinatorAddresses {
        guard let status = await status(address.host, from: client) else { continue }
        if status.role == "leader" { return status }
        last = "\(address.host) \(status.role): \(status.detail)"
      }
      await world.sleep(.milliseconds(100))
    }
    throw TestFailure("no leader after \(within): \(last)")
  }
}

struct TestFailure: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}

/// A client that sends each command until it has an answer.
final class ModelClient: @unchecked Sendable {
  // Loop-confined.
  let driver: SimulatedProcess
  let wire: WireClient
  var addresses: [SocketAddress]
  private var session: UInt64 = 0
  private var sequence: UInt64 = 0

  init(_ world: SimulatedWorld, _ name: String = "client", addresses: [SocketAddress]) {
    driver = world.process(name)
    wire = WireClient(driver: driver, key: clusterKey, name: "client", security: .never)
    self.addresses = addresses
  }

  /// Sends a request until somebody answers or refuses for good.
  func ask<Request: Call>(_ request: Request, within: Duration = .seconds(120)) async throws
    -> Request.Answer
  {
    let end = driver.now + within
    var last = ""
    while driver.now < end {
      for address in addresses {
        do throws(WireError) {
          return try await wire.call(request, at: address, deadline: .seconds(5)).answer
        } catch {
          switch error.refusalCode {
          case nil, .notLeader?, .unavailable?: last = "\(error)"
          default: throw error
          }
        }
      }
      guard await driver.sleep(.milliseconds(100)) else { break }
    }
    throw TestFailure("\(Request.self): no answer: \(last)")
  }

  /// The next command opens a new one.
  func forgetSession() {
    session = 0
    sequence = 0
  }

  func close() async throws {
    _ = try await ask(CloseSession(session: session))
    forgetSession()
  }

  func open() async throws { session = try await ask(OpenSession(client: "test")).session }

  /// Carries a command out once.
  func execute(_ command: ClientCommand) async throws -> CommandOutcome {
    if session == 0 { try await open() }
    sequence += 1
    let number = sequence
    return try await ask(
      Execute(session: session, sequence: number, lowestUnanswered: number, command: command)
    ).outcome
  }

  func hasBucket(_ name: String) async throws -> Bool {
    do {
      _ = try await ask(
        ListObjects(
          level: .strong, bucket: name, prefix: "", after: "", delimiter: "", limit: 1))
      return true
    } catch let error as WireError {
      if error.refusalCode == .noSuchBucket { return false }
      throw error
    }
  }

  func buckets() async throws -> [String] {
    try await ask(ListBuckets(level: .strong)).buckets.map(\.name)
  }
}

/// Every shape with a seed of its own, or all shapes with the one seed that was asked for.
func paired<Shape: Sendable>(_ shapes: [Shape]) -> [(Shape, Seed)] {
  let seeds = Seed.several
  if seeds.count == 1 { return shapes.map { ($0, seeds[0]) } }
  return (0..<max(shapes.count, seeds.count)).map {
    (shapes[$0 % shapes.count], seeds[$0 % seeds.count])
  }
}
