import Foundation
import TestSupport
import Testing

/// Several coordinators and a real etcd; leaders killed with SIGKILL under load.
@Suite(
  "several coordinators", .serialized,
  .enabled(if: cairnPath != nil, "CAIRN_EXECUTABLE names the build (scripts/test)"))
struct FailoverTests {
  /// Puts small objects, one after the other, until it is told to end.
  final class Writer: @unchecked Sendable {
    private let cluster: RealCluster
    private let name: String
    private let lock = NSLock()
    private var isOver = false
    private var stored: [String] = []
    private let done = DispatchSemaphore(value: 0)

    init(_ cluster: RealCluster, _ name: String) {
      self.cluster = cluster
      self.name = name
    }

    func start() {
      Thread.detachNewThread { [self] in
        var count = 0
        while !lock.withLock({ isOver }) {
          count += 1
          let key = "\(name)-\(count)"
          let finished = try? cluster.run(
            ["put", "-", "cairn://bucket/\(key)"], input: Data(key.utf8))
          if finished?.status == 0 { lock.withLock { stored.append(key) } }
        }
        done.signal()
      }
    }

    /// Names that were acknowledged; each object holds its own.
    func end() -> [String] {
      lock.withLock { isOver = true }
      done.wait()
      return stored
    }
  }

  static func leader(_ cluster: RealCluster) throws -> RealCluster.Daemon {
    for _ in 0..<500 {
      if let leader = try cluster.daemons().first(where: { $0.state == "leader" }) { return leader }
      usleep(20_000)
    }
    throw CocoaError(.fileNoSuchFile)
  }

  static func check(_ cluster: RealCluster, _ keys: [String]) throws {
    #expect(keys.count > 3)
    let listed = try cluster.succeed("ls", "-r", "cairn://bucket")
    #expect(
      Set(keys).isSubset(
        of: Set(
          listed.text.split(separator: "\n").map(String.init).map {
            String($0.split(separator: " ").last ?? "")
          })))
    let all = try cluster.run(["cat"] + keys.map { "cairn://bucket/\($0)" })
    #expect(all.status == 0 && all.text == keys.joined(), "\(all.error)")
  }

  @Test("killed leaders cost no acknowledged write, and the next goes through within five seconds")
  func kills() throws {
    let cluster = try RealCluster(nodes: 3, options: ["--coordinators", "3"])
    #expect(try cluster.daemons().map(\.role).filter { $0 == "coordinator" }.count == 3)
    #expect(try cluster.daemons().contains { $0.role == "arbiter" && $0.state == "up" })
    try cluster.succeed("mb", "bucket")
    let writers = (1...2).map { Writer(cluster, "w\($0)") }
    for writer in writers { writer.start() }
    var last = ""
    for round in 1...3 {
      let victim = try Self.leader(cluster)
      #expect(victim.name != last)
      last = victim.name
      kill(try #require(victim.pid), SIGKILL)
      let killed = Date()
      try cluster.succeed("put", "-", "cairn://bucket/after-\(round)", input: Data())
      let stall = Date().timeIntervalSince(killed)
      #expect(stall < 5, "\(stall) s")
      // A wiped disk comes back by itself.
      if round == 2 {
        try FileManager.default.removeItem(atPath: cluster.directory + "/\(victim.name)/data")
      }
      try cluster.up()
    }
    try Self.check(cluster, writers.flatMap { $0.end() })
    let states = try cluster.daemons().filter { $0.role == "coordinator" }.map(\.state).sorted()
    #expect(states == ["leader", "standby", "standby"])
    let down = try cluster.succeed("cluster", "down", "--dir", cluster.directory)
    #expect(down.text.contains("8 daemons"))
    #expect(try cluster.daemons().allSatisfy { $0.state == "stopped" })
    try cluster.up()
    #expect(try cluster.run(["stat", "cairn://bucket/after-3"]).status == 0)
  }

  @Test("a hand-over on request takes a moment, and is refused where nobody could take over")
  func stepDown() throws {
    let cluster = try RealCluster(nodes: 3, options: ["--coordinators", "3"])
    try cluster.succeed("mb", "bucket")
    let writer = Writer(cluster, "w")
    writer.start()
    for _ in 0..<3 {
      let before = try Self.leader(cluster)
      let done = try cluster.succeed("admin", "step-down", "--json")
      let answer = try #require(
        try JSONSerialization.jsonObject(with: done.output) as? [String: Any])
      #expect(answer["from"] as? String == before.name)
      let seconds = try #require(answer["seconds"] as? Double)
      #expect(seconds < 2)
      let after = try Self.leader(cluster)
      #expect(after.name == answer["to"] as? String && after.name != before.name)
    }
    try Self.check(cluster, writer.end())
    let leader = try Self.leader(cluster)
    try cluster.killDaemons { $0.role == "coordinator" && $0.name != leader.name }
    let refused = try cluster.run(["admin", "step-down"])
    #expect(refused.status == 1 && refused.errorLines.count == 1)
    #expect(refused.error.contains("no standby answers"), "\(refused.error)")
    #expect(try Self.leader(cluster).name == leader.name)
  }

  @Test("without etcd there is a clear error once the lease is over, and no hands are needed after")
  func etcdGone() throws {
    let cluster = try RealCluster(nodes: 3, options: ["--coordinators", "3"])
    try cluster.succeed("mb", "bucket")
    try cluster.succeed("put", "-", "cairn://bucket/a", input: Data([1]))
    try cluster.killDaemons { $0.role == "arbiter" }
    try cluster.succeed("put", "-", "cairn://bucket/b", input: Data([2]))
    sleep(4)
    let refused = try cluster.run(["cluster", "status", "--dir", cluster.directory])
    #expect(refused.status == 1)
    #expect(refused.text.contains("no leader: etcd cannot be asked"), "\(refused.text)")
    // Its disk is lost, too.
    try FileManager.default.removeItem(atPath: cluster.directory + "/etcd/data")
    try cluster.up()
    #expect(
      try cluster.succeed("cat", "cairn://bucket/a", "cairn://bucket/b").output == Data([1, 2]))
  }
}

@Suite("the [etcd] table", .enabled(if: cairnPath != nil, "CAIRN_EXECUTABLE names the build"))
struct EtcdConfigurationTests {
  @Test(
    "what is wrong in it is refused with its line, before anything is started",
    arguments: [
      ("endpoints = []", "'etcd.endpoints' must name at least one"),
      ("prefix = \"a\"", "'etcd.endpoints' is missing"),
      ("endpoints = [\"127.0.0.1:2379\"]", "must be an address such as"),
      ("endpoints = [\"http://127.0.0.1:2379/v3\"]", "must be an address such as"),
      ("endpoints = [\"https://127.0.0.1:2379\"]", "'etcd.ca' is missing"),
      ("endpoints = [\"http://h:1\"]\nca = \"ca.pem\"", "says nothing where no endpoint is https"),
      ("endpoints = [\"http://h:1\"]\nprefix = \"a/\"", "'etcd.prefix' must be"),
      ("endpoints = [\"http://h:1\"]\nuser = \"u\"", "'etcd.user' goes with the other"),
      (
        "endpoints = [\"https://h:1\"]\nca = \"ca.pem\"\nkey = \"k\"",
        "'etcd.key' goes with the other"
      ),
      ("endpoints = [\"http://h:1\"]\nendpoint = 1", "unknown key 'etcd.endpoint'"),
      ("endpoints = [\"https://h:1\"]\nca = \"gone.pem\"", "cannot read what [etcd] names"),
      ("endpoints = [\"https://h:1\"]\nca = \"config.toml\"", "no certificate in the authorities"),
    ])
  func refused(table: String, words: String) throws {
    let folder = NSTemporaryDirectory() + "cairn-test-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let text = """
      name = "c1"
      listen = "127.0.0.1:1"
      data = "data"
      key_file = "key"
      scheme = "2+1"

      [etcd]
      \(table)

      """
    try text.write(toFile: folder + "/config.toml", atomically: true, encoding: .utf8)
    let key = String(repeating: "0", count: 64)
    try writeSecret(key, to: folder + "/key")
    let finished = try RunningCairn(
      ["coordinator", "--config", folder + "/config.toml"], input: nil, pipe: nil, folder: folder,
      config: ""
    ).wait()
    #expect(finished.status == 1 && finished.errorLines.count == 1, "\(finished.error)")
    #expect(finished.error.contains(words), "\(finished.error)")
    #expect(!FileManager.default.fileExists(atPath: folder + "/data"))
  }
}
