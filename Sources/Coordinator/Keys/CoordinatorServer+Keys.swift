import Coding
import Messages
import Metadata
import Ring
import Service
import Wire

/// Keys handed out, key domains made, keys wrapped anew.
extension CoordinatorServer {
  func keys(_ request: GetKeys) async throws(Refusal) -> GetKeys.Answer {
    struct Found: Sendable {
      var domains: [KeyDomainID: KeyDomainRecord] = [:]
      var dataKeys: [(id: UInt64, record: DataKeyRecord)] = []
    }
    let found = try await query(request.level) { (machine) throws(StoreError) -> Found in
      var found = Found()
      for id in request.dataKeys {
        guard let record = try machine.dataKey(id) else { continue }
        found.dataKeys.append((id, record))
        found.domains[record.domain] = try machine.keyDomain(record.domain)
      }
      for id in request.domains { found.domains[id] = try machine.keyDomain(id) }
      return found
    }
    var plain = PlainKeys(domains: [], dataKeys: [])
    for id in request.domains {
      guard let record = found.domains[id] else { throw Refusal(.noSuchKeyDomain, "\(id)") }
      plain.domains.append(
        PlainKeys.Domain(id: id, fingerprintKey: try await vault.fingerprintKey(record)))
    }
    for (id, record) in found.dataKeys {
      guard let domain = found.domains[record.domain] else {
        throw Refusal(.noSuchKeyDomain, "\(record.domain)")
      }
      plain.dataKeys.append(
        PlainKeys.DataKey(
          id: id, domain: record.domain, key: try await vault.dataKey(id, record, domain)))
    }
    return GetKeys.Answer(
      plain, key: configuration.key.subkey("keys of key domains"),
      nonce: driver.randomBytes(AES256GCM.nonceByteCount))
  }

  /// A data key for a writer that asked for one.
  func newDataKey(of id: KeyDomainID) async throws(Refusal) -> NewDataKey {
    let record = try await query(.strong) { (machine) throws(StoreError) in
      try machine.keyDomain(id)
    }
    guard let record else { throw Refusal(.noSuchKeyDomain, "\(id)") }
    return try await vault.newDataKey(record)
  }

  func createKeyDomain(_ request: CreateKeyDomain) async throws(Refusal) -> Done {
    let leadership = try leading()
    if let rule = KeyDomainRules.brokenRule(name: request.name) {
      throw Refusal(.invalidName, rule)
    }
    let (wrap, fingerprintKey) = try await vault.newDomain(request.name)
    try await change(
      .create(name: request.name, wrap: wrap, fingerprintKey: fingerprintKey), leadership)
    log.info("key domain made", ["domain": request.name, "master_key": wrap.masterKey])
    return Done()
  }

  func setBucketKeyDomain(_ request: SetBucketKeyDomain) async throws(Refusal) -> Done {
    try await change(
      .setBucket(bucket: request.bucket, keyDomain: request.keyDomain), try leading())
    return Done()
  }

  private func change(_ change: KeyChange, _ leadership: Leadership) async throws(Refusal) {
    let (_, outcome) = try await leadership.submit(.changeKeys(change))
    if case .refused(let code, let reason) = outcome { throw Refusal(code: code, reason: reason) }
  }

  // MARK: Rotation

  func rotateKeys(_ request: RotateKeys) async throws(Refusal) -> RotateKeys.Answer {
    let leadership = try leading()
    let provider = try vault.required()
    let current: String
    do throws(KeyProviderError) {
      current = try await provider.currentKey()
    } catch {
      throw Refusal(.keyUnavailable, "\(error)")
    }
    let count: UInt64
    if let name = request.domain {
      count = try await rotateDomain(name, leadership)
    } else {
      count = try await rotateMaster(current, leadership)
    }
    log.info(
      "keys wrapped anew",
      ["domain": request.domain ?? "all", "keys": count, "master_key": current])
    return RotateKeys.Answer(masterKey: current, rewrappedCount: count)
  }

  /// Domains' keys under the current master key.
  private func rotateMaster(_ current: String, _ leadership: Leadership) async throws(Refusal)
    -> UInt64
  {
    let all = try await query(.strong) { (machine) throws(StoreError) in
      try machine.allKeyDomains()
    }
    var rewraps: [KeyChange.Rewrap] = []
    for (id, record) in all {
      for key in record.keys where key.key.wrap.masterKey != current {
        rewraps.append(
          KeyChange.Rewrap(
            domain: id, key: try await vault.rewrap(key.key.version, of: record)))
      }
    }
    if !rewraps.isEmpty { try await change(.rewrap(rewraps), leadership) }
    return UInt64(rewraps.count)
  }

  /// A domain's next key, and its data keys under that; when such a change was begun before and did not end, its end.
  private func rotateDomain(_ name: String, _ leadership: Leadership) async throws(Refusal)
    -> UInt64
  {
    var (id, record) = try await domain(named: name)
    if record.keys.count == 1 {
      let (key, fingerprintKey) = try await vault.nextKey(record)
      try await change(.addKey(id, key: key, fingerprintKey: fingerprintKey), leadership)
      (id, record) = try await domain(named: name)
    }
    var count: UInt64 = 0
    var first: UInt64? = 0
    while let from = first {
      let (domain, limit) = (id, KeyChange.rewrappedLimit)
      let (keys, next) = try await query(.strong) { (machine) throws(StoreError) in
        try machine.dataKeys(of: domain, from: from, limit: limit)
      }
      var rewrapped: [KeyChange.Rewrapped] = []
      for (key, dataKey) in keys {
        rewrapped.append(
          KeyChange.Rewrapped(id: key, wrapped: try await vault.rewrap(dataKey, of: record)))
      }
      if !rewrapped.isEmpty {
        try await change(
          .rewrapDataKeys(id, version: record.newest.version, rewrapped), leadership)
        count += UInt64(rewrapped.count)
      }
      first = next
    }
    return count
  }

  private func domain(named name: String) async throws(Refusal) -> (KeyDomainID, KeyDomainRecord) {
    let found = try await query(.strong) {
      (machine) throws(StoreError) -> (KeyDomainID, KeyDomainRecord)? in
      guard let id = try machine.keyDomain(named: name), let record = try machine.keyDomain(id)
      else { return nil }
      return (id, record)
    }
    guard let found else { throw Refusal(.noSuchKeyDomain, name) }
    return found
  }
}
