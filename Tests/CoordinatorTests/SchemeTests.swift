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

@Suite("Changing the scheme of a cluster that serves")
struct SchemeTests {
  @Test("a larger m is in effect once all of the log has as many copies, and survives the leader")
  func widerLog() throws {
    try SimulatedWorld.run(seed: 3) { world in
      let (cluster, client, first) = try await DutyTests.scene(world, "2+1", 6)
      try await DutyTests.write(client, "before", 5)
      await #expect(throws: (any Error).self) {
        _ = try await client.ask(ChangeScheme(scheme: Scheme("5+2")!), within: .seconds(5))
      }
      let wanted = Scheme("3+3")!
      var answer = try await client.ask(ChangeScheme(scheme: wanted))
      #expect(answer.scheme == Scheme("2+1")! && answer.logCopies == 2)
      let begun = world.now
      while answer.scheme != wanted, world.now - begun < .seconds(60) {
        await world.sleep(.seconds(1))
        answer = try await client.ask(ChangeScheme(scheme: wanted))
      }
      #expect(answer.scheme == wanted && answer.logCopies == 4)
      let root = try #require(first.arbiter.root)
      #expect(root.links.allSatisfy { $0.scheme.width == 4 })
      #expect(root.checkpoint?.containers.allSatisfy { $0.scheme.width == 4 } == true)

      cluster.killCoordinator()
      try await cluster.wipeCoordinator()
      // One more than before may be gone.
      cluster.killNode(0)
      cluster.killNode(1)
      _ = try await cluster.startCoordinator()
      _ = try await cluster.waitForLeader(client)
      #expect(try await client.buckets().count == 5)
      #expect(try await client.ask(ChangeScheme(scheme: nil)).scheme == wanted)
      // The copies stay when less is to survive.
      for index in 0..<2 { try await cluster.startNode(index) }
      #expect(try await client.ask(ChangeScheme(scheme: Scheme("4+1")!)).scheme == Scheme("4+1")!)
      #expect(try await client.ask(ChangeScheme(scheme: nil)).logCopies == 4)
    }
  }
}
