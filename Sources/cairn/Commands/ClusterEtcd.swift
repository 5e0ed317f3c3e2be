import HTTP
import Ring
import Service

/// The etcd that `cluster up` starts for several coordinators: one member, since all run on this machine.

/// - Throws: when it is not installed.
func etcdExecutable(_ driver: any Driver) async throws(Failure) -> String {
  for folder in (HostProcess.environment("PATH") ?? "").split(separator: ":") {
    let path = "\(folder)/etcd"
    if await driver.exists(path), await !driver.isDirectory(path) { return path }
  }
  throw .failed(
    "several coordinators need etcd, which is not installed (Debian: apt-get install etcd-server)",
    "etcd")
}

/// Whether an etcd that can commit answers there.
func isHealthy(etcd address: SocketAddress, _ driver: any Driver) async -> Bool {
  let client = HTTPClient(
    driver: driver, endpoint: HTTPEndpoint(address: address, isSecure: false), trust: nil)
  var isHealthy = false
  do throws(HTTPError) {
    isHealthy =
      try await client.send(
        HTTPRequest("GET", "/health", isRepeatable: true), deadline: .seconds(2)
      ).status == 200
  } catch {
    // It does not answer.
  }
  await client.close()
  return isHealthy
}

/// What a line of etcd's log says: of its JSON the message and the error.
func etcdWords(_ line: String) -> String {
  guard let entry = try? JSON(parsing: Array(line.utf8)), let message = entry["msg"]?.string else {
    return line
  }
  return entry["error"]?.string.map { "\(message): \($0)" } ?? message
}

extension ClusterDirectory {
  /// etcd keeps its own history of each change; an hour of it is enough for people, and we need none.
  func etcdCommand(_ daemon: Daemon) async throws(Failure) -> (
    executable: String, arguments: [String]
  ) {
    let settings = try await Settings(daemon.configPath, on: driver)
    let (client, peers) = try settings.read { root throws(ConfigurationError) in
      (
        try root.required("listen", as: SocketAddress.self),
        try root.required("peers", as: SocketAddress.self)
      )
    }
    return (
      try await etcdExecutable(driver),
      [
        "--name", daemon.name, "--data-dir", daemon.folder + "/data",
        "--listen-client-urls", "http://\(client)", "--advertise-client-urls", "http://\(client)",
        "--listen-peer-urls", "http://\(peers)",
        "--initial-advertise-peer-urls", "http://\(peers)",
        "--initial-cluster", "\(daemon.name)=http://\(peers)",
        "--auto-compaction-mode", "periodic", "--auto-compaction-retention", "1h",
        "--logger", "zap", "--log-outputs", "stderr",
      ]
    )
  }
}
