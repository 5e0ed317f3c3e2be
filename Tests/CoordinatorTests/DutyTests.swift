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
      let upload = try number(try await client.execute(.openUpload))
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
      let upload = try number(try await client.execute(.openUpload))
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

  @Test("links that are in no chain any more are deleted, and those of the chain are kept")
  func oldLinks() throws {
    try SimulatedWorld.run(seed: 4) { world in
      var (cluster, client, server) = try await Self.scene(world, "2+1", 4) {
        $0.linkStripeLimit = 5
      }
      for round in 0..<4 {
        try await Self.write(client, "r\(round)", 8)
        cluster.killCoordinator()
        server = try await cluster.startCoordinator()
        _ = try await cluster.waitForLeader(client)
      }
      // A link of a take-over that came to nothing.
      let stray = BlockKey(
        shard: ShardKey(container: ContainerID(.link, 999), generation: 5, shardIndex: 0),
        stripe: 0)
      let sample = try #require(cluster.disks.compactMap(\.blocks.values.first).first)
      cluster.disks[2].blocks[stray] = sample
      await world.sleep(.seconds(15))
      let links = try #require(server.arbiter.root?.links)
      let wanted = Set(links.map { [$0.number, $0.generation] })
      let kept = Set(
        cluster.disks.flatMap(\.shards).filter { $0.container.kind == .link }.map {
          [$0.container.number, $0.generation]
        })
      #expect(kept == wanted && wanted.count > 4)
      #expect(try await client.buckets().count == 32)
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

  @Test("a damaged state is rebuilt from the log, and so is one that is ahead of it")
  func damagedState() throws {
    try SimulatedWorld.run(seed: 6) { world in
      let (cluster, client, _) = try await Self.scene(world, "1+1", 2)
      try await Self.write(client, "a", 5)
      let storage = try #require(cluster.storages["c1"])
      cluster.killCoordinator()
      storage.trouble = .corrupt("bits")
      try await cluster.startCoordinator()
      _ = try await cluster.waitForLeader(client)
      #expect(storage.discards == 1)
      #expect(try await client.buckets().count == 5)

      // Commands that are in no log.
      cluster.killCoordinator()
      let store = try #require(storage.stores.values.first)
      let machine = try StateMachine(store: store)
      _ = try machine.apply(
        LogBatch(
          epoch: 1, firstPosition: machine.appliedPosition + 1, acknowledged: 0,
          wallMilliseconds: 0,
          commands: Array(repeating: .openSession(client: "nobody"), count: 50)))
      try await cluster.startCoordinator()
      _ = try await cluster.waitForLeader(client)
      #expect(storage.discards == 2)
      #expect(try await client.buckets().count == 5)

      // A disk that refuses is told, not thrown away.
      cluster.killCoordinator()
      storage.trouble = .device("no space left")
      let server = try await cluster.startCoordinator()
      guard case .failed(let reason) = await server.waitForEnd() else {
        throw TestFailure("it leads without a disk")
      }
      #expect(reason.contains("no space left"))
      #expect(storage.discards == 2)
    }
  }

  @Test(
    "a checkpoint stands for the links before it, which go; a wiped coordinator restores from it")
  func checkpoints() throws {
    try SimulatedWorld.run(seed: 11) { world in
      let (cluster, client, first) = try await Self.scene(world, "2+1", 4) {
        $0.linkStripeLimit = 6
        $0.checkpointLinkCount = 5
      }
      var server = first
      for round in 0..<3 {
        try await Self.write(client, "r\(round)", 40)
        await world.sleep(.seconds(25))
        let root = try #require(server.arbiter.root)
        let checkpoint = try #require(root.checkpoint)
        #expect(root.links.count < 5 && root.links[0].firstPosition <= checkpoint.position + 1)
        #expect(root.links[0].firstPosition > 1)
        let kept = Set(
          cluster.disks.flatMap(\.shards).filter { $0.container.kind != .data }.map(\.container))
        #expect(
          kept == Set(root.links.map(\.container) + checkpoint.containers.map(\.container)))
        switch round {
        case 0:
          cluster.killCoordinator(power: true)
        case 1:
          cluster.killCoordinator()
          try await cluster.wipeCoordinator()
          cluster.killNode(0)
        default: continue
        }
        server = try await cluster.startCoordinator()
        _ = try await cluster.waitForLeader(client)
        #expect(try await client.buckets().count == 40 * (round + 1))
        if round == 1 { try await cluster.startNode(0) }
        try await Self.write(client, "more\(round)", 1)
        _ = try await client.execute(.removeBucket(name: "more\(round)-0"))
      }
    }
  }

  @Test("devices that keep little for the log never fill up with it: checkpoints let it go in time")
  func shortOfRoom() throws {
    try SimulatedWorld.run(seed: 12) { world in
      let (cluster, client, server) = try await Self.scene(world, "2+1", 3)
      for disk in cluster.disks { disk.logLimit = 3 << 20 }
      let begun = world.now
      // Each command is a stripe of 8 KiB on two of the three devices: 12 MiB on each in all.
      for index in 0..<1200 {
        #expect(try await client.execute(.createBucket(name: "bucket-\(index)")) == .done)
        #expect(try await client.execute(.removeBucket(name: "bucket-\(index)")) == .done)
        // Busy, though not busier than a second's look can follow.
        await world.sleep(.milliseconds(30))
      }
      let least = Duration.milliseconds(1200 * 30)
      #expect(world.now - begun < least * 2, "nothing waited for room: \(world.now - begun)")
      let root = try #require(server.arbiter.root)
      #expect(root.links[0].firstPosition > 1000)
      #expect(try await client.buckets().isEmpty)

      cluster.killCoordinator()
      try await cluster.wipeCoordinator()
      try await cluster.startCoordinator()
      _ = try await cluster.waitForLeader(client)
      #expect(try await client.buckets().isEmpty)
    }
  }

  @Test("when hardly the next checkpoint would fit nothing grows, and what is there can be deleted")
  func fullOfMetadata() throws {
    try SimulatedWorld.run(seed: 13) { world in
      let (cluster, client, _) = try await Self.scene(world, "2+1", 3)
      for disk in cluster.disks { disk.logLimit = 1 << 20 }
      try await Self.write(client, "bucket", 1)
      let bytes = [UInt8](repeating: 7, count: 4096)
      func name(_ index: Int) -> ObjectName {
        ObjectName(bucket: "bucket-0", key: "\(index)")
      }
      /// The code of its refusal.
      func put(_ index: Int) async throws -> UInt16? {
        let outcome = try await client.execute(
          .commitObject(
            upload: 0, name: name(index), content: .inline(bytes), byteCount: UInt64(bytes.count),
            contentHash: Fingerprint(of: bytes), attributes: ObjectAttributes(),
            precondition: .none, unlessIdentical: false, modified: 0))
        guard case .refused(let code, _) = outcome else { return nil }
        return code
      }
      var stored = 0
      while stored < 1000 {
        if let code = try await put(stored) {
          #expect(code == RefusalCode.deviceFull.rawValue)
          break
        }
        stored += 1
        await world.sleep(.milliseconds(30))
      }
      #expect(stored > 50 && stored < 400, "\(stored)")
      for index in 0..<stored {
        let outcome = try await client.execute(
          .deleteObject(name: name(index), precondition: .none))
        if case .refused(_, let reason) = outcome { Issue.record("\(index): \(reason)") }
        await world.sleep(.milliseconds(30))
      }
      await world.sleep(.seconds(10))
      #expect(try await put(0) == nil)
    }
  }

  @Test("a silent session ends with what it held; one that is kept lives on across a restart")
  func sessions() throws {
    try SimulatedWorld.run(seed: 7) { world in
      let (cluster, client, server) = try await Self.scene(world, "1+1", 2) {
        $0.sessionLifetime = .seconds(10)
      }
      _ = try await client.execute(.openUpload)
      let kept = try await client.ask(OpenSession(client: "kept")).session
      for round in 0..<8 {
        await world.sleep(.seconds(3))
        _ = try await client.ask(KeepSession(session: kept))
        if round == 4 {
          cluster.killCoordinator()
          try await cluster.startCoordinator()
          _ = try await cluster.waitForLeader(client)
        }
      }
      await world.sleep(.seconds(4))
      await #expect(throws: WireError.self) { try await client.execute(.openUpload) }
      _ = try await client.ask(
        Execute(session: kept, sequence: 1, lowestUnanswered: 1, command: .openUpload))
      let status = try await cluster.waitForLeader(client)
      #expect(status.role == "leader")
      _ = server
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
      let upload = try number(try await client.execute(.openUpload))
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
      let upload = try number(try await client.execute(.openUpload))
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
      let upload = try number(try await client.execute(.openUpload))
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

  /// Of a small object, unless it is there already.
  private static func put(_ name: ObjectName, _ text: String) -> ClientCommand {
    .commitObject(
      upload: 0, name: name, content: .inline(Array(text.utf8)),
      byteCount: UInt64(text.utf8.count), contentHash: Fingerprint(of: Array(text.utf8)),
      attributes: ObjectAttributes(), precondition: .none, unlessIdentical: true, modified: 0)
  }

  @Test("a copy of an answered command that comes late changes nothing, logged or not")
  func lateCopies() throws {
    try SimulatedWorld.run(seed: 15) { world in
      let (_, client, _) = try await Self.scene(world, "1+1", 2)
      let session = try await client.ask(OpenSession(client: "test")).session
      let other = ModelClient(world, "other", addresses: client.addresses)
      #expect(try await client.execute(.createBucket(name: "bucket")) == .done)
      let name = ObjectName(bucket: "bucket", key: "key")
      @Sendable func put(_ text: String) -> ClientCommand { Self.put(name, text) }
      @Sendable func execute(_ sequence: UInt64, _ text: String, lowest: UInt64) -> Execute {
        Execute(
          session: session, sequence: sequence, lowestUnanswered: lowest, command: put(text))
      }
      func hash() async throws -> Fingerprint {
        try await client.ask(StatObject(level: .strong, name: name)).record.contentHash
      }
      let first = try await client.ask(execute(1, "old", lowest: 1)).outcome
      // The same again is answered from the state.
      #expect(try await client.ask(execute(2, "old", lowest: 2)).outcome == first)
      #expect(try await number(other.execute(put("new"))) > number(first))
      let wanted = try await hash()
      #expect(try await client.ask(execute(2, "old", lowest: 2)).outcome == first)
      #expect(try await hash() == wanted)
      // One that the client has gone on from, without anything being logged for it since.
      #expect(try await number(client.ask(execute(3, "new", lowest: 3)).outcome) > 0)
      #expect(try await number(other.execute(put("newer"))) > 0)
      let newer = try await hash()
      guard case .refused(let code, _) = try await client.ask(execute(2, "old", lowest: 2)).outcome
      else { throw TestFailure("carried out") }
      #expect(code == RefusalCode.outcomeUnknown.rawValue)
      #expect(try await hash() == newer)
    }
  }

  @Test(
    "a put that was carried out in an earlier term has its own answer, not that of another like it")
  func identicalLater() throws {
    try SimulatedWorld.run(seed: 16) { world in
      let (cluster, client, _) = try await Self.scene(world, "1+1", 2)
      let session = try await client.ask(OpenSession(client: "test")).session
      let other = ModelClient(world, "other", addresses: client.addresses)
      #expect(try await client.execute(.createBucket(name: "bucket")) == .done)
      let name = ObjectName(bucket: "bucket", key: "key")
      let put = Execute(
        session: session, sequence: 1, lowestUnanswered: 1, command: Self.put(name, "bytes"))
      // The answer to this one never came.
      let first = try await number(client.ask(put).outcome)
      cluster.killCoordinator()
      try await cluster.startCoordinator()
      _ = try await cluster.waitForLeader(client)
      let later = try await number(
        other.execute(
          .copyObject(
            source: name, target: name, attributes: nil, move: false, precondition: .none,
            modified: 0)))
      #expect(later > first)
      #expect(try await number(client.ask(put).outcome) == first)
    }
  }

  @Test("a session is told to be gone only when its end is in the log")
  func endOnItsWay() throws {
    try SimulatedWorld.run(seed: 17) { world in
      let (cluster, client, _) = try await Self.scene(world, "2+1", 3) {
        $0.sessionLifetime = .seconds(10)
      }
      let session = try await client.ask(OpenSession(client: "test")).session
      let request = Execute(
        session: session, sequence: 1, lowestUnanswered: 1, command: .createBucket(name: "bucket"))
      await world.sleep(.seconds(9))
      for node in cluster.nodes { node?.writeDelay = .seconds(3600) }
      await world.sleep(.milliseconds(2500))
      // Its end is on the way, and never gets there.
      var told: [RefusalCode?] = []
      do throws(WireError) {
        _ = try await client.wire.call(
          KeepSession(session: session), at: client.addresses[0], deadline: .seconds(1))
        Issue.record("kept")
      } catch {
        told.append(error.refusalCode)
      }
      do throws(WireError) {
        _ = try await client.wire.call(request, at: client.addresses[0], deadline: .seconds(1))
        Issue.record("carried out without a log")
      } catch {
        told.append(error.refusalCode)
      }
      cluster.killCoordinator()
      for node in cluster.nodes { node?.writeDelay = .milliseconds(1) }
      try await cluster.startCoordinator()
      #expect(try await client.ask(request).outcome == .done)
      #expect(!told.contains(.noSuchSession))
      // Once it is, the session is gone.
      await world.sleep(.seconds(12))
      do throws(WireError) {
        _ = try await client.wire.call(request, at: client.addresses[0], deadline: .seconds(5))
        Issue.record("a session without an end")
      } catch {
        #expect(error.refusalCode == .noSuchSession)
      }
    }
  }

  @Test("simulation can end sessions that were heard of lately")
  func earlyEnd() throws {
    try SimulatedWorld.run(seed: 19) { world in
      let (_, client, _) = try await Self.scene(world, "1+1", 2)
      let session = try await client.ask(OpenSession(client: "test")).session
      world.injections[.sessionExpiredEarly] = 1 << 16
      await world.sleep(.seconds(2))
      do throws(WireError) {
        _ = try await client.wire.call(
          KeepSession(session: session), at: client.addresses[0], deadline: .seconds(5))
        Issue.record("kept")
      } catch {
        #expect(error.refusalCode == .noSuchSession)
      }
    }
  }

  @Test("a grant on its way through the log is not refused to a copy of the request")
  func grantOnItsWay() throws {
    try SimulatedWorld.run(seed: 18) { world in
      let (cluster, client, _) = try await Self.scene(world, "2+1", 3)
      let session = try await client.ask(OpenSession(client: "test")).session
      let upload = try await number(
        client.ask(
          Execute(session: session, sequence: 1, lowestUnanswered: 1, command: .openUpload)
        ).outcome)
      @Sendable func request(avoiding avoid: [DeviceID]) -> Execute {
        Execute(
          session: session, sequence: 2, lowestUnanswered: 2,
          command: .requestGrant(upload: upload, avoid: avoid, placement: nil))
      }
      for node in cluster.nodes { node?.writeDelay = .seconds(2) }
      client.driver.spawn("under way") { _ = try? await client.ask(request(avoiding: [])) }
      await world.sleep(.milliseconds(100))
      // As if all devices had failed meanwhile.
      do throws(WireError) {
        _ = try await client.wire.call(
          request(avoiding: cluster.disks.map(\.device)), at: client.addresses[0],
          deadline: .seconds(1))
        Issue.record("granted without a log")
      } catch {
        #expect(error.refusalCode == .unavailable)
      }
      for node in cluster.nodes { node?.writeDelay = .milliseconds(1) }
      guard case .grant = try await client.ask(request(avoiding: [])).outcome else {
        throw TestFailure("no grant")
      }
    }
  }

  @Test("what is remembered of a session is bounded, whatever numbers its client sends")
  func sessionBound() {
    var table = SessionTable()
    table.open(7, at: .zero)
    func answer(_ sequence: UInt64, lowest: UInt64) -> UInt16? {
      let request = Execute(
        session: 7, sequence: sequence, lowestUnanswered: lowest, command: .openUpload)
      let outcome = table.answer(request)
      if outcome == nil { table.noteLogged(request) }
      guard case .refused(let code, _) = outcome else { return nil }
      return code
    }
    #expect(answer(1024, lowest: 1) == nil)
    #expect(answer(1025, lowest: 1) == RefusalCode.malformed.rawValue)
    #expect(answer(.max, lowest: 0) == RefusalCode.malformed.rawValue)
    #expect(answer(1025, lowest: 2) == nil)
    #expect(answer(1, lowest: 0) == RefusalCode.outcomeUnknown.rawValue)
    #expect(answer(.max, lowest: .max) == nil)
  }

  @Test(
    "shards of containers that are forgotten are deleted wherever they turn up, others are kept")
  func strays() throws {
    try SimulatedWorld.run(seed: 16) { world in
      let (cluster, client, server) = try await Self.scene(world, "2+1", 4) {
        $0.inventoryInterval = .seconds(30)
      }
      await world.sleep(.seconds(10))
      let upload = try number(try await client.execute(.openUpload))
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

  private func number(_ outcome: CommandOutcome) throws -> UInt64 {
    guard case .number(let number) = outcome else { throw TestFailure("\(outcome)") }
    return number
  }
}
