import Cluster
import Coding
import Messages
import Ring
import Service
import Wire

/// What the coordinators of a cluster directory say.
struct ClusterAnswer: Sendable {
  /// By address.
  var coordinators: [String: GetStatus.Answer] = [:]
  var leader: GetStatus.Answer?
  /// Nodes in the leader's committed map: those that new containers may go to.
  var mappedNodeCount = 0
  /// Why there is no leader, as far as anybody said.
  var detail = "no coordinator answers"
}

func askStatus(_ directory: ClusterDirectory, _ context: Context) async -> ClusterAnswer {
  var answer = ClusterAnswer()
  let configuration: ClientConfiguration
  do throws(Failure) {
    configuration = try await ClientConfiguration.load(directory.clientPath, on: context.driver)
  } catch {
    answer.detail = line(error)
    return answer
  }
  let wire = WireClient(
    driver: context.driver, key: configuration.key, name: "client",
    security: configuration.security)
  for address in configuration.coordinators {
    do throws(WireError) {
      let status = try await wire.call(GetStatus(), at: address, deadline: .seconds(2)).answer
      answer.coordinators[address.description] = status
      if status.role == "leader" {
        answer.leader = status
        let map = try await wire.call(
          GetMap(level: .strong), at: address, deadline: .seconds(2)
        ).answer
        answer.mappedNodeCount = map.map.nodes.count
      } else if !status.detail.isEmpty {
        answer.detail = status.detail
      }
    } catch {
      if case .wrongKey = error { answer.detail = "the cluster does not accept our key" }
    }
  }
  await wire.close()
  return answer
}

/// `cluster status`: every daemon of the directory, running or not.
func clusterStatus(_ context: Context) async throws(Failure) {
  let directory = ClusterDirectory(context)
  let daemons = try await directory.daemons()
  let answer = await askStatus(directory, context)
  var rows: [(name: String, role: String, pid: Int32?, address: String, state: String)] = []
  for daemon in daemons {
    let pid = await directory.runningProcess(daemon)
    let address = await configuredAddress(daemon, context)
    var state = "stopped"
    if pid != nil {
      switch daemon.role {
      case .arbiter:
        let isHealthy =
          if let address = SocketAddress(address) {
            await isHealthy(etcd: address, context.driver)
          } else { false }
        state = isHealthy ? "up" : "silent"
      case .gateway:
        let isUp =
          if let address = SocketAddress(address) {
            await isGatewayUp(address, context.driver)
          } else { false }
        state = isUp ? "up" : "silent"
      case .coordinator: state = answer.coordinators[address]?.role ?? "silent"
      case .node:
        // One whose directory was lost came back as another node of the same name.
        let named = answer.leader?.nodes.filter { $0.record.name == daemon.name } ?? []
        let seen = named.first(where: \.isUp) ?? named.first
        state =
          answer.leader == nil ? "running" : seen.map { $0.isUp ? "up" : "down" } ?? "not joined"
        if let seen, seen.devices.contains(where: \.isFailed) { state = "device failed" }
      }
    }
    rows.append((daemon.name, daemon.role.rawValue, pid, address, state))
  }
  if context.arguments.has("--json") {
    var members: [(String, JSON)] = [
      (
        "daemons",
        .array(
          rows.map { row in
            .object([
              ("name", .string(row.name)), ("role", .string(row.role)),
              ("pid", row.pid.map { .number(Int($0)) } ?? .null), ("address", .string(row.address)),
              ("state", .string(row.state)),
            ])
          })
      )
    ]
    if let leader = answer.leader {
      members.append(("scheme", .string(leader.scheme.description)))
      members.append(("epoch", .number(leader.epoch)))
      members.append(("position", .number(leader.position)))
      members.append(("takesWrites", .bool(leader.detail.isEmpty)))
      members.append(("detail", .string(leader.detail)))
    }
    if let gateway = try await ClusterGateway(directory, context) {
      members.append(("s3", gateway.json))
    }
    try await context.output.line(JSON.object(members).text)
  } else {
    for row in rows {
      let columns = [
        (row.name, 16), (row.role, 13), (row.pid.map { String($0) } ?? "-", 9), (row.address, 23),
      ]
      try await context.output.line(
        columns.map { $0.0 + String(repeating: " ", count: max(1, $0.1 - $0.0.count)) }.joined()
          + row.state)
    }
    if let leader = answer.leader {
      if !leader.detail.isEmpty {
        try await context.output.line("takes no writes: \(leader.detail)")
      }
    } else {
      try await context.output.line("no leader: \(answer.detail)")
    }
  }
  try await context.output.flush()
  guard let leader = answer.leader, leader.detail.isEmpty else { throw .reported }
}

/// `cluster down`: SIGTERM to each daemon that runs, clients' side first, SIGKILL after ten seconds. etcd is the last,
/// so that coordinators can give the lead back.
func clusterDown(_ context: Context) async throws(Failure) {
  let directory = ClusterDirectory(context)
  let daemons = try await directory.daemons()
  var stopped = 0
  // What serves clients goes first.
  let ordered =
    daemons.filter { $0.role == .gateway }
    + daemons.filter { $0.role != .gateway && $0.role != .arbiter }
    + daemons.filter { $0.role == .arbiter }
  for daemon in ordered where await directory.runningProcess(daemon) != nil {
    stopped += 1
    if await !directory.stop(daemon, signal: Signal.terminate, patience: .seconds(10)) {
      guard await directory.stop(daemon, signal: Signal.kill, patience: .seconds(5)) else {
        throw .failed("does not end", daemon.name)
      }
    }
  }
  if !context.arguments.has("--quiet") {
    try await context.output.line(
      stopped == 0 ? "nothing was running" : "stopped \(counted(stopped, "daemon"))")
    try await context.output.flush()
  }
}

/// The `listen` address in the daemon's configuration; empty when that cannot be read.
func configuredAddress(_ daemon: ClusterDirectory.Daemon, _ context: Context) async -> String {
  do throws(Failure) {
    let settings = try await Settings(daemon.configPath, on: context.driver)
    return try settings.peek { root throws(ConfigurationError) in
      try root.value("listen", default: "")
    }
  } catch {
    return ""
  }
}
