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

/// What an arbiter makes of an etcd that others write to, that was set back, or that is slow to carry things out.
@Suite("The etcd arbiter and an etcd that is not to be believed")
struct EtcdHostileTests {
  static let epochKey = "cairn/epoch"
  static let leaseKey = "cairn/lease"
  static let rootKey = "cairn/root"

  /// As the client keeps it.
  static func signed(_ bytes: [UInt8], as key: String, by cluster: ClusterKey = clusterKey)
    -> [UInt8]
  {
    bytes
      + HMACSHA256.authenticate(
        Array(key.utf8) + [0] + bytes, key: cluster.subkey("etcd records"))
  }

  static func put(_ bytes: [UInt8], _ key: String, in etcd: EtcdModel) {
    etcd.content.revision += 1
    etcd.content.values[key] = .init(bytes: bytes, revision: etcd.content.revision)
  }

  /// Waits for the next renewal, and a little longer: the standby has seen it.
  static func renewal(_ world: SimulatedWorld, _ etcd: EtcdModel) async {
    let revision = etcd.content.values[leaseKey]?.revision
    while etcd.content.values[leaseKey]?.revision == revision {
      await world.sleep(.milliseconds(1))
    }
    await world.sleep(.milliseconds(250))
  }

  /// How long after now another claim is made.
  static func timeToClaim(_ world: SimulatedWorld, _ etcd: EtcdModel) async throws -> Duration {
    let began = world.now
    let claim = etcd.content.values[epochKey]?.bytes
    while etcd.content.values[epochKey]?.bytes == claim {
      guard world.now - began < .seconds(20) else { throw TestFailure("nobody claims") }
      await world.sleep(.milliseconds(1))
    }
    return world.now - began
  }

  static func scene(_ world: SimulatedWorld) async throws -> (
    cluster: ModelCluster, client: ModelClient, etcd: EtcdModel, leader: String, standby: String
  ) {
    let (cluster, client, names, etcd) = try await EtcdArbiterTests.scene(
      world, "2+1", nodes: 3, coordinators: 2)
    cluster.configure = { $0.linkStripeLimit = 4 }
    try await EtcdArbiterTests.startAll(cluster, names)
    let leader = try await cluster.waitForAnyLeader(client).name
    #expect(try await client.execute(.createBucket(name: "first")) == .done)
    await world.sleep(.seconds(3))
    return (cluster, client, etcd, leader, names.first { $0 != leader }!)
  }

  @Test(
    "a lease that an old renewal puts back, while a standby's looks are held up, is a new lease",
    arguments: Seed.several)
  func lateRenewal(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let (cluster, client, etcd, leader, standby) = try await Self.scene(world)
      await Self.renewal(world, etcd)
      let old = etcd.content.values[Self.leaseKey]!.bytes
      world.network.cut(standby, "etcd")
      await world.sleep(.milliseconds(3200))
      #expect(etcd.content.values[Self.leaseKey]?.bytes != old && cluster.leaders == [leader])
      world.network.cut(leader, "etcd")
      Self.put(old, Self.leaseKey, in: etcd)
      world.network.heal(standby, "etcd")
      let time = try await Self.timeToClaim(world, etcd)
      #expect(time >= .seconds(3), "\(time)")
      #expect(cluster.leaders.isEmpty)
      #expect(try await cluster.waitForAnyLeader(client).name == standby)
    }
  }

  @Test(
    "in an etcd that was set back a lease has not been watched at all", arguments: Seed.several)
  func setBack(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let (cluster, client, etcd, leader, standby) = try await Self.scene(world)
      await Self.renewal(world, etcd)
      let old = etcd.content
      // By which a standby that looks knows that etcd has gone on.
      Self.put([1], "another's", in: etcd)
      await world.sleep(.milliseconds(250))
      world.network.cut(standby, "etcd")
      await world.sleep(.milliseconds(3200))
      #expect(cluster.leaders == [leader])
      world.network.cut(leader, "etcd")
      etcd.content = old
      world.network.heal(standby, "etcd")
      let time = try await Self.timeToClaim(world, etcd)
      #expect(time >= .seconds(3), "\(time)")
      #expect(cluster.leaders.isEmpty)
      #expect(try await cluster.waitForAnyLeader(client).name == standby)
    }
  }

  enum Forgery: CaseIterable {
    case unsigned, otherKey, otherName
  }

  static func forge(_ bytes: [UInt8], _ key: String, _ forgery: Forgery) -> [UInt8] {
    switch forgery {
    case .unsigned: bytes
    case .otherKey:
      signed(bytes, as: key, by: ClusterKey(secret: [UInt8](repeating: 9, count: 32)))
    case .otherName: signed(bytes, as: key == rootKey ? leaseKey : rootKey)
    }
  }

  @Test(
    "a record that is not signed, under its key and with the cluster's, is told of and never led from",
    arguments: [epochKey, leaseKey, rootKey], Forgery.allCases)
  func forged(key: String, forgery: Forgery) throws {
    try SimulatedWorld.run(seed: 1) { world in
      let (cluster, client, etcd, leader, standby) = try await Self.scene(world)
      for name in [leader, standby] { cluster.killCoordinator(name) }
      let genuine = etcd.content.values[key]!.bytes
      let content = Array(genuine.dropLast(32))
      #expect(Self.signed(content, as: key) == genuine)
      Self.put(Self.forge(content, key, forgery), key, in: etcd)
      for name in [leader, standby] { try await cluster.startCoordinator(name) }
      await world.sleep(.seconds(15))
      #expect(cluster.leaders.isEmpty)
      let statuses = await client.statuses(cluster)
      #expect(statuses.count == 2)
      for status in statuses {
        // Without its last bytes, which are taken for a signature, a claim is none.
        let words = ["not signed with this cluster's key", "none of Cairn's"]
        #expect(words.contains { status.detail.contains($0) }, "\(status.detail)")
      }
      // An operator takes it away.
      etcd.content.values[key] = nil
      _ = try await cluster.waitForAnyLeader(client)
      #expect(try await client.buckets() == ["first"])
      #expect(cluster.wrong.isEmpty)
    }
  }

  @Test("a lead that somebody else gives up is not free", arguments: Forgery.allCases)
  func forgedRelease(forgery: Forgery) throws {
    try SimulatedWorld.run(seed: 2) { world in
      let (cluster, client, etcd, leader, standby) = try await Self.scene(world)
      await Self.renewal(world, etcd)
      // Its next renewal would go over it.
      world.network.cut(leader, "etcd")
      let claim = etcd.content.values[Self.epochKey]!.bytes
      let epoch = try #require(EtcdClaim(decoding: claim.dropLast(32))).epoch
      let release = EtcdRenewal(epoch: epoch, count: 0, isReleased: true).encoded
      Self.put(Self.forge(release, Self.leaseKey, forgery), Self.leaseKey, in: etcd)
      await world.sleep(.seconds(1))
      #expect(cluster.leaders == [leader])
      #expect(etcd.content.values[Self.epochKey]?.bytes == claim)
      let status = try #require(await cluster.status(standby, from: client))
      #expect(status.detail.contains("\(Self.leaseKey) in etcd is not signed"), "\(status.detail)")
      // Nor one that gave up an earlier lead, whose words come again.
      let earlier = EtcdRenewal(epoch: epoch - 1, count: 0, isReleased: true).encoded
      Self.put(Self.signed(earlier, as: Self.leaseKey), Self.leaseKey, in: etcd)
      await world.sleep(.milliseconds(500))
      #expect(etcd.content.values[Self.epochKey]?.bytes == claim)
      // One that was given up, by whoever holds it, is.
      Self.put(Self.signed(release, as: Self.leaseKey), Self.leaseKey, in: etcd)
      let time = try await Self.timeToClaim(world, etcd)
      #expect(time < .milliseconds(500), "\(time)")
    }
  }

  @Test("a root that is not signed is not written over by who leads, who then leads no more")
  func forgedUnderLeader() throws {
    try SimulatedWorld.run(seed: 3) { world in
      let (cluster, client, etcd, _, _) = try await Self.scene(world)
      let forged = Array(etcd.content.values[Self.rootKey]!.bytes.dropLast(32))
      Self.put(forged, Self.rootKey, in: etcd)
      // Until there is another link, of which the root tells.
      let ledger = Ledger()
      ledger.asked = ["first"]
      for index in 0..<3 { ChaosTests.work(world, cluster, ledger, index) }
      await world.sleep(.seconds(20))
      #expect(cluster.leaders.isEmpty)
      #expect(etcd.content.values[Self.rootKey]?.bytes == forged)
      for status in await client.statuses(cluster) {
        #expect(status.detail.contains("root record in etcd is not signed"), "\(status.detail)")
      }
      etcd.content.values[Self.rootKey] = nil
      let next = try await cluster.waitForAnyLeader(client)
      ledger.isOver = true
      while ledger.running > 0 { await world.sleep(.milliseconds(100)) }
      try await ChaosTests.check(cluster, ledger, client, next.name)
      #expect(etcd.content.values[Self.rootKey] != nil && !ledger.acknowledged.isEmpty)
    }
  }

  @Test("a hello of a node that has accepted another's epoch ends the lead, writes or none")
  func deposingHello() throws {
    try SimulatedWorld.run(seed: 4) { world in
      let (cluster, client, _, leader, _) = try await Self.scene(world)
      let status = try #require(await cluster.status(leader, from: client))
      // Of another cluster's node it says nothing.
      cluster.disks[0].clusterID = status.clusterID + 1
      cluster.disks[0].highestEpoch = status.epoch + 5
      await world.sleep(.seconds(5))
      #expect(cluster.leaders == [leader])
      #expect(await cluster.status(leader, from: client)?.epoch == status.epoch)
      cluster.disks[0].clusterID = status.clusterID
      await world.sleep(.seconds(3))
      let next = try await cluster.waitForAnyLeader(client)
      #expect(next.epoch > status.epoch + 5)
      #expect(try await client.buckets() == ["first"])
    }
  }

  @Test("requests that fail at one member together all go on to the next", arguments: Seed.several)
  func members(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let etcd = EtcdModel(world)
      try await etcd.start()
      _ = world.process("gone")
      let gone = HTTPEndpoint(address: .init(host: "gone", port: 2379), isSecure: false)
      let here = HTTPEndpoint(address: EtcdModel.address, isSecure: false)
      for count in 2...5 {
        let client = EtcdClient(
          driver: world.process("client \(count)"),
          configuration: EtcdConfiguration(endpoints: [gone, here], prefix: "cairn"),
          signingKey: [1])
        let succeeded = await withTaskGroup(of: Bool.self) { group in
          for _ in 0..<count {
            group.addTask {
              let look = EtcdTransaction(success: [.get("a")])
              return (try? await client.perform(look, deadline: .seconds(3)))?.succeeded == true
            }
          }
          return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(succeeded == count)
        await client.close()
      }
    }
  }

  @Test(
    "claims and roots whose numbers could not be counted up from are refused",
    arguments: [1 << 62, 1 << 63, UInt64.max])
  func numbers(tooHigh: UInt64) throws {
    func claim(_ epoch: UInt64) -> [UInt8] {
      EtcdClaim(
        cluster: "a", epoch: epoch, holder: "c1", address: .init(host: "c1", port: 1), instance: "b"
      ).encoded
    }
    func root(_ version: UInt64, _ epoch: UInt64) -> [UInt8] {
      RootRecord(
        version: version, clusterID: 7, epoch: epoch, scheme: Scheme(k: 2, m: 1)!, domains: [],
        links: []
      ).encoded
    }
    let highest: UInt64 = 1 << 62 - 1
    #expect(EtcdClaim(decoding: claim(highest))?.epoch == highest)
    #expect(EtcdClaim(decoding: claim(tooHigh)) == nil)
    #expect(try RootRecord(decoding: root(highest, highest)).version == highest)
    #expect(throws: ValueError.self) { try RootRecord(decoding: root(tooHigh, 1)) }
    #expect(throws: ValueError.self) { try RootRecord(decoding: root(1, tooHigh)) }
  }
}
