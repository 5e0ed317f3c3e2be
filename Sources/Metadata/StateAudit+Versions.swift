internal import Cluster
internal import Coding
internal import Messages

/// What buckets have beside their current objects: older versions, delete markers, settings.
extension StateAudit {
  mutating func versionsHold() throws(StoreError) {
    var countOfBucket: [UInt64: UInt64] = [:]
    var counted: [ClassID: UsageCounters] = [:]
    var nullKeys: Set<[UInt8]> = []
    var lastKey: [UInt8] = []
    var rows = source.rows(.version)
    while let row = try rows.next() {
      let version = try VersionRecord(stored: row.value)
      let bucket = try Key.number(in: row.key, at: 1)
      let key = try Key.versionedKey(in: row.key)
      var domain = domainOfBucket[bucket]
      if case .object(let record) = version {
        domain = self.domain(of: record, in: bucket)
        expectEdges(of: record, domain)
      }
      guard slice.isFirst else { continue }
      check(domainOfBucket[bucket] != nil, "version \(version.identity) of no bucket")
      let identity = try Key.versionIdentity(in: row.key)
      check(identity == version.identity, "key of version \(version.identity)")
      countOfBucket[bucket, default: 0] += 1
      if case .object(let record) = version {
        var bytes = UsageCounters()
        bytes.logicalBytes = record.byteCount
        bytes.inlineBytes = record.content.inlineByteCount
        counted[domain?.storageClass ?? ClassID(0), default: UsageCounters()].add(bytes)
      }
      let object = Key.object(bucket: bucket, key: key)
      if version.isNull {
        check(nullKeys.insert(object).inserted, "two null versions: \(version.identity)")
        let place = try source.scan(
          KeyRange(prefix: Key.nullVersion(bucket: bucket, key: key)), 1
        ).first
        let found = try place.map { (row) throws(StoreError) in try Key.number(in: row.value, at: 0)
        }
        check(
          place?.key == Key.nullVersion(bucket: bucket, key: key) && found == version.identity,
          "null version \(version.identity) is not found")
      }
      defer { lastKey = object }
      guard object != lastKey else { continue }
      // The newest of those in this family.
      let current = try source.scan(KeyRange(prefix: object), 1).first
      if let current, current.key == object {
        let record = try ObjectRecord(stored: current.value)
        check(record.identity > version.identity, "version \(version.identity) is not the older")
        check(
          !record.isNull || !nullKeys.contains(object), "two null versions: \(record.identity)")
      } else if case .object = version {
        check(false, "version \(version.identity) is the newest and not current")
      }
    }
    guard slice.isFirst else { return }
    for (id, bytes) in counted { usage[id, default: UsageCounters()].add(bytes) }
    var nullCount = 0
    var nullRows = source.rows(.nullVersion)
    while try nullRows.next() != nil { nullCount += 1 }
    check(nullCount == nullKeys.count, "\(nullCount) places of \(nullKeys.count) null versions")
    var bucketRows = source.rows(.bucket)
    while let row = try bucketRows.next() {
      let bucket = try BucketRecord(stored: row.value)
      let count = countOfBucket.removeValue(forKey: bucket.identity) ?? 0
      check(bucket.versionCount == count, "versions of a bucket")
      check(bucket.versioning != .off || count == 0, "versions in a bucket that has none")
    }
  }

  mutating func settingsHold() throws(StoreError) {
    var rows = source.rows(.bucketSetting)
    while let row = try rows.next() {
      let kind = try Key.settingKind(in: row.key)
      let bucket = try Key.number(in: row.key, at: 1)
      check(domainOfBucket[bucket] != nil, "setting \(kind.raw) of no bucket")
      let setting = try SettingRecord(stored: row.value)
      check(!setting.bytes.isEmpty, "setting \(kind.raw) is empty")
    }
  }
}
