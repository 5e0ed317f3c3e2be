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

  @Test(
    "a master key of the same name that is another is noticed: by rotation, which saves what is open, by creation, and in the log"
  )
  func otherKey() throws {
    let cluster = try RealCluster(nodes: 3)
    let keys = cluster.directory + "/master.keys"
    let first = try String(contentsOfFile: keys, encoding: .utf8)
    let name = String(first.prefix { $0 != " " })
    try cluster.succeed("admin", "key", "domain", "create", "one")
    try cluster.succeed("mb", "--key-domain", "one", "sealed")
    try cluster.succeed("put", "-", "cairn://sealed/k", input: Data("precious".utf8))
    try FileManager.default.removeItem(atPath: keys)
    try cluster.succeed("admin", "key", "new", keys, name)
    // Nothing more is made that only the new one opens.
    let refused = try cluster.run(["admin", "key", "domain", "create", "two"])
    #expect(refused.status == 1 && refused.error.contains("'one' is closed"), "\(refused.error)")
    let rotated = try cluster.succeed("admin", "key", "rotate").text
    #expect(rotated.hasPrefix("1 domain key wrapped anew"), "\(rotated)")
    func restart() throws {
      try cluster.succeed("cluster", "down", "--dir", cluster.directory)
      try cluster.succeed("cluster", "up", "--dir", cluster.directory)
    }
    try restart()
    #expect(try cluster.succeed("cat", "cairn://sealed/k").text == "precious")
    // The old one again: now it is the wrong one, and nothing is open any more.
    let second = try String(contentsOfFile: keys, encoding: .utf8)
    try Data(first.utf8).write(to: URL(fileURLWithPath: keys))
    try restart()
    let closed = try cluster.run(["admin", "key", "rotate"])
    #expect(closed.status == 1 && closed.error.contains("'one' is closed"), "\(closed.error)")
    let log = cluster.directory + "/coordinator-1/log"
    while try !String(contentsOfFile: log, encoding: .utf8).contains("cannot be opened") {
      usleep(50_000)
    }
    try Data(second.utf8).write(to: URL(fileURLWithPath: keys))
    try restart()
    #expect(try cluster.succeed("cat", "cairn://sealed/k").text == "precious")
  }

  @Test("keys that are added at once are all there, in the file that a link leads to")
  func manyNewKeys() throws {
    let cluster = try RealCluster(nodes: 1)
    let (file, link) = (cluster.folder + "/real", cluster.folder + "/link")
    try cluster.succeed("admin", "key", "new", file, "k0")
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: file)
    let running = try (1...8).map { try cluster.start(["admin", "key", "new", link, "k\($0)"]) }
    for one in running { #expect(one.wait().status == 0) }
    let names = try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n")
      .map { String($0.prefix { $0 != " " }) }
    #expect(names.sorted() == (0...8).map { "k\($0)" })
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
      (["admin", "key", "domain", "create", "Finance"], 2, "a key domain's name"),
      (["admin", "key", "domain", "rotate", "none"], 1, "no such key domain: none"),
      (["admin", "key", "domain", "set", "sealed", "--none"], 1, "cairn mv"),
      (["admin", "key", "domain", "set", "nowhere", "finance"], 1, "no such bucket: nowhere"),
      (["admin", "key", "domain", "set", "sealed"], 2, "--none"),
      (["admin", "key", "new", keys, "not a name"], 2, "a master key's name"),
      (["admin", "key", "new", keys, "#2027"], 2, "a master key's name"),
      (
        ["admin", "key", "new", "/nowhere/at/all", "name"], 1,
        "no key is added: /nowhere/at/all: No such file"
      ),
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
    // Whose key it is stands in the sentence; nothing is behind it.
    for words in [["key", "rotate"], ["key", "domain", "rotate", "finance"]] {
      let closed = try cluster.run(["admin"] + words)
      #expect(closed.status == 1 && closed.errorLines.count == 1, "\(closed.error)")
      #expect(
        closed.error.contains("can get at the master keys: 'chmod 600' the file"),
        "\(closed.error)")
    }
    try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: keys)
    try cluster.succeed("mb", "open")
    try cluster.succeed("put", "-", "cairn://open/k", input: Data("x".utf8))
    for (bucket, domain) in [("sealed", "finance"), ("open", nil)] {
      let stat = try cluster.succeed("stat", "cairn://\(bucket)/k").text
      #expect(stat.contains("key domain  finance\n") == (domain != nil), "\(stat)")
      let object = try #require(
        JSONSerialization.jsonObject(
          with: cluster.succeed("stat", "--json", "cairn://\(bucket)/k").output) as? [String: Any])
      #expect(object["keyDomain"] as? String == domain && object.keys.contains("keyDomain"))
    }
  }
}
