import Cluster
import Coding
import HTTP
import Messages
import Metadata
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import Coordinator

/// Nodes that remember epochs and roots as real ones do, and are always there.
final class AgreeableNodes: NodePort, @unchecked Sendable {
  // Loop-confined.
  struct Memory {
    var cluster: UInt64 = 0
    var epoch: UInt64 = 0
    var version: UInt64 = 0
    var root: [UInt8] = []
  }
  private(set) var memories: [SocketAddress: Memory] = [:]
  let records: [NodeRecord]

  init(count: Int) {
    records = (1...count).map { number in
      NodeRecord(
        id: NodeID(UInt64(number)), name: "n\(number)",
        address: SocketAddress(host: "n\(number)", port: 1), domain: [],
        devices: [
          DeviceRecord(
            id: DeviceID(UInt64(number)), capacity: 1 << 30, tier: "", state: .healthy)
        ])
    }
  }

  /// Says hello of all of them.
  func greet(_ table: NodeTable) {
    for record in records {
      let memory = memories[record.address] ?? Memory()
      _ = table.note(
        Hello(
          clusterID: memory.cluster, node: record.id, name: record.name, host: record.address.host,
          port: record.address.port, domain: [],
          devices: record.devices.map {
            DeviceReport(
              id: $0.id, capacity: $0.capacity, used: 0, linkBytes: 0, free: $0.capacity,
              logFree: $0.capacity, tier: "", isFailed: false, isRetired: false)
          }, highestEpoch: memory.epoch, corruptBlocks: 0), from: record.address)
    }
  }

  func holdLease(_ request: HoldLease, at address: SocketAddress, deadline: Duration) async
    -> Result<HoldLease.Answer, WireError>
  {
    var memory = memories[address] ?? Memory()
    guard request.epoch >= memory.epoch else {
      return .failure(
        .refused(code: RefusalCode.staleEpoch.rawValue, reason: "\(memory.epoch)"))
    }
    memory.epoch = request.epoch
    if request.rootVersion > memory.version {
      memory.version = request.rootVersion
      memory.root = request.root
    }
    if request.clusterID != 0 { memory.cluster = request.clusterID }
    memories[address] = memory
    return .success(
      HoldLease.Answer(
        clusterID: memory.cluster, highestEpoch: memory.epoch, rootVersion: memory.version,
        root: memory.root))
  }

  func write(
    _ link: LogContainer, stripe: UInt64, bytes: [UInt8], acknowledged: UInt64, epoch: UInt64,
    deadline: Duration
  ) async -> [LinkFailure] { [] }
  func read(_ link: LogContainer, stripe: UInt64, layout: StripeLayout) async
    -> Result<[UInt8], LinkReadError>
  { .failure(.lost("")) }
  func fence(_ link: LogContainer, shard: Int, epoch: UInt64, deadline: Duration) async
    -> Result<ShardListing, WireError>
  { .failure(.unreachable("")) }
  func list(_ link: LogContainer, shard: Int, deadline: Duration) async
    -> Result<ShardListing, WireError>
  { .failure(.unreachable("")) }
}

/// What ``Arbiter`` promises, asked of several that speak for one register.
struct ArbiterContract: Sendable {
  let driver: any Driver
  let nodes: AgreeableNodes
  let timing: LeaseTiming
  let make: @Sendable (ArbiterSite) -> any Arbiter

  func site(_ name: String, key: UInt8 = 1) -> ArbiterSite {
    var configuration = CoordinatorConfiguration(
      name: name, address: SocketAddress(host: "127.0.0.1", port: 7400), dataDirectory: "/none",
      key: ClusterKey(secret: [UInt8](repeating: key, count: 32)), scheme: Scheme(k: 2, m: 1)!,
      expectedNodes: nodes.records.count)
    configuration.lease = timing
    let table = NodeTable(driver: driver, silence: .seconds(1_000_000))
    nodes.greet(table)
    return ArbiterSite(driver: driver, configuration: configuration, nodes: table, port: nodes)
  }

  func arbiter(_ name: String) -> any Arbiter { make(site(name)) }

  func root(_ links: Int) -> RootRecord {
    RootRecord(
      version: 0, clusterID: 7, epoch: 0, scheme: Scheme(k: 2, m: 1)!,
      domains: nodes.records.map {
        RootRecord.Domain(
          node: $0.id, name: $0.name, address: $0.address, devices: $0.devices.map(\.id))
      },
      links: (0..<links).map {
        RootRecord.Link(
          number: UInt64($0), generation: 1, scheme: Scheme(k: 1, m: 1)!,
          devices: [DeviceID(1), DeviceID(2)], firstPosition: 1, sealedStripes: 1)
      })
  }

  func run() async throws {
    let (a, b, c) = (arbiter("a"), arbiter("b"), arbiter("c"))
    #expect(!a.isHeld)
    let first = try await a.acquire()
    #expect(a.isHeld && first.root == nil && first.epoch > 0)

    // While it is renewed nobody else has it.
    let second = Promise<Term?>()
    driver.spawn("b") { second.fulfil(try? await b.acquire()) }
    await driver.sleep(timing.duration * 2)
    #expect(a.isHeld && !b.isHeld && !second.isFulfilled)

    // The root changes by steps of one, each seen by its writer.
    try await a.swap(in: first.epoch) { found in
      #expect(found == nil)
      return root(0)
    }
    for links in 1...3 {
      let next = try await a.swap(in: first.epoch) { found in
        var next = found ?? root(0)
        #expect(next.links.count == links - 1)
        next.links = root(links).links
        return next
      }
      #expect(next.version == UInt64(links + 1) && next.epoch == first.epoch && a.root == next)
    }
    let last = a.root

    // Who gives it up is done with it, and the next has it at once, and the root.
    let released = driver.now
    await a.release()
    #expect(!a.isHeld)
    #expect(await a.waitForLoss() == .stopped)
    await #expect(throws: ArbiterError.stopped) { try await a.acquire() }
    await #expect(throws: ArbiterError.self) { try await a.swap(in: first.epoch) { $0! } }
    let next = try #require(await second.get())
    #expect(driver.now - released < timing.duration / 2 + .milliseconds(500))
    #expect(next.epoch > first.epoch && next.root == last && b.isHeld)

    // A loss that was found elsewhere ends it.
    let third = Promise<Term?>()
    driver.spawn("c") { third.fulfil(try? await c.acquire()) }
    b.lose(.expired)
    b.lose(.deposed(epoch: 1))
    #expect(!b.isHeld)
    #expect(await b.waitForLoss() == .expired)
    await #expect(throws: ArbiterError.expired) { try await b.swap(in: next.epoch) { $0! } }
    let other = try #require(await third.get())
    #expect(other.epoch > next.epoch && other.root == last && c.isHeld)

    // An epoch that was heard of is never reached by one's own again; what was led in an old term is over.
    c.lose(.deposed(epoch: other.epoch + 1_000_000))
    let again = try await c.acquire()
    #expect(again.epoch > other.epoch + 1_000_000 && again.root == last)
    await #expect(throws: ArbiterError.expired) { try await c.swap(in: other.epoch) { $0! } }
    try await c.swap(in: again.epoch) { $0! }
    #expect(c.root?.version == 5)
    await c.release()
    await b.release()
  }
}

@Suite("What an arbiter promises")
struct ArbiterContractTests {
  @Test("of a register in the simulation", arguments: Seed.several)
  func register(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let register = LeaseRegister(world)
      try await ArbiterContract(
        driver: world.process("test"), nodes: AgreeableNodes(count: 3), timing: LeaseTiming(),
        make: { RegisterArbiter(register, $0) }
      ).run()
    }
  }

  @Test("of etcd in the simulation, with answers that get lost", arguments: Seed.several)
  func model(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let etcd = EtcdModel(world)
      try await etcd.start()
      etcd.lossPercent = seed.value % 2 == 0 ? 0 : 10
      let configuration = EtcdConfiguration(
        endpoints: [.init(address: EtcdModel.address, isSecure: false)], prefix: "cairn")
      try await ArbiterContract(
        driver: world.process("test"), nodes: AgreeableNodes(count: 3), timing: LeaseTiming(),
        make: { EtcdArbiter($0, configuration) }
      ).run()
    }
  }
}
