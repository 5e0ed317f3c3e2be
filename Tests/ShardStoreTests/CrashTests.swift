import Cluster
import Ring
import Simulation
import TestSupport
import Testing

@testable import ShardStore

/// What one worker did to the shards it alone writes to.
private final class Ledger: @unchecked Sendable {
  // Loop-confined.
  /// Acknowledged and not deleted.
  var present: [BlockKey: Sample] = [:]
  /// The operation no answer came for.
  var writing: Sample?
  var deleting: Set<BlockKey> = []
  var fencing: UInt64 = 0
  var fenced: UInt64 = 0
  var nextFill: UInt64
  init(_ worker: UInt64) { nextFill = worker << 32 }
}

enum Crash: CaseIterable {
  case kill, powerCut
  /// And the index is gone afterwards.
  case powerCutAndLostIndex
}

struct CrashTests {
  @Test(
    "after any crash every acknowledged block is there and right, others are right or absent",
    arguments: Seed.several, Crash.allCases)
  func crashes(seed: Seed, crash: Crash) throws {
    try withDevice(seed: seed.value) { world, process in
      var random = seed.generator
      let workers: Range<UInt64> = 0..<6
      let ledgers = workers.map { Ledger($0) }
      let settings = StoreScene.settings {
        $0.indexEntryLimit = 40
        $0.volumeByteCount = 128 << 10
        $0.compactionPercent = 40
      }
      var process = process
      for _ in 0..<12 {
        let store = try await StoreScene.open(process, settings)
        #expect(store.recovery.lostRecordCount == 0, "\(store.recovery)")
        #expect(store.recovery.rebuildReason == nil)
        #expect(store.recovery.missingVolumeCount == 0)
        for ledger in ledgers { try await settle(ledger, store) }
        let all = ledgers.reduce(into: [BlockKey: Sample]()) { sum, ledger in
          sum.merge(ledger.present) { old, _ in old }
        }
        try await check(store, all)

        let seeds = workers.map { _ in random.next() }
        let life = Duration.microseconds(Int64.random(in: 100...30_000, using: &random))
        let current = process
        await withTaskGroup { group in
          for (ledger, seed) in zip(ledgers, seeds) {
            group.addTask { await work(ledger, store, seed) }
          }
          group.addTask {
            await world.sleep(life)
            if crash == .kill { current.kill() } else { current.machine.powerCut() }
          }
        }
        if crash == .powerCutAndLostIndex {
          for file in try world.disk("node").files(under: "/device/index") {
            try world.disk("node").erase(file)
          }
        }
        process = world.process("node")
      }
    }
  }

  @Test("the same seed gives the same run")
  func determinism() throws {
    func run() throws -> UInt64 {
      try withDevice(seed: 5) { world, process in
        let settings = StoreScene.settings { $0.indexEntryLimit = 30 }
        let store = try await StoreScene.open(process, settings)
        let ledgers = (0..<5 as Range<UInt64>).map { Ledger($0) }
        await withTaskGroup { group in
          for ledger in ledgers {
            group.addTask { await work(ledger, store, ledger.nextFill) }
          }
          group.addTask {
            await world.sleep(.milliseconds(20))
            process.machine.powerCut()
          }
        }
        let again = try await StoreScene.open(world.process("node"), settings)
        await again.close()
        return world.eventHash
      }
    }
    #expect(try run() == run())
  }

  /// Writes, deletes, fences and reads until something fails.
  private func work(_ ledger: Ledger, _ store: ShardStore, _ seed: UInt64) async {
    var random = SeededGenerator(seed: seed)
    let worker = ledger.nextFill >> 32
    do {
      while true {
        let own = shard(worker * 2 + UInt64.random(in: 0...1, using: &random))
        switch Int.random(in: 0..<20, using: &random) {
        case 0:
          ledger.deleting = Set(ledger.present.keys.filter { $0.shard == own })
          try await store.delete([own], epoch: store.highestEpoch)
          ledger.present = ledger.present.filter { $0.key.shard != own }
          ledger.deleting = []
        case 1:
          let stripes = (0..<4).map { _ in UInt64.random(in: 0..<40, using: &random) }
          ledger.deleting = Set(stripes.map { BlockKey(shard: own, stripe: $0) })
          try await store.delete(stripes: stripes, of: own, epoch: store.highestEpoch)
          for key in ledger.deleting { ledger.present[key] = nil }
          ledger.deleting = []
        case 2:
          ledger.fencing = store.highestEpoch + 1
          _ = try await store.fence(own, epoch: ledger.fencing)
          ledger.fenced = ledger.fencing
        case 3...6:
          // Compaction may be moving it.
          let keys = ledger.present.keys.filter { $0.shard == own }.sorted()
          guard let key = keys.randomElement(using: &random) else { continue }
          let isRight = try await ledger.present[key]!.isIn(store)
          #expect(isRight)
        default:
          let key = BlockKey(shard: own, stripe: UInt64.random(in: 0..<40, using: &random))
          if ledger.present[key] != nil { continue }
          ledger.nextFill += 1
          let sample = Sample(
            key, units: Int.random(in: 1...5, using: &random), fill: ledger.nextFill)
          ledger.writing = sample
          try await sample.write(to: store, headroom: Bool.random(using: &random))
          ledger.present[key] = sample
          ledger.writing = nil
        }
      }
    } catch StoreError.staleEpoch {
      // Another worker's fence came first; this one is through for now.
      ledger.deleting = []
    } catch {
      // The crash. Nothing else may fail, and nothing may be found missing or wrong.
      switch error {
      case StoreError.deviceFailed, StoreError.corrupt: break
      default: Issue.record("\(error)")
      }
    }
  }

  /// Decides by what is there now what became of the operation under way.
  private func settle(_ ledger: Ledger, _ store: ShardStore) async throws {
    #expect(store.highestEpoch >= ledger.fenced)
    for key in ledger.deleting.sorted() {
      guard let sample = ledger.present[key] else { continue }
      do throws(StoreError) {
        #expect(try await sample.isIn(store))
      } catch {
        #expect(error == .noSuchBlock)
        ledger.present[key] = nil
      }
    }
    if let sample = ledger.writing {
      do throws(StoreError) {
        #expect(try await sample.isIn(store))
        ledger.present[sample.block.key] = sample
      } catch {
        #expect(error == .noSuchBlock)
      }
    }
    ledger.writing = nil
    ledger.deleting = []
    for key in ledger.present.keys.sorted() {
      do throws(StoreError) {
        let isRight = try await ledger.present[key]!.isIn(store)
        #expect(isRight)
      } catch {
        Issue.record("\(key): \(error), \(store.recovery)")
        ledger.present[key] = nil
      }
    }
  }
}
