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
  ///
  /// - Parameter offered: the one that the writer made, where the domain's key is its clients'.
  func newDataKey(of id: KeyDomainID, offered: NewDataKey?) async throws(Refusal) -> NewDataKey {
    let record = try await query(.strong) { (machine) throws(StoreError) in
      try machine.keyDomain(id)
    }
    guard let record else { throw Refusal(.noSuchKeyDomain, "\(id)") }
    if record.isClients, let offered { return offered }
    return try await vault.newDataKey(record)
  }

  func createKeyDomain(_ request: CreateKeyDomain) async throws(Refusal) -> Done {
    let leadership = try leading()
    if let rule = KeyDomainRules.brokenRule(name: request.name) {
      throw Refusal(.invalidName, rule)
    }
    // A provider that does not open what there is has the wrong keys: what they wrapped would be closed when it has the right ones.
    if let closed = try await closedDomains(.strong).first {
      throw Refusal(.keyUnavailable, "no key domain is made while another is closed: \(closed)")
    }
    let (wrap, fingerprintKey) = try await vault.newDomain(request.name)
    try await record(
      .changeKeys(.create(name: request.name, wrap: wrap, fingerprintKey: fingerprintKey)),
      leadership)
    log.info("key domain made", ["domain": request.name, "master_key": wrap.masterKey])
    return Done()
  }

  func setBucketKeyDomain(_ request: SetBucketKeyDomain) async throws(Refusal) -> Done {
    try await record(
      .changeKeys(.setBucket(bucket: request.bucket, keyDomain: request.keyDomain)), try leading())
    return Done()
  }

  // MARK: Rotation

  func rotateKeys(_ request: RotateKeys) async throws(Refusal) -> RotateKeys.Answer {
    let leadership = try leading()
    let current = try await vault.currentKey()
    let count: UInt64
    if let name = request.domain {
      count = try await rotateDomain(name, leadership)
    } else {
      count = try await rotateMaster(leadership)
    }
    log.info(
      "keys wrapped anew",
      ["domain": request.domain ?? "all", "keys": count, "master_key": current])
    return RotateKeys.Answer(masterKey: current, rewrappedCount: count)
  }

  /// Why key domains cannot be opened by what the key provider has, a line for each that cannot.
  private func closedDomains(_ level: ReadLevel) async throws(Refusal) -> [String] {
    let all = try await query(level) { (machine) throws(StoreError) in
      try machine.allKeyDomains()
    }
    if all.isEmpty { return [] }
    do throws(Refusal) {
      _ = try await vault.currentKey()
    } catch {
      return [error.reason]
    }
    var closed: [String] = []
    for (_, record) in all where !record.isClients {
      for key in record.keys {
        guard let reason = await vault.closedReason(key.key, of: record) else { continue }
        closed.append(reason)
        break
      }
    }
    return closed
  }

  /// Says in the log when key domains cannot be opened, before somebody wants to: a standby will lead one day.
  func watchKeys() async {
    var told: [String] = []
    var pause = Duration.seconds(5)
    while await driver.sleep(pause), !isStopping {
      let closed: [String]
      do throws(Refusal) {
        closed = try await closedDomains(.eventual)
      } catch {
        continue
      }
      pause = .seconds(60)
      guard closed != told else { continue }
      for reason in closed where !told.contains(reason) {
        log.warning("a key domain cannot be opened", ["reason": reason])
      }
      if closed.isEmpty { log.info("all key domains can be opened") }
      told = closed
    }
  }

  /// Each has at most some 4 KiB.
  private static let rewrapsAtOnce = 32

  /// Domains' keys under the current master key, and those that the provider cannot open any more, but that were opened before.
  ///
  /// - Throws: after all that could be wrapped anew were, when some could not.
  private func rotateMaster(_ leadership: Leadership) async throws(Refusal) -> UInt64 {
    let all = try await query(.strong) { (machine) throws(StoreError) in
      try machine.allKeyDomains()
    }
    var rewraps: [KeyChange.Rewrap] = []
    var closed: [Refusal] = []
    for (id, record) in all where !record.isClients {
      for key in record.keys {
        if try await vault.isUnderCurrentKey(key.key, of: record) { continue }
        do throws(Refusal) {
          rewraps.append(
            KeyChange.Rewrap(
              domain: id, key: try await vault.rewrap(key.key.version, of: record)))
        } catch {
          closed.append(error)
        }
      }
    }
    // Some at a time: a command fits a batch of the log.
    for first in stride(from: 0, to: rewraps.count, by: Self.rewrapsAtOnce) {
      let some = rewraps[first..<min(first + Self.rewrapsAtOnce, rewraps.count)]
      try await record(.changeKeys(.rewrap(Array(some))), leadership)
    }
    if let first = closed.first {
      let others = closed.count > 1 ? ", and \(closed.count - 1) more" : ""
      throw Refusal(
        code: first.code,
        reason: "\(first.reason)\(others); \(counted(rewraps.count, "other")) wrapped anew")
    }
    return UInt64(rewraps.count)
  }

  /// A domain's next key, and its data keys under that; when such a change was begun before and did not end, its end.
  private func rotateDomain(_ name: String, _ leadership: Leadership) async throws(Refusal)
    -> UInt64
  {
    var (id, record) = try await domain(named: name)
    if record.isClients { throw KeyVault.refusal(record) }
    if record.keys.count == 1 {
      let (key, fingerprintKey) = try await vault.nextKey(record)
      try await self.record(
        .changeKeys(.addKey(id, key: key, fingerprintKey: fingerprintKey)), leadership)
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
        try await self.record(
          .changeKeys(.rewrapDataKeys(id, version: record.newest.version, rewrapped)), leadership)
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
