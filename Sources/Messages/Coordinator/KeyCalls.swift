/// Keys of key domains: asking for them, making domains, rotation. Methods 580 ... 587.
internal import Coding
package import Wire

/// Keys in plain, for readers and writers. They travel sealed under a subkey of the cluster's key, whatever the connection.
///
/// Any coordinator that has the state answers. Refused: noSuchKeyDomain; keyUnavailable, with the name of the master key that
/// is not there; keyIsClients, see ``GetWrappedKeys``.
package struct GetKeys: Call {
  package static let method: UInt16 = 580
  package var level: ReadLevel
  /// Whose fingerprint keys are wanted.
  package var domains: [KeyDomainID]
  /// By id. Those that are not there any more are left out of the answer.
  package var dataKeys: [UInt64]

  /// Of each.
  package static let limit = 256

  package init(level: ReadLevel = .strong, domains: [KeyDomainID] = [], dataKeys: [UInt64] = []) {
    self.level = level
    self.domains = domains
    self.dataKeys = dataKeys
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.list(domains)
    writer.list(dataKeys)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    domains = try reader.list(limit: Self.limit)
    dataKeys = try reader.list(limit: Self.limit)
  }

  package struct Answer: Hashable, Sendable, WireValue {
    /// A ``PlainKeys``, sealed.
    package var sealed: [UInt8]
    private static let binding = Array("keys of key domains".utf8)

    /// - Parameters:
    ///   - key: `ClusterKey.subkey("keys of key domains")`.
    ///   - nonce: 12 random bytes, used for nothing else.
    package init(_ keys: PlainKeys, key: [UInt8], nonce: [UInt8]) {
      sealed = SealedSecret.seal(keys.encoded, key: key, nonce: nonce, binding: Self.binding)
    }
    /// Nil when it was not sealed under that key, or holds something else.
    package func opened(key: [UInt8]) -> PlainKeys? {
      SealedSecret.open(sealed, key: key, binding: Self.binding).flatMap {
        try? PlainKeys(decoding: $0)
      }
    }
    package func encode(into writer: inout ByteWriter) { writer.blob(sealed) }
    package init(from reader: inout ByteReader) throws(ValueError) {
      sealed = try reader.blob(limit: 1 << 16)
    }
  }
}

/// What ``GetKeys`` answers, opened.
package struct PlainKeys: Hashable, Sendable, WireValue {
  package struct Domain: Hashable, Sendable, WireValue {
    package var id: KeyDomainID
    /// 32 bytes.
    package var fingerprintKey: [UInt8]

    package init(id: KeyDomainID, fingerprintKey: [UInt8]) {
      self.id = id
      self.fingerprintKey = fingerprintKey
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(id)
      writer.raw(fingerprintKey)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      id = try reader.value()
      fingerprintKey = try reader.raw(32)
    }
  }
  package struct DataKey: Hashable, Sendable, WireValue {
    package var id: UInt64
    package var domain: KeyDomainID
    /// 32 bytes, for AES-256-GCM.
    package var key: [UInt8]

    package init(id: UInt64, domain: KeyDomainID, key: [UInt8]) {
      self.id = id
      self.domain = domain
      self.key = key
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(id)
      writer.value(domain)
      writer.raw(key)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      id = try reader.varint()
      domain = try reader.value()
      key = try reader.raw(AES256GCM.keyByteCount)
    }
  }
  package var domains: [Domain]
  package var dataKeys: [DataKey]

  package init(domains: [Domain], dataKeys: [DataKey]) {
    self.domains = domains
    self.dataKeys = dataKeys
  }
  package func encode(into writer: inout ByteWriter) {
    writer.list(domains)
    writer.list(dataKeys)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    domains = try reader.list(limit: GetKeys.limit)
    dataKeys = try reader.list(limit: GetKeys.limit)
  }
}

/// All key domains, by number.
package struct ListKeyDomains: Call {
  package static let method: UInt16 = 581
  package var level: ReadLevel

  package init(level: ReadLevel) { self.level = level }
  package func encode(into writer: inout ByteWriter) { writer.value(level) }
  package init(from reader: inout ByteReader) throws(ValueError) { level = try reader.value() }

  package struct Answer: Hashable, Sendable, WireValue {
    package var domains: [KeyDomainDescription]
    package init(domains: [KeyDomainDescription]) { self.domains = domains }
    package func encode(into writer: inout ByteWriter) { writer.list(domains) }
    package init(from reader: inout ByteReader) throws(ValueError) { domains = try reader.list() }
  }
}

/// A key domain, without any key.
package struct KeyDomainDescription: Hashable, Sendable, WireValue {
  package var id: KeyDomainID
  package var name: String
  /// Milliseconds since 1970.
  package var created: UInt64
  /// Those in use, the newest last; more than one: a rotation is under way, or ended early.
  package var keys: [Key]

  package struct Key: Hashable, Sendable, WireValue {
    package var version: UInt32
    package var masterKey: String
    /// Data keys that are wrapped under it.
    package var dataKeyCount: UInt64

    package init(version: UInt32, masterKey: String, dataKeyCount: UInt64) {
      self.version = version
      self.masterKey = masterKey
      self.dataKeyCount = dataKeyCount
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(version)
      writer.string(masterKey)
      writer.varint(dataKeyCount)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      version = try reader.varint32()
      masterKey = try reader.string()
      dataKeyCount = try reader.varint()
    }
  }

  package init(id: KeyDomainID, name: String, created: UInt64, keys: [Key]) {
    self.id = id
    self.name = name
    self.created = created
    self.keys = keys
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(id)
    writer.string(name)
    writer.varint(created)
    writer.list(keys)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    id = try reader.value()
    name = try reader.string()
    created = try reader.varint()
    keys = try reader.list()
  }
}

/// Makes a key domain. Only the leader answers. Refused: invalidName, keyDomainExists, keyUnavailable.
package struct CreateKeyDomain: Call {
  package static let method: UInt16 = 582
  package typealias Answer = Done
  package var name: String

  package init(name: String) { self.name = name }
  package func encode(into writer: inout ByteWriter) { writer.string(name) }
  package init(from reader: inout ByteReader) throws(ValueError) {
    name = try reader.string(limit: 4096)
  }
}

/// Wraps keys anew, which encrypts no byte anew. Only the leader answers; asked again it goes on where it stopped.
/// Refused: noSuchKeyDomain, keyUnavailable.
package struct RotateKeys: Call {
  package static let method: UInt16 = 583
  /// The domain that gets a new key, under which all its data keys are wrapped. Nil: all domains' keys are wrapped under the
  /// provider's current master key.
  package var domain: String?

  package init(domain: String?) { self.domain = domain }
  package func encode(into writer: inout ByteWriter) { writer.optional(domain) }
  package init(from reader: inout ByteReader) throws(ValueError) {
    domain = try reader.optional()
  }

  package struct Answer: Hashable, Sendable, WireValue {
    /// What wraps now: the master key's name.
    package var masterKey: String
    /// Keys that were wrapped anew: domains' keys, or a domain's data keys.
    package var rewrappedCount: UInt64

    package init(masterKey: String, rewrappedCount: UInt64) {
      self.masterKey = masterKey
      self.rewrappedCount = rewrappedCount
    }
    package func encode(into writer: inout ByteWriter) {
      writer.string(masterKey)
      writer.varint(rewrappedCount)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      masterKey = try reader.string()
      rewrappedCount = try reader.varint()
    }
  }
}

/// Gives a bucket without objects another key domain. Only the leader answers. Refused: noSuchBucket, noSuchKeyDomain,
/// bucketNotEmpty.
package struct SetBucketKeyDomain: Call {
  package static let method: UInt16 = 584
  package typealias Answer = Done
  package var bucket: String
  /// Empty: none.
  package var keyDomain: String

  package init(bucket: String, keyDomain: String) {
    self.bucket = bucket
    self.keyDomain = keyDomain
  }
  package func encode(into writer: inout ByteWriter) {
    writer.string(bucket)
    writer.string(keyDomain)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    bucket = try reader.string(limit: 4096)
    keyDomain = try reader.string(limit: 4096)
  }
}

/// Keys of domains whose keys are their clients' alone, as they are kept: wrapped. Those of other domains, and what is not there any
/// more, is left out of the answer.
package struct GetWrappedKeys: Call {
  package static let method: UInt16 = 585
  package var wanted: GetKeys

  package init(_ wanted: GetKeys) { self.wanted = wanted }
  package func encode(into writer: inout ByteWriter) { writer.value(wanted) }
  package init(from reader: inout ByteReader) throws(ValueError) { wanted = try reader.value() }

  package struct Answer: Hashable, Sendable, WireValue {
    /// Those asked for, and those of the data keys.
    package var domains: [Domain]
    package var dataKeys: [DataKey]

    package init(domains: [Domain], dataKeys: [DataKey]) {
      self.domains = domains
      self.dataKeys = dataKeys
    }
    package func encode(into writer: inout ByteWriter) {
      writer.list(domains)
      writer.list(dataKeys)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      domains = try reader.list(limit: 2 * GetKeys.limit)
      dataKeys = try reader.list(limit: GetKeys.limit)
    }
  }

  package struct Domain: Hashable, Sendable, WireValue {
    package var id: KeyDomainID
    package var name: String
    /// Those in use, the newest last.
    package var keys: [DomainKey]
    /// Under the newest.
    package var fingerprintKey: WrappedKey

    package init(id: KeyDomainID, name: String, keys: [DomainKey], fingerprintKey: WrappedKey) {
      self.id = id
      self.name = name
      self.keys = keys
      self.fingerprintKey = fingerprintKey
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(id)
      writer.string(name)
      writer.list(keys)
      writer.value(fingerprintKey)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      id = try reader.value()
      name = try reader.string(limit: 64)
      keys = try reader.list(limit: KeyDomainRules.versionLimit)
      fingerprintKey = try reader.value()
      guard !keys.isEmpty else { throw .invalid("key domain") }
    }
  }

  package struct DataKey: Hashable, Sendable, WireValue {
    package var id: UInt64
    package var domain: KeyDomainID
    package var key: NewDataKey

    package init(id: UInt64, domain: KeyDomainID, key: NewDataKey) {
      self.id = id
      self.domain = domain
      self.key = key
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(id)
      writer.value(domain)
      writer.value(key)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      id = try reader.varint()
      domain = try reader.value()
      key = try reader.value()
    }
  }
}

/// Makes a key domain whose key is its clients' alone. Only the leader answers. Refused: invalidName, keyDomainExists, malformed
/// when the key is wrapped by a master key.
package struct CreateClientKeyDomain: Call {
  package static let method: UInt16 = 586
  package typealias Answer = Done
  package var name: String
  package var wrap: MasterWrap
  package var fingerprintKey: WrappedKey

  package init(name: String, wrap: MasterWrap, fingerprintKey: WrappedKey) {
    self.name = name
    self.wrap = wrap
    self.fingerprintKey = fingerprintKey
  }
  package func encode(into writer: inout ByteWriter) {
    writer.string(name)
    writer.value(wrap)
    writer.value(fingerprintKey)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    name = try reader.string(limit: 4096)
    wrap = try reader.value()
    fingerprintKey = try reader.value()
  }
}

/// Another passphrase for a domain whose key is its clients' alone: the same key, wrapped anew. Only the leader answers. Refused:
/// noSuchKeyDomain, preconditionFailed when it was wrapped anew meanwhile, malformed.
package struct RewrapClientKeyDomain: Call {
  package static let method: UInt16 = 587
  package typealias Answer = Done
  package var domain: KeyDomainID
  /// As it was found.
  package var before: DomainKey
  package var wrap: MasterWrap

  package init(domain: KeyDomainID, before: DomainKey, wrap: MasterWrap) {
    self.domain = domain
    self.before = before
    self.wrap = wrap
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(domain)
    writer.value(before)
    writer.value(wrap)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    domain = try reader.value()
    before = try reader.value()
    wrap = try reader.value()
  }
}
