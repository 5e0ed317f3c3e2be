internal import Cluster
internal import Glibc
internal import Ring

/// Who may take how much, and where the next record goes.
extension ShardStore {
  /// Bytes at the end of each volume that only deletes, fences and marks may use: when not even a small volume can be
  /// made any more, a delete still has a place, and gives room.
  var controlByteCount: UInt64 {
    min(64 << 10, max(8 << 10, settings.volumeByteCount / 16 / 4096 * 4096))
  }

  /// What the store could occupy if nobody else used the file system.
  var largestByteCount: UInt64 { min(settings.capacity, fileSystemByteCount) }

  /// Bytes only links, deletes, fences and compaction may use. A capacity that the file system does not have must not
  /// ask for a reserve that leaves nothing.
  var reserveByteCount: UInt64 { min(settings.reserveByteCount, largestByteCount / 4) }

  /// Bytes of a volume: on a small file system smaller ones, lest the open one and the next take what the index needs.
  var volumeByteCount: UInt64 {
    min(settings.volumeByteCount, max(16 << 10, largestByteCount / 16 / 4096 * 4096))
  }

  /// All bytes the store occupies. The unused part of a preallocated volume counts as free.
  var occupiedByteCount: UInt64 { volumes.occupiedByteCount + index.runByteCount }

  /// What the configured capacity and the file system allow to be occupied.
  var byteLimit: UInt64 {
    guard freeSpace != .max else { return settings.capacity }
    // What no file has set aside is still free, and each write since has taken from that.
    let ours =
      preallocates ? occupiedByteCount + volumes.unusedByteCount : occupiedAtFreeSpace
    let (possible, overflow) = ours.addingReportingOverflow(freeSpace)
    return overflow ? settings.capacity : min(settings.capacity, possible)
  }

  /// Asks the file system how much is free, unless that was done less than `age` ago.
  func refreshSpace(olderThan age: Duration = .zero) async {
    if let freeSpaceTime, driver.now - freeSpaceTime < age { return }
    freeSpaceTime = driver.now
    let outcome = Outcome<FileSystemSpace>()
    let occupied = occupiedByteCount
    // A file system that counts no blocks (ramfs) does not say.
    guard await driver.submit(.space(path: path, outcome)) >= 0, let space = outcome.value,
      space.totalByteCount > 0
    else { return }
    occupiedAtFreeSpace = occupied
    freeSpace = space.freeByteCount
    fileSystemByteCount = space.totalByteCount
  }

  /// The open volume when it has room for `byteCount` bytes; nil when another is to be opened first.
  func roomyVolume(for byteCount: UInt64, _ purpose: Purpose) throws(StoreError) -> Volume? {
    if purpose == .control {
      // Refused only when the file system itself has nothing left. Closing appends one last mark.
      if case .retired(let reason) = state { throw .deviceFailed(reason) }
      if let open, open.end + byteCount <= open.byteCount { return open }
      return nil
    }
    try checkWritable()
    let kept = reserveByteCount / 8 * purpose.keptEighths
    guard occupiedByteCount + byteCount + kept <= byteLimit else { throw .deviceFull }
    guard let open, open.end + byteCount + controlByteCount <= open.byteCount else { return nil }
    if open.end > VolumeHeader.byteCount && driver.meets(.volumeFullEarly) { return nil }
    return open
  }

  /// Opens the next volume, or waits until someone else has.
  func changeVolume(for byteCount: UInt64) async throws(StoreError) {
    if let rotation {
      await rotation.wait()
      return
    }
    let gate = Gate()
    rotation = gate
    do throws(StoreError) {
      try await rotate(for: byteCount)
      rotation = nil
      gate.open()
    } catch {
      rotation = nil
      gate.open()
      throw error
    }
  }

  /// Seals the open volume and opens the next.
  private func rotate(for byteCount: UInt64) async throws(StoreError) {
    let needed = byteCount + controlByteCount + UInt64(VolumeHeader.byteCount)
    while let preparation { await preparation.wait() }
    // Sequences rise with the numbers of volumes, so what was made ahead is used next or never.
    let ready = prepared
    prepared = nil
    let next: Volume
    if let ready, ready.byteCount >= needed {
      next = ready
    } else {
      if let ready {
        do throws(RingError) { try await volumes.remove(ready) } catch {
          retire("\(error)")
          throw .deviceFailed("\(error)")
        }
      }
      next = try await makeVolume(atLeast: needed)
    }
    if case .retired(let reason) = state { throw .deviceFailed(reason) }
    // Set before the first record, which carries both.
    next.tally.firstSequence = nextSequence
    next.tally.cut = open == nil ? durableSequence : nextSequence - 1
    let old = open
    open = next
    if let old { seal(old) }
  }

  /// Ends a volume; its unused tail is given back once nothing is in flight there.
  private func seal(_ volume: Volume) {
    volume.isSealed = true
    volumes.recount()
    background("trim volume") {
      while volume.tally.end < volume.end, case .healthy = self.state { await self.idle.wait() }
      guard case .healthy = self.state else { return }
      do throws(RingError) {
        try await self.volumes.use(volume) { file throws(RingError) in
          try await file.truncate(to: volume.end)
        }
        volume.byteCount = volume.end
        self.volumes.recount()
        self.freeSpaceTime = nil
      } catch {
        self.retire("\(error)")
      }
    }
  }

  /// Makes the next volume in the background once the open one is a quarter full. Its syncs wait in the disk behind the
  /// writes that go on: begun at three quarters, they were not done when the volume was full, and all writers waited.
  func prepareAhead() {
    guard prepared == nil, preparation == nil, rotation == nil, !isClosing, let open,
      open.end >= open.byteCount / 4,
      occupiedByteCount + reserveByteCount + (open.byteCount - open.end) < byteLimit
    else { return }
    let gate = Gate()
    preparation = gate
    background("make volume") {
      // A full device is refused where someone can be told.
      self.prepared = try? await self.makeVolume(atLeast: 0)
      self.preparation = nil
      gate.open()
    }
  }

  /// Makes a volume file, durably: preallocated, header written, name synced.
  private func makeVolume(atLeast needed: UInt64) async throws(StoreError) -> Volume {
    var byteCount = max(volumeByteCount, needed)
    // Not larger than what may still be used, but useful.
    let least = max(needed, min(volumeByteCount, 4 << 20))
    let occupied = occupiedByteCount
    let allowed = byteLimit > occupied ? byteLimit - occupied : 0
    byteCount = max(least, min(byteCount, allowed / 4096 * 4096))
    while true {
      do throws(RingError) {
        return try await makeVolume(byteCount: byteCount)
      } catch {
        guard error.isFull || error.errno == EFBIG else {
          // Our own shortage says nothing about the device.
          if error.isOurShortage { throw .system(error) }
          retire("\(error)")
          throw .deviceFailed("\(error)")
        }
        await refreshSpace()
        guard byteCount > least else { throw .deviceFull }
        byteCount = max(least, byteCount / 2 / 4096 * 4096)
      }
    }
  }

  private func makeVolume(byteCount: UInt64) async throws(RingError) -> Volume {
    let volume = Volume(
      number: nextVolume, id: driver.random(), byteCount: byteCount, madeByteCount: byteCount)
    nextVolume += 1
    volumesInMaking.insert(volume.number)
    defer { volumesInMaking.remove(volume.number) }
    let file = try await volumes.openFile(volume.name, O_RDWR | O_CREAT | O_EXCL)
    do throws(RingError) {
      if preallocates {
        do throws(RingError) {
          try await file.allocate(offset: 0, byteCount: byteCount)
        } catch {
          guard error.isUnsupported, settings.preallocation != .required else { throw error }
          if preallocates {
            preallocates = false
            fallbacks.append("no fallocate here: volumes take their space write by write")
          }
        }
      }
      if !preallocates { try await file.truncate(to: byteCount) }
      let header = driver.buffers.slice(VolumeHeader.byteCount)
      header.withMutableBytes {
        VolumeHeader(number: volume.number, id: volume.id, device: device, byteCount: byteCount)
          .encode(into: $0)
      }
      try await file.write([header], at: 0)
      try await file.synchronize(dataOnly: false)
      try await driver.synchronizeDirectory(path + "/volumes")
    } catch {
      await file.close()
      try? await driver.remove(path + "/" + volume.name)
      throw error
    }
    volumes.add(volume)
    volumes.attach(file, to: volume)
    await refreshSpace()
    return volume
  }
}
