import Cluster
import Ring
import Simulation
import TestSupport
import Testing

@testable import ShardStore

struct FenceDeleteTests {
  @Test(
    "a fence's listing holds every lower-epoch write that was or will be acknowledged",
    arguments: Seed.several)
  func fences(seed: Seed) throws {
    try withDevice(seed: seed.value) { world, process in
      var random = seed.generator
      let store = try await StoreScene.open(process)
      let link = shard(4, .link)
      for epoch in 1..<20 as Range<UInt64> {
        let delays = (0..<6).map { _ in Int64.random(in: 0..<400, using: &random) }
        let fenceDelay = Int64.random(in: 0..<400, using: &random)
        let (acknowledged, listed) = await withTaskGroup(
          of: (UInt64?, Set<UInt64>?).self, returning: (Set<UInt64>, Set<UInt64>?).self
        ) { group in
          for (index, delay) in delays.enumerated() {
            group.addTask {
              await world.sleep(.microseconds(delay))
              let stripe = epoch * 100 + UInt64(index)
              let sample = Sample(
                key(4, stripe, .link), units: 1, epoch: epoch, acknowledged: stripe, fill: stripe)
              do throws(StoreError) {
                try await sample.write(to: store)
                return (stripe, nil)
              } catch {
                #expect(error == .staleEpoch(highest: epoch + 1))
                return (nil, nil)
              }
            }
          }
          group.addTask {
            await world.sleep(.microseconds(fenceDelay))
            let blocks = try? await store.fence(link, epoch: epoch + 1)
            return (nil, blocks.map { Set($0.map(\.stripe)) })
          }
          var acknowledged: Set<UInt64> = []
          var listed: Set<UInt64>?
          for await (stripe, blocks) in group {
            if let stripe { acknowledged.insert(stripe) }
            if let blocks { listed = blocks }
          }
          return (acknowledged, listed)
        }
        let all = try #require(listed)
        #expect(acknowledged.isSubset(of: all))
        #expect(Set(try await store.list(link).map(\.stripe)) == all)
        await expect(.staleEpoch(highest: epoch + 1)) { () throws(StoreError) in
          _ = try await store.fence(link, epoch: epoch)
        }
        await expect(.staleEpoch(highest: epoch + 1)) { () throws(StoreError) in
          try await store.delete([link], epoch: epoch)
        }
      }
      await store.close()
    }
  }

  @Test("data is not bound by leaders' epochs; raising one holds across a restart")
  func raising() throws {
    try withDevice { world, process in
      let store = try await StoreScene.open(process)
      try await store.raise(epoch: 9)
      try await store.raise(epoch: 3)
      try await Sample(key(1, 1), units: 1, epoch: 1, fill: 1).write(to: store)
      process.kill()
      let again = try await StoreScene.open(world.process("node"))
      #expect(again.highestEpoch == 9)
      await expect(.staleEpoch(highest: 9)) { () throws(StoreError) in
        try await Sample(key(1, 1, .link), units: 1, epoch: 8, fill: 1).write(to: again)
      }
      try await Sample(key(1, 1, .checkpoint), units: 1, epoch: 9, fill: 1).write(to: again)
      await again.close()
    }
  }

  @Test("a shard made again after its deletion stays, whatever is replayed")
  func madeAgain() throws {
    try withDevice { world, process in
      var process = process
      var store = try await StoreScene.open(process)
      for generation in 0..<4 as Range<UInt64> {
        let samples = (0..<5 as Range<UInt64>).map {
          Sample(key(1, $0), units: 2, fill: generation << 8 | $0)
        }
        for sample in samples { try await sample.write(to: store) }
        for losesIndex in [false, true] {
          process.kill()
          if losesIndex {
            for file in try world.disk("node").files(under: "/device/index") {
              try world.disk("node").erase(file)
            }
          }
          process = world.process("node")
          store = try await StoreScene.open(process)
          for sample in samples { #expect(try await sample.isIn(store)) }
        }
        try await store.delete(stripes: [0, 2, 77], of: shard(1), epoch: 0)
        #expect(try await store.list(shard(1)).map(\.stripe) == [1, 3, 4])
        try await store.delete([shard(1), shard(2)], epoch: 0)
        #expect(try await store.list(shard(1)).isEmpty)
      }
      await store.close()
    }
  }

  @Test("deleting returns the space, and volumes that are mostly dead go away")
  func space() throws {
    try withDevice { world, process in
      let settings = StoreScene.settings { $0.indexEntryLimit = 100 }
      var store = try await StoreScene.open(process, settings)
      let keeper = Sample(key(1_000_000, 0), units: 3, fill: 5)
      try await keeper.write(to: store)
      for number in 0..<60 as Range<UInt64> {
        for stripe in 0..<10 as Range<UInt64> {
          try await Sample(key(number, stripe), units: 5, fill: stripe).write(to: store)
        }
        try await store.delete([shard(number)], epoch: 0)
      }
      while store.backgroundTasks > 0 { await world.sleep(.milliseconds(1)) }
      let usage = await store.usage()
      #expect(usage.blockCount == 1)
      // 14 MiB went through.
      #expect(usage.occupiedByteCount < 600 << 10, "\(usage.occupiedByteCount)")
      #expect(world.disk("node").usedByteCount < 1200 << 10, "\(world.disk("node").usedByteCount)")
      #expect(try world.disk("node").files(under: "/device/volumes").count <= 4)
      #expect(try await keeper.isIn(store))
      process.kill()
      for file in try world.disk("node").files(under: "/device/index") {
        try world.disk("node").erase(file)
      }
      store = try await StoreScene.open(world.process("node"), settings)
      #expect(try await keeper.isIn(store))
      #expect(await store.usage().blockCount == 1)
      await store.close()
    }
  }

  @Test("a write that lands after the process died and another took over stays void")
  func lateWrite() throws {
    try withDevice { world, process in
      let disk = world.disk("node")
      var store = try await StoreScene.open(process)
      let first = Sample(key(1, 0), units: 1, fill: 1)
      let late = Sample(key(1, 1), units: 1, fill: 2)
      try await first.write(to: store)
      let before = disk.image()
      try await late.write(to: store)
      let volume = try #require(try disk.files(under: "/device/volumes").first)
      let landed = try disk.contents(volume)
      process.kill()
      disk.load(before)
      store = try await StoreScene.open(world.process("node"))
      #expect(try await store.fence(shard(1), epoch: 1).map(\.stripe) == [0])
      let other = Sample(key(1, 1), units: 1, fill: 3)
      for losesIndex in [false, true] {
        try disk.overwrite(volume, at: 0, with: landed)
        world.living("node")!.kill()
        if losesIndex {
          for file in try disk.files(under: "/device/index") { try disk.erase(file) }
        }
        store = try await StoreScene.open(world.process("node"))
        #expect(try await first.isIn(store))
        if losesIndex {
          #expect(try await other.isIn(store))
        } else {
          #expect(try await store.list(shard(1)).map(\.stripe) == [0])
          try await other.write(to: store)
        }
      }
      await store.close()
    }
  }
}
