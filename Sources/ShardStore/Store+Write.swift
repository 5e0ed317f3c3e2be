internal import Cluster
internal import Coding
package import Ring

/// A block on its way to the device, so that the same block arriving again meets it. Loop-confined.
final class WriteInFlight: @unchecked Sendable {
  let layout: StripeLayout
  let checksums: [UInt32]
  let outcome = Promise<Result<Void, StoreError>>()

  init(layout: StripeLayout, checksums: [UInt32]) {
    self.layout = layout
    self.checksums = checksums
  }
}

extension ShardStore {
  /// Stores a block; returns once it and everything before it in its volume is on stable storage. The same block again
  /// (same layout and checksums) is done at once, also while the first is under way, if what is here is whole; if it is
  /// damaged, it is mended: a new record takes its place.
  ///
  /// - Parameters:
  ///   - checksums: CRC32C of each 4 KiB of `payload`.
  ///   - payload: `block.layout.blockByteCount` bytes.
  ///   - found: the same sums, computed from the payload by who received it; nil: they are computed here.
  ///   - hasHeadroom: the 4 KiB of memory before `payload` are the store's to overwrite, as in a body received from the
  ///     wire; header and payload then go out as one piece.
  /// - Throws: `corrupt` when the payload is not what the checksums say, `blockExists`, `staleEpoch` (links and
  ///   checkpoints), `deviceFull`, `deviceFailed`, `invalidBlock`, `closed`.
  package func write(
    _ block: StoredBlock, checksums: [UInt32], payload: Slice, found: [UInt32]? = nil,
    hasHeadroom: Bool = false
  ) async throws(StoreError) {
    try checkWritable()
    let layout = block.layout
    let shardIndex = Int(block.key.shard.shardIndex)
    guard payload.count == layout.blockByteCount,
      checksums.count * StripeLayout.unit == payload.count,
      shardIndex < layout.scheme.width, layout.isStored(shardIndex)
    else { throw .invalidBlock("payload, checksums and layout differ") }
    let found = found ?? payload.withBytes { CRC32C.checksums(of: $0, unit: StripeLayout.unit) }
    guard found == checksums else { throw .corrupt("the payload does not match its checksums") }

    if let twin = writing[block.key] {
      try checkEpoch(of: block)
      guard twin.layout == layout && twin.checksums == checksums else { throw .blockExists }
      return try await twin.outcome.get().get()
    }
    let mine = WriteInFlight(layout: layout, checksums: checksums)
    writing[block.key] = mine
    await gates.enter(block.key.shard)
    let result: Result<Void, StoreError>
    do throws(StoreError) {
      try await writeAlone(block, checksums, payload, hasHeadroom)
      result = .success(())
    } catch {
      result = .failure(error)
    }
    gates.leave(block.key.shard)
    writing[block.key] = nil
    mine.outcome.fulfil(result)
    try result.get()
  }

  private func writeAlone(
    _ block: StoredBlock, _ checksums: [UInt32], _ payload: Slice, _ hasHeadroom: Bool
  ) async throws(StoreError) {
    try checkWritable()
    // A fence that comes after this check waits for us.
    try checkEpoch(of: block)
    if block.key.shard.container.kind != .data { highestEpoch = max(highestEpoch, block.epoch) }

    var block = block
    let found = try await find(block.key)
    if let found {
      guard try await mayReplace(found, block, checksums) else { return }
      // What was acknowledged once stays so, whoever mends it.
      block.acknowledged = max(block.acknowledged, found.acknowledged)
    }

    let draft = RecordHeader(
      kind: .block, payloadByteCount: payload.count, shard: block.key.shard,
      stripe: block.key.stripe, layout: block.layout, acknowledged: block.acknowledged,
      epoch: block.epoch, checksums: checksums)
    let isAligned = payload.offset.isMultiple(of: RecordHeader.unit)
    try await append(
      draft, payload: isAligned ? payload : aligned(payload),
      hasHeadroom: hasHeadroom && isAligned && payload.offset >= RecordHeader.byteCount,
      // A mend gives back what it takes.
      purpose: found != nil && punches ? .compaction : Purpose(block.key),
      effect: .block(block, replaced: found))
    guard let found else { return }
    // Counted here, so that no flush of the index passes over what is still to be punched.
    pendingPunches += 1
    background("give back") {
      self.pendingPunches -= 1
      await self.giveBack([found])
    }
  }

  /// Whether the living record at `place` is to be replaced by these bytes: it is damaged. False: it is just these bytes.
  ///
  /// - Throws: `blockExists` when it has other bytes, or had them as far as anything of it can tell. Only one that a reader
  ///   found wrong though its checksums are right gives way to other bytes of the same layout: nobody writes such a key
  ///   twice but who mends it.
  private func mayReplace(_ place: Place, _ block: StoredBlock, _ checksums: [UInt32])
    async throws(StoreError) -> Bool
  {
    guard place.layout == block.layout else { throw .blockExists }
    let standing = damage.standing(of: block.key)
    let header: RecordHeader?
    do throws(StoreError) {
      header = try await readHeader(of: block.key, at: place)
    } catch {
      guard case .corrupt = error else { throw error }
      header = nil
    }
    guard let header else {
      noteDamage(block.key, at: place)
      return true
    }
    guard header.checksums == checksums else {
      guard standing == .suspected else { throw .blockExists }
      return true
    }
    if standing == .damaged { return true }
    guard try await isWhole(block.key, at: place) else {
      noteDamage(block.key, at: place)
      return true
    }
    // Whoever computed them again came to the same bytes.
    if standing == .suspected { forgetDamage(block.key, at: place) }
    return false
  }

  private func checkEpoch(of block: StoredBlock) throws(StoreError) {
    if block.key.shard.container.kind != .data && block.epoch < highestEpoch {
      throw .staleEpoch(highest: highestEpoch)
    }
  }

  /// The same bytes where O_DIRECT can take them from.
  private func aligned(_ payload: Slice) -> Slice {
    let copy = driver.buffers.slice(payload.count)
    copy.withMutableBytes { target in payload.withBytes { target.copyMemory(from: $0) } }
    return copy
  }
}
