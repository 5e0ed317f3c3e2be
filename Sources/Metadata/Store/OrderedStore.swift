/// A key with its value.
package struct StoreEntry: Hashable, Sendable {
  package var key: [UInt8]
  package var value: [UInt8]
  package init(key: [UInt8], value: [UInt8]) {
    self.key = key
    self.value = value
  }
}

/// Keys from `lower` on, and below `upper` when there is one.
package struct KeyRange: Hashable, Sendable {
  /// Inclusive.
  package var lower: [UInt8]
  /// Exclusive; nil: to the end.
  package var upper: [UInt8]?

  package init(from lower: [UInt8] = [], below upper: [UInt8]? = nil) {
    self.lower = lower
    self.upper = upper
  }
  /// All keys that start with `prefix`.
  package init(prefix: [UInt8]) {
    lower = prefix
    upper = Self.successor(of: prefix)
  }

  /// The first key after all that start with `prefix`; nil when there is none.
  package static func successor(of prefix: [UInt8]) -> [UInt8]? {
    var next = prefix
    while let last = next.last {
      if last < 0xFF {
        next[next.count - 1] = last + 1
        return next
      }
      next.removeLast()
    }
    return nil
  }

  func contains(_ key: [UInt8]) -> Bool {
    if keyPrecedes(key, lower) { return false }
    if let upper { return keyPrecedes(key, upper) }
    return true
  }
}

/// Changes that take effect together. A later change of a key wins.
package struct WriteBatch: Sendable {
  package enum Change: Sendable {
    case put(key: [UInt8], value: [UInt8])
    case delete(key: [UInt8])
  }
  package private(set) var changes: [Change] = []

  package init() {}
  package mutating func put(_ key: [UInt8], _ value: [UInt8]) {
    changes.append(.put(key: key, value: value))
  }
  package mutating func delete(_ key: [UInt8]) { changes.append(.delete(key: key)) }
  mutating func reserve(_ count: Int) { changes.reserveCapacity(count) }
}

/// An ordered map from bytes to bytes on local storage: a cache of what the log says.
///
/// Synchronous, and blocking in the case of RocksDB: use it only inside `driver.offload(lane: 0)`, whose work
/// runs one at a time. A crash may lose the latest batches, but only whole ones, and none before a lost one is
/// newer: what is left is always the state after some batch at or past the last `flush`.
package protocol OrderedStore: AnyObject, Sendable {
  func get(_ key: [UInt8]) throws(StoreError) -> [UInt8]?
  /// At most `limit` entries in key order, or in reverse order from the range's end.
  func scan(_ range: KeyRange, limit: Int, backward: Bool) throws(StoreError) -> [StoreEntry]
  /// All of the batch or, when it throws, nothing that a later reader may rely on.
  func apply(_ batch: WriteBatch) throws(StoreError)
  /// On return everything applied before survives a crash.
  func flush() throws(StoreError)
}

extension OrderedStore {
  package func scan(_ range: KeyRange, limit: Int = .max) throws(StoreError) -> [StoreEntry] {
    try scan(range, limit: limit, backward: false)
  }
  /// The log position of the last command whose effect is in the store; 0 for a new store.
  package func appliedPosition() throws(StoreError) -> UInt64 {
    guard let bytes = try get(Key.state) else { return 0 }
    return try MachineState(stored: bytes).appliedPosition
  }
}
