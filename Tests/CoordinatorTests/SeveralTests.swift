import Cluster
import Coding
import Messages
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import Coordinator

@Suite("Several coordinators")
struct SeveralTests {
  static func scene(
    _ world: SimulatedWorld, _ scheme: String, nodes: Int, coordinators: Int
  ) -> (ModelCluster, ModelClient, [String]) {
    let cluster = ModelCluster(world, scheme: scheme, nodes: nodes)
    let names = (1...coordinators).map { "c\($0)" }
    cluster.coordinatorAddresses = names.map { SocketAddress(host: $0, port: 7400) }
    cluster.register = LeaseRegister(world)
    return (cluster, ModelClient(world, addresses: cluster.coordinatorAddresses), names)
  }

  @Test("who leads at once after its start says only later that there are too few nodes")
  func unheard() throws {
    try SimulatedWorld.run(seed: 50035) { world in
      let (cluster, client, names) = Self.scene(world, "2+1", nodes: 3, coordinators: 1)
      for index in 0..<3 { try await cluster.startNode(index) }
      try await cluster.startCoordinator(names[0])
      _ = try await cluster.waitForAnyLeader(client)
      guard case .number(let upload) = try await client.execute(.openUpload) else {
        throw TestFailure("no upload")
      }
      cluster.killCoordinator(names[0])
      await world.sleep(.seconds(20))
      try await cluster.startCoordinator(names[0])
      let outcome = try await client.execute(
        .requestGrant(upload: upload, avoid: [], placement: nil))
      guard case .grant = outcome else { throw TestFailure("\(outcome)") }
    }
  }

  @Test(
    "a cluster is founded once, when enough nodes have said hello, whoever wins the lease",
    arguments: paired([("1+1", 2, 3), ("2+1", 3, 2), ("6+3", 9, 3)]))
  func founding(shape: (scheme: String, nodes: Int, coordinators: Int), seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let (cluster, client, names) = Self.scene(
        world, shape.scheme, nodes: shape.nodes, coordinators: shape.coordinators)
      var random = world.random(named: "founding")
      for name in names { try await cluster.startCoordinator(name) }
      for index in 0..<shape.nodes - 1 { try await cluster.startNode(index) }
      await world.sleep(.seconds(Int64(5 + random.below(30))))
      #expect(cluster.register?.root == nil)
      #expect(cluster.leaders.isEmpty)
      let waiting = try #require(await client.statuses(cluster).first { $0.role == "starting" })
      #expect(waiting.detail.contains("\(shape.nodes - 1) of \(shape.nodes)"), "\(waiting.detail)")

      try await cluster.startNode(shape.nodes - 1)
      // Whoever is at it dies at any moment of it.
      for _ in 0..<3 {
        await world.sleep(.milliseconds(Int64(random.below(1500))))
        let holder = cluster.register?.holder ?? "c1"
        cluster.killCoordinator(holder, power: random.chance(1, in: 2))
        try await cluster.startCoordinator(holder)
      }
      let leader = try await cluster.waitForAnyLeader(client)
      #expect(try await client.execute(.createBucket(name: "first")) == .done)
      for name in names where name != leader.name { cluster.killCoordinator(name) }
      cluster.killCoordinator(leader.name)
      for name in names.reversed() { try await cluster.startCoordinator(name) }
      let next = try await cluster.waitForAnyLeader(client)
      #expect(next.clusterID == leader.clusterID && next.epoch > leader.epoch)
      #expect(try await client.buckets() == ["first"])
      await world.sleep(.seconds(3))
      #expect(Set(cluster.disks.map(\.clusterID)) == [leader.clusterID])
    }
  }

  @Test("nodes that belong to a cluster are not made into another one")
  func lostRoot() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let (cluster, client, names) = Self.scene(world, "2+1", nodes: 3, coordinators: 2)
      try await cluster.startNodes()
      for name in names { try await cluster.startCoordinator(name) }
      _ = try await cluster.waitForAnyLeader(client)
      await world.sleep(.seconds(3))
      for name in names { cluster.killCoordinator(name) }
      cluster.register = LeaseRegister(world)
      for name in names { try await cluster.startCoordinator(name) }
      await world.sleep(.seconds(30))
      #expect(cluster.register?.root == nil)
      let details = await client.statuses(cluster).map(\.detail)
      #expect(details.contains { $0.contains("belongs to a cluster") }, "\(details)")
    }
  }

  @Test("a standby takes over from one that dies, and goes on from the state it has")
  func standby() throws {
    try SimulatedWorld.run(seed: 2) { world in
      let (cluster, client, names) = Self.scene(world, "2+1", nodes: 4, coordinators: 2)
      try await cluster.startNodes()
      for name in names { try await cluster.startCoordinator(name) }
      var made = 0
      for _ in 0..<6 {
        let leader = try await cluster.waitForAnyLeader(client)
        for _ in 0..<5 {
          made += 1
          let outcome = try await client.execute(.createBucket(name: "bucket-\(made)"))
          #expect(outcome == .done, "\(made)")
        }
        cluster.killCoordinator(leader.name, power: made % 2 == 0)
        let next = try await cluster.waitForAnyLeader(client, within: .seconds(10))
        #expect(next.name != leader.name && next.epoch > leader.epoch)
        #expect(try await client.buckets().count == made)
        try await cluster.startCoordinator(leader.name)
      }
      // Nobody began anew.
      #expect(cluster.storages.values.allSatisfy { $0.discards == 0 })
      #expect(cluster.wrong.isEmpty)
    }
  }

  @Test("a leader that is cut off from the nodes gives the lead to one that is not")
  func cutOff() throws {
    try SimulatedWorld.run(seed: 3) { world in
      let (cluster, client, names) = Self.scene(world, "2+1", nodes: 3, coordinators: 2)
      try await cluster.startNodes()
      for name in names { try await cluster.startCoordinator(name) }
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
    "nothing acknowledged is lost and at no moment two lead, whoever dies, stands still or is cut off",
    arguments: paired([("1+1", 3, 3), ("2+1", 4, 2), ("3+2", 6, 3)]))
  func chaos(shape: (scheme: String, nodes: Int, coordinators: Int), seed: Seed) throws {
    let m = Scheme(shape.scheme)!.m
    let acknowledged = try SimulatedWorld.run(seed: seed.value) { world -> Int in
      let (cluster, client, names) = Self.scene(
        world, shape.scheme, nodes: shape.nodes, coordinators: shape.coordinators)
      cluster.configure = {
        $0.linkStripeLimit = 20
        $0.checkpointLinkCount = 4
        $0.logWindow = 4
      }
      var random = world.random(named: "chaos")
      for name in names { cluster.drift[name] = random.below(400) - 200 }
      let register = try #require(cluster.register)
      let ledger = Ledger()
      ChaosTests.watch(world, cluster, ledger)
      try await cluster.startNodes()
      for name in names { try await cluster.startCoordinator(name) }
      for index in 0..<3 { ChaosTests.work(world, cluster, ledger, index) }
      var dead: [Int] = []
      for _ in 0..<16 {
        await world.sleep(.milliseconds(Int64(random.below(4000))))
        // Mostly the one who leads: the others have little to lose.
        let name =
          random.chance(1, in: 4)
          ? names[random.below(names.count)] : cluster.leaders.first ?? names[0]
        let nap = Duration.milliseconds(Int64(random.below(9000)))
        switch random.below(10) {
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
          register.cutOff.insert(name)
          await world.sleep(nap)
          register.cutOff.remove(name)
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
        default:
          cluster.killCoordinator(name, power: random.chance(1, in: 2))
          if random.chance(1, in: 3) { try await cluster.wipeCoordinator(name) }
          await world.sleep(nap / 4)
          try await cluster.startCoordinator(name)
        }
      }
      for index in dead { try await cluster.startNode(index) }
      var leader = try await cluster.waitForAnyLeader(client)
      await world.sleep(.seconds(2))
      ledger.isOver = true
      while ledger.running > 0 { await world.sleep(.milliseconds(100)) }
      leader = try await cluster.waitForAnyLeader(client)
      try await ChaosTests.check(cluster, ledger, client, leader.name)
      // What the nodes and the root alone say is the same.
      for name in names {
        cluster.killCoordinator(name)
        try await cluster.wipeCoordinator(name)
      }
      for name in names { try await cluster.startCoordinator(name) }
      client.addresses = cluster.coordinatorAddresses
      leader = try await cluster.waitForAnyLeader(client)
      try await ChaosTests.check(cluster, ledger, client, leader.name)
      return ledger.acknowledged.count
    }
    #expect(acknowledged > 5)
  }
}

extension ModelClient {
  /// Of all coordinators that answer.
  func statuses(_ cluster: ModelCluster) async -> [GetStatus.Answer] {
    var answers: [GetStatus.Answer] = []
    for address in cluster.coordinatorAddresses {
      if let status = await cluster.status(address.host, from: self) { answers.append(status) }
    }
    return answers
  }
}
