import Cluster
import DataPath
import Gateway
import HTTP
import Messages
import Ring
import Service
import Stripes
import Wire

/// `cairn gateway --config FILE`: in the foreground until SIGINT or SIGTERM.
func runGateway(_ context: Context) async throws(Failure) {
  let driver = context.driver
  let settings = try await Settings(try configPath(context), on: driver)
  var level = LogLevel.info
  var keyFile = ""
  var backend = GatewayBackend.cluster(GatewayBackend.ClusterSettings())
  var certificateFiles: (chain: String, key: String)?
  var notifications: [NotificationSettings] = []
  var configuration = try settings.read { root throws(ConfigurationError) -> GatewayConfiguration in
    level = try root.value("log_level", default: .info)
    keyFile = try root.required("access_keys")
    backend = try GatewayBackend(root, settings)
    var configuration = GatewayConfiguration(
      name: try daemonName(in: root), listen: try root.required("listen"), keys: [])
    configuration.region = try root.value("region", default: configuration.region)
    // Clients sign for it.
    guard (1...64).contains(configuration.region.utf8.count),
      configuration.region.utf8.allSatisfy({ $0 > 32 && $0 < 127 && $0 != UInt8(ascii: "/") })
    else {
      throw root.error("region", "must be 1 to 64 printable ASCII characters, like \"us-east-1\"")
    }
    configuration.domain = try root.value("domain", default: "")
    certificateFiles = try certificatePaths(root, settings)
    if let table = try root.table("storage_classes") {
      for tier in ObjectTier.allCases {
        if let name: String = try table.optional(tier.name) {
          configuration.storageClasses[tier] = name.isEmpty ? nil : name
        }
      }
    }
    try readTransitions(root, &configuration)
    for (name, table) in try root.namedTables("notifications") {
      notifications.append(try NotificationSettings(name, table))
    }
    return configuration
  }
  configuration.keys = try await accessKeys(settings.resolve(keyFile), driver)
  configuration.server.connectionCount = max(
    16, min(configuration.server.connectionCount, HostProcess.openFileLimit - 1024))
  let log = Log(driver: driver, level: level)
  var certificate: ServerCertificate?
  if let files = certificateFiles {
    do throws(ServerCertificate.Failure) {
      certificate = try await ServerCertificate.load(
        chain: files.chain, key: files.key, on: driver, log: log)
    } catch {
      throw .failed("the certificate cannot be used: \(error.reason)", error.path)
    }
  }
  let objects = try await backend.open(settings, driver)
  try await checkKeyDomain(of: objects, driver, log)
  var targets: [NotificationTarget] = []
  for one in notifications {
    targets.append(try await one.open(settings, on: driver, log: log))
  }
  let gateway = S3Gateway(
    configuration, backend: objects, driver: driver, log: log, certificate: certificate,
    targets: targets)
  let address: SocketAddress
  do throws(RingError) {
    address = try await gateway.start()
  } catch {
    throw .failed(error.reason, configuration.listen.description)
  }
  log.info(
    "gateway started",
    [
      "address": address, "backend": backend.name, "region": configuration.region,
      "tls": certificate == nil ? "off" : "on",
    ])
  _ = await driver.submit(.waitForSignal([Signal.interrupt, Signal.terminate]))
  await gateway.stop()
  log.info("gateway stopped")
  await log.flush()
}

/// Ends a gateway that would make buckets in a key domain that is not there. While no coordinator answers it begins all the same, and
/// goes on asking: what it serves may need no such bucket.
private func checkKeyDomain(of backend: any ObjectBackend, _ driver: any Driver, _ log: Log)
  async throws(Failure)
{
  let name = backend.defaultKeyDomain
  guard !name.isEmpty else { return }
  let missing =
    "no such key domain, which 'key_domain' names: cairn admin key domain create \(name)"
  do throws(BackendError) {
    if try await backend.hasKeyDomain(name) { return }
  } catch {
    log.warning(
      "whether the key domain is there is not known yet",
      ["domain": name, "reason": S3Gateway.words(error)])
    driver.spawn("key domain") {
      while await driver.sleep(.seconds(5)) {
        guard let isThere = try? await backend.hasKeyDomain(name) else { continue }
        if !isThere { log.error(missing, ["domain": name]) }
        return
      }
    }
    return
  }
  throw .failed(missing, name)
}

/// `[transitions]`: whether this gateway moves versions to other classes, and how fast.
private func readTransitions(
  _ root: ConfigurationTable, _ configuration: inout GatewayConfiguration
)
  throws(ConfigurationError)
{
  let usual = GatewayConfiguration.usualTransitionRate
  configuration.transitionRate = usual
  guard let table = try root.table("transitions") else { return }
  let isEnabled = try table.value("enabled", default: true)
  let rate = try table.value("rate", default: ByteSize(usual))
  guard (64 << 10...16 << 30).contains(rate.byteCount) else {
    throw table.error("rate", "must be between 64KiB and 16GiB, of each second")
  }
  configuration.transitionRate = isEnabled ? rate.int : nil
}

/// `tls_certificate` and `tls_key`: both or neither.
private func certificatePaths(_ root: ConfigurationTable, _ settings: Settings)
  throws(ConfigurationError) -> (chain: String, key: String)?
{
  let chain: String = try root.value("tls_certificate", default: "")
  let key: String = try root.value("tls_key", default: "")
  if chain.isEmpty && key.isEmpty { return nil }
  // Said of the one that is there, which has a line.
  guard !chain.isEmpty else { throw root.error("tls_key", "wants 'tls_certificate' beside it") }
  guard !key.isEmpty else { throw root.error("tls_certificate", "wants 'tls_key' beside it") }
  return (settings.resolve(chain), settings.resolve(key))
}

/// Where objects are, by the configuration's `backend`.
enum GatewayBackend: Sendable {
  struct ClusterSettings: Sendable {
    var coordinators: [SocketAddress] = []
    var keyFile = ""
    var security = TransportSecurity.automatic
    var reading = ReadSettings()
    var writeMemory = ByteSize(256 << 20)
    var readMemory = ByteSize(256 << 20)
    /// Of buckets that clients make.
    var keyDomain = ""
  }
  case cluster(ClusterSettings)
  /// Plain files below this folder.
  case filesystem(String)

  var name: String {
    switch self {
    case .cluster: "cluster"
    case .filesystem: "filesystem"
    }
  }

  init(_ root: ConfigurationTable, _ settings: Settings) throws(ConfigurationError) {
    let name: String = try root.value("backend", default: "cluster")
    switch name {
    case "cluster":
      var cluster = ClusterSettings()
      cluster.coordinators = try settings.addresses("coordinators", in: root)
      cluster.keyFile = try root.required("key_file")
      cluster.security = try settings.security(in: root)
      cluster.reading = try ReadSettings(root)
      // An empty name is no way to say that nothing is encrypted: the line may have lost it.
      if let keyDomain: String = try root.optional("key_domain") {
        if let rule = KeyDomainRules.brokenRule(name: keyDomain) {
          throw root.error("key_domain", "must be a key domain: \(rule)")
        }
        cluster.keyDomain = keyDomain
      }
      cluster.writeMemory = try root.value("memory_for_writes", default: cluster.writeMemory)
      cluster.readMemory = try root.value("memory_for_reads", default: cluster.readMemory)
      guard cluster.writeMemory.byteCount >= 8 << 20 else {
        throw root.error("memory_for_writes", "must be at least 8MiB")
      }
      guard cluster.readMemory.byteCount >= 8 << 20 else {
        throw root.error("memory_for_reads", "must be at least 8MiB")
      }
      self = .cluster(cluster)
    case "filesystem":
      self = .filesystem(settings.resolve(try root.required("path")))
    default: throw root.error("backend", "must be \"cluster\" or \"filesystem\"")
    }
  }

  func open(_ settings: Settings, _ driver: any Driver) async throws(Failure) -> any ObjectBackend {
    switch self {
    case .filesystem(let path):
      do throws(BackendError) {
        return try await FilesystemBackend.open(path, on: driver)
      } catch {
        throw .failed("cannot keep objects there: \(error)", path)
      }
    case .cluster(let cluster):
      let key = try await settings.key(cluster.keyFile, on: driver)
      let wire = WireClient(
        driver: driver, key: key, name: "gateway", security: cluster.security)
      let coordinator = CoordinatorClient(
        driver: driver, wire: wire, addresses: cluster.coordinators, name: "gateway")
      try await checkPlace(cluster.reading, coordinator)
      let map = MapCache(driver: driver, coordinator: coordinator)
      let access = ClusterAccess(
        driver: driver, coordinator: coordinator, map: map,
        stripes: StripeIO(
          driver: driver, client: wire, directory: map,
          options: StripeIO.Options(policy: cluster.reading.policy)),
        readBudgetByteCount: cluster.readMemory.int)
      var options = ObjectWriter.Options(memoryByteCount: cluster.writeMemory.int)
      options.slowPieceByteCount = 256 << 10
      return ClusterBackend(
        access, options: options, secrets: SecretBox(key), keyDomain: cluster.keyDomain
      ) {
        await access.close()
        await coordinator.close()
        await wire.close()
      }
    }
  }
}

/// Where the gateway stands must be in the cluster, which need not answer yet.
private func checkPlace(_ reading: ReadSettings, _ coordinator: CoordinatorClient)
  async throws(Failure)
{
  guard reading.needsCheck else { return }
  let found: GetMap.Answer
  do throws(DataPathError) {
    found = try await coordinator.query(GetMap(level: .strong), patience: .seconds(5))
  } catch {
    return
  }
  try reading.check(found.map.nodes)
}

/// The file that `access_keys` names: a line each, the access key and its secret with a space between them.
func accessKeys(_ path: String, _ driver: any Driver) async throws(Failure) -> [AccessKey] {
  let bytes = try await secret("the access keys", in: path, limit: 1 << 20, on: driver)
  var keys: [AccessKey] = []
  for line in String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline) {
    if line.hasPrefix("#") { continue }
    let words = line.split(separator: " ")
    guard words.count == 2, (3...128).contains(words[0].utf8.count),
      (8...128).contains(words[1].utf8.count)
    else {
      throw .failed("a line is not an access key, a space and its secret", path)
    }
    keys.append(AccessKey(name: String(words[0]), secret: String(words[1])))
  }
  if keys.isEmpty { throw .failed("no access key in it", path) }
  return keys
}
