internal import Coding
package import Messages

/// Storage classes, and what is counted by them.
extension StateMachine {
  func addBuiltInClasses() {
    for (index, policy) in StorageClass.builtIn.enumerated() {
      classes.set(ClassID(UInt16(index + 1)), ClassRecord(policy: policy))
    }
  }

  func defineClass(_ policy: StorageClass) throws(StoreError) -> CommandOutcome {
    if let rule = policy.brokenRule { return .refused(.malformed, rule) }
    if let (id, known) = try storageClass(named: policy.name) {
      var record = known
      record.policy = policy
      classes.set(id, record)
      return .number(UInt64(id.raw))
    }
    let all = try allClasses()
    guard all.count < StorageClass.countLimit else {
      return .refused(.unavailable, "a cluster has at most \(StorageClass.countLimit) classes")
    }
    let last = all.last.map(\.id) ?? StorageClass.firstDefined
    let id = max(ClassID(last.raw + 1), StorageClass.firstDefined)
    classes.set(id, ClassRecord(policy: policy))
    return .number(UInt64(id.raw))
  }

  func setClass(ofBucket name: String, _ storageClass: String) throws(StoreError) -> CommandOutcome
  {
    guard let bucket = try buckets.get(Array(name.utf8)) else {
      return .refused(.noSuchBucket, name)
    }
    guard let (id, _) = try self.storageClass(named: storageClass) else {
      return .refused(.noSuchClass, storageClass)
    }
    return try move(bucket, named: name, to: ChunkDomain(id, in: bucket.domain.keyDomain))
  }

  /// Gives a bucket without objects another domain.
  func move(_ bucket: BucketRecord, named name: String, to domain: ChunkDomain)
    throws(StoreError) -> CommandOutcome
  {
    if bucket.domain == domain { return .done }
    guard bucket.isEmpty else { return .refused(.bucketNotEmpty, name) }
    // Their parts are stored as the class that there was.
    let multiparts = KeyRange(prefix: Key.multiparts(bucket: bucket.identity, keyPrefix: []))
    guard try view.scan(multiparts, limit: 1).isEmpty else {
      return .refused(.bucketNotEmpty, "\(name) has multipart uploads")
    }
    var bucket = bucket
    bucket.domain = domain
    buckets.set(Array(name.utf8), bucket)
    return .done
  }

  /// - Parameter name: empty: the standard one.
  func storageClass(named name: String) throws(StoreError) -> (id: ClassID, record: ClassRecord)? {
    if name.isEmpty {
      return try classes.get(StorageClass.standard).map { (StorageClass.standard, $0) }
    }
    return try allClasses().first { $0.record.policy.name.utf8.elementsEqual(name.utf8) }
  }

  /// Ascending by number.
  private func allClasses() throws(StoreError) -> [(id: ClassID, record: ClassRecord)] {
    classes.writeBack()
    var result: [(id: ClassID, record: ClassRecord)] = []
    for entry in try view.scan(KeyRange(prefix: Key.family(.storageClass))) {
      result.append((try Key.classID(in: entry.key), try ClassRecord(stored: entry.value)))
    }
    return result
  }

  /// Changes the counters of all and of one class.
  func count(
    in domain: ChunkDomain, _ change: (inout UsageCounters) -> Void
  ) throws(StoreError) {
    guard var record = try classes.get(domain.storageClass) else {
      throw .corrupt("\(domain.storageClass) is used but not there")
    }
    change(&state.usage)
    change(&record.usage)
    classes.set(domain.storageClass, record)
  }

  // MARK: Queries

  func policy(of domain: ChunkDomain) throws(StoreError) -> StorageClass {
    guard let record = try classes.get(domain.storageClass) else {
      throw .corrupt("\(domain.storageClass) is used but not there")
    }
    return record.policy
  }

  /// All classes by number.
  package func policies() throws(StoreError) -> [ClassID: StorageClass] {
    var result: [ClassID: StorageClass] = [:]
    for (id, record) in try allClasses() { result[id] = record.policy }
    return result
  }

  /// - Throws: ``StoreError/refused(_:)`` with noSuchBucket.
  package func bucket(_ name: String) throws(StoreError) -> GetBucket.Answer {
    guard let bucket = try buckets.get(Array(name.utf8)) else {
      throw .refused(.noSuchBucket, name)
    }
    return GetBucket.Answer(
      domain: bucket.domain, storageClass: try policy(of: bucket.domain),
      objectCount: bucket.objectCount, versioning: bucket.versioning,
      lock: bucket.lock)
  }

  /// All classes and what they hold, ascending by number.
  package func classUsage() throws(StoreError) -> [ClassUsage] {
    try allClasses().map { id, record in
      ClassUsage(
        id: id, storageClass: record.policy, objectCount: record.usage.objectCount,
        logicalBytes: record.usage.logicalBytes, inlineBytes: record.usage.inlineBytes,
        chunkBytes: record.usage.chunkBytes, groupBytes: record.usage.groupBytes,
        blockBytes: record.usage.blockBytes, containerCount: record.usage.containerCount)
    }
  }
}

extension Key {
  static func classID(in key: [UInt8]) throws(StoreError) -> ClassID {
    guard key.count == 3 else { throw .corrupt("class key") }
    return ClassID(UInt16(key[1]) << 8 | UInt16(key[2]))
  }
}
