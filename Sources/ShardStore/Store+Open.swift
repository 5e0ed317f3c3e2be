package import Cluster
internal import Glibc
package import Ring

extension ShardStore {
  /// Opens the device at `path`, whatever state a crash or damage left its volumes and index in; ``recovery`` tells
  /// what was found.
  ///
  /// - Parameters:
  ///   - node: whose device it must be.
  ///   - cluster: the cluster it must belong to, if the node knows one; a device that knows none takes it.
  /// - Throws: `inUse`, `notFormatted`, `foreign`, `newerFormat`, `identityDamaged`, `system`.
  package static func open(
    _ path: String, node: NodeID, cluster: UInt64?, settings: StoreSettings, on driver: any Driver
  ) async throws(StoreError) -> ShardStore {
    // Before anything is touched: whose is it?
    var identity = try await DeviceIdentity.load(path, on: driver)
    try identity.check(node: node, cluster: cluster, path: path)
    let lockFile: File
    do {
      lockFile = try await File.open(path + "/lock", O_RDWR | O_CREAT, mode: 0o600, on: driver)
    } catch {
      throw .system(error)
    }
    do throws(StoreError) {
      let isOurs: Bool
      do throws(RingError) { isOurs = try await lockFile.lock() } catch { throw .system(error) }
      guard isOurs else { throw .inUse(path: path) }
      identity = try await DeviceIdentity.load(path, on: driver)
      try identity.check(node: node, cluster: cluster, path: path)
      let store = ShardStore(
        path: path, settings: settings, identity: identity, lockFile: lockFile, driver: driver)
      do throws(StoreError) {
        try await store.recover()
        if let cluster, cluster != 0 { try await store.adopt(cluster: cluster) }
      } catch {
        await store.volumes.closeAll()
        await store.index.close()
        throw error
      }
      store.maintain()
      return store
    } catch {
      await lockFile.close()
      throw error
    }
  }

  /// Ends writing, waits for what is under way, proves the tail with a last mark, flushes the index and lets the
  /// device go. Nothing may be called afterwards.
  package func close() async {
    guard !isClosing else { return }
    isClosing = true
    while uncommittedHead < uncommitted.count || pendingPunches > 0 { await idle.wait() }
    if state == .healthy, nextSequence > 1, open != nil { try? await appendMark() }
    while backgroundTasks > 0 { await idle.wait() }
    if state == .healthy, unindexedByteCount > 0 { await flushIndex() }
    while backgroundTasks > 0 { await idle.wait() }
    if let empty = prepared {
      prepared = nil
      try? await volumes.remove(empty)
    }
    await volumes.closeAll()
    await index.close()
    await lockFile.close()
  }
}
