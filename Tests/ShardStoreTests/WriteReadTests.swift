import Cluster
import Ring
import Simulation
import TestSupport
import Testing

@testable import ShardStore

struct WriteReadTests {
  @Test("what is written is read back, whole and in any range of units", arguments: [true, false])
  func ranges(headroom: Bool) throws {
    try withDevice { world, process in
      let store = try await StoreScene.open(process)
      let sample = Sample(key(1, 5), units: 40, epoch: 3, acknowledged: 2, fill: 9)
      try await sample.write(to: store, headroom: headroom)
      for cold in [true, false] {
        for (offset, count) in [(0, 0), (0, 1), (3, 5), (30, 10), (39, 1), (0, 40), (40, 0)] {
          if cold { store.headers = HeaderCache(limit: 512) }
          let found = try await store.read(
            sample.block.key, offset: offset * 4096, byteCount: count * 4096)
          #expect(found.block == sample.block)
          #expect(found.checksums == Array(sample.checksums[offset..<offset + count]))
          #expect(found.bytes.array == Array(sample.bytes[offset * 4096..<(offset + count) * 4096]))
        }
      }
      await store.close()
    }
  }

  @Test("ranges that are not whole units within the block are refused")
  func invalidRanges() throws {
    try withDevice { _, process in
      let store = try await StoreScene.open(process)
      let sample = Sample(key(1, 0), units: 2, fill: 1)
      try await sample.write(to: store)
      for (offset, count) in [
        (1, 4096), (0, 100), (0, 3 * 4096), (8192, 4096), (-4096, 4096),
        (4096, -4096), (Int.max - 4095, 4096), (4096, Int.max - 4095),
      ] {
        await expect(.invalidRange) { () throws(StoreError) in
          _ = try await store.read(sample.block.key, offset: offset, byteCount: count)
        }
      }
      await expect(.noSuchBlock) { () throws(StoreError) in
        _ = try await store.read(key(1, 1), offset: 0, byteCount: 0)
      }
      await store.close()
    }
  }

  @Test(
    "a block is written once: the same again is done, other bytes or another layout are refused")
  func writeOnce() throws {
    try withDevice { _, process in
      var store = try await StoreScene.open(process)
      let first = Sample(key(1, 0), units: 2, fill: 1)
      var reshaped = first
      reshaped.block.layout.byteCount -= 1
      try await first.write(to: store)
      for _ in 0..<2 {
        try await first.write(to: store)
        let used = await store.usage()
        #expect(used.blockCount == 1)
        await expect(.blockExists) { () throws(StoreError) in
          try await Sample(key(1, 0), units: 2, fill: 2).write(to: store)
        }
        await expect(.blockExists) { () throws(StoreError) in
          try await reshaped.write(to: store)
        }
        #expect(try await first.isIn(store))
        // And after a restart.
        await store.close()
        store = try await StoreScene.open(process)
      }
      await store.close()
    }
  }

  @Test(
    "of two different blocks of one key under way at once, one is stored", arguments: Seed.several)
  func racingWrites(seed: Seed) throws {
    try withDevice(seed: seed.value) { _, process in
      let store = try await StoreScene.open(process)
      let samples = [1, 1, 2, 2].map { Sample(key(1, 0), units: 3, fill: $0) }
      let results = await withTaskGroup(of: (Int, Result<Void, any Error>).self) { group in
        for (index, sample) in samples.enumerated() {
          group.addTask { (index, await .of { try await sample.write(to: store) }) }
        }
        var all = [Result<Void, any Error>?](repeating: nil, count: samples.count)
        for await (index, result) in group { all[index] = result }
        return all.map { $0! }
      }
      let stored = try await samples[0].isIn(store) ? 0 : 2
      for (index, result) in results.enumerated() {
        if index / 2 == stored / 2 {
          #expect(throws: Never.self) { try result.get() }
        } else {
          #expect(throws: StoreError.blockExists) { try result.get() }
        }
      }
      await store.close()
    }
  }

  @Test("a payload that does not match its checksums, or its layout, is refused and leaves nothing")
  func wrongPayload() throws {
    try withDevice { _, process in
      let store = try await StoreScene.open(process)
      let sample = Sample(key(1, 0), units: 2, fill: 1)
      var wrong = sample
      wrong.bytes[5000] ^= 1
      let payload = Slice(copying: wrong.bytes)
      await expectCorrupt { () throws(StoreError) in
        try await store.write(sample.block, checksums: sample.checksums, payload: payload)
      }
      await expect(.invalidBlock("payload, checksums and layout differ")) { () throws(StoreError) in
        try await store.write(
          sample.block, checksums: sample.checksums, payload: payload[0..<4096])
      }
      await expect(.noSuchBlock) { () throws(StoreError) in
        _ = try await store.read(sample.block.key, offset: 0, byteCount: 0)
      }
      let usage = await store.usage()
      #expect(usage.usedByteCount == 0)
      await store.close()
    }
  }

  @Test("many small records share few writes and syncs")
  func gathering() throws {
    try withDevice { world, process in
      let store = try await StoreScene.open(process)
      try await Sample(key(0, 0), units: 1, fill: 0).write(to: store)
      let counted = Counted()
      process.machine.disk.faults = { access in
        if access.kind == .write { counted.writes += 1 }
        if access.kind == .synchronize { counted.syncs += 1 }
        return .none
      }
      await withTaskGroup { group in
        for stripe in 0..<200 as Range<UInt64> {
          group.addTask {
            try? await Sample(key(1, stripe), units: 1, fill: stripe).write(to: store)
          }
        }
      }
      process.machine.disk.faults = nil
      #expect(try await store.list(shard(1)).count == 200)
      // 200 records of 8 KiB pass through seven volumes, each of which is made, synced and left.
      #expect(counted.writes <= 60, "\(counted.writes) writes")
      #expect(counted.syncs <= 60, "\(counted.syncs) syncs")
      await store.close()
    }
  }

  @Test("many volumes need few open files")
  func openFiles() throws {
    try withDevice { world, process in
      var settings = StoreScene.settings { $0.volumeByteCount = 64 << 10 }
      settings.openFileLimit = 3
      let store = try await StoreScene.open(process, settings)
      let samples = (0..<60 as Range<UInt64>).map { Sample(key($0 % 3, $0), units: 3, fill: $0) }
      for sample in samples { try await sample.write(to: store) }
      #expect(store.volumes.all.count > 12)
      await withTaskGroup { group in
        for sample in samples {
          group.addTask {
            let isRight = try? await sample.isIn(store)
            #expect(isRight == true)
          }
        }
      }
      #expect(try await samples[0].isIn(store))
      await world.sleep(.milliseconds(10))
      // The open one and one made ahead stay open too.
      #expect(store.volumes.all.count { $0.file != nil } <= 5)
      await store.close()
    }
  }

  @Test("a record that is alone is written and synced in one operation, and then durable")
  func alone() throws {
    try withDevice { world, process in
      let store = try await StoreScene.open(process)
      try await Sample(key(0, 0), units: 1, fill: 0).write(to: store)
      let counted = Counted()
      process.beforeOperation = { _, operation in
        switch operation {
        case .writeDurably(let descriptor, _, _):
          counted.writes += 1
          counted.descriptor = descriptor
        // Of the next volume, which is made meanwhile, nothing is counted.
        case .write(let descriptor, _, _), .synchronize(let descriptor, _):
          if descriptor == counted.descriptor { counted.syncs += 1 }
        default: break
        }
      }
      let samples = (1..<6 as Range<UInt64>).map { Sample(key(1, $0), units: 3, fill: $0) }
      for sample in samples { try await sample.write(to: store) }
      #expect(counted.writes == 5 && counted.syncs == 0)
      // The write may be short; what is left of it is written, and then comes the sync.
      process.machine.disk.faults = { $0.kind == .write ? .short(4096) : .none }
      let short = Sample(key(1, 6), units: 3, fill: 6)
      try await short.write(to: store)
      process.machine.powerCut()
      let next = world.process("node")
      let reopened = try await StoreScene.open(next)
      for sample in samples + [short] { #expect(try await sample.isIn(reopened)) }
      await reopened.close()
    }
  }

  private final class Counted: @unchecked Sendable {
    // Loop-confined.
    var writes = 0
    var syncs = 0
    var descriptor: Int32 = -1
  }

  @Test(
    "listing, inventory and usage agree with what was written and deleted", arguments: Seed.several)
  func listing(seed: Seed) throws {
    try withDevice(seed: seed.value) { _, process in
      var random = seed.generator
      var settings = StoreScene.settings()
      settings.indexEntryLimit = 20
      var store = try await StoreScene.open(process, settings)
      var model: [BlockKey: Sample] = [:]
      for round in 0..<120 as Range<UInt64> {
        let number = UInt64.random(in: 0..<6, using: &random)
        if Int.random(in: 0..<10, using: &random) == 0 {
          try await store.delete([shard(number)], epoch: 0)
          model = model.filter { $0.key.shard != shard(number) }
        } else {
          let sample = Sample(
            key(number, UInt64.random(in: 0..<30, using: &random)),
            units: Int.random(in: 1...4, using: &random), acknowledged: round, fill: round)
          guard model[sample.block.key] == nil else { continue }
          try await sample.write(to: store)
          model[sample.block.key] = sample
        }
        if round % 40 == 39 {
          await store.close()
          store = try await StoreScene.open(process, settings)
          #expect(store.recovery.isClean, "\(store.recovery)")
        }
        try await check(store, model)
      }
      await store.close()
    }
  }
}

/// Compares everything the store tells about its blocks with `model`.
func check(_ store: ShardStore, _ model: [BlockKey: Sample]) async throws {
  let shards = Set(model.keys.map(\.shard)).sorted()
  for shard in shards {
    let listed = try await store.list(shard)
    let expected = model.values.filter { $0.block.key.shard == shard }
      .map {
        ListedBlock(
          stripe: $0.block.key.stripe, layout: $0.block.layout, acknowledged: $0.block.acknowledged)
      }
      .sorted { $0.stripe < $1.stripe }
    #expect(listed == expected)
  }
  var inventory: [ShardSummary] = []
  while true {
    let page = try await store.inventory(after: inventory.last?.shard, limit: 2)
    inventory += page.shards
    if page.isComplete { break }
  }
  #expect(
    inventory
      == shards.map { shard in
        let blocks = model.values.filter { $0.block.key.shard == shard }
        return ShardSummary(
          shard: shard, stripes: StripeTally(blocks.map(\.block.key.stripe)),
          storedByteCount: UInt64(blocks.reduce(0) { $0 + $1.block.recordByteCount }))
      })
  let usage = await store.usage()
  #expect(usage.blockCount == UInt64(model.count))
  #expect(usage.usedByteCount == UInt64(model.values.reduce(0) { $0 + $1.block.recordByteCount }))
}
