import Cluster
import Coding
import Coordinator
import Messages
import Simulation
import TestSupport
import Testing

@Suite("A coordinator and its nodes")
struct FoundingTests {
  @Test(
    "a cluster is founded when its nodes have said hello, and keeps what it answered",
    arguments: paired([("1+0", 1), ("1+1", 2), ("2+1", 3), ("6+3", 9)]))
  func founding(shape: (scheme: String, nodes: Int), seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let cluster = ModelCluster(world, scheme: shape.scheme, nodes: shape.nodes)
      let client = ModelClient(world, addresses: cluster.coordinatorAddresses)
      try await cluster.startCoordinator()
      for index in 0..<shape.nodes - 1 { try await cluster.startNode(index) }
      await world.sleep(.seconds(10))
      let waiting = try #require(await cluster.status(from: client))
      #expect(waiting.role == "waiting" && waiting.clusterID == 0)
      #expect(waiting.detail.contains("\(shape.nodes - 1) of \(shape.nodes)"), "\(waiting.detail)")

      try await cluster.startNode(shape.nodes - 1)
      let status = try await cluster.waitForLeader(client, within: .seconds(10))
      #expect(status.clusterID != 0)
      #expect(try await client.execute(.createBucket(name: "first")) == .done)
      #expect(try await client.buckets() == ["first"])

      // A clean stop, a kill, a power cut, and a directory that is gone.
      for round in 0..<4 {
        switch round {
        case 0: await cluster.coordinators["c1"]?.stop()
        case 1: cluster.killCoordinator()
        case 2: cluster.killCoordinator(power: true)
        default:
          cluster.killCoordinator()
          try await cluster.wipeCoordinator()
        }
        cluster.killCoordinator()
        try await cluster.startCoordinator()
        let again = try await cluster.waitForLeader(client, within: .seconds(20))
        #expect(again.clusterID == status.clusterID)
        #expect(again.epoch > status.epoch)
        #expect(try await client.execute(.createBucket(name: "more-\(round)")) == .done)
        let wanted = ["first"] + (0...round).map { "more-\($0)" }
        #expect(try await client.buckets() == wanted)
      }
    }
  }

  @Test("a node of another cluster draws no new ones into it, and stops nobody once it is replaced")
  func stranger() throws {
    try SimulatedWorld.run(seed: 3) { world in
      let cluster = ModelCluster(world, scheme: "2+1", nodes: 3)
      let client = ModelClient(world, addresses: cluster.coordinatorAddresses)
      cluster.disks[1].clusterID = 77
      try await cluster.startNodes()
      try await cluster.startCoordinator()
      await world.sleep(.seconds(15))
      let waiting = try #require(await cluster.status(from: client))
      #expect(waiting.role == "waiting" && waiting.detail.contains("no node has shown the root"))
      #expect(cluster.disks.map(\.clusterID) == [0, 77, 0])

      cluster.killNode(1)
      cluster.replaceDisk(1)
      try await cluster.startNode(1)
      let status = try await cluster.waitForLeader(client, within: .seconds(20))
      #expect(cluster.disks.allSatisfy { $0.clusterID == status.clusterID })
    }
  }
}
