/// Key domains: buckets that are encrypted under keys of their own. docs/encryption.md has the whole.
internal import Coding
package import Wire

/// A key domain's number. Numbers are never given twice.
package struct KeyDomainID: Hashable, Comparable, Sendable, WireValue, CustomStringConvertible {
  package var raw: UInt16
  package init(_ raw: UInt16) { self.raw = raw }
  /// What is not encrypted.
  package static let plain = KeyDomainID(0)
  package static func < (a: Self, b: Self) -> Bool { a.raw < b.raw }
  package var description: String { "key domain \(raw)" }
  package func encode(into writer: inout ByteWriter) { writer.fixed(raw) }
  package init(from reader: inout ByteReader) throws(ValueError) { raw = try reader.fixed() }
}

/// Names and numbers of key domains.
package enum KeyDomainRules {
  /// Of a cluster.
  package static let countLimit = 1024
  /// Keys of one domain that are in use at once: more are not made until a rotation has ended.
  package static let versionLimit = 8
  /// Bytes of a domain's key as a key provider wraps it.
  package static let wrappedByteLimit = 4096
  package static let masterKeyNameLimit = 128

  /// The first rule that a name breaks, for people; nil when it may be.
  package static func brokenRule(name: String) -> String? {
    let letters = Array("abcdefghijklmnopqrstuvwxyz0123456789-".utf8)
    guard (1...32).contains(name.utf8.count), name.utf8.allSatisfy({ letters.contains($0) }) else {
      return "a key domain's name has 1 to 32 of a to z, 0 to 9 and '-'"
    }
    return nil
  }
}

/// 32 bytes of a key as the metadata keeps them: sealed under a key domain's key; see ``SealedSecret``.
package struct WrappedKey: Hashable, Sendable, WireValue {
  package static let byteCount = AES256GCM.keyByteCount + SealedSecret.overhead
  package let bytes: [UInt8]

  /// Nil unless there are ``byteCount``.
  package init?(_ bytes: [UInt8]) {
    guard bytes.count == Self.byteCount else { return nil }
    self.bytes = bytes
  }
  package func encode(into writer: inout ByteWriter) { writer.raw(bytes) }
  package init(from reader: inout ByteReader) throws(ValueError) {
    bytes = try reader.raw(Self.byteCount)
  }
}

/// A key domain's key as the cluster's key provider wrapped it.
package struct MasterWrap: Hashable, Sendable, WireValue {
  /// The provider's name for the master key that unwraps it.
  package var masterKey: String
  package var bytes: [UInt8]

  package init(masterKey: String, bytes: [UInt8]) {
    self.masterKey = masterKey
    self.bytes = bytes
  }
  package func encode(into writer: inout ByteWriter) {
    writer.string(masterKey)
    writer.blob(bytes)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    masterKey = try reader.string(limit: KeyDomainRules.masterKeyNameLimit)
    bytes = try reader.blob(limit: KeyDomainRules.wrappedByteLimit)
  }
}

/// One key of a domain; data keys name the one they are wrapped under by its number, from 1.
package struct DomainKey: Hashable, Sendable, WireValue {
  package var version: UInt32
  package var wrap: MasterWrap

  package init(version: UInt32, wrap: MasterWrap) {
    self.version = version
    self.wrap = wrap
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(version)
    writer.value(wrap)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    version = try reader.varint32()
    wrap = try reader.value()
  }
}

/// A new data key as the leader made it.
package struct NewDataKey: Hashable, Sendable, WireValue {
  /// Of the domain's key that wraps it.
  package var version: UInt32
  package var wrapped: WrappedKey

  package init(version: UInt32, wrapped: WrappedKey) {
    self.version = version
    self.wrapped = wrapped
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(version)
    writer.value(wrapped)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    version = try reader.varint32()
    wrapped = try reader.value()
  }
}

/// How key domains and their keys change.
package enum KeyChange: Hashable, Sendable, WireValue {
  /// A new domain with its first key. Refused: invalidName, keyDomainExists, unavailable (there are too many).
  /// -> number(the domain's)
  case create(name: String, wrap: MasterWrap, fingerprintKey: WrappedKey)
  /// The same keys under other master keys. Those that are gone are passed over. -> done
  case rewrap([Rewrap])
  /// The domain's next key, and its fingerprint key wrapped under that. Refused: noSuchKeyDomain, preconditionFailed when
  /// `key.version` is not the next one, unavailable (too many are in use). -> done
  case addKey(KeyDomainID, key: DomainKey, fingerprintKey: WrappedKey)
  /// Data keys, wrapped under the domain's newest key instead of another. Those that are gone are passed over. A key of the
  /// domain that wraps nothing any more is forgotten. Refused: noSuchKeyDomain, preconditionFailed when there is a newer
  /// one. -> done
  case rewrapDataKeys(KeyDomainID, version: UInt32, [Rewrapped])
  /// Another domain for a bucket without objects and multipart uploads; empty: none. Refused: noSuchBucket, noSuchKeyDomain,
  /// bucketNotEmpty. -> done
  case setBucket(bucket: String, keyDomain: String)

  /// Data keys of one command.
  package static let rewrappedLimit = 1024

  package struct Rewrap: Hashable, Sendable, WireValue {
    package var domain: KeyDomainID
    package var key: DomainKey

    package init(domain: KeyDomainID, key: DomainKey) {
      self.domain = domain
      self.key = key
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(domain)
      writer.value(key)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      domain = try reader.value()
      key = try reader.value()
    }
  }

  package struct Rewrapped: Hashable, Sendable, WireValue {
    /// Of the data key.
    package var id: UInt64
    package var wrapped: WrappedKey

    package init(id: UInt64, wrapped: WrappedKey) {
      self.id = id
      self.wrapped = wrapped
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(id)
      writer.value(wrapped)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      id = try reader.varint()
      wrapped = try reader.value()
    }
  }

  package func encode(into writer: inout ByteWriter) {
    switch self {
    case .create(let name, let wrap, let fingerprintKey):
      writer.fixed(UInt8(1))
      writer.string(name)
      writer.value(wrap)
      writer.value(fingerprintKey)
    case .rewrap(let keys):
      writer.fixed(UInt8(2))
      writer.list(keys)
    case .addKey(let domain, let key, let fingerprintKey):
      writer.fixed(UInt8(3))
      writer.value(domain)
      writer.value(key)
      writer.value(fingerprintKey)
    case .rewrapDataKeys(let domain, let version, let keys):
      writer.fixed(UInt8(4))
      writer.value(domain)
      writer.varint(version)
      writer.list(keys)
    case .setBucket(let bucket, let keyDomain):
      writer.fixed(UInt8(5))
      writer.string(bucket)
      writer.string(keyDomain)
    }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    switch try reader.fixed(UInt8.self) {
    case 1:
      self = .create(
        name: try reader.string(limit: 4096), wrap: try reader.value(),
        fingerprintKey: try reader.value())
    case 2:
      self = .rewrap(
        try reader.list(limit: KeyDomainRules.countLimit * KeyDomainRules.versionLimit))
    case 3:
      self = .addKey(
        try reader.value(), key: try reader.value(), fingerprintKey: try reader.value())
    case 4:
      self = .rewrapDataKeys(
        try reader.value(), version: try reader.varint32(),
        try reader.list(limit: Self.rewrappedLimit))
    case 5:
      self = .setBucket(
        bucket: try reader.string(limit: 4096), keyDomain: try reader.string(limit: 4096))
    default: throw .invalid("key change")
    }
  }
}
