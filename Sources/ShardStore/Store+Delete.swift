package import Cluster
internal import Coding
internal import Glibc
internal import Ring
internal import Wire

extension ShardStore {
  /// Drops every block of the shards, durably; then their space is returned. Shards that are not here count as done.
  ///
  /// - Throws: `staleEpoch`; `deviceFailed`, `deviceFull` (not even a delete fits: the file system is full and so is
  ///   the open volume), `closed`. When it throws, some of the shards may be deleted.
  package func delete(_ shards: [ShardKey], epoch: UInt64) async throws(StoreError) {
    try checkWritable()
    try await raise(epoch: epoch)
    let wanted = Set(shards).sorted()
    var rest = wanted[...]
    while !rest.isEmpty {
      // Alone with some shards at a time, until their blocks make a full record's worth of marks.
      var batch: [ShardKey] = []
      var dying: [IndexEntry] = []
      var failure: StoreError?
      while let shard = rest.first, batch.count < 4096, dying.count < 16_384 {
        rest.removeFirst()
        await gates.enterAlone(shard)
        batch.append(shard)
        do throws(StoreError) { dying += try await blocks(of: shard) } catch {
          failure = error
          break
        }
      }
      if failure == nil {
        do throws(StoreError) {
          try checkEpoch(epoch)
          let present = Set(dying.map(\.key.shard)).sorted()
          try await appendDelete(
            present.map { DeleteEntry(shard: $0, before: 0, stripes: []) }, dying, epoch)
        } catch {
          failure = error
        }
      }
      for shard in batch { gates.leaveAlone(shard) }
      if let failure { throw failure }
      await giveBack(dying.map(\.place))
    }
  }

  /// Drops some stripes of a shard, durably. Stripes that are not here count as done.
  ///
  /// - Throws: as ``delete(_:epoch:)``.
  package func delete(stripes: [UInt64], of shard: ShardKey, epoch: UInt64) async throws(StoreError)
  {
    try checkWritable()
    try await raise(epoch: epoch)
    let wanted = Set(stripes)
    await gates.enterAlone(shard)
    var dying: [IndexEntry] = []
    do throws(StoreError) {
      try checkEpoch(epoch)
      let all = try await blocks(of: shard).filter { wanted.contains($0.key.stripe) }
      for start in stride(from: 0, to: all.count, by: DeleteList.stripesPerEntry) {
        let part = Array(all[start..<min(all.count, start + DeleteList.stripesPerEntry)])
        try await appendDelete(
          [DeleteEntry(shard: shard, before: 0, stripes: part.map(\.key.stripe))], part, epoch)
        dying += part
      }
      gates.leaveAlone(shard)
    } catch {
      gates.leaveAlone(shard)
      throw error
    }
    await giveBack(dying.map(\.place))
  }

  private func checkEpoch(_ epoch: UInt64) throws(StoreError) {
    guard epoch >= highestEpoch else { throw .staleEpoch(highest: highestEpoch) }
  }

  private func appendDelete(
    _ entries: [DeleteEntry], _ dying: [IndexEntry], _ epoch: UInt64
  ) async throws(StoreError) {
    guard !dying.isEmpty else { return }
    let (draft, payload) = deleteRecord(entries, epoch: epoch)
    try await append(draft, payload: payload, purpose: .control, effect: .delete(dying))
  }

  func deleteRecord(_ entries: [DeleteEntry], epoch: UInt64) -> (RecordHeader, Slice) {
    let bytes = DeleteList(entries).encoded
    precondition(bytes.count <= RecordHeader.largestPayload)
    let payload = driver.buffers.slice(RecordHeader.padded(bytes.count))
    payload.withMutableBytes { target in
      bytes.withUnsafeBytes { target.copyMemory(from: $0) }
      UnsafeMutableRawBufferPointer(rebasing: target[bytes.count...])
        .initializeMemory(as: UInt8.self, repeating: 0)
    }
    let header = RecordHeader(
      kind: .delete, payloadByteCount: bytes.count, epoch: epoch,
      checksums: payload.withBytes { CRC32C.checksums(of: $0, unit: RecordHeader.unit) })
    return (header, payload)
  }

  /// Returns the payloads of dead records to the file system; headers stay, so that a scan finds its way. Volumes with
  /// nothing alive go as a whole.
  ///
  /// Once the record is durable a failure here costs no truth, only space, unless the device itself is failing.
  func giveBack(_ places: [Place]) async {
    guard !places.isEmpty else { return }
    pendingPunches += 1
    var punched = false
    for place in places.sorted(by: { ($0.volume, $0.unit) < ($1.volume, $1.unit) }) {
      guard case .healthy = state, let volume = volumes[place.volume] else { continue }
      // It will be removed whole.
      if volume.isSealed && volume.tally.liveBlockCount == 0 { continue }
      if await punch(place, in: volume) { punched = true }
    }
    pendingPunches -= 1
    if pendingPunches == 0 { punchesDone.wakeAll() }
    idle.wakeAll()
    if punched {
      volumes.recount()
      freeSpaceTime = nil
    }
    await removeEmptyVolumes()
    maintain()
  }

  /// Punches the payload of a dead record out of its file.
  func punch(_ place: Place, in volume: Volume) async -> Bool {
    guard punches else { return false }
    do throws(RingError) {
      let done: Void? = try await volumes.use(volume) { file throws(RingError) in
        try await file.allocate(
          mode: 3,  // FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
          offset: place.offset + UInt64(RecordHeader.byteCount),
          byteCount: UInt64(place.payloadByteCount))
      }
      guard done != nil else { return false }
      volume.tally.punchedByteCount += UInt64(place.payloadByteCount)
      return true
    } catch {
      // Not every file system can; then compaction returns the space.
      if !error.isUnsupported {
        retire("\(error)")
      } else if punches {
        punches = false
        fallbacks.append("no hole punching here: only compaction returns the space of dead blocks")
      }
      return false
    }
  }
}
