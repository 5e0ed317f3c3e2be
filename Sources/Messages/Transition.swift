package import Wire

/// When a rule moves a version to another storage class, and to which.
package struct Transition: Hashable, Sendable, WireValue {
  package enum When: Hashable, Sendable {
    /// The current version, so many days old; 0: at once.
    case days(UInt32)
    /// The current version, from then on: milliseconds since 1970.
    case date(UInt64)
    /// One that has not been current for so many days, if at least so many newer ones are not current either.
    case noncurrent(days: UInt32, newerVersions: UInt32?)
  }
  package var when: When
  /// What the version is called then.
  package var tier: ObjectTier
  /// Its name in the cluster.
  package var storageClass: String

  /// Of a rule: each tier once for current versions and once for others.
  package static let countLimit = 2 * ObjectTier.allCases.count

  package init(_ when: When, to tier: ObjectTier, storageClass: String) {
    self.when = when
    self.tier = tier
    self.storageClass = storageClass
  }
  package var isNoncurrent: Bool {
    if case .noncurrent = when { true } else { false }
  }

  package func encode(into writer: inout ByteWriter) {
    switch when {
    case .days(let days):
      writer.fixed(UInt8(0))
      writer.varint(days)
    case .date(let date):
      writer.fixed(UInt8(1))
      writer.varint(date)
    case .noncurrent(let days, let newerVersions):
      writer.fixed(UInt8(2))
      writer.varint(days)
      writer.optional(newerVersions)
    }
    writer.value(tier)
    writer.string(storageClass)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    switch try reader.fixed(UInt8.self) {
    case 0: when = .days(try reader.varint32())
    case 1: when = .date(try reader.varint())
    case 2:
      when = .noncurrent(days: try reader.varint32(), newerVersions: try reader.optional())
    default: throw .invalid("transition")
    }
    tier = try reader.value()
    storageClass = try reader.string(limit: 64)
  }
}

extension Lifecycle {
  package var hasTransitions: Bool {
    rules.contains { $0.isEnabled && !$0.transitions.isEmpty }
  }

  /// Where a current version is to go now; nil: it stays.
  package func transition(_ entry: VersionEntry, at now: UInt64) -> Transition? {
    furthest(entry) { when in
      switch when {
      case .days(let days): days == 0 || Self.isDue(entry.modified, days, at: now)
      case .date(let date): now >= date
      case .noncurrent: false
      }
    }
  }

  /// Where a version is to go now that is not current; nil: it stays. The parameters are as those of
  /// ``expiresNoncurrent(_:since:newerCount:at:)``.
  package func noncurrentTransition(
    _ entry: VersionEntry, since: UInt64, newerCount: Int, at now: UInt64
  ) -> Transition? {
    furthest(entry) { when in
      guard case .noncurrent(let days, let newerVersions) = when else { return false }
      return newerCount >= Int(newerVersions ?? 0)
        && (days == 0 || Self.isDue(since, days, at: now))
    }
  }

  /// The last tier that is due, if the version is not as far already.
  private func furthest(_ entry: VersionEntry, _ isDue: (Transition.When) -> Bool) -> Transition? {
    var found: Transition?
    for rule in rules where rule.isEnabled && !rule.transitions.isEmpty && rule.fits(entry) {
      let isAboutSizes = rule.largerThan != nil || rule.smallerThan != nil
      for one in rule.transitions where found.map({ $0.tier < one.tier }) ?? true {
        let takesSmall = isAboutSizes || archivesSmall && one.tier >= .glacier
        guard takesSmall || entry.byteCount >= Self.smallByteCount, isDue(one.when) else {
          continue
        }
        found = one
      }
    }
    guard let found else { return nil }
    if let tier = ObjectTier(of: entry.attributes), tier >= found.tier { return nil }
    return found
  }
}
