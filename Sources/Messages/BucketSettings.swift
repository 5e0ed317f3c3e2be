/// What a bucket is told of itself beside its name and class. Method 575.
package import Wire

/// What a setting of a bucket is about. 0 is none. The numbers are in the log: they are never reused.
package struct SettingKind: Hashable, Sendable, Comparable, WireValue {
  package var raw: UInt8

  package init(_ raw: UInt8) { self.raw = raw }
  package static func < (a: SettingKind, b: SettingKind) -> Bool { a.raw < b.raw }
  package func encode(into writer: inout ByteWriter) { writer.fixed(raw) }
  package init(from reader: inout ByteReader) throws(ValueError) {
    raw = try reader.fixed()
    guard raw != 0 else { throw .invalid("kind of a setting") }
  }

  package static let tagging = SettingKind(1)
  package static let cors = SettingKind(2)
  package static let lifecycle = SettingKind(3)
  package static let notifications = SettingKind(4)
}

/// A document that a bucket has: no command looks inside.
package struct BucketSetting: Hashable, Sendable, WireValue {
  package var kind: SettingKind
  /// At most ``byteLimit``; none: there is no such setting.
  package var bytes: [UInt8]

  /// Beside it a command has a name: together they fit half a batch of the log, as all entries of the state do.
  package static let byteLimit = 128 << 10

  package init(_ kind: SettingKind, _ bytes: [UInt8]) {
    self.kind = kind
    self.bytes = bytes
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(kind)
    writer.blob(bytes)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    kind = try reader.value()
    bytes = try reader.blob(limit: Self.byteLimit)
  }
}

/// Settings of a bucket. Refused: noSuchBucket.
package struct GetBucketSettings: Call {
  package static let method: UInt16 = 575
  package var level: ReadLevel
  package var bucket: String
  /// Those that are asked for; none: all.
  package var kinds: [SettingKind]

  package init(level: ReadLevel, bucket: String, kinds: [SettingKind]) {
    self.level = level
    self.bucket = bucket
    self.kinds = kinds
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.string(bucket)
    writer.list(kinds)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    bucket = try reader.string(limit: 4096)
    kinds = try reader.list(limit: 256)
  }
  package struct Answer: Hashable, Sendable, WireValue {
    /// Those that the bucket has, by kind.
    package var settings: [BucketSetting]

    package init(settings: [BucketSetting]) { self.settings = settings }
    package func encode(into writer: inout ByteWriter) { writer.list(settings) }
    package init(from reader: inout ByteReader) throws(ValueError) {
      settings = try reader.list(limit: 256)
    }

    /// The document of that kind, when the bucket has one.
    package func bytes(_ kind: SettingKind) -> [UInt8]? {
      settings.first { $0.kind == kind }?.bytes
    }
  }
}
