internal import Cluster
internal import Glibc
internal import Ring
internal import Wire

/// Dead payloads are punched out at once; what stays behind is their headers, small dead blocks where the file system
/// cannot punch, and a file. Volumes that are mostly dead are emptied: what lives is copied to the open volume, and the
/// file removed.
extension ShardStore {
  /// The sealed volume with the smallest living share, when that is below `percent`.
  func compactionCandidate(below percent: UInt64) -> Volume? {
    var best: Volume?
    for volume in volumes.byNumber.values
    where volume.isSealed && volume.tally.end == volume.end && !volume.holdsCorruptBlock
      && !volume.isUnreadableInPart
      && volume.tally.deadBlockCount > 0
      && volume.tally.liveByteCount * 100 < volume.end * percent
    {
      if let other = best,
        (other.tally.liveByteCount, other.number) <= (volume.tally.liveByteCount, volume.number)
      {
        continue
      }
      best = volume
    }
    return best
  }

  /// Empties candidates one after the other, giving way to foreground work.
  func compact(below percent: UInt64) async {
    while case .healthy = state, !isClosing, let volume = compactionCandidate(below: percent) {
      guard await empty(volume) else { return }
    }
  }

  /// Removes sealed volumes in which nothing lives any more.
  func removeEmptyVolumes() async {
    for volume in volumes.all
    where volume.isSealed && volume.tally.end == volume.end && volume.tally.liveBlockCount == 0
      && !isCompacting && volumes[volume.number] === volume && state == .healthy
    {
      isCompacting = true
      let gone = await empty(volume)
      isCompacting = false
      if !gone { return }
    }
  }

  /// Copies what lives out of `volume`, with the deletes that other volumes still need, and removes it. False when that
  /// did not work out now.
  private func empty(_ volume: Volume) async -> Bool {
    do {
      if volume.tally.liveBlockCount > 0 || volume.tally.deleteRecordCount > 0 {
        guard try await copyLiving(from: volume) else { return false }
      }
      // The highest epoch must be found in a record when all index files are lost.
      if volume.tally.epoch > 0,
        !volumes.byNumber.values.contains(where: {
          $0 !== volume && $0.tally.epoch >= volume.tally.epoch
        })
      {
        try await appendMark()
      }
      guard volume.tally.liveBlockCount == 0 else { return false }
      // Until the runs cover what its records said, they must stay to be replayed.
      if volume.tally.lastSequence > manifest.coveredSequence {
        while isFlushing { await idle.wait() }
        await flushIndex()
        guard volume.tally.lastSequence <= manifest.coveredSequence else { return false }
      }
      try await volumes.remove(volume)
      freeSpaceTime = nil
      return true
    } catch let error as RingError {
      retire("\(error)")
      return false
    } catch {
      // Full, or retired meanwhile.
      return false
    }
  }

  private func copyLiving(from volume: Volume) async throws -> Bool {
    // That it cannot be opened is no reason to give the device up: it is tried again.
    guard case .some(.some(let file)) = try? await volumes.acquire(volume) else { return false }
    defer { volumes.release(volume) }
    let scanner = VolumeScanner(
      file, volumeID: volume.id, from: UInt64(VolumeHeader.byteCount), to: volume.end, after: 0,
      driver: driver)
    var kept: [DeleteEntry] = []
    var keptByteCount = 0
    while let item = await scanner.next() {
      guard case .record(let header) = item else { continue }
      if isClosing { return false }
      switch header.kind {
      case .block:
        await giveWay()
        guard try await copy(header, from: volume) else { return false }
      case .delete:
        guard header.sequence <= volume.tally.lastSequence,
          let list = await deleteList(header, in: volume)
        else { continue }
        for var entry in list.entries {
          if entry.before == 0 { entry.before = header.sequence }
          guard isNeeded(entry, without: volume) else { continue }
          kept.append(entry)
          keptByteCount += 40 + 10 * entry.stripes.count
          if keptByteCount > DeleteList.byteLimit {
            try await keep(kept)
            kept = []
            keptByteCount = 0
          }
        }
      case .fence, .mark:
        break
      }
    }
    if !kept.isEmpty { try await keep(kept) }
    return true
  }

  /// Lets writes that wait go first, for a while.
  private func giveWay() async {
    var patience = 10
    while uncommittedHead < uncommitted.count, patience > 0, !isClosing {
      await driver.sleep(.milliseconds(2))
      patience -= 1
    }
  }

  /// Whether another volume may hold records this entry declares dead, which a rebuild would bring back.
  private func isNeeded(_ entry: DeleteEntry, without volume: Volume) -> Bool {
    volumes.byNumber.values.contains {
      $0 !== volume && $0.tally.deadBlockCount > 0 && $0.tally.firstSequence < entry.before
    }
  }

  private func keep(_ entries: [DeleteEntry]) async throws(StoreError) {
    let (draft, payload) = deleteRecord(entries, epoch: highestEpoch)
    try await append(draft, payload: payload, purpose: .compaction, effect: .keptDeletes)
  }

  /// Copies one block if this record is still the living one. False when its bytes are wrong.
  private func copy(_ header: RecordHeader, from volume: Volume) async throws(StoreError) -> Bool {
    guard let block = header.block else { return true }
    // Not while a delete, a fence or another write of this shard is at work.
    await gates.enterAlone(block.key.shard)
    do throws(StoreError) {
      let isWhole = try await copyAlone(block, header, from: volume)
      gates.leaveAlone(block.key.shard)
      return isWhole
    } catch {
      gates.leaveAlone(block.key.shard)
      throw error
    }
  }

  private func copyAlone(_ block: StoredBlock, _ header: RecordHeader, from volume: Volume)
    async throws(StoreError) -> Bool
  {
    guard let place = try await find(block.key), place.volume == volume.number,
      place.offset == header.offset
    else { return true }
    let whole = driver.buffers.slice(Int(header.recordByteCount))
    let payload = whole[RecordHeader.byteCount..<whole.count]
    do throws(StoreError) {
      try await fill(
        payload, volume: volume.number, at: header.offset + UInt64(RecordHeader.byteCount))
    } catch {
      if case .corrupt = error { noteDamage(block.key, at: place) }
      throw error
    }
    guard payload.withBytes({ header.matches($0) }) else {
      // Its bytes stay where they are, for whatever they are still worth.
      noteDamage(block.key, at: place)
      return false
    }
    let draft = RecordHeader(
      kind: .block, payloadByteCount: payload.count, shard: block.key.shard,
      stripe: block.key.stripe, layout: block.layout, acknowledged: block.acknowledged,
      epoch: block.epoch, checksums: header.checksums)
    try await append(
      draft, payload: payload, hasHeadroom: true, purpose: .compaction,
      effect: .copy(block, from: place))
    return true
  }
}

extension RingError {
  /// Of descriptors or memory: it says nothing about the device.
  var isOurShortage: Bool { [EMFILE, ENFILE, ENOMEM].contains(errno) }

  /// No room: not a failure of the device.
  var isFull: Bool { errno == ENOSPC || errno == EDQUOT }

  /// The file system has no such thing.
  var isUnsupported: Bool { errno == EOPNOTSUPP || errno == ENOSYS }
}
