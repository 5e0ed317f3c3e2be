import Coding
import Messages
import Ring

/// A key domain whose key is its clients' alone, opened with the passphrase.
struct ClientDomain: Sendable {
  var id: KeyDomainID
  var name: String
  /// By version.
  var keys: [UInt32: [UInt8]]
  var newest: UInt32

  /// - Throws: ``DataPathError/corrupt(_:)`` when it is not what a client of this domain wrapped.
  func opened(_ wrapped: GetWrappedKeys.DataKey) throws(DataPathError) -> DataKey {
    guard let key = keys[wrapped.key.version],
      let secret = KeyWrapping.open(
        wrapped.key.wrapped, .dataKey, domain: name, under: key, version: wrapped.key.version)
    else { throw .corrupt("data key \(wrapped.id) of key domain '\(name)'") }
    return dataKey(wrapped.id, secret)
  }

  func dataKey(_ id: UInt64, _ secret: [UInt8]) -> DataKey {
    DataKey(id: id, domain: self.id, key: KeyWrapping.dataKey(id, of: self.id, secret: secret))
  }

  /// A secret for a data key, wrapped.
  ///
  /// - Parameters:
  ///   - secret: 32 random bytes.
  ///   - nonce: 12 random bytes, used for nothing else.
  func wrapped(_ secret: [UInt8], nonce: [UInt8]) -> NewDataKey {
    NewDataKey(
      version: newest,
      wrapped: KeyWrapping.wrap(
        secret, .dataKey, domain: name, under: keys[newest]!, version: newest, nonce: nonce))
  }
}
