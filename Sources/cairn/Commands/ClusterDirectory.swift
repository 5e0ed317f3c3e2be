import Ring

/// What `cairn cluster` keeps under its directory:
///
///     DIR/client.toml            how clients reach the cluster
///     DIR/cluster.key            the cluster's key, mode 0600
///     DIR/master.keys            what the keys of key domains are wrapped with, mode 0600
///     DIR/lock                   held by the `cluster up` that is at work
///     DIR/etcd/                  config.toml, pid, log, data/; when there are several coordinators
///     DIR/coordinator-1/ …       config.toml, pid, log, data/
///     DIR/node-1/ …              config.toml, pid, log, data/
///     DIR/gateway-1/             config.toml, access-keys (mode 0600), pid, log
///
/// A daemon runs when its pid file names a process whose command line names its config file (etcd's its data), by
/// whatever path.
struct ClusterDirectory: Sendable {
  let driver: any Driver
  /// Absolute.
  let path: String

  init(_ context: Context) {
    driver = context.driver
    path = HostProcess.absolute(context.arguments["--dir"] ?? ".cairn")
  }

  struct Daemon: Sendable {
    var name: String
    var role: Role
    var number: Int
    /// Absolute.
    var folder: String
    var configPath: String { folder + "/config.toml" }
    var pidPath: String { folder + "/pid" }
    var logPath: String { folder + "/log" }
  }

  /// In the order in which they start.
  enum Role: String, Sendable, CaseIterable { case arbiter, coordinator, node, gateway }

  var clientPath: String { path + "/client.toml" }
  var keyPath: String { path + "/cluster.key" }
  var masterKeysPath: String { path + "/master.keys" }
  var accessKeysPath: String { daemon(.gateway, 1).folder + "/access-keys" }

  /// Makes the directory when it is not there, and keeps other `cluster up` out until the file is closed.
  func takeTurn() async throws(Failure) -> File {
    do throws(RingError) {
      try await driver.makeDirectories(path, mode: 0o700)
      let file = try await File.open(
        path + "/lock", OpenFlags.readWrite | OpenFlags.create, mode: 0o600, on: driver)
      let isOurs: Bool
      do throws(RingError) { isOurs = try await file.lock() } catch {
        await file.close()
        throw error
      }
      if isOurs { return file }
      await file.close()
    } catch {
      throw .failed(error.reason, path)
    }
    throw .failed("another 'cairn cluster up' is at work on this cluster", path)
  }

  func daemon(_ role: Role, _ number: Int) -> Daemon {
    let name = role == .arbiter ? "etcd" : "\(role.rawValue)-\(number)"
    return Daemon(name: name, role: role, number: number, folder: path + "/" + name)
  }

  /// Those that have a config file: etcd, coordinators, nodes, gateways, each by number.
  func daemons() async throws(Failure) -> [Daemon] {
    var numbers: [Role: [Int]] = [:]
    for entry in try await entries() where entry.kind == .directory {
      let name = String(decoding: entry.name, as: UTF8.self)
      if name == "etcd" { numbers[.arbiter] = [1] }
      for role in [Role.coordinator, .node, .gateway] where name.hasPrefix(role.rawValue + "-") {
        if let number = Int(name.dropFirst(role.rawValue.count + 1)) {
          numbers[role, default: []].append(number)
        }
      }
    }
    var daemons: [Daemon] = []
    for role in Role.allCases {
      for number in (numbers[role] ?? []).sorted() {
        let daemon = daemon(role, number)
        if await driver.exists(daemon.configPath) { daemons.append(daemon) }
      }
    }
    if daemons.isEmpty { throw .failed("no cluster here", path) }
    return daemons
  }

  func entries() async throws(Failure) -> [DirectoryEntry] {
    do throws(RingError) {
      return try await driver.list(path)
    } catch {
      throw .failed("no cluster here (\(error.reason))", path)
    }
  }

  /// The daemon's process, or nil when it does not run.
  func runningProcess(_ daemon: Daemon) async -> Int32? {
    do throws(RingError) {
      let text = String(
        decoding: try await driver.readFile(daemon.pidPath, limit: 64), as: UTF8.self)
      guard let pid = Int32(text.filter { !$0.isWhitespace }), pid > 0 else { return nil }
      let line = try await driver.readFile("/proc/\(pid)/cmdline", limit: 1 << 16)
      if line.isEmpty {
        // Just started: the kernel has let the parent go on and not yet laid out the new command line. What has ended has no
        // executable any more, and a thread of the kernel none at all.
        _ = try await driver.status("/proc/\(pid)/exe")
        return pid
      }
      let words = line.split(separator: 0)
      // A zombie has no command line, so what names the file lives.
      let name = daemon.role == .arbiter ? "--data-dir" : "--config"
      guard let option = words.firstIndex(where: { $0.elementsEqual(name.utf8) }),
        words.indices.contains(option + 1)
      else { return nil }
      var named = PathText.string(Array(words[option + 1]))
      if !named.hasPrefix("/") { named = "/proc/\(pid)/cwd/\(named)" }
      // etcd's data may not be there yet, or any more; its folder is.
      if daemon.role == .arbiter, let end = named.utf8.lastIndex(of: slash) {
        named = String(named[..<end])
      }
      return try await isSameFile(
        named, daemon.role == .arbiter ? daemon.folder : daemon.configPath) ? pid : nil
    } catch {
      // No pid file, or no such process: it does not run.
      return nil
    }
  }

  /// However either is spelled: a directory may be named in many ways.
  private func isSameFile(_ one: String, _ other: String) async throws(RingError) -> Bool {
    let (first, second) = (try await driver.status(one), try await driver.status(other))
    return first.deviceNumber == second.deviceNumber && first.inode == second.inode
  }

  /// Starts the daemon; its output goes to its log file.
  func start(_ daemon: Daemon) async throws(Failure) -> Int32 {
    let outcome = Outcome<Int32>()
    let (executable, words) =
      daemon.role == .arbiter
      ? try await etcdCommand(daemon)
      : (HostProcess.executablePath, [daemon.role.rawValue, "--config", daemon.configPath])
    do throws(RingError) {
      try await driver.perform(
        .spawnProcess(
          ProcessLaunch(executable: executable, arguments: words, logPath: daemon.logPath),
          outcome), "start", daemon.name)
      try await driver.replaceFile(
        daemon.pidPath, with: Array("\(outcome.value!)\n".utf8), mode: 0o644)
    } catch {
      throw .failed(error.reason, daemon.name)
    }
    return outcome.value!
  }

  /// Sends `signal` and waits until the process is gone, at most `patience`. Returns whether it is.
  func stop(_ daemon: Daemon, signal: Int32, patience: Duration) async -> Bool {
    guard let pid = await runningProcess(daemon) else { return true }
    _ = await driver.submit(.signalProcess(pid: pid, signal: signal))
    let end = driver.now + patience
    while await runningProcess(daemon) != nil {
      if driver.now > end { return false }
      await driver.sleep(.milliseconds(20))
    }
    return true
  }

  /// Why the daemon ended as the last line of its log has it, for error messages; where to look when it says nothing.
  func lastLogLine(_ daemon: Daemon) async -> String {
    do throws(RingError) {
      let byteCount = try await driver.status(daemon.logPath).byteCount
      let file = try await File.open(daemon.logPath, OpenFlags.readOnly, on: driver)
      let tail = driver.buffers.slice(4096)
      let count: Int
      do throws(RingError) {
        count = try await file.read(into: tail, at: byteCount - min(byteCount, 4096))
        await file.close()
      } catch {
        await file.close()
        throw error
      }
      let lines = tail[0..<count].array.split(separator: 10)
      guard let last = lines.last.map({ String(decoding: $0, as: UTF8.self) }) else {
        return "see \(daemon.logPath)"
      }
      let said =
        daemon.role == .arbiter
        ? etcdWords(last) : last.hasPrefix("cairn: ") ? String(last.dropFirst(7)) : last
      return "\(said) (see \(daemon.logPath))"
    } catch {
      return "\(error.reason): \(daemon.logPath)"
    }
  }
}
