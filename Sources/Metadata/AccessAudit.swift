internal import Messages

/// What must hold of users, access keys and what buckets grant.
enum AccessAudit {
  /// - Returns: what does not, for people.
  static func violations(in source: AuditSource) throws(StoreError) -> [String] {
    var found: [String] = []
    var users: [String: UserRecord] = [:]
    var listed: [String: String] = [:]
    var keyCount = 0
    var rows = source.rows(.user)
    while let row = try rows.next() {
      let name = Key.name(in: row.key)
      if row.key.starts(with: Key.users) {
        let user = try UserRecord(stored: row.value)
        users[name] = user
        for accessKey in user.accessKeys where listed.updateValue(name, forKey: accessKey) != nil {
          found.append("access key \(accessKey) is listed twice")
        }
      } else if row.key.starts(with: Key.accessKeys) {
        keyCount += 1
        let record = try AccessKeyRecord(stored: row.value)
        if listed[name] != record.user {
          found.append("access key \(name) is not listed by \(record.user)")
        }
      } else {
        throw .corrupt("a user's key")
      }
    }
    if keyCount != listed.count {
      found.append("\(listed.count) access keys are listed, and \(keyCount) are there")
    }
    var identities: Set<UInt64> = []
    var bucketRows = source.rows(.bucket)
    while let row = try bucketRows.next() {
      identities.insert(try BucketRecord(stored: row.value).identity)
    }
    var accessRows = source.rows(.bucketAccess)
    while let row = try accessRows.next() {
      _ = try BucketAccessRecord(stored: row.value)
      let bucket = try Key.number(in: row.key, at: 1)
      if !identities.contains(bucket) { found.append("bucket \(bucket) is not there, but grants") }
    }
    return found
  }
}
