import Cluster
import Coding
import Messages
import Ring
import Service
import ShardStore
import Simulation
import TestSupport
import Testing
import Wire

@testable import Node

struct StorageNodeTests {
  @Test("blocks written through the wire are read back, in whole and in part")
  func writeAndRead() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let node = try await NodeScene.start(world.process("n1"))
      let client = NodeScene.client(world)
      let device = node.devices[1]
      let sample = BlockSample(stripe: 3, units: 5)
      try await client.write(sample, to: device)
      try await client.write(sample, to: device)
      #expect(try await client.has(sample, on: device))
      let (answer, body, sums) = try await client.call(
        ReadBlock(device: device, key: sample.block.key, offset: 8192, byteCount: 4096),
        at: NodeScene.address, deadline: .seconds(1))
      #expect(answer.checksums.values == [sample.checksums.values[2]])
      #expect(sums == answer.checksums.values)
      #expect(body.flatMap(\.array) == Array(sample.bytes[8192..<12288]))

      let listing = try await client.ask(ListShard(device: device, shard: sample.block.key.shard))
      #expect(
        listing.blocks == [
          ShardListing.Entry(stripe: 3, layout: sample.block.layout, acknowledged: 0)
        ])
      let inventory = try await client.ask(Inventory(device: device, after: nil))
      #expect(inventory.isComplete)
      #expect(inventory.shards.map(\.storedByteCount) == [6 * 4096])
      #expect(
        await refusal { () throws(WireError) in
          _ = try await client.has(sample, on: node.devices[0])
        } == .noSuchBlock)
      await client.close()
      await node.stop()
    }
  }

  @Test("what a grant or an epoch does not cover is refused")
  func rights() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let node = try await NodeScene.start(world.process("n1"))
      let client = NodeScene.client(world)
      let (one, two) = (node.devices[0], node.devices[1])
      let sample = BlockSample(stripe: 3)
      var forged = sample.grant([one, two])
      forged.grant.endStripe += 1
      let cases: [(WriteRight, BlockSample, DeviceID)] = [
        (.grant(forged), sample, one),
        (.grant(sample.grant([two, one])), sample, one),
        (.grant(sample.grant([one, two], stripes: 0..<3)), sample, one),
        (.grant(sample.grant([one, two], stripes: 4..<9)), sample, one),
        (.grant(BlockSample(container: 6, stripe: 3).grant([one, two])), sample, one),
        (.leader(epoch: 1), sample, one),
        (.grant(sample.grant([one, two])), BlockSample(.link, stripe: 3), one),
        (.leader(epoch: 2), BlockSample(.link, stripe: 3, epoch: 1), one),
      ]
      for (right, sample, device) in cases {
        #expect(
          await refusal { () throws(WireError) in
            try await client.write(sample, to: device, right: right)
          } == .badGrant)
      }
      #expect(
        await refusal { () throws(WireError) in
          try await client.write(sample, to: DeviceID(1))
        } == .noSuchDevice)
      for _ in 0..<3 {
        try await client.write(
          sample, to: two,
          right: .grant(
            BlockSample(stripe: 0, shardIndex: 1).grant([two, one])))
      }
      #expect(try await client.has(sample, on: two))
      await client.close()
      await node.stop()
    }
  }

  @Test("malformed, unknown and senseless requests are refused, and the node goes on")
  func malformed() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let node = try await NodeScene.start(world.process("n1"))
      let client = NodeScene.client(world)
      let device = node.devices[0]
      func code(_ method: UInt16, _ message: [UInt8], _ body: [Slice] = []) async -> RefusalCode? {
        await refusal { () throws(WireError) in
          _ = try await client.call(
            NodeScene.address, method: method, Packet(message: message, body: body),
            deadline: .seconds(1))
        }
      }
      #expect(await code(1, []) == .unknownMethod)
      for method in 256...263 as ClosedRange<UInt16> {
        #expect(await code(method, []) == .malformed)
        #expect(await code(method, [UInt8](repeating: 0xFF, count: 300)) == .malformed)
      }
      let sample = BlockSample(stripe: 1)
      #expect(await code(WriteBlock.method, sample.write(device).encoded) == .malformed)
      var short = sample.write(device)
      short.checksums.values.removeLast()
      #expect(
        await code(WriteBlock.method, short.encoded, [Slice(copying: sample.bytes)]) == .malformed)
      var wrong = sample.bytes
      wrong[77] ^= 4
      #expect(
        await code(WriteBlock.method, sample.write(device).encoded, [Slice(copying: wrong)])
          == .corrupt)
      try await client.write(sample, to: device)
      for (offset, count) in [(1, 0), (0, 100), (0, 1 << 20), (8192, 4096), (0, Int(UInt32.max))] {
        let read = ReadBlock(
          device: device, key: sample.block.key, offset: offset, byteCount: count)
        #expect(await code(ReadBlock.method, read.encoded) == .invalidRange)
      }
      #expect(try await client.has(sample, on: device))
      await client.close()
      await node.stop()
    }
  }

  @Test("a fence on one device keeps lower epochs off all devices, also after a restart")
  func fences() throws {
    try SimulatedWorld.run(seed: 1) { world in
      var node = try await NodeScene.start(world.process("n1"))
      var client = NodeScene.client(world)
      let (one, two) = (node.devices[0], node.devices[1])
      let first = BlockSample(.link, stripe: 0, epoch: 4)
      try await client.write(first, to: one)
      let listing = try await client.ask(
        FenceShard(device: one, shard: first.block.key.shard, epoch: 9))
      #expect(listing.blocks.map(\.stripe) == [0])
      for _ in 0..<2 {
        for device in [one, two] {
          #expect(
            await refusal { () throws(WireError) in
              try await client.write(BlockSample(.link, stripe: 1, epoch: 8), to: device)
            } == .staleEpoch)
          #expect(
            await refusal { () throws(WireError) in
              _ = try await client.ask(
                DeleteShards(device: device, epoch: 8, shards: [first.block.key.shard]))
            } == .staleEpoch)
          #expect(
            await refusal { () throws(WireError) in
              _ = try await client.ask(
                FenceShard(device: device, shard: first.block.key.shard, epoch: 8))
            } == .staleEpoch)
        }
        #expect(
          await refusal { () throws(WireError) in
            _ = try await client.ask(
              HoldLease(
                clusterID: 0, epoch: 8, leaseMilliseconds: 1, holder: "old", rootVersion: 9,
                root: [1]))
          } == .staleEpoch)
        world.living("n1")!.kill()
        node = try await NodeScene.start(world.process("n1"))
        await client.close()
        client = NodeScene.client(world)
      }
      try await client.write(BlockSample(.link, stripe: 1, epoch: 9), to: two)
      _ = try await client.ask(
        DeleteShards(device: one, epoch: 9, shards: [first.block.key.shard]))
      await client.close()
      await node.stop()
    }
  }

  @Test("the newest root and the highest epoch outlive the node, and the loss of any copy")
  func lease() throws {
    try SimulatedWorld.run(seed: 1) { world in
      var node = try await NodeScene.start(world.process("n1"))
      var client = NodeScene.client(world)
      func hold(_ epoch: UInt64, _ version: UInt64, _ root: [UInt8]) async throws
        -> HoldLease.Answer
      {
        try await client.ask(
          HoldLease(
            clusterID: 42, epoch: epoch, leaseMilliseconds: 1000, holder: "c1",
            rootVersion: version, root: root))
      }
      #expect(try await hold(3, 0, []).rootVersion == 0)
      #expect(try await hold(3, 5, [5, 5]).root == [5, 5])
      #expect(try await hold(4, 4, [4]).root == [5, 5])
      for lost in ["/data/lease", "/data/device-1/lease", "/data/device-2/lease"] {
        world.living("n1")!.kill()
        try world.disk("n1").flipBit(lost, bit: 200)
        node = try await NodeScene.start(world.process("n1"))
        #expect(node.highestEpoch == 4)
        #expect(node.cluster == 42)
        await client.close()
        client = NodeScene.client(world)
        #expect(
          await refusal { () throws(WireError) in
            _ = try await client.ask(
              HoldLease(
                clusterID: 42, epoch: 3, leaseMilliseconds: 1, holder: "", rootVersion: 0, root: [])
            )
          } == .staleEpoch)
        #expect(
          await refusal { () throws(WireError) in
            _ = try await client.ask(
              HoldLease(
                clusterID: 43, epoch: 9, leaseMilliseconds: 1, holder: "", rootVersion: 0, root: [])
            )
          } == .failed)
        let answer = try await hold(4, 0, [])
        #expect(answer.rootVersion == 5 && answer.root == [5, 5] && answer.highestEpoch == 4)
        #expect(try await hold(4, 6, [6]).rootVersion == 6)
        #expect(try await hold(4, 5, [5]).root == [6])
        // Back to what the next round expects.
        for path in ["/data/lease", "/data/device-1/lease", "/data/device-2/lease"] {
          var record = LeaseRecord(node: node.node!)
          record.epoch = 4
          record.rootVersion = 5
          record.root = [5, 5]
          try world.disk("n1").truncate(path, to: 0)
          try world.disk("n1").overwrite(path, at: 0, with: record.encoded)
        }
      }
      world.living("n1")!.kill()
      await client.close()
    }
  }

  @Test(
    "a copy of the lease's record that cannot be read is told of, not taken for one that was never made"
  )
  func unreadableLease() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("n1")
      var record = LeaseRecord(node: NodeID(1))
      record.epoch = 7
      for folder in ["/a", "/b"] {
        try await process.makeDirectories(folder)
        try await process.replaceFile(folder + "/lease", with: record.encoded)
      }
      world.disk("n1").faults = { $0.path == "/a/lease" ? .fail(5) : .none }
      let (keeper, damaged) = await LeaseKeeper.open(
        ["/a", "/b", "/c"], node: NodeID(1), on: process)
      #expect(damaged == ["/a/lease"])
      #expect(keeper.record.epoch == 7)
    }
  }

  @Test(
    "a node that is cut short while it joins a cluster keeps the root if it joined",
    arguments: Seed.several)
  func joining(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = world.random(named: "cut")
      let root: [UInt8] = [1, 2, 3]
      var joined = 0
      let trials = 60
      for trial in 0..<trials {
        _ = try await NodeScene.start(world.process("n1"))
        let client = NodeScene.client(world)
        let call = HoldLease(
          clusterID: 42, epoch: 3, leaseMilliseconds: 1000, holder: "c1", rootVersion: 2,
          root: root)
        async let answer = try? client.ask(call)
        let bound = [500, 2000, 8000, 30_000][random.below(4)]
        await world.sleep(.microseconds(Int64(random.below(bound))))
        let process = try #require(world.living("n1"))
        if trial.isMultiple(of: 2) { process.machine.powerCut() } else { process.kill() }
        let isAnswered = await answer != nil
        await client.close()
        var node = try await NodeScene.start(world.process("n1"))
        #expect(node.cluster == 0 || node.lease?.record.root == root)
        #expect(!isAnswered || node.cluster == 42)
        if node.cluster == 42 { joined += 1 }

        // What is answered now has to be durable, even if the process before had all but synced it.
        let again = NodeScene.client(world)
        #expect(try await again.ask(call).clusterID == 42)
        await again.close()
        world.living("n1")!.machine.powerCut()
        node = try await NodeScene.start(world.process("n1"))
        #expect(node.cluster == 42 && node.highestEpoch == 3 && node.lease?.record.root == root)
        world.living("n1")!.kill()
        world.disk("n1").wipe()
      }
      #expect(joined > 0 && joined < trials, "the cuts hit what they are for")
    }
  }

  @Test(
    "a node that belongs to no cluster may keep the root of one; one that does belongs to that for good"
  )
  func founding() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let node = try await NodeScene.start(world.process("n1"))
      let client = NodeScene.client(world)
      func hold(_ cluster: UInt64, _ epoch: UInt64, _ version: UInt64, _ root: [UInt8])
        async throws(WireError) -> HoldLease.Answer
      {
        try await client.ask(
          HoldLease(
            clusterID: cluster, epoch: epoch, leaseMilliseconds: 1000, holder: "c1",
            rootVersion: version, root: root))
      }
      let kept = try await hold(0, 3, 2, [2])
      #expect(kept.clusterID == 0 && kept.root == [2] && node.cluster == 0)
      // Another founder, whose root takes the place of the first one's.
      #expect(try await hold(0, 5, 3, [3]).root == [3])
      #expect(
        await refusal { () throws(WireError) in _ = try await hold(41, 3, 2, [2]) } == .staleEpoch)
      #expect(node.cluster == 0)
      let joined = try await hold(42, 5, 3, [3])
      #expect(joined.clusterID == 42 && joined.root == [3] && node.cluster == 42)
      // A founder who had not heard of it.
      #expect(
        await refusal { () throws(WireError) in _ = try await hold(0, 6, 9, [9]) } == .failed)
      let claimed = try await hold(0, 6, 0, [])
      #expect(claimed.clusterID == 42 && claimed.root == [3] && claimed.highestEpoch == 6)
      await client.close()
      await node.stop()
    }
  }

  @Test("a node says hello every second, learns its cluster, and then belongs to no other")
  func hello() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let coordinator = FakeCoordinator(cluster: 0)
      try await coordinator.start(world.process("c1"))
      let node = try await NodeScene.start(world.process("n1"))
      await world.sleep(.milliseconds(3500))
      #expect((3...5).contains(coordinator.hellos.count))
      let hello = try #require(coordinator.hellos.last)
      #expect(hello.clusterID == 0 && hello.node == node.node && hello.name == "n1")
      #expect(hello.host == "n1" && hello.port == 7101 && hello.domain == ["rack1"])
      #expect(hello.devices.map(\.id) == node.devices)
      #expect(hello.devices.allSatisfy { $0.tier == "nvme" && !$0.isFailed && $0.free > 60 << 20 })
      coordinator.cluster = 77
      await world.sleep(.seconds(2))
      #expect(node.cluster == 77)
      #expect(coordinator.hellos.last?.clusterID == 77)
      #expect(node.devices.allSatisfy { node.store(of: $0)?.cluster == 77 })
      coordinator.cluster = 78
      await world.sleep(.seconds(2))
      #expect(node.cluster == 77)
      await node.stop()

      let again = try await NodeScene.start(
        world.process("n2", .init(machine: world.machine("n1"))))
      #expect(again.cluster == 77)
      await again.stop()
      await coordinator.server?.stop()
    }
  }

  @Test("directories of another node, cluster, format or process are refused and left alone")
  func foreignDirectories() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("n1")
      let first = try await NodeScene.start(process)
      let elsewhere = NodeScene.configuration { $0.listen.port = 7102 }
      let other = world.process("other", .init(machine: world.machine("n1")))
      #expect(try await NodeScene.refusal(other, elsewhere) == .inUse(path: "/data"))
      let stealing = NodeScene.configuration {
        $0.directory = "/data2"
        $0.listen.port = 7102
      }
      guard case .foreign = try await NodeScene.refusal(other, stealing) else {
        Issue.record("took another node's device")
        return
      }
      try await first.join(5)
      await first.stop()
      guard
        case .foreign(let text) = try await NodeScene.refusal(
          other, NodeScene.configuration { $0.name = "n9" })
      else {
        Issue.record("took another node's directory")
        return
      }
      #expect(text == "/data belongs to node n1, not n9")
      // A device of another cluster.
      _ = try await ShardStore.format(
        "/alien", node: first.node ?? NodeID(0), cluster: 6, on: other)
      let image = world.disk("n1").image()
      let mixed = NodeScene.configuration {
        $0.devices[1].path = "/alien"
      }
      guard case .foreign = try await NodeScene.refusal(other, mixed) else {
        Issue.record("took another cluster's device")
        return
      }
      // A later format, of the node or of a device.
      for (path, version) in [("/data/identity", 8), ("/data/device-2/identity", 8)] {
        other.kill()
        process.kill()
        world.disk("n1").load(image)
        let process = world.process("n1")
        var bytes = try world.disk("n1").contents(path)
        bytes[version] = 2
        resign(&bytes)
        try world.disk("n1").overwrite(path, at: 0, with: bytes)
        guard case .newerFormat(_, 2) = try await NodeScene.refusal(process) else {
          Issue.record("opened a newer format")
          return
        }
        process.kill()
        bytes[20] ^= 1
        try world.disk("n1").overwrite(path, at: 0, with: bytes)
        if path == "/data/identity" {
          #expect(
            try await NodeScene.refusal(world.process("n1")) == .identityDamaged(path: path))
        } else {
          // The other device serves.
          let node = try await NodeScene.start(world.process("n1"))
          #expect(node.devices.count == 1)
        }
        world.living("n1")!.kill()
      }
    }
  }

  @Test(
    "whatever the node acknowledged is there after kills and power cuts", arguments: Seed.several)
  func crashes(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      let ledger = Acknowledged()
      for _ in 0..<5 {
        let node = try await NodeScene.start(world.process("n1"))
        let client = NodeScene.client(world)
        for (sample, device) in ledger.blocks {
          #expect(try await client.has(sample, on: device))
        }
        let devices = node.devices
        let life = Duration.milliseconds(Int64.random(in: 1...15, using: &random))
        let isPowerCut = Bool.random(using: &random)
        await withTaskGroup { group in
          for worker in 0..<8 as Range<UInt64> {
            group.addTask {
              while true {
                ledger.next += 1
                let sample = BlockSample(
                  container: worker, stripe: ledger.next, units: Int(ledger.next % 7 + 1))
                let device = devices[Int(ledger.next % 2)]
                do throws(WireError) {
                  try await client.write(sample, to: device)
                  ledger.blocks.append((sample, device))
                } catch {
                  break
                }
              }
            }
          }
          group.addTask {
            await world.sleep(life)
            if isPowerCut { world.machine("n1").powerCut() } else { world.living("n1")!.kill() }
          }
        }
        await client.close()
      }
      #expect(ledger.blocks.count > 50)
    }
  }
}

private final class Acknowledged: @unchecked Sendable {
  // Loop-confined.
  var blocks: [(BlockSample, DeviceID)] = []
  var next: UInt64 = 0
}

/// Puts the right checksum at the end of a file that ends in one.
func resign(_ bytes: inout [UInt8]) {
  let sum = CRC32C.checksum(Array(bytes.dropLast(4)))
  for index in 0..<4 {
    bytes[bytes.count - 4 + index] = UInt8(truncatingIfNeeded: sum >> (8 * index))
  }
}
