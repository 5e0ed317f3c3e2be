/// A store in memory, for simulation: what is not flushed is lost at a crash, batch by batch from the end.
// Confined to the offload lane of its user.
package final class MemoryStore: OrderedStore, @unchecked Sendable {
  private var map = SortedMap<[UInt8]>()
  private var flushed = SortedMap<[UInt8]>()
  /// Applied since the last flush.
  private var unflushed: [WriteBatch] = []

  package init() {}

  /// A copy shares its memory with the store until that changes.
  var contents: SortedMap<[UInt8]> { map }

  /// Batches that a crash may still take.
  package var unflushedBatchCount: Int { unflushed.count }
  package var entryCount: Int { map.count }

  package func get(_ key: [UInt8]) throws(StoreError) -> [UInt8]? { map[key] }

  package func scan(_ range: KeyRange, limit: Int, backward: Bool) throws(StoreError)
    -> [StoreEntry]
  {
    var entries: [StoreEntry] = []
    guard limit > 0 else { return [] }
    map.visit(range, backward: backward) { key, value in
      entries.append(StoreEntry(key: key, value: value))
      return entries.count < limit
    }
    return entries
  }

  package func apply(_ batch: WriteBatch) throws(StoreError) {
    Self.apply(batch, to: &map)
    unflushed.append(batch)
  }

  package func flush() throws(StoreError) {
    flushed = map
    unflushed.removeAll()
  }

  /// The machine stops: of the batches since the last flush the first `count` are still there.
  package func crash(keeping count: Int) {
    map = flushed
    for batch in unflushed.prefix(count) { Self.apply(batch, to: &map) }
    flushed = map
    unflushed.removeAll()
  }

  /// Everything is lost, as when the directory is deleted.
  package func erase() {
    map.removeAll()
    flushed.removeAll()
    unflushed.removeAll()
  }

  private static func apply(_ batch: WriteBatch, to map: inout SortedMap<[UInt8]>) {
    for change in batch.changes {
      switch change {
      case .put(let key, let value): map.set(key, value)
      case .delete(let key): map.remove(key)
      }
    }
  }
}
