package import Coding
internal import Wire

/// How the keys of a key domain wrap one another: the coordinator does it for domains whose keys a master key wraps, clients for
/// those whose keys are theirs alone.
///
///     master key, or passphrase -> domain's key -> fingerprint key
///                                               -> data key's secret -> HMAC over its id -> data key
///
/// The last step binds a data key to its id: a wrapped secret put under another id gives another key, so that nobody
/// who can change the metadata can have two writers seal with one key.
package enum KeyWrapping {
  package enum Purpose: String {
    case domainKey = "domain key"
    case fingerprintKey = "fingerprint key"
    case dataKey = "data key"
  }

  /// What a wrapped key belongs to; opening takes the same.
  ///
  /// - Parameter version: of the domain's key, which is wrapped or wraps.
  package static func binding(_ purpose: Purpose, domain: String, version: UInt32) -> [UInt8] {
    Array("cairn \(purpose.rawValue)\0\(domain)\0\(version)".utf8)
  }

  /// - Parameters:
  ///   - secret: 32 bytes.
  ///   - key: the domain's, of that version.
  ///   - nonce: 12 random bytes, used for nothing else.
  package static func wrap(
    _ secret: [UInt8], _ purpose: Purpose, domain: String, under key: [UInt8], version: UInt32,
    nonce: [UInt8]
  ) -> WrappedKey {
    precondition(secret.count == AES256GCM.keyByteCount)
    return WrappedKey(
      SealedSecret.seal(
        secret, key: key, nonce: nonce,
        binding: binding(purpose, domain: domain, version: version)))!
  }

  /// Nil when it is not what was wrapped.
  package static func open(
    _ wrapped: WrappedKey, _ purpose: Purpose, domain: String, under key: [UInt8],
    version: UInt32
  ) -> [UInt8]? {
    SealedSecret.open(
      wrapped.bytes, key: key, binding: binding(purpose, domain: domain, version: version))
  }

  /// The data key of that id, made of what was wrapped.
  package static func dataKey(_ id: UInt64, of domain: KeyDomainID, secret: [UInt8]) -> [UInt8] {
    var writer = ByteWriter()
    writer.raw(Array("cairn data key\0".utf8))
    writer.fixed(id)
    writer.value(domain)
    return HMACSHA256.authenticate(writer.bytes, key: secret)
  }
}

/// A domain's key as a passphrase wraps it: a ``MasterWrap`` that no coordinator can open.
///
///     1, the version | scrypt's cost (as a power of 2), block size, parallelism | salt, 16 bytes | the key, sealed
///
/// The key is sealed under what scrypt makes of passphrase and salt; the bytes before it are authenticated with it.
package enum PassphraseWrap {
  /// What stands in the place of a master key's name; master keys are not called so, for no name of one has a colon.
  package static let name = "client:passphrase"
  package static let saltByteCount = 16
  private static let headerByteCount = 4 + saltByteCount

  package enum Problem: Error, Equatable {
    /// It is no such wrap, or asks for more memory than any that is made here.
    case malformed
    case wrongPassphrase
    /// Scrypt did not get its memory, in bytes.
    case noMemory(Int)
  }

  /// - Parameters:
  ///   - key: the domain's, 32 bytes.
  ///   - salt: random, and used for nothing else.
  ///   - nonce: 12 random bytes, used for nothing else.
  package static func wrap(
    _ key: [UInt8], passphrase: [UInt8], domain: String, version: UInt32,
    cost: Scrypt = .standard, salt: [UInt8], nonce: [UInt8]
  ) throws(Problem) -> MasterWrap {
    precondition(salt.count == saltByteCount)
    let header = [1, cost.logCost, cost.blockSize, cost.parallelism] + salt
    guard let outer = cost.key(passphrase, salt: salt) else {
      throw .noMemory(cost.memoryByteCount)
    }
    return MasterWrap(
      masterKey: name,
      bytes: header
        + SealedSecret.seal(
          key, key: outer, nonce: nonce, binding: binding(domain, version, header)))
  }

  /// The domain's key.
  package static func open(
    _ wrap: MasterWrap, passphrase: [UInt8], domain: String, version: UInt32
  ) throws(Problem) -> [UInt8] {
    let header = Array(wrap.bytes.prefix(headerByteCount))
    guard wrap.masterKey == name, header.count == headerByteCount, header[0] == 1,
      wrap.bytes.count == headerByteCount + WrappedKey.byteCount,
      let cost = Scrypt(logCost: header[1], blockSize: header[2], parallelism: header[3])
    else { throw .malformed }
    guard let outer = cost.key(passphrase, salt: Array(header[4...])) else {
      throw .noMemory(cost.memoryByteCount)
    }
    let sealed = Array(wrap.bytes[headerByteCount...])
    guard
      let key = SealedSecret.open(sealed, key: outer, binding: binding(domain, version, header))
    else { throw .wrongPassphrase }
    return key
  }

  private static func binding(_ domain: String, _ version: UInt32, _ header: [UInt8]) -> [UInt8] {
    KeyWrapping.binding(.domainKey, domain: domain, version: version) + [0] + header
  }
}

extension MasterWrap {
  /// Only clients can open it: the cluster has no key for it.
  package var isClients: Bool { masterKey.utf8.starts(with: "client:".utf8) }
}
