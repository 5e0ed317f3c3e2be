import Foundation
import TestSupport
import Testing

/// What a user types, right and wrong, against a real cluster of three nodes.
@Suite(
  "the command line", .serialized,
  .enabled(if: cairnPath != nil, "CAIRN_EXECUTABLE names the build (scripts/test)"))
struct CommandTests {
  @Test("a cluster's directory may be spelled otherwise than at its start, and through a link")
  func otherSpelling() throws {
    let cluster = try RealCluster(nodes: 1)
    let link = cluster.folder + "/link"
    try FileManager.default.createSymbolicLink(
      atPath: link, withDestinationPath: cluster.directory)
    for spelling in [cluster.folder + "/./cluster", cluster.directory + "//", link] {
      let status = try cluster.succeed("cluster", "status", "--dir", spelling).text
      #expect(!status.contains("stopped"), "\(spelling): \(status)")
      try cluster.succeed("cluster", "up", "-q", "--dir", spelling)
    }
    #expect(try cluster.succeed("cluster", "down", "--dir", link).text == "stopped 3 daemons\n")
    #expect(
      try cluster.succeed("cluster", "down", "--dir", cluster.directory).text
        == "nothing was running\n")
  }

  @Test("a scrub on request reads all there is and finds the byte that was changed")
  func scrub() throws {
    let cluster = try RealCluster(nodes: 3)
    try cluster.succeed("mb", "bucket")
    let bytes = Data(Seed(4).generatorBytes(9 << 20))
    try cluster.succeed("put", "-", "cairn://bucket/object", input: bytes)
    func lines(_ words: String...) throws -> [[String: Any]] {
      let finished = try cluster.run(words)
      try #require(finished.status == 0, "\(words): \(finished.error)")
      return try finished.text.split(separator: "\n").map {
        try #require(
          JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
      }
    }
    func found(_ lines: [[String: Any]]) -> Int {
      lines.reduce(0) { $0 + ($1["foundInRound"] as? Int ?? -99) }
    }
    let clean = try lines("admin", "scrub", "--wait", "--json")
    #expect(clean.count == 3 && found(clean) == 0)
    #expect(clean.reduce(0) { $0 + ($1["bytesDone"] as? Int ?? 0) } > 13 << 20)
    #expect(clean.allSatisfy { $0["running"] as? Bool == false })

    // A byte of the object, where it lies.
    var isDone = false
    for case let file as String in FileManager.default.enumerator(atPath: cluster.directory)!
    where file.contains("/volumes/") && !isDone {
      let path = cluster.directory + "/" + file
      let volume = try Data(contentsOf: URL(fileURLWithPath: path))
      guard let place = volume.range(of: bytes[1_000_000..<1_000_064]) else { continue }
      let handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
      try handle.seek(toOffset: UInt64(place.lowerBound))
      try handle.write(contentsOf: Data([~volume[place.lowerBound]]))
      try handle.synchronize()
      try handle.close()
      isDone = true
    }
    #expect(isDone)
    let dirty = try lines("admin", "scrub", "--wait", "--json", "--rate", "1GiB")
    #expect(found(dirty) == 1)
    let device = try #require(dirty.first { $0["foundInRound"] as? Int == 1 })
    let name = try #require(device["device"] as? String)
    #expect(try lines("admin", "scrub", "status", "--json").count == 3)
    let one = try lines("admin", "scrub", "status", "--device", name, "--json")
    #expect(one.count == 1 && one[0]["foundInAll"] as? Int == 1)
    #expect(
      try cluster.succeed("admin", "scrub", "status", "--node", "node-1").text
        .hasPrefix("node-1 d-"))
    #expect(try cluster.succeed("cat", "cairn://bucket/object").output == bytes)
    for words in [
      ["--node", "n9"], ["--device", "d-1"], ["--rate", "0"], ["--rate", "much"], ["status", "x"],
    ] {
      let finished = try cluster.run(["admin", "scrub"] + words)
      #expect(finished.status != 0 && finished.error.split(separator: "\n").count == 1)
    }
  }

  @Test("fsck agrees, tells who is silent, and names the object that cannot be read any more")
  func fsck() throws {
    let cluster = try RealCluster(nodes: 3)
    try cluster.succeed("mb", "bucket")
    let bytes = Data(Seed(6).generatorBytes(5 << 20))
    // One after the other, in one container.
    let tree = cluster.folder + "/tree"
    try FileManager.default.createDirectory(atPath: tree, withIntermediateDirectories: true)
    try bytes.write(to: URL(fileURLWithPath: tree + "/a-lost"))
    try Data(Seed(7).generatorBytes(3 << 20)).write(to: URL(fileURLWithPath: tree + "/b-kept"))
    try cluster.succeed("put", "-r", "-j", "1", tree, "cairn://bucket")
    #expect(try cluster.succeed("admin", "fsck").text == "all agrees\n")
    // Both data blocks of a stripe of 2+1.
    for at in [300_000, 1_300_000] {
      var isDone = false
      for case let file as String in FileManager.default.enumerator(atPath: cluster.directory)!
      where file.contains("/volumes/") && !isDone {
        let path = cluster.directory + "/" + file
        let volume = try Data(contentsOf: URL(fileURLWithPath: path))
        guard let place = volume.range(of: bytes[at..<at + 64]) else { continue }
        let handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
        try handle.seek(toOffset: UInt64(place.lowerBound))
        try handle.write(contentsOf: Data([~volume[place.lowerBound]]))
        try handle.synchronize()
        try handle.close()
        isDone = true
      }
      #expect(isDone)
    }
    try cluster.succeed("admin", "scrub", "--wait")
    // Hellos come each second.
    let end = Date().addingTimeInterval(30)
    var found = try cluster.run(["admin", "fsck"])
    while !found.text.contains("cairn://bucket/a-lost") && Date() < end {
      found = try cluster.run(["admin", "fsck"])
    }
    #expect(found.status == 1 && !found.text.contains("kept"), "\(found.text)")
    #expect(found.text.split(separator: "\n").count { $0.hasPrefix("damaged: ") } == 2)
    let status = try cluster.succeed("admin", "repair", "status", "--objects").text
    #expect(status.contains("too few shards") && status.contains("object: cairn://bucket/a-lost: "))
    #expect(
      try cluster.succeed("stat", "cairn://bucket/a-lost").text.contains("too few blocks to read"))
    #expect(try cluster.succeed("stat", "cairn://bucket/b-kept").text.contains("survives "))
    try cluster.killDaemons { $0.name == "node-2" }
    let silent = try cluster.run(["admin", "nodes"]).text
    #expect(silent.contains("node-2 n-"))
    var lines = ""
    while !lines.contains("\"unchecked\"") && Date() < end.addingTimeInterval(30) {
      let finished = try cluster.run(["admin", "fsck", "--json"])
      lines = finished.text
      #expect(finished.status == 1)
    }
    #expect(lines.contains("on node-2") && lines.contains("\"clean\":false"))
  }

  @Test("objects go in, come out, are listed, copied, moved, and deleted space returns")
  func roundTrip() throws {
    let cluster = try RealCluster(nodes: 3)
    try cluster.configureCoordinator("deletion_grace = \"1s\"")
    try cluster.succeed("mb", "bucket")
    let bytes = Data(Seed(3).generatorBytes(9 << 20))
    try cluster.succeed("put", "-", "cairn://bucket/a/stream", input: bytes)
    #expect(try cluster.succeed("cat", "cairn://bucket/a/stream").output == bytes)
    for (first, last) in [(0, 0), (4095, 4096), (100_000, 3_000_000), (9_437_183, 9_437_183)] {
      let part = try cluster.succeed(
        "cat", "--range", "\(first)-\(last)", "cairn://bucket/a/stream")
      #expect(part.output == bytes[first...last])
    }
    try cluster.succeed("put", "-", "cairn://bucket/a/small", input: Data("hello".utf8))
    try cluster.succeed("put", "-", "cairn://bucket/empty", input: Data())
    #expect(try cluster.succeed("cat", "cairn://bucket/empty").output.isEmpty)

    let before = try cluster.usage()
    try cluster.succeed("cp", "cairn://bucket/a/stream", "cairn://bucket/copy")
    try cluster.succeed("mv", "cairn://bucket/copy", "cairn://bucket/moved")
    #expect(try cluster.usage()["uniqueBytes"] == before["uniqueBytes"])
    #expect(try cluster.succeed("cat", "cairn://bucket/moved").output == bytes)
    #expect(try cluster.run(["stat", "cairn://bucket/copy"]).status == 1)

    let top = try cluster.succeed("ls", "cairn://bucket/").text
    #expect(top.contains("a/") && top.contains("moved") && !top.contains("stream"))
    let lines = try cluster.succeed("ls", "-r", "--json", "cairn://bucket").text.split(
      separator: "\n")
    let keys = try lines.map {
      try #require(JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])["key"]
        as? String
    }
    #expect(keys == ["a/small", "a/stream", "empty", "moved"])
    let stat = try #require(
      JSONSerialization.jsonObject(
        with: cluster.succeed("stat", "--json", "cairn://bucket/moved").output)
        as? [String: Any])
    #expect(stat["bytes"] as? Int == 9 << 20)
    #expect(stat["scheme"] as? String == "2+1")

    // The same bytes again store nothing new.
    try cluster.succeed("put", "-", "cairn://bucket/again", input: bytes)
    #expect(try cluster.usage()["uniqueBytes"] == before["uniqueBytes"])

    try cluster.succeed("rm", "-r", "cairn://bucket/")
    try cluster.succeed("rb", "bucket")
    let deadline = Date().addingTimeInterval(60)
    var usage = try cluster.usage()
    while usage["uniqueBytes"] != 0 || usage["storedBytes"] != usage["metadataBytes"] {
      try #require(Date() < deadline, "space did not return: \(usage)")
      usleep(50_000)
      usage = try cluster.usage()
    }
  }

  @Test("an object that is replaced all the while can be read: each time one whole state of it")
  func replacedWhileRead() throws {
    let cluster = try RealCluster(nodes: 3)
    try cluster.succeed("mb", "bucket")
    // Longer than what is kept in the metadata, so that two questions are asked.
    let states = (0..<2).map { state in
      Data((0..<6000).map { "state \(state) line \($0)\n" }.joined().utf8)
    }
    for (index, state) in states.enumerated() {
      try state.write(to: URL(fileURLWithPath: cluster.folder + "/state-\(index)"))
    }
    try cluster.succeed("put", cluster.folder + "/state-0", "cairn://bucket/k")
    let reads = try (0..<4).map { _ in
      try cluster.start(["cat"] + Array(repeating: "cairn://bucket/k", count: 200))
    }
    var count = 0
    var gets: [(RunningCairn, String)] = []
    while reads.contains(where: { $0.process.isRunning }) {
      count += 1
      let folder = cluster.folder + "/got-\(count)"
      gets.append((try cluster.start(["get", "-r", "cairn://bucket", folder]), folder + "/k"))
      gets.append((try cluster.start(["get", "cairn://bucket/k", folder + "-k"]), folder + "-k"))
      try cluster.succeed("put", cluster.folder + "/state-\(count % 2)", "cairn://bucket/k")
    }
    #expect(count > 2)
    for (get, path) in gets {
      let finished = get.wait()
      #expect(finished.status == 0, "\(finished.error)")
      #expect(states.contains(FileManager.default.contents(atPath: path) ?? Data()))
    }
    for read in reads {
      let finished = read.wait()
      #expect(finished.status == 0, "\(finished.error)")
      var rest = finished.output[...]
      var found = 0
      while let state = states.first(where: { rest.starts(with: $0) }) {
        rest = rest.dropFirst(state.count)
        found += 1
      }
      #expect(found == 200 && rest.isEmpty)
    }
  }

  @Test("wrong input is refused with one line and the right exit status")
  func refusals() throws {
    let cluster = try RealCluster(nodes: 3)
    try cluster.succeed("mb", "bucket")
    try cluster.succeed("put", "-", "cairn://bucket/k", input: Data("x".utf8))
    let folder = cluster.folder
    try FileManager.default.createDirectory(
      atPath: folder + "/full", withIntermediateDirectories: true)
    let wrongKey = folder + "/wrong.toml"
    let client = try String(contentsOfFile: cluster.directory + "/client.toml", encoding: .utf8)
    try writeSecret(String(repeating: "ab", count: 32), to: folder + "/wrong.key")
    try client.replacingOccurrences(of: "cluster.key", with: folder + "/wrong.key")
      .write(toFile: wrongKey, atomically: true, encoding: .utf8)
    let noCluster = folder + "/none.toml"
    try "coordinators = [\"127.0.0.1:1\"]\nkey_file = \"\(cluster.directory)/cluster.key\"\n"
      .write(toFile: noCluster, atomically: true, encoding: .utf8)
    let badConfig = folder + "/bad.toml"
    try (client + "\nnonsense = 3\n").replacingOccurrences(
      of: "cluster.key", with: cluster.directory + "/cluster.key"
    )
    .write(toFile: badConfig, atomically: true, encoding: .utf8)

    let everybody = folder + "/everybody.toml"
    try String(repeating: "ab", count: 32).write(
      toFile: folder + "/everybody.key", atomically: true, encoding: .utf8)
    try FileManager.default.setAttributes(
      [.posixPermissions: 0o644], ofItemAtPath: folder + "/everybody.key")
    try client.replacingOccurrences(of: "cluster.key", with: folder + "/everybody.key")
      .write(toFile: everybody, atomically: true, encoding: .utf8)

    let cases: [(words: [String], config: String?, status: Int32, says: String)] = [
      (["ls"], everybody, 1, "everybody on this machine can get at the cluster key: 'chmod 600'"),
      (["ls"], noCluster, 1, "127.0.0.1:1"),
      (["ls"], folder + "/absent.toml", 1, "absent.toml"),
      (["ls"], wrongKey, 1, "key"),
      (["ls"], badConfig, 1, "nonsense"),
      (["nonsense"], nil, 2, "unknown command"),
      (["ls", "--nonsense"], nil, 2, "--nonsense"),
      (["mb"], nil, 2, "too few"),
      (["mb", "bucket"], nil, 1, "exists"),
      // Before anything is contacted.
      (["mb", "A"], noCluster, 2, "3 to 63"), (["mb", "Abc"], noCluster, 2, "a to z"),
      (["rb", "UPPER"], noCluster, 2, "a to z"),
      (["ls", "cairn://UPPER/"], noCluster, 2, "a to z"),
      (["put", "-", "cairn://a/k"], noCluster, 2, "3 to 63"),
      (["get", "cairn://a../k", folder + "/r"], noCluster, 2, "begins and ends"),
      (["cat", "cairn://192.168.0.1/k"], noCluster, 2, "IP address"),
      (["rm", "-r", "cairn://bucket/x", "cairn://UPPER/"], noCluster, 2, "a to z"),
      (["cp", "cairn://bucket/k", "cairn://UPPER/k"], noCluster, 2, "a to z"),
      (["mv", "cairn://bucket/", "cairn://bucket/k"], noCluster, 2, "empty key"),
      (["bucket", "versioning", "UPPER"], noCluster, 2, "a to z"),
      (["mb", "--class", "Hot", "bucket"], noCluster, 2, "a class's name"),
      (["mb", "--key-domain", "Finance", "bucket"], noCluster, 2, "a key domain's name"),
      (["admin", "class", "set", "UPPER", "hot"], noCluster, 2, "a to z"),
      (["admin", "class", "set", "bucket", "Hot"], noCluster, 2, "a class's name"),
      (["admin", "class", "define", "Hot"], noCluster, 2, "a class's name"),
      (["admin", "class", "define", "x", "--group", "5000.5"], noCluster, 2, "4KiB to 1MiB"),
      (["admin", "class", "define", "x", "--group", "2MiB"], noCluster, 2, "4KiB to 1MiB"),
      (["admin", "key", "domain", "rotate", "Finance"], noCluster, 2, "a key domain's name"),
      (["admin", "key", "domain", "set", "bucket", "F"], noCluster, 2, "a key domain's name"),
      (["admin", "user", "create", "no name"], noCluster, 2, "no name for a user"),
      (["admin", "user", "create", "root"], noCluster, 2, "no user is called 'root'"),
      (["admin", "user", "policy", "show", "u", "no name"], noCluster, 2, "for a policy"),
      (["admin", "user", "key", "delete", "short"], noCluster, 2, "an access key has"),
      (["cp", "-r", "cairn://bucket/p", "cairn://bucket/p/q"], noCluster, 2, "in what is copied"),
      (["mv", "-r", "cairn://bucket", "cairn://bucket/q"], noCluster, 2, "in what is moved"),
      (
        ["cp", "-r", "--version", "null", "cairn://bucket/p", "cairn://bucket/q"], noCluster, 2,
        "one object"
      ),
      (["admin", "repair"], nil, 2, "admin repair takes status"),
      (["ls", "--consistency", "weak"], nil, 2, "eventual"),
      (["ls", "--consistency", "read-own"], nil, 2, "--session"),
      (["rb", "bucket"], nil, 1, "not empty"),
      (["rb", "nowhere"], nil, 1, "nowhere"),
      (["ls", "cairn://nowhere/"], nil, 1, "nowhere"),
      (["put", "/etc/hostname", "cairn://nowhere/k"], nil, 1, "nowhere"),
      (["stat", "cairn://bucket/none"], nil, 1, "none"),
      (["cat", "cairn://bucket/none"], nil, 1, "none"),
      (["rm", "cairn://bucket/none"], nil, 1, "none"),
      (["cp", "cairn://bucket/none", "cairn://bucket/other"], nil, 1, "none"),
      (["cp", "-r", "cairn://bucket/none", "cairn://bucket/other"], nil, 1, "none"),
      (["cp", "-r", "cairn://bucket/k", "cairn://nowhere/k"], nil, 1, "cairn://nowhere"),
      (["stat", "cairn://bucket/"], noCluster, 2, "empty key"),
      (
        ["put", "-", "cairn://bucket/" + String(repeating: "k", count: 1025)], noCluster, 2, "1025"
      ),
      (["put", folder + "/absent", "cairn://bucket/a"], nil, 1, "absent"),
      (["put", folder, "cairn://bucket/a"], nil, 1, "directory"),
      (["get", "--range", "5-9", "cairn://bucket/k", folder + "/r"], nil, 1, "range"),
      (["get", "--range", "9-5", "cairn://bucket/k", folder + "/r"], nil, 2, "range"),
      (["get", "--range", "+0-0", "cairn://bucket/k", folder + "/r"], nil, 2, "range"),
      (["ls"], badConfig + "/below", 1, "Not a directory"),
      (["get", "cairn://bucket/k", "/proc/nowhere/file"], nil, 1, "/proc/nowhere"),
      (
        ["cluster", "up", "--dir", folder + "/two", "--nodes", "2", "--scheme", "6+3"], nil, 1,
        "9 nodes"
      ),
      (["cluster", "status", "--dir", folder + "/full"], nil, 1, "no cluster"),
      (["node", "--config", badConfig], nil, 1, "bad.toml"),
    ]
    for (words, config, status, says) in cases {
      let finished = try cluster.run(words, config: config)
      #expect(finished.status == status, "cairn \(words): \(finished.error)")
      #expect(finished.errorLines.count == 1, "cairn \(words): \(finished.error)")
      #expect(finished.error.hasPrefix("cairn: "), "cairn \(words): \(finished.error)")
      #expect(finished.error.contains(says), "cairn \(words): \(finished.error)")
    }
    #expect(try cluster.succeed("cat", "cairn://bucket/k").text == "x")

    // Where a reader stands, in a client's file and in a gateway's: the line is that of what is wrong.
    let gateway = try String(
      contentsOfFile: cluster.directory + "/gateway-1/config.toml", encoding: .utf8
    ).replacing("../", with: cluster.directory + "/")
      .replacing("\"access-keys\"", with: "\"\(cluster.directory)/gateway-1/access-keys\"")
      .replacing(#/listen = .*/#, with: "listen = \"127.0.0.1:0\"")
    for (text, last, says) in [
      ("read_policy = nearest", true, "the value of 'read_policy' wants quotes"),
      ("read_policy = \"nearest\"", true, "wants 'location' beside it"),
      ("read_policy = \"closest\"", true, "must be one of"),
      ("read_policy = \"nearest\"\nlocation = []", true, "at least one"),
      ("read_policy = \"nearest\"\nlocation = [\"rack-1\"]", true, "which has node-1, node-2"),
      ("location = [\"rack-1\"]\nread_policy = \"round-robin\"", false, "says nothing without"),
    ] {
      for (words, good) in [(["ls"], client), (["gateway"], gateway)] {
        let path = folder + "/place.toml"
        let whole =
          good.replacing("\"cluster.key", with: "\"\(cluster.directory)/cluster.key") + text + "\n"
        try whole.write(toFile: path, atomically: true, encoding: .utf8)
        let line =
          whole.split(separator: "\n", omittingEmptySubsequences: false).count - (last ? 1 : 2)
        let finished = try cluster.run(words + ["--config", path])
        #expect(finished.status == 1 && finished.errorLines.count == 1, "\(finished.error)")
        #expect(finished.error.contains(says), "\(finished.error)")
        #expect(finished.error.hasSuffix(": \(path):\(line)\n"), "\(line): \(finished.error)")
      }
    }
    let near = folder + "/near.toml"
    try
      (client.replacing("cluster.key", with: cluster.directory + "/cluster.key")
      + "read_policy = \"nearest\"\nlocation = [\"node-2\"]\n")
      .write(toFile: near, atomically: true, encoding: .utf8)
    #expect(try cluster.run(["cat", "cairn://bucket/k"], config: near).text == "x")

    // What nobody could run with is refused with its line, before anything is made.
    let wrong: [(role: String, from: String, to: String)] = [
      ("node", "name = \"node-1\"", "name = \"\""),
      ("node", "name = \"node-1\"", "name = \"two words\""),
      ("node", "name = \"node-1\"", "name = \"\(String(repeating: "n", count: 101))\""),
      ("node", "capacity = \"64GiB\"", "capacity = \"0\""),
      ("node", "profile = \"automatic\"", "volume_size = \"0\""),
      ("node", "profile = \"automatic\"", "volume_size = \"17TiB\""),
      ("node", "name = \"node-1\"", "scrub = { interval = \"1s\" }"),
      ("node", "name = \"node-1\"", "scrub = { interval = \"fortnight\" }"),
      ("node", "name = \"node-1\"", "scrub = { rate = \"1KiB\" }"),
      ("coordinator", "scheme = \"2+1\"", "scheme = \"0+1\""),
      ("coordinator", "expected_nodes = 3", "expected_nodes = 0"),
      ("coordinator", "expected_nodes = 3", "node_silence = \"0s\""),
      ("coordinator", "expected_nodes = 3", "session_lifetime = \"0s\""),
      ("coordinator", "expected_nodes = 3", "session_lifetime = \"5\""),
    ]
    for (role, from, to) in wrong {
      let good = try String(
        contentsOfFile: "\(cluster.directory)/\(role)-1/config.toml", encoding: .utf8)
      let bad = good.replacing(from, with: to)
      let lines = bad.split(separator: "\n", omittingEmptySubsequences: false)
      let line = try #require(lines.firstIndex { $0 == to[...] }) + 1
      let path = "\(folder)/\(role).toml"
      try bad.replacing("../cluster.key", with: "cluster/cluster.key")
        .write(toFile: path, atomically: true, encoding: .utf8)
      let finished = try cluster.run([role, "--config", path])
      #expect(finished.status == 1 && finished.errorLines.count == 1, "\(to): \(finished.error)")
      #expect(finished.error.hasSuffix(": \(path):\(line)\n"), "\(to): \(finished.error)")
      #expect(!FileManager.default.fileExists(atPath: folder + "/data"))
    }

    // Foundation cannot pass such an argument; a shell can.
    let shell = Process()
    shell.executableURL = URL(fileURLWithPath: "/bin/sh")
    let script = #""$CAIRN_EXECUTABLE" stat "$(printf 'cairn://bucket/\377')" 2>&1"#
    shell.arguments = ["-c", script]
    let pipe = Pipe()
    shell.standardOutput = pipe
    try shell.run()
    let said = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    shell.waitUntilExit()
    #expect(shell.terminationStatus == 2 && said.contains("not UTF-8"), "\(said)")
  }

  @Test("trees are copied and moved inside the cluster, also to another class; what fails is named")
  func trees() throws {
    let cluster = try RealCluster(nodes: 3)
    let tree = cluster.folder + "/tree"
    try makeTree(at: tree, seed: Seed(11), byteCount: 3 << 20)
    try cluster.succeed("mb", "bucket")
    try cluster.succeed("mb", "--class", "hot", "quick")
    try cluster.succeed("put", "-r", tree, "cairn://bucket/a/p")
    func keys(_ location: String) throws -> [String] {
      let listed = try cluster.run(["ls", "-r", "--json", location])
      return try listed.text.split(separator: "\n").map {
        let entry = try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
        return try #require(entry?["key"] as? String)
      }
    }
    func check(_ location: String) throws {
      let back = cluster.folder + "/" + UUID().uuidString
      try cluster.succeed("get", "-r", location, back)
      let report = try difference(tree, back)
      #expect(report == nil, "\(location): \(report ?? "")")
    }
    let all = try keys("cairn://bucket/a/p/").map { String($0.dropFirst("a/p/".count)) }
    let copied = try cluster.succeed("cp", "-r", "--json", "cairn://bucket/a/p", "cairn://bucket/q")
    #expect(copied.text.split(separator: "\n").count == all.count)
    #expect(
      copied.text.contains(
        #"{"source":"cairn://bucket/a/p/link","target":"cairn://bucket/q/link"}"#))
    #expect(try keys("cairn://bucket/q/") == all.map { "q/" + $0 })
    try check("cairn://bucket/q")
    // Another class: the bytes are stored anew. Where the target is a bucket the tree's own folder is its own.
    try cluster.succeed("cp", "-r", "cairn://bucket/a/p", "cairn://quick")
    #expect(try keys("cairn://quick") == all.filter { !$0.isEmpty })
    try cluster.succeed("mv", "-r", "cairn://quick", "cairn://bucket/back/")
    #expect(try keys("cairn://quick").isEmpty)
    try cluster.succeed("rb", "quick")
    try cluster.succeed("mv", "-r", "cairn://bucket/q", "cairn://bucket/r/s")
    #expect(try keys("cairn://bucket/q").isEmpty)
    try check("cairn://bucket/r/s")
    // Up a level; one object that has the prefix's name goes with what is below it.
    try cluster.succeed("put", "-", "cairn://bucket/r/s", input: Data("own".utf8))
    try cluster.succeed("mv", "-r", "cairn://bucket/r/s", "cairn://bucket/t")
    #expect(try cluster.succeed("cat", "cairn://bucket/t").text == "own")
    try cluster.succeed("rm", "cairn://bucket/t")
    // Of two that would lie in one place the second stays where it is.
    try cluster.succeed("put", "-", "cairn://bucket/u/a", input: Data("one".utf8))
    try cluster.succeed("put", "-", "cairn://bucket/u/a/a", input: Data("two".utf8))
    let clash = try cluster.run(["mv", "-r", "cairn://bucket/u/a", "cairn://bucket/v/"])
    #expect(clash.status == 1 && clash.error.contains("cairn://bucket/u/a/a"), "\(clash.error)")
    #expect(try cluster.succeed("cat", "cairn://bucket/v/a").text == "one")
    #expect(try cluster.succeed("cat", "cairn://bucket/u/a/a").text == "two")
    try cluster.succeed("rm", "cairn://bucket/v/a")
    try cluster.succeed("rm", "cairn://bucket/u/a/a")
    try check("cairn://bucket/t")

    // What cannot be moved stays, what can goes: a name that gets too long, and one whose place is yet to be read.
    let long = String(repeating: "n", count: 1010)
    try cluster.succeed("put", "-", "cairn://bucket/d/\(long)", input: Data("long".utf8))
    try cluster.succeed("put", "-", "cairn://bucket/d/e/d/e/f", input: Data("deep".utf8))
    try cluster.succeed("put", "-", "cairn://bucket/d/e/g", input: Data("good".utf8))
    let target = "cairn://bucket/" + String(repeating: "t", count: 20)
    let failed = try cluster.run(["mv", "-r", "cairn://bucket/d", target])
    #expect(failed.status == 1 && failed.errorLines.count == 2, "\(failed.error)")
    #expect(failed.error.contains("key is 1031 bytes long"), "\(failed.error)")
    #expect(failed.error.hasSuffix("cairn: 1 of 3 were not moved\n"), "\(failed.error)")
    #expect(try cluster.succeed("cat", target + "/e/g").text == "good")
    #expect(try keys("cairn://bucket/d/") == ["d/" + long])
    try cluster.succeed("mv", "-r", target, "cairn://bucket/d")
    let up = try cluster.run(["mv", "-r", "cairn://bucket/d/e", "cairn://bucket"])
    #expect(up.status == 1 && up.error.contains("1 of 2 were not moved"), "\(up.error)")
    #expect(up.error.contains("its target is in what is moved: cairn://bucket/d/e/d/e/f"))
    #expect(try cluster.succeed("cat", "cairn://bucket/g").text == "good")
    #expect(try cluster.succeed("cat", "cairn://bucket/d/e/d/e/f").text == "deep")
  }

  @Test("names that would leave the destination are refused before anything is written")
  func escapes() throws {
    let cluster = try RealCluster(nodes: 1)
    try cluster.succeed("mb", "bucket")
    for key in ["p/../../evil", "p/a//b", "p/./c", "p/fine"] {
      try cluster.succeed("put", "-", "cairn://bucket/\(key)", input: Data("x".utf8))
    }
    let finished = try cluster.run(["get", "-r", "cairn://bucket/p", cluster.folder + "/out"])
    #expect(finished.status == 1)
    #expect(finished.error.contains("leave the destination"))
    #expect(!FileManager.default.fileExists(atPath: cluster.folder + "/out/fine"))
    #expect(!FileManager.default.fileExists(atPath: cluster.folder + "/evil"))
  }

  @Test("bash completes commands of one, two and three words, and their options")
  func completion() throws {
    let cluster = try RealCluster(nodes: 1)
    func complete(_ words: String...) throws -> Set<String> {
      let shell = Process()
      shell.executableURL = URL(fileURLWithPath: "/bin/bash")
      let quoted = (["cairn"] + words).map { "'\($0)'" }.joined(separator: " ")
      shell.arguments = [
        "-c",
        """
        source <("$CAIRN_EXECUTABLE" completion bash)
        COMP_WORDS=(\(quoted)) COMP_CWORD=\(words.count)
        _cairn; echo "${COMPREPLY[@]}"
        """,
      ]
      let pipe = Pipe()
      shell.standardOutput = pipe
      try shell.run()
      let said = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      shell.waitUntilExit()
      return Set(said.split(whereSeparator: \.isWhitespace).map(String.init))
    }
    _ = cluster
    #expect(try complete("adm") == ["admin"])
    #expect(try complete("admin", "").isSuperset(of: ["nodes", "repair", "scrub", "drain"]))
    #expect(try complete("admin", "repair", "") == ["status"])
    #expect(try complete("admin", "scrub", "") == ["status"])
    #expect(try complete("admin", "scrub", "status", "--no") == ["--node"])
    #expect(try complete("admin", "scrub", "--wa") == ["--wait"])
    #expect(try complete("help", "admin", "re") == ["repair", "retire"])
    #expect(try complete("get", "-r", "--cons") == ["--consistency"])
    #expect(try complete("ls", "--consistency", "e") == ["eventual"])
    #expect(try complete("put", "x", "").isEmpty)
  }

  @Test("nodes are shown by name with ids and how they stand, and no path has what names nothing")
  func nodes() throws {
    let cluster = try RealCluster(nodes: 3)
    let lines = try cluster.succeed("admin", "nodes").text.split(separator: "\n")
    #expect(
      lines.filter { !$0.hasPrefix(" ") }.map { $0.split(separator: " ")[0] }
        == ["node-1", "node-2", "node-3"])
    #expect(lines.filter { !$0.hasPrefix(" ") }.allSatisfy { $0.contains(" n-") })
    #expect(lines.filter { $0.hasPrefix(" ") }.allSatisfy { $0.contains(" healthy, ") })
    let up = try cluster.run(["cluster", "up", "--dir", cluster.folder + "/././cluster"])
    #expect(up.status == 0 && !up.text.contains("/./"), "\(up.text)")
    let file = cluster.folder + "/session"
    try cluster.succeed("mb", "--session", file, "bucket")
    let position = try #require(
      UInt64(try String(contentsOfFile: file, encoding: .utf8).dropLast()))
    try cluster.succeed("put", "--session", file, "-", "cairn://bucket/k", input: Data("x".utf8))
    #expect(
      try #require(
        UInt64(try String(contentsOfFile: file, encoding: .utf8).dropLast())) > position)
    for level in ["strong", "read-own", "eventual"] {
      let words = ["--consistency", level, "--session", file]
      for command in [
        ["cat", "cairn://bucket/k"], ["stat", "cairn://bucket/k"], ["ls", "cairn://bucket/"],
        ["ls"], ["df"],
      ] {
        let finished = try cluster.run(command + words)
        #expect(finished.status == 0 && !finished.output.isEmpty, "\(command): \(finished.error)")
      }
    }
  }

  @Test("older versions are read by their ids, one object at a time")
  func versions() throws {
    let cluster = try RealCluster(nodes: 1)
    try cluster.succeed("mb", "bucket")
    try cluster.succeed("bucket", "versioning", "--on", "cairn://bucket")
    for text in ["first", "second"] {
      try cluster.succeed("put", "-", "cairn://bucket/k", input: Data(text.utf8))
    }
    let listed = try cluster.succeed("ls", "--versions", "--json", "cairn://bucket/").text
    let ids = listed.matches(of: /"version":"([^"]+)"/).map { String($0.1) }
    try #require(ids.count == 2, "\(listed)")
    let texts = try ids.map {
      try cluster.succeed("cat", "--version", $0, "cairn://bucket/k").text
    }
    #expect(texts == ["second", "first"])
    #expect(
      try cluster.succeed("get", "--version", ids[1], "cairn://bucket/k", "-").text == "first")
    #expect(
      try cluster.succeed("cat", "cairn://bucket/k", "cairn://bucket/k").text == "secondsecond")
    let refused = try cluster.run([
      "cat", "--version", ids[1], "cairn://bucket/k", "cairn://bucket/k",
    ])
    #expect(refused.status == 2 && refused.errorLines.count == 1, "\(refused.error)")

    // What keeps a bucket in which 'ls' shows nothing is said.
    let full = try cluster.run(["rb", "bucket"])
    #expect(full.status == 1 && full.error == "cairn: bucket is not empty: bucket\n")
    try cluster.succeed("rm", "cairn://bucket/k")
    #expect(try cluster.succeed("ls", "-r", "cairn://bucket").text == "")
    let old = try cluster.run(["rb", "bucket"])
    #expect(old.status == 1 && old.errorLines.count == 1, "\(old.error)")
    #expect(old.error.contains("older versions or delete markers are left"), "\(old.error)")
  }

  @Test("help and version answer without a cluster")
  func help() throws {
    let cluster = try RealCluster(nodes: 1)
    #expect(try cluster.succeed("--version").text.hasPrefix("cairn "))
    for words in [
      ["--help"], ["put", "--help"], ["cluster", "up", "--help"], ["help", "get"],
      ["completion", "bash"], ["admin", "--help"], ["admin", "repair", "--help"],
      ["admin", "scrub", "--help"], ["help", "admin", "repair"],
    ] {
      let finished = try cluster.run(words, config: "/nowhere")
      #expect(finished.status == 0 && !finished.output.isEmpty)
    }
  }
}
