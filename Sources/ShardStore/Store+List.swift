package import Cluster
internal import Ring

extension ShardStore {
  /// The durable blocks of a shard, ascending by stripe.
  package func list(_ shard: ShardKey) async throws(StoreError) -> [ListedBlock] {
    try await blocks(of: shard).map {
      ListedBlock(
        stripe: $0.key.stripe, layout: $0.place.layout, acknowledged: $0.place.acknowledged)
    }
  }

  /// Up to `limit` shards above `after`, ascending, each with its blocks and bytes; `isComplete` when these are the
  /// last. A shard that was here throughout is not missed.
  package func inventory(after: ShardKey?, limit: Int) async throws(StoreError)
    -> (shards: [ShardSummary], isComplete: Bool)
  {
    precondition(limit > 0)
    var shards: [ShardSummary] = []
    var isComplete = true
    do throws(IndexDamage) {
      try await index.walk(after: after) { entry in
        if shards.last?.shard != entry.key.shard {
          guard shards.count < limit else {
            isComplete = false
            return false
          }
          shards.append(
            ShardSummary(shard: entry.key.shard, storedByteCount: 0))
        }
        shards[shards.count - 1].stripes.add(entry.key.stripe)
        shards[shards.count - 1].storedByteCount += entry.place.recordByteCount
        return true
      }
    } catch {
      throw failed(error)
    }
    return (shards, isComplete)
  }

  /// In which file below the device's directory the living record of a block begins, and where: for those who mean to
  /// damage it.
  package func location(of key: BlockKey) async throws(StoreError)
    -> (path: String, offset: UInt64)?
  {
    guard let place = try await find(key), let volume = volumes[place.volume] else { return nil }
    return (volume.name, place.offset)
  }

  package func usage() async -> StoreUsage {
    await refreshSpace(olderThan: .seconds(5))
    var used: UInt64 = 0
    var links: UInt64 = 0
    var blocks: UInt64 = 0
    for volume in volumes.byNumber.values {
      used += volume.tally.liveByteCount
      links += volume.tally.liveLinkByteCount
      blocks += volume.tally.liveBlockCount
    }
    let limit = byteLimit
    let occupied = occupiedByteCount
    let isHealthy = state == .healthy
    func free(_ purpose: Purpose) -> UInt64 {
      let taken = occupied + reserveByteCount / 8 * purpose.keptEighths
      return isHealthy && limit > taken ? limit - taken : 0
    }
    return StoreUsage(
      capacity: limit, usedByteCount: used, linkByteCount: links, occupiedByteCount: occupied,
      freeByteCount: free(.data), linkFreeByteCount: free(.link),
      reserveByteCount: reserveByteCount, blockCount: blocks)
  }
}
