import Messages
import Metadata
import Service
import Wire

/// Key domains whose keys are their clients' alone: the cluster keeps what it cannot open.
extension CoordinatorServer {
  func wrappedKeys(_ wanted: GetKeys) async throws(Refusal) -> GetWrappedKeys.Answer {
    try await query(wanted.level) { (machine) throws(StoreError) in
      var answer = GetWrappedKeys.Answer(domains: [], dataKeys: [])
      var ids = Set(wanted.domains)
      for id in wanted.dataKeys {
        guard let record = try machine.dataKey(id),
          let domain = try machine.keyDomain(record.domain), domain.isClients
        else { continue }
        ids.insert(record.domain)
        answer.dataKeys.append(
          GetWrappedKeys.DataKey(
            id: id, domain: record.domain,
            key: NewDataKey(version: record.version, wrapped: record.wrapped)))
      }
      for id in ids.sorted() {
        guard let record = try machine.keyDomain(id), record.isClients else { continue }
        answer.domains.append(
          GetWrappedKeys.Domain(
            id: id, name: record.name, keys: record.keys.map(\.key),
            fingerprintKey: record.fingerprintKey))
      }
      return answer
    }
  }

  func createClientKeyDomain(_ request: CreateClientKeyDomain) async throws(Refusal) -> Done {
    let leadership = try leading()
    if let rule = KeyDomainRules.brokenRule(name: request.name) {
      throw Refusal(.invalidName, rule)
    }
    guard request.wrap.isClients else {
      throw Refusal(.malformed, "a key that a client wrapped is wanted")
    }
    try await record(
      .changeKeys(
        .create(name: request.name, wrap: request.wrap, fingerprintKey: request.fingerprintKey)),
      leadership)
    log.info("key domain made", ["domain": request.name, "master_key": request.wrap.masterKey])
    return Done()
  }

  func rewrapClientKeyDomain(_ request: RewrapClientKeyDomain) async throws(Refusal) -> Done {
    let leadership = try leading()
    guard request.wrap.isClients else {
      throw Refusal(.malformed, "a key that a client wrapped is wanted")
    }
    let id = request.domain
    // Between looking and recording another may not come: its passphrase would be lost.
    guard rewrapping.insert(id).inserted else {
      throw Refusal(.unavailable, "another passphrase is just given to it")
    }
    defer { rewrapping.remove(id) }
    let found = try await query(.strong) { (machine) throws(StoreError) in
      try machine.keyDomain(id)
    }
    guard let found else { throw Refusal(.noSuchKeyDomain, "\(id)") }
    guard found.isClients, found.key(request.before.version) == request.before else {
      throw Refusal(.preconditionFailed, "the key of '\(found.name)' was wrapped anew meanwhile")
    }
    try await record(
      .changeKeys(
        .rewrap([
          KeyChange.Rewrap(
            domain: id, key: DomainKey(version: request.before.version, wrap: request.wrap))
        ])), leadership)
    log.info("a client's key wrapped anew", ["domain": found.name])
    return Done()
  }
}
