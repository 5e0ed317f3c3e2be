internal import Coding
internal import Messages
internal import Wire

/// A version that is not the current object of its key: an older one, or a delete marker.
enum VersionRecord: Hashable, StoredValue {
  case object(ObjectRecord)
  /// - modified: milliseconds since 1970.
  case marker(identity: UInt64, modified: UInt64, isNull: Bool)

  var identity: UInt64 {
    switch self {
    case .object(let record): record.identity
    case .marker(let identity, _, _): identity
    }
  }
  var isNull: Bool {
    switch self {
    case .object(let record): record.isNull
    case .marker(_, _, let isNull): isNull
    }
  }
  var name: VersionName { isNull ? .null : .identity(identity) }
  /// As clients call it.
  var id: String { name.text ?? "null" }

  func entry(_ key: String, isCurrent: Bool) -> VersionEntry {
    switch self {
    case .object(let record): VersionEntry(record, key: key, isCurrent: isCurrent)
    case .marker(let identity, let modified, let isNull):
      VersionEntry(
        marker: identity, isNull: isNull, modified: modified, key: key, isCurrent: isCurrent)
    }
  }

  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    switch self {
    case .object(let record):
      writer.fixed(UInt8(0))
      writer.value(record)
    case .marker(let identity, let modified, let isNull):
      writer.fixed(UInt8(1))
      writer.varint(identity)
      writer.varint(modified)
      writer.bool(isNull)
    }
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(1)
    switch try reader.fixed(UInt8.self) {
    case 0: self = .object(try reader.value())
    case 1:
      self = .marker(
        identity: try reader.varint(), modified: try reader.varint(), isNull: try reader.bool())
    default: throw .invalid("version")
    }
  }
}

extension Key {
  /// Versions of a bucket by key, of one key the newest first: the number of a version counts down from 2^56 - 1. As with multipart
  /// uploads a byte 0 of a key is followed by FF, and one by 00, the first byte of any number, ends it.
  static func version(bucket: UInt64, key: some Collection<UInt8>, _ identity: UInt64) -> [UInt8] {
    var row = versions(bucket: bucket, keyPrefix: key)
    row.append(0)
    withUnsafeBytes(of: (firstVersion - identity).bigEndian) { row.append(contentsOf: $0) }
    return row
  }
  private static let firstVersion: UInt64 = 1 << 56 - 1

  /// What the rows of all keys begin with that begin so.
  static func versions(bucket: UInt64, keyPrefix: some Collection<UInt8>) -> [UInt8] {
    var row = multiparts(bucket: bucket, keyPrefix: keyPrefix)
    row[0] = Family.version.rawValue
    return row
  }
  /// What the rows of one key begin with, and no others.
  static func versions(bucket: UInt64, key: some Collection<UInt8>) -> [UInt8] {
    versions(bucket: bucket, keyPrefix: key) + [0, 0]
  }
  /// The object key that a row is about.
  static func versionedKey(in row: [UInt8]) throws(StoreError) -> [UInt8] {
    guard row.count >= 18, row[row.count - 9] == 0 else { throw .corrupt("version key") }
    var name: [UInt8] = []
    var index = 9
    while index < row.count - 9 {
      name.append(row[index])
      index += row[index] == 0 ? 2 : 1
    }
    return name
  }
  static func versionIdentity(in row: [UInt8]) throws(StoreError) -> UInt64 {
    let number = try number(in: row, at: row.count - 8)
    guard number <= firstVersion else { throw .corrupt("version key") }
    return firstVersion - number
  }
  static func nullVersion(bucket: UInt64, key: some Collection<UInt8>) -> [UInt8] {
    var row = object(bucket: bucket, key: key)
    row[0] = Family.nullVersion.rawValue
    return row
  }
}
