internal import Cluster
internal import Glibc
internal import Ring

/// Reads every living block again, in the order of the volumes, and compares: header, key, checksums, index. Giving way to
/// foreground work, at a bounded rate.
///
/// A round is over when it has been through the volumes there were when it began. What is written meanwhile was checked when
/// it came, and so was what compaction moves: it reads the block whole before it writes it elsewhere. So whatever lives from
/// the beginning of a round to its end is read in it. What was known to be wrong and reads right is so no more.
extension ShardStore {
  /// Index entries looked at together: the index is ordered by key, and walked once for as many volumes as hold so many.
  private static let batchEntryCount: UInt64 = 1 << 17
  /// Neighbours are read in one piece up to this.
  private static let readByteCount: UInt64 = 1 << 20
  /// Dead records between two living ones, up to this, are read along.
  private static let gapByteCount: UInt64 = 64 << 10
  /// Slower than this nobody needs it to be: a small device is done early, and waits.
  private static let leastByteRate: UInt64 = 1 << 20
  private static let noteInterval = Duration.seconds(30)

  package var scrubState: ScrubState {
    let note = scrubNote
    return ScrubState(
      round: note.round, finishedRound: note.finishedRound,
      beganMilliseconds: note.beganMilliseconds, finishedMilliseconds: note.finishedMilliseconds,
      doneByteCount: note.doneByteCount, totalByteCount: note.totalByteCount,
      foundInRound: note.foundInRound, foundInAll: note.foundInAll)
  }

  /// Begins a round now, in the place of one that may be under way.
  ///
  /// - Parameter byteRate: bytes a second; nil: as many as the settings allow.
  /// - Returns: the number of the round.
  /// - Throws: `closed`, `deviceFailed`.
  @discardableResult
  package func scrubNow(byteRate: UInt64? = nil) throws(StoreError) -> UInt64 {
    try checkWritable()
    scrubRate = max(1, byteRate ?? settings.scrubByteRate)
    beginRound()
    startScrubbing()
    return scrubNote.round
  }

  /// Waits until a round of at least that number has ended; false when it does not end any more: the device was closed or
  /// retired.
  @discardableResult
  package func waitForScrub(_ round: UInt64) async -> Bool {
    while scrubNote.finishedRound < round {
      guard !isClosing, scrubTaskCount > 0, case .healthy = state else { return false }
      await scrubEnded.wait()
    }
    return true
  }

  private func beginRound() {
    scrubNote.round += 1
    scrubNote.beganMilliseconds = wallMilliseconds
    scrubNote.volume = 0
    scrubNote.unit = 0
    scrubNote.lastVolume = volumes.byNumber.keys.max() ?? 0
    scrubNote.doneByteCount = 0
    scrubNote.totalByteCount = volumes.byNumber.values.reduce(0) { $0 + $1.tally.liveByteCount }
    scrubNote.foundInRound = 0
    damage.recount()
    scrubNoteChanged = true
  }

  private var wallMilliseconds: UInt64 {
    let (seconds, attoseconds) = driver.wallClock.components
    return UInt64(max(0, seconds)) * 1000 + UInt64(max(0, attoseconds) / 1_000_000_000_000_000)
  }

  /// Scrubs on, as the settings say or a round under way wants; the task before ends first.
  func startScrubbing() {
    guard settings.scrubInterval > .zero || scrubNote.isRunning else { return }
    let before = scrubTask
    before?.cancel()
    scrubTaskCount += 1
    scrubTask = driver.spawn("scrub") { [self] in
      await before?.wait()
      defer {
        scrubTaskCount -= 1
        scrubEnded.wakeAll()
      }
      while !Task.isCancelled, !isClosing {
        if !scrubNote.isRunning {
          guard settings.scrubInterval > .zero else { return }
          let rest = untilNextRound
          if rest > .zero {
            guard await driver.sleep(min(rest, .seconds(3600))) else { return }
            continue
          }
          beginRound()
        }
        // What a retired device still has is rebuilt elsewhere.
        guard case .healthy = state, await scrubRound() else {
          guard await driver.sleep(.seconds(60)) else { return }
          continue
        }
      }
    }
  }

  func stopScrubbing() async {
    scrubTask?.cancel()
    await scrubTask?.wait()
    scrubTask = nil
    scrubEnded.wakeAll()
  }

  /// A clock that was set back must not put the next round off for longer than a round takes.
  private var untilNextRound: Duration {
    if scrubNote.round == 0 { return .zero }
    let since = Duration.milliseconds(
      Int64(wallMilliseconds) - Int64(scrubNote.beganMilliseconds))
    return since < .zero ? settings.scrubInterval : settings.scrubInterval - since
  }

  /// Goes on with the round under way to its end; false when it was interrupted.
  private func scrubRound() async -> Bool {
    let round = scrubNote.round
    var next = driver.now
    while let batch = await nextBatch() {
      var rest = batch.entries[...]
      while !rest.isEmpty {
        let run = Self.firstRun(&rest)
        await giveWayToForeground()
        guard !Task.isCancelled, !isClosing, case .healthy = state, scrubNote.round == round else {
          return false
        }
        let byteCount = run.reduce(0) { $0 + $1.place.recordByteCount }
        guard await check(run) else { return false }
        // A round that was asked for meanwhile counts for itself.
        guard scrubNote.round == round else { return false }
        let last = run.last!.place
        scrubNote.volume = last.volume
        scrubNote.unit = last.unit + 1
        scrubNote.doneByteCount += byteCount
        scrubNoteChanged = true
        await writeScrubNote(olderThan: Self.noteInterval)
        // What was lost by waiting for others is not made up for.
        next = max(next, driver.now - .seconds(1)) + pause(after: byteCount)
        if next > driver.now {
          guard await driver.sleep(next - driver.now) else { return false }
        }
      }
      guard scrubNote.round == round else { return false }
      scrubNote.volume = batch.lastVolume + 1
      scrubNote.unit = 0
    }
    guard !Task.isCancelled, !isClosing, case .healthy = state, scrubNote.round == round else {
      return false
    }
    scrubNote.finishedRound = round
    scrubNote.finishedMilliseconds = wallMilliseconds
    if damage.unlistedCount == 0 {
      // All that is damaged is listed now: volumes that were kept for what was only counted may go.
      for volume in volumes.byNumber.values {
        volume.holdsCorruptBlock = damage.holds(volume: volume.number)
      }
    }
    scrubRate = nil
    scrubNoteChanged = true
    await writeScrubNote()
    scrubEnded.wakeAll()
    return true
  }

  /// How long `byteCount` bytes take at the rate of this round: as asked for, or so that it is done in four fifths of its time.
  private func pause(after byteCount: UInt64) -> Duration {
    var rate = scrubRate ?? settings.scrubByteRate
    if scrubRate == nil, settings.scrubInterval > .zero {
      let whole = settings.scrubInterval * 4 / 5
      let since = Duration.milliseconds(
        Int64(wallMilliseconds) - Int64(scrubNote.beganMilliseconds))
      let left = whole - max(.zero, since)
      let total = max(scrubNote.totalByteCount, scrubNote.doneByteCount)
      if left >= .seconds(1) {
        let even = (total - scrubNote.doneByteCount) / UInt64(left.components.seconds)
        rate = min(rate, max(even, Self.leastByteRate))
      }
    }
    return .microseconds(Int64(clamping: byteCount * 1_000_000 / max(1, rate)))
  }

  /// Lets reads and writes that wait go first, for a while.
  private func giveWayToForeground() async {
    var patience = 10
    while readsUnderWay > 0 || uncommittedHead < uncommitted.count, patience > 0, !isClosing {
      await driver.sleep(.milliseconds(2))
      patience -= 1
    }
  }

  // MARK: What to read

  private struct Batch {
    /// By place.
    var entries: [IndexEntry]
    var lastVolume: UInt32
  }

  /// The living blocks of the next volumes; nil when there are none, or the index cannot tell.
  private func nextBatch() async -> Batch? {
    let start = (scrubNote.volume, scrubNote.unit)
    var wanted: Set<UInt32> = []
    var last: UInt32 = 0
    var count: UInt64 = 0
    for volume in volumes.all
    where volume.number >= start.0 && volume.number <= scrubNote.lastVolume
      && volume.tally.liveBlockCount > 0
    {
      guard wanted.isEmpty || count + volume.tally.liveBlockCount <= Self.batchEntryCount else {
        break
      }
      wanted.insert(volume.number)
      count += volume.tally.liveBlockCount
      last = volume.number
    }
    guard !wanted.isEmpty else { return nil }
    var entries: [IndexEntry] = []
    entries.reserveCapacity(Int(count))
    do throws(IndexDamage) {
      try await index.walk(after: nil) { entry in
        if wanted.contains(entry.place.volume),
          entry.place.volume != start.0 || entry.place.unit >= start.1
        {
          entries.append(entry)
        }
        return true
      }
    } catch {
      _ = failed(error)
      return nil
    }
    entries.sort { ($0.place.volume, $0.place.unit) < ($1.place.volume, $1.place.unit) }
    return Batch(entries: entries, lastVolume: last)
  }

  /// Takes the first entries that are to be read in one piece.
  private static func firstRun(_ rest: inout ArraySlice<IndexEntry>) -> ArraySlice<IndexEntry> {
    let first = rest.first!.place
    var end = first.offset + first.recordByteCount
    var count = 1
    for entry in rest.dropFirst() {
      let place = entry.place
      guard place.volume == first.volume, place.offset >= end,
        place.offset - end <= gapByteCount,
        place.offset + place.recordByteCount - first.offset <= readByteCount
      else { break }
      end = place.offset + place.recordByteCount
      count += 1
    }
    defer { rest.removeFirst(count) }
    return rest.prefix(count)
  }

  // MARK: Comparing

  /// Reads the records and notes those that are wrong and still the living ones; false when our own process lacks what it
  /// takes to read.
  private func check(_ run: ArraySlice<IndexEntry>) async -> Bool {
    let first = run.first!.place
    let last = run.last!.place
    let whole = driver.buffers.slice(Int(last.offset + last.recordByteCount - first.offset))
    var isRead = true
    do throws(StoreError) {
      try await fillFromDevice(whole, volume: first.volume, at: first.offset)
    } catch {
      guard case .corrupt = error else { return false }
      isRead = false
    }
    for entry in run {
      let place = entry.place
      do throws(StoreError) {
        if isRead {
          let at = Int(place.offset - first.offset)
          let record = whole[at..<at + Int(place.recordByteCount)]
          if header(of: entry.key, at: place, in: record) != nil {
            try await noteRight(entry.key, at: place)
            continue
          }
        } else if try await isWhole(entry.key, at: place, fromDevice: true) {
          // One bad sector must not cost its neighbours their name.
          try await noteRight(entry.key, at: place)
          continue
        }
        // Deleted, moved or written anew while we read?
        if try await find(entry.key) == place { noteFound(entry.key, at: place) }
      } catch {
        return false
      }
    }
    return true
  }

  /// Reads all of `slice`, past the page cache also where volumes are read and written through it: what is remembered there
  /// says nothing about the medium. Not where the file system has no direct I/O.
  ///
  /// - Throws: as ``fill(_:volume:at:)``.
  func fillFromDevice(_ slice: Slice, volume number: UInt32, at offset: UInt64)
    async throws(StoreError)
  {
    guard volumes.directFlag == 0, !scrubIsBuffered, let volume = volumes[number] else {
      return try await fill(slice, volume: number, at: offset)
    }
    do throws(RingError) {
      let file = try await File.open(
        path + "/" + volume.name, O_RDONLY | O_DIRECT, on: driver)
      let count: Int
      do throws(RingError) { count = try await file.read(into: slice, at: offset) } catch {
        await file.close()
        throw error
      }
      await file.close()
      guard count == slice.count else {
        throw RingError(errno: EIO, operation: "read past the end", subject: volume.name)
      }
    } catch {
      if error.errno == EINVAL {
        scrubIsBuffered = true
        return try await fill(slice, volume: number, at: offset)
      }
      if error.isOurShortage { throw .system(error) }
      throw .corrupt("\(error)")
    }
  }

  /// What could not be read for a moment only is not wrong for ever: where no other block can mend it, nothing else would tell.
  private func noteRight(_ key: BlockKey, at place: Place) async throws(StoreError) {
    guard damage.standing(of: key) == .damaged, try await find(key) == place else { return }
    forgetDamage(key, at: place)
  }

  private func noteFound(_ key: BlockKey, at place: Place) {
    scrubNote.foundInRound += 1
    scrubNote.foundInAll += 1
    noteDamage(key, at: place)
  }

  // MARK: The note

  /// Reads the note that was left, and looks at the blocks it names in the background.
  func recallScrub() async {
    defer {
      isScrubRecalled = true
      // What recovery found.
      if scrubNoteChanged { damageChanged() }
    }
    guard let bytes = try? await driver.readFile(path + ScrubNote.name, limit: 16 << 20),
      let note = ScrubNote(decoding: bytes, device: device)
    else { return }
    scrubNote = note
    scrubNote.damaged = []
    scrubNote.suspected = []
    guard !note.damaged.isEmpty || !note.suspected.isEmpty else { return }
    background("recall damage") { [self] in
      for key in note.damaged {
        if isClosing { return }
        // One that reads right now was mended, or the device thought better of it.
        guard let place = try? await find(key) else { continue }
        await giveWayToForeground()
        guard let isWhole = try? await isWhole(key, at: place), !isWhole,
          let now = try? await find(key), now == place
        else { continue }
        noteDamage(key, at: place)
      }
      for key in note.suspected {
        if isClosing { return }
        if (try? await find(key)) != nil, damage.suspect(key) { damageChanged() }
      }
    }
  }

  /// Damage became known, or is no more.
  func damageChanged() {
    scrubNoteChanged = true
    // A note that is written before the one of old is read would take its place.
    guard isScrubRecalled, !isWritingScrubNote, !isClosing, case .healthy = state else { return }
    background("note damage") { [self] in await writeScrubNote(olderThan: .seconds(10)) }
  }

  /// Nobody depends on it: what cannot be written now is found again.
  func writeScrubNote(olderThan age: Duration = .zero) async {
    guard scrubNoteChanged, !isWritingScrubNote, case .healthy = state else { return }
    if let scrubNoteTime, driver.now - scrubNoteTime < age { return }
    isWritingScrubNote = true
    scrubNoteChanged = false
    scrubNoteTime = driver.now
    var note = scrubNote
    note.damaged = damage.damaged(after: nil, limit: DamagedBlocks.limit)
    note.suspected = damage.suspected(after: nil, limit: DamagedBlocks.limit)
    do throws(RingError) {
      try await driver.replaceFile(path + ScrubNote.name, with: note.encoded)
    } catch {
      scrubNoteChanged = true
    }
    isWritingScrubNote = false
  }
}
