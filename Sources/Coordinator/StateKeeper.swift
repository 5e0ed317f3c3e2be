import Cluster
import Coding
import Messages
package import Metadata
import Ring
import Synchronization
import Wire

/// Where the state machine's store comes from: RocksDB, or memory in simulation. Called on offload lane 0.
package protocol StateStorage: Sendable {
  /// Opens the store at `path`, or makes it; its parent folder exists.
  func open(_ path: String) throws(StoreError) -> any SnapshotStore
  /// Flushes what was applied and lets go of the files.
  func close(_ store: any SnapshotStore)
  /// Removes what is at `path`, damaged or not. The store is not open.
  func discard(_ path: String) throws(StoreError)
}

/// The state in RocksDB.
package struct RocksStorage: StateStorage {
  package var settings: RocksSettings
  package init(settings: RocksSettings = RocksSettings()) { self.settings = settings }

  package func open(_ path: String) throws(StoreError) -> any SnapshotStore {
    try RocksStore(path: path, settings: settings)
  }
  package func close(_ store: any SnapshotStore) {
    // What is not flushed is replayed from the log.
    try? store.flush()
    (store as? RocksStore)?.close()
  }
  package func discard(_ path: String) throws(StoreError) { try RocksStore.discard(path: path) }
}

/// The state machine and its store, which live on offload lane 0.
final class StateKeeper: @unchecked Sendable {
  // Loop-confined; `machine` and `store` are touched inside lane 0 only.
  private final class Box: @unchecked Sendable {
    // Confined to offload lane 0.
    var store: (any SnapshotStore)?
    var machine: StateMachine?
    var snapshot: (any StoreSnapshot)?
    var loader: CheckpointLoader?

    func close(_ storage: any StateStorage) {
      machine = nil
      loader = nil
      snapshot?.close()
      snapshot = nil
      if let store { storage.close(store) }
      store = nil
    }
  }

  private let driver: any Driver
  private let storage: any StateStorage
  private let folder: String
  private let box = Box()
  private var clusterID: UInt64 = 0
  private(set) var isOpen = false
  /// Set when the state was found wrong: the next ``open(_:)`` throws it away.
  var isBroken = false
  private(set) var appliedPosition: UInt64 = 0
  /// As of the applied position.
  private(set) var map = ClusterMap()
  /// Of classes without one of their own, as of the applied position; nil before the founding.
  private(set) var scheme: Scheme?
  /// Storage classes, as of the applied position.
  private(set) var classes: [ClassID: StorageClass] = [:]
  private var isDirty = false
  /// Reads that wait; each answers with what is to be done on the loop after.
  private var reads: [@Sendable (Box) -> @Sendable () -> Void] = []
  private var isReading = false
  /// Reads that go to the lane together: the first waits for the last.
  private static let readLimit = 64
  private var audit: Audit?
  private let auditEnded = WaitQueue()
  private let advanced = WaitQueue()
  /// Told of every batch before it is applied; for tests.
  var onApply: ((LogBatch) -> Void)?

  init(driver: any Driver, storage: any StateStorage, dataDirectory: String) {
    self.driver = driver
    self.storage = storage
    folder = dataDirectory + "/state"
  }

  private func path(_ clusterID: UInt64) -> String {
    folder + "/" + String(clusterID, radix: 16)
  }

  private func onLane<Value: Sendable>(
    _ work: @escaping @Sendable (Box) throws(StoreError) -> Value
  ) async throws(StoreError) -> Value {
    let box = box
    return try await driver.offload(lane: 0) { () -> Result<Value, StoreError> in
      do throws(StoreError) { return .success(try work(box)) } catch { return .failure(error) }
    }.get()
  }

  /// Opens the state of a cluster, unless it is open. A damaged store is thrown away.
  func open(_ clusterID: UInt64) async throws(StoreError) {
    if isOpen && self.clusterID == clusterID {
      if isBroken { try await discard() }
      return
    }
    await close()
    await endAudit()
    do throws(RingError) {
      try await driver.makeDirectories(folder)
    } catch {
      throw .device(error.description)
    }
    self.clusterID = clusterID
    // What a restore that was given up left open.
    let storage = storage
    try await onLane { (box) throws(StoreError) in box.close(storage) }
    do throws(StoreError) {
      try await openStore()
      let found = try await onLane { (box) throws(StoreError) in box.machine?.clusterID ?? 0 }
      if isBroken || found != 0 && found != clusterID { throw .corrupt("not to be used") }
    } catch {
      guard case .corrupt = error else { throw error }
      try await discard()
    }
    isOpen = true
  }

  private func openStore() async throws(StoreError) {
    let path = path(clusterID)
    let storage = storage
    let (position, map, scheme, classes) = try await onLane {
      (box) throws(StoreError) -> (UInt64, ClusterMap, Scheme?, [ClassID: StorageClass]) in
      let store = try storage.open(path)
      box.store = store
      let machine = try StateMachine(store: store)
      box.machine = machine
      return (
        machine.appliedPosition, machine.map, Self.scheme(of: machine), try machine.policies()
      )
    }
    appliedPosition = position
    self.map = map
    self.scheme = scheme
    self.classes = classes
    isDirty = false
  }

  private static func scheme(of machine: StateMachine) -> Scheme? {
    machine.clusterID == 0 ? nil : machine.scheme
  }

  /// Throws the state away and begins with an empty one: the log has it all.
  func discard() async throws(StoreError) {
    isOpen = false
    await endAudit()
    let path = path(clusterID)
    let storage = storage
    try await onLane { (box) throws(StoreError) in
      box.close(storage)
      try storage.discard(path)
    }
    try await openStore()
    isOpen = true
    isBroken = false
  }

  /// Flushes and closes; ``open(_:)`` opens it again.
  func close() async {
    guard isOpen else { return }
    isOpen = false
    await endAudit()
    let storage = storage
    // Closing does not fail: what it could not flush is in the log.
    _ = try? await onLane { (box) throws(StoreError) in box.close(storage) }
  }

  /// Applies an acknowledged batch.
  func apply(_ batch: LogBatch) async throws(StoreError) -> [CommandOutcome] {
    onApply?(batch)
    let before = map.epoch
    let changesClasses = batch.commands.contains { $0.changesClasses }
    let (outcomes, map, scheme, classes) = try await onLane {
      (box) throws(StoreError) -> (
        [CommandOutcome], ClusterMap?, Scheme?, [ClassID: StorageClass]?
      ) in
      guard let machine = box.machine else { throw .device("the store is closed") }
      let outcomes = try machine.apply(batch)
      return (
        outcomes, machine.map.epoch == before ? nil : machine.map, Self.scheme(of: machine),
        changesClasses ? try machine.policies() : nil
      )
    }
    appliedPosition = max(appliedPosition, batch.lastPosition)
    isDirty = true
    if let map { self.map = map }
    self.scheme = scheme
    if let classes { self.classes = classes }
    advanced.wakeAll()
    return outcomes
  }

  /// Waits until everything up to `position` is applied.
  func waitForPosition(_ position: UInt64, unless isOver: () -> Bool) async {
    while appliedPosition < position && !isOver() { await advanced.wait() }
  }
  /// Wakes those who wait for positions that may never come.
  func wake() { advanced.wakeAll() }

  /// Reads the state as of the applied position or later. Reads that come while others are under way go to the lane together:
  /// the way there and back costs more than most of them.
  func read<Value: Sendable>(
    _ body: @escaping @Sendable (StateMachine) throws(StoreError) -> Value
  ) async throws(StoreError) -> Value {
    let promise = Promise<Result<Value, StoreError>>()
    reads.append { (box) -> @Sendable () -> Void in
      let result: Result<Value, StoreError>
      do throws(StoreError) {
        guard let machine = box.machine else { throw .device("the store is closed") }
        result = .success(try body(machine))
      } catch {
        result = .failure(error)
      }
      return { promise.fulfil(result) }
    }
    if !isReading {
      isReading = true
      driver.spawn("read state") { [self] in await readAll() }
    }
    return try await promise.get().get()
  }

  private func readAll() async {
    while !reads.isEmpty {
      let some = Array(reads.prefix(Self.readLimit))
      reads.removeFirst(some.count)
      let box = box
      for answer in await driver.offload(lane: 0, { some.map { $0(box) } }) { answer() }
    }
    isReading = false
  }

  // MARK: audits

  /// Whether the audit under way is to end, and how many entries it has read.
  private final class Audit: Sendable {
    let isCancelled = Atomic(false)
    let readCount = Atomic(0)
  }

  /// Reads a copy of the state as it is now, on a lane of its own while the state goes on. One at a time.
  ///
  /// - Parameter run: told now and then how many entries were read.
  /// - Throws: `device` also when the state was closed meanwhile.
  func audit<Value: Sendable>(
    for run: CheckRun,
    _ body: @escaping @Sendable (AuditSource, UsageCounters) throws(StoreError) -> Value
  ) async throws(StoreError) -> Value {
    guard isOpen, self.audit == nil else { throw .device("the state cannot be read now") }
    let audit = Audit()
    self.audit = audit
    defer {
      self.audit = nil
      auditEnded.wakeAll()
    }
    let (snapshot, usage) = try await onLane {
      (box) throws(StoreError) -> (any StoreSnapshot, UsageCounters) in
      guard let machine = box.machine, let store = box.store else {
        throw .device("the store is closed")
      }
      return (try store.snapshot(), machine.usage)
    }
    let outcome = Promise<Result<Value, StoreError>>()
    driver.spawn("audit") { [driver] in
      outcome.fulfil(
        await driver.offload(lane: 1) { () -> Result<Value, StoreError> in
          defer { snapshot.close() }
          do throws(StoreError) {
            let source = AuditSource(snapshot) { (count) throws(StoreError) in
              audit.readCount.store(count, ordering: .relaxed)
              if audit.isCancelled.load(ordering: .relaxed) {
                throw .device("the state was closed while it was read")
              }
            }
            return .success(try body(source, usage))
          } catch {
            return .failure(error)
          }
        })
    }
    while !outcome.isFulfilled {
      guard await driver.sleep(.milliseconds(50)) else {
        audit.isCancelled.store(true, ordering: .relaxed)
        break
      }
      run.done = UInt64(clamping: audit.readCount.load(ordering: .relaxed))
    }
    // The store must not be closed before its copy is.
    return try await outcome.get().get()
  }

  /// Ends the audit under way, before its store goes.
  private func endAudit() async {
    while let audit {
      audit.isCancelled.store(true, ordering: .relaxed)
      await auditEnded.wait()
    }
  }

  // MARK: checkpoints

  /// Begins a copy of the state as it is now; one at a time.
  ///
  /// - Returns: its log position.
  func beginSnapshot() async throws(StoreError) -> UInt64 {
    try await onLane { (box) throws(StoreError) in
      guard let machine = box.machine, let store = box.store else {
        throw .device("the store is closed")
      }
      box.snapshot?.close()
      box.snapshot = try store.snapshot()
      return machine.appliedPosition
    }
  }

  /// The copy's next entries, a piece's worth; none at its end.
  func nextOfSnapshot() async throws(StoreError) -> [StoreEntry] {
    try await onLane { (box) throws(StoreError) in
      guard let snapshot = box.snapshot else { throw .device("the snapshot is closed") }
      return try snapshot.next(byteCount: CheckpointPiece.fullByteCount)
    }
  }

  func endSnapshot() async {
    // Letting go does not fail.
    _ = try? await onLane { (box) throws(StoreError) in
      box.snapshot?.close()
      box.snapshot = nil
    }
  }

  /// Throws the state away and begins to fill it from a checkpoint.
  func beginRestore(position: UInt64) async throws(StoreError) {
    let path = path(clusterID)
    let storage = storage
    let clusterID = clusterID
    isOpen = false
    await endAudit()
    try await onLane { (box) throws(StoreError) in
      box.close(storage)
      try storage.discard(path)
      let store = try storage.open(path)
      box.store = store
      box.loader = CheckpointLoader(into: store, clusterID: clusterID, position: position)
    }
  }

  func restore(_ piece: CheckpointPiece) async throws(StoreError) {
    try await onLane { (box) throws(StoreError) in
      guard let loader = box.loader else { throw .device("nothing is being restored") }
      try loader.add(piece)
    }
  }

  func finishRestore() async throws(StoreError) {
    let storage = storage
    try await onLane { (box) throws(StoreError) in
      guard let loader = box.loader else { throw .device("nothing is being restored") }
      try loader.finish()
      box.close(storage)
    }
    try await openStore()
    isOpen = true
    isBroken = false
  }

  /// Makes what is applied survive a crash, when anything changed.
  func flush() async throws(StoreError) {
    guard isOpen, isDirty else { return }
    isDirty = false
    try await onLane { (box) throws(StoreError) in try box.store?.flush() }
  }
}

extension Command {
  fileprivate var changesClasses: Bool {
    switch self {
    case .found, .defineClass: true
    default: false
    }
  }
}
