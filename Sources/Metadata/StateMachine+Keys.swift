internal import Cluster
package import Messages

/// Key domains and data keys, all wrapped: whoever has the state without the cluster's master key has none of them.
///
/// A data key belongs to the upload that asked for it, which alone seals with it. It stays until that has ended and no
/// container has groups sealed with it any more.
extension StateMachine {
  /// Data keys that one upload may have.
  static let dataKeyLimit = 4096

  func changeKeys(_ change: KeyChange) throws(StoreError) -> CommandOutcome {
    switch change {
    case .create(let name, let wrap, let fingerprintKey):
      return try createKeyDomain(name, wrap, fingerprintKey)
    case .rewrap(let keys):
      for rewrap in keys {
        guard var record = try keyDomains.get(rewrap.domain),
          let index = record.keys.firstIndex(where: { $0.key.version == rewrap.key.version })
        else { continue }
        record.keys[index].key.wrap = rewrap.key.wrap
        keyDomains.set(rewrap.domain, record)
      }
      return .done
    case .addKey(let id, let key, let fingerprintKey):
      guard var record = try keyDomains.get(id) else { return .refused(.noSuchKeyDomain, "\(id)") }
      guard key.version == record.newest.version &+ 1, key.version > 0 else {
        return .refused(.preconditionFailed, "the newest key has version \(record.newest.version)")
      }
      guard record.keys.count < KeyDomainRules.versionLimit else {
        return .refused(.unavailable, "'\(record.name)' has \(record.keys.count) keys in use")
      }
      record.keys.append(KeyDomainRecord.Key(key))
      record.fingerprintKey = fingerprintKey
      record.prune()
      keyDomains.set(id, record)
      return .done
    case .rewrapDataKeys(let id, let version, let keys):
      return try rewrapDataKeys(of: id, version, keys)
    case .setBucket(let bucket, let keyDomain):
      return try setKeyDomain(ofBucket: bucket, keyDomain)
    }
  }

  private func createKeyDomain(_ name: String, _ wrap: MasterWrap, _ fingerprintKey: WrappedKey)
    throws(StoreError) -> CommandOutcome
  {
    if let rule = KeyDomainRules.brokenRule(name: name) { return .refused(.invalidName, rule) }
    let all = try allKeyDomains()
    guard try keyDomain(named: name) == nil else { return .refused(.keyDomainExists, name) }
    guard all.count < KeyDomainRules.countLimit else {
      return .refused(
        .unavailable, "a cluster has at most \(KeyDomainRules.countLimit) key domains")
    }
    // None is ever removed, so that the highest number is the last one given.
    let last = all.last?.id ?? .plain
    guard last.raw < .max else { throw .corrupt("\(last)") }
    let id = KeyDomainID(last.raw + 1)
    keyDomains.set(
      id,
      KeyDomainRecord(
        name: name, created: wallMilliseconds, key: DomainKey(version: 1, wrap: wrap),
        fingerprintKey: fingerprintKey))
    return .number(UInt64(id.raw))
  }

  private func rewrapDataKeys(
    of id: KeyDomainID, _ version: UInt32, _ keys: [KeyChange.Rewrapped]
  ) throws(StoreError) -> CommandOutcome {
    guard var domain = try keyDomains.get(id) else { return .refused(.noSuchKeyDomain, "\(id)") }
    guard domain.newest.version == version else {
      return .refused(.preconditionFailed, "the newest key has version \(domain.newest.version)")
    }
    for key in keys {
      guard var record = try dataKey(key.id), record.domain == id else { continue }
      try domain.count(record.version, -1)
      try domain.count(version, 1)
      record.version = version
      record.wrapped = key.wrapped
      view.put(Key.dataKey(key.id), record)
    }
    domain.prune()
    keyDomains.set(id, domain)
    return .done
  }

  private func setKeyDomain(ofBucket name: String, _ keyDomain: String) throws(StoreError)
    -> CommandOutcome
  {
    guard let bucket = try buckets.get(Array(name.utf8)) else {
      return .refused(.noSuchBucket, name)
    }
    guard let id = try self.keyDomain(named: keyDomain) else {
      return .refused(.noSuchKeyDomain, keyDomain)
    }
    return try move(
      bucket, named: name, to: ChunkDomain(bucket.domain.storageClass, in: id))
  }

  // MARK: Data keys

  func makeDataKey(_ upload: UploadKey, _ id: KeyDomainID, _ key: NewDataKey?) throws(StoreError)
    -> CommandOutcome
  {
    guard try uploads.get(upload) != nil else { return .noSuchUpload(upload.number) }
    guard var domain = try keyDomains.get(id) else { return .refused(.noSuchKeyDomain, "\(id)") }
    guard let key else { return .refused(.keyUnavailable, "no key was made") }
    // One under an older key would outlive the rotation that has looked for all of them.
    guard domain.newest.version == key.version else {
      return .refused(.unavailable, "'\(domain.name)' has another key now; ask again")
    }
    let held = KeyRange(prefix: Key.keys(.uploadKey, of: upload.number))
    guard try view.scan(held, limit: Self.dataKeyLimit).count < Self.dataKeyLimit else {
      return .refused(.unavailable, "an upload has at most \(Self.dataKeyLimit) data keys")
    }
    try domain.count(key.version, 1)
    keyDomains.set(id, domain)
    view.put(
      Key.dataKey(position), DataKeyRecord(domain: id, key: key, upload: upload.number))
    view.put(Key.key(.uploadKey, of: upload.number, position), [])
    return .number(position)
  }

  /// Why stripes of that container cannot be sealed with these keys of an upload; nil when they can.
  func problem(
    _ dataKeys: [UInt64], of upload: UInt64, in container: ContainerRecord
  ) throws(StoreError) -> String? {
    guard container.domain.isSealed else {
      return dataKeys.isEmpty ? nil : "keys for groups that are not encrypted"
    }
    if dataKeys.isEmpty { return "no key for groups that are encrypted" }
    for id in dataKeys {
      guard let record = try dataKey(id), record.upload == upload,
        record.domain == container.domain.keyDomain
      else { return "data key \(id) is not the upload's in \(container.domain.keyDomain)" }
    }
    return nil
  }

  /// The container has groups sealed with these keys, which exist.
  func use(_ dataKeys: [UInt64], in container: ContainerID) throws(StoreError) {
    for id in dataKeys {
      let row = Key.key(.containerKey, of: container.raw, id)
      guard try view.get(row) == nil, var record = try dataKey(id) else { continue }
      view.put(row, [])
      record.containerCount &+= 1
      view.put(Key.dataKey(id), record)
    }
  }

  /// Nobody seals with an upload's keys any more.
  func endDataKeys(of upload: UInt64) throws(StoreError) {
    try letGo(.uploadKey, of: upload) { $0.upload = 0 }
  }

  /// The container's groups are gone.
  func endDataKeys(of container: ContainerID) throws(StoreError) {
    try letGo(.containerKey, of: container.raw) { $0.containerCount -= 1 }
  }

  private func letGo(
    _ row: Key.KeyRow, of holder: UInt64, _ change: (inout DataKeyRecord) -> Void
  ) throws(StoreError) {
    for entry in try view.scan(KeyRange(prefix: Key.keys(row, of: holder))) {
      view.delete(entry.key)
      let id = try Key.number(in: entry.key, at: 10)
      guard var record = try dataKey(id), row == .uploadKey || record.containerCount > 0 else {
        throw .corrupt("data key \(id) is used but not there")
      }
      change(&record)
      guard record.upload == 0, record.containerCount == 0 else {
        view.put(Key.dataKey(id), record)
        continue
      }
      view.delete(Key.dataKey(id))
      guard var domain = try keyDomains.get(record.domain) else {
        throw .corrupt("\(record.domain) is used but not there")
      }
      try domain.count(record.version, -1)
      domain.prune()
      keyDomains.set(record.domain, domain)
    }
  }

  // MARK: Queries

  package func dataKey(_ id: UInt64) throws(StoreError) -> DataKeyRecord? {
    try view.value(Key.dataKey(id))
  }

  package func keyDomain(_ id: KeyDomainID) throws(StoreError) -> KeyDomainRecord? {
    try keyDomains.get(id)
  }

  /// - Parameter name: empty: the plain one.
  package func keyDomain(named name: String) throws(StoreError) -> KeyDomainID? {
    if name.isEmpty { return .plain }
    return try allKeyDomains().first { $0.record.name.utf8.elementsEqual(name.utf8) }?.id
  }

  /// Empty for the plain one.
  func name(of id: KeyDomainID) throws(StoreError) -> String {
    if id == .plain { return "" }
    guard let record = try keyDomains.get(id) else {
      throw .corrupt("\(id) is used but not there")
    }
    return record.name
  }

  /// Ascending by number.
  package func allKeyDomains() throws(StoreError) -> [(id: KeyDomainID, record: KeyDomainRecord)] {
    keyDomains.writeBack()
    var result: [(id: KeyDomainID, record: KeyDomainRecord)] = []
    for entry in try view.scan(KeyRange(prefix: Key.keyRows(.domain))) {
      result.append(
        (try Key.keyDomain(in: entry.key), try KeyDomainRecord(stored: entry.value)))
    }
    return result
  }

  package func describeKeyDomains() throws(StoreError) -> [KeyDomainDescription] {
    try allKeyDomains().map { id, record in
      KeyDomainDescription(
        id: id, name: record.name, created: record.created,
        keys: record.keys.map {
          KeyDomainDescription.Key(
            version: $0.key.version, masterKey: $0.key.wrap.masterKey,
            dataKeyCount: $0.dataKeyCount)
        })
    }
  }

  /// Data keys of a domain that are not wrapped under its newest key.
  ///
  /// - Parameters:
  ///   - first: only those with this id or a higher one.
  ///   - limit: of rows that are looked at.
  /// - Returns: those keys, and the id to go on with; nil at the end.
  package func dataKeys(of id: KeyDomainID, from first: UInt64, limit: Int) throws(StoreError)
    -> (keys: [(id: UInt64, record: DataKeyRecord)], next: UInt64?)
  {
    guard let newest = try keyDomains.get(id)?.newest.version else { return ([], nil) }
    var found: [(id: UInt64, record: DataKeyRecord)] = []
    var range = KeyRange(prefix: Key.keyRows(.dataKey))
    range.lower = Key.dataKey(first)
    let rows = try view.scan(range, limit: limit)
    for row in rows {
      let record = try DataKeyRecord(stored: row.value)
      if record.domain == id, record.version != newest {
        found.append((try Key.number(in: row.key, at: 2), record))
      }
    }
    guard rows.count == limit, let row = rows.last else { return (found, nil) }
    let last = try Key.number(in: row.key, at: 2)
    return (found, last < .max ? last + 1 : nil)
  }
}
