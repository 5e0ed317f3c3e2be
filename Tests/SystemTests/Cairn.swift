import Foundation
import TestSupport
import Testing

/// The executable under test, as `scripts/test` built it, and a folder that goes when the test ends.
let cairnPath: String? = environment("CAIRN_EXECUTABLE")

struct Finished {
  var status: Int32
  var output: Data
  var error: String
  var text: String { String(decoding: output, as: UTF8.self) }
  var errorLines: [Substring] { error.split(separator: "\n") }
}

/// A real cluster of daemons under a temporary folder. Stopped, with SIGKILL where needed, when dropped.
final class RealCluster {
  let folder: String
  let directory: String

  init(nodes: Int, scheme: String? = nil, options: [String] = []) throws {
    folder = NSTemporaryDirectory() + "cairn-test-" + UUID().uuidString
    directory = folder + "/cluster"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    var words = ["cluster", "up", "--dir", directory, "--nodes", "\(nodes)"]
    if let scheme { words += ["--scheme", scheme] }
    let up = try run(words + options)
    try #require(up.status == 0, "cluster up: \(up.error)")
  }

  deinit {
    for daemon in (try? daemons()) ?? [] {
      if let pid = daemon.pid { kill(pid, SIGKILL) }
    }
    try? FileManager.default.removeItem(atPath: folder)
  }

  @discardableResult
  func run(_ words: [String], input: Data? = nil, config: String? = nil) throws -> Finished {
    let process = try start(words, input: input, config: config)
    return process.wait()
  }

  /// As `run`, and the exit status must be 0.
  @discardableResult
  func succeed(_ words: String..., input: Data? = nil) throws -> Finished {
    let finished = try run(words, input: input)
    try #require(finished.status == 0, "cairn \(words.joined(separator: " ")): \(finished.error)")
    return finished
  }

  func start(_ words: [String], input: Data? = nil, pipe: Pipe? = nil, config: String? = nil) throws
    -> RunningCairn
  {
    try RunningCairn(
      words, input: input, pipe: pipe, folder: folder, config: config ?? directory + "/client.toml")
  }

  struct Daemon {
    var name: String
    var role: String
    var pid: Int32?
    var address: String
    var state: String
  }

  func daemons() throws -> [Daemon] {
    let status = try run(["cluster", "status", "--dir", directory, "--json"])
    let object = try JSONSerialization.jsonObject(with: status.output) as? [String: Any]
    let list = try #require(object?["daemons"] as? [[String: Any]])
    return list.map {
      Daemon(
        name: $0["name"] as? String ?? "", role: $0["role"] as? String ?? "",
        pid: ($0["pid"] as? Int).map(Int32.init), address: $0["address"] as? String ?? "",
        state: $0["state"] as? String ?? "")
    }
  }

  /// SIGKILL; returns when the processes are gone.
  func killDaemons(where isVictim: (Daemon) -> Bool) throws {
    for daemon in try daemons() where isVictim(daemon) {
      guard let pid = daemon.pid else { continue }
      kill(pid, SIGKILL)
      while FileManager.default.fileExists(atPath: "/proc/\(pid)/exe") { usleep(1000) }
    }
  }

  /// Starts the coordinator anew with one more line of configuration.
  func configureCoordinator(_ line: String) throws {
    try killDaemons { $0.role == "coordinator" }
    let path = directory + "/coordinator-1/config.toml"
    let text = try String(contentsOfFile: path, encoding: .utf8)
    try (text + line + "\n").write(toFile: path, atomically: true, encoding: .utf8)
    try up()
  }

  func up() throws {
    let finished = try run(["cluster", "up", "--dir", directory])
    try #require(finished.status == 0, "cluster up: \(finished.error)")
  }

  func usage() throws -> [String: UInt64] {
    let finished = try succeed("df", "--json")
    let object = try JSONSerialization.jsonObject(with: finished.output) as? [String: Any]
    return (object ?? [:]).compactMapValues { ($0 as? NSNumber)?.uint64Value }
  }
}

/// A `cairn` that was started and not waited for yet.
final class RunningCairn {
  let process = Process()
  private let outputPath: String
  private let errorPath: String

  init(_ words: [String], input: Data?, pipe: Pipe?, folder: String, config: String) throws {
    let name = UUID().uuidString
    outputPath = folder + "/" + name + ".out"
    errorPath = folder + "/" + name + ".err"
    _ = FileManager.default.createFile(atPath: outputPath, contents: nil)
    _ = FileManager.default.createFile(atPath: errorPath, contents: nil)
    process.executableURL = URL(fileURLWithPath: try #require(cairnPath))
    process.arguments = words
    process.environment = ProcessInfo.processInfo.environment.merging(["CAIRN_CONFIG": config]) {
      $1
    }
    process.standardOutput = FileHandle(forWritingAtPath: outputPath)
    process.standardError = FileHandle(forWritingAtPath: errorPath)
    if let pipe {
      process.standardInput = pipe
    } else if let input {
      let inputPath = folder + "/" + name + ".in"
      _ = FileManager.default.createFile(atPath: inputPath, contents: input)
      process.standardInput = FileHandle(forReadingAtPath: inputPath)
    } else {
      process.standardInput = FileHandle.nullDevice
    }
    try process.run()
  }

  func wait() -> Finished {
    process.waitUntilExit()
    let status =
      process.terminationReason == .exit
      ? process.terminationStatus : 128 + process.terminationStatus
    return Finished(
      status: status, output: FileManager.default.contents(atPath: outputPath) ?? Data(),
      error: String(
        decoding: FileManager.default.contents(atPath: errorPath) ?? Data(), as: UTF8.self))
  }
}

/// A file of secrets that only its owner may read, as daemons and clients want it.
func writeSecret(_ text: String, to path: String) throws {
  try text.write(toFile: path, atomically: true, encoding: .utf8)
  try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
}

/// A small tree with what trees have: nested folders, empty ones, links, odd names and times, duplicates, sizes
/// from nothing to several stripes.
func makeTree(at root: String, seed: Seed, byteCount: Int) throws {
  var random = seed.generator
  let manager = FileManager.default
  try manager.createDirectory(atPath: root + "/empty", withIntermediateDirectories: true)
  try manager.createDirectory(atPath: root + "/deep/er/est", withIntermediateDirectories: true)
  var made: [Data] = []
  func write(_ path: String, _ data: Data) throws {
    try data.write(to: URL(fileURLWithPath: path))
    made.append(data)
    chmod(path, mode_t([0o644, 0o600, 0o755, 0o444][Int(random.next() % 4)]))
    var times = [timeval(tv_sec: Int(random.next() % 1_700_000_000), tv_usec: 123_456), timeval()]
    times[1] = times[0]
    utimes(path, times)
  }
  let sizes = [0, 1, 2, 4095, 4096, 4097, 32767, 65536, 131_073, 1 << 20, 5 << 20]
  for (index, size) in sizes.enumerated() {
    try write(root + "/size-\(index)", Data(random.bytes(size)))
  }
  var left = byteCount
  var number = 0
  while left > 0 {
    let size = Int(random.next() % UInt64(number % 10 == 0 ? 4 << 20 : 40_000))
    let data =
      number % 7 == 3 ? made[Int(random.next() % UInt64(made.count))] : Data(random.bytes(size))
    try write(root + "/deep/er/file \(number) é", data)
    left -= max(1, size)
    number += 1
  }
  try write(root + "/deep/-dash", Data("dash".utf8))
  try write(root + "/deep/new\nline", Data("line".utf8))
  try manager.createSymbolicLink(atPath: root + "/link", withDestinationPath: "deep/er")
  try manager.createSymbolicLink(atPath: root + "/dangling", withDestinationPath: "/nowhere/at/all")
  // A name that is no UTF-8.
  let odd = Array((root + "/odd-").utf8) + [0xFF, 0xC3, 0x28, 0]
  let descriptor = odd.withUnsafeBytes {
    open($0.baseAddress!.assumingMemoryBound(to: CChar.self), O_CREAT | O_WRONLY, 0o644)
  }
  try #require(descriptor >= 0)
  close(descriptor)
}

/// Compares two trees with `scripts/compare-trees`; returns its report when they differ.
func difference(_ a: String, _ b: String) throws -> String? {
  let script =
    URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().path + "/scripts/compare-trees"
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  process.arguments = ["python3", script, a, b]
  let pipe = Pipe()
  process.standardOutput = pipe
  try process.run()
  let report = pipe.fileHandleForReading.readDataToEndOfFile()
  process.waitUntilExit()
  return process.terminationStatus == 0 ? nil : String(decoding: report, as: UTF8.self)
}
