internal import Cluster
internal import Ring

/// Which record holds a block: entries in memory over sorted runs, newest first. Loop-confined.
///
/// Entries are put in the order of their records, so the first one found is the newest.
final class BlockIndex: @unchecked Sendable {
  private let path: String
  private let device: DeviceID
  private let driver: any Driver
  private var memory = MemoryTable()
  /// What is being flushed.
  private var frozen: MemoryTable?
  /// Newest first.
  private(set) var runs: [Run] = []
  var nextRun: UInt32 = 1

  init(path: String, device: DeviceID, driver: any Driver) {
    self.path = path
    self.device = device
    self.driver = driver
  }

  /// Entries in memory.
  var memoryCount: Int { memory.count + (frozen?.count ?? 0) }
  var isFlushing: Bool { frozen != nil }
  var runByteCount: UInt64 { runs.reduce(0) { $0 + $1.footer.fileByteCount } }

  func put(_ key: BlockKey, _ place: Place) { memory.set(key, place) }

  /// Where the block is; nil when it was never here or is deleted.
  func find(_ key: BlockKey) async throws(IndexDamage) -> Place? {
    guard let place = try await entry(key), !place.isDeleted else { return nil }
    return place
  }

  private func entry(_ key: BlockKey) async throws(IndexDamage) -> Place? {
    if let place = memory[key] ?? frozen?[key] { return place }
    let candidates = runs.filter { $0.mayContain(key) }
    guard !candidates.isEmpty else { return nil }
    for run in candidates { run.enter() }
    defer { for run in candidates { run.leave() } }
    for run in candidates {
      if let place = try await run.find(key) {
        // While the page was read a newer entry may have come.
        return memory[key] ?? frozen?[key] ?? place
      }
    }
    return memory[key] ?? frozen?[key]
  }

  /// The live blocks of a shard, ascending by stripe.
  func blocks(of shard: ShardKey) async throws(IndexDamage) -> [IndexEntry] {
    let tables = [frozen, memory].compactMap { $0 }
    let runs = runs
    for run in runs { run.enter() }
    defer { for run in runs { run.leave() } }
    var found: [UInt64: Place] = [:]
    for run in runs.reversed() {
      let cursor = try await RunCursor(
        run, from: BlockKey(shard: shard, stripe: 0), pagesAtATime: 2)
      defer { cursor.close() }
      while let entry = cursor.current, entry.key.shard == shard {
        found[entry.key.stripe] = entry.place
        try await cursor.advance()
      }
    }
    for table in tables {
      for entry in table.entries(of: shard) { found[entry.key.stripe] = entry.place }
    }
    return found.keys.sorted().compactMap { stripe in
      let place = found[stripe]!
      return place.isDeleted
        ? nil : IndexEntry(key: BlockKey(shard: shard, stripe: stripe), place: place)
    }
  }

  /// Calls `body` with every live block above `after`, ascending, until it returns false. What is put meanwhile may
  /// be missed; what is there throughout is not.
  func walk(after: ShardKey?, _ body: (IndexEntry) -> Bool) async throws(IndexDamage) {
    let start = after.map { BlockKey(shard: $0, stripe: .max) }
    let tables = [memory, frozen].compactMap { $0 }
    let runs = runs
    for run in runs { run.enter() }
    defer { for run in runs { run.leave() } }
    var sources: [EntrySource] = []
    for table in tables { sources.append(TableSource(table, after: after)) }
    defer { for source in sources { source.close() } }
    for run in runs {
      let cursor = try await RunCursor(run, from: start)
      sources.append(RunSource(cursor))
      // `start` itself, the last stripe of all, could exist.
      while let entry = cursor.current, let after, entry.key.shard == after {
        try await cursor.advance()
      }
    }
    try await Self.merge(sources) { entry in entry.place.isDeleted ? true : body(entry) }
  }

  /// The newest entry of each key, in key order; sources are newest first.
  private static func merge(
    _ sources: [EntrySource], _ body: (IndexEntry) async throws(IndexDamage) -> Bool
  ) async throws(IndexDamage) {
    while true {
      var best: IndexEntry?
      for source in sources {
        if let entry = source.current, best == nil || entry.key < best!.key { best = entry }
      }
      guard let best else { return }
      for source in sources where source.current?.key == best.key { try await source.advance() }
      if try await !body(best) { return }
    }
  }

  // MARK: Runs

  /// Takes the entries in memory out for a run; ``finishFlush(_:)`` or ``undoFlush()`` follows.
  func freeze() -> MemoryTable {
    precondition(frozen == nil)
    let table = memory
    frozen = table
    memory = MemoryTable()
    return table
  }

  /// Writes the frozen entries. Nil when there were none.
  func writeRun(_ table: MemoryTable) async throws(RingError) -> Run? {
    guard table.count > 0 else { return nil }
    let number = nextRun
    nextRun += 1
    let writer = try await RunWriter.make(
      path, number: number, device: device, capacity: table.count, on: driver)
    do throws(RingError) {
      for shard in table.shards.keys.sorted() {
        for entry in table.entries(of: shard) { try await writer.append(entry) }
      }
      return try await writer.finish()
    } catch {
      await writer.abandon()
      throw error
    }
  }

  func finishFlush(_ run: Run?) {
    frozen = nil
    if let run { runs.insert(run, at: 0) }
  }

  func undoFlush() {
    if let table = frozen { memory.addOlder(table) }
    frozen = nil
  }

  func adopt(_ runs: [Run]) { self.runs = runs }

  /// Which of the newest runs to merge next, as a count; nil when none need it. Runs grow by a factor of four or more
  /// from newer to older, so an entry is rewritten once for each such step.
  var runsToMerge: Int? {
    var sum = 0
    var count = 0
    for run in runs {
      guard count < 2 || run.entryCount <= 2 * sum else { break }
      sum += run.entryCount
      count += 1
    }
    if count >= 4 { return count }
    return runs.count >= 2 && driver.meets(.runsMergedEarly) ? 2 : nil
  }

  /// Merges the newest `count` runs into one, which ``replaceNewest(_:by:)`` puts in their place. Deletion marks are
  /// dropped when nothing older is left for them to hide.
  func mergeNewest(_ count: Int) async throws -> (old: [Run], new: Run?) {
    let old = Array(runs.prefix(count))
    let isLast = count == runs.count
    let number = nextRun
    nextRun += 1
    let writer = try await RunWriter.make(
      path, number: number, device: device, capacity: old.reduce(0) { $0 + $1.entryCount },
      on: driver)
    var sources: [EntrySource] = []
    defer { for source in sources { source.close() } }
    do {
      for run in old { sources.append(RunSource(try await RunCursor(run, from: nil))) }
      var failure: RingError?
      try await Self.merge(sources) { (entry) async throws(IndexDamage) -> Bool in
        if isLast && entry.place.isDeleted { return true }
        do throws(RingError) { try await writer.append(entry) } catch {
          failure = error
          return false
        }
        return true
      }
      if let failure { throw failure }
      return (old, try await writer.finish())
    } catch {
      await writer.abandon()
      throw error
    }
  }

  /// Puts a merged run in the place of those it was made from. Newer ones may have come meanwhile.
  func replace(_ old: [Run], by new: Run?) {
    guard let first = runs.firstIndex(where: { $0 === old[0] }) else { return }
    runs.replaceSubrange(first..<first + old.count, with: new.map { [$0] } ?? [])
  }

  /// Forgets all entries; runs were closed.
  func reset() {
    memory = MemoryTable()
    frozen = nil
    runs = []
  }

  func close() async {
    for run in runs { await run.close() }
    runs = []
  }
}

/// Something that yields entries in key order.
private class EntrySource {
  var current: IndexEntry? { nil }
  func advance() async throws(IndexDamage) {}
  func close() {}
}

private final class RunSource: EntrySource {
  private let cursor: RunCursor
  init(_ cursor: RunCursor) { self.cursor = cursor }
  override var current: IndexEntry? { cursor.current }
  override func advance() async throws(IndexDamage) { try await cursor.advance() }
  override func close() { cursor.close() }
}

private final class TableSource: EntrySource {
  private let table: MemoryTable
  private var shards: ArraySlice<ShardKey>
  private var entries: ArraySlice<IndexEntry> = []

  init(_ table: MemoryTable, after: ShardKey?) {
    self.table = table
    shards = table.shards.keys.filter { after == nil || $0 > after! }.sorted()[...]
    super.init()
    next()
  }
  private func next() {
    while entries.isEmpty, let shard = shards.popFirst() { entries = table.entries(of: shard)[...] }
  }
  override var current: IndexEntry? { entries.first }
  override func advance() async throws(IndexDamage) {
    entries.removeFirst()
    next()
  }
}
