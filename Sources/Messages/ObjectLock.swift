package import Wire

/// What keeps a version from being taken away. Times are milliseconds since 1970, by the leader's wall clock.
package struct ObjectLock: Hashable, Sendable, WireValue {
  package enum Mode: UInt8, Sendable {
    /// Whoever is allowed to may take it away all the same.
    case governance = 1
    /// Nobody may.
    case compliance = 2
  }
  package struct Retention: Hashable, Sendable {
    package var mode: Mode
    package var until: UInt64
    package init(mode: Mode, until: UInt64) {
      self.mode = mode
      self.until = until
    }
  }
  package var retention: Retention?
  package var hasLegalHold: Bool

  package init(retention: Retention? = nil, hasLegalHold: Bool = false) {
    self.retention = retention
    self.hasLegalHold = hasLegalHold
  }
  package var isEmpty: Bool { retention == nil && !hasLegalHold }

  package func encode(into writer: inout ByteWriter) {
    writer.fixed((retention?.mode.rawValue ?? 0) | (hasLegalHold ? 0x10 : 0))
    if let retention { writer.varint(retention.until) }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    let tag: UInt8 = try reader.fixed()
    hasLegalHold = tag & 0x10 != 0
    switch (tag & 0xEF, Mode(rawValue: tag & 0xEF)) {
    case (0, _): retention = nil
    case (_, let mode?): retention = Retention(mode: mode, until: try reader.varint())
    default: throw .invalid("lock")
    }
  }

  /// Whether the version must stay.
  package func holds(at now: UInt64, bypassesGovernance: Bool) -> Bool {
    if hasLegalHold { return true }
    guard let retention, retention.until > now else { return false }
    return retention.mode == .compliance || !bypassesGovernance
  }

  /// Whether a retention may take the place of this one: it may always hold longer, and less only where this one need not be kept.
  package func allows(_ new: Retention?, at now: UInt64, bypassesGovernance: Bool) -> Bool {
    guard let retention, retention.until > now else { return true }
    if retention.mode == .governance && bypassesGovernance { return true }
    guard let new, new.until >= retention.until else { return false }
    return retention.mode == .governance || new.mode == .compliance
  }
}

/// A bucket in which versions can be locked.
package struct BucketLock: Hashable, Sendable, WireValue {
  /// What versions get that bring no retention of their own; 0 days: none.
  package var mode: ObjectLock.Mode
  package var days: UInt32

  /// A hundred years.
  package static let dayLimit: UInt32 = 36_500

  package init(mode: ObjectLock.Mode = .governance, days: UInt32 = 0) {
    self.mode = mode
    self.days = days
  }
  package func encode(into writer: inout ByteWriter) {
    writer.fixed(mode.rawValue)
    writer.varint(days)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    guard let mode = ObjectLock.Mode(rawValue: try reader.fixed()) else { throw .invalid("lock") }
    self.mode = mode
    days = try reader.varint32()
    guard days <= Self.dayLimit else { throw .invalid("lock") }
  }
}

/// What is to become of a version's lock.
package enum LockChange: Hashable, Sendable, WireValue {
  case retention(ObjectLock.Retention?)
  case legalHold(Bool)

  package func encode(into writer: inout ByteWriter) {
    switch self {
    case .retention(let retention):
      writer.fixed(UInt8(0))
      writer.value(ObjectLock(retention: retention))
    case .legalHold(let isOn):
      writer.fixed(UInt8(1))
      writer.bool(isOn)
    }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    switch try reader.fixed(UInt8.self) {
    case 0: self = .retention(try reader.value(ObjectLock.self).retention)
    case 1: self = .legalHold(try reader.bool())
    default: throw .invalid("change of a lock")
    }
  }
}
