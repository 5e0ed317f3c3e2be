internal import Wire

/// The store with the changes of the batch in hand laid over it, so that commands of one batch see each other's
/// effects and the store sees one write.
// Confined to the state machine that owns it.
final class StoreView {
  let store: any OrderedStore
  /// nil: deleted.
  private var overlay = SortedMap<[UInt8]?>()

  init(_ store: any OrderedStore) { self.store = store }

  func get(_ key: [UInt8]) throws(StoreError) -> [UInt8]? {
    if !overlay.isEmpty, let change = overlay[key] { return change }
    return try store.get(key)
  }

  func value<Value: StoredValue>(_ key: [UInt8], as type: Value.Type = Value.self)
    throws(StoreError) -> Value?
  {
    guard let bytes = try get(key) else { return nil }
    return try Value(stored: bytes)
  }

  func put(_ key: [UInt8], _ value: [UInt8]) { overlay.set(key, value) }
  func put(_ key: [UInt8], _ value: some StoredValue) { overlay.set(key, value.encoded) }
  func delete(_ key: [UInt8]) { overlay.set(key, nil) }

  func scan(_ range: KeyRange, limit: Int = .max, backward: Bool = false) throws(StoreError)
    -> [StoreEntry]
  {
    guard !overlay.isEmpty else {
      return try store.scan(range, limit: limit, backward: backward)
    }
    var result: [StoreEntry] = []
    var rest = range
    while result.count < limit {
      let wanted = min(limit - result.count, 4096)
      let stored = try store.scan(rest, limit: wanted, backward: backward)
      // The overlay may speak only of keys up to the last one the store has shown.
      var covered = rest
      let isEnd = stored.count < wanted
      if !isEnd, let last = stored.last {
        if backward {
          covered.lower = last.key
          rest.upper = last.key
        } else {
          covered.upper = last.key + [0]
          rest.lower = last.key + [0]
        }
      }
      var next = 0
      overlay.visit(covered, backward: backward) { key, change in
        while next < stored.count {
          let order = keyOrder(stored[next].key, key)
          if order == 0 {
            next += 1
            break
          }
          guard backward ? order > 0 : order < 0 else { break }
          result.append(stored[next])
          next += 1
          if result.count == limit { return false }
        }
        if let change { result.append(StoreEntry(key: key, value: change)) }
        return result.count < limit
      }
      while next < stored.count && result.count < limit {
        result.append(stored[next])
        next += 1
      }
      if isEnd { break }
    }
    return result
  }

  /// Hands all changes to the store, in key order, as one batch.
  func commit() throws(StoreError) {
    var batch = WriteBatch()
    batch.reserve(overlay.count)
    overlay.visit(KeyRange()) { key, change in
      if let change { batch.put(key, change) } else { batch.delete(key) }
      return true
    }
    try store.apply(batch)
    overlay.removeAll()
  }

  func discard() { overlay.removeAll() }
}

/// Decoded records of one family, written back once per batch however often commands change them.
// Confined to the state machine that owns it.
final class RecordCache<ID: Hashable, Record: StoredValue> {
  private let view: StoreView
  private let key: (ID) -> [UInt8]
  private var records: [ID: Record?] = [:]
  private var changed: Set<ID> = []
  private static var limit: Int { 4096 }

  init(_ view: StoreView, key: @escaping (ID) -> [UInt8]) {
    self.view = view
    self.key = key
  }

  func get(_ id: ID) throws(StoreError) -> Record? {
    if let known = records[id] { return known }
    if records.count >= Self.limit && changed.isEmpty { records.removeAll(keepingCapacity: true) }
    let record: Record? = try view.value(key(id))
    records[id] = .some(record)
    return record
  }

  /// nil deletes.
  func set(_ id: ID, _ record: Record?) {
    records[id] = .some(record)
    changed.insert(id)
  }

  /// Puts changed records into the view. Scans of the family see them only then.
  func writeBack() {
    for id in changed {
      if let record = records[id] ?? nil { view.put(key(id), record) } else { view.delete(key(id)) }
    }
    changed.removeAll(keepingCapacity: true)
    if records.count >= Self.limit { records.removeAll(keepingCapacity: true) }
  }

  func discard() {
    records.removeAll()
    changed.removeAll()
  }
}
