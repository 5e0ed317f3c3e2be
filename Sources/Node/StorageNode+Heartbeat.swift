internal import Cluster
internal import Messages
internal import Ring
internal import Service
internal import ShardStore
internal import Wire

extension StorageNode {
  /// Says hello to one coordinator until the node stops, each second or as it asks for.
  func sayHello(to coordinator: SocketAddress, through client: WireClient) async {
    var trouble = ""
    var interval = Duration.seconds(1)
    var told = ToldDamage()
    while !Task.isCancelled {
      let began = driver.now
      do throws(WireError) {
        let answer = try await client.call(
          await hello(&told), at: coordinator, deadline: .seconds(2)
        ).answer
        interval = .milliseconds(Int(min(max(answer.intervalMilliseconds, 100), 10_000)))
        if answer.clusterID != 0 {
          do throws(Refusal) { try await join(answer.clusterID) } catch {
            throw .refused(code: error.code, reason: error.reason)
          }
        }
        if !trouble.isEmpty { log.info("coordinator answers", ["address": coordinator]) }
        trouble = ""
      } catch {
        // Once for each new reason: a coordinator that is away for a night must not fill the log.
        let reason = "\(error)"
        if reason != trouble && error != .cancelled {
          log.warning("coordinator does not answer", ["address": coordinator, "reason": reason])
          trouble = reason
        }
        interval = .seconds(1)
      }
      let rest = interval - (driver.now - began)
      guard await driver.sleep(max(rest, .milliseconds(50))) else { return }
    }
  }

  /// Tells the log what became of the devices since it was last told.
  private func watchDevices() {
    for (_, store) in stores {
      if case .retired(let reason) = store.state, toldRetired.insert(store.device).inserted {
        log.error(
          "device retired", ["path": store.path, "id": store.device, "reason": reason])
      }
      for fallback in store.fallbacks.dropFirst(toldFallbacks[store.device, default: 0]) {
        log.warning("device does without", ["path": store.path, "what": fallback])
      }
      toldFallbacks[store.device] = store.fallbacks.count
      let damaged = store.damagedBlockCount
      if damaged > toldDamaged[store.device, default: 0] {
        log.error(
          "blocks are damaged",
          [
            "path": store.path, "id": store.device, "now": damaged,
            "foundByScrub": store.scrubState.foundInAll,
          ])
      } else if damaged == 0, toldDamaged[store.device, default: 0] > 0 {
        log.info("no block is damaged any more", ["path": store.path, "id": store.device])
      }
      toldDamaged[store.device] = damaged
      let corrupt = store.corruptReadCount
      if corrupt > toldCorrupt[store.device, default: 0] {
        toldCorrupt[store.device] = corrupt
        log.error(
          "corrupt blocks were read",
          ["path": store.path, "id": store.device, "sinceStart": corrupt])
      }
    }
  }

  /// The last keys that a coordinator was told of each device: the next hello goes on behind them.
  struct ToldDamage {
    fileprivate var damaged: [DeviceID: BlockKey] = [:]
    fileprivate var suspected: [DeviceID: BlockKey] = [:]
  }

  private func damage(of store: ShardStore, _ told: inout ToldDamage) -> DeviceDamage? {
    let damaged = store.damagedBlocks(
      after: told.damaged[store.device], limit: DeviceDamage.keyLimit)
    let suspected = store.suspectedBlocks(
      after: told.suspected[store.device], limit: DeviceDamage.keyLimit)
    told.damaged[store.device] = damaged.last
    told.suspected[store.device] = suspected.last
    guard !damaged.isEmpty || !suspected.isEmpty else { return nil }
    return DeviceDamage(device: store.device, damaged: damaged, suspected: suspected)
  }

  private func hello(_ told: inout ToldDamage) async -> Hello {
    for (_, store) in stores { await store.checkPath() }
    watchDevices()
    var devices: [DeviceReport] = []
    var corrupt: UInt64 = 0
    var damage: [DeviceDamage] = []
    for (device, store) in stores {
      let usage = await store.usage()
      devices.append(
        DeviceReport(
          id: store.device, capacity: usage.capacity, used: usage.usedByteCount,
          linkBytes: usage.linkByteCount, free: usage.freeByteCount,
          logFree: usage.linkFreeByteCount, tier: device.tier,
          isFailed: store.state != .healthy,
          isRetired: store.retiredForGood != nil, damagedCount: store.damagedBlockCount,
          lostCount: store.recovery.lostRecordCount, scrub: ScrubReport(store.scrubState),
          load: loads[store.device] ?? DeviceLoad()))
      corrupt += store.corruptReadCount
      if let some = self.damage(of: store, &told) { damage.append(some) }
    }
    let host = configuration.listen.host
    let isAnywhere = host == "0.0.0.0" || host == "::"
    return Hello(
      clusterID: cluster, node: node ?? NodeID(0), name: configuration.name,
      host: isAnywhere ? "" : host, port: address?.port ?? 0, domain: configuration.domain,
      devices: devices, highestEpoch: highestEpoch, corruptBlocks: corrupt,
      damage: damage)
  }

  /// Notes, durably, which cluster this is; refuses any other from then on. A device whose file system has no room for
  /// it serves all the same, and notes it at a later hello.
  func join(_ cluster: UInt64) async throws(Refusal) {
    // A retired device keeps what it says.
    let waiting = stores.contains { $0.store.cluster != cluster && $0.store.state == .healthy }
    if self.cluster == cluster && !waiting { return }
    await adoption.acquire()
    defer { adoption.release() }
    guard let directory else { throw Refusal(.unavailable, "stopping") }
    guard directory.identity.cluster == 0 || directory.identity.cluster == cluster else {
      throw Refusal(.failed, "this node belongs to another cluster")
    }
    var hasJoined = directory.identity.cluster != cluster
    do throws(RingError) {
      // The node first: a device of a cluster that its node does not know is refused at the next start.
      try await directory.adopt(cluster: cluster)
    } catch {
      throw Refusal(.failed, "\(error)")
    }
    for (_, store) in stores where store.cluster != cluster && store.state == .healthy {
      do throws(StoreError) {
        try await store.adopt(cluster: cluster)
        hasJoined = true
      } catch {
        guard error.isFull else { throw Refusal(.failed, "\(error)") }
        let reason = "\(error)"
        if toldUnjoined.updateValue(reason, forKey: store.device) != reason {
          log.warning(
            "device cannot note its cluster yet", ["path": store.path, "reason": reason])
        }
      }
    }
    if hasJoined { log.info("joined the cluster", ["cluster": String(cluster, radix: 16)]) }
  }
}
