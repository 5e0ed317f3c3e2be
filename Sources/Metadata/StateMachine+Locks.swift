internal import Messages

/// Versions that must stay: the state machine itself refuses to take them away, whoever asks.
extension StateMachine {
  /// A bucket that has locks keeps its versions for good: neither can be taken back.
  func set(_ lock: BucketLock, ofBucket name: String, enablesVersioning: Bool) throws(StoreError)
    -> CommandOutcome
  {
    let key = Array(name.utf8)
    guard var bucket = try buckets.get(key) else { return .refused(.noSuchBucket, name) }
    if enablesVersioning { bucket.versioning = .enabled }
    guard bucket.versioning == .enabled else {
      return .refused(
        .bucketState,
        "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration")
    }
    bucket.lock = lock
    buckets.set(key, bucket)
    return .done
  }

  /// Why a new version cannot have these attributes.
  func lockRefusal(_ attributes: ObjectAttributes, in bucket: BucketRecord) -> CommandOutcome? {
    guard bucket.lock == nil, attributes.lock != nil else { return nil }
    return .refused(.noLocks, "Bucket is missing Object Lock Configuration")
  }

  /// Gives a new version the bucket's retention, unless it brings one.
  func lock(_ record: inout ObjectRecord, in bucket: BucketRecord) {
    guard let usual = bucket.lock, usual.days > 0, record.attributes.lock?.retention == nil else {
      return
    }
    var lock = record.attributes.lock ?? ObjectLock()
    // Both are far below 2^63.
    let until = min(record.modified, 1 << 62) + UInt64(usual.days) * Lifecycle.day
    lock.retention = ObjectLock.Retention(mode: usual.mode, until: until)
    record.attributes.lock = lock
  }

  /// Why a version cannot be taken away now.
  func lockRefusal(_ version: VersionRecord?, bypassesGovernance: Bool) -> CommandOutcome? {
    guard let version, case .object(let record) = version,
      record.attributes.lock?.holds(
        at: wallMilliseconds, bypassesGovernance: bypassesGovernance) == true
    else { return nil }
    return .refused(.objectLocked, "version \(version.id) is locked")
  }

  func setLock(
    of name: ObjectName, _ choice: VersionName, _ change: LockChange, bypassesGovernance: Bool
  ) throws(StoreError) -> CommandOutcome {
    guard let bucket = try buckets.get(Array(name.bucket.utf8)) else {
      return .refused(.noSuchBucket, name.bucket)
    }
    guard bucket.lock != nil else {
      return .refused(.noLocks, "Bucket is missing Object Lock Configuration")
    }
    let now = wallMilliseconds
    return try self.change(name, choice) { (record) in
      var lock = record.attributes.lock ?? ObjectLock()
      switch change {
      case .legalHold(let isOn): lock.hasLegalHold = isOn
      case .retention(let retention):
        guard lock.allows(retention, at: now, bypassesGovernance: bypassesGovernance) else {
          return .refused(
            .objectLocked, "version \(VersionRecord.object(record).id) is locked for longer")
        }
        lock.retention = retention
      }
      record.attributes.lock = lock.isEmpty ? nil : lock
      return nil
    }
  }
}
