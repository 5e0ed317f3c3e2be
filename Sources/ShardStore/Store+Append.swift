internal import Cluster
internal import Coding
internal import Glibc
internal import Ring

/// Which share of the device an append may use.
enum Purpose: Sendable {
  /// All but the reserve.
  case data
  /// Some of the reserve too: the log.
  case link
  /// More of it: how a link begins, for until it has begun the one before it cannot be dropped.
  case linkBegin
  /// Still more: checkpoints, which let the log go.
  case checkpoint
  /// Nearly all: copies out of volumes that then go.
  case compaction
  /// Also the last bytes of a volume, so that a full device can still delete: deletes, fences, marks.
  case control

  /// Of a block's record.
  init(_ key: BlockKey) {
    self =
      switch key.shard.container.kind {
      case .data: .data
      // A leader that takes over copies a few batches into its first link.
      case .link: key.stripe < 16 ? .linkBegin : .link
      case .checkpoint: .checkpoint
      }
  }

  /// What of the reserve it leaves alone, in eighths. Each purpose leaves room for those that give room.
  var keptEighths: UInt64 {
    switch self {
    case .data: 8
    case .link: 5
    case .linkBegin: 4
    case .checkpoint: 2
    case .compaction: 1
    case .control: 0
    }
  }
}

/// What a record changes once it is durable.
enum Effect: Sendable {
  /// A new block, in the place of a damaged record of it if there is one.
  case block(StoredBlock, replaced: Place?)
  /// The living record of a block, copied from another place.
  case copy(StoredBlock, from: Place)
  case delete([IndexEntry])
  /// Deletions known elsewhere, kept for a rebuild.
  case keptDeletes
  /// A fence or mark.
  case none
}

/// A record on its way to the device. Loop-confined.
final class Append: @unchecked Sendable {
  let header: RecordHeader
  let volume: Volume
  /// Header and payload; dropped once written.
  var slices: [Slice]
  let effect: Effect
  var isWritten = false
  var error: StoreError?
  /// Opens when the record is durable and applied, or failed.
  let gate = Gate()

  init(header: RecordHeader, volume: Volume, slices: [Slice], effect: Effect) {
    self.header = header
    self.volume = volume
    self.slices = slices
    self.effect = effect
  }

  var sequence: UInt64 { header.sequence }
  var byteCount: UInt64 { header.recordByteCount }
}

/// Records get their places in order, are written side by side, and are acknowledged in order: one fdatasync at a time
/// serves all that were written before it began. A record waits until all before it are durable too.
extension ShardStore {
  /// Appends one record and waits until it is durable and applied.
  ///
  /// - Parameters:
  ///   - draft: kind, what it is about and its checksums; its place is filled in here.
  ///   - payload: padded; aligned memory.
  ///   - hasHeadroom: the 4 KiB of memory before `payload` may be overwritten.
  func append(
    _ draft: RecordHeader, payload: Slice?, hasHeadroom: Bool = false, purpose: Purpose,
    effect: Effect
  ) async throws(StoreError) {
    let append = try await enqueue(
      draft, payload: payload, hasHeadroom: hasHeadroom, purpose: purpose, effect: effect)
    await append.gate.wait()
    if let error = append.error { throw error }
  }

  /// The first half of ``append``: the record has its place; its gate opens when it is durable.
  func enqueue(
    _ draft: RecordHeader, payload: Slice?, hasHeadroom: Bool = false, purpose: Purpose,
    effect: Effect
  ) async throws(StoreError) -> Append {
    let byteCount = draft.recordByteCount
    await refreshSpace(olderThan: .seconds(5))
    var ready = try roomyVolume(for: byteCount, purpose)
    while ready == nil {
      try await changeVolume(for: byteCount)
      ready = try roomyVolume(for: byteCount, purpose)
    }
    let volume = ready!

    // From the last check to the queue nothing suspends: places follow sequences.
    var header = draft
    header.volumeID = volume.id
    header.offset = volume.end
    header.sequence = nextSequence
    header.durable = durableSequence
    header.firstSequence = volume.tally.firstSequence
    header.cut = volume.tally.cut
    nextSequence += 1
    volumes.grow(volume, by: byteCount)
    unindexedByteCount += byteCount

    let slices: [Slice]
    if let payload, hasHeadroom {
      let whole = Slice(
        buffer: payload.buffer, offset: payload.offset - RecordHeader.byteCount,
        count: payload.count + RecordHeader.byteCount)
      whole[0..<RecordHeader.byteCount].withMutableBytes { header.encode(into: $0) }
      slices = [whole]
    } else {
      let first = driver.buffers.slice(RecordHeader.byteCount)
      first.withMutableBytes { header.encode(into: $0) }
      slices = payload.map { [first, $0] } ?? [first]
    }
    let append = Append(header: header, volume: volume, slices: slices, effect: effect)
    unwritten.append(append)
    unwrittenByteCount += byteCount
    uncommitted.append(append)
    pump()
    prepareAhead()
    return append
  }

  // MARK: Writing

  /// Starts one more writer when there is something to write. It begins after the tasks that are ready now, so records
  /// they append go out with it.
  private func pump() {
    guard !isPumpScheduled, mayWrite else { return }
    isPumpScheduled = true
    background("append") {
      self.isPumpScheduled = false
      while self.mayWrite, let batch = self.nextBatch() {
        self.writesInFlight += 1
        self.pump()
        await self.write(batch)
        self.writesInFlight -= 1
      }
    }
  }

  /// Small records wait behind the writes under way to go out together. A whole batch gains nothing by waiting, and a disk
  /// that holds all there is does not stand idle until we have a processor again; only a head that moves is better off with
  /// less. What stays behind is taken by the writers under way, one of which there is then.
  private var mayWrite: Bool {
    guard unwrittenHead < unwritten.count else { return false }
    if writesInFlight < settings.concurrentWrites { return true }
    return unwrittenByteCount >= settings.largestAppendByteCount && !settings.isRotational
      && writesInFlight < 4 * settings.concurrentWrites
  }

  /// Records that lie one after the other in one volume, up to the settings' sizes, or one larger one.
  private func nextBatch() -> [Append]? {
    guard unwrittenHead < unwritten.count else { return nil }
    var batch = [unwritten[unwrittenHead]]
    var byteCount = batch[0].byteCount
    unwrittenHead += 1
    while unwrittenHead < unwritten.count, batch.count < settings.largestAppendRecordCount,
      !driver.meets(.appendAlone)
    {
      let next = unwritten[unwrittenHead]
      guard next.volume === batch[0].volume,
        byteCount + next.byteCount <= settings.largestAppendByteCount
      else { break }
      batch.append(next)
      byteCount += next.byteCount
      unwrittenHead += 1
    }
    unwrittenByteCount -= byteCount
    if unwrittenHead == unwritten.count {
      unwritten.removeAll(keepingCapacity: true)
      unwrittenHead = 0
    } else if unwrittenHead >= 256 {
      unwritten.removeFirst(unwrittenHead)
      unwrittenHead = 0
    }
    return batch
  }

  private func write(_ batch: [Append]) async {
    let volume = batch[0].volume
    if isAlone(batch) { return await writeDurably(batch) }
    do throws(RingError) {
      try await volumes.use(volume) { file throws(RingError) in
        try await file.write(batch.flatMap(\.slices), at: batch[0].header.offset)
      }
      for append in batch {
        append.isWritten = true
        append.slices = []
      }
      sync()
    } catch {
      retire("\(error)")
    }
  }

  /// Whether all that is not yet durable is this batch: then its write and the sync for it can follow each other in the
  /// kernel.
  private func isAlone(_ batch: [Append]) -> Bool {
    !isSyncing && writesInFlight == 1 && uncommittedHead + batch.count == uncommitted.count
      && uncommitted[uncommittedHead] === batch[0] && !driver.meets(.syncedApart)
  }

  /// Saves the turn of the loop between write and sync. What comes meanwhile is written beside it and waits for the next
  /// sync, as it does when a sync is under way.
  private func writeDurably(_ batch: [Append]) async {
    isSyncing = true
    let volume = batch[0].volume
    do throws(RingError) {
      try await volumes.use(volume) { file throws(RingError) in
        try await file.writeDurably(batch.flatMap(\.slices), at: batch[0].header.offset)
      }
    } catch {
      retire("\(error)")
    }
    isSyncing = false
    guard case .healthy = state else { return }
    for append in batch {
      append.isWritten = true
      append.slices = []
    }
    acknowledge(batch.count)
    sync()
  }

  // MARK: Group commit

  private func sync() {
    guard !isSyncing, uncommittedHead < uncommitted.count, uncommitted[uncommittedHead].isWritten
    else { return }
    isSyncing = true
    background("sync") {
      while await self.commit() {}
      self.isSyncing = false
    }
  }

  /// Makes durable what is written without a gap; false when there is nothing, or the device is retired.
  private func commit() async -> Bool {
    guard case .healthy = state else { return false }
    var end = uncommittedHead
    var touched: [Volume] = []
    while end < uncommitted.count, uncommitted[end].isWritten {
      if touched.last !== uncommitted[end].volume { touched.append(uncommitted[end].volume) }
      end += 1
      if driver.meets(.commitOfOne) { break }
    }
    let count = end - uncommittedHead
    guard count > 0 else { return false }
    for volume in touched {
      do throws(RingError) {
        try await volumes.use(volume) { file throws(RingError) in try await file.synchronize() }
      } catch {
        retire("\(error)")
        return false
      }
    }
    guard case .healthy = state else { return false }
    acknowledge(count)
    return true
  }

  /// The first `count` records not yet durable are so now.
  private func acknowledge(_ count: Int) {
    let done = Array(uncommitted[uncommittedHead..<uncommittedHead + count])
    uncommittedHead += count
    if uncommittedHead == uncommitted.count {
      uncommitted.removeAll(keepingCapacity: true)
      uncommittedHead = 0
    } else if uncommittedHead >= 256 {
      uncommitted.removeFirst(uncommittedHead)
      uncommittedHead = 0
    }
    // In order, and before any waiter runs: whoever is told, finds it in the index.
    for append in done {
      durableSequence = append.sequence
      apply(append)
    }
    for append in done { append.gate.open() }
    idle.wakeAll()
    maintain()
  }

  /// Takes a durable record into index and tallies.
  private func apply(_ append: Append) {
    let volume = append.volume
    noteApplied(append.header, in: volume)
    switch append.effect {
    case .block(let block, let replaced):
      if let replaced {
        markDead(replaced, of: block.key)
        forgetDamage(block.key, at: replaced)
      }
      makeLive(block, append.header, in: volume)
    case .copy(let block, let from):
      markDead(from, of: block.key)
      makeLive(block, append.header, in: volume)
    case .delete(let entries):
      for entry in entries {
        markDead(entry.place, of: entry.key)
        index.put(entry.key, Place(deletedAt: append.sequence))
        forgetDamage(entry.key, at: entry.place)
      }
    case .keptDeletes, .none:
      break
    }
  }

  func makeLive(_ block: StoredBlock, _ header: RecordHeader, in volume: Volume) {
    volume.tally.liveBlockCount += 1
    volume.tally.liveByteCount += header.recordByteCount
    if block.key.shard.container.kind != .data {
      volume.tally.liveLinkByteCount += header.recordByteCount
    }
    index.put(
      block.key,
      Place(block, volume: volume.number, offset: header.offset, sequence: header.sequence))
  }

  /// What every applied record tells about its volume.
  func noteApplied(_ header: RecordHeader, in volume: Volume) {
    volume.tally.end = header.offset + header.recordByteCount
    volume.tally.lastSequence = header.sequence
    if header.kind == .delete { volume.tally.deleteRecordCount += 1 }
    if header.kind != .block || header.shard.container.kind != .data {
      volume.tally.epoch = max(volume.tally.epoch, header.epoch)
      highestEpoch = max(highestEpoch, header.epoch)
    }
  }

  /// The record at `place` is no longer the block's.
  func markDead(_ place: Place, of key: BlockKey) {
    guard let volume = volumes[place.volume] else { return }
    volume.tally.liveBlockCount -= min(1, volume.tally.liveBlockCount)
    volume.tally.liveByteCount -= min(place.recordByteCount, volume.tally.liveByteCount)
    if key.shard.container.kind != .data {
      volume.tally.liveLinkByteCount -= min(
        place.recordByteCount, volume.tally.liveLinkByteCount)
    }
    volume.tally.deadBlockCount += 1
    headers.remove(volume: place.volume, unit: place.unit)
  }

  // MARK: Retirement

  /// Ends all writing to the device. What was not acknowledged fails; what was stays readable as long as the
  /// device lets us.
  ///
  /// - Parameters:
  ///   - isForGood: false when opening the device again may mend it.
  ///   - isPathOurs: false when something else may stand where the device's directory was.
  func retire(_ reason: String, isForGood: Bool = true, isPathOurs: Bool = true) {
    guard case .healthy = state else { return }
    state = .retired(reason: reason)
    if isForGood {
      retiredForGood = reason
      onRetirement?(reason)
    }
    let failed = uncommitted[uncommittedHead...]
    uncommitted = []
    uncommittedHead = 0
    unwritten = []
    unwrittenHead = 0
    unwrittenByteCount = 0
    for append in failed {
      append.error = .deviceFailed(reason)
      append.gate.open()
    }
    rotation?.open()
    idle.wakeAll()
    scrubEnded.wakeAll()
    guard isPathOurs else { return }
    let path = path
    let driver = driver
    background("note retirement") {
      // A device that fails may not take these. Whoever asked for ``onRetirement`` remembers instead; a damaged index is
      // found damaged again.
      if isForGood {
        try? await driver.replaceFile(path + "/retired", with: Array(reason.utf8))
      } else {
        try? await driver.remove(path + "/index/manifest")
        try? await driver.synchronizeDirectory(path + "/index")
      }
    }
  }
}
