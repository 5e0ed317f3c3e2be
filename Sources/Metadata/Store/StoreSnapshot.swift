internal import CRocks

/// A store's entries as they were at one moment, read piece by piece while the store changes. Use it where the
/// store is used, one call at a time, and close it before the store.
package protocol StoreSnapshot: AnyObject, Sendable {
  /// The next entries in key order, until they have `byteCount` bytes of keys and values; empty at the end.
  func next(byteCount: Int) throws(StoreError) -> [StoreEntry]
  /// At most `limit` entries of a range in key order. ``next(byteCount:)`` then goes on behind the last of them.
  func scan(_ range: KeyRange, limit: Int) throws(StoreError) -> [StoreEntry]
  /// Later calls of ``next(byteCount:)`` throw. May be called twice.
  func close()
}

/// A store that can be copied while it changes.
package protocol SnapshotStore: OrderedStore {
  func snapshot() throws(StoreError) -> any StoreSnapshot
}

extension MemoryStore: SnapshotStore {
  package func snapshot() throws(StoreError) -> any StoreSnapshot { MemorySnapshot(contents) }
}

// Confined to the offload lane of its store's user.
private final class MemorySnapshot: StoreSnapshot, @unchecked Sendable {
  private var map: SortedMap<[UInt8]>?
  private var range = KeyRange()

  init(_ map: SortedMap<[UInt8]>) { self.map = map }

  func next(byteCount: Int) throws(StoreError) -> [StoreEntry] {
    guard let map else { throw .device("the snapshot is closed") }
    var entries: [StoreEntry] = []
    var bytes = 0
    map.visit(range) { key, value in
      entries.append(StoreEntry(key: key, value: value))
      bytes += key.count + value.count
      return bytes < byteCount
    }
    if let last = entries.last { range.lower = last.key + [0] }
    return entries
  }

  func scan(_ range: KeyRange, limit: Int) throws(StoreError) -> [StoreEntry] {
    guard let map else { throw .device("the snapshot is closed") }
    var entries: [StoreEntry] = []
    map.visit(range) { key, value in
      guard entries.count < limit else { return false }
      entries.append(StoreEntry(key: key, value: value))
      return entries.count < limit
    }
    if let last = entries.last { self.range.lower = last.key + [0] }
    return entries
  }

  func close() { map = nil }
}

/// A RocksDB iterator sees the moment of its making.
// Confined to the offload lane of its store's user.
final class RocksSnapshot: StoreSnapshot, @unchecked Sendable {
  private var iterator: OpaquePointer?

  init(_ database: OpaquePointer) {
    let options = rocksdb_readoptions_create()!
    defer { rocksdb_readoptions_destroy(options) }
    // The blocks are read once; those in use had better stay in the cache.
    rocksdb_readoptions_set_fill_cache(options, 0)
    iterator = rocksdb_create_iterator(database, options)
    rocksdb_iter_seek_to_first(iterator)
  }

  deinit { close() }

  func scan(_ range: KeyRange, limit: Int) throws(StoreError) -> [StoreEntry] {
    guard let iterator else { throw .device("the snapshot is closed") }
    range.lower.withUnsafeBytes { lower in
      rocksdb_iter_seek(
        iterator, lower.baseAddress?.assumingMemoryBound(to: CChar.self), lower.count)
    }
    return try take(iterator) { count, _, key in
      guard count < limit, let upper = range.upper else { return count < limit }
      return keyPrecedes(key, upper)
    }
  }

  func next(byteCount: Int) throws(StoreError) -> [StoreEntry] {
    guard let iterator else { throw .device("the snapshot is closed") }
    return try take(iterator) { _, bytes, _ in bytes < byteCount }
  }

  /// Entries from where the iterator is, as long as `goesOn` with the number and bytes of those before and the next key.
  private func take(
    _ iterator: OpaquePointer, while goesOn: (_ count: Int, _ bytes: Int, _ key: [UInt8]) -> Bool
  ) throws(StoreError) -> [StoreEntry] {
    var entries: [StoreEntry] = []
    var bytes = 0
    while rocksdb_iter_valid(iterator) != 0 {
      var keyCount = 0
      var valueCount = 0
      let found = rocksdb_iter_key(iterator, &keyCount)
      let key = Array(UnsafeRawBufferPointer(start: found, count: keyCount))
      guard goesOn(entries.count, bytes, key) else { break }
      let value = rocksdb_iter_value(iterator, &valueCount)
      entries.append(
        StoreEntry(
          key: key, value: Array(UnsafeRawBufferPointer(start: value, count: valueCount))))
      bytes += keyCount + valueCount
      rocksdb_iter_next(iterator)
    }
    var problem: UnsafeMutablePointer<CChar>?
    rocksdb_iter_get_error(iterator, &problem)
    if let problem { throw RocksStore.error(taking: problem) }
    return entries
  }

  func close() {
    if let iterator { rocksdb_iter_destroy(iterator) }
    iterator = nil
  }
}
