package import Wire

/// When what a bucket holds goes by itself: what a `lifecycle` setting is. Times are milliseconds since 1970.
package struct Lifecycle: Hashable, Sendable, WireValue {
  package var rules: [Rule]

  /// Versions of less than ``smallByteCount`` go to the archives among the tiers though no filter of the rule is about sizes.
  package var archivesSmall = false

  package static let ruleLimit = 1000
  /// What is smaller is moved by rules alone that are about sizes.
  package static let smallByteCount: UInt64 = 128 << 10
  package static let day: UInt64 = 86_400_000

  package init(rules: [Rule]) { self.rules = rules }
  package func encode(into writer: inout ByteWriter) {
    let movesNothing = rules.allSatisfy { $0.transitions.isEmpty }
    writer.fixed(UInt8(movesNothing && !archivesSmall ? 1 : 2))
    writer.list(rules)
    if movesNothing && !archivesSmall { return }
    writer.bool(archivesSmall)
    for rule in rules { writer.list(rule.transitions) }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    let form: UInt8 = try reader.fixed()
    guard form == 1 || form == 2 else { throw .invalid("lifecycle") }
    rules = try reader.list(limit: Self.ruleLimit)
    // Rules from before there were transitions have none.
    guard form == 2 else { return }
    archivesSmall = try reader.bool()
    for index in rules.indices {
      rules[index].transitions = try reader.list(limit: Transition.countLimit)
    }
  }

  package struct Rule: Hashable, Sendable, WireValue {
    package var id = ""
    package var isEnabled = true
    // What it is about: all of these must fit.
    package var prefix = ""
    package var tags: [ObjectAttributes.UserAttribute] = []
    package var largerThan: UInt64?
    package var smallerThan: UInt64?
    // What it does.
    package var expiration: Expiration?
    package var noncurrentDays: UInt32?
    /// Of versions that are not current so many stay, the newest.
    package var newerNoncurrentVersions: UInt32?
    package var abortDays: UInt32?
    /// Encoded with the lifecycle, so that a rule without any is what it was before there were transitions.
    package var transitions: [Transition] = []
    /// Whether its document has the prefix outside of a filter, as old ones do.
    package var hasOuterPrefix = false

    package enum Expiration: Hashable, Sendable {
      case days(UInt32)
      case date(UInt64)
      /// A delete marker goes when no version is left below it.
      case loneMarkers
    }

    package init() {}
    package func encode(into writer: inout ByteWriter) {
      writer.string(id)
      writer.fixed(UInt8((isEnabled ? 1 : 0) | (hasOuterPrefix ? 2 : 0)))
      writer.string(prefix)
      writer.list(tags)
      writer.optional(largerThan)
      writer.optional(smallerThan)
      switch expiration {
      case nil: writer.fixed(UInt8(0))
      case .days(let days):
        writer.fixed(UInt8(1))
        writer.varint(days)
      case .date(let date):
        writer.fixed(UInt8(2))
        writer.varint(date)
      case .loneMarkers: writer.fixed(UInt8(3))
      }
      writer.optional(noncurrentDays)
      writer.optional(newerNoncurrentVersions)
      writer.optional(abortDays)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      id = try reader.string(limit: 1024)
      let flags: UInt8 = try reader.fixed()
      guard flags < 4 else { throw .invalid("rule") }
      isEnabled = flags & 1 != 0
      hasOuterPrefix = flags & 2 != 0
      prefix = try reader.string(limit: 1024)
      tags = try reader.list(limit: 64)
      largerThan = try reader.optional()
      smallerThan = try reader.optional()
      switch try reader.fixed(UInt8.self) {
      case 0: expiration = nil
      case 1: expiration = .days(try reader.varint32())
      case 2: expiration = .date(try reader.varint())
      case 3: expiration = .loneMarkers
      default: throw .invalid("expiration")
      }
      noncurrentDays = try reader.optional()
      newerNoncurrentVersions = try reader.optional()
      abortDays = try reader.optional()
    }
  }

  // MARK: What goes

  /// S3 counts whole days: something is due at the first midnight (UTC) when it is so many days old.
  static func isDue(_ since: UInt64, _ days: UInt32, at now: UInt64) -> Bool {
    let (age, overflow) = UInt64(days).multipliedReportingOverflow(by: day)
    let (due, tooLate) = since.addingReportingOverflow(age)
    guard !overflow, !tooLate, due <= .max - day else { return false }
    return now >= (due + day - 1) / day * day
  }

  /// Whether the current version of an object goes.
  package func expires(_ entry: VersionEntry, at now: UInt64) -> Bool {
    rules.contains { rule in
      guard rule.isEnabled, rule.fits(entry) else { return false }
      switch rule.expiration {
      case .days(let days): return Self.isDue(entry.modified, days, at: now)
      case .date(let date): return now >= date
      case .loneMarkers, nil: return false
      }
    }
  }

  /// Whether a version goes that is not current.
  ///
  /// - Parameters:
  ///   - since: when the one after it was made.
  ///   - newerCount: how many that are not current either are newer.
  package func expiresNoncurrent(
    _ entry: VersionEntry, since: UInt64, newerCount: Int, at now: UInt64
  ) -> Bool {
    rules.contains { rule in
      guard rule.isEnabled, let days = rule.noncurrentDays,
        entry.isMarker ? rule.fits(markerOf: entry.key) : rule.fits(entry)
      else { return false }
      return newerCount >= Int(rule.newerNoncurrentVersions ?? 0)
        && Self.isDue(since, days, at: now)
    }
  }

  /// Whether a delete marker goes, if it is all that is left of its key.
  package func expiresLone(marker entry: VersionEntry, at now: UInt64) -> Bool {
    rules.contains { rule in
      guard rule.isEnabled, rule.fits(markerOf: entry.key) else { return false }
      switch rule.expiration {
      case .loneMarkers: return true
      case .days(let days): return Self.isDue(entry.modified, days, at: now)
      case .date(let date): return now >= date
      case nil: return false
      }
    }
  }

  package func aborts(_ key: String, initiated: UInt64, at now: UInt64) -> Bool {
    rules.contains { rule in
      guard rule.isEnabled, let days = rule.abortDays, rule.fits(markerOf: key) else {
        return false
      }
      return Self.isDue(initiated, days, at: now)
    }
  }

  /// What the keys of all that its rules are about begin with; nil when none of them is enabled.
  package var commonPrefix: String? {
    let prefixes = rules.filter(\.isEnabled).map(\.prefix)
    guard var common = prefixes.first else { return nil }
    for prefix in prefixes {
      // By characters that both have: what is left is a prefix of both.
      while !prefix.utf8.starts(with: common.utf8) { common.removeLast() }
    }
    return common
  }

  package var hasAborts: Bool { rules.contains { $0.isEnabled && $0.abortDays != nil } }
  package var hasVersionRules: Bool {
    rules.contains { $0.isEnabled && ($0.expiration != nil || $0.noncurrentDays != nil) }
  }
}

extension Lifecycle.Rule {
  func fits(_ entry: VersionEntry) -> Bool {
    entry.key.utf8.starts(with: prefix.utf8)
      && largerThan.map { entry.byteCount > $0 } ?? true
      && smallerThan.map { entry.byteCount < $0 } ?? true
      && tags.allSatisfy { entry.attributes.user.contains($0) }
  }
  /// Markers and uploads have neither size nor tags.
  fileprivate func fits(markerOf key: String) -> Bool {
    key.utf8.starts(with: prefix.utf8) && tags.isEmpty && largerThan == nil && smallerThan == nil
  }
}
