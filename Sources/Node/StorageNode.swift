package import Cluster
internal import Messages
package import Ring
package import Service
package import ShardStore
internal import Wire

/// The storage daemon: opens the devices of one node, answers ``Messages``' node calls on them, and says hello to the
/// coordinators every second.
///
/// Where to read on:
///
///     NodeConfiguration       what it is told
///     NodeDirectory           whose directory this is
///     DeviceLedger            which device stood where
///     LeaseKeeper             the highest epoch and the newest root it was shown
///     GrantChecker            who may write what
///     StorageNode+Calls       each call's answer
///     ShardRewriter           writing shards anew, as the leader asks
///     StorageNode+Heartbeat   hello, and learning which cluster this is
///
/// Loop-confined.
package final class StorageNode: @unchecked Sendable {
  let driver: any Driver
  let configuration: NodeConfiguration
  let log: Log
  private(set) var directory: NodeDirectory?
  /// In the order of the configuration.
  private(set) var stores: [(device: NodeConfiguration.Device, store: ShardStore)] = []
  /// Why devices of the configuration are not among them, by path.
  private var leftOut: [String: String] = [:]
  var byDevice: [DeviceID: ShardStore] = [:]
  var lease: LeaseKeeper?
  let grants: GrantChecker
  /// Bytes that answers being read may take.
  let readRoom: Semaphore
  private var server: WireServer?
  private var client: WireClient?
  private(set) var rewriter: ShardRewriter?
  private var heartbeats: [SpawnedTask] = []
  private var isStarted = false
  /// Where it serves, once started.
  package private(set) var address: SocketAddress?
  let adoption = Semaphore(1)
  /// Retirements on their way into the node's directory.
  private var retirements = 0
  private let retirementsNoted = WaitQueue()
  /// What the log was told already.
  var toldRetired: Set<DeviceID> = []
  var toldCorrupt: [DeviceID: UInt64] = [:]
  var toldDamaged: [DeviceID: UInt64] = [:]
  var toldFallbacks: [DeviceID: Int] = [:]
  /// What calls asked of devices, and how long that took.
  var loads: [DeviceID: DeviceLoad] = [:]
  var toldUnjoined: [DeviceID: String] = [:]

  package init(_ configuration: NodeConfiguration, driver: any Driver, log: Log) {
    self.configuration = configuration
    self.driver = driver
    self.log = log
    grants = GrantChecker(configuration.key)
    readRoom = Semaphore(max(configuration.bodyByteLimit, StripeLayout.largestBlockByteCount))
  }

  /// Nil before the start.
  package var node: NodeID? { directory?.identity.node }
  /// 0 while the node has met no cluster.
  package var cluster: UInt64 { directory?.identity.cluster ?? 0 }
  package var devices: [DeviceID] { stores.map(\.store.device) }
  /// Which devices of the configuration are not open, and why, in its order.
  package var unopened: [String] {
    configuration.devices.compactMap { device in
      leftOut[device.path].map { "\(device.path): \($0)" }
    }
  }
  package func store(of device: DeviceID) -> ShardStore? { byDevice[device] }

  /// The highest leader epoch this node has seen.
  package var highestEpoch: UInt64 {
    stores.reduce(lease?.record.epoch ?? 0) { max($0, $1.store.highestEpoch) }
  }

  /// Opens directory and devices (formatting those that are new), listens, and begins to say hello. A device that
  /// cannot be opened, or is not where it was, is left out: the others serve. It is tried again now and then, and joins
  /// them once it can be.
  ///
  /// - Returns: the address with its real port.
  /// - Throws: ``NodeError``; nothing is left open then.
  @discardableResult
  package func start() async throws(NodeError) -> SocketAddress {
    precondition(!isStarted)
    isStarted = true
    do throws(NodeError) {
      return try await startUp()
    } catch {
      await closeAll()
      throw error
    }
  }

  private func startUp() async throws(NodeError) -> SocketAddress {
    let directory = try await NodeDirectory.open(
      configuration.directory, name: configuration.name, on: driver)
    self.directory = directory
    for device in configuration.devices { try await open(device, directory) }
    guard !stores.isEmpty else { throw .noDevices(unopened.joined(separator: "; ")) }

    let (lease, damaged) = await LeaseKeeper.open(
      [directory.path] + stores.map(\.store.path), node: directory.identity.node, on: driver)
    for path in damaged { log.error("the lease's record is damaged", ["path": path]) }
    self.lease = lease

    let name = "node \(configuration.name)"
    var limits = ServerLimits()
    limits.bodyByteCount = max(configuration.bodyByteLimit, WireLimits.bodyByteCount)
    limits.bodyBytesPerConnection = limits.bodyByteCount
    limits.answerByteCount = 4 << 20
    limits.connectionCount = configuration.connectionLimit
    let server = WireServer(
      driver: driver, key: configuration.key, name: name, security: configuration.security,
      limits: limits
    ) { [weak self] (method, request, peer) async throws(Refusal) -> Packet in
      // A request taken up just before the end may find the node gone.
      guard let self else { throw Refusal(.unavailable, "the node has stopped") }
      return try await answer(method, request)
    }
    server.onTrouble = { [log] peer, reason in
      log.warning("a connection was refused", ["peer": peer, "reason": "\(reason)"])
    }
    self.server = server
    let address: SocketAddress
    do throws(RingError) { address = try await server.start(on: configuration.listen) } catch {
      throw .system(error)
    }
    self.address = address
    log.info(
      "node started",
      [
        "name": configuration.name, "id": directory.identity.node, "address": address,
        "devices": stores.count, "epoch": highestEpoch, "kernel": driver.features,
      ])
    if let settings = stores.first?.store.settings, settings.scrubsUnusually {
      log.info(
        "scrub",
        [
          "interval": settings.scrubInterval == .zero ? "off" : settings.scrubInterval.text,
          "bytesPerSecond": settings.scrubByteRate,
        ])
    }

    let client = WireClient(
      driver: driver, key: configuration.key, name: name, security: configuration.security)
    self.client = client
    rewriter = ShardRewriter(driver: driver, client: client, log: log) { [weak self] in
      self?.byDevice[$0]
    }
    for coordinator in configuration.coordinators {
      heartbeats.append(
        driver.spawn("hello") { [self] in await sayHello(to: coordinator, through: client) })
    }
    if !leftOut.isEmpty {
      heartbeats.append(driver.spawn("devices") { [self] in await openLeftOut(directory) })
    }
    return address
  }

  /// Opens what was left out as soon as that can be done: a file system may have been full, or is mounted only now.
  private func openLeftOut(_ directory: NodeDirectory) async {
    var interval = Duration.seconds(1)
    while await driver.sleep(interval) {
      let begun = driver.now
      for device in configuration.devices where leftOut[device.path] != nil {
        do throws(NodeError) { try await open(device, directory) } catch {
          leaveOut(device.path, "\(error)")
        }
      }
      if leftOut.isEmpty { return }
      // Opening may read much, each time in vain.
      interval = max(min(interval * 2, .seconds(30)), (driver.now - begun) * 10)
    }
  }

  private func open(_ device: NodeConfiguration.Device, _ directory: NodeDirectory)
    async throws(NodeError)
  {
    let identity = directory.identity
    let path = directory.ledgerPath(device.path)
    do throws(StoreError) {
      if try await !ShardStore.isFormatted(device.path, on: driver) {
        if let known = directory.ledger[path], known.device != device.replaces {
          // Most likely it is not mounted, and what is written here now would be hidden once it is.
          leaveOut(
            device.path,
            "device \(known.device) stood here and is gone: mount it, or give it up with "
              + "replaces = \"\(known.device)\"")
          return
        }
        // For the question below; a failure shows when the device is formatted.
        try? await driver.makeDirectories(device.path, mode: 0o700)
        let space = Outcome<FileSystemSpace>()
        if await driver.submit(.space(path: device.path, space)) >= 0, let space = space.value,
          (1..<StoreSettings.leastCapacity).contains(space.totalByteCount)
        {
          leaveOut(
            device.path,
            "too small: the file system has \(space.totalByteCount) bytes, at least "
              + "\(StoreSettings.leastCapacity) are needed")
          return
        }
        try await ShardStore.checkFit(device.path, device.settings, on: driver)
        let id = try await ShardStore.format(
          device.path, node: identity.node, cluster: identity.cluster, on: driver)
        log.info("device formatted", ["path": device.path, "id": id])
      }
      let id = try await ShardStore.identify(device.path, on: driver)
      let store = try await ShardStore.open(
        device.path, node: identity.node,
        cluster: identity.cluster == 0 ? nil : identity.cluster, settings: device.settings,
        retired: directory.ledger.retired(id), on: driver)
      guard byDevice[store.device] == nil else {
        await store.close()
        throw .foreign("\(device.path) is a copy of another device of this node")
      }
      if identity.cluster == 0 && store.cluster != 0 {
        let cluster = store.cluster
        await store.close()
        throw .foreign(
          "\(device.path) belongs to cluster \(cluster), this node to none yet")
      }
      // It may know of a leader that no other copy names.
      if let lease, await !lease.add(store.path) {
        log.error("the lease's record is damaged", ["path": store.path + "/lease"])
      }
      let place = stores.firstIndex { other in
        configuration.devices.drop { $0.path != device.path }.contains {
          $0.path == other.device.path
        }
      }
      stores.insert((device, store), at: place ?? stores.count)
      byDevice[store.device] = store
      leftOut[device.path] = nil
      await note(directory) { $0.place(store.device, at: path) }
      if let reason = store.retiredForGood { noteRetirement(of: store.device, reason) }
      store.onRetirement = { [weak self, device = store.device] reason in
        self?.noteRetirement(of: device, reason)
      }
      await report(store, device)
    } catch {
      switch error {
      case .foreign(let what): throw .foreign(what)
      case .newerFormat(let path, let version): throw .newerFormat(path: path, version: version)
      case .inUse(let path): throw .inUse(path: path)
      default: leaveOut(device.path, "\(error)")
      }
    }
  }

  /// The others may serve; what was on this one is rebuilt from them.
  private func leaveOut(_ path: String, _ reason: String) {
    guard leftOut.updateValue(reason, forKey: path) != reason else { return }
    log.error("device left out", ["path": path, "reason": reason])
  }

  private func noteRetirement(of device: DeviceID, _ reason: String) {
    guard let directory else { return }
    retirements += 1
    driver.spawn("note retirement") { [self] in
      await note(directory) { $0.retire(device, reason) }
      retirements -= 1
      retirementsNoted.wakeAll()
    }
  }

  private func note(_ directory: NodeDirectory, _ change: (inout DeviceLedger) -> Void) async {
    do throws(RingError) { try await directory.note(change) } catch {
      log.error("cannot note devices", ["path": directory.path, "reason": "\(error)"])
    }
  }

  /// Tells the log what recovery found.
  private func report(_ store: ShardStore, _ device: NodeConfiguration.Device) async {
    let found = store.recovery
    let usage = await store.usage()
    log.info(
      "device opened",
      [
        "path": store.path, "id": store.device, "state": "\(store.state)",
        "capacity": usage.capacity, "free": usage.freeByteCount,
      ])
    if !device.profile.isEmpty {
      log.info(
        "device tuned",
        [
          "path": store.path, "profile": device.profile,
          "deviating":
            device.deviations.isEmpty ? "nothing" : device.deviations.joined(separator: ", "),
        ])
    }
    if usage.capacity < store.settings.capacity {
      log.warning(
        "device is smaller than configured",
        [
          "path": store.path, "configured": store.settings.capacity, "capacity": usage.capacity,
        ])
    }
    guard !found.isClean else { return }
    log.warning(
      "device recovered",
      [
        "path": store.path, "rebuilt": found.rebuildReason ?? "no",
        "scanned": found.scannedRecordCount, "lost": found.lostRecordCount,
        "cut": found.cutRecordCount, "missingVolumes": found.missingVolumeCount,
        "readErrors": found.readErrorCount,
      ])
    for finding in found.findings.prefix(100) {
      log.warning("damage", ["path": store.path, "what": finding.description])
    }
  }

  /// Answers what was taken up, then closes everything.
  package func stop() async {
    for task in heartbeats { task.cancel() }
    for task in heartbeats { await task.wait() }
    heartbeats = []
    await rewriter?.stop()
    rewriter = nil
    await closeAll()
    log.info("node stopped", ["name": configuration.name])
  }

  private func closeAll() async {
    await server?.stop()
    server = nil
    await client?.close()
    client = nil
    for (_, store) in stores { await store.close() }
    while retirements > 0 { await retirementsNoted.wait() }
    stores = []
    byDevice = [:]
    await directory?.close()
    directory = nil
  }
}
