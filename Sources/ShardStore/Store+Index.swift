internal import Cluster
internal import Ring

extension ShardStore {
  /// Starts what background work there is to do. Called after every change.
  func maintain() {
    guard case .healthy = state, !isClosing else { return }
    let isFlushedEarly = driver.meets(.indexFlushedEarly)
    if !isFlushing, !isFlushScheduled, isFlushedEarly || needsFlush || index.runsToMerge != nil {
      isFlushScheduled = true
      background("flush index") {
        self.isFlushScheduled = false
        if isFlushedEarly || self.needsFlush { await self.flushIndex() }
        await self.mergeRuns()
      }
    }
    let percent = driver.meets(.volumeCompactedEarly) ? 100 : settings.compactionPercent
    if !isCompacting, compactionCandidate(below: percent) != nil {
      isCompacting = true
      background("compact") {
        await self.compact(below: percent)
        self.isCompacting = false
      }
    }
  }

  private var needsFlush: Bool {
    index.memoryCount >= settings.indexEntryLimit
      || unindexedByteCount >= settings.unindexedByteLimit
  }

  /// Writes the entries in memory as a run and makes the manifest name it.
  func flushIndex() async {
    guard !isFlushing, case .healthy = state else { return }
    isFlushing = true
    defer {
      isFlushing = false
      idle.wakeAll()
    }

    // One instant: entries, tallies and the sequence they cover.
    let table = index.freeze()
    unindexedByteCount = 0
    var next = Manifest(device: device)
    next.coveredSequence = durableSequence
    next.highestEpoch = highestEpoch
    // Volumes below this that are not named were removed; those in the making are not named yet.
    next.nextVolume = min(nextVolume, volumesInMaking.min() ?? .max)
    next.volumes = volumes.all.filter { !$0.isMissing }.map {
      Manifest.VolumeLine(
        number: $0.number, id: $0.id, isComplete: $0.isSealed && $0.tally.end == $0.end,
        tally: $0.tally)
    }
    do throws(RingError) {
      // Deletes whose payloads are not returned yet must stay to be replayed.
      while pendingPunches > 0 { await punchesDone.wait() }
      let run = try await index.writeRun(table)
      if run != nil { try await driver.synchronizeDirectory(path + "/index") }
      next.runs = ([run].compactMap { $0 } + index.runs).map {
        Manifest.RunLine(number: $0.number, entryCount: UInt64($0.entryCount))
      }
      next.nextRun = index.nextRun
      next.nextSequence = max(nextSequence, 1)
      try await driver.replaceFile(path + "/index/manifest", with: next.encoded)
      index.finishFlush(run)
      manifest = next
      await refreshSpace()
    } catch {
      index.undoFlush()
      // A full file system is no failure of the device; the next flush may find room.
      if !error.isFull { retire("\(error)") }
    }
  }

  /// Merges the newest runs while there are too many small ones.
  func mergeRuns() async {
    while case .healthy = state, !isClosing, !isFlushing, let count = index.runsToMerge {
      isFlushing = true
      defer {
        isFlushing = false
        idle.wakeAll()
      }
      do {
        let (old, new) = try await index.mergeNewest(count)
        if new != nil { try await driver.synchronizeDirectory(path + "/index") }
        var next = manifest
        next.runs = (([new].compactMap { $0 }) + index.runs.dropFirst(count)).map {
          Manifest.RunLine(number: $0.number, entryCount: UInt64($0.entryCount))
        }
        next.nextRun = index.nextRun
        try await driver.replaceFile(path + "/index/manifest", with: next.encoded)
        manifest = next
        index.replace(old, by: new)
        for run in old {
          run.retire()
          try? await driver.remove(path + "/" + Run.name(run.number))
        }
        await refreshSpace()
      } catch let error as RingError {
        if !error.isFull { retire("\(error)") }
        return
      } catch let error as IndexDamage {
        _ = failed(error)
        return
      } catch {
        preconditionFailure("\(error)")
      }
    }
  }
}
