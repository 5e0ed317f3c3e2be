internal import CRocks
internal import Ring

/// How much memory and how many files RocksDB may take.
package struct RocksSettings: Hashable, Sendable {
  /// One memtable; a second may wait while it is flushed.
  package var memtableByteCount = 8 << 20
  /// Blocks, index and filters of tables.
  package var cacheByteCount = 16 << 20
  package var openFileLimit = 256

  package init() {}
}

/// The state in RocksDB: one column family, no write-ahead log (the metadata log is one), bloom filters,
/// 4 KiB blocks, no compression (most bytes are digests).
// Confined to one offload lane.
package final class RocksStore: SnapshotStore, @unchecked Sendable {
  private var database: OpaquePointer?
  private let readOptions: OpaquePointer
  private let writeOptions: OpaquePointer
  /// In memory, since the last flush.
  private var listedDeletes = 0

  /// Opens the store in the folder `path`, whose parent must exist, or makes it.
  ///
  /// - Throws: ``StoreError/corrupt(_:)`` when the files are damaged or some are missing;
  ///   ``StoreError/device(_:)`` when the device refuses or another process has the store open.
  package init(path: String, settings: RocksSettings = RocksSettings()) throws(StoreError) {
    let options = rocksdb_options_create()!
    defer { rocksdb_options_destroy(options) }
    rocksdb_options_set_create_if_missing(options, 1)
    rocksdb_options_set_paranoid_checks(options, 1)
    rocksdb_options_set_compression(options, Int32(rocksdb_no_compression))
    rocksdb_options_set_write_buffer_size(options, settings.memtableByteCount)
    rocksdb_options_set_max_write_buffer_number(options, 2)
    rocksdb_options_set_target_file_size_base(options, 16 << 20)
    rocksdb_options_set_max_bytes_for_level_base(options, 64 << 20)
    rocksdb_options_set_max_background_jobs(options, 2)
    // A listing steps over deleted keys until they are compacted away, a million of them if need be: a table that is full of them is
    // compacted soon, and again until they are gone.
    rocksdb_options_add_compact_on_deletion_collector_factory(options, 4096, 1024)
    rocksdb_options_set_max_open_files(options, Int32(clamping: settings.openFileLimit))
    // One thread writes; the lock-free memtable insertion only costs.
    rocksdb_options_set_allow_concurrent_memtable_write(options, 0)
    // Most keys asked for are new fingerprints: a filter of 160 KiB over the memtable spares the walk down its skip
    // list, a fifth of the time a look-up took (docs/performance.md).
    rocksdb_options_set_memtable_prefix_bloom_size_ratio(options, 0.02)
    rocksdb_options_set_memtable_whole_key_filtering(options, 1)
    // Statistics would wake an idle process.
    rocksdb_options_set_stats_dump_period_sec(options, 0)
    rocksdb_options_set_stats_persist_period_sec(options, 0)
    rocksdb_options_set_keep_log_file_num(options, 2)
    rocksdb_options_set_max_log_file_size(options, 1 << 20)
    rocksdb_options_set_info_log_level(options, 2)

    let table = rocksdb_block_based_options_create()!
    defer { rocksdb_block_based_options_destroy(table) }
    let cache = rocksdb_cache_create_lru(settings.cacheByteCount)!
    // The table options hold a reference of their own.
    defer { rocksdb_cache_destroy(cache) }
    rocksdb_block_based_options_set_block_cache(table, cache)
    rocksdb_block_based_options_set_block_size(table, 4096)
    rocksdb_block_based_options_set_format_version(table, 5)
    // The options take the filter over and free it.
    rocksdb_block_based_options_set_filter_policy(
      table, rocksdb_filterpolicy_create_bloom_full(10))
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1)
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1)
    rocksdb_options_set_block_based_table_factory(options, table)

    var problem: UnsafeMutablePointer<CChar>?
    guard let opened = rocksdb_open(options, Self.text(path), &problem) else {
      throw Self.error(taking: problem)
    }
    database = opened
    readOptions = rocksdb_readoptions_create()
    writeOptions = rocksdb_writeoptions_create()
    rocksdb_writeoptions_disable_WAL(writeOptions, 1)
  }

  deinit {
    close()
    rocksdb_readoptions_destroy(readOptions)
    rocksdb_writeoptions_destroy(writeOptions)
  }

  /// Flushes and lets go of the files; every later call throws. Blocks.
  package func close() {
    guard let database else { return }
    rocksdb_close(database)
    self.database = nil
  }

  /// Removes the store's files from `path`, damaged or not. The store must not be open.
  package static func discard(path: String) throws(StoreError) {
    let options = rocksdb_options_create()!
    defer { rocksdb_options_destroy(options) }
    var problem: UnsafeMutablePointer<CChar>?
    rocksdb_destroy_db(options, text(path), &problem)
    if let problem { throw error(taking: problem) }
  }

  /// The path as the kernel has it, which need not be UTF-8.
  private static func text(_ path: String) -> [CChar] {
    PathText.bytes(path).map { CChar(bitPattern: $0) } + [0]
  }

  private func opened() throws(StoreError) -> OpaquePointer {
    guard let database else { throw .device("the store is closed") }
    return database
  }

  package func get(_ key: [UInt8]) throws(StoreError) -> [UInt8]? {
    let database = try opened()
    var problem: UnsafeMutablePointer<CChar>?
    let found = key.withUnsafeBytes { key in
      rocksdb_get_pinned(
        database, readOptions, key.baseAddress?.assumingMemoryBound(to: CChar.self), key.count,
        &problem)
    }
    defer { if let found { rocksdb_pinnableslice_destroy(found) } }
    if let problem { throw Self.error(taking: problem) }
    guard let found else { return nil }
    var count = 0
    let bytes = rocksdb_pinnableslice_value(found, &count)
    return Array(UnsafeRawBufferPointer(start: bytes, count: count))
  }

  package func scan(_ range: KeyRange, limit: Int, backward: Bool) throws(StoreError)
    -> [StoreEntry]
  {
    let database = try opened()
    guard limit > 0 else { return [] }
    var problem: UnsafeMutablePointer<CChar>?
    // RocksDB stops at these bounds instead of walking on over deleted keys; they must outlive the iterator.
    let entries = range.lower.withUnsafeBytes { lower in
      (range.upper ?? []).withUnsafeBytes { upper in
        let options = rocksdb_readoptions_create()!
        defer { rocksdb_readoptions_destroy(options) }
        let first = lower.baseAddress?.assumingMemoryBound(to: CChar.self)
        let end = upper.baseAddress?.assumingMemoryBound(to: CChar.self)
        if lower.count > 0 {
          rocksdb_readoptions_set_iterate_lower_bound(options, first, lower.count)
        }
        if range.upper != nil {
          rocksdb_readoptions_set_iterate_upper_bound(options, end, upper.count)
        }
        let iterator = rocksdb_create_iterator(database, options)!
        defer { rocksdb_iter_destroy(iterator) }
        if backward {
          rocksdb_iter_seek_to_last(iterator)
        } else if lower.count > 0 {
          rocksdb_iter_seek(iterator, first, lower.count)
        } else {
          rocksdb_iter_seek_to_first(iterator)
        }
        var entries: [StoreEntry] = []
        while rocksdb_iter_valid(iterator) != 0 {
          var keyCount = 0
          var valueCount = 0
          let key = rocksdb_iter_key(iterator, &keyCount)
          let value = rocksdb_iter_value(iterator, &valueCount)
          entries.append(
            StoreEntry(
              key: Array(UnsafeRawBufferPointer(start: key, count: keyCount)),
              value: Array(UnsafeRawBufferPointer(start: value, count: valueCount))))
          if entries.count == limit { break }
          if backward { rocksdb_iter_prev(iterator) } else { rocksdb_iter_next(iterator) }
        }
        rocksdb_iter_get_error(iterator, &problem)
        return entries
      }
    }
    if let problem { throw Self.error(taking: problem) }
    return entries
  }

  package func apply(_ batch: WriteBatch) throws(StoreError) {
    let database = try opened()
    let writes = rocksdb_writebatch_create()!
    defer { rocksdb_writebatch_destroy(writes) }
    for change in batch.changes {
      switch change {
      case .put(let key, let value):
        key.withUnsafeBytes { key in
          value.withUnsafeBytes { value in
            rocksdb_writebatch_put(
              writes, key.baseAddress?.assumingMemoryBound(to: CChar.self), key.count,
              value.baseAddress?.assumingMemoryBound(to: CChar.self), value.count)
          }
        }
      case .delete(let key):
        if Self.listed.contains(key.first ?? 0) { listedDeletes += 1 }
        key.withUnsafeBytes { key in
          rocksdb_writebatch_delete(
            writes, key.baseAddress?.assumingMemoryBound(to: CChar.self), key.count)
        }
      }
    }
    var problem: UnsafeMutablePointer<CChar>?
    rocksdb_write(database, writeOptions, writes, &problem)
    if let problem { throw Self.error(taking: problem) }
    if listedDeletes >= Self.listedDeleteLimit { try flush(waits: false) }
  }

  /// Families that people list, a thousand rows at a time.
  private static let listed: Set = [Key.Family.object.rawValue, Key.Family.version.rawValue]
  /// Nothing is compacted away in memory: with so many deletes there a listing takes twice as long (docs/performance.md).
  private static let listedDeleteLimit = 4096

  /// Whether something is still to be written to tables or compacted, for tests.
  var isSettling: Bool {
    guard let database else { return false }
    return [
      "rocksdb.mem-table-flush-pending", "rocksdb.num-running-flushes",
      "rocksdb.compaction-pending", "rocksdb.num-running-compactions",
    ].contains { name in
      var value: UInt64 = 0
      return rocksdb_property_int(database, name, &value) == 0 && value > 0
    }
  }

  package func snapshot() throws(StoreError) -> any StoreSnapshot {
    RocksSnapshot(try opened())
  }

  package func flush() throws(StoreError) { try flush(waits: true) }

  private func flush(waits: Bool) throws(StoreError) {
    let database = try opened()
    listedDeletes = 0
    let options = rocksdb_flushoptions_create()!
    defer { rocksdb_flushoptions_destroy(options) }
    rocksdb_flushoptions_set_wait(options, waits ? 1 : 0)
    var problem: UnsafeMutablePointer<CChar>?
    rocksdb_flush(database, options, &problem)
    if let problem { throw Self.error(taking: problem) }
  }

  /// Frees RocksDB's message and says whether starting anew would help.
  static func error(taking problem: UnsafeMutablePointer<CChar>?) -> StoreError {
    guard let problem else { return .device("RocksDB failed without a reason") }
    let text = String(cString: problem)
    rocksdb_free(problem)
    // A missing file is damage, but a missing parent folder is not the store's.
    let isDamage =
      text.hasPrefix("Corruption") || text.hasPrefix("Invalid argument")
      || text.hasPrefix("Not implemented") || text.hasPrefix("NotFound")
      || (text.hasPrefix("IO error: No such file") && !text.contains("mkdir")
        && !text.contains("create dir"))
    return isDamage ? .corrupt(text) : .device(text)
  }
}
