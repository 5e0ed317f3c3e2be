/// A store as an audit reads it: families in the order it wants them, a piece at a time.
package struct AuditSource {
  /// At most so many entries of a range, in key order.
  let scan: (KeyRange, Int) throws(StoreError) -> [StoreEntry]

  package init(_ store: any OrderedStore) {
    scan = { (range, limit) throws(StoreError) in try store.scan(range, limit: limit) }
  }

  /// - Parameter pace: asked before each piece with the entries read so far; what it throws ends the audit.
  package init(
    _ snapshot: any StoreSnapshot, pace: @escaping (Int) throws(StoreError) -> Void = { _ in }
  ) {
    let count = Counter()
    scan = { (range, limit) throws(StoreError) in
      try pace(count.value)
      let rows = try snapshot.scan(range, limit: limit)
      count.value += rows.count
      return rows
    }
  }

  private final class Counter { var value = 0 }

  func first(_ family: Key.Family) throws(StoreError) -> StoreEntry? {
    try scan(KeyRange(prefix: Key.family(family)), 1).first
  }
  func rows(_ family: Key.Family) -> Rows { rows(prefix: Key.family(family)) }
  func rows(prefix: [UInt8]) -> Rows { Rows(source: self, range: KeyRange(prefix: prefix)) }

  /// The entries of a range, one after the other.
  struct Rows {
    private static let pieceCount = 512
    private let source: AuditSource
    private var range: KeyRange
    private var piece: [StoreEntry] = []
    private var index = 0
    private var isLast = false

    init(source: AuditSource, range: KeyRange) {
      self.source = source
      self.range = range
    }

    mutating func next() throws(StoreError) -> StoreEntry? {
      if index == piece.count {
        guard !isLast else { return nil }
        piece = try source.scan(range, Self.pieceCount)
        index = 0
        isLast = piece.count < Self.pieceCount
        guard let last = piece.last else { return nil }
        range.lower = last.key + [0]
      }
      defer { index += 1 }
      return piece[index]
    }
  }
}
