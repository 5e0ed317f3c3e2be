import Cluster
import Coding
import Messages
import Metadata
import Node
import Ring
import Service
import ShardStore
import Simulation
import Stripes
import TestSupport
import Testing
import Wire

@testable import Coordinator

/// Real storage nodes, each on a machine of its own.
private final class RealNodes: @unchecked Sendable {
  // Loop-confined.
  let world: SimulatedWorld
  private(set) var nodes: [Int: StorageNode] = [:]

  init(_ world: SimulatedWorld) { self.world = world }

  func start(_ index: Int) async throws {
    let process = world.process("n\(index)")
    let configuration = NodeConfiguration(
      name: "n\(index)", listen: SocketAddress(host: "n\(index)", port: 7000),
      coordinators: [SocketAddress(host: "c1", port: 7400)], key: clusterKey, security: .never,
      directory: "/node",
      devices: [
        NodeConfiguration.Device(
          path: "/node/device-1", tier: "ssd",
          settings: StoreSettings(
            capacity: 256 << 20, volumeByteCount: 4 << 20, reserveByteCount: 8 << 20))
      ])
    let node = StorageNode(configuration, driver: process, log: Log(driver: process, level: .error))
    try await node.start()
    nodes[index] = node
  }

  func kill(_ index: Int, power: Bool) {
    guard let process = world.living("n\(index)") else { return }
    if power { process.machine.powerCut() } else { process.kill() }
    nodes[index] = nil
  }

  /// Its disk is lost: what starts there next is another node.
  func wipe(_ index: Int) {
    kill(index, power: false)
    world.disk("n\(index)").wipe()
  }
}

/// A stripe with one chunk, as a writer makes it.
private struct StripeSample: Sendable {
  let payload: [UInt8]
  let frame: [UInt8]
  let layout: StripeLayout
  let data: [Slice]

  init(_ payload: [UInt8], scheme: Scheme) {
    self.payload = payload
    let frame =
      GroupHeader(
        codec: .raw, chunkCount: 1, plainByteCount: payload.count, payloadByteCount: payload.count
      ).encoded + payload
    let layout = StripeLayout.smallest(for: frame.count, scheme: scheme)
    let size = layout.blockByteCount
    let padded =
      frame + [UInt8](repeating: 0, count: layout.dataBlockCount * size - frame.count)
    self.frame = frame
    self.layout = layout
    data = (0..<layout.dataBlockCount).map {
      Slice(copying: Array(padded[$0 * size..<($0 + 1) * size]))
    }
  }

  /// Stores it on all devices of the grant.
  func write(_ signed: SignedGrant, _ stripe: UInt64, _ client: ModelClient, _ nodes: NodeTable)
    async -> [DeviceID]
  {
    let grant = signed.grant
    return await StripeIO(driver: client.driver, client: client.wire, directory: nodes).write(
      StripeTarget(
        container: grant.container,
        places: [ShardPlace](grant.devices, generation: grant.generation),
        stripe: stripe), layout: layout, data: data, right: .grant(signed), epoch: grant.epoch,
      deadline: .seconds(5)
    ).map(\.device)
  }

  func record(_ stripe: UInt64, firstOrdinal: UInt64) -> StripeRecord {
    StripeRecord(
      stripe: stripe, layout: layout, firstOrdinal: firstOrdinal,
      groups: [
        StripeRecord.Group(
          offset: 0, storedByteCount: UInt32(frame.count), codec: .raw,
          chunks: [
            StripeRecord.Chunk(
              fingerprint: Fingerprint(of: payload), byteCount: UInt32(payload.count))
          ])
      ])
  }
}

@Suite("With real nodes")
struct RealNodeTests {
  @Test("commands survive power cuts of everything and wiped coordinators", arguments: Seed.several)
  func power(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let count = 4
      let cluster = ModelCluster(world, scheme: "2+1", nodes: 0, expected: count)
      cluster.configure = { $0.linkStripeLimit = 25 }
      let nodes = RealNodes(world)
      let ledger = Ledger()
      let client = ModelClient(world, addresses: cluster.coordinatorAddresses)
      for index in 0..<count { try await nodes.start(index) }
      try await cluster.startCoordinator()
      _ = try await cluster.waitForLeader(client)
      for index in 0..<2 { ChaosTests.work(world, cluster, ledger, index) }
      var random = world.random(named: "chaos")
      for round in 0..<4 {
        await world.sleep(.milliseconds(Int64(random.below(8000))))
        switch round {
        case 0:
          // Everything at once.
          cluster.killCoordinator(power: true)
          for index in 0..<count { nodes.kill(index, power: true) }
          await world.sleep(.milliseconds(200))
          for index in 0..<count { try await nodes.start(index) }
        case 1:
          let victim = random.below(count)
          nodes.kill(victim, power: true)
          await world.sleep(.seconds(6))
          cluster.killCoordinator()
          try await cluster.startCoordinator()
          await world.sleep(.seconds(10))
          try await nodes.start(victim)
          continue
        default:
          cluster.killCoordinator()
          try await cluster.wipeCoordinator()
        }
        try await cluster.startCoordinator()
      }
      _ = try await cluster.waitForLeader(client)
      await world.sleep(.seconds(1))
      ledger.isOver = true
      while ledger.running > 0 { await world.sleep(.milliseconds(100)) }
      try await ChaosTests.check(cluster, ledger, client, "c1")
      #expect(ledger.acknowledged.count > 10)
    }
  }

  @Test("blocks nobody registered are dropped, and a deleted object's containers are too")
  func deletion() throws {
    try SimulatedWorld.run(seed: 7) { world in
      let cluster = ModelCluster(world, scheme: "2+1", nodes: 0, expected: 3)
      cluster.configure = { $0.deletionGrace = .seconds(3) }
      let nodes = RealNodes(world)
      let client = ModelClient(world, addresses: cluster.coordinatorAddresses)
      for index in 0..<3 { try await nodes.start(index) }
      let server = try await cluster.startCoordinator()
      _ = try await cluster.waitForLeader(client)
      _ = try await client.execute(.createBucket(name: "bucket"))
      let upload = try number(try await client.execute(.openUpload))
      let outcome = try await client.execute(
        .requestGrant(upload: upload, avoid: [], placement: nil))
      guard case .grant(let bytes) = outcome else { throw TestFailure("\(outcome)") }
      let signed = try SignedGrant(decoding: bytes)
      let grant = signed.grant
      #expect(signed.isValid(key: clusterKey.subkey("grant")))
      #expect(grant.scheme == Scheme("2+1"))

      let payload = [UInt8](repeating: 7, count: 10_000)
      let sample = StripeSample(payload, scheme: grant.scheme)
      for stripe in grant.firstStripe..<grant.firstStripe + 3 {
        #expect(await sample.write(signed, stripe, client, server.nodes).isEmpty)
      }
      // The middle one alone is registered.
      let fingerprint = Fingerprint(of: payload)
      let registered = sample.record(grant.firstStripe + 1, firstOrdinal: grant.firstOrdinal)
      #expect(
        try await client.execute(
          .registerStripes(
            upload: upload, grant: grant.id, container: grant.container, stripes: [registered]))
          == .done)
      let name = ObjectName(bucket: "bucket", key: "key")
      let commit = ClientCommand.commitObject(
        upload: upload, name: name,
        content: .embedded([
          Run(
            container: grant.container, firstOrdinal: grant.firstOrdinal, count: 1, skip: 0,
            byteCount: UInt64(payload.count))
        ]), byteCount: UInt64(payload.count), contentHash: fingerprint,
        attributes: ObjectAttributes(), precondition: .none, unlessIdentical: true, modified: 0)
      let identity = try number(try await client.execute(commit))
      let position = try await client.ask(GetStatus()).position
      #expect(try number(try await client.execute(commit)) == identity)
      #expect(try await client.ask(GetStatus()).position == position, "nothing was logged")
      let stat = try await client.ask(StatObject(level: .strong, name: name))
      #expect(stat.containers.map(\.container) == [grant.container])
      #expect(stat.containers.map(\.missing) == [0])
      #expect(stat.record.modified > 0)

      func blocks() async throws -> [UInt64] {
        try await Self.blocks(of: grant, client, server.nodes)
      }
      #expect(try await blocks() == [3, 0, 3], "one data block and its parity")
      let released = ClientCommand.releaseGrant(grant: grant.id, container: grant.container)
      #expect(try await client.execute(released) == .done)
      #expect(try await client.execute(.endUpload(upload: upload)) == .done)
      await world.sleep(.seconds(5))
      #expect(try await blocks() == [1, 0, 1])

      let usage = try await client.ask(GetUsage(level: .strong))
      #expect(usage.objectCount == 1 && usage.logicalBytes == 10_000)
      #expect(usage.storedBytes > usage.metadataBytes && usage.metadataBytes > 0)

      // One device is away when the object goes; it is asked again.
      nodes.kill(1, power: false)
      #expect(try await client.execute(.deleteObject(name: name, precondition: .none)) == .done)
      await world.sleep(.seconds(12))
      #expect(try await client.ask(GetUsage(level: .strong)).containerCount == 0)
      try await nodes.start(1)
      await world.sleep(.seconds(8))
      #expect(try await blocks() == [0, 0, 0])
      let left = try await server.keeper.read { (machine) throws(Metadata.StoreError) in
        try machine.containers(after: nil, limit: 10).count
      }
      #expect(left == 0)
    }
  }

  @Test(
    "what a writer stores after its grant has ended and was cleared goes, and nothing else does")
  func lateWriter() throws {
    try SimulatedWorld.run(seed: 8) { world in
      let cluster = ModelCluster(world, scheme: "2+1", nodes: 0, expected: 3)
      cluster.configure = {
        $0.inventoryInterval = .seconds(20)
        $0.sessionLifetime = .seconds(3600)
      }
      let nodes = RealNodes(world)
      let client = ModelClient(world, addresses: cluster.coordinatorAddresses)
      for index in 0..<3 { try await nodes.start(index) }
      let server = try await cluster.startCoordinator()
      _ = try await cluster.waitForLeader(client)
      let upload = try number(try await client.execute(.openUpload))
      func grant() async throws -> SignedGrant {
        let outcome = try await client.execute(
          .requestGrant(upload: upload, avoid: [], placement: nil))
        guard case .grant(let bytes) = outcome else { throw TestFailure("\(outcome)") }
        return try SignedGrant(decoding: bytes)
      }
      // The first has one block of data and its parity, the others two.
      let first = try await grant()
      let short = StripeSample([UInt8](repeating: 7, count: 3000), scheme: first.grant.scheme)
      let longer = StripeSample([UInt8](repeating: 9, count: 300_000), scheme: first.grant.scheme)
      let at = first.grant.firstStripe
      #expect(await short.write(first, at, client, server.nodes).isEmpty)
      #expect(await longer.write(first, at + 1, client, server.nodes).isEmpty)
      let records = [
        short.record(at, firstOrdinal: first.grant.firstOrdinal),
        longer.record(at + 1, firstOrdinal: first.grant.firstOrdinal + 1),
      ]
      #expect(
        try await client.execute(
          .registerStripes(
            upload: upload, grant: first.grant.id, container: first.grant.container,
            stripes: records)) == .done)
      #expect(
        try await client.execute(
          .releaseGrant(grant: first.grant.id, container: first.grant.container)) == .done)
      await world.sleep(.seconds(6))
      func ended() async throws -> Int {
        try await server.keeper.read { (machine) throws(Metadata.StoreError) in
          try machine.endedGrants(limit: 10).count
        }
      }
      #expect(try await ended() == 0)

      // Another writer has the container, and the first one wakes up.
      var second = try await grant()
      while second.grant.container != first.grant.container { second = try await grant() }
      #expect(await longer.write(first, at + 2, client, server.nodes).isEmpty)
      #expect(await short.write(first, at + 3, client, server.nodes).isEmpty)
      #expect(await longer.write(second, second.grant.firstStripe, client, server.nodes).isEmpty)
      func stripes(_ shard: Int) async throws -> [UInt64] {
        try await client.wire.call(
          ListShard(
            device: first.grant.devices[shard],
            shard: ShardKey(
              container: first.grant.container, generation: first.grant.generation,
              shardIndex: UInt8(shard))),
          at: server.nodes.address(of: first.grant.devices[shard])!, deadline: .seconds(5)
        ).answer.blocks.map(\.stripe)
      }
      let live = second.grant.firstStripe
      #expect(try await stripes(0) == [at, at + 1, at + 2, at + 3, live])
      await world.sleep(.seconds(40))
      #expect(try await stripes(0) == [at, at + 1, live])
      #expect(try await stripes(1) == [at + 1, live])
      #expect(try await stripes(2) == [at, at + 1, live])
      #expect(
        try await client.execute(
          .registerStripes(
            upload: upload, grant: second.grant.id, container: second.grant.container,
            stripes: [longer.record(live, firstOrdinal: second.grant.firstOrdinal)])) == .done)
      await world.sleep(.seconds(40))
      #expect(try await stripes(1) == [at + 1, live])
    }
  }

  @Test(
    "a founding that was cut short anywhere is repeated without hands, also when a node was lost",
    arguments: Seed.several)
  func foundingCutShort(seed: Seed) throws {
    for trial in 0..<25 {
      try SimulatedWorld.run(seed: seed.value &* 1000 &+ UInt64(trial)) { world in
        try await Self.foundUnderFire(world)
      }
    }
  }

  /// Everything is killed again and again while the cluster is founded, coordinators lose their disks, and one node
  /// does for good.
  private static func foundUnderFire(_ world: SimulatedWorld) async throws {
    var random = world.random(named: "fire")
    let shapes = [("1+1", 2), ("1+1", 4), ("2+1", 3), ("1+2", 5), ("1+0", 2)]
    let (scheme, count) = shapes[random.below(shapes.count)]
    let m = Scheme(scheme)!.m
    // A cluster goes on without m of its nodes only where m + 1 are left.
    var mayLose = m > 0 && count > m + 1
    let cluster = ModelCluster(world, scheme: scheme, nodes: 0, expected: count)
    let nodes = RealNodes(world)
    let client = ModelClient(world, addresses: cluster.coordinatorAddresses)
    var left = 2 + random.below(4)
    while true {
      for index in 0..<count where nodes.nodes[index] == nil { try await nodes.start(index) }
      if cluster.coordinators.isEmpty { try await cluster.startCoordinator() }
      if left == 0 { break }
      left -= 1
      // From the claim on, about as long as a founding takes.
      func highestEpoch() -> UInt64 { nodes.nodes.values.map(\.highestEpoch).max() ?? 0 }
      let before = highestEpoch()
      let patience = world.now + .seconds(15)
      while highestEpoch() == before && world.now < patience && cluster.leaders.isEmpty {
        await world.sleep(.microseconds(200))
      }
      let end = world.now + .microseconds(Int64(random.below(30_000)))
      while world.now < end && cluster.leaders.isEmpty { await world.sleep(.microseconds(100)) }
      if !cluster.leaders.isEmpty { break }
      let isPower = random.chance(1, in: 2)
      for index in 0..<count where random.chance(2, in: 3) { nodes.kill(index, power: isPower) }
      if mayLose && random.chance(1, in: 3) {
        mayLose = false
        nodes.wipe(random.below(count))
      }
      if random.chance(3, in: 4) {
        cluster.killCoordinator(power: isPower)
        if random.chance(1, in: 2) { try await cluster.wipeCoordinator() }
      }
    }
    _ = try await cluster.waitForLeader(client, within: .seconds(60))
    #expect(try await client.execute(.createBucket(name: "first")) == .done)
    await world.sleep(.seconds(5))
    let clusterID = try #require(await cluster.status(from: client)).clusterID
    #expect(clusterID != 0)
    #expect(nodes.nodes.values.allSatisfy { $0.cluster == clusterID })
    #expect(try await client.buckets() == ["first"])
    await client.wire.close()
  }

  private static func blocks(of grant: Grant, _ client: ModelClient, _ nodes: NodeTable)
    async throws -> [UInt64]
  {
    var counts: [UInt64] = []
    for device in grant.devices {
      let page = try await client.wire.call(
        Inventory(device: device, after: nil), at: nodes.address(of: device)!,
        deadline: .seconds(5)
      ).answer
      let entry = page.shards.first { $0.shard.container == grant.container }
      counts.append(entry?.stripes.count ?? 0)
    }
    return counts
  }

  private func number(_ outcome: CommandOutcome) throws -> UInt64 {
    guard case .number(let number) = outcome else { throw TestFailure("\(outcome)") }
    return number
  }
}
