import Cluster
import Coding
import Glibc
import Ring
import Simulation
import TestSupport
import Testing

@testable import ShardStore

/// Everything a test knows of a device's blocks.
private final class Known: @unchecked Sendable {
  // Loop-confined.
  var samples: [BlockKey: Sample] = [:]
  /// Written or deleted, and no answer yet.
  var pending: [BlockKey: Sample?] = [:]
  var damaged: Set<BlockKey> = []
  var nextFill: UInt64 = 1

  func sample(_ key: BlockKey, units: Int) -> Sample {
    nextFill += 1
    return Sample(key, units: units, fill: nextFill)
  }
}

private let fast: UInt64 = 1 << 40

struct ScrubTests {
  static let settings = StoreScene.settings {
    $0.volumeByteCount = 128 << 10
    $0.indexEntryLimit = 40
    $0.compactionPercent = 40
  }

  /// Damages one byte, or a sector, of the living record of `key`. False when only that record tells where the block is:
  /// without its header and after a crash the block would be lost, not damaged.
  private func damage(
    _ key: BlockKey, of store: ShardStore, _ world: SimulatedWorld,
    _ random: inout SeededGenerator, isIndexed: Bool = false
  ) async throws -> Bool {
    let place = try #require(try await store.find(key))
    if isIndexed, place.sequence > store.manifest.coveredSequence { return false }
    let byte = Int(place.offset) + Int.random(in: 0..<Int(place.recordByteCount), using: &random)
    let file = "/device/" + store.volumes[place.volume]!.name
    if Bool.random(using: &random) {
      try world.disk("node").flipBit(file, bit: byte * 8 + Int.random(in: 0..<8, using: &random))
    } else {
      try world.disk("node").makeUnreadable(file, byte..<byte + 1)
    }
    return true
  }

  private func scrub(_ store: ShardStore) async throws {
    guard await store.waitForScrub(try store.scrubNow(byteRate: fast)) else {
      throw StoreError.deviceFailed("the scrub did not end")
    }
  }

  @Test("what could not be read for a moment is not wrong for ever", arguments: Seed.several)
  func passingErrors(seed: Seed) throws {
    try withDevice(seed: seed.value) { world, process in
      var random = seed.generator
      let store = try await StoreScene.open(process, Self.settings)
      let known = Known()
      for number in 0..<30 {
        let key = key(UInt64(number % 4), UInt64(number))
        let sample = known.sample(key, units: Int.random(in: 1...9, using: &random))
        try await sample.write(to: store)
        known.samples[key] = sample
      }
      let rotten = known.samples.keys.sorted().randomElement(using: &random)!
      _ = try await damage(rotten, of: store, world, &random)
      world.disk("node").faults = { access in
        var fault = DiskFault()
        if access.kind == .read, access.path.contains("/volumes/") { fault.errno = EIO }
        return fault
      }
      try await scrub(store)
      #expect(Set(store.damagedBlocks(after: nil, limit: 4096)) == Set(known.samples.keys))
      world.disk("node").faults = nil
      try await scrub(store)
      #expect(store.damagedBlocks(after: nil, limit: 4096) == [rotten])
      for (key, sample) in known.samples where key != rotten {
        #expect(try await sample.isIn(store))
      }
      await store.close()
    }
  }

  @Test(
    "a scrub finds exactly the blocks that were damaged; mended, all is as it was, also after a restart",
    arguments: Seed.several, [true, false])
  func findsAll(seed: Seed, direct: Bool) throws {
    try withDevice(seed: seed.value) { world, process in
      var random = seed.generator
      var settings = Self.settings
      if !direct {
        // Wanted or not, the scrub goes past the page cache if it can.
        world.disk("node").hasDirectIO = Bool.random(using: &random)
        if world.disk("node").hasDirectIO { settings.directIO = .off }
      }
      var store = try await StoreScene.open(process, settings)
      let known = Known()
      for _ in 0..<120 {
        let key = key(
          UInt64.random(in: 0..<6, using: &random), UInt64.random(in: 0..<50, using: &random))
        if known.samples[key] != nil { continue }
        let sample = known.sample(key, units: Int.random(in: 1...9, using: &random))
        try await sample.write(to: store)
        known.samples[key] = sample
      }
      try await scrub(store)
      #expect(store.scrubState.foundInRound == 0 && store.damagedBlockCount == 0)
      let living = known.samples.values.reduce(0) { $0 + UInt64($1.block.recordByteCount) }
      #expect(store.scrubState.doneByteCount == living)
      #expect(store.scrubState.totalByteCount == living)

      for key in known.samples.keys.sorted() where Int.random(in: 0..<4, using: &random) == 0 {
        _ = try await damage(key, of: store, world, &random)
        known.damaged.insert(key)
      }
      try await scrub(store)
      #expect(Set(store.damagedBlocks(after: nil, limit: 4096)) == known.damaged)
      #expect(store.scrubState.foundInRound == UInt64(known.damaged.count))
      #expect(store.state == .healthy)

      // The note of it is read again, and believed where it is still so.
      await store.close()
      store = try await StoreScene.open(process, settings)
      while store.backgroundTasks > 0 { await store.idle.wait() }
      #expect(Set(store.damagedBlocks(after: nil, limit: 4096)) == known.damaged)
      #expect(store.scrubState.finishedRound == 2)

      for key in known.damaged.sorted() {
        // Others bytes are not what was there.
        await expect(.blockExists) { () throws(StoreError) in
          try await Sample(key, units: 10, fill: 1).write(to: store)
        }
        try await known.samples[key]!.write(to: store)
      }
      #expect(store.damagedBlockCount == 0)
      try await scrub(store)
      #expect(store.scrubState.foundInRound == 0 && store.damagedBlockCount == 0)
      for _ in 0..<2 {
        for sample in known.samples.values.sorted(by: { $0.block.key < $1.block.key }) {
          #expect(try await sample.isIn(store))
        }
        #expect(await store.usage().usedByteCount == living)
        await store.close()
        for file in try world.disk("node").files(under: "/device/index") {
          try world.disk("node").erase(file)
        }
        store = try await StoreScene.open(process, settings)
      }
      await store.close()
    }
  }

  @Test(
    "while blocks are written, deleted, moved and mended, a scrub misses no damage and makes none up",
    arguments: Seed.several)
  func meanwhile(seed: Seed) throws {
    try withDevice(seed: seed.value) { world, process in
      var random = seed.generator
      let store = try await StoreScene.open(process, Self.settings)
      let known = Known()
      let workers: Range<UInt64> = 0..<4
      for stripe in 0..<120 as Range<UInt64> {
        let sample = known.sample(key(100 + stripe % 3, stripe), units: Int(stripe % 7) + 1)
        try await sample.write(to: store)
        known.samples[sample.block.key] = sample
      }
      // Nobody touches these while the scrub is on.
      for key in known.samples.keys.sorted() where Int.random(in: 0..<5, using: &random) == 0 {
        _ = try await damage(key, of: store, world, &random)
        known.damaged.insert(key)
      }
      let round = try store.scrubNow(byteRate: 8 << 20)
      let seeds = workers.map { _ in random.next() }
      await withTaskGroup { group in
        for (worker, seed) in zip(workers, seeds) {
          group.addTask { await work(worker, seed, store, known, until: round) }
        }
        group.addTask { await store.waitForScrub(round) }
      }
      #expect(Set(store.damagedBlocks(after: nil, limit: 4096)) == known.damaged)
      #expect(store.state == .healthy)
      for key in known.samples.keys.sorted() where !known.damaged.contains(key) {
        #expect(try await known.samples[key]!.isIn(store))
      }
      await store.close()
    }
  }

  /// Writes and deletes blocks of its own, so that volumes are compacted, until the round has ended.
  private func work(
    _ worker: UInt64, _ seed: UInt64, _ store: ShardStore, _ known: Known, until round: UInt64
  ) async {
    var random = SeededGenerator(seed: seed)
    do {
      while store.scrubState.finishedRound < round {
        let key = key(worker, UInt64.random(in: 0..<30, using: &random))
        if known.samples[key] != nil {
          known.samples[key] = nil
          try await store.delete(
            stripes: [key.stripe], of: key.shard, epoch: store.highestEpoch)
        } else {
          let sample = known.sample(key, units: Int.random(in: 1...6, using: &random))
          try await sample.write(to: store)
          known.samples[key] = sample
        }
      }
    } catch {
      Issue.record("\(error)")
    }
  }

  @Test(
    "a crash at any point of damaging, scrubbing and mending leaves every block right or known to be damaged, and what was mended right",
    arguments: Seed.several, Crash.allCases)
  func crashes(seed: Seed, crash: Crash) throws {
    try withDevice(seed: seed.value) { world, process in
      var random = seed.generator
      let known = Known()
      var process = process
      for life in 0..<12 {
        let store = try await StoreScene.open(process, Self.settings)
        #expect(store.recovery.rebuildReason == nil)
        try await forgetLost(known, store, mayLose: crash == .powerCutAndLostIndex)
        for (key, sample) in known.pending.sorted(by: { $0.key < $1.key }) {
          do throws(StoreError) {
            // A mend under way happened or did not; a new block is there or not.
            guard let sample else { continue }
            if try await sample.isIn(store) {
              known.samples[key] = sample
              known.damaged.remove(key)
            } else {
              Issue.record("\(key) has other bytes")
            }
          } catch {
            if case .corrupt = error, known.damaged.contains(key) { continue }
            if error == .noSuchBlock, known.samples[key] == nil { continue }
            Issue.record("\(key): \(error)")
          }
        }
        known.pending = [:]
        for key in known.samples.keys.sorted() where !known.damaged.contains(key) {
          do throws(StoreError) {
            #expect(try await known.samples[key]!.isIn(store))
          } catch {
            Issue.record("life \(life), \(key): \(error), \(store.recovery)")
          }
        }
        for key in known.samples.keys.sorted()
        where !known.damaged.contains(key) && Int.random(in: 0..<10, using: &random) == 0 {
          if try await damage(key, of: store, world, &random, isIndexed: true) {
            known.damaged.insert(key)
          }
        }
        let seed = random.next()
        let time = Duration.microseconds(Int64.random(in: 100...60_000, using: &random))
        let current = process
        await withTaskGroup { group in
          group.addTask { await mend(known, store, seed) }
          group.addTask {
            await world.sleep(time)
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
      let store = try await StoreScene.open(process, Self.settings)
      try await forgetLost(known, store, mayLose: crash == .powerCutAndLostIndex)
      for (key, sample) in known.pending.sorted(by: { $0.key < $1.key }) {
        if let sample { try await sample.write(to: store) }
        known.samples[key] = sample
      }
      try await scrub(store)
      for key in store.damagedBlocks(after: nil, limit: 4096) {
        #expect(known.damaged.contains(key))
        try await known.samples[key]!.write(to: store)
      }
      for key in known.samples.keys.sorted() {
        #expect(try await known.samples[key]!.isIn(store))
      }
      try await scrub(store)
      #expect(store.damagedBlockCount == 0)
      await store.close()
    }
  }

  /// Without the index nothing tells of a record whose header is damaged, but that something stands there. (That a record is
  /// missing is not known for sure where the next volume is gone.)
  private func forgetLost(_ known: Known, _ store: ShardStore, mayLose: Bool) async throws {
    for key in known.damaged.sorted() where try await store.find(key) == nil {
      #expect(mayLose && !store.recovery.isClean)
      known.damaged.remove(key)
      known.samples[key] = nil
    }
  }

  /// Scrubs, mends what it finds, and writes new blocks, until something fails.
  private func mend(_ known: Known, _ store: ShardStore, _ seed: UInt64) async {
    var random = SeededGenerator(seed: seed)
    do {
      while true {
        if Bool.random(using: &random) {
          let key = key(
            UInt64.random(in: 0..<4, using: &random), UInt64.random(in: 0..<60, using: &random))
          if known.samples[key] == nil {
            let sample = known.sample(key, units: Int.random(in: 1...5, using: &random))
            known.pending = [key: sample]
            try await sample.write(to: store)
            known.samples[key] = sample
            known.pending = [:]
          }
          continue
        }
        try await scrub(store)
        let found = store.damagedBlocks(after: nil, limit: 4096)
        if store.state == .healthy, !store.isClosing, Set(found) != known.damaged {
          Issue.record("found \(found), not \(known.damaged)")
        }
        for key in found {
          known.pending = [key: known.samples[key]!]
          try await known.samples[key]!.write(to: store)
          known.damaged.remove(key)
          known.pending = [:]
        }
      }
    } catch {
      switch error {
      case StoreError.deviceFailed, StoreError.corrupt: break
      default: Issue.record("\(error)")
      }
    }
  }

  @Test("a full device can mend, again and again, and nothing else is let in")
  func full() throws {
    try withDevice { world, process in
      var random = SeededGenerator(seed: 1)
      let settings = StoreScene.settings {
        $0.capacity = 4 << 20
        $0.volumeByteCount = 256 << 10
        $0.reserveByteCount = 512 << 10
      }
      let store = try await StoreScene.open(process, settings)
      let known = Known()
      var stripe: UInt64 = 0
      while true {
        let sample = known.sample(key(1, stripe), units: 15)
        stripe += 1
        do throws(StoreError) {
          try await sample.write(to: store)
          known.samples[sample.block.key] = sample
        } catch {
          #expect(error == .deviceFull)
          break
        }
      }
      for round in 1...4 as ClosedRange<UInt64> {
        let victims = known.samples.keys.sorted().filter { $0.stripe % 4 == round % 4 }
        for key in victims { #expect(try await damage(key, of: store, world, &random)) }
        try await scrub(store)
        #expect(store.damagedBlocks(after: nil, limit: 4096) == victims)
        for key in victims { try await known.samples[key]!.write(to: store) }
        await expect(.deviceFull) { () throws(StoreError) in
          try await known.sample(key(2, 0), units: 15).write(to: store)
        }
      }
      for key in known.samples.keys.sorted() {
        #expect(try await known.samples[key]!.isIn(store))
      }
      await store.close()
    }
  }

  @Test(
    "the same block again mends what nobody knew to be damaged, and takes back no acknowledgement")
  func unknown() throws {
    try withDevice { world, process in
      var store = try await StoreScene.open(process)
      var sample = Sample(key(1, 3, .link), units: 3, epoch: 0, acknowledged: 3, fill: 1)
      for unit in 0..<4 as Range<UInt64> {
        sample.block.epoch = 5 + 2 * unit
        var again = sample
        again.block.acknowledged = 0
        again.block.epoch += 1
        try await sample.write(to: store)
        let old = try #require(try await store.find(sample.block.key))
        try world.disk("node").flipBit(
          "/device/" + store.volumes[old.volume]!.name, bit: Int(old.offset + 4096 * unit + 60) * 8)
        // A header that is remembered tells nothing of the one on the device.
        store.headers.remove(volume: old.volume, unit: old.unit)
        try await again.write(to: store)
        let new = try #require(try await store.find(sample.block.key))
        #expect(new.sequence > old.sequence && new.acknowledged == 3)
        #expect(try await store.list(shard(1, .link)).map(\.acknowledged) == [3])
        let found = try await store.read(sample.block.key, offset: 0, byteCount: 3 * 4096)
        #expect(found.bytes.array == sample.bytes && found.block.acknowledged == 3)
        #expect(store.damagedBlockCount == 0)
        try await store.delete([shard(1, .link)], epoch: again.block.epoch)
      }
      await store.close()
      store = try await StoreScene.open(process)
      #expect(store.recovery.isClean && store.damagedBlockCount == 0)
      await store.close()
    }
  }

  @Test(
    "compaction leaves what it finds damaged where it is, and tells; once mended, it goes on",
    arguments: [true, false])
  func compaction(isReadable: Bool) throws {
    try withDevice { world, process in
      let settings = StoreScene.settings {
        $0.volumeByteCount = 128 << 10
        $0.compactionPercent = 60
      }
      let store = try await StoreScene.open(process, settings)
      let samples = (0..<60 as Range<UInt64>).map { Sample(key($0 % 6, $0), units: 3, fill: $0) }
      for sample in samples { try await sample.write(to: store) }
      let first = try #require(try await store.find(samples[0].block.key)).volume
      let before = try #require(store.volumes[first])
      if isReadable {
        try world.disk("node").flipBit("/device/" + before.name, bit: 12345 * 8)
      } else {
        try world.disk("node").makeUnreadable("/device/" + before.name, 12345..<12346)
      }
      // All but the first shard's.
      try await store.delete((1..<6).map { shard($0) }, epoch: 0)
      while store.isCompacting { await store.idle.wait() }
      #expect(store.damagedBlocks(after: nil, limit: 9) == [samples[0].block.key])
      #expect(store.volumes[first] === before && store.state == .healthy)
      try await samples[0].write(to: store)
      while store.isCompacting { await store.idle.wait() }
      #expect(store.volumes[first] == nil && store.damagedBlockCount == 0)
      for sample in samples where sample.block.key.shard == shard(0) {
        #expect(try await sample.isIn(store))
      }
      await store.close()
    }
  }

  @Test(
    "what was mended and then deleted is no damage after a crash, and the history of the scrub stays"
  )
  func mendedAndDeleted() throws {
    try withDevice { world, process in
      var store = try await StoreScene.open(process)
      let samples = (0..<6 as Range<UInt64>).map { Sample(key(1, $0), units: 3, fill: $0) }
      for sample in samples { try await sample.write(to: store) }
      try await Sample(key(2, 0), units: 1, fill: 9).write(to: store)
      for sample in samples {
        let place = try #require(try await store.find(sample.block.key))
        try world.disk("node").flipBit(
          "/device/" + store.volumes[place.volume]!.name, bit: Int(place.offset + 5000) * 8)
      }
      await store.waitForScrub(try store.scrubNow())
      let history = store.scrubState
      #expect(history.foundInAll == 6)
      await store.writeScrubNote()
      for sample in samples { try await sample.write(to: store) }
      try await store.delete([shard(1)], epoch: 0)
      // The payloads of all of them are punched out by now.
      while store.pendingPunches > 0 { await store.punchesDone.wait() }
      #expect(store.damagedBlockCount == 0)
      process.kill()
      let second = world.process("node")
      store = try await StoreScene.open(second)
      while store.backgroundTasks > 0 { await store.idle.wait() }
      #expect(store.damagedBlockCount == 0)
      #expect(store.scrubState == history)
      second.kill()
      store = try await StoreScene.open(world.process("node"))
      #expect(store.scrubState == history)
      await store.close()
    }
  }

  @Test("of two records of a block the newer counts, unless it is damaged and the older is not")
  func twoRecords() throws {
    for damagesNewer in [false, true] {
      try withDevice { world, process in
        var store = try await StoreScene.open(process)
        let sample = Sample(key(1, 0), units: 3, fill: 1)
        try await sample.write(to: store)
        // Found wrong, so it is written anew; and the old one turns out to be well.
        let old = try #require(try await store.find(sample.block.key))
        store.punches = false
        store.noteDamage(sample.block.key, at: old)
        try await sample.write(to: store)
        let new = try #require(try await store.find(sample.block.key))
        #expect(new.sequence > old.sequence && store.damagedBlockCount == 0)
        try await Sample(key(2, 0), units: 1, fill: 3).write(to: store)
        process.kill()
        let file = "/device/" + store.volumes[new.volume]!.name
        if damagesNewer {
          try world.disk("node").flipBit(file, bit: (Int(new.offset) + 5000) * 8)
        }
        for file in try world.disk("node").files(under: "/device/index") {
          try world.disk("node").erase(file)
        }
        store = try await StoreScene.open(world.process("node"))
        #expect(
          try await store.find(sample.block.key)?.sequence
            == (damagesNewer ? old.sequence : new.sequence))
        #expect(try await sample.isIn(store))
        #expect(await store.usage().blockCount == 2)
        await store.close()
      }
    }
  }

  @Test("a block under suspicion is told of, and cleared by the same bytes or replaced by others")
  func suspicion() throws {
    try withDevice { world, process in
      var store = try await StoreScene.open(process)
      let samples = (0..<3 as Range<UInt64>).map { Sample(key(1, $0), units: 2, fill: 100 * $0) }
      for sample in samples { try await sample.write(to: store) }
      for sample in samples {
        #expect(try await store.examine(sample.block.key) == .suspected)
      }
      #expect(try await store.examine(key(9, 9)) == .absent)
      #expect(store.suspectedBlocks(after: nil, limit: 10) == samples.map(\.block.key))
      #expect(store.suspectedBlocks(after: key(1, 1), limit: 2) == [key(1, 2), key(1, 0)])
      #expect(store.damagedBlockCount == 0)
      await store.close()
      store = try await StoreScene.open(process)
      while store.backgroundTasks > 0 { await store.idle.wait() }
      #expect(store.suspectedBlockCount == 3)

      try await samples[0].write(to: store)
      let other = Sample(key(1, 1), units: 2, fill: 200)
      try await other.write(to: store)
      #expect(try await other.isIn(store))
      try await store.delete(stripes: [2], of: shard(1), epoch: store.highestEpoch)
      #expect(store.suspectedBlockCount == 0)
      await expect(.blockExists) { () throws(StoreError) in
        try await Sample(key(1, 0), units: 2, fill: 300).write(to: store)
      }
      // Wrong after all.
      let file = "/device/" + (try #require(try await store.location(of: key(1, 0)))).path
      #expect(try await store.examine(key(1, 0)) == .suspected)
      try world.disk("node").makeUnreadable(file, 4096..<8192)
      try await scrub(store)
      #expect(store.suspectedBlockCount == 0)
      #expect(store.damagedBlocks(after: nil, limit: 9) == [key(1, 0)])
      #expect(try await store.examine(key(1, 0)) == .damaged)
      await store.close()
    }
  }

  @Test("the scrub goes on where it was, in its time, and begins anew when that is over")
  func pace() throws {
    try withDevice { world, process in
      let settings = StoreScene.settings {
        $0.scrubInterval = .seconds(100)
        $0.scrubByteRate = 40 << 10
      }
      var store = try await StoreScene.open(process, settings)
      for stripe in 0..<60 as Range<UInt64> {
        try await Sample(key(1, stripe), units: 4, fill: stripe).write(to: store)
      }
      let living = 60 * 5 * 4096 as UInt64
      await store.waitForScrub(1)
      // An empty device was done at once; the next round comes when it is time.
      #expect(store.scrubState.round == 1)
      await world.sleep(.seconds(110))
      #expect(store.scrubState.round == 2 && store.scrubState.isRunning)
      #expect(store.scrubState.totalByteCount == living)
      let done = store.scrubState.doneByteCount
      #expect(done > 0 && done < living)
      await store.close()

      store = try await StoreScene.open(process, settings)
      #expect(store.scrubState.round == 2 && store.scrubState.doneByteCount == done)
      await store.waitForScrub(2)
      #expect(store.scrubState.doneByteCount == living)
      await store.close()

      // What is asked for is done though nobody scrubs by himself, and is not limited to the rate.
      store = try await StoreScene.open(process)
      #expect(!store.scrubState.isRunning)
      let begun = world.now
      try await scrub(store)
      #expect(world.now - begun < .seconds(1))
      #expect(store.scrubState.finishedRound == 3)
      await store.close()

      // A damaged note is none.
      try world.disk("node").flipBit("/device/scrub", bit: 99)
      store = try await StoreScene.open(process)
      #expect(store.scrubState.round == 0)
      await store.close()
    }
  }

  @Test("damaged blocks are listed up to a limit and counted beyond, round by round")
  func limit() {
    var blocks = DamagedBlocks()
    for stripe in 0..<5000 as Range<UInt64> { _ = blocks.note(key(1, stripe), in: 3) }
    #expect(blocks.damagedCount == 5000 && blocks.unlistedCount == 904)
    #expect(blocks.damaged(after: nil, limit: 9999).count == DamagedBlocks.limit)
    var told: Set<BlockKey> = []
    var cursor: BlockKey?
    for _ in 0..<DamagedBlocks.limit / 64 {
      let page = blocks.damaged(after: cursor, limit: 64)
      told.formUnion(page)
      cursor = page.last
    }
    #expect(told.count == DamagedBlocks.limit)
    blocks.recount()
    #expect(blocks.damagedCount == UInt64(DamagedBlocks.limit))
    for stripe in 0..<5000 as Range<UInt64> { _ = blocks.forget(key(1, stripe)) }
    #expect(blocks.damagedCount == 0 && !blocks.holds(volume: 3))
  }

  @Test("no bytes are taken for a note that are none, and none trap", arguments: Seed.several)
  func noteDecoder(seed: Seed) {
    var random = seed.generator
    var note = ScrubNote(device: DeviceID(5))
    note.round = 3
    note.finishedRound = 2
    note.damaged = [key(1, 2), key(3, 4, .link)]
    note.suspected = [key(1, 9)]
    let bytes = note.encoded
    #expect(ScrubNote(decoding: bytes, device: DeviceID(5)) == note)
    #expect(ScrubNote(decoding: bytes, device: DeviceID(6)) == nil)
    for bit in 0..<bytes.count * 8 {
      var changed = bytes
      changed[bit / 8] ^= 1 << (bit % 8)
      #expect(ScrubNote(decoding: changed, device: DeviceID(5)) == nil)
    }
    for _ in 0..<2000 {
      var changed = bytes
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        changed[Int.random(in: 12..<changed.count - 4, using: &random)] = UInt8.random(
          in: 0...255, using: &random)
      }
      changed.removeLast(4)
      let sum = CRC32C.checksum(changed)
      changed += (0..<4).map { UInt8(truncatingIfNeeded: sum >> (8 * $0)) }
      _ = ScrubNote(decoding: changed, device: DeviceID(5))
    }
  }
}
