internal import Coding
package import Messages
package import Wire

/// A key domain as the state keeps it: every key in it is wrapped.
package struct KeyDomainRecord: Hashable, Sendable, WireValue, StoredValue {
  package struct Key: Hashable, Sendable, WireValue {
    package var key: DomainKey
    /// Data keys that are wrapped under it.
    package var dataKeyCount: UInt64 = 0

    init(_ key: DomainKey) { self.key = key }
    package func encode(into writer: inout ByteWriter) {
      writer.value(key)
      writer.varint(dataKeyCount)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      key = try reader.value()
      dataKeyCount = try reader.varint()
    }
  }
  package var name: String
  /// Milliseconds since 1970.
  package var created: UInt64
  /// Those in use, by version, the newest last; never empty.
  package var keys: [Key]
  /// Wrapped under the newest. It is the same for good: fingerprints are what chunks are found by.
  package var fingerprintKey: WrappedKey

  package var newest: DomainKey { keys[keys.count - 1].key }

  init(name: String, created: UInt64, key: DomainKey, fingerprintKey: WrappedKey) {
    self.name = name
    self.created = created
    keys = [Key(key)]
    self.fingerprintKey = fingerprintKey
  }

  /// The cluster has no key that opens it.
  package var isClients: Bool { newest.wrap.isClients }

  package func key(_ version: UInt32) -> DomainKey? {
    keys.first { $0.key.version == version }?.key
  }

  /// Another data key is wrapped under that version, or one less.
  mutating func count(_ version: UInt32, _ change: Int64) throws(StoreError) {
    guard let index = keys.firstIndex(where: { $0.key.version == version }),
      let count = Int64(exactly: keys[index].dataKeyCount),
      let changed = UInt64(exactly: count &+ change)
    else { throw .corrupt("data keys of key \(version) of '\(name)'") }
    keys[index].dataKeyCount = changed
  }

  /// Forgets keys that wrap nothing, but the newest.
  mutating func prune() {
    let newest = newest.version
    keys.removeAll { $0.dataKeyCount == 0 && $0.key.version != newest }
  }

  package func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.string(name)
    writer.varint(created)
    writer.list(keys)
    writer.value(fingerprintKey)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(1)
    name = try reader.string(limit: 64)
    created = try reader.varint()
    keys = try reader.list(limit: KeyDomainRules.versionLimit)
    fingerprintKey = try reader.value()
    guard !keys.isEmpty else { throw .invalid("key domain") }
  }
}

/// A data key: what groups of one upload in one key domain are sealed with.
package struct DataKeyRecord: Hashable, Sendable, WireValue, StoredValue {
  package var domain: KeyDomainID
  /// Of the domain's key that wraps it.
  package var version: UInt32
  package var wrapped: WrappedKey
  /// Whose it is to seal with; 0: nobody's any more.
  package var upload: UInt64
  /// Containers that have groups sealed with it.
  package var containerCount: UInt64 = 0

  init(domain: KeyDomainID, key: NewDataKey, upload: UInt64) {
    self.domain = domain
    version = key.version
    wrapped = key.wrapped
    self.upload = upload
  }
  package func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.value(domain)
    writer.varint(version)
    writer.value(wrapped)
    writer.varint(upload)
    writer.varint(containerCount)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(1)
    domain = try reader.value()
    version = try reader.varint32()
    wrapped = try reader.value()
    upload = try reader.varint()
    containerCount = try reader.varint()
  }
}

extension Key {
  /// Rows of family `K`, by the byte after it.
  enum KeyRow: UInt8 {
    case domain = 0
    case dataKey = 1
    /// A container, and a key that groups in it are sealed with.
    case containerKey = 2
    /// An upload, and a key that it may seal with.
    case uploadKey = 3
  }

  static func keyRows(_ row: KeyRow) -> [UInt8] { family(.key) + [row.rawValue] }
  static func keyDomain(_ id: KeyDomainID) -> [UInt8] {
    keyRows(.domain) + [UInt8(id.raw >> 8), UInt8(truncatingIfNeeded: id.raw)]
  }
  static func keyDomain(in key: [UInt8]) throws(StoreError) -> KeyDomainID {
    guard key.count == 4 else { throw .corrupt("key domain's key") }
    return KeyDomainID(UInt16(key[2]) << 8 | UInt16(key[3]))
  }
  static func dataKey(_ id: UInt64) -> [UInt8] { keyRows(.dataKey) + bigEndian(id) }
  /// - Parameter holder: an upload's number, or a container's raw id.
  static func keys(_ row: KeyRow, of holder: UInt64) -> [UInt8] {
    keyRows(row) + bigEndian(holder)
  }
  static func key(_ row: KeyRow, of holder: UInt64, _ dataKey: UInt64) -> [UInt8] {
    keys(row, of: holder) + bigEndian(dataKey)
  }
}
