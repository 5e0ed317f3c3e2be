import Cluster
import Coding
import Messages
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import Coordinator

/// Several coordinators and a model of etcd.
@Suite("The etcd arbiter, simulated")
struct EtcdArbiterTests {
  static func scene(
    _ world: SimulatedWorld, _ scheme: String, nodes: Int, coordinators: Int
  ) async throws -> (ModelCluster, ModelClient, [String], EtcdModel) {
    let cluster = ModelCluster(world, scheme: scheme, nodes: nodes)
    let names = (1...coordinators).map { "c\($0)" }
    cluster.coordinatorAddresses = names.map { SocketAddress(host: $0, port: 7400) }
    let etcd = EtcdModel(world)
    cluster.etcd = etcd
    try await etcd.start()
    return (cluster, ModelClient(world, addresses: cluster.coordinatorAddresses), names, etcd)
  }

  static func startAll(_ cluster: ModelCluster, _ names: [String]) async throws {
    try await cluster.startNodes()
    for name in names { try await cluster.startCoordinator(name) }
  }

  @Test(
    "a cluster is founded once, when enough nodes have said hello, whoever wins",
    arguments: paired([("1+1", 2, 3), ("2+1", 3, 2), ("6+3", 9, 3)]))
  func founding(shape: (scheme: String, nodes: Int, coordinators: Int), seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let (cluster, client, names, etcd) = try await Self.scene(
        world, shape.scheme, nodes: shape.nodes, coordinators: shape.coordinators)
      var random = world.random(named: "founding")
      for name in names { try await cluster.startCoordinator(name) }
      for index in 0..<shape.nodes - 1 { try await cluster.startNode(index) }
      await world.sleep(.seconds(Int64(5 + random.below(30))))
      #expect(etcd.content.values["cairn/root"] == nil)
      #expect(cluster.leaders.isEmpty)
      let waiting = try #require(await client.statuses(cluster).first)
      #expect(waiting.detail.contains("\(shape.nodes - 1) of \(shape.nodes)"), "\(waiting.detail)")

      try await cluster.startNode(shape.nodes - 1)
      // Whoever is at it dies at any moment of it.
      for _ in 0..<4 {
        await world.sleep(.milliseconds(Int64(random.below(1500))))
        let victim = names[random.below(names.count)]
        cluster.killCoordinator(victim, power: random.chance(1, in: 2))
        try await cluster.startCoordinator(victim)
      }
      let leader = try await cluster.waitForAnyLeader(client)
      #expect(try await client.execute(.createBucket(name: "first")) == .done)
      for name in names { cluster.killCoordinator(name) }
      for name in names.reversed() { try await cluster.startCoordinator(name) }
      let next = try await cluster.waitForAnyLeader(client)
      #expect(next.clusterID == leader.clusterID && next.epoch > leader.epoch)
      #expect(try await client.buckets() == ["first"])
      await world.sleep(.seconds(3))
      #expect(Set(cluster.disks.map(\.clusterID)) == [leader.clusterID])
    }
  }

  @Test("a standby takes over from one that dies within five seconds, and says before who leads")
  func standby() throws {
    try SimulatedWorld.run(seed: 2) { world in
      let (cluster, client, names, _) = try await Self.scene(
        world, "2+1", nodes: 4, coordinators: 3)
      try await Self.startAll(cluster, names)
      for round in 0..<6 {
        let leader = try await cluster.waitForAnyLeader(client)
        await world.sleep(.seconds(2))
        for status in await client.statuses(cluster) where status.name != leader.name {
          #expect(status.role == "standby" && status.detail.contains("\(leader.name) at"))
        }
        #expect(try await client.execute(.createBucket(name: "bucket-\(round)")) == .done)
        cluster.killCoordinator(leader.name, power: round % 2 == 0)
        let died = world.now
        let next = try await cluster.waitForAnyLeader(client, within: .seconds(5))
        #expect(next.name != leader.name && next.epoch > leader.epoch)
        #expect(world.now - died < .seconds(5))
        #expect(try await client.buckets().count == round + 1)
        try await cluster.startCoordinator(leader.name)
      }
      #expect(cluster.wrong.isEmpty)
    }
  }

  @Test("who is stopped in order hands over at once")
  func stop() throws {
    try SimulatedWorld.run(seed: 3) { world in
      let (cluster, client, names, _) = try await Self.scene(
        world, "2+1", nodes: 3, coordinators: 2)
      try await Self.startAll(cluster, names)
      let leader = try await cluster.waitForAnyLeader(client)
      await cluster.coordinators[leader.name]?.stop()
      let stopped = world.now
      cluster.killCoordinator(leader.name)
      _ = try await cluster.waitForAnyLeader(client, within: .seconds(5))
      #expect(world.now - stopped < .milliseconds(800), "\(world.now - stopped)")
    }
  }

  @Test("a leader that is cut off from the nodes gives the lead to one that is not")
  func cutOff() throws {
    try SimulatedWorld.run(seed: 4) { world in
      let (cluster, client, names, _) = try await Self.scene(
        world, "2+1", nodes: 3, coordinators: 2)
      try await Self.startAll(cluster, names)
      let leader = try await cluster.waitForAnyLeader(client)
      #expect(try await client.execute(.createBucket(name: "before")) == .done)
      for index in 0..<3 { world.network.cut(leader.name, "n\(index)") }
      #expect(try await client.execute(.createBucket(name: "after")) == .done)
      let next = try await cluster.waitForAnyLeader(client)
      #expect(next.name != leader.name)
      world.network.healAll()
      await world.sleep(.seconds(20))
      #expect(cluster.leaders == [next.name])
      #expect(try await client.buckets() == ["after", "before"])
    }
  }

  @Test(
    "without etcd the leader goes on for its lease, then says why not; with it again all goes on")
  func etcdGone() throws {
    try SimulatedWorld.run(seed: 5) { world in
      let (cluster, client, names, etcd) = try await Self.scene(
        world, "2+1", nodes: 3, coordinators: 2)
      try await Self.startAll(cluster, names)
      let leader = try await cluster.waitForAnyLeader(client)
      #expect(try await client.execute(.createBucket(name: "before")) == .done)
      etcd.kill()
      await world.sleep(.seconds(1))
      #expect(cluster.leaders == [leader.name])
      #expect(try await client.execute(.createBucket(name: "during")) == .done)
      await world.sleep(.seconds(60))
      #expect(cluster.leaders.isEmpty)
      let statuses = await client.statuses(cluster)
      #expect(statuses.count == 2)
      for status in statuses {
        #expect(status.detail.contains("etcd cannot be asked"), "\(status.detail)")
      }
      let refusal = await #expect(throws: WireError.self) {
        try await client.wire.call(
          ListBuckets(level: .strong), at: cluster.coordinatorAddresses[0], deadline: .seconds(2))
      }
      #expect("\(refusal!)".contains("etcd cannot be asked"))
      try await etcd.start()
      let back = world.now
      let next = try await cluster.waitForAnyLeader(client, within: .seconds(5))
      #expect(next.epoch > leader.epoch && world.now - back < .seconds(5))
      #expect(try await client.buckets() == ["before", "during"])
    }
  }

  @Test(
    "an etcd that was emptied or set back is rebuilt from the nodes, whether somebody leads or not",
    arguments: paired([true, false]))
  func lostEtcd(isLed: Bool, seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let (cluster, client, names, etcd) = try await Self.scene(
        world, "2+1", nodes: 4, coordinators: 2)
      cluster.configure = { $0.linkStripeLimit = 4 }
      try await Self.startAll(cluster, names)
      let ledger = Ledger()
      ChaosTests.watch(world, cluster, ledger)
      var leader = try await cluster.waitForAnyLeader(client)
      let clusterID = leader.clusterID
      var old = etcd.content
      var made = 0
      func write() async throws {
        made += 1
        let outcome = try await client.execute(.createBucket(name: "bucket-\(made)"))
        #expect(outcome == .done)
      }
      for round in 0..<6 {
        for _ in 0..<6 { try await write() }
        if !isLed { for name in names { cluster.killCoordinator(name) } }
        let before = etcd.content
        switch round % 3 {
        case 0: etcd.content = EtcdModel.Content()
        case 1: etcd.content.values["cairn/root"] = nil
        default: etcd.content = old
        }
        old = before
        if !isLed { for name in names { try await cluster.startCoordinator(name) } }
        for _ in 0..<6 { try await write() }
        leader = try await cluster.waitForAnyLeader(client)
        #expect(leader.clusterID == clusterID)
        #expect(try await client.buckets().count == made)
      }
      #expect(ledger.wrong.isEmpty && cluster.wrong.isEmpty, "\(ledger.wrong) \(cluster.wrong)")
      #expect(Set(cluster.disks.map(\.clusterID)) == [clusterID])
    }
  }

  @Test("two clusters that were given one prefix: the second ends and says what to do")
  func foreignKey() throws {
    try SimulatedWorld.run(seed: 6) { world in
      let (cluster, client, names, _) = try await Self.scene(
        world, "1+0", nodes: 1, coordinators: 1)
      try await Self.startAll(cluster, names)
      let leader = try await cluster.waitForAnyLeader(client)
      cluster.configure = { $0.key = ClusterKey(secret: [UInt8](repeating: 9, count: 32)) }
      let stranger = try await cluster.startCoordinator("stranger")
      guard case .failed(let why) = await stranger.waitForEnd() else {
        throw TestFailure("not refused")
      }
      #expect(why.contains("prefix of its own") && why.contains(leader.name), "\(why)")
      #expect(cluster.leaders == names)
    }
  }

  @Test("nodes of another cluster under the same key do not get this one's root")
  func foreignNodes() throws {
    try SimulatedWorld.run(seed: 7) { world in
      let (cluster, client, names, etcd) = try await Self.scene(
        world, "1+0", nodes: 1, coordinators: 1)
      try await Self.startAll(cluster, names)
      _ = try await cluster.waitForAnyLeader(client)
      cluster.killCoordinator(names[0])
      cluster.killNode(0)
      let root = etcd.content.values["cairn/root"]?.bytes
      cluster.replaceDisk(0)
      cluster.disks[0].clusterID = 77
      try await cluster.startNode(0)
      try await cluster.startCoordinator(names[0])
      await world.sleep(.seconds(15))
      let status = try #require(await cluster.status(names[0], from: client))
      #expect(status.detail.contains("prefix of its own"), "\(status.detail)")
      #expect(cluster.leaders.isEmpty && etcd.content.values["cairn/root"]?.bytes == root)
    }
  }

  @Test(
    "users and passwords: right ones lead, also after the tokens were forgotten, wrong ones are told"
  )
  func authentication() throws {
    try SimulatedWorld.run(seed: 8) { world in
      let (cluster, client, names, etcd) = try await Self.scene(
        world, "1+0", nodes: 1, coordinators: 1)
      etcd.user = ("cairn", "secret")
      try await Self.startAll(cluster, names)
      await world.sleep(.seconds(10))
      #expect(cluster.leaders.isEmpty)
      var status = try #require(await cluster.status(names[0], from: client))
      #expect(status.detail.contains("invalid auth token"), "\(status.detail)")
      cluster.killCoordinator(names[0])
      cluster.etcdUser = ("cairn", "secret")
      try await cluster.startCoordinator(names[0])
      let leader = try await cluster.waitForAnyLeader(client)
      // Its tokens are gone after a restart.
      etcd.kill()
      try await etcd.start()
      await world.sleep(.seconds(20))
      status = try await cluster.waitForAnyLeader(client)
      #expect(status.epoch == leader.epoch)
    }
  }

  @Test(
    "nothing acknowledged is lost and at no moment two lead, whatever becomes of etcd, the way to it, and the coordinators",
    arguments: paired([("1+1", 3, 3), ("2+1", 4, 2), ("3+2", 6, 3)]))
  func chaos(shape: (scheme: String, nodes: Int, coordinators: Int), seed: Seed) throws {
    let m = Scheme(shape.scheme)!.m
    let acknowledged = try SimulatedWorld.run(seed: seed.value) { world -> Int in
      let (cluster, client, names, etcd) = try await Self.scene(
        world, shape.scheme, nodes: shape.nodes, coordinators: shape.coordinators)
      cluster.configure = {
        $0.linkStripeLimit = 20
        $0.checkpointLinkCount = 4
        $0.logWindow = 4
      }
      var random = world.random(named: "chaos")
      // A third of what the margin covers each way.
      for name in names { cluster.drift[name] = random.below(60_000) - 30_000 }
      let ledger = Ledger()
      ChaosTests.watch(world, cluster, ledger)
      try await Self.startAll(cluster, names)
      for index in 0..<3 { ChaosTests.work(world, cluster, ledger, index) }
      var dead: [Int] = []
      var old = etcd.content
      for _ in 0..<20 {
        await world.sleep(.milliseconds(Int64(random.below(4000))))
        // Mostly the one who leads: the others have little to lose.
        let name =
          random.chance(1, in: 4)
          ? names[random.below(names.count)] : cluster.leaders.first ?? names[0]
        let nap = Duration.milliseconds(Int64(random.below(9000)))
        switch random.below(16) {
        case 0:
          if dead.count < m, let victim = cluster.nodes.indices.randomElement(using: &random),
            !dead.contains(victim)
          {
            cluster.killNode(victim)
            dead.append(victim)
          }
        case 1, 2:
          if !dead.isEmpty {
            try await cluster.startNode(dead.remove(at: random.below(dead.count)))
          }
        case 3:
          world.network.cut(name, "etcd", oneWay: random.chance(1, in: 2))
          await world.sleep(nap)
          world.network.healAll()
        case 4:
          for index in 0..<shape.nodes where random.chance(2, in: 3) {
            world.network.cut(name, "n\(index)")
          }
          await world.sleep(nap)
          world.network.healAll()
        case 5, 6:
          let process = world.living(name)
          process?.pause()
          await world.sleep(nap)
          process?.resume()
        case 7:
          etcd.kill()
          await world.sleep(nap)
          try await etcd.start()
        case 8:
          let process = world.living("etcd")
          process?.pause()
          await world.sleep(nap)
          process?.resume()
        case 9: etcd.lossPercent = UInt64(random.below(40))
        case 10: etcd.slowness = .milliseconds(Int64(random.below(1000)))
        case 11:
          etcd.lossPercent = 0
          etcd.slowness = .zero
        case 12:
          let before = etcd.content
          etcd.content = random.chance(1, in: 2) ? old : EtcdModel.Content()
          old = before
        default:
          cluster.killCoordinator(name, power: random.chance(1, in: 2))
          if random.chance(1, in: 3) { try await cluster.wipeCoordinator(name) }
          await world.sleep(nap / 4)
          try await cluster.startCoordinator(name)
        }
      }
      etcd.lossPercent = 0
      etcd.slowness = .zero
      for index in dead { try await cluster.startNode(index) }
      var leader = try await cluster.waitForAnyLeader(client)
      await world.sleep(.seconds(2))
      ledger.isOver = true
      while ledger.running > 0 { await world.sleep(.milliseconds(100)) }
      leader = try await cluster.waitForAnyLeader(client)
      try await ChaosTests.check(cluster, ledger, client, leader.name)
      // What the nodes alone say is the same.
      for name in names {
        cluster.killCoordinator(name)
        try await cluster.wipeCoordinator(name)
      }
      etcd.content = EtcdModel.Content()
      for name in names { try await cluster.startCoordinator(name) }
      client.addresses = cluster.coordinatorAddresses
      leader = try await cluster.waitForAnyLeader(client)
      try await ChaosTests.check(cluster, ledger, client, leader.name)
      return ledger.acknowledged.count
    }
    #expect(acknowledged > 5)
  }
}
