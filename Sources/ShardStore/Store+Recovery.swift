internal import Cluster
internal import Coding
internal import Glibc
internal import Ring
internal import Wire

/// What opening reads and what it believes.
///
/// Records above what the runs cover are read by their headers, volume after volume, and applied in the order of their
/// sequence:
///
/// - Up to the highest sequence that any header claims durable, a record with a whole header is believed; its payload is
///   checked when it is read. One that is missing there is lost: reported, not listed.
/// - Above it nothing is proven. A record counts if all before it count and its payload is whole; the first that does not
///   ends the tail, and what is behind it is cut off, reported.
///
/// The cut holds for ever: appending goes on in a new volume, whose records carry the last sequence that counts in
/// earlier ones, under sequence numbers that were never used. So what is found behind the cut later, even a write that
/// the dead process had under way, stays void.
///
/// When the manifest, a run or a volume they name is missing or damaged, all of it is done again from the first record.
extension ShardStore {
  /// Sequences skipped at each opening: more than a process can have in flight.
  static let sequenceGap: UInt64 = 1 << 20

  /// - Parameter retired: why nothing is ever to be written again, where that is known already.
  func recover(retired: String? = nil, isReadOnly: Bool = false) async throws(StoreError) {
    await recallRetirement(retired)
    if state == .healthy && isReadOnly { state = .retired(reason: "the file system is read-only") }
    await refreshSpace()
    let found = try await findVolumes()
    var reason = await loadIndex(found)
    if reason == nil {
      reason = try await replay() ?? lostVolumes()
    }
    if let reason {
      recovery = RecoveryReport()
      recovery.rebuildReason = reason.isEmpty ? nil : reason
      recovery.missingVolumeCount = volumes.all.count {
        $0.isMissing && $0.tally.liveBlockCount > 0
      }
      await forgetIndex(found)
      _ = try await replay()
    }
    await settle()
  }

  /// Looks for the file `retired`. One that cannot be read counts as there until the device is opened again: what it
  /// would have said for good, the node knows too.
  private func recallRetirement(_ known: String?) async {
    retiredForGood = known
    var reason = known
    do throws(RingError) {
      let note = try await driver.readFile(path + "/retired", limit: 64 << 10)
      retiredForGood = String(decoding: note, as: UTF8.self)
      reason = retiredForGood
    } catch {
      if error.errno != ENOENT { reason = reason ?? "\(error)" }
    }
    if let reason { state = .retired(reason: reason) }
  }

  private struct FoundVolume {
    var number: UInt32
    var id: UInt64
    var byteCount: UInt64
    var madeByteCount: UInt64
  }

  /// The volume files of this device, ascending by number.
  private func findVolumes() async throws(StoreError) -> [FoundVolume] {
    var found: [FoundVolume] = []
    let header = driver.buffers.slice(VolumeHeader.byteCount)
    do throws(RingError) {
      for entry in try await driver.list(path + "/volumes") where entry.kind == .file {
        guard let (number, id) = Volume.parse(name: entry.name) else { continue }
        let name = "volumes/" + String(decoding: entry.name, as: UTF8.self)
        let byteCount = try await driver.status(path + "/" + name).byteCount
        var volume = FoundVolume(number: number, id: id, byteCount: byteCount, madeByteCount: 0)
        let file = try await volumes.openFile(name, volumes.accessMode)
        let count = (try? await file.read(into: header, at: 0)) ?? 0
        await file.close()
        switch header[0..<count].withBytes({ VolumeHeader.parse($0) }) {
        case .newer(let version):
          throw RingError(errno: 0, operation: "\(version)", subject: name)
        case .damaged:
          // The name is enough. A volume that was being made when the power went has no records and goes later.
          if count < VolumeHeader.byteCount || header.array.contains(where: { $0 != 0 }) {
            recovery.note(name, 0, "volume header is damaged")
          }
        case .header(let own):
          guard own.device == device, own.number == number, own.id == id else {
            recovery.note(name, 0, "belongs to \(own.device); left alone")
            continue
          }
          volume.madeByteCount = own.byteCount
        }
        found.append(volume)
      }
    } catch {
      if error.errno == 0 {
        throw .newerFormat(
          path: path + "/" + error.subject, version: UInt32(error.operation) ?? 0)
      }
      throw .system(error)
    }
    found.sort { ($0.number, $0.id) < ($1.number, $1.id) }
    // Two files of one number can only come from someone's copying about; the records tell by id which are whose, but
    // the index knows volumes by number.
    var kept: [FoundVolume] = []
    for volume in found {
      if kept.last?.number == volume.number {
        recovery.note("volumes", 0, "two volumes have number \(volume.number); one is left alone")
      } else {
        kept.append(volume)
      }
    }
    return kept
  }

  /// Takes over what the manifest says; returns why the index must be made anew, nil when it need not.
  private func loadIndex(_ found: [FoundVolume]) async -> String? {
    var opened: [Run] = []
    do throws(IndexDamage) {
      guard let manifest = try await Manifest.load(path, device: device, on: driver) else {
        // A new device, or one that never flushed: nothing is covered, nothing is wrong.
        await adoptVolumes(found)
        await removeStrayRuns()
        return nil
      }
      for line in manifest.runs {
        let run = try await Run.open(path, number: line.number, device: device, on: driver)
        opened.append(run)
        guard UInt64(run.entryCount) == line.entryCount else {
          throw IndexDamage(what: "\(Run.name(line.number)) is another")
        }
      }
      let byNumber = Dictionary(uniqueKeysWithValues: found.map { ($0.number, $0) })
      for line in manifest.volumes {
        let file = byNumber[line.number]
        let volume = Volume(
          number: line.number, id: line.id, byteCount: file?.byteCount ?? 0,
          madeByteCount: file?.madeByteCount ?? 0)
        volume.tally = line.tally
        volume.end = line.tally.end
        volume.isMissing = file.map { $0.id != line.id } ?? true
        volume.isSealed = line.isComplete
        guard volumes[line.number] == nil else {
          throw IndexDamage(what: "index/manifest names a volume twice")
        }
        volumes.add(volume)
      }
      self.manifest = manifest
      index.adopt(opened)
      index.nextRun = manifest.nextRun
      nextVolume = manifest.nextVolume
      nextSequence = manifest.nextSequence
      highestEpoch = manifest.highestEpoch
      durableSequence = manifest.coveredSequence
      await adoptVolumes(found)
      await removeStrayRuns()
      return nil
    } catch {
      for run in opened { await run.close() }
      return error.what
    }
  }

  /// Adds the volumes that the manifest does not name. One numbered below the manifest's next was removed when it was
  /// written; its file only survived the power cut.
  private func adoptVolumes(_ found: [FoundVolume]) async {
    for volume in found where volumes[volume.number] == nil {
      let fresh = Volume(
        number: volume.number, id: volume.id, byteCount: volume.byteCount,
        madeByteCount: volume.madeByteCount)
      if volume.number < nextVolume {
        removedVolumes.append(fresh.name)
      } else {
        volumes.add(fresh)
      }
    }
    for volume in found { nextVolume = max(nextVolume, volume.number &+ 1) }
  }

  /// Removes run files that no manifest names: from a flush that did not end.
  private func removeStrayRuns() async {
    let named = Set(manifest.runs.map { Array(Run.name($0.number).utf8) })
    guard let entries = try? await driver.list(path + "/index") else { return }
    for entry in entries where entry.kind == .file {
      let name = Array("index/".utf8) + entry.name
      guard !named.contains(name), entry.name != Array("manifest".utf8) else { continue }
      try? await driver.remove(path + "/" + String(decoding: name, as: UTF8.self))
    }
  }

  /// Why the index names what is not there, if it does.
  private func lostVolumes() -> String? {
    let lost = volumes.all.filter { $0.isMissing && $0.tally.liveBlockCount > 0 }
    if let first = lost.first { return "\(first.name) is missing" }
    return nil
  }

  private func forgetIndex(_ found: [FoundVolume]) async {
    await index.close()
    index.reset()
    // They are the truth; the manifest that called them removed is not.
    removedVolumes = []
    let epoch = manifest.highestEpoch
    let reserved = (manifest.nextSequence, manifest.nextVolume, manifest.nextRun)
    await volumes.forgetAll()
    manifest = Manifest(device: device)
    await removeStrayRuns()
    try? await driver.remove(path + "/index/manifest")
    // Numbers once used stay used, and an epoch once seen stays seen.
    highestEpoch = epoch
    nextSequence = max(1, reserved.0)
    nextVolume = 1
    durableSequence = 0
    await adoptVolumes(found)
    nextVolume = max(nextVolume, reserved.1)
    index.nextRun = max(1, reserved.2)
  }

  // MARK: Replay

  private struct Candidate {
    var header: RecordHeader
    var volume: Volume
  }

  /// Applies what the runs do not cover, and leaves `durableSequence` at the last record that counts.
  ///
  /// - Returns: in what way the index contradicts the volumes, if it does.
  private func replay() async throws(StoreError) -> String? {
    var contradiction: String?
    var waiting: [Candidate] = []
    var head = 0
    var proven = durableSequence
    var seen = max(durableSequence, nextSequence - 1)
    var lastVolume: Volume?
    var lastWithRecords: Volume?
    var shortened: [Volume] = []

    for volume in volumes.all where !volume.isMissing && !volume.isSealed {
      let file: File
      do {
        guard let opened = try await volumes.acquire(volume) else { continue }
        file = opened
      } catch {
        throw .system(error)
      }
      let scanner = VolumeScanner(
        file, volumeID: volume.id, from: volume.tally.end, to: volume.byteCount,
        after: volume.tally.lastSequence, driver: driver)
      var isFirst = true
      while let item = await scanner.next() {
        switch item {
        case .record(let header):
          recovery.scannedRecordCount += 1
          if isFirst {
            isFirst = false
            volume.tally.firstSequence = header.firstSequence
            volume.tally.cut = header.cut
            // What earlier volumes hold above this volume's cut is void for ever. It was reported when it was cut.
            var kept = waiting[head...].count
            while kept > 0, waiting[head + kept - 1].volume !== volume,
              waiting[head + kept - 1].header.sequence > header.cut
            { kept -= 1 }
            waiting.removeLast(waiting.count - head - kept)
          }
          seen = max(seen, header.sequence)
          // A claim about records that this very header follows; a later one says more.
          proven = max(proven, min(header.durable, header.sequence - 1))
          if header.sequence <= durableSequence {
            // The runs cover it, but not the tally of its volume.
            contradiction = "\(volume.name) holds more than index/manifest says"
            continue
          }
          waiting.append(Candidate(header: header, volume: volume))
          while head < waiting.count, waiting[head].header.sequence <= proven {
            try await apply(waiting[head], after: lastVolume)
            lastVolume = waiting[head].volume
            head += 1
          }
          if head > 1024 {
            waiting.removeFirst(head)
            head = 0
          }
        case .damaged(let range):
          recovery.note(volume.name, range.lowerBound, "\(range.count) bytes are no records")
        case .newer(let offset, let version):
          volumes.release(volume)
          throw .newerFormat(
            path: "\(path)/\(volume.name) at \(offset)", version: UInt32(version))
        }
      }
      if volume.byteCount < volume.madeByteCount, scanner.lastEnd != volume.byteCount || isFirst {
        shortened.append(volume)
      }
      lastWithRecords = isFirst ? lastWithRecords : volume
      recovery.readErrorCount += scanner.readErrorCount
      if scanner.readErrorCount > 0 { volume.isUnreadableInPart = true }
      volumes.release(volume)
      await volumes.close(volume)
    }

    // A volume is cut to length when the next one is opened, and by recovery, which notes it. Any other ends early
    // because something bit it off.
    if let last = lastWithRecords, last.byteCount < last.madeByteCount,
      !shortened.contains(where: { $0 === last })
    {
      shortened.append(last)
    }
    for volume in shortened {
      recovery.note(
        volume.name, volume.byteCount, "cut off: it was made with \(volume.madeByteCount) bytes")
    }

    // The unproven tail.
    while head < waiting.count {
      let candidate = waiting[head]
      guard missing(before: candidate, after: lastVolume, above: proven) == 0,
        await confirm(candidate)
      else { break }
      try await apply(candidate, after: lastVolume)
      lastVolume = candidate.volume
      head += 1
    }
    for candidate in waiting[head...] {
      recovery.cutRecordCount += 1
      recovery.note(
        candidate.volume.name, candidate.header.offset,
        "unproven record \(candidate.header.sequence) is cut off")
    }
    // Proven records that nothing readable is left of at the very end.
    if proven > durableSequence {
      let first = waiting[head...].first?.volume ?? lastVolume
      let from = max(durableSequence, (first?.tally.firstSequence ?? 1) - 1)
      recovery.lostRecordCount += proven > from ? proven - from : 0
    }
    durableSequence = max(durableSequence, proven)
    nextSequence = max(seen, proven) + 1 + Self.sequenceGap
    return contradiction
  }

  /// Records above `floor` that should stand between the last applied one and this one.
  private func missing(before candidate: Candidate, after last: Volume?, above floor: UInt64)
    -> UInt64
  {
    let base = max(durableSequence, floor)
    let sequence = candidate.header.sequence
    let (first, cut) = (candidate.header.firstSequence, candidate.header.cut)
    if last === candidate.volume || base >= first {
      return sequence > base + 1 ? sequence - base - 1 : 0
    }
    let here = sequence > first ? sequence - first : 0
    // A volume in between may have been emptied and removed, so only neighbours tell.
    guard let last, last.number + 1 == candidate.volume.number else { return here }
    return here + (cut > base ? cut - base : 0)
  }

  /// Whether an unproven record is whole. If so it is written again, the same bytes in the same place: when its sync
  /// failed, or nobody lived to ask, the kernel may show what the medium never got, and no later sync would bring it.
  private func confirm(_ candidate: Candidate) async -> Bool {
    let header = candidate.header
    let record = driver.buffers.slice(Int(header.recordByteCount))
    do throws(StoreError) {
      try await fill(record, volume: candidate.volume.number, at: header.offset)
    } catch {
      return false
    }
    let payload = record[RecordHeader.byteCount..<record.count]
    guard case .header(header) = record.withBytes({ RecordHeader.parse($0) }),
      payload.withBytes({ header.matches($0) })
    else { return false }
    guard case .healthy = state else { return true }
    do throws(RingError) {
      try await volumes.use(candidate.volume) { file throws(RingError) in
        try await file.write([record], at: header.offset)
      }
    } catch {
      retire("\(error)")
    }
    return true
  }

  /// Takes one record in, as it was when it became durable.
  private func apply(_ candidate: Candidate, after last: Volume?) async throws(StoreError) {
    let header = candidate.header
    let volume = candidate.volume
    let lost = missing(before: candidate, after: last, above: 0)
    if lost > 0 {
      recovery.lostRecordCount += lost
      recovery.note(volume.name, header.offset, "\(lost) records before this are lost")
    }
    durableSequence = header.sequence
    noteApplied(header, in: volume)
    volume.end = volume.tally.end
    unindexedByteCount += header.recordByteCount
    switch header.kind {
    case .block:
      guard let block = header.block else { break }
      await take(block, header, in: volume, besides: try await find(block.key))
    case .delete:
      guard let list = await deleteList(header, in: volume) else {
        recovery.note(volume.name, header.offset, "what was deleted here cannot be read")
        break
      }
      for entry in list.entries {
        let before = entry.before == 0 ? header.sequence : entry.before
        let stripes = Set(entry.stripes)
        for block in try await blocks(of: entry.shard)
        where block.place.sequence < before
          && (stripes.isEmpty || stripes.contains(block.key.stripe))
        {
          await bury(block.place, of: block.key)
          index.put(block.key, Place(deletedAt: header.sequence))
          // A record on the way to here that was punched out when this came looked damaged.
          forgetDamage(block.key, at: block.place)
        }
      }
    case .fence, .mark:
      break
    }
    if index.memoryCount >= settings.indexEntryLimit { await flushIndex() }
  }

  /// Takes a block's record in. Where there is an older one too, of a block that was damaged or is being moved, the newer
  /// counts, unless it is the damaged one of the two.
  private func take(
    _ block: StoredBlock, _ header: RecordHeader, in volume: Volume, besides older: Place?
  ) async {
    let newer = Place(
      block, volume: volume.number, offset: header.offset, sequence: header.sequence)
    guard let older else { return makeLive(block, header, in: volume) }
    // A read that cannot be made now, for lack of descriptors or memory, speaks against neither.
    let isNewerWhole = await (try? isWhole(block.key, at: newer)) ?? true
    if !isNewerWhole, await isTwin(older, of: header) {
      recovery.note(volume.name, header.offset, "the copy is damaged; what it was made of counts")
      volume.tally.deadBlockCount += 1
      if state == .healthy { _ = await punch(newer, in: volume) }
      return
    }
    await bury(older, of: block.key)
    makeLive(block, header, in: volume)
    if isNewerWhole { forgetDamage(block.key, at: older) } else { noteDamage(block.key, at: newer) }
  }

  /// Whether the record at `place` is whole and has the same bytes as the one with this header.
  private func isTwin(_ place: Place, of header: RecordHeader) async -> Bool {
    let record = driver.buffers.slice(Int(place.recordByteCount))
    guard (try? await fill(record, volume: place.volume, at: place.offset)) != nil,
      let other = self.header(of: header.key, at: place, in: record)
    else { return false }
    return other.layout == header.layout && other.checksums == header.checksums
  }

  /// Counts a record dead and returns its payload, which the crash may have prevented.
  private func bury(_ place: Place, of key: BlockKey) async {
    markDead(place, of: key)
    guard let volume = volumes[place.volume], !volume.isMissing, state == .healthy else { return }
    _ = await punch(place, in: volume)
  }

  /// The payload of a delete record; nil when it is damaged.
  func deleteList(_ header: RecordHeader, in volume: Volume) async -> DeleteList? {
    let payload = driver.buffers.slice(RecordHeader.padded(header.payloadByteCount))
    do {
      try await fill(
        payload, volume: volume.number, at: header.offset + UInt64(RecordHeader.byteCount))
      guard payload.withBytes({ header.matches($0) }) else { return nil }
      return try DeleteList(decoding: payload[0..<header.payloadByteCount].array)
    } catch {
      return nil
    }
  }

  // MARK: Afterwards

  /// Makes durable what was believed, lets the runs cover it, cuts what was not, and seals every volume: appending goes
  /// on in a new one.
  private func settle() async {
    var isCovered = true
    for volume in volumes.all {
      if volume.isMissing {
        volumes.drop(volume)
        continue
      }
      if volume.byteCount < volume.tally.end {
        recovery.note(
          volume.name, volume.byteCount, "cut off: it had \(volume.tally.end) bytes and more")
      }
      let wasSealed = volume.isSealed
      volume.end = volume.tally.end
      volume.isSealed = true
      guard state == .healthy, !wasSealed else { continue }
      do throws(RingError) {
        if volume.tally.lastSequence == 0 {
          // Nothing counts in it, and nothing was ever acknowledged from it: made ahead of need, or cut off whole.
          if !volume.isUnreadableInPart { try await volumes.remove(volume) }
        } else {
          isCovered = false
          try await volumes.use(volume) { file throws(RingError) in
            try await file.synchronize(dataOnly: false)
          }
        }
      } catch {
        retire("\(error)")
      }
    }
    volumes.recount()
    guard state == .healthy else { return }
    for name in removedVolumes {
      // What stays is found again at the next opening.
      try? await driver.remove(path + "/" + name)
    }
    removedVolumes = []
    // Before the files are shortened: afterwards only the manifest knows that they were meant to end there.
    if !isCovered || recovery.rebuildReason != nil { await flushIndex() }
    // Sectors that could not be read now may be read another time: those volumes keep their length.
    for volume in volumes.all where volume.byteCount > volume.end && !volume.isUnreadableInPart {
      do throws(RingError) {
        // Durably: once the volumes of the coming session are emptied and gone, no record tells any more where this
        // one was cut.
        try await volumes.use(volume) { file throws(RingError) in
          try await file.truncate(to: volume.end)
          try await file.synchronize(dataOnly: false)
        }
        volume.byteCount = volume.end
        await volumes.close(volume)
      } catch {
        retire("\(error)")
        return
      }
    }
    volumes.recount()
    await refreshSpace()
  }
}
