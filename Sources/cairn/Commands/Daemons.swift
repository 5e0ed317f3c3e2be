import Cluster
import Coding
import Coordinator
import Node
import Ring
import Service
import ShardStore
import Tuning
import Wire

/// `cairn coordinator --config FILE`: in the foreground until SIGINT or SIGTERM.
func runCoordinator(_ context: Context) async throws(Failure) {
  let settings = try await Settings(try configPath(context), on: context.driver)
  var keyFile = ""
  var level = LogLevel.info
  var etcdSettings: EtcdSettings?
  var masterKeys: MasterKeySettings?
  var configuration = try settings.read {
    root throws(ConfigurationError) -> CoordinatorConfiguration in
    keyFile = try root.required("key_file")
    level = try root.value("log_level", default: .info)
    let schemeText: String = try root.required("scheme")
    guard let scheme = Scheme(schemeText) else {
      throw root.error("scheme", "must be data and parity blocks such as \"6+3\"")
    }
    var configuration = CoordinatorConfiguration(
      name: try daemonName(in: root), address: try root.required("listen"),
      dataDirectory: settings.resolve(try root.required("data")),
      key: ClusterKey(secret: [UInt8](repeating: 0, count: ClusterKey.byteCount)), scheme: scheme,
      expectedNodes: try root.value("expected_nodes", default: scheme.width, in: 1...100_000))
    configuration.security = try settings.security(in: root)
    masterKeys = try MasterKeySettings(in: root)
    // Nodes say hello every second, and clients keep their sessions three times in a lifetime.
    configuration.nodeSilence = try root.value(
      "node_silence", default: configuration.nodeSilence, in: .seconds(2) ... .seconds(3600))
    configuration.sessionLifetime = try root.value(
      "session_lifetime", default: configuration.sessionLifetime,
      in: .seconds(3) ... .seconds(86400))
    configuration.deletionGrace = try root.value(
      "deletion_grace", default: configuration.deletionGrace)
    configuration.multipartLifetime = try root.value(
      "multipart_lifetime", default: configuration.multipartLifetime,
      in: .seconds(60) ... .seconds(86400 * 3650))
    let placement = try root.value("placement", default: configuration.placement.rawValue)
    guard let policy = PlacementPolicy(rawValue: placement) else {
      let names = PlacementPolicy.allCases.map { "\"\($0.rawValue)\"" }
      throw root.error("placement", "must be one of \(names.joined(separator: ", "))")
    }
    configuration.placement = policy
    configuration.lifecycleInterval = try root.value(
      "lifecycle_interval", default: configuration.lifecycleInterval,
      in: .seconds(1) ... .seconds(86400))
    if let repair = try root.table("repair") {
      configuration.rebuildAfter = try repair.value(
        "after", default: configuration.rebuildAfter, in: .seconds(1) ... .seconds(86400 * 30))
      configuration.rackRebuildAfter = try repair.value(
        "rack_after", default: configuration.rackRebuildAfter,
        in: .seconds(1) ... .seconds(86400 * 30))
      configuration.repackAfter = try repair.value(
        "reencode_after", default: configuration.repackAfter,
        in: .seconds(1) ... .seconds(86400 * 30))
      configuration.collectBelow = try repair.value(
        "collect_below", default: configuration.collectBelow, in: 0...0.95)
      configuration.rewritesPerNode = try repair.value(
        "rewrites_per_node", default: configuration.rewritesPerNode, in: 1...8)
      configuration.balances = try repair.value("balance", default: configuration.balances)
      let rate: ByteSize = try repair.value(
        "rate", default: ByteSize(configuration.repairByteRate))
      configuration.repairByteRate = rate.byteCount
    }
    etcdSettings = try root.table("etcd").map { (table) throws(ConfigurationError) in
      try EtcdSettings(table)
    }
    return configuration
  }
  configuration.key = try await settings.key(keyFile, on: context.driver)
  if let keys = try await masterKeys?.load(settings, on: context.driver) {
    configuration.masterKeys = keys
  }
  var arbiter = ArbiterChoice.file
  if let etcd = try await etcdSettings?.load(settings, on: context.driver) {
    arbiter = .made { EtcdArbiter($0, etcd) }
  }
  let log = Log(driver: context.driver, level: level)
  do throws(RingError) {
    try await context.driver.makeDirectories(configuration.dataDirectory, mode: 0o700)
  } catch {
    throw .failed(error.reason, configuration.dataDirectory)
  }
  let server = CoordinatorServer(
    driver: context.driver, configuration: configuration, arbiter: arbiter, log: log)
  do throws(RingError) {
    _ = try await server.start()
  } catch {
    throw .failed(error.reason, configuration.address.description)
  }
  let end = Promise<CoordinatorEnd?>()
  let signals = context.driver.spawn("signals") {
    let signal = await context.driver.submit(.waitForSignal([Signal.interrupt, Signal.terminate]))
    if signal > 0 { end.fulfil(nil) }
  }
  context.driver.spawn("end of the coordinator") { end.fulfil(await server.waitForEnd()) }
  let ended = await end.get()
  signals.cancel()
  await server.stop()
  await log.flush()
  if let ended, case .failed(let reason) = ended { throw .failed(reason, configuration.name) }
}

/// `cairn node --config FILE`: in the foreground until SIGINT or SIGTERM.
func runNode(_ context: Context) async throws(Failure) {
  let settings = try await Settings(try configPath(context), on: context.driver)
  var keyFile = ""
  var level = LogLevel.info
  var scrub = (
    interval: StoreSettings.usualScrubInterval, rate: ByteSize(StoreSettings.usualScrubByteRate)
  )
  var plans: [(tuning: DeviceTuning, capacity: ByteSize, reserve: ByteSize?)] = []
  var configuration = try settings.read { root throws(ConfigurationError) -> NodeConfiguration in
    keyFile = try root.required("key_file")
    level = try root.value("log_level", default: .info)
    var devices: [NodeConfiguration.Device] = []
    for table in try root.tables("device") {
      let capacity: ByteSize = try table.required("capacity")
      guard capacity.byteCount >= StoreSettings.leastCapacity else {
        throw table.error("capacity", "must be at least \(ByteSize(StoreSettings.leastCapacity))")
      }
      let reserve: ByteSize? = try table.optional("reserve")
      if let reserve, reserve.byteCount < StoreSettings.leastReserve {
        throw table.error("reserve", "must be at least \(ByteSize(StoreSettings.leastReserve))")
      }
      plans.append((try DeviceTuning(table), capacity, reserve))
      devices.append(
        NodeConfiguration.Device(
          path: settings.resolve(try table.required("path")),
          tier: try table.value("tier", default: ""),
          settings: StoreSettings(
            capacity: capacity.byteCount, reserveByteCount: reserve?.byteCount),
          replaces: try replacedDevice(in: table)))
    }
    if let table = try root.table("scrub") {
      scrub.interval = try table.value("interval", default: scrub.interval)
      guard scrub.interval == .zero || scrub.interval >= .seconds(60) else {
        throw table.error("interval", "must be at least 60s, or 0 for no scrub but on request")
      }
      scrub.rate = try table.value("rate", default: scrub.rate)
      guard scrub.rate.byteCount >= 64 << 10 else {
        throw table.error("rate", "must be at least 64KiB")
      }
    }
    if devices.isEmpty { throw root.error("device", "must name at least one device") }
    var configuration = NodeConfiguration(
      name: try daemonName(in: root), listen: try root.required("listen"),
      coordinators: try settings.addresses("coordinators", in: root),
      key: ClusterKey(secret: [UInt8](repeating: 0, count: ClusterKey.byteCount)),
      security: try settings.security(in: root),
      directory: settings.resolve(try root.required("data")),
      domain: try root.value("domain", default: []), devices: devices)
    configuration.bodyByteLimit = try root.value(
      "memory_for_bodies", default: ByteSize(configuration.bodyByteLimit)
    ).int
    // Volumes and connections of its own need descriptors too.
    configuration.connectionLimit = max(
      16, min(configuration.connectionLimit, HostProcess.openFileLimit - 1024))
    return configuration
  }
  configuration.key = try await settings.key(keyFile, on: context.driver)
  for (index, plan) in plans.enumerated() {
    do throws(ConfigurationError) {
      let tuning = try await plan.tuning.resolve(
        for: configuration.devices[index].path, file: settings.resolve, on: context.driver)
      configuration.devices[index].settings = tuning.profile.settings(
        capacity: plan.capacity, reserve: plan.reserve)
      configuration.devices[index].settings.scrubInterval = scrub.interval
      configuration.devices[index].settings.scrubByteRate = scrub.rate.byteCount
      configuration.devices[index].profile = tuning.summary
      configuration.devices[index].deviations = tuning.deviations
    } catch {
      throw .failed("\(error)")
    }
  }
  let log = Log(driver: context.driver, level: level)
  let node = StorageNode(configuration, driver: context.driver, log: log)
  do throws(NodeError) {
    try await node.start()
  } catch {
    await log.flush()
    throw .failed("\(error)", configuration.name)
  }
  _ = await context.driver.submit(.waitForSignal([Signal.interrupt, Signal.terminate]))
  await node.stop()
  await log.flush()
}

/// What a daemon calls itself in logs, messages and to its peers, who take no longer or unprintable one.
func daemonName(in root: ConfigurationTable) throws(ConfigurationError) -> String {
  let name: String = try root.required("name")
  guard (1...100).contains(name.utf8.count), name.utf8.allSatisfy({ $0 > 32 && $0 != 127 }) else {
    throw root.error("name", "must be 1 to 100 bytes without spaces")
  }
  return name
}

private func replacedDevice(in table: ConfigurationTable) throws(ConfigurationError) -> DeviceID? {
  let text: String? = try table.optional("replaces")
  guard let text else { return nil }
  guard let device = DeviceID(text) else {
    throw table.error("replaces", "must be a device's id as in the log, \"d-\" and 16 digits")
  }
  return device
}

func configPath(_ context: Context) throws(Failure) -> String {
  guard let path = context.arguments["--config"] else {
    throw .usage("a daemon needs --config FILE")
  }
  return path
}
