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

@Suite("Standbys")
struct StandbyTests {
  /// Buckets that one coordinator shows.
  static func buckets(
    _ client: ModelClient, _ address: SocketAddress, _ level: ReadLevel
  ) async -> Result<[String], WireError> {
    do throws(WireError) {
      return .success(
        try await client.wire.call(ListBuckets(level: level), at: address, deadline: .seconds(5))
          .answer.buckets.map(\.name))
    } catch {
      return .failure(error)
    }
  }

  /// Makes a bucket; returns the position after which it is seen.
  static func make(
    _ client: ModelClient, _ name: String, _ sequence: inout UInt64, _ session: UInt64
  )
    async throws -> UInt64
  {
    sequence += 1
    let answer = try await client.ask(
      Execute(
        session: session, sequence: sequence, lowestUnanswered: sequence,
        command: .createBucket(name: name)))
    #expect(answer.outcome == .done)
    return answer.position
  }

  @Test(
    "a standby answers reads of one's own writes and stale ones, never strong ones, also after its disk was wiped",
    arguments: Seed.several)
  func reads(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let (cluster, client, names, _) = try await EtcdArbiterTests.scene(
        world, "2+1", nodes: 4, coordinators: 3)
      cluster.configure = {
        $0.linkStripeLimit = 12
        $0.checkpointLinkCount = 3
      }
      try await EtcdArbiterTests.startAll(cluster, names)
      var random = world.random(named: "reads")
      let leader = try await cluster.waitForAnyLeader(client)
      let session = try await client.ask(OpenSession(client: "test")).session
      var sequence: UInt64 = 0
      var made: Set<String> = []
      var settled = world.now + .seconds(5)
      let standbys = cluster.coordinatorAddresses.filter { $0.host != leader.name }
      for round in 0..<60 {
        let name = "bucket-\(round)"
        await world.sleep(.milliseconds(Int64(random.below(800))))
        let position = try await Self.make(client, name, &sequence, session)
        made.insert(name)
        let standby = standbys[random.below(2)]
        switch await Self.buckets(client, standby, .position(position)) {
        case .success(let found): #expect(Set(found) == made)
        case .failure(let error):
          // Only one that was started a moment ago may not have it yet.
          #expect(world.now < settled, "\(error) in round \(round)")
        }
        if case .success(let found) = await Self.buckets(client, standby, .eventual) {
          #expect(Set(found).isSubset(of: made))
        }
        let strong = await Self.buckets(client, standby, .strong)
        #expect(throws: WireError.self) { try strong.get() }
        if round % 20 == 19 {
          cluster.killCoordinator(standby.host, power: random.chance(1, in: 2))
          if round > 20 { try await cluster.wipeCoordinator(standby.host) }
          try await cluster.startCoordinator(standby.host)
          settled = world.now + .seconds(5)
        }
      }
      #expect(cluster.leaders == [leader.name])
      // Nothing of what was followed has to be thrown away.
      cluster.killCoordinator(leader.name)
      let next = try await cluster.waitForAnyLeader(client)
      #expect(Set(try await client.buckets()) == made)
      #expect(cluster.storages[next.name]?.discards ?? 0 <= 1)
      #expect(cluster.wrong.isEmpty, "\(cluster.wrong.prefix(3))")
    }
  }

  @Test("a position that nobody has acknowledged is not waited for without end")
  func future() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let (cluster, client, names, _) = try await EtcdArbiterTests.scene(
        world, "1+0", nodes: 1, coordinators: 2)
      try await EtcdArbiterTests.startAll(cluster, names)
      let leader = try await cluster.waitForAnyLeader(client)
      await world.sleep(.seconds(1))
      for address in cluster.coordinatorAddresses {
        let asked = world.now
        let answer = await Self.buckets(client, address, .position(1_000_000))
        let error = #expect(throws: WireError.self) { try answer.get() }
        #expect(error?.refusalCode == .unavailable, "\(address.host) \(leader.name)")
        #expect(world.now - asked < .seconds(3))
      }
    }
  }

  @Test("a restore that was given up does not keep the state from being opened")
  func givenUp() async {
    await withTemporaryFolder { folder in
      let error = await onLoop { driver -> String? in
        let keeper = StateKeeper(driver: driver, storage: RocksStorage(), dataDirectory: folder)
        do {
          try await keeper.open(7)
          try await keeper.beginRestore(position: 5)
          try await keeper.open(7)
          let position = keeper.appliedPosition
          await keeper.close()
          return position == 0 ? nil : "at \(position)"
        } catch {
          return "\(error)"
        }
      }
      #expect(error == nil)
    }
  }
}
