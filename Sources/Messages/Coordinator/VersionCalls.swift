/// Versions of objects: how a bucket keeps them, which one is meant, what is told of them. Methods 576 and 577.
package import Coding
package import Wire

/// What becomes of a version of an object when another takes its place.
package enum BucketVersioning: UInt8, Sendable, WireValue {
  /// It is gone. So every bucket begins.
  case off = 0
  /// It stays, under a version id of its own.
  case enabled = 1
  /// New ones are null versions; of a key there is at most one, and those that have ids of their own stay.
  case suspended = 2

  package func encode(into writer: inout ByteWriter) { writer.fixed(rawValue) }
  package init(from reader: inout ByteReader) throws(ValueError) {
    guard let found = BucketVersioning(rawValue: try reader.fixed()) else {
      throw .invalid("versioning")
    }
    self = found
  }
}

/// Which version of a key is meant, or what one is called.
package enum VersionName: Hashable, Sendable, WireValue {
  /// Asked for: the current one. Told: the bucket has no versions.
  case unnamed
  /// The one that was made while versioning was off or suspended.
  case null
  /// The log position of the command that made it.
  case identity(UInt64)

  package func encode(into writer: inout ByteWriter) {
    switch self {
    case .unnamed: writer.fixed(UInt8(0))
    case .null: writer.fixed(UInt8(1))
    case .identity(let identity):
      writer.fixed(UInt8(2))
      writer.varint(identity)
    }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    switch try reader.fixed(UInt8.self) {
    case 0: self = .unnamed
    case 1: self = .null
    case 2: self = .identity(try reader.varint())
    default: throw .invalid("version")
    }
  }

  /// The version id that clients see: "null", or 32 digits of hexadecimal that show neither order nor age; nil for `unnamed`.
  ///
  /// - Source: the finalizer of SplitMix64 (Steele, Lea, Flood, 2014), which maps each number to one other: the first half is the
  ///   identity through it, the second tells a made-up id from a real one.
  package var text: String? {
    switch self {
    case .unnamed: nil
    case .null: "null"
    case .identity(let identity):
      Self.digits(Self.mixed(identity ^ Self.salt)) + Self.digits(Self.check(identity))
    }
  }

  /// - Returns: nil when it is no version id of ours.
  package init?(text: String) {
    if text == "null" {
      self = .null
      return
    }
    let bytes = Array(text.utf8)
    guard bytes.count == 32,
      bytes.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) }),
      let first = UInt64(text.prefix(16), radix: 16),
      let second = UInt64(text.suffix(16), radix: 16)
    else { return nil }
    let identity = Self.unmixed(first) ^ Self.salt
    guard Self.check(identity) == second, identity < 1 << 55 else { return nil }
    self = .identity(identity)
  }

  private static let salt: UInt64 = 0x6361_6972_6E20_7631
  private static func check(_ identity: UInt64) -> UInt64 {
    mixed(mixed(identity &+ salt) &+ identity)
  }
  private static func mixed(_ number: UInt64) -> UInt64 {
    var z = number
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
  private static func unmixed(_ number: UInt64) -> UInt64 {
    var z = number
    z = (z ^ (z >> 31) ^ (z >> 62)) &* 0x3196_42B2_D24D_8EC3
    z = (z ^ (z >> 27) ^ (z >> 54)) &* 0x96DE_1B17_3F11_9089
    return z ^ (z >> 30) ^ (z >> 60)
  }
  private static func digits(_ number: UInt64) -> String {
    let text = String(number, radix: 16)
    return String(repeating: "0", count: 16 - text.utf8.count) + text
  }
}

/// A version, or a delete marker, that a command made.
package struct MadeVersion: Hashable, Sendable {
  package var identity: UInt64
  package var name: VersionName
  package init(identity: UInt64, name: VersionName) {
    self.identity = identity
    self.name = name
  }
}

extension CommandOutcome {
  /// What was made; nil when the outcome is another.
  package var made: MadeVersion? {
    switch self {
    case .number(let identity): MadeVersion(identity: identity, name: .unnamed)
    case .version(let identity, let name): MadeVersion(identity: identity, name: name)
    default: nil
    }
  }
}

/// Why a key is not there: a delete marker is its current version. The reason of a ``RefusalCode/noSuchKey``.
package struct DeleteMarkerReason: Hashable, Sendable {
  package var marker: VersionName
  private static let start = "deleted; its marker is version "

  package init(marker: VersionName) { self.marker = marker }
  package init?(_ reason: String) {
    guard reason.hasPrefix(Self.start),
      let marker = VersionName(text: String(reason.dropFirst(Self.start.count)))
    else { return nil }
    self.marker = marker
  }
  package var text: String { Self.start + (marker.text ?? "null") }
}

/// One version of a key as listings have it.
package struct VersionEntry: Hashable, Sendable, WireValue {
  package var key: String
  package var identity: UInt64
  package var isNull: Bool
  /// A delete marker: it has no bytes.
  package var isMarker: Bool
  /// The newest of its key.
  package var isCurrent: Bool
  package var byteCount: UInt64
  /// Milliseconds since 1970.
  package var modified: UInt64
  package var contentHash: Fingerprint
  package var attributes: ObjectAttributes

  package init(_ record: ObjectRecord, key: String, isCurrent: Bool) {
    self.key = key
    identity = record.identity
    isNull = record.isNull
    isMarker = false
    self.isCurrent = isCurrent
    byteCount = record.byteCount
    modified = record.modified
    contentHash = record.contentHash
    attributes = record.attributes
  }
  package init(
    marker identity: UInt64, isNull: Bool, modified: UInt64, key: String, isCurrent: Bool
  ) {
    self.key = key
    self.identity = identity
    self.isNull = isNull
    isMarker = true
    self.isCurrent = isCurrent
    byteCount = 0
    self.modified = modified
    contentHash = Fingerprint(w0: 0, w1: 0, w2: 0, w3: 0)
    attributes = ObjectAttributes()
  }
  package var name: VersionName { isNull ? .null : .identity(identity) }

  package func encode(into writer: inout ByteWriter) {
    writer.string(key)
    writer.varint(identity)
    writer.fixed(UInt8((isNull ? 1 : 0) | (isMarker ? 2 : 0) | (isCurrent ? 4 : 0)))
    writer.varint(byteCount)
    writer.varint(modified)
    writer.value(contentHash)
    writer.value(attributes)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    key = try reader.string()
    identity = try reader.varint()
    let flags: UInt8 = try reader.fixed()
    guard flags < 8 else { throw .invalid("version") }
    isNull = flags & 1 != 0
    isMarker = flags & 2 != 0
    isCurrent = flags & 4 != 0
    byteCount = try reader.varint()
    modified = try reader.varint()
    contentHash = try reader.value()
    attributes = try reader.value()
  }
}

/// Versions and delete markers, by key, of one key the newest first. Refused: noSuchBucket.
package struct ListVersions: Call {
  package static let method: UInt16 = 576
  package var level: ReadLevel
  package var bucket: String
  package var prefix: String
  /// Empty: no grouping.
  package var delimiter: String
  /// Keys after this one, by bytes; empty: from the first.
  package var afterKey: String
  /// Not `unnamed`: also the versions of `afterKey` that are older than this one.
  package var after: VersionName
  /// At most 1,000.
  package var limit: UInt32

  package init(
    level: ReadLevel, bucket: String, prefix: String, delimiter: String, afterKey: String,
    after: VersionName, limit: UInt32
  ) {
    self.level = level
    self.bucket = bucket
    self.prefix = prefix
    self.delimiter = delimiter
    self.afterKey = afterKey
    self.after = after
    self.limit = limit
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.string(bucket)
    writer.string(prefix)
    writer.string(delimiter)
    writer.string(afterKey)
    writer.value(after)
    writer.varint(limit)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    bucket = try reader.string()
    prefix = try reader.string()
    delimiter = try reader.string()
    afterKey = try reader.string()
    after = try reader.value()
    limit = try reader.varint32()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var entries: [VersionEntry]
    /// Groups of keys up to the delimiter, ascending.
    package var prefixes: [String]
    package var isLast: Bool
    /// For whoever changed entries: where the next page goes on all the same. Not sent.
    package var goesOn: Place?

    package init(entries: [VersionEntry], prefixes: [String], isLast: Bool) {
      self.entries = entries
      self.prefixes = prefixes
      self.isLast = isLast
    }
    package func encode(into writer: inout ByteWriter) {
      writer.list(entries)
      writer.list(prefixes)
      writer.bool(isLast)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      entries = try reader.list()
      prefixes = try reader.list()
      isLast = try reader.bool()
    }
    /// Where the next page goes on: after the last that is on this one, be it a version or a group; nil at the end.
    package var next: (key: String, after: VersionName)? {
      if isLast { return nil }
      if let goesOn { return (goesOn.key, goesOn.after) }
      guard let entry = entries.last else { return prefixes.last.map { ($0, .unnamed) } }
      if let group = prefixes.last, entry.key.utf8.lexicographicallyPrecedes(group.utf8) {
        return (group, .unnamed)
      }
      return (entry.key, .identity(entry.identity))
    }
  }
}

extension ListVersions {
  /// Where a page begins: after that key, and with `after` named after that version of it.
  package struct Place: Hashable, Sendable {
    package var key: String
    package var after: VersionName
    package init(key: String, after: VersionName) {
      self.key = key
      self.after = after
    }
  }
}

/// What there is to know of one version but where its bytes are. Refused: noSuchBucket; noSuchKey when no version is named and none is
/// there (reason: ``DeleteMarkerReason`` where it was deleted); noSuchVersion.
package struct FindVersion: Call, NamesObject {
  package static let method: UInt16 = 577
  package var level: ReadLevel
  package var name: ObjectName
  package var version: VersionName

  package init(level: ReadLevel, name: ObjectName, version: VersionName) {
    self.level = level
    self.name = name
    self.version = version
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.value(name)
    writer.value(version)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    name = try reader.value()
    version = try reader.value()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var entry: VersionEntry
    /// The bucket's.
    package var versioning: BucketVersioning

    package init(entry: VersionEntry, versioning: BucketVersioning) {
      self.entry = entry
      self.versioning = versioning
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(entry)
      writer.value(versioning)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      entry = try reader.value()
      versioning = try reader.value()
    }
  }
}
