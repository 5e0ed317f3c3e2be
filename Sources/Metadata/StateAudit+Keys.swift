internal import Cluster
internal import Messages

/// Key domains and data keys: counted, used and ended as they should be.
extension StateAudit {
  /// Data keys are there as long as an upload or a container has them, and counted right.
  func keysHold() throws(StoreError) {
    var domains: [KeyDomainID: KeyDomainRecord] = [:]
    var dataKeys: [UInt64: DataKeyRecord] = [:]
    var containersOfKey: [UInt64: UInt64] = [:]
    var uploadOfKey: [UInt64: UInt64] = [:]
    var keyed: Set<ContainerID> = []
    var rows = source.rows(.key)
    while let row = try rows.next() {
      guard row.key.count > 1, let kind = Key.KeyRow(rawValue: row.key[1]) else {
        throw .corrupt("a row of keys")
      }
      switch kind {
      case .domain:
        domains[try Key.keyDomain(in: row.key)] = try KeyDomainRecord(stored: row.value)
      case .dataKey:
        dataKeys[try Key.number(in: row.key, at: 2)] = try DataKeyRecord(stored: row.value)
      case .containerKey:
        let container = try Key.container(in: row.key, at: 2)
        let key = try Key.number(in: row.key, at: 10)
        containersOfKey[key, default: 0] += 1
        keyed.insert(container)
        check(
          dataKeys[key]?.domain == domainOfContainer[container]?.keyDomain
            && dataKeys[key] != nil, "data key \(key) of \(container)")
      case .uploadKey:
        let upload = try Key.number(in: row.key, at: 2)
        check(liveUploads.contains(upload), "data keys of an upload that is not there")
        uploadOfKey[try Key.number(in: row.key, at: 10)] = upload
      }
    }
    var counts: [KeyDomainID: [UInt32: UInt64]] = [:]
    for (id, record) in dataKeys {
      counts[record.domain, default: [:]][record.version, default: 0] += 1
      check(domains[record.domain]?.key(record.version) != nil, "data key \(id) opens with nothing")
      check(record.containerCount == containersOfKey[id] ?? 0, "containers of data key \(id)")
      check(record.upload == uploadOfKey[id] ?? 0, "upload of data key \(id)")
      check(record.upload != 0 || record.containerCount > 0, "data key \(id) is nobody's")
    }
    check(containersOfKey.keys.allSatisfy { dataKeys[$0] != nil }, "a data key is missing")
    check(uploadOfKey.keys.allSatisfy { dataKeys[$0] != nil }, "a data key is missing")
    for (id, record) in domains {
      for key in record.keys {
        check(
          key.dataKeyCount == counts[id]?[key.key.version] ?? 0,
          "\(id) has \(key.dataKeyCount) data keys under key \(key.key.version)")
      }
      check(
        record.keys.dropLast().allSatisfy { $0.dataKeyCount > 0 }, "\(id) keeps a key for nothing")
    }
    for id in Set(domainOfBucket.values.map(\.keyDomain)) where id != .plain {
      check(domains[id] != nil, "\(id) of a bucket is not there")
    }
    var containerRows = source.rows(.container)
    while let row = try containerRows.next() {
      let record = try ContainerRecord(stored: row.value)
      guard record.stripeCount > 0 else { continue }
      check(
        keyed.contains(record.id) == record.domain.isSealed, "keys of \(record.id)")
    }
  }
}
