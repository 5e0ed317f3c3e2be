package import Cluster
internal import Glibc
package import Ring

extension ShardStore {
  /// Opens the device at `path`, whatever state a crash or damage left its volumes and index in; ``recovery`` tells
  /// what was found.
  ///
  /// - Parameters:
  ///   - node: whose device it must be.
  ///   - cluster: the cluster it must belong to, if the node knows one; a device that knows none takes it, unless its
  ///     file system has no room for that now: ``cluster`` is 0 then, and ``adopt(cluster:)`` is to be tried later.
  ///   - retired: why the node knows it to be retired, should the device itself not have been able to note it.
  /// - Throws: `inUse`, `notFormatted`, `foreign`, `newerFormat`, `identityDamaged`, `system`.
  package static func open(
    _ path: String, node: NodeID, cluster: UInt64?, settings: StoreSettings,
    retired: String? = nil, on driver: any Driver
  ) async throws(StoreError) -> ShardStore {
    // Before anything is touched: whose is it?
    var identity = try await DeviceIdentity.load(path, on: driver)
    try identity.check(node: node, cluster: cluster, path: path)
    let (lockFile, isReadOnly) = try await openLock(path, on: driver)
    do throws(StoreError) {
      let isOurs: Bool
      let lockStatus: FileStatus
      do throws(RingError) {
        isOurs = try await lockFile.lock()
        lockStatus = try await driver.status(path + "/lock", followLinks: false)
      } catch {
        throw .system(error)
      }
      guard isOurs else { throw .inUse(path: path) }
      if identity.cluster == 0 {
        // It may have been given one meanwhile; nothing else of it ever changes.
        identity = try await DeviceIdentity.load(path, on: driver)
        try identity.check(node: node, cluster: cluster, path: path)
      }
      let store = ShardStore(
        path: path, settings: settings, identity: identity, lockFile: lockFile,
        lockStatus: lockStatus, driver: driver)
      do throws(StoreError) {
        if isReadOnly { store.volumes.accessMode = O_RDONLY }
        try await checkFit(path, settings, isReadOnly: isReadOnly, on: driver)
        try await store.recover(
          retired: retired, isReadOnly: isReadOnly)
        // A retired device keeps what it says.
        if let cluster, cluster != 0, store.state == .healthy {
          do throws(StoreError) { try await store.adopt(cluster: cluster) } catch {
            // A full one serves and deletes; whoever opened it asks it again.
            guard error.isFull else { throw error }
          }
        }
      } catch {
        await store.volumes.closeAll()
        await store.index.close()
        throw error
      }
      await store.recallScrub()
      store.maintain()
      store.startScrubbing()
      return store
    } catch {
      await lockFile.close()
      throw error
    }
  }

  /// Refuses, before anything of the device is read or written, a file system without what the settings require. The
  /// directory is there; it need not be formatted.
  ///
  /// - Parameter isReadOnly: nothing may be written, so that only what is there can be tried.
  /// - Throws: `unfit`. What is wrong with the device otherwise is found where it matters.
  package static func checkFit(
    _ path: String, _ settings: StoreSettings, isReadOnly: Bool = false, on driver: any Driver
  ) async throws(StoreError) {
    let wantsDirect = settings.directIO == .required
    let wantsPreallocation = settings.preallocation == .required && !isReadOnly
    guard wantsDirect || wantsPreallocation else { return }
    let name = path + (isReadOnly ? "/identity" : "/probe")
    var missing: String?
    do throws(RingError) {
      let file = try await File.open(
        name, (isReadOnly ? O_RDONLY : O_RDWR | O_CREAT) | (wantsDirect ? O_DIRECT : 0),
        mode: 0o600, on: driver)
      if wantsPreallocation {
        do throws(RingError) { try await file.allocate(offset: 0, byteCount: 4096) } catch {
          if error.isUnsupported { missing = "fallocate" }
        }
      }
      await file.close()
    } catch {
      if wantsDirect, error.errno == EINVAL { missing = "direct I/O" }
    }
    if !isReadOnly { try? await driver.remove(name) }
    if let missing {
      throw .unfit("the file system has no \(missing), which the profile requires: \(path)")
    }
  }

  /// A file system that lets nothing be written, as the kernel makes one after errors, may still be read.
  private static func openLock(_ path: String, on driver: any Driver) async throws(StoreError)
    -> (file: File, isReadOnly: Bool)
  {
    let name = path + "/lock"
    do throws(RingError) {
      do throws(RingError) {
        return (try await File.open(name, O_RDWR | O_CREAT, mode: 0o600, on: driver), false)
      } catch {
        guard error.errno == EROFS else { throw error }
        return (try await File.open(name, O_RDONLY, on: driver), true)
      }
    } catch {
      throw .system(error)
    }
  }

  /// Ends writing, waits for what is under way, proves the tail with a last mark, flushes the index and lets the
  /// device go. Nothing may be called afterwards.
  package func close() async {
    guard !isClosing else { return }
    isClosing = true
    await stopScrubbing()
    while uncommittedHead < uncommitted.count || pendingPunches > 0 { await idle.wait() }
    if state == .healthy, nextSequence > 1, open != nil { try? await appendMark() }
    while backgroundTasks > 0 { await idle.wait() }
    if state == .healthy, unindexedByteCount > 0 { await flushIndex() }
    while backgroundTasks > 0 { await idle.wait() }
    await writeScrubNote()
    if let empty = prepared {
      prepared = nil
      try? await volumes.remove(empty)
    }
    await volumes.closeAll()
    await index.close()
    await lockFile.close()
  }
}
