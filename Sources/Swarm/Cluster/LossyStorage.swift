internal import Coordinator
internal import Metadata
internal import Simulation

/// State stores in memory that outlive a coordinator's process; a crash takes what was not flushed.
final class LossyStorage: StateStorage, @unchecked Sendable {
  // Loop-confined.
  private var stores: [String: MemoryStore] = [:]
  /// The next open finds damage.
  var isDamaged = false

  func open(_ path: String) throws(Metadata.StoreError) -> any SnapshotStore {
    if isDamaged {
      isDamaged = false
      throw .corrupt("damaged by a fault")
    }
    if let known = stores[path] { return known }
    let store = MemoryStore()
    stores[path] = store
    return store
  }
  /// Those that were opened, in an order that does not change.
  var opened: [MemoryStore] { stores.keys.sorted().map { stores[$0]! } }
  func close(_ store: any SnapshotStore) { try? store.flush() }
  func discard(_ path: String) throws(Metadata.StoreError) { stores[path] = nil }

  /// What a crash leaves: of the batches that were not flushed, some first ones.
  func crash(_ random: inout SimulationRandom) {
    for path in stores.keys.sorted() {
      let store = stores[path]!
      store.crash(keeping: random.below(store.unflushedBatchCount + 1))
    }
  }

  /// The disk it was on is gone.
  func wipe() { stores = [:] }
}
