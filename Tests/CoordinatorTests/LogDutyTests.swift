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

@Suite("What a leader does for the log")
struct LogDutyTests {
  @Test("links that are in no chain any more are deleted, and those of the chain are kept")
  func oldLinks() throws {
    try SimulatedWorld.run(seed: 4) { world in
      var (cluster, client, server) = try await DutyTests.scene(world, "2+1", 4) {
        $0.linkStripeLimit = 5
      }
      for round in 0..<4 {
        try await DutyTests.write(client, "r\(round)", 8)
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

  @Test("a damaged state is rebuilt from the log, and so is one that is ahead of it")
  func damagedState() throws {
    try SimulatedWorld.run(seed: 6) { world in
      let (cluster, client, _) = try await DutyTests.scene(world, "1+1", 2)
      try await DutyTests.write(client, "a", 5)
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
      let (cluster, client, first) = try await DutyTests.scene(world, "2+1", 4) {
        $0.linkStripeLimit = 6
        $0.checkpointLinkCount = 5
      }
      var server = first
      for round in 0..<3 {
        try await DutyTests.write(client, "r\(round)", 40)
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
        try await DutyTests.write(client, "more\(round)", 1)
        _ = try await client.execute(.removeBucket(name: "more\(round)-0"))
      }
    }
  }

  @Test("what a checkpoint has just made superfluous, and is still there, is no disagreement")
  func checkBehindCheckpoint() throws {
    try SimulatedWorld.run(seed: 12) { world in
      let (cluster, client, server) = try await DutyTests.scene(world, "2+1", 4) {
        $0.linkStripeLimit = 6
        $0.checkpointLinkCount = 5
      }
      try await DutyTests.write(client, "some", 40)
      var metOldLinks = 0
      for _ in 0..<250 {
        let root = try #require(server.arbiter.root)
        let named = Set(root.logContainers.map(\.container))
        let isOld =
          root.checkpoint != nil
          && cluster.disks.flatMap(\.shards).contains {
            $0.container.kind != .data && !named.contains($0.container)
          }
        if isOld { metOldLinks += 1 }
        #expect(try await DutyTests.check(world, client, repairs: false) == [])
        await world.sleep(.milliseconds(50))
      }
      #expect(metOldLinks > 0)
    }
  }

  @Test("devices that keep little for the log never fill up with it: checkpoints let it go in time")
  func shortOfRoom() throws {
    try SimulatedWorld.run(seed: 12) { world in
      let (cluster, client, server) = try await DutyTests.scene(world, "2+1", 3)
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
      let (cluster, client, _) = try await DutyTests.scene(world, "2+1", 3)
      for disk in cluster.disks { disk.logLimit = 1 << 20 }
      try await DutyTests.write(client, "bucket", 1)
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
}
