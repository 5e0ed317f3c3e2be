package import Messages
internal import Wire

/// A user of the S3 gateways.
struct UserRecord: Hashable, StoredValue {
  /// Milliseconds since 1970.
  var created: UInt64
  var isEnabled = true
  /// In the order in which they were made.
  var accessKeys: [String] = []
  /// By name.
  var policies: [NamedPolicy] = []

  init(created: UInt64) { self.created = created }
  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.varint(created)
    writer.bool(isEnabled)
    writer.list(accessKeys)
    writer.list(policies)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(1)
    created = try reader.varint()
    isEnabled = try reader.bool()
    accessKeys = try reader.list(limit: UserRules.rotatedKeyCountLimit)
    policies = try reader.list(limit: UserRules.policyCountLimit)
  }
}

struct AccessKeyRecord: Hashable, StoredValue {
  var user: String
  /// Milliseconds since 1970.
  var created: UInt64
  var isEnabled = true
  /// ``SecretBox``
  var sealedSecret: [UInt8]

  init(user: String, created: UInt64, sealedSecret: [UInt8]) {
    self.user = user
    self.created = created
    self.sealedSecret = sealedSecret
  }
  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.string(user)
    writer.varint(created)
    writer.bool(isEnabled)
    writer.blob(sealedSecret)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(1)
    user = try reader.string(limit: 256)
    created = try reader.varint()
    isEnabled = try reader.bool()
    sealedSecret = try reader.blob(limit: UserRules.sealedByteLimit)
  }
}

/// What a bucket grants. A row of its own: the bucket's is written with each object.
struct BucketAccessRecord: Hashable, StoredValue {
  var access: BucketAccess

  init(_ access: BucketAccess) { self.access = access }
  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.value(access)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(1)
    access = try reader.value()
  }
}

/// Users, their access keys and policies, and what buckets grant. What policies say is the gateways' business.
extension StateMachine {
  private func user(_ name: String) throws(StoreError) -> UserRecord? {
    try view.value(Key.user(name))
  }
  private func accessKey(_ name: String) throws(StoreError) -> AccessKeyRecord? {
    try view.value(Key.accessKey(name))
  }

  func changeUser(_ name: String, _ change: UserChange) throws(StoreError) -> CommandOutcome {
    if let rule = UserRules.brokenRule(name: name) { return .refused(.invalidName, rule) }
    let known = try user(name)
    if case .create = change {
      guard known == nil else { return .refused(.userExists, name) }
      view.put(Key.user(name), UserRecord(created: wallMilliseconds))
      return .done
    }
    guard var user = known else { return .refused(.noSuchUser, name) }
    switch change {
    case .create: break
    case .delete:
      for accessKey in user.accessKeys { view.delete(Key.accessKey(accessKey)) }
      view.delete(Key.user(name))
      return .done
    case .setEnabled(let isEnabled): user.isEnabled = isEnabled
    case .setPolicy(let policy):
      if let rule = UserRules.brokenRule(name: policy.name) { return .refused(.invalidName, rule) }
      user.policies.removeAll { $0.name == policy.name }
      user.policies.append(policy)
      user.policies.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
      guard user.policies.count <= UserRules.policyCountLimit else {
        return .refused(.malformed, "a user has at most \(UserRules.policyCountLimit) policies")
      }
      guard user.policies.reduce(0, { $0 + $1.document.utf8.count }) <= UserRules.policyByteLimit
      else {
        return .refused(
          .malformed, "a user's policies have at most \(UserRules.policyByteLimit) bytes together")
      }
    case .deletePolicy(let policy):
      guard let index = user.policies.firstIndex(where: { $0.name == policy }) else {
        return .refused(.noSuchPolicy, policy)
      }
      user.policies.remove(at: index)
    }
    view.put(Key.user(name), user)
    return .done
  }

  func changeAccessKey(_ name: String, _ change: AccessKeyChange) throws(StoreError)
    -> CommandOutcome
  {
    if case .create(let userName, let secret) = change {
      guard let user = try user(userName) else { return .refused(.noSuchUser, userName) }
      return try addAccessKey(
        name, secret, to: userName, user, limit: UserRules.keyCountLimit)
    }
    guard var record = try accessKey(name) else { return .refused(.noSuchAccessKey, name) }
    guard var user = try user(record.user) else {
      throw .corrupt("access key \(name) belongs to nobody")
    }
    switch change {
    case .create: break
    case .rotate(let fresh, let secret):
      let outcome = try addAccessKey(
        fresh, secret, to: record.user, user, limit: UserRules.rotatedKeyCountLimit)
      guard outcome == .done else { return outcome }
      record.isEnabled = false
      view.put(Key.accessKey(name), record)
    case .setEnabled(let isEnabled):
      record.isEnabled = isEnabled
      view.put(Key.accessKey(name), record)
    case .delete:
      user.accessKeys.removeAll { $0 == name }
      view.put(Key.user(record.user), user)
      view.delete(Key.accessKey(name))
    }
    return .done
  }

  private func addAccessKey(
    _ name: String, _ sealedSecret: [UInt8], to userName: String, _ user: UserRecord,
    limit: Int
  ) throws(StoreError) -> CommandOutcome {
    guard UserRules.isAccessKey(name) else {
      return .refused(.invalidName, "an access key has 16 to 128 letters and digits")
    }
    guard try accessKey(name) == nil else {
      return .refused(.malformed, "access key \(name) is there already")
    }
    guard user.accessKeys.count < limit else {
      return .refused(
        .malformed, "the user has \(user.accessKeys.count) access keys: delete one first")
    }
    var user = user
    user.accessKeys.append(name)
    view.put(Key.user(userName), user)
    view.put(
      Key.accessKey(name),
      AccessKeyRecord(user: userName, created: wallMilliseconds, sealedSecret: sealedSecret))
    return .done
  }

  func changeAccess(ofBucket name: String, _ change: BucketAccessChange) throws(StoreError)
    -> CommandOutcome
  {
    guard let bucket = try buckets.get(Array(name.utf8)) else {
      return .refused(.noSuchBucket, name)
    }
    var access = try access(of: bucket)
    access.apply(change)
    if access == BucketAccess() {
      view.delete(Key.bucketAccess(bucket.identity))
    } else {
      view.put(Key.bucketAccess(bucket.identity), BucketAccessRecord(access))
    }
    return .done
  }

  private func access(of bucket: BucketRecord) throws(StoreError) -> BucketAccess {
    let record: BucketAccessRecord? = try view.value(Key.bucketAccess(bucket.identity))
    return record?.access ?? BucketAccess()
  }

  /// With the bucket.
  func forgetAccess(of bucket: BucketRecord) { view.delete(Key.bucketAccess(bucket.identity)) }

  // MARK: Queries

  package func users(_ request: ListUsers) throws(StoreError) -> ListUsers.Answer {
    var range = KeyRange(prefix: Key.users)
    if !request.after.isEmpty { range.lower = Key.user(request.after) + [0] }
    let limit = min(max(1, Int(request.limit)), 1000)
    var entries: [ListUsers.Entry] = []
    for entry in try view.scan(range, limit: limit + 1) {
      let record = try UserRecord(stored: entry.value)
      entries.append(
        ListUsers.Entry(
          name: Key.name(in: entry.key), created: record.created, isEnabled: record.isEnabled,
          accessKeys: record.accessKeys, policies: record.policies.map(\.name)))
    }
    let isLast = entries.count <= limit
    return ListUsers.Answer(users: Array(entries.prefix(limit)), isLast: isLast)
  }

  /// - Throws: ``StoreError/refused(_:)`` with noSuchUser.
  package func user(_ request: GetUser) throws(StoreError) -> GetUser.Answer {
    guard let record = try user(request.name) else { throw .refused(.noSuchUser, request.name) }
    var keys: [GetUser.Key] = []
    for name in record.accessKeys {
      guard let key = try accessKey(name) else { throw .corrupt("access key \(name) is not there") }
      keys.append(GetUser.Key(name: name, created: key.created, isEnabled: key.isEnabled))
    }
    return GetUser.Answer(
      created: record.created, isEnabled: record.isEnabled, accessKeys: keys,
      policies: record.policies)
  }

  /// - Throws: ``StoreError/refused(_:)`` with noSuchAccessKey.
  package func accessKey(_ request: FindAccessKey) throws(StoreError) -> FindAccessKey.Answer {
    guard let key = try accessKey(request.name), key.isEnabled, let user = try user(key.user),
      user.isEnabled
    else { throw .refused(.noSuchAccessKey, request.name) }
    return FindAccessKey.Answer(
      user: key.user, sealedSecret: key.sealedSecret, policies: user.policies)
  }

  /// - Throws: ``StoreError/refused(_:)`` with noSuchBucket.
  package func bucketAccess(_ name: String) throws(StoreError) -> BucketAccess {
    guard let bucket = try buckets.get(Array(name.utf8)) else {
      throw .refused(.noSuchBucket, name)
    }
    return try access(of: bucket)
  }
}

extension Key {
  /// Users, then access keys, in one family.
  static let users: [UInt8] = [Family.user.rawValue, 0]
  static let accessKeys: [UInt8] = [Family.user.rawValue, 1]
  static func user(_ name: String) -> [UInt8] { users + name.utf8 }
  static func accessKey(_ name: String) -> [UInt8] { accessKeys + name.utf8 }
  static func name(in key: [UInt8]) -> String { String(decoding: key.dropFirst(2), as: UTF8.self) }
  static func bucketAccess(_ bucket: UInt64) -> [UInt8] { of(.bucketAccess, bucket) }
}
