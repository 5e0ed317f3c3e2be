package import Messages
internal import Wire

/// What goes by itself: the leader says which versions a bucket's rules let go, and each that is still as it was goes.
extension StateMachine {
  func expire(_ row: ExpiredVersion) throws(StoreError) {
    let name = ObjectName(bucket: row.bucket, key: row.key)
    guard let bucket = try buckets.get(Array(row.bucket.utf8)),
      bucket.identity == row.bucketIdentity, row.identity < 1 << 56
    else { return }
    let current = try object(bucket, row.key)
    switch row.action {
    case .delete:
      guard let current, current.identity == row.identity else { return }
      _ = try delete(current, at: name, in: bucket)
    case .remove:
      guard current?.identity != row.identity,
        try older(row.identity, at: row.key, in: bucket) != nil
      else { return }
      // The newest of all is current, though it is a marker.
      if current == nil, try newestOlder(of: row.key, in: bucket)?.identity == row.identity {
        return
      }
      _ = try deleteVersion(name, .identity(row.identity))
    case .removeLoneMarker:
      guard current == nil, case .marker? = try older(row.identity, at: row.key, in: bucket) else {
        return
      }
      let range = KeyRange(prefix: Key.versions(bucket: bucket.identity, key: row.key.utf8))
      guard try view.scan(range, limit: 2).count == 1 else { return }
      _ = try deleteVersion(name, .identity(row.identity))
    }
  }

  // MARK: For the leader

  /// Buckets with rules, by name; those after `after`.
  package func lifecycles(after: String, limit: Int) throws(StoreError) -> [(
    bucket: String, identity: UInt64, lifecycle: Lifecycle?
  )] {
    var result: [(bucket: String, identity: UInt64, lifecycle: Lifecycle?)] = []
    var range = KeyRange(prefix: Key.family(.bucket))
    if !after.isEmpty { range.lower = Key.bucket(after) + [0] }
    for row in try view.scan(range, limit: limit) {
      let record = try BucketRecord(stored: row.value)
      let setting: SettingRecord? = try view.value(
        Key.setting(bucket: record.identity, .lifecycle))
      // What cannot be read is no rule.
      let lifecycle = setting.flatMap { try? Lifecycle(decoding: $0.bytes) }
      result.append(
        (String(decoding: row.key.dropFirst(), as: UTF8.self), record.identity, lifecycle))
    }
    return result
  }

  /// A bucket's rules; nil when it has none, or another bucket is called so by now.
  package func lifecycle(of bucket: String, _ identity: UInt64) throws(StoreError) -> Lifecycle? {
    guard let record = try buckets.get(Array(bucket.utf8)), record.identity == identity else {
      return nil
    }
    let setting: SettingRecord? = try view.value(Key.setting(bucket: identity, .lifecycle))
    return setting.flatMap { try? Lifecycle(decoding: $0.bytes) }
  }
}
