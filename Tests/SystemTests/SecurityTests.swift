import Foundation
import TestSupport
import Testing

/// TLS 1.3 through a whole cluster, on loopback too.
@Suite(
  "a cluster with security = \"always\"", .serialized,
  .enabled(if: cairnPath != nil, "CAIRN_EXECUTABLE names the build (scripts/test)"))
struct SecurityTests {
  @Test(
    "a tree comes back identical with nodes killed, and plain frames are refused by every daemon")
  func always() throws {
    let cluster = try RealCluster(nodes: 4, scheme: "2+1", options: ["--security", "always"])
    let tree = cluster.folder + "/tree"
    try makeTree(at: tree, seed: Seed(21), byteCount: 8 << 20)
    try cluster.succeed("mb", "bucket")
    try cluster.succeed("put", "-r", tree, "cairn://bucket/t")
    try cluster.killDaemons { $0.name == "node-2" }
    try cluster.succeed("get", "-r", "cairn://bucket/t", cluster.folder + "/back")
    #expect(try difference(tree, cluster.folder + "/back") == nil)
    try cluster.killDaemons { _ in true }
    try cluster.up()
    try cluster.succeed("get", "-r", "cairn://bucket/t", cluster.folder + "/back2")
    #expect(try difference(tree, cluster.folder + "/back2") == nil)

    // The right key over plain frames gets one line, whichever way it is configured.
    let client = try String(
      contentsOfFile: cluster.directory + "/client.toml", encoding: .utf8)
    for security in ["never", "automatic"] {
      let path = cluster.directory + "/plain.toml"
      try client.replacingOccurrences(of: "\"always\"", with: "\"\(security)\"")
        .write(toFile: path, atomically: true, encoding: .utf8)
      for words in [["ls"], ["put", tree + "/size-3", "cairn://bucket/k"]] {
        let refused = try cluster.run(words, config: path)
        #expect(refused.status == 1)
        #expect(refused.errorLines.count == 1, "\(refused.error)")
        #expect(refused.error.contains("demands TLS"), "\(refused.error)")
      }
    }
    #expect(try cluster.run(["stat", "cairn://bucket/k"]).status == 1)
    // And a wrong key over TLS is told as such.
    try writeSecret(String(repeating: "ab", count: 32), to: cluster.folder + "/wrong.key")
    let wrong = cluster.folder + "/wrong.toml"
    try client.replacingOccurrences(of: "cluster.key", with: cluster.folder + "/wrong.key")
      .write(toFile: wrong, atomically: true, encoding: .utf8)
    let refused = try cluster.run(["ls"], config: wrong)
    #expect(refused.status == 1 && refused.errorLines.count == 1, "\(refused.error)")
    #expect(refused.error.contains("does not accept our key"), "\(refused.error)")
  }
}
