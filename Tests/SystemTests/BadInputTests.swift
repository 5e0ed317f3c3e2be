import Foundation
import TestSupport
import Testing

/// What users and machines do wrong, against real daemons: one clear line, the right exit status, nothing lost and
/// nothing half visible.
@Suite(
  "bad input and faults", .serialized,
  .enabled(if: cairnPath != nil, "CAIRN_EXECUTABLE names the build (scripts/test)"))
struct BadInputTests {
  private func expect(
    _ finished: Finished, status: Int32, says: String...,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(finished.status == status, "\(finished.error)", sourceLocation: sourceLocation)
    #expect(finished.errorLines.count == 1, "\(finished.error)", sourceLocation: sourceLocation)
    #expect(
      finished.error.hasPrefix("cairn: "), "\(finished.error)", sourceLocation: sourceLocation)
    for text in says {
      #expect(
        finished.error.contains(text), "\(finished.error)", sourceLocation: sourceLocation)
    }
  }

  @Test(
    "keys are told apart by their bytes, and those of names that are no UTF-8 can be given as listed"
  )
  func keysAreBytes() throws {
    let cluster = try RealCluster(nodes: 1)
    try cluster.succeed("mb", "bucket")
    let keys = ["é", "e\u{301}", "K", "\u{212A}", "d/", "d/\u{301}", "d/x", "new\nline", "tab\t"]
    for (index, key) in keys.enumerated() {
      try cluster.succeed("put", "-", "cairn://bucket/" + key, input: Data("\(index)".utf8))
    }
    func listed() throws -> [[UInt8]] {
      try cluster.succeed("ls", "-r", "--json", "cairn://bucket").text.utf8.split(separator: 10).map
      {
        let entry = try JSONSerialization.jsonObject(with: Data($0)) as? [String: Any]
        return Array(try #require(entry?["key"] as? String).utf8)
      }
    }
    let sorted = keys.map { Array($0.utf8) }.sorted { $0.lexicographicallyPrecedes($1) }
    #expect(try listed() == sorted)
    for (index, key) in keys.enumerated() {
      #expect(try cluster.succeed("cat", "cairn://bucket/" + key).text == "\(index)")
    }
    // Equal to `String`, two objects to us.
    try cluster.succeed("cp", "cairn://bucket/é", "cairn://bucket/e\u{301}")
    #expect(try cluster.succeed("cat", "cairn://bucket/e\u{301}").text == "0")
    try cluster.succeed("mv", "cairn://bucket/K", "cairn://bucket/\u{212A}")
    #expect(try cluster.succeed("cat", "cairn://bucket/\u{212A}").text == "2")
    expect(try cluster.run(["stat", "cairn://bucket/K"]), status: 1, says: "no such key")
    try cluster.succeed("rm", "cairn://bucket/e\u{301}")
    #expect(try cluster.succeed("cat", "cairn://bucket/é").text == "0")

    let odd = Array((cluster.folder + "/odd").utf8) + [0xFF, 0]
    let descriptor = odd.withUnsafeBytes {
      open($0.baseAddress!.assumingMemoryBound(to: CChar.self), O_CREAT | O_WRONLY, 0o644)
    }
    try #require(descriptor >= 0)
    try FileHandle(fileDescriptor: descriptor, closeOnDealloc: true).write(
      contentsOf: Data("odd".utf8))
    try shell(cluster, #"mkdir "$FOLDER/tree"; mv "$FOLDER"/odd* "$FOLDER/tree""#)
    try cluster.succeed("put", "-r", cluster.folder + "/tree", "cairn://bucket/tree")
    let key = try #require(listed().last { $0.starts(with: "tree/o".utf8) })
    let name = "cairn://bucket/" + String(decoding: key, as: UTF8.self)
    #expect(try cluster.succeed("cat", name).text == "odd")
    try cluster.succeed("rm", name)
    expect(try cluster.run(["stat", name]), status: 1, says: "no such key", "odd\\xFF")
  }

  @Test("an error is one line although the name in it has several")
  func lineBreaks() throws {
    let cluster = try RealCluster(nodes: 1)
    try cluster.succeed("mb", "bucket")
    expect(try cluster.run(["stat", "cairn://bucket/a\nb"]), status: 1, says: #"a\nb"#)
    expect(try cluster.run(["a\nb"]), status: 2, says: #"a\nb"#)
    expect(try cluster.run(["put", "/a\nb", "cairn://bucket/k"]), status: 1, says: #"/a\nb"#)
  }

  @Test("objects that would be restored to one place are refused before anything is written")
  func onePlace() throws {
    let cluster = try RealCluster(nodes: 1)
    try cluster.succeed("mb", "bucket")
    try cluster.succeed("put", "-", "cairn://bucket/p", input: Data("outer".utf8))
    try cluster.succeed("put", "-", "cairn://bucket/p/p", input: Data("inner".utf8))
    try cluster.succeed("put", "-", "cairn://bucket/q/a", input: Data("plain".utf8))
    try cluster.succeed("put", "-", "cairn://bucket/q/a/", input: Data("slash".utf8))
    for (prefix, key) in [("p", "p/p"), ("q", "q/a/")] {
      let back = cluster.folder + "/back-" + prefix
      expect(
        try cluster.run(["get", "-r", "cairn://bucket/" + prefix, back]), status: 1,
        says: "restored to the same place: " + key)
      #expect(!FileManager.default.fileExists(atPath: back))
    }
  }

  @Test("cp says which bucket or key is missing")
  func whichIsMissing() throws {
    let cluster = try RealCluster(nodes: 1)
    try cluster.succeed("mb", "bucket")
    try cluster.succeed("put", "-", "cairn://bucket/k", input: Data("x".utf8))
    let cases = [
      ("cairn://bucket/k", "cairn://none/k", "no such bucket: cairn://none/k"),
      ("cairn://none/k", "cairn://bucket/k", "no such bucket: cairn://none/k"),
      ("cairn://bucket/none", "cairn://bucket/k", "no such key: cairn://bucket/none"),
    ]
    for (source, target, says) in cases {
      expect(try cluster.run(["cp", source, target]), status: 1, says: says + "\n")
    }
    let copied = try cluster.succeed("cp", "--json", "cairn://bucket/k", "cairn://bucket/d/")
    #expect(copied.text == #"{"source":"cairn://bucket/k","target":"cairn://bucket/d/k"}"# + "\n")
    let removed = try cluster.succeed("rm", "-r", "--json", "cairn://bucket/")
    #expect(
      removed.text == #"{"bucket":"bucket","key":"d/k"}"# + "\n" + #"{"bucket":"bucket","key":"k"}"#
        + "\n")
  }

  /// Runs a script that knows CAIRN_EXECUTABLE, CAIRN_CONFIG and FOLDER; returns its exit status and both outputs.
  @discardableResult
  private func shell(_ cluster: RealCluster, _ script: String) throws -> (
    status: Int32, said: String
  ) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/bash")
    process.arguments = ["-c", script]
    process.environment = ProcessInfo.processInfo.environment.merging([
      "CAIRN_CONFIG": cluster.directory + "/client.toml", "FOLDER": cluster.folder,
    ]) { $1 }
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let said = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, said)
  }

  @Test(
    "output that does not fit is an error that names it, and leaves nothing under the name that was asked for"
  )
  func fullDestination() throws {
    let cluster = try RealCluster(nodes: 1)
    try cluster.succeed("mb", "bucket")
    try cluster.succeed(
      "put", "-", "cairn://bucket/k", input: Data(Seed(11).generatorBytes(12 << 20)))
    // A limit on the size of files behaves as a full disk does: a part is written, then nothing more.
    for size in [1, 3000, 4096] {
      let limit = #"trap "" XFSZ; ulimit -f \#(size); "#
      let cat = try shell(
        cluster, limit + #""$CAIRN_EXECUTABLE" cat cairn://bucket/k 2>&1 >"$FOLDER/out""#)
      #expect(cat.status == 1 && cat.said == "cairn: File too large: standard output\n", "\(cat)")
      let get = try shell(
        cluster, limit + #""$CAIRN_EXECUTABLE" get cairn://bucket/k "$FOLDER/back""#)
      #expect(
        get.status == 1 && get.said == "cairn: File too large: \(cluster.folder)/back\n", "\(get)")
      let left = try FileManager.default.contentsOfDirectory(atPath: cluster.folder)
      #expect(!left.contains { $0.hasPrefix("back") }, "\(left)")
    }
    let full = try shell(cluster, #""$CAIRN_EXECUTABLE" ls 2>&1 >/dev/full"#)
    #expect(
      full.status == 1 && full.said == "cairn: No space left on device: standard output\n",
      "\(full)")
    // Two after each other into one file: the second goes on where the first ended.
    let both = try shell(
      cluster,
      #"("$CAIRN_EXECUTABLE" cat --range 0-9 cairn://bucket/k; "$CAIRN_EXECUTABLE" cat --range 10- cairn://bucket/k) >"$FOLDER/both"; "$CAIRN_EXECUTABLE" cat cairn://bucket/k | cmp - "$FOLDER/both""#
    )
    #expect(both.status == 0, "\(both)")
    // Who stops reading has enough.
    let head = try shell(
      cluster,
      #""$CAIRN_EXECUTABLE" cat cairn://bucket/k | head -c 10 >/dev/null; exit ${PIPESTATUS[0]}"#)
    #expect(head.status == 141 && head.said.isEmpty, "\(head)")
  }

  @Test("a pipe or device that is the destination is written to, not replaced by a file")
  func specialDestination() throws {
    let cluster = try RealCluster(nodes: 1)
    try cluster.succeed("mb", "bucket")
    let bytes = Data(Seed(13).generatorBytes(3 << 20))
    try cluster.succeed("put", "-", "cairn://bucket/k", input: bytes)
    let cairn = #"timeout 60 "$CAIRN_EXECUTABLE" "#
    let pipe = try shell(
      cluster,
      #"mkfifo "$FOLDER/pipe"; cat "$FOLDER/pipe" >"$FOLDER/back" & "#
        // Until the reader is there, the pipe refuses.
        + #"until [ -e "$FOLDER/back" ]; do :; done; until "#
        + cairn + #"get cairn://bucket/k "$FOLDER/pipe" 2>"$FOLDER/error"; "#
        + #"do grep -q 'No such device' "$FOLDER/error" || exit 3; done; wait; [ -p "$FOLDER/pipe" ]"#
    )
    #expect(pipe.status == 0, "\(pipe)")
    #expect(FileManager.default.contents(atPath: cluster.folder + "/back") == bytes)
    let unread = try shell(cluster, cairn + #"get cairn://bucket/k "$FOLDER/pipe""#)
    #expect(
      unread.status == 1
        && unread.said == "cairn: No such device or address: \(cluster.folder)/pipe\n", "\(unread)")
    // Through a link, as /dev/stdout is one.
    let linked = try shell(
      cluster,
      #"ln -s /dev/fd/3 "$FOLDER/link"; "# + cairn
        + #"get cairn://bucket/k "$FOLDER/link" 3>&1 >"$FOLDER/none" | cmp - "$FOLDER/back" && [ -L "$FOLDER/link" ]"#
    )
    #expect(linked.status == 0 && linked.said.isEmpty, "\(linked)")
    let file = try shell(
      cluster,
      #"cd "$FOLDER"; mkdir d; echo old >d/file; ln -s d/file one; ln -s "$FOLDER/one" two; ln -s two loop; "#
        + cairn
        + #"get cairn://bucket/k loop; cmp back d/file && [ -L loop -a -L two -a -L one ]; "#
        + #"ln -s b a; ln -s a b; "# + cairn + #"get cairn://bucket/k a"#)
    #expect(file.status == 1, "\(file)")
    #expect(file.said.hasPrefix("cairn: Too many levels of symbolic links: "), "\(file)")
    #expect(file.said.split(separator: "\n").count == 1, "\(file)")
  }

  @Test("names as long as a file system allows come back")
  func longNames() throws {
    let cluster = try RealCluster(nodes: 1)
    try cluster.succeed("mb", "bucket")
    let tree = cluster.folder + "/tree"
    // The last 20 bytes are where a name for the draft does not fit any more.
    for length in 230...255 {
      let name = "/" + String(repeating: "n", count: length - 1)
      try FileManager.default.createDirectory(
        atPath: tree + name + "d", withIntermediateDirectories: true)
      try Data("\(length)".utf8).write(to: URL(fileURLWithPath: tree + name + "f"))
      try FileManager.default.createSymbolicLink(
        atPath: tree + name + "l", withDestinationPath: "to \(length)")
    }
    // Each such byte takes four of the 1,024 that a key may have.
    try shell(cluster, #"touch "$FOLDER/tree/$(printf '\377%.0s' $(seq 250))""#)
    try cluster.succeed("put", "-r", tree, "cairn://bucket/tree")
    let back = cluster.folder + "/back"
    try cluster.succeed("get", "-r", "cairn://bucket/tree", back)
    #expect(try difference(tree, back) == nil)
    let longest = String(repeating: "n", count: 254) + "f"
    try cluster.succeed("get", "cairn://bucket/tree/" + longest, back + "/" + longest)
    #expect(try difference(tree, back) == nil)
  }

  @Test(
    "standard descriptors that are closed are errors where they are needed, and nothing else gets their numbers"
  )
  func closedDescriptors() throws {
    let cluster = try RealCluster(nodes: 1)
    try cluster.succeed("mb", "bucket")
    let bytes = Data(Seed(12).generatorBytes(3 << 20))
    try bytes.write(to: URL(fileURLWithPath: cluster.folder + "/file"))
    let cairn = #"timeout 60 "$CAIRN_EXECUTABLE" "#
    let put = try shell(cluster, cairn + "put - cairn://bucket/none <&-")
    #expect(
      put.status == 1 && put.said == "cairn: Bad file descriptor: cairn://bucket/none\n", "\(put)")
    #expect(try cluster.run(["stat", "cairn://bucket/none"]).status == 1)
    let ls = try shell(cluster, cairn + "ls >&-")
    #expect(ls.status == 1 && ls.said == "cairn: Bad file descriptor: standard output\n", "\(ls)")
    let cat = try shell(cluster, cairn + "cat cairn://bucket/none 2>&-")
    #expect(cat.status == 1 && cat.said.isEmpty, "\(cat)")
    for (source, target) in [
      ("$FOLDER/file", "cairn://bucket/k"), ("cairn://bucket/k", "$FOLDER/back"),
    ] {
      let verb = source.hasPrefix("cairn:") ? "get" : "put"
      let moved = try shell(cluster, cairn + "\(verb) \(source) \(target) <&- >&- 2>&-")
      #expect(moved.status == 0, "\(moved)")
    }
    #expect(FileManager.default.contents(atPath: cluster.folder + "/back") == bytes)
  }

  @Test("a terminal that goes away ends the command, unless it was told to go on")
  func hangUp() throws {
    let cluster = try RealCluster(nodes: 1)
    try cluster.succeed("mb", "bucket")
    func script(_ how: String) -> String {
      // Signals count from when the process waits for them.
      """
      mkfifo "$FOLDER/pipe"
      env --\(how)-signal=HUP "$CAIRN_EXECUTABLE" put - cairn://bucket/\(how) <"$FOLDER/pipe" &
      exec 3>"$FOLDER/pipe"
      rm "$FOLDER/pipe"
      while kill -0 $! && ! ls -l /proc/$!/fd 2>/dev/null | grep -q signalfd; do :; done
      printf hello >&3
      kill -HUP $!
      exec 3>&-
      wait $!
      """
    }
    let ignored = try shell(cluster, script("ignore"))
    #expect(ignored.status == 0 && ignored.said.isEmpty, "\(ignored)")
    #expect(try cluster.succeed("cat", "cairn://bucket/ignore").text == "hello")
    let ended = try shell(cluster, script("default").replacing("exec 3>&-\n", with: ""))
    #expect(ended.status == 129 && ended.said == "cairn: interrupted\n", "\(ended)")
    #expect(try cluster.run(["stat", "cairn://bucket/default"]).status == 1)
  }

  @Test("a file that changes while it is put is stored as it was at one moment, or refused")
  func changingFile() throws {
    let cluster = try RealCluster(nodes: 1)
    try cluster.succeed("mb", "bucket")
    let path = cluster.folder + "/file"
    // Each 4 KiB has a number of its own, so that nothing is a duplicate.
    let base = Data(Seed(12).generatorBytes(4 << 20))
    var number = 0
    func content(_ byteCount: Int) -> Data {
      var content = Data(capacity: byteCount)
      while content.count < byteCount {
        var part = base
        for offset in stride(from: 0, to: part.count, by: 4096) {
          number += 1
          withUnsafeBytes(of: number) { part.replaceSubrange(offset..<offset + 8, with: $0) }
        }
        content.append(part)
      }
      return content
    }
    var bytes = Data()

    /// A put that is stopped when some of its file is stored. One that was too quick is made again, of a larger file.
    func putStopped(_ change: () throws -> Void) throws -> Finished {
      for doubling in 0..<4 {
        bytes = content((64 << 20) << doubling)
        try bytes.write(to: URL(fileURLWithPath: path))
        try cluster.succeed("put", "-", "cairn://bucket/other/k", input: Data("x".utf8))
        try cluster.succeed("rm", "-r", "cairn://bucket/other")
        let upload = try cluster.start(["put", path, "cairn://bucket/file"])
        let before = try cluster.usage()["uniqueBytes"] ?? 0
        while upload.process.isRunning, try cluster.usage()["uniqueBytes"] ?? 0 <= before {}
        kill(upload.process.processIdentifier, SIGSTOP)
        if upload.process.isRunning {
          try change()
          kill(upload.process.processIdentifier, SIGCONT)
          return upload.wait()
        }
        _ = upload.wait()
        try cluster.succeed("rm", "cairn://bucket/file")
      }
      throw StillTooQuick()
    }
    func writeOver(_ offset: Int) throws {
      let handle = try #require(FileHandle(forWritingAtPath: path))
      try handle.seek(toOffset: UInt64(offset))
      try handle.write(contentsOf: Data("changed".utf8))
      try handle.close()
      bytes.replaceSubrange(offset..<offset + 7, with: Data("changed".utf8))
    }
    // What was read long ago, and what is still to be read: a mix of old and new if nobody looked.
    let changed = try putStopped {
      try writeOver(0)
      try writeOver(bytes.count - 7)
    }
    #expect(changed.status == 0, "\(changed.error)")
    #expect(try cluster.succeed("cat", "cairn://bucket/file").output == bytes)

    try cluster.succeed("rm", "cairn://bucket/file")
    let shrunk = try putStopped { truncate(path, 1000) }
    #expect(shrunk.status == 0, "\(shrunk.error)")
    #expect(try cluster.succeed("cat", "cairn://bucket/file").output == bytes[..<1000])

    // One that never holds still is refused, and its neighbours are stored all the same.
    try cluster.succeed("rm", "-r", "cairn://bucket/")
    let tree = cluster.folder + "/tree"
    try FileManager.default.createDirectory(atPath: tree, withIntermediateDirectories: true)
    // Half a gibibyte, all hole: however rarely this process has its turn, it writes while the file is read.
    try Data().write(to: URL(fileURLWithPath: tree + "/busy"))
    try #require(truncate(tree + "/busy", 512 << 20) == 0)
    try Data("calm".utf8).write(to: URL(fileURLWithPath: tree + "/calm"))
    let upload = try cluster.start(["put", "-r", tree, "cairn://bucket/tree"])
    let busy = try #require(FileHandle(forWritingAtPath: tree + "/busy"))
    while upload.process.isRunning {
      try busy.seek(toOffset: 0)
      try busy.write(contentsOf: Data("busy".utf8))
      usleep(500)
    }
    let refused = upload.wait()
    #expect(refused.status == 1)
    #expect(refused.errorLines.count == 2, "\(refused.error)")
    #expect(refused.errorLines.first == "cairn: changes while it is read: \(tree)/busy")
    expect(try cluster.run(["stat", "cairn://bucket/tree/busy"]), status: 1, says: "no such key")
    #expect(try cluster.succeed("cat", "cairn://bucket/tree/calm").text == "calm")
  }

  @Test("files whose size says nothing are read to their end")
  func unsizedFiles() throws {
    let cluster = try RealCluster(nodes: 1)
    try cluster.succeed("mb", "bucket")
    try cluster.succeed("put", "/proc/version", "cairn://bucket/version")
    let expected = FileManager.default.contents(atPath: "/proc/version")
    #expect(try cluster.succeed("cat", "cairn://bucket/version").output == expected)
  }

  private func isOpen(_ path: String, by pid: Int32) -> Bool {
    let folder = "/proc/\(pid)/fd"
    let open = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    return open.contains {
      (try? FileManager.default.destinationOfSymbolicLink(atPath: folder + "/" + $0)) == path
    }
  }

  @Test("a source that vanishes while the tree is put fails by name, the others are stored")
  func vanishingSource() throws {
    let cluster = try RealCluster(nodes: 1)
    try cluster.succeed("mb", "bucket")
    let tree = cluster.folder + "/tree"
    try FileManager.default.createDirectory(atPath: tree, withIntermediateDirectories: true)
    // A gibibyte, all hole: the put is at it for long enough to be stopped while it is.
    try Data().write(to: URL(fileURLWithPath: tree + "/a"))
    try #require(truncate(tree + "/a", 1 << 30) == 0)
    try Data("b".utf8).write(to: URL(fileURLWithPath: tree + "/b"))
    try Data("c".utf8).write(to: URL(fileURLWithPath: tree + "/c"))
    let upload = try cluster.start(["put", "-r", "-j", "1", tree, "cairn://bucket/t"])
    while upload.process.isRunning, !isOpen(tree + "/a", by: upload.process.processIdentifier) {}
    kill(upload.process.processIdentifier, SIGSTOP)
    try FileManager.default.removeItem(atPath: tree + "/b")
    kill(upload.process.processIdentifier, SIGCONT)
    let finished = upload.wait()
    #expect(finished.status == 1)
    #expect(
      finished.error
        == "cairn: No such file or directory: \(tree)/b\ncairn: 1 of 4 were not stored\n")
    let keys = try cluster.succeed("ls", "-r", "--json", "cairn://bucket").text.split(
      separator: "\n")
    #expect(keys.count == 3 && keys.contains { $0.contains("t/c") })
  }

  @Test("options of cluster up are checked before anything is made, and later must say the same")
  func clusterOptions() throws {
    let cluster = try RealCluster(nodes: 1)
    let fresh = cluster.folder + "/fresh"
    let wrong: [([String], Int32, String)] = [
      (["--capacity", "much"], 2, "much"), (["--scheme", "6"], 2, "6"),
      (["--security", "perhaps"], 2, "perhaps"), (["--nodes", "0"], 2, "0"),
      (["--devices", "x"], 2, "x"), (["--timeout", "0"], 2, "0"),
      (["--nodes", "2", "--scheme", "2+1"], 1, "3 nodes"),
    ]
    for (options, status, says) in wrong {
      expect(
        try cluster.run(["cluster", "up", "--dir", fresh] + options), status: status, says: says)
      #expect(!FileManager.default.fileExists(atPath: fresh))
    }
    let other: [([String], String)] = [
      (["--nodes", "2"], "1 node,"), (["--scheme", "1+1"], "1+0"),
      (["--security", "always"], "automatic"), (["--devices", "2"], "1 device a node,"),
      (["--capacity", "1GiB"], "64 GiB"), (["--port", "1"], "--port"),
    ]
    for (options, says) in other {
      expect(
        try cluster.run(["cluster", "up", "--dir", cluster.directory] + options), status: 1,
        says: says)
    }
    expect(
      try cluster.run(["cluster", "up", "--dir", cluster.directory, "--scheme", "6"]), status: 2,
      says: "6")
    let same = [
      "--nodes", "1", "--scheme", "1+0", "--capacity", "64GiB", "--security", "automatic",
    ]
    #expect(try cluster.run(["cluster", "up", "--dir", cluster.directory] + same).status == 0)
  }

  @Test(
    "a node whose directory is deleted under it takes no more blocks, and the next start says so")
  func nodeDirectoryDeleted() throws {
    let cluster = try RealCluster(nodes: 3)
    try cluster.succeed("mb", "bucket")
    let bytes = Data(Seed(15).generatorBytes(3 << 20))
    try cluster.succeed("put", "-", "cairn://bucket/before", input: bytes)
    try FileManager.default.removeItem(atPath: cluster.directory + "/node-2/data/device-1")
    let deadline = Date().addingTimeInterval(30)
    while try cluster.daemons().first(where: { $0.name == "node-2" })?.state != "device failed" {
      try #require(Date() < deadline, "the node goes on without its device's directory")
      usleep(50_000)
    }
    let more = Data(Seed(16).generatorBytes(3 << 20))
    try cluster.succeed("put", "-", "cairn://bucket/after", input: more)
    let stat = try cluster.succeed("stat", "--json", "cairn://bucket/after").text
    #expect(stat.contains(#""scheme":"1+1""#), "\(stat)")
    try cluster.killDaemons { $0.name == "node-2" }
    expect(
      try cluster.run(["cluster", "up", "--dir", cluster.directory, "--timeout", "20"]), status: 1,
      says: "node-2 ended at start", "stood here and is gone")
    #expect(try cluster.succeed("cat", "cairn://bucket/before").output == bytes)
    #expect(try cluster.succeed("cat", "cairn://bucket/after").output == more)
  }

  @Test("a bench that is interrupted takes back what it made on a gateway, and on a cluster")
  func interruptedBench() throws {
    let cluster = try RealCluster(nodes: 1)
    let status = try cluster.run(["cluster", "status", "--dir", cluster.directory, "--json"])
    let object = try JSONSerialization.jsonObject(with: status.output) as? [String: Any]
    let s3 = try #require(object?["s3"] as? [String: String])
    for place in [
      "s3 --endpoint=\(s3["endpoint"] ?? "")", "cluster --config=\(cluster.directory)/client.toml",
    ] {
      let ended = try shell(
        cluster,
        """
        export AWS_ACCESS_KEY_ID='\(s3["accessKey"] ?? "")' AWS_SECRET_ACCESS_KEY='\(s3["secretKey"] ?? "")'
        "$CAIRN_EXECUTABLE" bench \(place) --rw=write --bs=256k --size=64m --iodepth=16 --time_based \
          --runtime=60 --output-format=json > "$FOLDER/report" &
        bench=$!
        while kill -0 $bench; do
          made=$("$CAIRN_EXECUTABLE" ls | grep -o 'cairn://cairn-bench.*')
          [ -n "$made" ] && [ "$("$CAIRN_EXECUTABLE" ls -r "$made" | wc -l)" -ge 20 ] && break
        done
        kill -TERM $bench
        wait $bench
        """)
      #expect(ended.status == 143, "\(place): \(ended.said)")
      #expect(try cluster.succeed("ls").text == "", "\(place): \(ended.said)")
    }
  }

  @Test("one 'cluster up' at a time: another could start the same daemons and forget who runs")
  func upInTurn() throws {
    // In a directory whose name is no UTF-8 and means something to a shell.
    let cluster = try RealCluster(nodes: 1)
    let said = try shell(
      cluster,
      #"""
      dir="$FOLDER/$(printf "o'd d\377")"
      run() { timeout 100 "$CAIRN_EXECUTABLE" "$@"; }
      mkdir "$dir"; flock "$dir/lock" "$CAIRN_EXECUTABLE" cluster up --dir "$dir" --nodes 1 && exit 3
      eval "$(run cluster up --dir "$dir" --nodes 1 | tail -1)"
      run mb bucket && run cluster down --dir "$dir" -q || exit 4
      for i in 1 2 3 4; do run cluster up -q --dir "$dir" 2>/dev/null & done; wait
      run cluster up -q --dir "$dir" && run ls && run cluster down --dir "$dir"
      """#)
    #expect(said.status == 0, "\(said)")
    let lines = said.said.split(separator: "\n")
    #expect(lines.count == 3, "\(said)")
    #expect(lines.first?.hasPrefix("cairn: another 'cairn cluster up' is at work") == true)
    #expect(lines.dropFirst().first?.hasSuffix("cairn://bucket") == true)
    #expect(lines.last == "stopped 3 daemons")
  }

  @Test(
    "a full cluster refuses what does not fit, keeps what it has, and takes more when space returns"
  )
  func fullDevices() throws {
    let cluster = try RealCluster(nodes: 1, options: ["--capacity", "300MiB"])
    try cluster.configureCoordinator("deletion_grace = \"1s\"")
    try cluster.succeed("mb", "bucket")
    var stored: [Data] = []
    while true {
      let bytes = Data(Seed(UInt64(stored.count)).generatorBytes(40 << 20))
      let finished = try cluster.run(
        ["put", "-", "cairn://bucket/\(stored.count)"], input: bytes)
      if finished.status != 0 {
        expect(finished, status: 1, says: "full")
        break
      }
      stored.append(bytes)
      try #require(stored.count < 20)
    }
    #expect(!stored.isEmpty)
    expect(
      try cluster.run(["stat", "cairn://bucket/\(stored.count)"]), status: 1, says: "no such key")
    for (index, bytes) in stored.enumerated() {
      #expect(try cluster.succeed("cat", "cairn://bucket/\(index)").output == bytes)
    }
    try cluster.succeed("rm", "-r", "cairn://bucket/")
    let deadline = Date().addingTimeInterval(60)
    while try cluster.run(["put", "-", "cairn://bucket/again"], input: stored[0]).status != 0 {
      let usage = try cluster.usage()
      try #require(Date() < deadline, "space did not return: \(usage)")
      usleep(200_000)
    }
    #expect(try cluster.succeed("cat", "cairn://bucket/again").output == stored[0])
  }

  @Test("daemons that find a stranger's data, port or directory say so, and the cluster lives on")
  func daemonsOutOfPlace() throws {
    let cluster = try RealCluster(nodes: 3)
    try cluster.succeed("mb", "bucket")
    let bytes = Data(Seed(14).generatorBytes(2 << 20))
    try cluster.succeed("put", "-", "cairn://bucket/k", input: bytes)
    let folder = cluster.directory
    func config(_ name: String) -> String { folder + "/" + name + "/config.toml" }
    let manager = FileManager.default

    // The same daemon twice.
    let twice = try cluster.run(["node", "--config", config("node-1")])
    #expect(twice.status == 1)
    #expect(
      twice.errorLines.last?.hasPrefix("cairn: another process has the directory open") == true)

    // A second coordinator with a directory of its own: it never leads beside the first.
    try manager.createDirectory(
      atPath: folder + "/coordinator-2", withIntermediateDirectories: true)
    let text = try String(contentsOfFile: config("coordinator-1"), encoding: .utf8)
    let address = try #require(cluster.daemons().first { $0.role == "coordinator" }).address
    let port = try freePort()
    try text.replacingOccurrences(of: address, with: "127.0.0.1:\(port)")
      .write(toFile: config("coordinator-2"), atomically: true, encoding: .utf8)
    let second = try cluster.start(["coordinator", "--config", config("coordinator-2")])
    let client = try String(contentsOfFile: folder + "/client.toml", encoding: .utf8)
    try client.replacingOccurrences(of: address, with: "127.0.0.1:\(port)")
      .write(toFile: folder + "/second.toml", atomically: true, encoding: .utf8)
    let asked = try cluster.run(["ls"], config: folder + "/second.toml")
    #expect(asked.status == 1 && asked.errorLines.count == 1, "\(asked.error)")
    #expect(try cluster.succeed("cat", "cairn://bucket/k").output == bytes)
    second.process.terminate()
    _ = second.wait()
    try manager.removeItem(atPath: folder + "/coordinator-2")

    // The coordinator's directory is deleted under it: it ends, and a fresh one rebuilds from the nodes.
    try manager.removeItem(atPath: folder + "/coordinator-1/data")
    let deadline = Date().addingTimeInterval(30)
    while try cluster.daemons().first(where: { $0.role == "coordinator" })?.pid != nil {
      try #require(Date() < deadline, "the coordinator goes on without its directory")
      usleep(50_000)
    }
    try cluster.up()
    #expect(try cluster.succeed("cat", "cairn://bucket/k").output == bytes)

    // Two nodes' data exchanged, then put right again.
    func exchange() throws {
      try manager.moveItem(atPath: folder + "/node-1/data", toPath: folder + "/aside")
      try manager.moveItem(atPath: folder + "/node-2/data", toPath: folder + "/node-1/data")
      try manager.moveItem(atPath: folder + "/aside", toPath: folder + "/node-2/data")
    }
    try cluster.killDaemons { $0.name == "node-1" || $0.name == "node-2" }
    try exchange()
    expect(
      try cluster.run(["cluster", "up", "--dir", folder, "--timeout", "20"]), status: 1,
      says: "ended at start", "belongs to node")
    try cluster.killDaemons { $0.name == "node-1" || $0.name == "node-2" }
    try exchange()

    // Somebody else has the port of a node that is to start.
    let taken = try #require(cluster.daemons().first { $0.name == "node-1" }).address
    let listener = try listen(try #require(UInt16(taken.split(separator: ":").last ?? "")))
    expect(
      try cluster.run(["cluster", "up", "--dir", folder, "--timeout", "20"]), status: 1,
      says: "node-1 ended at start", "Address already in use", taken)
    close(listener)
    try cluster.up()
    #expect(try cluster.succeed("cat", "cairn://bucket/k").output == bytes)
  }

  private func listen(_ port: UInt16) throws -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var reuse: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &reuse, socklen_t(MemoryLayout<Int32>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    try #require(bound == 0 && Glibc.listen(descriptor, 8) == 0, "port \(port): errno \(errno)")
    return descriptor
  }

  private func freePort() throws -> UInt16 {
    let descriptor = try listen(0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    _ = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
    }
    return UInt16(bigEndian: address.sin_port)
  }
}

/// Every put ended before it could be stopped.
private struct StillTooQuick: Error {}
