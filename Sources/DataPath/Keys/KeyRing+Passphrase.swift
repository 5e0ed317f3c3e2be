package import Coding
package import Messages
import Ring

/// Key domains whose keys are their clients' alone: opened with the passphrase, made, and given another one.
extension KeyRing {
  /// Opens a domain with the passphrase.
  ///
  /// - Throws: keyIsClients when there is none, or it is wrong.
  func open(_ domain: GetWrappedKeys.Domain) async throws(DataPathError) -> (
    ClientDomain, KeyedDomain
  ) {
    guard let passphrase else { throw Self.closed(domain.name, "opened by its passphrase") }
    var keys: [UInt32: [UInt8]] = [:]
    for key in domain.keys {
      let name = domain.name
      let found = await coordinator.driver.offload(lane: 0) {
        () -> Result<[UInt8], PassphraseWrap.Problem> in
        do throws(PassphraseWrap.Problem) {
          return .success(
            try PassphraseWrap.open(
              key.wrap, passphrase: passphrase, domain: name, version: key.version))
        } catch {
          return .failure(error)
        }
      }
      switch found {
      case .success(let secret): keys[key.version] = secret
      case .failure(.wrongPassphrase):
        throw Self.closed(domain.name, "not opened by this passphrase")
      case .failure(.malformed): throw .corrupt("the key of key domain '\(domain.name)'")
      case .failure(.noMemory(let count)):
        throw Self.closed(
          domain.name, "opened with \(count >> 20) MiB of memory, which are not there")
      }
    }
    let newest = domain.keys[domain.keys.count - 1].version
    guard let key = keys[newest],
      let fingerprintKey = KeyWrapping.open(
        domain.fingerprintKey, .fingerprintKey, domain: domain.name, under: key, version: newest)
    else { throw .corrupt("the fingerprint key of key domain '\(domain.name)'") }
    return (
      ClientDomain(id: domain.id, name: domain.name, keys: keys, newest: newest),
      KeyedDomain(id: domain.id, fingerprintKey: fingerprintKey)
    )
  }

  private static func closed(_ name: String, _ how: String) -> DataPathError {
    .refused(code: RefusalCode.keyIsClients.rawValue, reason: "key domain '\(name)' is \(how)")
  }

  /// A new domain, whose key is random and wrapped by the passphrase: made by the coordinator, opened here.
  ///
  /// - Parameter cost: of the passphrase.
  package func makeDomain(_ name: String, passphrase: [UInt8], cost: Scrypt = .standard)
    async throws(DataPathError)
  {
    let driver = coordinator.driver
    let key = driver.randomBytes(AES256GCM.keyByteCount)
    let wrap = try await wrapped(key, passphrase, domain: name, version: 1, cost)
    _ = try await coordinator.query(
      CreateClientKeyDomain(
        name: name, wrap: wrap,
        fingerprintKey: KeyWrapping.wrap(
          driver.randomBytes(AES256GCM.keyByteCount), .fingerprintKey, domain: name, under: key,
          version: 1, nonce: driver.randomBytes(AES256GCM.nonceByteCount))))
  }

  /// Another passphrase for a domain, which ``passphrase`` opens. What is stored stays as it is, and so does the key.
  package func changePassphrase(
    of id: KeyDomainID, to new: [UInt8], cost: Scrypt = .standard
  ) async throws(DataPathError) {
    let answer = try await coordinator.query(GetWrappedKeys(GetKeys(domains: [id])))
    guard let domain = answer.domains.first else {
      throw .refused(
        code: RefusalCode.preconditionFailed.rawValue,
        reason: "the key domain has no passphrase: its keys are the cluster's")
    }
    let (found, _) = try await open(domain)
    for key in domain.keys {
      let wrap = try await wrapped(
        found.keys[key.version]!, new, domain: domain.name, version: key.version, cost)
      _ = try await coordinator.query(RewrapClientKeyDomain(domain: id, before: key, wrap: wrap))
    }
  }

  private func wrapped(
    _ key: [UInt8], _ passphrase: [UInt8], domain: String, version: UInt32, _ cost: Scrypt
  ) async throws(DataPathError) -> MasterWrap {
    let driver = coordinator.driver
    let salt = driver.randomBytes(PassphraseWrap.saltByteCount)
    let nonce = driver.randomBytes(AES256GCM.nonceByteCount)
    let wrap = await driver.offload(lane: 0) {
      try? PassphraseWrap.wrap(
        key, passphrase: passphrase, domain: domain, version: version, cost: cost, salt: salt,
        nonce: nonce)
    }
    guard let wrap else {
      throw Self.closed(
        domain, "closed with \(cost.memoryByteCount >> 20) MiB of memory, which are not there")
    }
    return wrap
  }
}
