import Coding
import Coordinator
import Messages
import Ring
import Service
import Wire

/// `cluster up`: makes the directory when it is not there, starts every daemon that does not run, waits until
/// a coordinator leads and all nodes have joined.
func clusterUp(_ context: Context) async throws(Failure) {
  let directory = ClusterDirectory(context)
  let arguments = context.arguments
  let wishes = try ClusterWishes(arguments)
  if await !context.driver.exists(directory.clientPath) {
    try await checkCreatable(directory, wishes, context)
  }
  let turn = try await directory.takeTurn()
  do throws(Failure) {
    try await up(directory, wishes, context)
    await turn.close()
  } catch {
    await turn.close()
    throw error
  }
}

/// Called by one process at a time: another could start the same daemons and leave the wrong pid files.
private func up(
  _ directory: ClusterDirectory, _ wishes: ClusterWishes, _ context: Context
) async throws(Failure) {
  if await !context.driver.exists(directory.clientPath) {
    try await create(directory, wishes, context)
  } else {
    try await checkUnchanged(directory, wishes, context)
  }
  let daemons = try await directory.daemons()
  if daemons.contains(where: { $0.role == .arbiter }) {
    _ = try await etcdExecutable(context.driver)
  }
  var started: [ClusterDirectory.Daemon] = []
  for daemon in daemons where await directory.runningProcess(daemon) == nil {
    _ = try await directory.start(daemon)
    started.append(daemon)
  }
  try await waitUntilReady(directory, daemons, started: started, context)
  if !context.arguments.has("--quiet") {
    let nodes = counted(daemons.count { $0.role == .node }, "node")
    let coordinators = counted(daemons.count { $0.role == .coordinator }, "coordinator")
    try await context.output.line(
      "cluster is up: \(coordinators), \(nodes)\(started.isEmpty ? " (was running)" : "")")
    if wishes.scheme?.m == 0 { try await context.output.line(noParity) }
    if let gateway = try await ClusterGateway(directory, context) {
      for line in gateway.lines { try await context.output.line(line) }
    }
    // The last line, so that scripts find it.
    try await context.output.line("  export CAIRN_CONFIG=\(shellWord(directory.clientPath))")
    try await context.output.flush()
  }
}

/// `text` as a shell takes it for one word.
func shellWord(_ text: String) -> String {
  let isPlain = text.utf8.allSatisfy { byte in
    (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte >= 0x80
      || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
      || "/._-+:@%,".utf8.contains(byte)
  }
  return isPlain ? text : "'" + text.replacing("'", with: #"'\''"#) + "'"
}

/// The widest scheme that `nodes` allow.
func widestScheme(nodes: Int) -> Scheme {
  switch nodes {
  case 9...: Scheme(k: 6, m: 3)!
  case 6...: Scheme(k: 4, m: 2)!
  case 5: Scheme(k: 3, m: 2)!
  case 3...: Scheme(k: 2, m: 1)!
  case 2: Scheme(k: 1, m: 1)!
  default: Scheme(k: 1, m: 0)!
  }
}

/// What the options of `up` say about the cluster to be; nil where they say nothing. All checked before anything is made.
private struct ClusterWishes {
  var nodes: Int?
  var coordinators: Int?
  var gateways: Int?
  var devices: Int?
  var port: Int?
  var scheme: Scheme?
  var capacity: ByteSize?
  var security: TransportSecurity?

  /// Of a cluster that is to be made.
  var size: (nodes: Int, scheme: Scheme) {
    (nodes ?? 9, scheme ?? widestScheme(nodes: nodes ?? 9))
  }

  init(_ arguments: Arguments) throws(Failure) {
    nodes = try arguments.number("--nodes", in: 1...64)
    coordinators = try arguments.number("--coordinators", in: 1...5)
    if let coordinators, coordinators.isMultiple(of: 2) {
      throw .usage("--coordinators takes 1, 3 or 5: \(coordinators)")
    }
    gateways = try arguments.number("--gateways", in: 0...1)
    if arguments.has("--no-gateway") {
      if gateways == 1 { throw .usage("--no-gateway and --gateways 1 contradict each other") }
      gateways = 0
    }
    devices = try arguments.number("--devices", in: 1...16)
    port = try arguments.number("--port", in: 1...65_000)
    _ = try arguments.number("--timeout", in: 1...3600)
    if let text = arguments["--scheme"] {
      guard let scheme = Scheme(text) else {
        throw .usage("--scheme takes k+m, as in 6+3: \(text)")
      }
      self.scheme = scheme
    }
    if let text = arguments["--capacity"] {
      guard let capacity = ByteSize(text) else {
        throw .usage("--capacity takes a size, as in 64GiB: \(text)")
      }
      self.capacity = capacity
    }
    if let text = arguments["--security"] {
      guard let security = TransportSecurity(rawValue: text) else {
        throw .usage("--security takes automatic, always or never: \(text)")
      }
      self.security = security
    }
  }
}

/// What can be known to be wrong before anything is made.
private func checkCreatable(
  _ directory: ClusterDirectory, _ wishes: ClusterWishes, _ context: Context
) async throws(Failure) {
  let driver = context.driver
  // Daemons have run here and only `client.toml` is gone: a new key and new configurations would cut a living store off.
  if await driver.isDirectory(directory.path) {
    for entry in try await directory.entries() where entry.kind == .directory {
      let data = directory.path + "/" + PathText.string(entry.name) + "/data"
      if await driver.exists(data) {
        throw .failed(
          "holds a cluster's data but no client.toml; restore that or use another --dir",
          directory.path)
      }
    }
  }
  if wishes.coordinators ?? 1 > 1 { _ = try await etcdExecutable(driver) }
  let (nodes, scheme) = wishes.size
  if scheme.width > nodes {
    throw .failed(
      "scheme \(scheme) needs \(counted(scheme.width, "node")), there \(nodes == 1 ? "is" : "are") \(nodes)",
      "--scheme")
  }
}

private func create(
  _ directory: ClusterDirectory, _ wishes: ClusterWishes, _ context: Context
) async throws(Failure) {
  let driver = context.driver
  let (nodes, scheme) = wishes.size
  let coordinators = wishes.coordinators ?? 1
  let capacity = wishes.capacity ?? ByteSize(UInt64(64) << 30)
  let devices = wishes.devices ?? 1
  let security = (wishes.security ?? .automatic).rawValue
  // etcd has one for its clients and one for other members, which it has none of.
  let etcdCount = coordinators > 1 ? 2 : 0
  let gateways = wishes.gateways ?? 1
  let addresses = try await freeAddresses(
    nodes + coordinators + etcdCount + gateways, base: wishes.port, driver)
  let etcd = addresses[(nodes + coordinators)...].prefix(etcdCount)
  do throws(RingError) {
    try await driver.makeDirectories(directory.path, mode: 0o700)
    let key = ClusterKey.make(driver)
    try await driver.replaceFile(directory.keyPath, with: Array((key.hex + "\n").utf8), mode: 0o600)
    // Of buckets' key domains. All coordinators need it, and nobody else.
    try await driver.replaceFile(
      directory.masterKeysPath,
      with: Array(
        KeyFile.line(masterKeyName(driver), driver.randomBytes(AES256GCM.keyByteCount)).utf8),
      mode: 0o600)
    let leaders = addresses[0..<coordinators].map { "\"\($0)\"" }.joined(separator: ", ")
    if let client = etcd.first, let peer = etcd.last {
      let daemon = directory.daemon(.arbiter, 1)
      try await driver.makeDirectories(daemon.folder)
      try await write(
        """
        # The etcd of this cluster, which names the leading coordinator. 'cairn cluster up' starts it with these.
        listen = "\(client)"
        peers = "\(peer)"
        """, to: daemon.configPath, driver)
    }
    for number in 1...coordinators {
      let daemon = directory.daemon(.coordinator, number)
      try await driver.makeDirectories(daemon.folder)
      let arbiter =
        etcd.first.map {
          """


          # Which of the coordinators leads is decided there.
          [etcd]
          endpoints = ["http://\($0)"]
          prefix = "cairn"
          """
        } ?? ""
      try await write(
        """
        # A coordinator of this cluster: keeps the metadata log and decides placement.
        name = "\(daemon.name)"
        listen = "\(addresses[number - 1])"
        data = "data"
        key_file = "../cluster.key"
        master_keys = "../master.keys"
        scheme = "\(scheme)"
        expected_nodes = \(nodes)
        security = "\(security)"
        """ + arbiter, to: daemon.configPath, driver)
    }
    for number in 1...nodes {
      let daemon = directory.daemon(.node, number)
      try await driver.makeDirectories(daemon.folder)
      var text = """
        # A storage node of this cluster.
        name = "\(daemon.name)"
        listen = "\(addresses[coordinators + number - 1])"
        coordinators = [\(leaders)]
        data = "data"
        key_file = "../cluster.key"
        security = "\(security)"
        """
      for device in 1...devices {
        text += """


          [[device]]
          path = "data/device-\(device)"
          capacity = "\(capacity.exactDescription)"
          tier = "ssd"
          profile = "automatic"
          """
      }
      try await write(text, to: daemon.configPath, driver)
    }
    if gateways > 0, let address = addresses.last {
      try await ClusterGateway.create(
        directory, address, coordinators: leaders, security: security, driver)
    }
    // Last: a directory without it is not a cluster yet, and `up` makes it anew.
    try await write(
      """
      # How clients reach this cluster. Used through --config, CAIRN_CONFIG or ./.cairn/client.toml.
      coordinators = [\(leaders)]
      key_file = "cluster.key"
      security = "\(security)"
      """, to: directory.clientPath, driver)
  } catch {
    throw .failed(error.reason, error.subject)
  }
}

private func write(_ text: String, to path: String, _ driver: any Driver) async throws(RingError) {
  try await driver.replaceFile(path, with: Array((text + "\n").utf8), mode: 0o644)
}

/// Ports that nobody holds now: from `base` on, or any below those that the kernel gives to outgoing connections, one of
/// which could take the port before the daemon does.
private func freeAddresses(_ count: Int, base: Int?, _ driver: any Driver) async throws(Failure)
  -> [SocketAddress]
{
  var listeners: [Listener] = []
  var refusal: Failure?
  var attempts = 0
  while listeners.count < count {
    attempts += 1
    let port =
      base.map { UInt16(clamping: $0 + listeners.count) }
      ?? UInt16(20_000 + driver.random() % 12_000)
    do throws(RingError) {
      listeners.append(
        try await Listener.listen(
          on: SocketAddress(host: "127.0.0.1", port: port), driver: driver))
    } catch {
      if base == nil, error.errno == Errno.addressInUse, attempts < 1000 { continue }
      refusal = .failed(error.reason, "127.0.0.1:\(port)")
      break
    }
  }
  for listener in listeners { await listener.close() }
  if let refusal { throw refusal }
  return listeners.map(\.address)
}

/// `up` on an existing directory with other options is a mistake, not a wish to change it.
private func checkUnchanged(
  _ directory: ClusterDirectory, _ wishes: ClusterWishes, _ context: Context
) async throws(Failure) {
  func refuse(_ what: String) -> Failure { .failed("this cluster \(what)", directory.path) }
  let daemons = try await directory.daemons()
  let nodes = daemons.count { $0.role == .node }
  let coordinators = daemons.count { $0.role == .coordinator }
  if let wanted = wishes.nodes, wanted != nodes {
    throw refuse("has \(counted(nodes, "node")), not \(wanted)")
  }
  if let wanted = wishes.coordinators, wanted != coordinators {
    throw refuse("has \(counted(coordinators, "coordinator")), not \(wanted)")
  }
  let gateways = daemons.count { $0.role == .gateway }
  if let wanted = wishes.gateways, wanted != gateways {
    throw refuse("has \(counted(gateways, "gateway")), not \(wanted)")
  }
  for daemon in daemons where daemon.role != .arbiter {
    let settings = try await Settings(daemon.configPath, on: context.driver)
    let found = try settings.peek { root throws(ConfigurationError) in
      (
        address: try root.required("listen", as: SocketAddress.self),
        security: try settings.security(in: root),
        scheme: try root.value("scheme", default: ""),
        capacities: try root.tables("device").map { table throws(ConfigurationError) in
          try table.required("capacity", as: ByteSize.self)
        }
      )
    }
    if let wanted = wishes.security, wanted != found.security {
      throw refuse("was made with --security \(found.security.rawValue), not \(wanted.rawValue)")
    }
    switch daemon.role {
    case .arbiter, .gateway: break
    case .coordinator:
      if let wanted = wishes.scheme, found.scheme != "\(wanted)" {
        throw refuse("was made with scheme \(found.scheme), not \(wanted)")
      }
      if let wanted = wishes.port, wanted != Int(found.address.port), daemon.number == 1 {
        throw refuse("was made with --port \(found.address.port), not \(wanted)")
      }
    case .node:
      if let wanted = wishes.devices, wanted != found.capacities.count {
        throw refuse("has \(counted(found.capacities.count, "device")) a node, not \(wanted)")
      }
      if let wanted = wishes.capacity, let other = found.capacities.first(where: { $0 != wanted }) {
        throw refuse("was made with --capacity \(other), not \(wanted)")
      }
    }
  }
}

private func waitUntilReady(
  _ directory: ClusterDirectory, _ daemons: [ClusterDirectory.Daemon],
  started: [ClusterDirectory.Daemon], _ context: Context
) async throws(Failure) {
  // The leader may still believe in the process before: those just started must answer for themselves.
  var silent = started
  let seconds = try context.arguments.number("--timeout", in: 1...3600) ?? 60
  let end = context.driver.now + .seconds(seconds)
  var detail = ""
  while true {
    for daemon in daemons where await directory.runningProcess(daemon) == nil {
      throw .failed("\(daemon.name) ended at start", await directory.lastLogLine(daemon))
    }
    while let daemon = silent.last, await answers(daemon, directory, context) {
      silent.removeLast()
    }
    let status = await askStatus(directory, context)
    if let daemon = silent.last {
      detail = "\(daemon.name) does not answer yet"
    } else if let leader = status.leader {
      let up = leader.nodes.filter(\.isUp).count
      let wanted = daemons.count { $0.role == .node }
      let waiting = status.coordinators.values.filter {
        $0.role != "leader" && $0.role != "standby"
      }
      if up >= wanted && status.mappedNodeCount >= wanted && waiting.isEmpty { return }
      detail =
        waiting.map { "\($0.name): \($0.detail)" }.min() ?? "\(up) of \(wanted) nodes have joined"
    } else {
      detail = status.detail
    }
    if context.driver.now > end {
      throw .failed("not ready after \(seconds) s: \(detail)", directory.path)
    }
    await context.driver.sleep(.milliseconds(50))
  }
}

/// Whether a daemon of this cluster, and not somebody else who took the port, answers at the daemon's address. A node
/// refuses the question; it has proved the cluster's key then.
private func answers(
  _ daemon: ClusterDirectory.Daemon, _ directory: ClusterDirectory, _ context: Context
) async -> Bool {
  do throws(Failure) {
    guard let address = SocketAddress(await configuredAddress(daemon, context)) else {
      return false
    }
    if daemon.role == .arbiter { return await isHealthy(etcd: address, context.driver) }
    if daemon.role == .gateway { return await isGatewayUp(address, context.driver) }
    let client = try await ClientConfiguration.load(directory.clientPath, on: context.driver)
    let wire = WireClient(
      driver: context.driver, key: client.key, name: "client", security: client.security)
    let isThere: Bool
    do throws(WireError) {
      _ = try await wire.call(GetStatus(), at: address, deadline: .seconds(2))
      isThere = true
    } catch {
      if case .refused = error { isThere = true } else { isThere = false }
    }
    await wire.close()
    return isThere
  } catch {
    return false
  }
}
