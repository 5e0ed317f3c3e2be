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

  @Test(
    "of etcd: never do two hold the lead at once, by any clock that the margin covers, whatever is slow, lost or stands still",
    arguments: Seed.several)
  func exclusive(seed: Seed) throws {
    let terms = try SimulatedWorld.run(seed: seed.value) { world -> Int in
      let etcd = EtcdModel(world)
      try await etcd.start()
      let configuration = EtcdConfiguration(
        endpoints: [.init(address: EtcdModel.address, isSecure: false)], prefix: "cairn")
      let nodes = AgreeableNodes(count: 3)
      var random = world.random(named: "exclusive")
      var processes: [SimulatedProcess] = []
      var arbiters: [any Arbiter] = []
      for number in 0..<3 {
        var options = SimulatedProcess.Options()
        // Two of them are a tenth apart at most, as the margin is of the lease.
        options.clockDriftPartsPerMillion = random.below(90_000) - 45_000
        let process = world.process("c\(number)", options)
        let contract = ArbiterContract(
          driver: process, nodes: nodes, timing: LeaseTiming(),
          make: { EtcdArbiter($0, configuration) })
        let site = contract.site("c\(number)")
        process.spawn("hellos") {
          while await process.sleep(.seconds(1)) { nodes.greet(site.nodes) }
        }
        processes.append(process)
        arbiters.append(EtcdArbiter(site, configuration))
      }
      let count = Outcome<Int>()
      count.value = 0
      let contract = ArbiterContract(
        driver: world.harness, nodes: nodes, timing: LeaseTiming(),
        make: { EtcdArbiter($0, configuration) })
      for (process, arbiter) in zip(processes, arbiters) {
        process.spawn("leads") {
          while let term = try? await arbiter.acquire() {
            count.value! += 1
            for _ in 0..<2 {
              _ = try? await arbiter.swap(in: term.epoch) { found in
                found == nil ? contract.root(0) : contract.root(1)
              }
            }
            if process.random() % 3 == 0 {
              await process.sleep(.milliseconds(Int64(process.random() % 5000)))
              arbiter.lose(.handedOver)
            }
            _ = await arbiter.waitForLoss()
          }
        }
      }
      var both: [String] = []
      for step in 0..<120_000 {
        await world.sleep(.milliseconds(5))
        let holders = (0..<3).filter { arbiters[$0].isHeld }
        if holders.count > 1 { both.append("\(holders) at \(world.now)") }
        guard step % 300 == 0 else { continue }
        // Some troubles outlast a lease.
        if random.chance(1, in: 3) {
          for process in processes where process.isPaused { process.resume() }
          world.network.healAll()
        }
        etcd.slowness = .milliseconds(Int64(random.below(4) * random.below(500)))
        etcd.slowHosts = random.chance(1, in: 2) ? ["c\(random.below(3))"] : []
        etcd.lossPercent = UInt64(random.below(3) * random.below(30))
        let victim = random.below(3)
        switch random.below(6) {
        case 0: if !processes[victim].isPaused { processes[victim].pause() }
        case 1: world.network.cut("c\(victim)", "etcd", oneWay: random.chance(1, in: 2))
        case 2: etcd.content = EtcdModel.Content()
        default: break
        }
      }
      #expect(both.isEmpty, "\(both.prefix(3))")
      return count.value!
    }
    #expect(terms > 10)
  }
}
