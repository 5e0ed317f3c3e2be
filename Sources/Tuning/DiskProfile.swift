package import Service
package import ShardStore

/// How the store is to use a disk of one type. The built-in ones stand in `tuning/`, each value with its reason, and
/// in ``BuiltInProfiles``; a test holds the two together.
///
/// Where to read on:
///
///     BuiltInProfiles     the profiles, and what the operating system should do for their disks
///     DeviceFacts         what the kernel says of a device
///     DeviceFigures       what it turned out to do
///     ProfileChoice       which profile that makes
///     DeviceMeasurement   measuring, for `cairn tune`
///     HostSettings        sysctls, queues and limits that differ from tuning/os
///     DeviceTuning        a node's device: its profile, and what its table says otherwise
package struct DiskProfile: Equatable, Sendable {
  package var name: String
  package var concurrentWrites: Int
  package var appendByteCount: ByteSize
  package var appendRecordCount: Int
  package var volumeByteCount: ByteSize
  package var directIO: FeatureUse
  package var preallocation: FeatureUse
  package var punchesDeadRanges: Bool
  package var sweepsReads: Bool
  package var compactionPercent: Int
  package var indexEntryLimit: Int
  package var unindexedByteLimit: ByteSize
  package var openFileLimit: Int

  /// The profile as the store takes it.
  ///
  /// - Parameter reserve: nil for the store's own default.
  package func settings(capacity: ByteSize, reserve: ByteSize?) -> StoreSettings {
    var settings = StoreSettings(
      capacity: capacity.byteCount, volumeByteCount: volumeByteCount.byteCount,
      reserveByteCount: reserve?.byteCount)
    settings.concurrentWrites = concurrentWrites
    settings.largestAppendByteCount = appendByteCount.byteCount
    settings.largestAppendRecordCount = appendRecordCount
    settings.directIO = directIO
    settings.preallocation = preallocation
    settings.punchesDeadRanges = punchesDeadRanges
    settings.isRotational = sweepsReads
    settings.compactionPercent = UInt64(compactionPercent)
    settings.indexEntryLimit = indexEntryLimit
    settings.unindexedByteLimit = unindexedByteLimit.byteCount
    settings.openFileLimit = openFileLimit
    return settings
  }
}

extension DiskProfile {
  // MARK: As text

  /// Reads a profile's file: `name` and every value, or `base`, a built-in profile's name, and the values that differ.
  ///
  /// - Throws: ``ConfigurationError``, with the line: unknown keys, missing ones, values out of range.
  package init(parsing bytes: [UInt8], path: String) throws(ConfigurationError) {
    let file = try ConfigurationFile(parsing: bytes, path: path)
    let root = file.root
    let base: String? = try root.optional("base")
    if let base {
      guard let known = BuiltInProfiles.named(base) else {
        throw root.error("base", "must be one of \(BuiltInProfiles.names)")
      }
      self = known
    } else {
      self = BuiltInProfiles.all[0]
      for key in Self.keys where try !key.isIn(root) {
        throw ConfigurationError(
          "'\(key.name)' is missing, and so is 'base', a built-in profile to take it from",
          path: path)
      }
    }
    name = try root.required("name")
    // It goes into logs and files as it is.
    guard !name.isEmpty, name.utf8.count <= 64,
      name.utf8.allSatisfy({
        $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\")
      })
    else {
      throw root.error("name", "must be 1 to 64 printable characters, without spaces and quotes")
    }
    try apply(root)
    try file.finish()
  }

  /// Takes over the values that `table` has: a profile's file, or a device's table in a node's configuration.
  package mutating func apply(_ table: ConfigurationTable) throws(ConfigurationError) {
    for key in Self.keys { try key.apply(table, &self) }
  }

  /// The keys of a profile, in the order of its file.
  package static var keyNames: [String] { keys.map(\.name) }

  /// Key and value of each line, as in a file.
  package var lines: [(key: String, value: String)] {
    Self.keys.map { ($0.name, $0.text(self)) }
  }

  /// Where this differs from `other`: "volume_size=1GiB", a text each.
  package func deviations(from other: DiskProfile) -> [String] {
    zip(lines, other.lines).filter { $0.value != $1.value }.map {
      "\($0.0.key)=\($0.0.value.filter { $0 != "\"" })"
    }
  }

  /// A file that ``init(parsing:path:)`` reads back as the same profile.
  ///
  /// - Parameter comments: at its head, a line each.
  package func text(comments: [String]) -> String {
    var text = ""
    for comment in comments {
      // A comment must stay one, whatever a device calls itself.
      let plain = String(
        String.UnicodeScalarView(
          comment.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7F ? " " : $0 }))
      text += plain.isEmpty ? "#\n" : "# \(plain)\n"
    }
    text += "name = \"\(name)\"\n"
    for line in lines { text += "\(line.key) = \(line.value)\n" }
    return text
  }

  // MARK: Keys

  private struct Key: Sendable {
    var name: String
    var isIn: @Sendable (ConfigurationTable) throws(ConfigurationError) -> Bool
    var apply: @Sendable (ConfigurationTable, inout DiskProfile) throws(ConfigurationError) -> Void
    var text: @Sendable (DiskProfile) -> String

    init<Value: ConfigurationValue & Sendable>(
      _ name: String, _ field: any WritableKeyPath<DiskProfile, Value> & Sendable,
      check: @escaping @Sendable (Value) -> String?, text: @escaping @Sendable (Value) -> String
    ) {
      self.name = name
      isIn = { (table) throws(ConfigurationError) in
        try table.optional(name, as: Value.self) != nil
      }
      apply = { (table, profile) throws(ConfigurationError) in
        guard let value: Value = try table.optional(name) else { return }
        if let wrong = check(value) { throw table.error(name, wrong) }
        profile[keyPath: field] = value
      }
      self.text = { text($0[keyPath: field]) }
    }

    init(
      _ name: String, _ field: any WritableKeyPath<DiskProfile, Int> & Sendable,
      _ range: ClosedRange<Int>
    ) {
      self.init(
        name, field,
        check: { value in
          range.contains(value)
            ? nil : "must be between \(range.lowerBound) and \(range.upperBound)"
        }, text: { "\($0)" })
    }

    init(
      _ name: String, _ field: any WritableKeyPath<DiskProfile, ByteSize> & Sendable,
      _ range: ClosedRange<UInt64>
    ) {
      self.init(
        name, field,
        check: { size in
          let (low, high) = (ByteSize(range.lowerBound), ByteSize(range.upperBound))
          if !range.contains(size.byteCount) { return "must be between \(low) and \(high)" }
          return size.byteCount.isMultiple(of: 4096) ? nil : "must be a multiple of 4 KiB"
        }, text: { "\"\($0.exactDescription)\"" })
    }
  }

  private static let keys: [Key] = [
    // More are never in flight from one open volume than records wait.
    Key("concurrent_writes", \.concurrentWrites, 1...256),
    Key("append_size", \.appendByteCount, 4096...16 << 20),
    // Header and payload of each are a vector of one writev, which takes 1024.
    Key("append_records", \.appendRecordCount, 1...512),
    Key("volume_size", \.volumeByteCount, 16 << 10...1 << 40),
    Key(
      "direct_io", \.directIO, check: { _ in nil }, text: { "\"\($0.rawValue)\"" }),
    Key(
      "preallocation", \.preallocation, check: { _ in nil }, text: { "\"\($0.rawValue)\"" }),
    Key("punching", \.punchesDeadRanges, check: { _ in nil }, text: { "\($0)" }),
    Key("sweeping", \.sweepsReads, check: { _ in nil }, text: { "\($0)" }),
    // More would copy volumes of which most lives.
    Key("compaction_percent", \.compactionPercent, 0...90),
    Key("index_entries", \.indexEntryLimit, 64...16 << 20),
    Key("unindexed_size", \.unindexedByteLimit, 1 << 20...1 << 40),
    Key("open_files", \.openFileLimit, 4...100_000),
  ]
}

extension FeatureUse: ConfigurationChoice {}
