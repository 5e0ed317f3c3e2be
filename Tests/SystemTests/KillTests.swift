import Foundation
import TestSupport
import Testing

/// Real daemons, killed with SIGKILL. One cluster at a time: they share two cores.
@Suite(
  "a real cluster", .serialized,
  .enabled(if: cairnPath != nil, "CAIRN_EXECUTABLE names the build (scripts/test)"))
struct KillTests {
  static let seed = Seed.several.last!

  @Test(
    "a tree comes back identical with three of nine nodes killed, before, after, and after all were",
    arguments: [seed])
  func tree(seed: Seed) throws {
    let cluster = try RealCluster(nodes: 9, scheme: "6+3")
    let tree = cluster.folder + "/tree"
    try makeTree(at: tree, seed: seed, byteCount: 24 << 20)
    try cluster.succeed("mb", "bucket")
    try cluster.succeed("put", "-r", tree, "cairn://bucket/first")

    let victims = Set([1, 4, 7].map { "node-\($0)" })
    try cluster.killDaemons { victims.contains($0.name) }
    try cluster.succeed("get", "-r", "cairn://bucket/first", cluster.folder + "/back1")
    #expect(try difference(tree, cluster.folder + "/back1") == nil)

    // Written with six nodes: 3+3.
    let other = cluster.folder + "/other"
    try makeTree(at: other, seed: Seed(seed.value &+ 1), byteCount: 8 << 20)
    try cluster.succeed("put", "-r", other, "cairn://bucket/second")
    try cluster.succeed("get", "-r", "cairn://bucket/second", cluster.folder + "/back2")
    #expect(try difference(other, cluster.folder + "/back2") == nil)

    try cluster.killDaemons { _ in true }
    try cluster.up()
    try cluster.succeed("get", "-r", "cairn://bucket/first", cluster.folder + "/back3")
    #expect(try difference(tree, cluster.folder + "/back3") == nil)
    try cluster.succeed("get", "-r", "cairn://bucket/second", cluster.folder + "/back4")
    #expect(try difference(other, cluster.folder + "/back4") == nil)

    try cluster.killDaemons { $0.role == "coordinator" }
    try FileManager.default.removeItem(atPath: cluster.directory + "/coordinator-1/data")
    try cluster.up()
    try cluster.succeed("get", "-r", "cairn://bucket/first", cluster.folder + "/back5")
    #expect(try difference(tree, cluster.folder + "/back5") == nil)
    let down = try cluster.succeed("cluster", "down", "--dir", cluster.directory)
    #expect(down.text.contains("11 daemons"))
  }

  @Test("nodes killed during an upload cost nothing", arguments: [seed])
  func during(seed: Seed) throws {
    let cluster = try RealCluster(nodes: 9)
    let tree = cluster.folder + "/tree"
    try makeTree(at: tree, seed: seed, byteCount: 48 << 20)
    try cluster.succeed("mb", "bucket")
    let upload = try cluster.start(["put", "-r", tree, "cairn://bucket/t"])
    // Something has been stored, and more is to come.
    while upload.process.isRunning, try cluster.usage()["objects"] ?? 0 < 20 {}
    try cluster.killDaemons { ["node-2", "node-3", "node-9"].contains($0.name) }
    let finished = upload.wait()
    #expect(finished.status == 0, "\(finished.error)")
    try cluster.succeed("get", "-r", "cairn://bucket/t", cluster.folder + "/back")
    #expect(try difference(tree, cluster.folder + "/back") == nil)
  }

  @Test("more than m nodes missing is said by name, and reading works again when they return")
  func tooMany() throws {
    let cluster = try RealCluster(nodes: 3)
    try cluster.succeed("mb", "bucket")
    let bytes = Data(Seed(7).generatorBytes(3 << 20))
    try cluster.succeed("put", "-", "cairn://bucket/k", input: bytes)
    try cluster.killDaemons { ["node-1", "node-2"].contains($0.name) }
    let refused = try cluster.run(["cat", "cairn://bucket/k"])
    #expect(refused.status == 1)
    #expect(refused.errorLines.count == 1, "\(refused.error)")
    try cluster.up()
    #expect(try cluster.succeed("cat", "cairn://bucket/k").output == bytes)
  }

  @Test(
    "a put whose only coordinator dies says so once and ends, with no wait for each thing it holds")
  func coordinatorGone() throws {
    let cluster = try RealCluster(nodes: 3)
    try cluster.succeed("mb", "bucket")
    let bytes = Data(Seed(11).generatorBytes(192 << 20))
    try bytes.write(to: URL(fileURLWithPath: cluster.folder + "/big"))
    let upload = try cluster.start(["put", cluster.folder + "/big", "cairn://bucket/big"])
    while upload.process.isRunning, try cluster.usage()["uniqueBytes"] == 0 { usleep(10_000) }
    try cluster.killDaemons { $0.role == "coordinator" }
    let killed = Date()
    let finished = upload.wait()
    // Its patience is 30 s: for what was asked for when the coordinator died, and for what is asked for next. With a wait for each
    // thing held it took two minutes.
    #expect(Date().timeIntervalSince(killed) < 80)
    #expect(finished.status == 1)
    #expect(finished.errorLines.count == 1, "\(finished.error)")
    try cluster.up()
    #expect(try cluster.run(["stat", "cairn://bucket/big"]).status == 1)
    try cluster.succeed("put", cluster.folder + "/big", "cairn://bucket/big")
    #expect(try cluster.succeed("cat", "cairn://bucket/big").output == bytes)
  }

  @Test("Ctrl-C in mid-put leaves nothing visible and the cluster as it was")
  func interrupted() throws {
    let cluster = try RealCluster(nodes: 3)
    try cluster.succeed("mb", "bucket")
    // The source stays open, so that the put cannot end by itself.
    let source = Pipe()
    let upload = try cluster.start(["put", "-", "cairn://bucket/big"], pipe: source)
    let bytes = Data(Seed(9).generatorBytes(16 << 20))
    try source.fileHandleForWriting.write(contentsOf: bytes)
    while upload.process.isRunning, try cluster.usage()["uniqueBytes"] == 0 { usleep(10_000) }
    kill(upload.process.processIdentifier, SIGINT)
    let finished = upload.wait()
    #expect(finished.status == 130)
    #expect(finished.errorLines.count == 1, "\(finished.error)")
    #expect(try cluster.run(["stat", "cairn://bucket/big"]).status == 1)
    try cluster.succeed("put", "-", "cairn://bucket/big", input: bytes)
    #expect(try cluster.succeed("cat", "cairn://bucket/big").output == bytes)
  }
}

extension Seed {
  /// Incompressible bytes, a word at a time: byte by byte a debug build takes seconds for what these tests need.
  func generatorBytes(_ count: Int) -> [UInt8] {
    var random = generator
    let words = (0..<(count + 7) / 8).map { _ in random.next() }
    return Array(words.withUnsafeBytes { $0.prefix(count) })
  }
}
