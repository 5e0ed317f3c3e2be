import Cluster
import Ring
import Simulation
import TestSupport
import Testing

@testable import ShardStore

struct FailureTests {
  @Test(
    "a directory that is gone, or another, takes no more writes, though files are still open",
    arguments: ["gone", "replaced", "stays"])
  func directoryLost(how: String) throws {
    try withDevice { world, process in
      let store = try await StoreScene.open(process)
      let sample = Sample(key(1, 0), units: 2, fill: 1)
      try await sample.write(to: store)
      await store.checkPath()
      #expect(store.state == .healthy)
      if how != "stays" { try await process.rename("/device", to: "/elsewhere") }
      if how == "replaced" {
        try await StoreScene.format(process)
        let other = try await StoreScene.open(process)
        await other.close()
      }
      await store.checkPath()
      let next = Sample(key(1, 1), units: 1, fill: 2)
      if how == "stays" {
        try await next.write(to: store)
      } else {
        guard case .retired(let reason) = store.state else {
          Issue.record("the device goes on")
          return
        }
        await expect(.deviceFailed(reason)) { () throws(StoreError) in
          try await next.write(to: store)
        }
        #expect(store.retiredForGood == nil)
        // What is there is still served, and nothing is written where somebody else may be now.
        #expect(try await sample.isIn(store))
      }
      await store.close()
      #expect(!(await process.exists("/device/retired")))
      if how == "gone" {
        try await process.rename("/elsewhere", to: "/device")
        let again = try await StoreScene.open(process)
        #expect(again.state == .healthy)
        #expect(try await sample.isIn(again))
        await again.close()
      }
    }
  }

  @Test(
    "after a failed write or sync nothing is acknowledged any more, and what was is still read",
    arguments: [DiskAccess.Kind.write, .synchronize], Seed.several)
  func retirement(kind: DiskAccess.Kind, seed: Seed) throws {
    try withDevice(seed: seed.value) { world, process in
      var random = seed.generator
      let store = try await StoreScene.open(process)
      let log = Acknowledged()
      let healthy = Int.random(in: 0..<60, using: &random)
      let counter = Acknowledged()
      process.machine.disk.faults = { access in
        guard access.kind == kind, access.path.contains("volumes/") else { return .none }
        counter.count += 1
        return counter.count > healthy ? .fail(5) : .none
      }
      await withTaskGroup { group in
        for worker in 0..<5 as Range<UInt64> {
          group.addTask {
            for stripe in 0..<60 as Range<UInt64> {
              let sample = Sample(key(worker, stripe), units: 2, fill: worker << 8 | stripe)
              do throws(StoreError) {
                try await sample.write(to: store)
                #expect(store.state == .healthy)
                log.samples.append(sample)
              } catch {
                guard case .deviceFailed = error else {
                  Issue.record("\(error)")
                  return
                }
                #expect(store.state != .healthy)
              }
            }
          }
        }
      }
      guard case .retired = store.state else {
        Issue.record("still healthy")
        return
      }
      process.machine.disk.faults = nil
      let refused = Sample(key(9, 9), units: 1, fill: 1)
      for _ in 0..<2 {
        do throws(StoreError) {
          try await refused.write(to: store)
          Issue.record("a retired device took a block")
        } catch {
          guard case .deviceFailed = error else {
            Issue.record("\(error)")
            return
          }
        }
      }
      do throws(StoreError) {
        _ = try await store.fence(shard(1), epoch: 5)
        Issue.record("a retired device was fenced")
      } catch {
        guard case .deviceFailed = error else {
          Issue.record("\(error)")
          return
        }
      }
      for sample in log.samples { #expect(try await sample.isIn(store)) }
      let usage = await store.usage()
      #expect(usage.freeByteCount == 0)
      await store.close()

      let again = try await StoreScene.open(process)
      guard case .retired = again.state else {
        Issue.record("healthy again")
        return
      }
      for sample in log.samples { #expect(try await sample.isIn(again)) }
      await again.close()
    }
  }

  private final class Acknowledged: @unchecked Sendable {
    // Loop-confined.
    var samples: [Sample] = []
    var count = 0
  }

  @Test("a block that cannot be read is corrupt, is told about, and may be written anew")
  func unreadable() throws {
    try withDevice { world, process in
      var store = try await StoreScene.open(process)
      let sample = Sample(key(1, 0), units: 4, fill: 1)
      let other = Sample(key(1, 1), units: 4, fill: 2)
      try await sample.write(to: store)
      try await other.write(to: store)
      let volume = try #require(try world.disk("node").files(under: "/device/volumes").first)
      try world.disk("node").makeUnreadable(volume, 4096 + 2 * 4096..<4096 + 3 * 4096)
      await expectCorrupt { () throws(StoreError) in _ = try await sample.isIn(store) }
      #expect(store.corruptReadCount == 1)
      // The rest of it is still good.
      let part = try await store.read(sample.block.key, offset: 8192, byteCount: 8192)
      #expect(part.bytes.array == Array(sample.bytes[8192...]))
      #expect(try await other.isIn(store))
      await expect(.blockExists) { () throws(StoreError) in
        try await Sample(other.block.key, units: 4, fill: 3).write(to: store)
      }
      try await sample.write(to: store)
      #expect(try await sample.isIn(store))
      #expect(try await store.list(shard(1)).count == 2)
      #expect(await store.usage().blockCount == 2)
      for _ in 0..<2 {
        await store.close()
        store = try await StoreScene.open(process)
        #expect(try await sample.isIn(store))
        #expect(try await other.isIn(store))
        for file in try world.disk("node").files(under: "/device/index") {
          try world.disk("node").erase(file)
        }
      }
      await store.close()
    }
  }

  @Test("an index that rots while it is used retires the device until it is opened again")
  func indexRot() throws {
    try withDevice { world, process in
      let samples = (0..<200 as Range<UInt64>).map { Sample(key(1, $0), units: 1, fill: $0) }
      var store = try await StoreScene.open(process)
      for sample in samples { try await sample.write(to: store) }
      await store.close()
      store = try await StoreScene.open(process)
      for file in try world.disk("node").files(under: "/device/index")
      where file.contains("run-") {
        for page in 0..<3 { try world.disk("node").flipBit(file, bit: (page * 4096 + 999) * 8) }
      }
      do throws(StoreError) {
        _ = try await samples[0].isIn(store)
        Issue.record("read through a damaged index")
      } catch {
        guard case .deviceFailed = error else {
          Issue.record("\(error)")
          return
        }
      }
      #expect(store.state != .healthy)
      await store.close()
      store = try await StoreScene.open(process)
      #expect(store.state == .healthy)
      for sample in samples { #expect(try await sample.isIn(store)) }
      await store.close()
    }
  }

  @Test(
    "of a device whose sync failed and that could not note it, what a restart shows is really there",
    arguments: Seed.several)
  func failedSyncAndRestart(seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<10 {
      let healthy = Int.random(in: 0..<30, using: &random)
      try withDevice(seed: random.next()) { world, process in
        let disk = world.disk("node")
        let store = try await StoreScene.open(process)
        let counter = Acknowledged()
        disk.faults = { access in
          if access.path.contains("/retired") { return .fail(5) }
          guard access.kind == .synchronize, access.path.contains("volumes/") else {
            return .none
          }
          counter.count += 1
          return counter.count > healthy ? .fail(5) : .none
        }
        let written = Acknowledged()
        await withTaskGroup { group in
          for worker in 0..<4 as Range<UInt64> {
            group.addTask {
              for stripe in 0..<60 as Range<UInt64> {
                let sample = Sample(key(worker, stripe), units: 2, fill: worker << 8 | stripe)
                written.samples.append(sample)
                do throws(StoreError) { try await sample.write(to: store) } catch { break }
              }
            }
          }
        }
        #expect(store.retiredForGood != nil)
        process.kill()
        disk.faults = nil

        let again = try await StoreScene.open(world.process("node"))
        #expect(again.state == .healthy)
        var served: [Sample] = []
        for sample in written.samples {
          do throws(StoreError) {
            #expect(try await sample.isIn(again))
            served.append(sample)
          } catch {
            #expect(error == .noSuchBlock)
          }
        }
        world.machine("node").powerCut()
        let last = try await StoreScene.open(world.process("node"))
        for sample in served {
          do throws(StoreError) { #expect(try await sample.isIn(last)) } catch {
            Issue.record("\(sample.block.key) was shown: \(error)")
          }
        }
        await last.close()
      }
    }
  }

  @Test(
    "a device on a read-only file system is read and takes nothing; it is healthy again afterwards",
    arguments: [true, false])
  func readOnly(isClosed: Bool) throws {
    try withDevice { world, process in
      let disk = world.disk("node")
      let samples = (0..<20 as Range<UInt64>).map { Sample(key(1, $0), units: 2, fill: $0) }
      var store = try await StoreScene.open(process)
      for sample in samples { try await sample.write(to: store) }
      if isClosed { await store.close() }
      process.kill()

      disk.isReadOnly = true
      store = try await StoreScene.open(world.process("node"))
      #expect(store.state == .retired(reason: "the file system is read-only"))
      #expect(store.retiredForGood == nil)
      #expect(await store.usage().freeByteCount == 0)
      for sample in samples { #expect(try await sample.isIn(store)) }
      await expect(.deviceFailed("the file system is read-only")) { () throws(StoreError) in
        try await Sample(key(2, 0), units: 1, fill: 1).write(to: store)
      }
      await expect(.deviceFailed("the file system is read-only")) { () throws(StoreError) in
        try await store.delete([shard(1)], epoch: 0)
      }
      await store.close()

      disk.isReadOnly = false
      store = try await StoreScene.open(world.living("node")!)
      #expect(store.state == .healthy)
      for sample in samples { #expect(try await sample.isIn(store)) }
      try await Sample(key(2, 0), units: 1, fill: 1).write(to: store)
      await store.close()
    }
  }

  @Test("a device said to be retired, or whose note of it cannot be read, takes nothing")
  func knownRetirement() throws {
    try withDevice { world, process in
      let sample = Sample(key(1, 0), units: 1, fill: 1)
      var store = try await StoreScene.open(process)
      try await sample.write(to: store)
      await store.close()
      for isKnown in [true, false] {
        world.disk("node").faults = { access in
          access.path.hasSuffix("/retired") && !isKnown ? .fail(5) : .none
        }
        store = try await ShardStore.open(
          StoreScene.path, node: StoreScene.node, cluster: StoreScene.cluster,
          settings: StoreScene.settings(), retired: isKnown ? "it failed" : nil, on: process)
        #expect(store.state != .healthy)
        #expect(try await sample.isIn(store))
        await store.close()
      }
    }
  }

  @Test("a full device refuses data before a byte is written; links, fences and deletes go on")
  func full() throws {
    try withDevice { world, process in
      let settings = StoreScene.settings {
        $0.capacity = 4 << 20
        $0.reserveByteCount = 1 << 20
      }
      var store = try await StoreScene.open(process, settings)
      var stripe: UInt64 = 0
      var error: StoreError?
      while error == nil {
        do throws(StoreError) {
          try await Sample(key(stripe % 5, stripe), units: 7, fill: stripe).write(to: store)
          stripe += 1
        } catch let full {
          error = full
        }
      }
      #expect(error == .deviceFull)
      #expect(await store.usage().freeByteCount < 8 * 4096)
      #expect(stripe * 8 * 4096 > 2_700_000)
      let writes = Writes()
      process.machine.disk.faults = { access in
        if access.kind == .write { writes.count += 1 }
        return .none
      }
      await expect(.deviceFull) { () throws(StoreError) in
        try await Sample(key(9, 0), units: 7, fill: 0).write(to: store)
      }
      #expect(writes.count == 0)
      // The log has some of the reserve; a link may begin when it can no longer grow, and a checkpoint be written, which
      // lets it go, when no link can begin.
      func fill(_ key: (UInt64) -> BlockKey) async -> UInt64 {
        var count: UInt64 = 0
        while (try? await Sample(key(count), units: 1, epoch: 2, fill: count).write(to: store))
          != nil
        { count += 1 }
        return count
      }
      let links = await fill { key(1, 16 + $0, .link) }
      #expect(links > 40 && links < 56, "\(links)")
      #expect(await store.usage().linkFreeByteCount < 2 * 4096)
      let begun = await fill { key(2 + $0, 0, .link) }
      #expect(begun > 8 && begun < 24, "\(begun)")
      let pieces = await fill { key(1, $0, .checkpoint) }
      #expect(pieces > 24 && pieces < 40, "\(pieces)")
      for epoch in 3..<20 as Range<UInt64> {
        _ = try await store.fence(shard(1, .link), epoch: epoch)
      }
      await store.close()
      store = try await StoreScene.open(process, settings)
      try await store.delete([shard(0), shard(1), shard(2)], epoch: 20)
      for index in 0..<10 as Range<UInt64> {
        try await Sample(key(9, index), units: 7, fill: index).write(to: store)
      }
      await store.close()
    }
  }

  private final class Writes: @unchecked Sendable {
    // Loop-confined.
    var count = 0
  }

  @Test("a file system filled up by others refuses data too, and deleting helps")
  func fileSystemFull() throws {
    try withDevice { world, process in
      world.disk("node").capacityByteCount = 3 << 20
      var store = try await StoreScene.open(process)
      var stripe: UInt64 = 0
      var error: StoreError?
      while error == nil {
        do throws(StoreError) {
          try await Sample(key(stripe % 5, stripe), units: 7, fill: stripe).write(to: store)
          stripe += 1
        } catch let full {
          error = full
        }
      }
      #expect(error == .deviceFull)
      #expect(store.state == .healthy)
      // Someone else takes the rest.
      let hog = try await File.open("/hog", 0o102 | 0o100, on: process)
      var taken: UInt64 = 0
      while (try? await hog.allocate(offset: taken, byteCount: 4096)) != nil { taken += 4096 }
      await hog.close()
      await expect(.deviceFull) { () throws(StoreError) in
        try await Sample(key(9, 0), units: 7, fill: 0).write(to: store)
      }
      for _ in 0..<2 {
        try await store.delete([shard(stripe % 5)], epoch: 0)
        stripe += 1
        #expect(store.state == .healthy)
        await world.sleep(.seconds(6))
        try await Sample(key(9, stripe), units: 7, fill: 0).write(to: store)
        await store.close()
        store = try await StoreScene.open(process)
      }
      await store.close()
    }
  }

  @Test(
    "a file system far smaller than the configured capacity is used, fills up, restarts, and deletes",
    arguments: Seed.several, [true, false])
  func smallFileSystem(seed: Seed, isKilled: Bool) throws {
    try withDevice(seed: seed.value) { world, process in
      let disk = world.disk("node")
      disk.capacityByteCount = 12 << 20
      // As the daemon has it: volumes of 256 MiB, a reserve of 20 GiB.
      let settings = StoreSettings(capacity: 1 << 40)
      var process = process
      var store = try await StoreScene.open(process, settings)
      #expect(await store.usage().capacity <= 12 << 20)
      var stripe: UInt64 = 0
      var blocks: [UInt64: Sample] = [:]
      for round in 0..<4 as Range<UInt64> {
        while true {
          let sample = Sample(key(stripe % 4, stripe), units: 15, fill: stripe)
          do throws(StoreError) { try await sample.write(to: store) } catch {
            #expect(error == .deviceFull)
            break
          }
          blocks[stripe] = sample
          stripe += 1
        }
        #expect(blocks.count * 64 << 10 > 8 << 20, "\(blocks.count)")
        #expect(store.state == .healthy)
        // Links and fences go on.
        try await Sample(key(round, 0, .link), units: 1, epoch: round, fill: 1).write(to: store)
        _ = try await store.fence(shard(round, .link), epoch: round)
        if isKilled {
          process.kill()
          process = world.process("node")
        } else {
          await store.close()
        }
        store = try await StoreScene.open(process, settings)
        #expect(store.state == .healthy && store.recovery.rebuildReason == nil)
        // The index had room to be flushed.
        if !isKilled { #expect(store.recovery.scannedRecordCount == 0) }
        for sample in blocks.values.sorted(by: { $0.block.key < $1.block.key }) {
          #expect(try await sample.isIn(store))
        }
        let before = disk.usedByteCount
        try await store.delete([shard(round)], epoch: round)
        blocks = blocks.filter { $0.key % 4 != round }
        await world.sleep(.seconds(6))
        #expect(disk.usedByteCount + (1 << 20) < before)
      }
      await store.close()
    }
  }

  @Test("whatever the disk does, no wrong byte is read", arguments: Seed.several)
  func hostileDisk(seed: Seed) throws {
    try withDevice(seed: seed.value) { world, process in
      var process = process
      var random = seed.generator
      var written: [Sample] = []
      let settings = StoreScene.settings {
        $0.indexEntryLimit = 30
        $0.volumeByteCount = 128 << 10
      }
      var fill: UInt64 = 0
      for round in 0..<15 {
        var rates = DiskFaultRates()
        rates.readErrors = 3000
        rates.lostWrites = 8000
        rates.misdirectedWrites = 8000
        rates.lyingSynchronizes = 20_000
        process.machine.disk.faults = rates.plan(world.random(named: "faults \(round)"))
        let store: ShardStore
        do {
          store = try await StoreScene.open(process, settings)
        } catch {
          // A read error on the identity or a directory is told, not survived.
          process.machine.disk.faults = nil
          process.kill()
          process = world.process("node")
          continue
        }
        for _ in 0..<40 {
          fill += 1
          let sample = Sample(
            key(fill % 7, fill), units: Int.random(in: 1...6, using: &random), fill: fill)
          do throws(StoreError) {
            try await sample.write(to: store)
            written.append(sample)
          } catch {
            break
          }
          if Int.random(in: 0..<12, using: &random) == 0 {
            try? await store.delete([shard(UInt64.random(in: 0..<7, using: &random))], epoch: 0)
          }
        }
        for sample in written {
          do throws(StoreError) { #expect(try await sample.isIn(store)) } catch {
            switch error {
            case .noSuchBlock, .corrupt, .deviceFailed: break
            default: Issue.record("\(error)")
            }
          }
        }
        switch Int.random(in: 0..<3, using: &random) {
        case 0: await store.close()
        case 1: process.kill()
        default: process.machine.powerCut()
        }
        process.machine.disk.faults = nil
        process.kill()
        process = world.process("node")
        try? world.disk("node").erase("/device/retired")
      }
    }
  }
}
