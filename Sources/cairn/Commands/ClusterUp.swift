import Coding
import Messages
import Ring
import Wire

/// `cluster up`: makes the directory when it is not there, starts every daemon that does not run, waits until
/// a coordinator leads and all nodes have joined.
func clusterUp(_ context: Context) async throws(Failure) {
  let directory = ClusterDirectory(context)
  let arguments = context.arguments
  if await !context.driver.exists(directory.clientPath) {
    try await create(directory, context)
  } else if arguments["--nodes"] != nil || arguments["--scheme"] != nil
    || arguments["--coordinators"] != nil
  {
    try await checkUnchanged(directory, context)
  }
  let daemons = try await directory.daemons()
  var started: [ClusterDirectory.Daemon] = []
  for daemon in daemons where await directory.runningProcess(daemon) == nil {
    _ = try await directory.start(daemon)
    started.append(daemon)
  }
  try await waitUntilReady(directory, daemons, started: started, context)
  if !arguments.has("--quiet") {
    let nodes = daemons.filter { $0.role == .node }.count
    try await context.output.line(
      "cluster is up: \(daemons.count - nodes) coordinator, \(nodes) nodes\(started.isEmpty ? " (was running)" : "")"
    )
    try await context.output.line("  export CAIRN_CONFIG=\(directory.clientPath)")
    try await context.output.flush()
  }
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

private func wantedScheme(_ arguments: Arguments, nodes: Int) throws(Failure) -> Scheme {
  guard let text = arguments["--scheme"] else { return widestScheme(nodes: nodes) }
  guard let scheme = Scheme(text) else { throw .usage("--scheme takes k+m, as in 6+3: \(text)") }
  if scheme.width > nodes {
    throw .failed("scheme \(scheme) needs \(scheme.width) nodes, there are \(nodes)", "--scheme")
  }
  return scheme
}

private func create(_ directory: ClusterDirectory, _ context: Context) async throws(Failure) {
  let driver = context.driver
  // Daemons have run here and only `client.toml` is gone: a new key and new configurations would cut a living store off.
  for entry in (try? await driver.list(directory.path)) ?? [] where entry.kind == .directory {
    let data = directory.path + "/" + PathText.string(entry.name) + "/data"
    if await driver.exists(data) {
      throw .failed(
        "holds a cluster's data but no client.toml; restore that or use another --dir",
        directory.path)
    }
  }
  let nodes = try context.arguments.number("--nodes", in: 1...64) ?? 9
  let coordinators = try context.arguments.number("--coordinators", in: 1...1) ?? 1
  let scheme = try wantedScheme(context.arguments, nodes: nodes)
  let capacity = context.arguments["--capacity"] ?? "64GiB"
  let devices = try context.arguments.number("--devices", in: 1...16) ?? 1
  let addresses = try await freeAddresses(
    nodes + coordinators, base: try context.arguments.number("--port", in: 1...65_000), driver)
  do throws(RingError) {
    try await driver.makeDirectories(directory.path, mode: 0o700)
    let key = ClusterKey.make(driver)
    try await driver.replaceFile(directory.keyPath, with: Array((key.hex + "\n").utf8), mode: 0o600)
    let leaders = addresses[0..<coordinators].map { "\"\($0)\"" }.joined(separator: ", ")
    for number in 1...coordinators {
      let daemon = directory.daemon(.coordinator, number)
      try await driver.makeDirectories(daemon.folder)
      try await write(
        """
        # A coordinator of this cluster: keeps the metadata log and decides placement.
        name = "\(daemon.name)"
        listen = "\(addresses[number - 1])"
        data = "data"
        key_file = "../cluster.key"
        scheme = "\(scheme)"
        expected_nodes = \(nodes)
        security = "automatic"
        """, to: daemon.configPath, driver)
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
        security = "automatic"
        """
      for device in 1...devices {
        text += """


          [[device]]
          path = "data/device-\(device)"
          capacity = "\(capacity)"
          tier = "ssd"
          volume_size = "256MiB"
          """
      }
      try await write(text, to: daemon.configPath, driver)
    }
    // Last: a directory without it is not a cluster yet, and `up` makes it anew.
    try await write(
      """
      # How clients reach this cluster. Used through --config, CAIRN_CONFIG or ./.cairn/client.toml.
      coordinators = [\(leaders)]
      key_file = "cluster.key"
      security = "automatic"
      """, to: directory.clientPath, driver)
  } catch {
    throw .failed(error.reason, error.subject)
  }
}

private func write(_ text: String, to path: String, _ driver: any Driver) async throws(RingError) {
  try await driver.replaceFile(path, with: Array((text + "\n").utf8), mode: 0o644)
}

/// Ports that nobody holds now: from `base` on, or wherever the kernel likes.
private func freeAddresses(_ count: Int, base: Int?, _ driver: any Driver) async throws(Failure)
  -> [SocketAddress]
{
  var listeners: [Listener] = []
  var refusal: Failure?
  for index in 0..<count {
    let port = base.map { UInt16(clamping: $0 + index) } ?? 0
    do throws(RingError) {
      listeners.append(
        try await Listener.listen(
          on: SocketAddress(host: "127.0.0.1", port: port), driver: driver))
    } catch {
      refusal = .failed(error.reason, "127.0.0.1:\(port)")
      break
    }
  }
  for listener in listeners { await listener.close() }
  if let refusal { throw refusal }
  return listeners.map(\.address)
}

/// `up` on an existing directory with other numbers is a mistake, not a wish to change it.
private func checkUnchanged(_ directory: ClusterDirectory, _ context: Context) async throws(Failure)
{
  let daemons = try await directory.daemons()
  let nodes = daemons.filter { $0.role == .node }.count
  let coordinators = daemons.count - nodes
  if let wanted = try context.arguments.number("--nodes", in: 1...64), wanted != nodes {
    throw .failed("this cluster has \(nodes) nodes, not \(wanted)", directory.path)
  }
  if let wanted = try context.arguments.number("--coordinators", in: 1...1), wanted != coordinators
  {
    throw .failed("this cluster has \(coordinators) coordinators, not \(wanted)", directory.path)
  }
  if let text = context.arguments["--scheme"], let wanted = Scheme(text) {
    for daemon in daemons where daemon.role == .coordinator {
      let bytes = (try? await context.driver.readFile(daemon.configPath)) ?? []
      if !String(decoding: bytes, as: UTF8.self).contains("scheme = \"\(wanted)\"") {
        throw .failed("this cluster was made with another scheme than \(wanted)", directory.path)
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
      throw .failed(
        "ended at start: \(await directory.lastLogLine(daemon))",
        "\(daemon.name), see \(daemon.logPath)")
    }
    while let daemon = silent.last, await accepts(daemon, context) { silent.removeLast() }
    let status = await askStatus(directory, context)
    if let daemon = silent.last {
      detail = "\(daemon.name) does not listen yet"
    } else if let leader = status.leader {
      let up = leader.nodes.filter(\.isUp).count
      let wanted = daemons.filter { $0.role == .node }.count
      if up >= wanted && status.mappedNodeCount >= wanted { return }
      detail = "\(up) of \(wanted) nodes have joined"
    } else {
      detail = status.detail
    }
    if context.driver.now > end {
      throw .failed("not ready after \(seconds) s: \(detail)", directory.path)
    }
    await context.driver.sleep(.milliseconds(50))
  }
}

/// Whether the daemon takes connections.
private func accepts(_ daemon: ClusterDirectory.Daemon, _ context: Context) async -> Bool {
  guard let address = SocketAddress(await configuredAddress(daemon, context)),
    let connection = try? await Connection.connect(to: address, on: context.driver)
  else { return false }
  await connection.close()
  return true
}
