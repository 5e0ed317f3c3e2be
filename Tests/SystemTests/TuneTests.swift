import Foundation
import TestSupport
import Testing

private let isRoot = geteuid() == 0

/// Whether this machine makes file systems and mounts them.
private let canMount =
  isRoot
  && ["/usr/sbin/mkfs.ext4", "/usr/bin/mount", "/usr/sbin/losetup"].allSatisfy {
    FileManager.default.isExecutableFile(atPath: $0)
  }

@Suite(
  "tuning", .serialized,
  .enabled(if: cairnPath != nil, "CAIRN_EXECUTABLE names the build (scripts/test)"))
struct TuneTests {
  /// A folder that goes when dropped, with what was mounted in it.
  final class Room {
    let path = NSTemporaryDirectory() + "cairn-tune-test-" + UUID().uuidString
    private var mounts: [String] = []

    init() throws {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit {
      for mount in mounts.reversed() { _ = try? shell("umount -l \"\(mount)\"") }
      try? FileManager.default.removeItem(atPath: path)
    }

    func cairn(_ words: [String]) throws -> Finished {
      try RunningCairn(words, input: nil, pipe: nil, folder: path, config: path + "/none").wait()
    }

    @discardableResult
    func shell(_ script: String) throws -> String {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: "/bin/bash")
      process.arguments = ["-ec", script]
      let pipe = Pipe()
      process.standardOutput = pipe
      process.standardError = pipe
      try process.run()
      let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      process.waitUntilExit()
      try #require(process.terminationStatus == 0, "\(script): \(text)")
      return text
    }

    /// A mounted file system: "tmpfs", "ramfs", or an ext4 image with these options of mkfs.
    func mount(_ type: String, size: String = "256M", options: String = "") throws -> String {
      let place = path + "/mount-\(mounts.count)"
      try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
      switch type {
      case "ext4":
        try shell(
          """
          truncate -s \(size) "\(place).img"
          /usr/sbin/mkfs.ext4 -q -F \(options) "\(place).img"
          mount -o loop "\(place).img" "\(place)"
          """)
      case "ramfs": try shell("mount -t ramfs ramfs \"\(place)\"")
      default: try shell("mount -t \(type) -o size=\(size) \(type) \"\(place)\"")
      }
      mounts.append(place)
      return place
    }

    /// What is in `place` beside what a file system makes itself.
    func names(_ place: String) throws -> [String] {
      try FileManager.default.contentsOfDirectory(atPath: place).filter { $0 != "lost+found" }
    }

    /// A configuration of one node; nobody leads it.
    func node(_ device: String) throws -> String {
      let file = path + "/node.toml"
      try writeSecret(String(repeating: "0f", count: 32), to: path + "/key")
      try """
      name = "n1"
      listen = "127.0.0.1:0"
      coordinators = ["127.0.0.1:1"]
      data = "data"
      key_file = "key"

      [[device]]
      \(device)

      """.write(toFile: file, atomically: true, encoding: .utf8)
      return file
    }

    /// Starts the node, waits for `line` in its log, stops it, and returns the log.
    func log(of config: String, until line: String) throws -> String {
      let log = path + "/" + UUID().uuidString
      _ = FileManager.default.createFile(atPath: log, contents: nil)
      let process = Process()
      process.executableURL = URL(fileURLWithPath: try #require(cairnPath))
      process.arguments = ["node", "--config", config]
      process.standardError = FileHandle(forWritingAtPath: log)
      process.standardOutput = FileHandle(forWritingAtPath: log)
      try process.run()
      var text = ""
      let end = Date().addingTimeInterval(30)
      while Date() < end, process.isRunning {
        text = String(decoding: FileManager.default.contents(atPath: log) ?? Data(), as: UTF8.self)
        if text.contains(line) { break }
        usleep(10_000)
      }
      process.terminate()
      process.waitUntilExit()
      return String(decoding: FileManager.default.contents(atPath: log) ?? Data(), as: UTF8.self)
    }
  }

  private func expect(
    _ finished: Finished, status: Int32, says: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(finished.status == status, "\(finished.error)", sourceLocation: sourceLocation)
    // A node's log stands before it.
    let line = finished.errorLines.last ?? ""
    #expect(line.hasPrefix("cairn: "), "\(finished.error)", sourceLocation: sourceLocation)
    #expect(line.contains(says), "\(finished.error)", sourceLocation: sourceLocation)
  }

  @Test("tune measures a directory, leaves nothing in it, and writes a profile that a node takes")
  func directory() throws {
    let room = try Room()
    let place = room.path + "/device"
    try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
    let file = room.path + "/profile.toml"
    let found = try room.cairn(["tune", place, "--runtime", "1", "--json", "--write", file])
    #expect(found.status == 0, "\(found.error)")
    #expect(try room.names(place) == [])
    let object = try #require(
      try JSONSerialization.jsonObject(with: found.output) as? [String: Any])
    let profile = try #require(object["profile"] as? String)
    let measured = try #require(object["measured"] as? [String: Any])
    let read = try #require(measured["randomRead4KiB"] as? [String: Any])
    #expect(try #require(read["medianMicroseconds"] as? Double) > 0)
    #expect(try #require(measured["seconds"] as? Double) < 10)
    let text = try String(contentsOfFile: file, encoding: .utf8)
    #expect(text.hasPrefix("# Written by cairn tune \(place)\n"))
    #expect(text.contains("\nname = \"\(profile)\"\n"))
    let log = try room.log(
      of: room.node(
        """
        path = "device"
        capacity = "1GiB"
        profile = "profile.toml"
        volume_size = "32MiB"
        """), until: "device tuned")
    #expect(log.contains("device tuned"))
    #expect(log.contains("\(profile), from \(file)"))
    #expect(log.contains("volume_size=32MiB"))
  }

  @Test("text output names profile, reasons, figures and values")
  func text() throws {
    let room = try Room()
    let found = try room.cairn(["tune", room.path, "--runtime", "1"])
    #expect(found.status == 0, "\(found.error)")
    for words in ["because ", "the kernel says", "4 KiB read at random", "concurrent_writes"] {
      #expect(found.text.contains(words), "\(found.text)")
    }
  }

  @Test("a node without a profile takes the automatic one and says so at its start")
  func automatic() throws {
    let room = try Room()
    let log = try room.log(
      of: room.node("path = \"device\"\ncapacity = \"1GiB\""), until: "device tuned")
    #expect(log.contains("device tuned"))
    #expect(log.contains("deviating=nothing"))
  }

  @Test(
    "a device's table that says nonsense is refused with its line",
    arguments: [
      ("path = \"d\"\ncapacity = \"1GiB\"\nprofile = \"floppy\"", "node.toml:10"),
      ("path = \"d\"\ncapacity = \"1GiB\"\nprofile = \"./none.toml\"", "node.toml:10"),
      ("path = \"d\"\ncapacity = \"1GiB\"\nconcurrent_writes = 0", "node.toml:10"),
      ("path = \"d\"\ncapacity = \"1GiB\"\nspindles = 3", "'device[0].spindles': "),
      ("path = \"d\"\ncapacity = \"1MiB\"", "must be at least 32 MiB"),
      ("path = \"d\"\ncapacity = \"1GiB\"\nreserve = \"1MiB\"", "must be at least 8 MiB"),
    ])
  func nonsense(device: String, says: String) throws {
    let room = try Room()
    expect(
      try room.cairn(["node", "--config", room.node(device)]), status: 1, says: says)
  }

  @Test("what tune cannot take is said in one line")
  func refused() throws {
    let room = try Room()
    expect(
      try room.cairn(["tune", room.path + "/none"]), status: 1, says: "no such directory or device")
    try "x".write(toFile: room.path + "/file", atomically: true, encoding: .utf8)
    expect(try room.cairn(["tune", room.path + "/file"]), status: 1, says: "neither a directory")
    expect(
      try room.cairn(["tune", room.path, "--runtime", "0"]), status: 2, says: "--runtime")
    expect(try room.cairn(["tune"]), status: 2, says: "tune")
    // As a running node has it.
    try room.shell("touch \"\(room.path)/lock\"")
    let descriptor = open(room.path + "/lock", O_RDWR)
    defer { close(descriptor) }
    try #require(flock(descriptor, LOCK_EX) == 0)
    expect(try room.cairn(["tune", room.path, "--runtime", "1"]), status: 1, says: "busy")
    #expect(try room.cairn(["tune", room.path, "--runtime", "1", "--read-only"]).status == 0)
  }

  @Test("an interrupted tune leaves nothing behind")
  func interrupted() throws {
    let room = try Room()
    let place = room.path + "/device"
    try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
    for signal in [SIGINT, SIGKILL] {
      let running = try RunningCairn(
        ["tune", place, "--runtime", "60"], input: nil, pipe: nil, folder: room.path,
        config: room.path)
      // It has begun once a file without a name is open.
      let descriptors = "/proc/\(running.process.processIdentifier)/fd"
      let end = Date().addingTimeInterval(20)
      var hasBegun = false
      while !hasBegun, Date() < end {
        hasBegun = ((try? FileManager.default.contentsOfDirectory(atPath: descriptors)) ?? [])
          .contains {
            let name =
              (try? FileManager.default.destinationOfSymbolicLink(atPath: descriptors + "/" + $0))
              ?? ""
            return name.contains(".cairn-tune-") && name.hasSuffix(" (deleted)")
          }
      }
      #expect(hasBegun)
      kill(running.process.processIdentifier, signal)
      let finished = running.wait()
      #expect(finished.status == 128 + signal)
      #expect(try room.names(place) == [])
    }
  }

  // MARK: File systems of our own

  @Test("on tmpfs the profile is tmpfs", .enabled(if: canMount, "needs root to mount"))
  func memory() throws {
    let room = try Room()
    let place = try room.mount("tmpfs")
    let found = try room.cairn(["tune", place, "--runtime", "1"])
    #expect(found.status == 0, "\(found.error)")
    #expect(found.text.hasPrefix("\(place): tmpfs\n"))
    let log = try room.log(
      of: room.node("path = \"\(place)/d\"\ncapacity = \"128MiB\""), until: "device tuned")
    #expect(log.contains("profile=\"tmpfs, as tmpfs keeps its files in memory\""), "\(log)")
  }

  @Test(
    "without direct I/O a profile that requires it is refused, one that prefers it falls back",
    .enabled(if: canMount, "needs root to mount"))
  func noDirect() throws {
    let room = try Room()
    let place = try room.mount("ramfs")
    expect(
      try room.cairn([
        "node", "--config",
        room.node("path = \"\(place)/a\"\ncapacity = \"64MiB\"\nprofile = \"nvme\""),
      ]), status: 1, says: "no direct I/O")
    let log = try room.log(
      of: room.node("path = \"\(place)/b\"\ncapacity = \"64MiB\"\nprofile = \"virtual-disk\""),
      until: "node started")
    #expect(log.contains("node started"), "\(log)")
  }

  @Test(
    "without fallocate a profile that requires it is refused, and tune names what is missing",
    .enabled(if: canMount, "needs root to mount"))
  func noPreallocation() throws {
    let room = try Room()
    // Files in blocks instead of extents: ext4 has no fallocate for them.
    let place = try room.mount("ext4", options: "-O ^extents,^64bit,^has_journal")
    let found = try room.cairn(["tune", place, "--runtime", "1", "--json"])
    let object = try JSONSerialization.jsonObject(with: found.output) as? [String: Any]
    let measured = try #require(object?["measured"] as? [String: Any], "\(found.error)")
    #expect(measured["fallocate"] as? Bool == false)
    #expect(measured["directIO"] as? Bool == true)
    #expect((object?["notes"] as? [String])?.contains { $0.hasPrefix("no fallocate") } == true)
    expect(
      try room.cairn([
        "node", "--config",
        room.node("path = \"\(place)/a\"\ncapacity = \"64MiB\"\npreallocation = \"required\""),
      ]), status: 1, says: "no fallocate")
  }

  @Test(
    "a device too small or read-only is said in one line",
    .enabled(if: canMount, "needs root to mount"))
  func smallAndReadOnly() throws {
    let room = try Room()
    let small = try room.mount("ext4", size: "8M")
    expect(try room.cairn(["tune", small, "--runtime", "1"]), status: 1, says: "too small")
    expect(
      try room.cairn([
        "node", "--config", room.node("path = \"\(small)\"\ncapacity = \"1GiB\""),
      ]), status: 1, says: "too small")
    let sealed = try room.mount("ext4")
    try room.shell("mount -o remount,ro \"\(sealed)\"")
    expect(try room.cairn(["tune", sealed, "--runtime", "1"]), status: 1, says: "read-only")
    let read = try room.cairn(["tune", sealed, "--runtime", "1", "--read-only", "--json"])
    #expect(read.status == 0, "\(read.error)")
    let object = try JSONSerialization.jsonObject(with: read.output) as? [String: Any]
    #expect(object?["readOnly"] as? Bool == true)
    let measured = try #require(object?["measured"] as? [String: Any], "\(read.text)")
    #expect(measured["randomRead4KiB"] is [String: Any])
    #expect((measured["writes1MiB"] as? [Any])?.isEmpty == true)
    expect(
      try room.cairn([
        "node", "--config", room.node("path = \"\(sealed)/d\"\ncapacity = \"64MiB\""),
      ]), status: 1, says: "Read-only file system")
  }

  @Test("a block device is only read", .enabled(if: canMount, "needs root to attach"))
  func block() throws {
    let room = try Room()
    let image = room.path + "/image"
    try room.shell("head -c 96M /dev/urandom > \"\(image)\"")
    let before = try room.shell("sha256sum < \"\(image)\"")
    let device = try room.shell("losetup --show -f \"\(image)\"")
      .trimmingCharacters(in: .whitespacesAndNewlines)
    let outcome = Result { try room.cairn(["tune", device, "--runtime", "1"]) }
    try room.shell("losetup -d \(device)")
    let found = try outcome.get()
    #expect(found.status == 0, "\(found.error)")
    #expect(found.text.contains("(loop)"), "\(found.text)")
    #expect(!found.text.contains("fdatasync"), "\(found.text)")
    #expect(try room.shell("sha256sum < \"\(image)\"") == before)
  }
}
