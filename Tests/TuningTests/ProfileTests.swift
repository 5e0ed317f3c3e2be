import Foundation
import Ring
import Service
import ShardStore
import TestSupport
import Testing

@testable import Tuning

/// The project's folder, from where this file stood when it was compiled.
private let project = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
  .deletingLastPathComponent().deletingLastPathComponent()

@Suite("profiles")
struct ProfileTests {
  private func file(_ path: String) throws -> [UInt8] {
    Array(try Data(contentsOf: project.appendingPathComponent(path)))
  }

  @Test("the built-in profiles are what the files under tuning/ say, value for value")
  func builtIn() throws {
    let names = try FileManager.default.contentsOfDirectory(
      atPath: project.appendingPathComponent("tuning").path
    ).filter { $0.hasSuffix(".toml") }.sorted()
    #expect(names == BuiltInProfiles.all.map { $0.name + ".toml" }.sorted())
    for profile in BuiltInProfiles.all {
      let path = "tuning/\(profile.name).toml"
      let bytes = try file(path)
      // All of them, none from a base.
      #expect(!String(decoding: bytes, as: UTF8.self).contains("\nbase"))
      #expect(try DiskProfile(parsing: bytes, path: path) == profile)
    }
  }

  @Test("every value in a profile's file has its reason above it")
  func reasons() throws {
    for profile in BuiltInProfiles.all {
      var isExplained = false
      for line in String(decoding: try file("tuning/\(profile.name).toml"), as: UTF8.self)
        .split(separator: "\n", omittingEmptySubsequences: false)
      {
        if line.isEmpty { isExplained = false }
        if line.hasPrefix("#") { isExplained = true }
        guard let key = line.split(separator: " ").first,
          DiskProfile.keyNames.contains(String(key))
        else { continue }
        #expect(isExplained, "\(profile.name): \(line)")
      }
    }
  }

  @Test("a profile of any values survives being written and read", arguments: Seed.several)
  func roundTrip(seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<200 {
      let profile = DiskProfile.any(&random)
      let text = profile.text(comments: ["anything\nname = \"x\"", "", "# = \u{7F} \u{2028}"])
      #expect(try DiskProfile(parsing: Array(text.utf8), path: "p") == profile)
    }
  }

  @Test("a file with a base takes from it what it does not say", arguments: Seed.several)
  func base(seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<100 {
      let wanted = DiskProfile.any(&random)
      let base = BuiltInProfiles.all.randomElement(using: &random)!
      var expected = base
      var text = "base = \"\(base.name)\"\nname = \"mine\"\n"
      var own: Set<String> = []
      for line in wanted.lines where Bool.random(using: &random) {
        text += "\(line.key) = \(line.value)\n"
        own.insert(line.key)
      }
      expected.name = "mine"
      let found = try DiskProfile(parsing: Array(text.utf8), path: "p")
      for index in found.lines.indices {
        let key = found.lines[index].key
        let source = own.contains(key) ? wanted : expected
        #expect(found.lines[index].value == source.lines[index].value, "\(key)")
      }
    }
  }

  @Test(
    "what is no profile is refused with its line",
    arguments: [
      ("name = \"x\"", "missing"),
      ("base = \"floppy\"\nname = \"x\"", "p:1"),
      ("base = \"nvme\"", "'name' is missing"),
      ("base = \"nvme\"\nname = \"x\"\nspindles = 4", "unknown key 'spindles': p:3"),
      ("base = \"nvme\"\nname = \"x\"\nconcurrent_writes = 0", "p:3"),
      ("base = \"nvme\"\nname = \"x\"\nconcurrent_writes = \"8\"", "p:3"),
      ("base = \"nvme\"\nname = \"x\"\n\nappend_size = \"5000\"", "multiple of 4 KiB: p:4"),
      ("base = \"nvme\"\nname = \"x\"\nvolume_size = \"1EiB\"", "p:3"),
      ("base = \"nvme\"\nname = \"x\"\ndirect_io = \"maybe\"", "p:3"),
      ("base = \"nvme\"\nname = \"a b\"", "p:2"), ("base = \"nvme\"\nname = \"\"", "p:2"),
      ("base = \"nvme\"\nname = \"x\"\npunching = 1", "p:3"), ("base = ", "p:1"),
    ])
  func refused(text: String, says: String) throws {
    do throws(ConfigurationError) {
      _ = try DiskProfile(parsing: Array(text.utf8), path: "p")
      Issue.record("taken")
    } catch {
      #expect(error.description.contains(says), "\(error)")
      #expect(!error.description.contains("\n"))
    }
  }

  @Test("no bytes make the parser trap", arguments: Seed.several)
  func damage(seed: Seed) throws {
    var random = seed.generator
    let whole = Array(BuiltInProfiles.hdd.text(comments: []).utf8)
    for _ in 0..<500 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(
          in: 0...255, using: &random)
      }
      _ = try? DiskProfile(
        parsing: Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &random))), path: "p")
    }
  }

  @Test("the store gets what the profile says")
  func settings() {
    let settings = BuiltInProfiles.hdd.settings(capacity: ByteSize(UInt64(1) << 40), reserve: nil)
    #expect(settings.volumeByteCount == 1 << 30)
    #expect(settings.largestAppendByteCount == 4 << 20)
    #expect(settings.directIO == .required)
    #expect(settings.capacity == 1 << 40)
    // The virtual disk's are the store's own.
    let plain = StoreSettings(capacity: 1 << 40)
    let virtual = BuiltInProfiles.virtualDisk.settings(
      capacity: ByteSize(UInt64(1) << 40), reserve: nil)
    #expect(plain == virtual)
  }

  // MARK: tuning/os

  @Test("tuning/os sets what cairn tune compares with: sysctls, limits, queues")
  func system() throws {
    func lines(_ path: String) throws -> [String] {
      String(decoding: try file(path), as: UTF8.self).split(separator: "\n").map {
        $0.trimmingCharacters(in: .whitespaces)
      }.filter { !$0.isEmpty && !$0.hasPrefix("#") }
    }
    #expect(
      try lines("tuning/os/sysctl.d/60-cairn.conf")
        == HostSettings.sysctls.map { "\($0.name) = \($0.value)" })
    let limits = try lines("tuning/os/limits.d/60-cairn.conf").map {
      $0.split(separator: " ").joined(separator: " ")
    }
    #expect(limits.contains("cairn - nofile \(HostSettings.fileLimit)"))
    #expect(limits.contains("cairn - memlock \(HostSettings.lockedByteLimit >> 10)"))
    for daemon in ["node", "coordinator"] {
      let unit = try lines("tuning/os/systemd/cairn-\(daemon).service.d/tuning.conf")
      #expect(unit.contains("LimitNOFILE=\(HostSettings.fileLimit)"))
      #expect(unit.contains("LimitMEMLOCK=\(HostSettings.lockedByteLimit >> 20)M"))
    }
    let rules = try lines("tuning/os/udev/60-cairn-disks.rules").joined(separator: "\n")
      .replacingOccurrences(of: "\\\n", with: " ").split(separator: "\n").map(String.init)
    func sets(_ match: String, _ profile: String) throws {
      let rule = try #require(rules.first { $0.contains(match) }, "\(match)")
      let queue = try #require(HostSettings.queue(for: profile))
      #expect(rule.contains("ATTR{queue/scheduler}=\"\(queue.scheduler)\""))
      #expect(rule.contains("ATTR{queue/read_ahead_kb}=\"\(queue.readAheadKiB)\""))
      #expect(
        rule.contains("ATTR{queue/nr_requests}=") == (queue.requestCount != nil), "\(rule)")
      if let count = queue.requestCount {
        #expect(rule.contains("ATTR{queue/nr_requests}=\"\(count)\""))
      }
    }
    try sets("KERNEL==\"nvme", "nvme")
    try sets("ATTR{queue/rotational}==\"0\"", "sata-ssd")
    try sets("ATTR{queue/rotational}==\"1\"", "hdd")
    try sets("KERNEL==\"vd", "virtual-disk")
  }

  @Test("a sysctl holds when it is the same, or, where more is as good, more")
  func sysctls() {
    func sysctl(_ value: String, _ isLeast: Bool) -> HostSettings.Sysctl {
      .init(name: "x", value: value, isLeast: isLeast, reason: "")
    }
    #expect(HostSettings.holds("0", sysctl("0", false)))
    #expect(!HostSettings.holds("2", sysctl("0", false)))
    #expect(HostSettings.holds("8192", sysctl("4096", true)))
    #expect(!HostSettings.holds("128", sysctl("4096", true)))
    #expect(HostSettings.holds("4096\t131072\t33554432", sysctl("4096 131072 16777216", true)))
    #expect(!HostSettings.holds("4096\t16384\t4194304", sysctl("4096 131072 16777216", true)))
    #expect(!HostSettings.holds("", sysctl("1", true)))
    #expect(!HostSettings.holds("many", sysctl("1", true)))
  }
}

extension DiskProfile {
  static func any(_ random: inout SeededGenerator) -> DiskProfile {
    func size(_ range: ClosedRange<UInt64>) -> ByteSize {
      ByteSize(
        UInt64.random(in: range.lowerBound / 4096...range.upperBound / 4096, using: &random) * 4096)
    }
    return DiskProfile(
      name: "p\(random.next())", concurrentWrites: .random(in: 1...256, using: &random),
      appendByteCount: size(4096...16 << 20),
      appendRecordCount: .random(in: 1...512, using: &random),
      volumeByteCount: size(16 << 10...1 << 40),
      directIO: FeatureUse.allCases.randomElement(using: &random)!,
      preallocation: FeatureUse.allCases.randomElement(using: &random)!,
      punchesDeadRanges: .random(using: &random),
      sweepsReads: .random(using: &random),
      compactionPercent: .random(in: 0...90, using: &random),
      indexEntryLimit: .random(in: 64...16 << 20, using: &random),
      unindexedByteLimit: size(1 << 20...1 << 40),
      openFileLimit: .random(in: 4...100_000, using: &random))
  }
}
