import Cluster
import Ring
import ShardStore

/// A device's storage engine in this process, on the job's loop.
final class StorePlace: BlockPlace, @unchecked Sendable {
  // Loop-confined.
  private let store: ShardStore

  private init(_ store: ShardStore) { self.store = store }

  /// Formats a device at `path`, which is empty, and opens it.
  static func open(_ path: String, capacity: UInt64, on driver: any Driver)
    async throws(BenchError) -> StorePlace
  {
    let node = NodeID(1)
    do throws(StoreError) {
      _ = try await ShardStore.format(path, node: node, cluster: 1, on: driver)
      return StorePlace(
        try await ShardStore.open(
          path, node: node, cluster: 1, settings: StoreSettings(capacity: capacity), on: driver))
    } catch {
      throw .failed("\(error)")
    }
  }

  func write(
    _ key: BlockKey, _ layout: StripeLayout, checksums: [UInt32], payload: Slice
  ) async throws(BenchError) {
    do throws(StoreError) {
      try await store.write(
        StoredBlock(key: key, layout: layout, acknowledged: 0, epoch: 0), checksums: checksums,
        payload: payload, hasHeadroom: true)
    } catch {
      throw .failed("write: \(error)")
    }
  }

  func read(_ key: BlockKey, offset: Int, byteCount: Int) async throws(BenchError) {
    do throws(StoreError) {
      _ = try await store.read(key, offset: offset, byteCount: byteCount)
    } catch {
      throw .failed("read: \(error)")
    }
  }

  func delete(_ shard: ShardKey) async throws(BenchError) {
    do throws(StoreError) {
      try await store.delete([shard], epoch: 0)
    } catch {
      throw .failed("delete: \(error)")
    }
  }

  func close() async { await store.close() }
}
