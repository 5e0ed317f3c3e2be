import Foundation
import TestSupport
import Testing

/// Key domains as an operator and a user meet them, against a real cluster.
@Suite(
  "key domains on the command line", .serialized,
  .enabled(if: cairnPath != nil, "CAIRN_EXECUTABLE names the build (scripts/test)"))
struct KeyCommandTests {
  private func objects(_ cluster: RealCluster, _ words: String...) throws -> [[String: Any]] {
    let finished = try cluster.run(words)
    try #require(finished.status == 0, "\(words): \(finished.error)")
    return try finished.text.split(separator: "\n").map {
      try #require(JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
  }

  /// Whether any file below the cluster's directory, log and checkpoints included, has these bytes.
  private func holds(_ cluster: RealCluster, _ marker: String) throws -> Bool {
    let files = FileManager.default.enumerator(
      at: URL(fileURLWithPath: cluster.directory), includingPropertiesForKeys: [.isRegularFileKey])
    while let file = files?.nextObject() as? URL {
      guard try file.resourceValues(forKeys: [.isRegularFileKey]).isRegularFile == true else {
        continue
      }
      if try Data(contentsOf: file, options: .alwaysMapped).range(of: Data(marker.utf8)) != nil {
        return true
      }
    }
    return false
  }

  @Test(
    "what a bucket in a key domain holds is on no disk in plain, comes back, and outlives rotation; a master key that is gone is named"
  )
  func domains() throws {
    let cluster = try RealCluster(nodes: 3)
    let keys = cluster.directory + "/master.keys"
    try cluster.succeed("admin", "key", "domain", "create", "finance")
    try cluster.succeed("mb", "--key-domain", "finance", "sealed")
    try cluster.succeed("mb", "plain")
    #expect(
      try objects(cluster, "ls", "--json").map { $0["keyDomain"] as? String } == [nil, "finance"])
    let small = "a small secret that nobody may find"
    let large = Data(
      (0..<40_000).map { "line \($0) that is not to be found either, \($0 * 7919 % 10_007)\n" }
        .joined().utf8)
    try cluster.succeed("put", "-", "cairn://sealed/small", input: Data(small.utf8))
    try cluster.succeed("put", "-", "cairn://sealed/large", input: large)
    try cluster.succeed("put", "-", "cairn://plain/other", input: Data("nothing to hide".utf8))
    #expect(try cluster.succeed("cat", "cairn://sealed/small").text == small)
    #expect(try cluster.succeed("cat", "cairn://sealed/large").output == large)
    #expect(
      try cluster.succeed("cat", "--range", "100000-104095", "cairn://sealed/large").output
        == large[100_000...104_095])
    #expect(try !holds(cluster, "nobody may find"))
    #expect(try !holds(cluster, "not to be found either"))
    #expect(try holds(cluster, "nothing to hide"))
    // A copy into a plain bucket is written anew.
    try cluster.succeed("cp", "cairn://sealed/small", "cairn://plain/copy")
    #expect(try cluster.succeed("cat", "cairn://plain/copy").text == small)
    #expect(try holds(cluster, "nobody may find"))

    try cluster.succeed("admin", "key", "domain", "rotate", "finance")
    try cluster.succeed("admin", "key", "new", keys, "second")
    try cluster.succeed("admin", "key", "rotate")
    let listed = try objects(cluster, "admin", "key", "domain", "list", "--json")
    let versions = try #require(listed.first?["keys"] as? [[String: Any]])
    #expect(versions.map { $0["masterKey"] as? String } == ["second"])
    #expect(versions.map { $0["version"] as? Int } == [2])
    let both = try String(contentsOfFile: keys, encoding: .utf8).split(separator: "\n")
    #expect(both.count == 2)
    func restart(_ lines: [Substring]) throws {
      try Data((lines.joined(separator: "\n") + "\n").utf8).write(
        to: URL(fileURLWithPath: keys))
      try cluster.succeed("cluster", "down", "--dir", cluster.directory)
      try cluster.succeed("cluster", "up", "--dir", cluster.directory)
    }
    try restart([both[1]])
    #expect(try cluster.succeed("cat", "cairn://sealed/large").output == large)
    try restart([both[0]])
    for words in [
      ["cat", "cairn://sealed/small"], ["cp", "cairn://plain/other", "cairn://sealed/x"],
      ["admin", "key", "rotate"],
    ] {
      let refused = try cluster.run(words)
      #expect(refused.status == 1 && refused.error.contains("'second'"), "\(refused.error)")
      #expect(refused.error.split(separator: "\n").count == 1, "\(refused.error)")
    }
    #expect(try cluster.succeed("cat", "cairn://plain/copy").text == small)
    try restart(both)
    #expect(try cluster.succeed("cat", "cairn://sealed/small").text == small)
    try cluster.succeed("admin", "fsck")
  }

  @Test("what cannot be is refused with one line that says what to do")
  func refusals() throws {
    let cluster = try RealCluster(nodes: 3)
    let keys = cluster.directory + "/master.keys"
    try cluster.succeed("admin", "key", "domain", "create", "finance")
    try cluster.succeed("mb", "--key-domain", "finance", "sealed")
    try cluster.succeed("put", "-", "cairn://sealed/k", input: Data("x".utf8))
    let cases: [([String], Int32, String)] = [
      (["mb", "--key-domain", "none", "other"], 1, "no such key domain: none"),
      (["mb", "--key-domain", "", "other"], 2, "--key-domain takes"),
      (["admin", "key", "domain", "create", "finance"], 1, "key domain exists already"),
      (["admin", "key", "domain", "create", "Finance"], 1, "a key domain's name"),
      (["admin", "key", "domain", "rotate", "none"], 1, "no such key domain: none"),
      (["admin", "key", "domain", "set", "sealed", "--none"], 1, "cairn mv"),
      (["admin", "key", "domain", "set", "nowhere", "finance"], 1, "no such bucket: nowhere"),
      (["admin", "key", "domain", "set", "sealed"], 2, "--none"),
      (["admin", "key", "new", keys, "not a name"], 1, "no key is added"),
      (["admin", "key", "new", "/nowhere/at/all", "name"], 1, "/nowhere/at/all"),
    ]
    for (words, status, text) in cases {
      let finished = try cluster.run(words)
      #expect(finished.status == status, "\(words): \(finished.error)")
      #expect(finished.error.contains(text), "\(words): \(finished.error)")
      #expect(finished.error.split(separator: "\n").count == 1, "\(finished.error)")
    }
    try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: keys)
    let open = try cluster.run(["admin", "key", "domain", "create", "other"])
    #expect(open.status == 1 && open.error.contains("chmod 600"), "\(open.error)")
  }
}
