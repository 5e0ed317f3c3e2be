import Cluster
import Messages
import Testing

@testable import Metadata

/// Key domains and data keys, plainly: after each command what nobody has is swept away.
extension Model {
  struct KeyDomain {
    var name: String
    /// By version.
    var keys: [UInt32: MasterWrap]
    var fingerprintKey: WrappedKey
    var newest: UInt32 { keys.keys.max()! }
  }
  struct DataKey {
    var domain: KeyDomainID
    var version: UInt32
    var wrapped: WrappedKey
    var upload: UInt64
    var containers: Set<ContainerID> = []
  }

  mutating func change(keys change: KeyChange) -> CommandOutcome {
    switch change {
    case .create(let name, let wrap, let fingerprintKey):
      guard KeyDomainRules.brokenRule(name: name) == nil else { return refused(.invalidName) }
      guard keyDomain(named: name) == nil else { return refused(.keyDomainExists) }
      let id = KeyDomainID(UInt16(keyDomains.count + 1))
      keyDomains[id] = KeyDomain(name: name, keys: [1: wrap], fingerprintKey: fingerprintKey)
      return .number(UInt64(id.raw))
    case .rewrap(let keys):
      for key in keys where keyDomains[key.domain]?.keys[key.key.version] != nil {
        keyDomains[key.domain]!.keys[key.key.version] = key.key.wrap
      }
      return .done
    case .addKey(let id, let key, let fingerprintKey):
      guard let domain = keyDomains[id] else { return refused(.noSuchKeyDomain) }
      guard key.version == domain.newest + 1 else { return refused(.preconditionFailed) }
      guard domain.keys.count < 8 else { return refused(.unavailable) }
      keyDomains[id]!.keys[key.version] = key.wrap
      keyDomains[id]!.fingerprintKey = fingerprintKey
      return .done
    case .rewrapDataKeys(let id, let version, let keys):
      guard let domain = keyDomains[id] else { return refused(.noSuchKeyDomain) }
      guard domain.newest == version else { return refused(.preconditionFailed) }
      for key in keys where dataKeys[key.id]?.domain == id {
        dataKeys[key.id]!.version = version
        dataKeys[key.id]!.wrapped = key.wrapped
      }
      return .done
    case .setBucket(let bucket, let name):
      guard let known = buckets[Array(bucket.utf8)] else { return refused(.noSuchBucket) }
      guard let id = keyDomain(named: name) else { return refused(.noSuchKeyDomain) }
      return move(bucket, to: ChunkDomain(known.domain.storageClass, in: id))
    }
  }

  mutating func move(_ name: String, to domain: ChunkDomain) -> CommandOutcome {
    let bucket = buckets[Array(name.utf8)]!
    if bucket.domain == domain { return .done }
    guard bucket.isEmpty, bucket.multiparts.isEmpty else { return refused(.bucketNotEmpty) }
    buckets[Array(name.utf8)]!.domain = domain
    return .done
  }

  /// - Parameter name: empty: the plain one.
  func keyDomain(named name: String) -> KeyDomainID? {
    name.isEmpty ? .plain : keyDomains.first { $0.value.name == name }?.key
  }

  mutating func makeDataKey(_ upload: UInt64, _ id: KeyDomainID, _ key: NewDataKey?)
    -> CommandOutcome
  {
    guard let domain = keyDomains[id] else { return refused(.noSuchKeyDomain) }
    guard let key else { return refused(.keyUnavailable) }
    guard domain.newest == key.version else { return refused(.unavailable) }
    dataKeys[position] = DataKey(
      domain: id, version: key.version, wrapped: key.wrapped, upload: upload)
    return .number(position)
  }

  /// Whether groups of that container may be sealed with these keys of an upload.
  func maySeal(_ keys: [UInt64], _ upload: UInt64, _ domain: KeyDomainID) -> Bool {
    if domain == .plain { return keys.isEmpty }
    return !keys.isEmpty
      && keys.allSatisfy { dataKeys[$0]?.upload == upload && dataKeys[$0]?.domain == domain }
  }

  mutating func sweepKeys() {
    for (id, key) in dataKeys {
      dataKeys[id]!.containers = key.containers.filter { containers[$0] != nil }
      if uploads[key.upload] == nil { dataKeys[id]!.upload = 0 }
    }
    dataKeys = dataKeys.filter { $0.value.upload != 0 || !$0.value.containers.isEmpty }
    for (id, domain) in keyDomains {
      keyDomains[id]!.keys = domain.keys.filter { version, _ in
        version == domain.newest
          || dataKeys.values.contains { $0.domain == id && $0.version == version }
      }
    }
  }

  func compareKeys(_ machine: StateMachine) throws {
    let all = try machine.allKeyDomains()
    #expect(all.map(\.id) == keyDomains.keys.sorted())
    for (id, record) in all {
      let domain = keyDomains[id]!
      #expect(record.name == domain.name && record.fingerprintKey == domain.fingerprintKey)
      #expect(record.keys.map(\.key.version) == domain.keys.keys.sorted())
      for key in record.keys {
        #expect(key.key.wrap == domain.keys[key.key.version])
        #expect(
          key.dataKeyCount
            == UInt64(
              dataKeys.values.count { $0.domain == id && $0.version == key.key.version }))
      }
      // Those of other versions, found some rows at a time.
      var found: [UInt64] = []
      var first: UInt64? = 0
      while let from = first {
        let (keys, next) = try machine.dataKeys(of: id, from: from, limit: 2)
        found += keys.map(\.id)
        first = next
      }
      #expect(
        found
          == dataKeys.filter { $0.value.domain == id && $0.value.version != domain.newest }.keys
          .sorted())
    }
    for (id, key) in dataKeys {
      let record = try machine.dataKey(id)
      #expect(record?.wrapped == key.wrapped && record?.version == key.version)
      #expect(record?.upload == key.upload)
      #expect(record?.containerCount == UInt64(key.containers.count))
    }
  }
}
