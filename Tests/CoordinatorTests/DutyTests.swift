import Cluster
import Coding
import Messages
import Metadata
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import Coordinator

@Suite("What a leader does")
struct DutyTests {
  static func scene(
    _ world: SimulatedWorld, _ scheme: String, _ nodes: Int, expected: Int? = nil,
    _ configure: @escaping (inout CoordinatorConfiguration) -> Void = { _ in }
  ) async throws -> (ModelCluster, ModelClient, CoordinatorServer) {
    let cluster = ModelCluster(world, scheme: scheme, nodes: nodes, expected: expected)
    cluster.configure = configure
    let client = ModelClient(world, addresses: cluster.coordinatorAddresses)
    for index in 0..<(expected ?? nodes) { try await cluster.startNode(index) }
    let server = try await cluster.startCoordinator()
    _ = try await cluster.waitForLeader(client)
    return (cluster, client, server)
  }

  /// Some commands, one after the other.
  static func write(_ client: ModelClient, _ prefix: String, _ count: Int) async throws {
    for index in 0..<count {
      #expect(try await client.execute(.createBucket(name: "\(prefix)-\(index)")) == .done)
    }
  }

  @Test("a failed device is retired, and neither links nor grants go to it any more")
  func retirement() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let (cluster, client, server) = try await Self.scene(world, "2+1", 5)
      try await Self.write(client, "before", 3)
      let link = try #require(server.arbiter.root?.links.last)
      let victim = try #require(cluster.disks.first { link.devices.contains($0.device) })
      victim.isFailed = true
      victim.isRetired = true
      try await Self.write(client, "during", 3)
      await world.sleep(.seconds(3))
      let next = try #require(server.arbiter.root?.links.last)
      #expect(next.number > link.number && !next.devices.contains(victim.device))
      let map = try await client.ask(GetMap(level: .strong)).map
      #expect(map.node(victim.node)?.devices.map(\.state) == [.retired])
      let upload = try Self.number(try await client.execute(.openUpload))
      for _ in 0..<10 {
        let outcome = try await client.execute(
          .requestGrant(upload: upload, avoid: [], placement: nil))
        guard case .grant(let bytes) = outcome else { throw TestFailure("\(outcome)") }
        #expect(try !SignedGrant(decoding: bytes).grant.devices.contains(victim.device))
      }
      #expect(try await client.buckets().count == 6)
    }
  }

  @Test("a device that fails for a while gets no links and grants, and comes back by itself")
  func transientFailure() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let (cluster, client, server) = try await Self.scene(world, "2+1", 3)
      try await Self.write(client, "before", 3)
      let link = try #require(server.arbiter.root?.links.last)
      let victim = try #require(cluster.disks.first { link.devices.contains($0.device) })
      let upload = try Self.number(try await client.execute(.openUpload))
      func granted() async throws -> Set<DeviceID> {
        var devices: Set<DeviceID> = []
        for _ in 0..<10 {
          let outcome = try await client.execute(
            .requestGrant(upload: upload, avoid: [], placement: nil))
          guard case .grant(let bytes) = outcome else { throw TestFailure("\(outcome)") }
          devices.formUnion(try SignedGrant(decoding: bytes).grant.devices)
        }
        return devices
      }
      func state() async throws -> [DeviceState]? {
        try await client.ask(GetMap(level: .strong)).map.node(victim.node)?.devices.map(\.state)
      }
      #expect(try await granted().contains(victim.device))

      victim.isFailed = true
      try await Self.write(client, "during", 3)
      await world.sleep(.seconds(3))
      #expect(try await state() == [.healthy])
      #expect(try await !granted().contains(victim.device))
      let next = try #require(server.arbiter.root?.links.last)
      #expect(next.number > link.number && !next.devices.contains(victim.device))
      // A link does not go there even where no other is left.
      func linkDomains() throws -> [NodeID] {
        server.nodes.linkMap(try #require(server.arbiter.root).domains).failureDomains.map(\.node)
      }
      #expect(try linkDomains().count == 2 && !linkDomains().contains(victim.node))

      victim.isFailed = false
      await world.sleep(.seconds(3))
      #expect(try linkDomains().contains(victim.node))
      #expect(try await state() == [.healthy])
      #expect(try await granted().contains(victim.device))
      #expect(try await client.buckets().count == 6)
    }
  }

  @Test("a device that takes its time is left behind, and nothing waits for it twice")
  func slowness() throws {
    try SimulatedWorld.run(seed: 2) { world in
      let (cluster, client, server) = try await Self.scene(world, "2+2", 6)
      try await Self.write(client, "before", 3)
      let link = try #require(server.arbiter.root?.links.last)
      let index = try #require(
        cluster.disks.firstIndex { link.devices.contains($0.device) })
      cluster.nodes[index]?.writeDelay = .seconds(3600)
      let start = world.now
      try await Self.write(client, "during", 1)
      #expect(world.now - start < .seconds(4))
      let later = world.now
      try await Self.write(client, "after", 20)
      #expect(world.now - later < .seconds(1))
      let next = try #require(server.arbiter.root?.links.last)
      #expect(!next.devices.contains(cluster.disks[index].device))
      #expect(server.arbiter.root?.links.first?.sealedStripes != nil)
    }
  }

  @Test("nodes that join later hold the lease too, and too few of them end it by name")
  func joining() throws {
    try SimulatedWorld.run(seed: 3) { world in
      let (cluster, client, server) = try await Self.scene(world, "2+1", 5, expected: 3)
      try await Self.write(client, "a", 2)
      #expect(server.arbiter.root?.domains.count == 3)
      try await cluster.startNode(3)
      try await cluster.startNode(4)
      await world.sleep(.seconds(3))
      #expect(server.arbiter.root?.domains.map(\.name).sorted() == ["n0", "n1", "n2", "n3", "n4"])
      #expect(cluster.disks.allSatisfy { $0.clusterID == server.arbiter.root?.clusterID })
      #expect(cluster.disks.allSatisfy { $0.rootVersion == server.arbiter.root?.version })

      cluster.killNode(1)
      await world.sleep(.seconds(10))
      #expect(try await cluster.waitForLeader(client).nodes.filter { !$0.isUp }.count == 1)
      #expect(try await client.ask(GetMap(level: .strong)).down == [cluster.disks[1].node])
      try await Self.write(client, "b", 2)

      cluster.killNode(2)
      await world.sleep(.seconds(15))
      let status = try #require(await cluster.status(from: client))
      #expect(status.role == "waiting")
      #expect(status.detail.contains("needs 4") && status.detail.hasSuffix("missing: n1, n2"))

      try await cluster.startNode(2)
      _ = try await cluster.waitForLeader(client)
      try await cluster.startNode(1)
      await world.sleep(.seconds(2))
      #expect(try await client.ask(GetMap(level: .strong)).down == [])
      #expect(try await client.buckets().count == 4)
    }
  }

  @Test("a node that comes back empty takes the place of what it was")
  func replacement() throws {
    try SimulatedWorld.run(seed: 10) { world in
      let (cluster, client, server) = try await Self.scene(world, "2+1", 3)
      try await Self.write(client, "a", 3)
      cluster.killNode(1)
      cluster.replaceDisk(1)
      await world.sleep(.seconds(7))
      try await cluster.startNode(1)
      await world.sleep(.seconds(3))
      #expect(server.arbiter.root?.domainNodes.sorted() == cluster.disks.map(\.node).sorted())
      try await Self.write(client, "b", 2)
      // What it had of the log is lost; the others still have it.
      cluster.killCoordinator()
      try await cluster.wipeCoordinator()
      try await cluster.startCoordinator()
      _ = try await cluster.waitForLeader(client)
      #expect(try await client.buckets().count == 5)
    }
  }

  @Test(
    "a node that comes back empty again and again leaves no domains behind that count as missing")
  func replacements() throws {
    try SimulatedWorld.run(seed: 11) { world in
      let (cluster, client, server) = try await Self.scene(world, "1+1", 3)
      for round in 0..<3 {
        cluster.killNode(1)
        cluster.replaceDisk(1)
        // Before anybody can have missed it.
        await world.sleep(.milliseconds(300))
        try await cluster.startNode(1)
        await world.sleep(.seconds(2))
        #expect(server.arbiter.root?.domainNodes.sorted() == cluster.disks.map(\.node).sorted())
        try await Self.write(client, "r\(round)", 1)
      }
    }
  }

  @Test(
    "a coordinator whose directory is deleted ends, leading or not, and so does a second one in it")
  func directory() throws {
    try SimulatedWorld.run(seed: 5) { world in
      let (cluster, client, first) = try await Self.scene(world, "2+1", 3)
      let second = try await cluster.startCoordinator("c1b", machine: "c1")
      guard case .failed(let reason) = await second.waitForEnd() else {
        throw TestFailure("two in one directory")
      }
      #expect(reason.contains("works in this directory"))
      await second.stop()
      try await Self.write(client, "a", 1)

      let wiper = world.process("rm", .init(machine: world.machine("c1")))
      for name in ["lock", "root", "epoch"] { try await wiper.remove("/data/arbiter/\(name)") }
      try await wiper.remove("/data/arbiter", isDirectory: true)
      wiper.kill()
      guard case .failed(let end) = await first.waitForEnd() else {
        throw TestFailure("it goes on without a directory")
      }
      #expect(end.contains("deleted or replaced"))
      #expect(cluster.leaders.isEmpty)
      await first.stop()
      cluster.killCoordinator()
      try await cluster.startCoordinator()
      _ = try await cluster.waitForLeader(client)
      try await Self.write(client, "b", 1)
      #expect(try await client.buckets() == ["a-0", "b-0"])
    }
  }

  @Test("nodes of another cluster, and copies of a node, are refused by name")
  func strangers() throws {
    try SimulatedWorld.run(seed: 8) { world in
      let (cluster, client, server) = try await Self.scene(world, "2+1", 3)
      let stranger = Hello(
        clusterID: 77, node: NodeID(5000), name: "stranger", host: "s", port: 1, domain: [],
        devices: [], highestEpoch: 0, corruptBlocks: 0)
      let address = cluster.coordinatorAddresses[0]
      do throws(WireError) {
        _ = try await client.wire.call(stranger, at: address, deadline: .seconds(1))
        Issue.record("a stranger was welcome")
      } catch {
        #expect(error.refusalCode == .failed)
      }
      var copy = stranger
      copy.clusterID = server.arbiter.root!.clusterID
      copy.node = cluster.disks[0].node
      do throws(WireError) {
        _ = try await client.wire.call(copy, at: address, deadline: .seconds(1))
        Issue.record("a copy was welcome")
      } catch {
        #expect(error.refusalCode == .failed)
      }
      await world.sleep(.seconds(2))
      #expect(
        try await client.ask(GetMap(level: .strong)).map.nodes.map(\.name) == ["n0", "n1", "n2"])
    }
  }

  @Test("too few failure domains refuse a grant and say so; reading goes on")
  func tooFew() throws {
    try SimulatedWorld.run(seed: 9) { world in
      let (cluster, client, _) = try await Self.scene(world, "1+1", 2)
      try await Self.write(client, "a", 2)
      let upload = try Self.number(try await client.execute(.openUpload))
      cluster.killNode(1)
      await world.sleep(.seconds(8))
      let outcome = try await client.execute(
        .requestGrant(upload: upload, avoid: [], placement: nil))
      guard case .refused(let code, let reason) = outcome else { throw TestFailure("\(outcome)") }
      #expect(code == RefusalCode.tooFewDomains.rawValue && reason.contains("n1"))
      #expect(try await client.buckets().count == 2)
      // Changes that cannot be logged are refused at once; one that was under way already may count later.
      client.driver.spawn("under way") { _ = try? await client.execute(.createBucket(name: "b-0")) }
      await world.sleep(.seconds(4))
      let other = ModelClient(world, "other", addresses: cluster.coordinatorAddresses)
      do throws(WireError) {
        _ = try await other.wire.call(
          OpenSession(client: "other"), at: other.addresses[0], deadline: .seconds(5))
        Issue.record("a session without a log")
      } catch {
        #expect(error.refusalCode == .tooFewDomains)
        #expect("\(error)".contains("n1"))
      }
      try await cluster.startNode(1)
      await world.sleep(.seconds(5))
      #expect(try await client.buckets().count == 3)
      try await other.open()
    }
  }

  @Test(
    "while nothing can be logged, a command that was carried out has its answer, another is never refused for good"
  )
  func answersWhileBlocked() throws {
    try SimulatedWorld.run(seed: 12) { world in
      let (cluster, client, _) = try await Self.scene(world, "2+1", 3)
      let session = try await client.ask(OpenSession(client: "test")).session
      @Sendable func execute(_ sequence: UInt64) -> Execute {
        Execute(
          session: session, sequence: sequence, lowestUnanswered: 1,
          command: .createBucket(name: "bucket-\(sequence)"))
      }
      // The answer to this one never came.
      #expect(try await client.ask(execute(1)).outcome == .done)
      cluster.killCoordinator()
      try await cluster.startCoordinator()
      _ = try await cluster.waitForLeader(client)
      // Two of three take their time, so no link can be opened, while the lease holds.
      for node in cluster.nodes.dropFirst() { node?.writeDelay = .seconds(3600) }
      client.driver.spawn("under way") { _ = try? await client.ask(execute(2)) }
      await world.sleep(.seconds(12))
      #expect(try await cluster.waitForLeader(client).detail.contains("cannot be written to"))
      let address = cluster.coordinatorAddresses[0]
      let again = try await client.wire.call(execute(1), at: address, deadline: .seconds(5))
      #expect(again.answer.outcome == .done)
      for sequence in [2, 3] as [UInt64] {
        do throws(WireError) {
          _ = try await client.wire.call(execute(sequence), at: address, deadline: .seconds(5))
          Issue.record("a change without a log")
        } catch {
          // A copy of it may still be on its way here: it may count later.
          #expect(error.refusalCode == .unavailable)
        }
      }
      for node in cluster.nodes { node?.writeDelay = .milliseconds(1) }
      #expect(try await client.ask(execute(3)).outcome == .done)
      #expect(try await client.ask(execute(2)).outcome == .done)
      #expect(try await client.buckets().count == 3)
    }
  }

  @Test("ended grants on a node that is down do not hide those that can be cleared")
  func endedGrants() throws {
    try SimulatedWorld.run(seed: 13) { world in
      let (cluster, client, server) = try await Self.scene(world, "2+1", 4)
      let upload = try Self.number(try await client.execute(.openUpload))
      let away = cluster.disks[3].device
      for index in 0..<80 {
        let outcome = try await client.execute(
          .requestGrant(
            upload: upload, avoid: [index < 70 ? cluster.disks[0].device : away], placement: nil))
        guard case .grant = outcome else { throw TestFailure("\(outcome)") }
      }
      cluster.killNode(3)
      _ = try await client.execute(.endUpload(upload: upload))
      try await client.close()
      func ended() async throws -> [EndedGrant] {
        try await server.keeper.read { (machine) throws(StoreError) in
          try machine.endedGrants(limit: .max)
        }
      }
      #expect(try await ended().count == 80)
      await world.sleep(.seconds(30))
      #expect(try await ended().count { !$0.devices.contains(away) } == 0)
      #expect(try await ended().count == 70)
      try await cluster.startNode(3)
      await world.sleep(.seconds(30))
      #expect(try await ended().isEmpty)
    }
  }

  @Test("who cannot write is told how many domains are needed, who is down and what is full")
  func shortage() throws {
    try SimulatedWorld.run(seed: 14) { world in
      let (cluster, client, _) = try await Self.scene(world, "1+2", 5) { $0.leastFree = 64 << 20 }
      let upload = try Self.number(try await client.execute(.openUpload))
      cluster.killNode(1)
      cluster.disks[2].capacity = 5 << 20
      cluster.disks[3].isFailed = true
      cluster.disks[3].isRetired = true
      await world.sleep(.seconds(8))
      let outcome = try await client.execute(
        .requestGrant(upload: upload, avoid: [cluster.disks[4].device], placement: nil))
      guard case .refused(let code, let reason) = outcome else { throw TestFailure("\(outcome)") }
      #expect(code == RefusalCode.tooFewDomains.rawValue)
      #expect(
        reason == "1 failure domains take writes, 3 are needed; down: n1; full: n2 (5 MiB left); "
          + "retired: n3; failed this writer: n4")
    }
  }

  @Test(
    "shards of containers that are forgotten are deleted wherever they turn up, others are kept")
  func strays() throws {
    try SimulatedWorld.run(seed: 16) { world in
      let (cluster, client, server) = try await Self.scene(world, "2+1", 4) {
        $0.inventoryInterval = .seconds(30)
      }
      await world.sleep(.seconds(10))
      let upload = try Self.number(try await client.execute(.openUpload))
      let outcome = try await client.execute(
        .requestGrant(upload: upload, avoid: [], placement: nil))
      guard case .grant(let bytes) = outcome else { throw TestFailure("\(outcome)") }
      let grant = try SignedGrant(decoding: bytes).grant
      let position = server.keeper.appliedPosition
      func plant(_ number: UInt64, on disk: ModelDisk) -> ShardKey {
        let shard = ShardKey(
          container: ContainerID(.data, number), generation: number, shardIndex: 0)
        disk.blocks[BlockKey(shard: shard, stripe: 0)] =
          cluster.disks.compactMap(\.blocks.values.first).first
        return shard
      }
      let disk = cluster.disks[2]
      // Position 1 founded the cluster: no container was ever granted there, or it is forgotten.
      let stray = plant(1, on: disk)
      let open = plant(grant.container.number, on: disk)
      let later = plant(position + 1_000_000, on: disk)
      await world.sleep(.seconds(45))
      let left = Set(disk.shards)
      #expect(!left.contains(stray))
      #expect(left.isSuperset(of: [open, later]))
      #expect(try await client.buckets() == [])
    }
  }

  @Test(
    "a check tells of what nothing names and of who is silent, and deletes only when it is told to")
  func check() throws {
    try SimulatedWorld.run(seed: 21) { world in
      let (cluster, client, _) = try await Self.scene(world, "2+1", 4)
      await world.sleep(.seconds(10))
      func check(repairs: Bool) async throws -> [CheckStatus.Finding] {
        try await Self.check(world, client, repairs: repairs)
      }
      #expect(try await check(repairs: false) == [])
      let disk = cluster.disks[2]
      let stray = ShardKey(container: ContainerID(.data, 1), generation: 1, shardIndex: 0)
      disk.blocks[BlockKey(shard: stray, stripe: 0)] =
        cluster.disks.compactMap(\.blocks.values.first).first
      for isLast in [false, true] {
        let found = try await check(repairs: isLast)
        #expect(found.map(\.kind) == [.stray] && found[0].isRepaired == isLast)
        #expect(found[0].subject.hasPrefix("\(disk.device)"))
        #expect(disk.shards.contains(stray) == !isLast)
      }
      #expect(try await check(repairs: false) == [])
      // What is deleted while a check looks is no disagreement.
      disk.blocks[BlockKey(shard: stray, stripe: 0)] =
        cluster.disks.compactMap(\.blocks.values.first).first
      disk.goneOnceTold = [stray]
      #expect(try await check(repairs: false) == [])
      #expect(!disk.shards.contains(stray))
      cluster.killNode(1)
      await world.sleep(.seconds(8))
      let found = try await check(repairs: true)
      #expect(found.contains { $0.kind == .unchecked })
      #expect(found.allSatisfy { [.unchecked, .log].contains($0.kind) })
      await #expect(throws: (any Error).self) {
        _ = try await client.ask(CheckStatus(check: 12345, after: 0), within: .seconds(5))
      }
    }
  }

  /// All that `admin fsck` finds but lost objects.
  static func check(_ world: SimulatedWorld, _ client: ModelClient, repairs: Bool) async throws
    -> [CheckStatus.Finding]
  {
    let id = try await client.ask(StartCheck(parts: [.state, .devices], repairs: repairs)).check
    while true {
      let answer = try await client.ask(CheckStatus(check: id, after: 0))
      if answer.isDone {
        #expect(answer.failure.isEmpty && answer.findingCount == answer.findings.count)
        return answer.findings
      }
      await world.sleep(.milliseconds(100))
    }
  }

  static func number(_ outcome: CommandOutcome) throws -> UInt64 {
    guard case .number(let number) = outcome else { throw TestFailure("\(outcome)") }
    return number
  }
}
