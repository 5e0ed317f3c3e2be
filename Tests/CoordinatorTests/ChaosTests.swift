import Cluster
import Coding
import Messages
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import Coordinator

/// What clients were told, compared with what the cluster has in the end.
final class Ledger: @unchecked Sendable {
  // Loop-confined.
  var asked: Set<String> = []
  var acknowledged: Set<String> = []
  /// The last one acknowledged to anybody.
  var latest = ""
  var wrong: [String] = []
  var isOver = false
  var running = 0
}

@Suite("Under faults")
struct ChaosTests {
  /// Writes names, one after the other; after each, a strong read must show what was acknowledged last to anybody.
  static func work(_ world: SimulatedWorld, _ cluster: ModelCluster, _ ledger: Ledger, _ index: Int)
  {
    ledger.running += 1
    let client = ModelClient(
      world, "client\(index)", addresses: cluster.coordinatorAddresses)
    client.driver.spawn("work") {
      var count = 0
      while !ledger.isOver {
        count += 1
        let name = "client\(index)-\(count)"
        ledger.asked.insert(name)
        do {
          let outcome = try await client.execute(.createBucket(name: name))
          if outcome == .done {
            ledger.acknowledged.insert(name)
            ledger.latest = name
          } else {
            ledger.wrong.append("\(name): \(outcome)")
          }
          let before = ledger.latest
          if !before.isEmpty, try await !client.hasBucket(before) {
            ledger.wrong.append("a read missed \(before)")
          }
        } catch let error as WireError {
          // A session that expired in a long outage: its last command's outcome is unknown.
          if error.refusalCode == .noSuchSession || error.refusalCode == .outcomeUnknown {
            client.forgetSession()
          } else {
            ledger.wrong.append("\(name): \(error)")
          }
        } catch {
          // Nobody answered for two minutes: the faults may be that bad.
        }
        await client.driver.sleep(.milliseconds(Int64(client.driver.random() % 1000)))
      }
      ledger.running -= 1
    }
  }

  /// Watches that at no moment two coordinators would answer.
  static func watch(_ world: SimulatedWorld, _ cluster: ModelCluster, _ ledger: Ledger) {
    world.harness.spawn("watch") {
      while !ledger.isOver {
        let leaders = cluster.leaders
        if leaders.count > 1 { ledger.wrong.append("\(leaders) lead at \(world.now)") }
        guard await world.harness.sleep(.milliseconds(17)) else { return }
      }
    }
  }

  static func check(
    _ cluster: ModelCluster, _ ledger: Ledger, _ client: ModelClient, _ leader: String
  )
    async throws
  {
    client.addresses = [SocketAddress(host: leader, port: 7400)]
    let there = Set(try await client.buckets())
    #expect(ledger.acknowledged.subtracting(there).isEmpty, "acknowledged and lost")
    #expect(there.subtracting(ledger.asked).isEmpty, "never asked for")
    #expect(ledger.wrong.isEmpty, "\(ledger.wrong.prefix(5))")
    #expect(cluster.wrong.isEmpty, "\(cluster.wrong.prefix(5))")
  }

  @Test(
    "nothing acknowledged is lost and nothing is applied in two ways, whatever dies when",
    arguments: paired([("1+1", 3), ("2+1", 4), ("2+2", 5), ("1+0", 2)]))
  func crashes(shape: (scheme: String, nodes: Int), seed: Seed) throws {
    let m = Scheme(shape.scheme)!.m
    let acknowledged = try SimulatedWorld.run(seed: seed.value) { world -> Int in
      let cluster = ModelCluster(world, scheme: shape.scheme, nodes: shape.nodes)
      cluster.configure = {
        $0.linkStripeLimit = 20
        $0.checkpointLinkCount = 4
        $0.logWindow = 4
      }
      let ledger = Ledger()
      let client = ModelClient(world, addresses: cluster.coordinatorAddresses)
      try await cluster.startNodes()
      try await cluster.startCoordinator()
      _ = try await cluster.waitForLeader(client)
      for index in 0..<3 { Self.work(world, cluster, ledger, index) }
      Self.watch(world, cluster, ledger)

      var random = world.random(named: "chaos")
      var dead: [Int] = []
      for _ in 0..<12 {
        await world.sleep(.milliseconds(Int64(random.below(4000))))
        switch random.below(10) {
        case 0..<3:
          if dead.count < m {
            let victim = random.below(shape.nodes)
            if !dead.contains(victim) {
              cluster.killNode(victim)
              dead.append(victim)
            }
          }
        case 3..<6:
          if !dead.isEmpty {
            try await cluster.startNode(dead.remove(at: random.below(dead.count)))
          }
        case 6:
          let node = "n\(random.below(shape.nodes))"
          world.network.cut("c1", node)
          await world.sleep(.milliseconds(Int64(random.below(5000))))
          world.network.healAll()
        case 7:
          let process = world.living("c1")
          process?.pause()
          await world.sleep(.milliseconds(Int64(random.below(6000))))
          process?.resume()
        default:
          switch random.below(3) {
          case 0: cluster.killCoordinator()
          case 1: cluster.killCoordinator(power: true)
          default:
            cluster.killCoordinator()
            try await cluster.wipeCoordinator()
          }
          try await cluster.startCoordinator()
        }
      }
      for index in dead { try await cluster.startNode(index) }
      _ = try await cluster.waitForLeader(client)
      await world.sleep(.seconds(2))
      ledger.isOver = true
      while ledger.running > 0 { await world.sleep(.milliseconds(100)) }
      try await Self.check(cluster, ledger, client, "c1")
      // What the nodes alone say is the same.
      cluster.killCoordinator()
      try await cluster.wipeCoordinator()
      try await cluster.startCoordinator()
      _ = try await cluster.waitForLeader(client)
      try await Self.check(cluster, ledger, client, "c1")
      return ledger.acknowledged.count
    }
    #expect(acknowledged > 20)
  }

  @Test(
    "two coordinators on one cluster never both lead",
    arguments: paired([("1+1", 2), ("2+1", 3), ("3+2", 6)]))
  func two(shape: (scheme: String, nodes: Int), seed: Seed) throws {
    let acknowledged = try SimulatedWorld.run(seed: seed.value) { world -> Int in
      let cluster = ModelCluster(world, scheme: shape.scheme, nodes: shape.nodes)
      cluster.coordinatorAddresses = ["c1", "c2"].map { SocketAddress(host: $0, port: 7400) }
      var random = world.random(named: "chaos")
      cluster.drift = ["c1": random.below(400) - 200, "c2": random.below(400) - 200]
      let ledger = Ledger()
      let client = ModelClient(world, addresses: cluster.coordinatorAddresses)
      Self.watch(world, cluster, ledger)
      try await cluster.startNodes()
      try await cluster.startCoordinator("c1")
      if random.chance(1, in: 2) { await world.sleep(.seconds(5)) }
      try await cluster.startCoordinator("c2")
      for index in 0..<2 { Self.work(world, cluster, ledger, index) }
      for _ in 0..<10 {
        await world.sleep(.milliseconds(Int64(random.below(8000))))
        let one = random.chance(1, in: 2) ? "c1" : "c2"
        switch random.below(5) {
        case 0:
          for index in 0..<shape.nodes where random.chance(1, in: 2) {
            world.network.cut(one, "n\(index)")
          }
          await world.sleep(.milliseconds(Int64(random.below(9000))))
          world.network.healAll()
        case 1, 2:
          let process = world.living(one)
          process?.pause()
          await world.sleep(.milliseconds(Int64(random.below(9000))))
          process?.resume()
        case 3:
          cluster.killCoordinator(one, power: random.chance(1, in: 2))
          try await cluster.startCoordinator(one)
        default: break
        }
      }
      cluster.killCoordinator("c2")
      _ = try await cluster.waitForLeader(client, within: .seconds(120))
      await world.sleep(.seconds(2))
      ledger.isOver = true
      while ledger.running > 0 { await world.sleep(.milliseconds(100)) }
      try await Self.check(cluster, ledger, client, "c1")
      return ledger.acknowledged.count
    }
    #expect(acknowledged > 5)
  }
}
