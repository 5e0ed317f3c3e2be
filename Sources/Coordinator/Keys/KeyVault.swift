import Coding
import Messages
import Metadata
import Ring
import Wire

/// Opens what the state keeps wrapped. Domains' keys stay here in plain once they were opened, in memory alone. Loop-confined.
/// ``KeyWrapping`` says how keys wrap one another.
final class KeyVault: @unchecked Sendable {
  // Loop-confined.
  private struct Name: Hashable {
    var domain: String
    var version: UInt32
  }
  private let driver: any Driver
  private let provider: (any KeyProvider)?
  private var domainKeys: [Name: [UInt8]] = [:]

  init(_ choice: KeyProviderChoice, driver: any Driver) {
    self.driver = driver
    provider = choice.provider(on: driver)
  }

  /// - Throws: keyUnavailable.
  private func required() throws(Refusal) -> any KeyProvider {
    guard let provider else {
      throw Refusal(
        .keyUnavailable,
        "this coordinator has no master key: master_keys is missing in its configuration"
      )
    }
    return provider
  }

  /// The name of the master key that wraps now, as the provider has it at this moment.
  func currentKey() async throws(Refusal) -> String {
    let provider = try required()
    do throws(KeyProviderError) {
      return try await provider.currentKey()
    } catch {
      throw Refusal(.keyUnavailable, "\(error)")
    }
  }

  private static func binding(_ domain: String, _ version: UInt32) -> [UInt8] {
    KeyWrapping.binding(.domainKey, domain: domain, version: version)
  }

  /// For one whose key is its clients'.
  static func refusal(_ record: KeyDomainRecord) -> Refusal {
    Refusal(
      .keyIsClients,
      "key domain '\(record.name)' is opened by its passphrase, which only clients have")
  }

  // MARK: Opening

  private func domainKey(_ record: KeyDomainRecord, _ version: UInt32) async throws(Refusal)
    -> [UInt8]
  {
    let name = Name(domain: record.name, version: version)
    if let known = domainKeys[name] { return known }
    guard let key = record.key(version) else {
      throw Refusal(.failed, "'\(record.name)' has no key \(version)")
    }
    let secret = try await unwrapped(key, of: record)
    domainKeys[name] = secret
    return secret
  }

  private func unwrapped(_ key: DomainKey, of record: KeyDomainRecord) async throws(Refusal)
    -> [UInt8]
  {
    if record.isClients { throw Self.refusal(record) }
    let provider = try required()
    let secret: [UInt8]
    do throws(KeyProviderError) {
      secret = try await provider.unwrap(
        key.wrap, binding: Self.binding(record.name, key.version))
    } catch {
      throw Refusal(.keyUnavailable, "key domain '\(record.name)' is closed: \(error)")
    }
    guard secret.count == AES256GCM.keyByteCount else {
      throw Refusal(.keyUnavailable, "key domain '\(record.name)': a key of another size")
    }
    return secret
  }

  /// Why the provider cannot open a key of a domain, for people; nil when it can. What was opened before does not count: after
  /// a restart it is gone.
  func closedReason(_ key: DomainKey, of record: KeyDomainRecord) async -> String? {
    do throws(Refusal) {
      _ = try await unwrapped(key, of: record)
      return nil
    } catch {
      return error.reason
    }
  }

  /// Whether wrapping that key anew would be in vain; false also when the provider cannot be asked.
  func isUnderCurrentKey(_ key: DomainKey, of record: KeyDomainRecord) async throws(Refusal)
    -> Bool
  {
    let provider = try required()
    do throws(KeyProviderError) {
      return try await provider.isCurrent(
        key.wrap, binding: Self.binding(record.name, key.version))
    } catch {
      return false
    }
  }

  private func open(
    _ wrapped: WrappedKey, _ purpose: KeyWrapping.Purpose, _ record: KeyDomainRecord,
    _ version: UInt32
  ) async throws(Refusal) -> [UInt8] {
    let key = try await domainKey(record, version)
    guard
      let secret = KeyWrapping.open(
        wrapped, purpose, domain: record.name, under: key, version: version)
    else {
      throw Refusal(.keyUnavailable, "a wrapped key of key domain '\(record.name)' was changed")
    }
    return secret
  }

  func fingerprintKey(_ record: KeyDomainRecord) async throws(Refusal) -> [UInt8] {
    try await open(
      record.fingerprintKey, .fingerprintKey, record, record.newest.version)
  }

  func dataKey(_ id: UInt64, _ record: DataKeyRecord, _ domain: KeyDomainRecord)
    async throws(Refusal) -> [UInt8]
  {
    let secret = try await open(record.wrapped, .dataKey, domain, record.version)
    return KeyWrapping.dataKey(id, of: record.domain, secret: secret)
  }

  // MARK: Wrapping

  private func wrap(
    _ secret: [UInt8], _ purpose: KeyWrapping.Purpose, _ domain: String, under key: [UInt8],
    _ version: UInt32
  ) -> WrappedKey {
    KeyWrapping.wrap(
      secret, purpose, domain: domain, under: key, version: version,
      nonce: driver.randomBytes(AES256GCM.nonceByteCount))
  }

  private func wrapByMaster(_ key: [UInt8], _ domain: String, _ version: UInt32)
    async throws(Refusal) -> MasterWrap
  {
    let provider = try required()
    let binding = Self.binding(domain, version)
    do throws(KeyProviderError) {
      let wrap = try await provider.wrap(key, binding: binding)
      // Some keys, and some rights, are for wrapping alone: then the key would be lost with this process.
      guard try await provider.unwrap(wrap, binding: binding) == key else {
        throw .notAuthentic(wrap.masterKey)
      }
      guard !wrap.isClients else {
        throw .unavailable("a master key cannot be called '\(wrap.masterKey)'")
      }
      return wrap
    } catch {
      throw Refusal(.keyUnavailable, "\(error)")
    }
  }

  /// A domain's first key and its fingerprint key, both random.
  func newDomain(_ name: String) async throws(Refusal) -> (MasterWrap, fingerprintKey: WrappedKey) {
    let key = driver.randomBytes(AES256GCM.keyByteCount)
    return (
      try await wrapByMaster(key, name, 1),
      wrap(
        driver.randomBytes(AES256GCM.keyByteCount), .fingerprintKey, name, under: key, 1)
    )
  }

  /// A domain's next key, random, and its fingerprint key, the same as before, under it.
  func nextKey(_ record: KeyDomainRecord) async throws(Refusal) -> (
    DomainKey, fingerprintKey: WrappedKey
  ) {
    let fingerprintKey = try await fingerprintKey(record)
    let key = driver.randomBytes(AES256GCM.keyByteCount)
    let version = record.newest.version + 1
    return (
      DomainKey(version: version, wrap: try await wrapByMaster(key, record.name, version)),
      wrap(fingerprintKey, .fingerprintKey, record.name, under: key, version)
    )
  }

  /// The same key under the provider's current master key.
  func rewrap(_ version: UInt32, of record: KeyDomainRecord) async throws(Refusal) -> DomainKey {
    let key = try await domainKey(record, version)
    return DomainKey(version: version, wrap: try await wrapByMaster(key, record.name, version))
  }

  /// A data key, random, under the domain's newest key.
  func newDataKey(_ record: KeyDomainRecord) async throws(Refusal) -> NewDataKey {
    let version = record.newest.version
    let key = try await domainKey(record, version)
    return NewDataKey(
      version: version,
      wrapped: wrap(
        driver.randomBytes(AES256GCM.keyByteCount), .dataKey, record.name, under: key, version))
  }

  /// The same data key under the domain's newest key.
  func rewrap(_ dataKey: DataKeyRecord, of record: KeyDomainRecord) async throws(Refusal)
    -> WrappedKey
  {
    let secret = try await open(dataKey.wrapped, .dataKey, record, dataKey.version)
    let version = record.newest.version
    return wrap(
      secret, .dataKey, record.name, under: try await domainKey(record, version), version)
  }
}
