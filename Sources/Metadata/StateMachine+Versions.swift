internal import Coding
package import Messages
internal import Wire

/// Versions of objects. Family `o` holds the current version of each living object and nothing else, so that listings cost what
/// they answer; what is older, and every delete marker, is in family `v`, the newest of a key first.
///
/// The newest version of a key is in `o`, or it is the first in `v` and a marker: whoever takes the newest away brings the next
/// one back.
extension StateMachine {
  // MARK: Buckets

  func set(_ versioning: BucketVersioning, ofBucket name: String) throws(StoreError)
    -> CommandOutcome
  {
    let key = Array(name.utf8)
    guard var bucket = try buckets.get(key) else { return .refused(.noSuchBucket, name) }
    guard versioning != .off || bucket.versioning == .off else {
      return .refused(.bucketState, "\(name) has versions: they can be suspended, not taken back")
    }
    if bucket.versioning == versioning { return .done }
    guard versioning == .enabled || bucket.lock == nil else {
      return .refused(
        .bucketState,
        "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."
      )
    }
    bucket.versioning = versioning
    buckets.set(key, bucket)
    return .done
  }

  // MARK: Writing

  /// Makes room at a key for a new version: what is there goes, or stays as an older one.
  ///
  /// - Parameter current: the object that the caller takes out of family `o`.
  func giveWay(_ current: ObjectRecord?, at key: String, in bucket: inout BucketRecord)
    throws(StoreError)
  {
    switch bucket.versioning {
    case .off: if let current { try retire(current, of: bucket) }
    case .enabled:
      if let current { keep(.object(current), at: key, in: &bucket) }
    case .suspended:
      if let current, current.isNull { return try retire(current, of: bucket) }
      if let current { keep(.object(current), at: key, in: &bucket) }
      // There is one null version at most: the new one.
      guard let former = try nullVersion(of: key, in: bucket) else { return }
      _ = try drop(former, at: key, in: &bucket)
    }
  }

  func keep(_ version: VersionRecord, at key: String, in bucket: inout BucketRecord) {
    view.put(Key.version(bucket: bucket.identity, key: key.utf8, version.identity), version)
    if version.isNull {
      view.put(
        Key.nullVersion(bucket: bucket.identity, key: key.utf8),
        Key.of(.nullVersion, version.identity).dropFirst().map { $0 })
    }
    bucket.versionCount &+= 1
  }

  /// Takes an older version, or a marker, out of family `v`, and its bytes with it.
  private func drop(_ identity: UInt64, at key: String, in bucket: inout BucketRecord)
    throws(StoreError) -> VersionRecord?
  {
    let row = Key.version(bucket: bucket.identity, key: key.utf8, identity)
    guard let version: VersionRecord = try view.value(row) else { return nil }
    view.delete(row)
    if version.isNull { view.delete(Key.nullVersion(bucket: bucket.identity, key: key.utf8)) }
    bucket.versionCount &-= 1
    if case .object(let record) = version { try retire(record, of: bucket) }
    return version
  }

  /// A delete that names no version, in a bucket that has versions: a marker becomes the newest, be the key there or not.
  func mark(_ name: ObjectName, _ current: ObjectRecord?, in bucket: BucketRecord)
    throws(StoreError) -> CommandOutcome
  {
    var bucket = bucket
    if let current { try takeOut(current, name.key, &bucket) }
    try giveWay(current, at: name.key, in: &bucket)
    let isNull = bucket.versioning == .suspended
    keep(
      .marker(identity: position, modified: wallMilliseconds, isNull: isNull), at: name.key,
      in: &bucket)
    buckets.set(Array(name.bucket.utf8), bucket)
    return .version(identity: position, isNull ? .null : .identity(position))
  }

  /// The key's object is current no more.
  func takeOut(_ current: ObjectRecord, _ key: String, _ bucket: inout BucketRecord)
    throws(StoreError)
  {
    view.delete(Key.object(bucket: bucket.identity, key: key.utf8))
    try count(in: current.domain(in: bucket)) { $0.objectCount &-= 1 }
    bucket.objectCount &-= 1
  }

  func deleteVersion(
    _ name: ObjectName, _ choice: VersionName, bypassesGovernance: Bool = false
  ) throws(StoreError) -> CommandOutcome {
    guard var bucket = try buckets.get(Array(name.bucket.utf8)) else {
      return .refused(.noSuchBucket, name.bucket)
    }
    let current = try object(bucket, name.key)
    guard let identity = try identity(of: choice, name.key, current, in: bucket) else {
      return noSuchVersion(name, choice)
    }
    let removed: VersionRecord
    if let current, current.identity == identity {
      let refusal = lockRefusal(.object(current), bypassesGovernance: bypassesGovernance)
      if let refusal { return refusal }
      try takeOut(current, name.key, &bucket)
      try retire(current, of: bucket)
      removed = .object(current)
    } else {
      let refusal = lockRefusal(
        try older(identity, at: name.key, in: bucket), bypassesGovernance: bypassesGovernance)
      if let refusal { return refusal }
      guard let dropped = try drop(identity, at: name.key, in: &bucket) else {
        return noSuchVersion(name, choice)
      }
      removed = dropped
      if current != nil {
        buckets.set(Array(name.bucket.utf8), bucket)
        return outcome(ofRemoving: removed)
      }
    }
    try bringBack(name.key, &bucket)
    buckets.set(Array(name.bucket.utf8), bucket)
    return outcome(ofRemoving: removed)
  }

  private func outcome(ofRemoving version: VersionRecord) -> CommandOutcome {
    switch version {
    case .object: .done
    case .marker(let identity, _, let isNull):
      .version(identity: identity, isNull ? .null : .identity(identity))
    }
  }

  /// The newest version left is current again, unless it is a marker.
  private func bringBack(_ key: String, _ bucket: inout BucketRecord) throws(StoreError) {
    guard let newest = try newestOlder(of: key, in: bucket), case .object(let record) = newest
    else { return }
    view.delete(Key.version(bucket: bucket.identity, key: key.utf8, record.identity))
    if record.isNull { view.delete(Key.nullVersion(bucket: bucket.identity, key: key.utf8)) }
    view.put(Key.object(bucket: bucket.identity, key: key.utf8), record)
    bucket.versionCount &-= 1
    bucket.objectCount &+= 1
    try count(in: record.domain(in: bucket)) { $0.objectCount &+= 1 }
  }

  // MARK: Changing

  /// Changes a version where it is: it stays what it is but for some attributes.
  func setAttributes(
    of name: ObjectName, _ choice: VersionName, prefix: String,
    _ attributes: [ObjectAttributes.UserAttribute]
  ) throws(StoreError) -> CommandOutcome {
    guard !prefix.isEmpty, attributes.allSatisfy({ $0.name.utf8.starts(with: prefix.utf8) }),
      zip(attributes, attributes.dropFirst()).allSatisfy({
        $0.name.utf8.lexicographicallyPrecedes($1.name.utf8)
      })
    else { return .refused(.malformed, "attributes that are not '\(prefix)', or not in order") }
    return try change(name, choice) { (record) in
      var user = record.attributes.user.filter { !$0.name.utf8.starts(with: prefix.utf8) }
      user += attributes
      guard user.count <= ObjectAttributes.userLimit else {
        return .refused(
          .malformed, "an object has at most \(ObjectAttributes.userLimit) attributes")
      }
      user.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
      record.attributes.user = user
      return nil
    }
  }

  /// - Parameter body: why not; nil when the record is as it is to be.
  func change(
    _ name: ObjectName, _ choice: VersionName,
    _ body: (inout ObjectRecord) throws(StoreError) -> CommandOutcome?
  ) throws(StoreError) -> CommandOutcome {
    guard let bucket = try buckets.get(Array(name.bucket.utf8)) else {
      return .refused(.noSuchBucket, name.bucket)
    }
    let current = try object(bucket, name.key)
    let found = try identity(of: choice, name.key, current, in: bucket)
    if choice == .unnamed, found == nil {
      return .refused(.noSuchKey, try missingReason(name.key, in: bucket))
    }
    var row = Key.object(bucket: bucket.identity, key: name.key.utf8)
    guard let found else { return noSuchVersion(name, choice) }
    var record: ObjectRecord
    if let current, current.identity == found {
      record = current
      if let refusal = try body(&record) { return refusal }
      view.put(row, record)
    } else {
      guard let version = try older(found, at: name.key, in: bucket) else {
        return noSuchVersion(name, choice)
      }
      guard case .object(let older) = version else {
        return .refused(.isDeleteMarker, "version \(version.id) is a delete marker")
      }
      record = older
      if let refusal = try body(&record) { return refusal }
      row = Key.version(bucket: bucket.identity, key: name.key.utf8, found)
      view.put(row, VersionRecord.object(record))
    }
    let versionName = self.name(of: record, in: bucket)
    return versionName == .unnamed ? .done : .version(identity: found, versionName)
  }

  private func noSuchVersion(_ name: ObjectName, _ choice: VersionName) -> CommandOutcome {
    .refused(.noSuchVersion, "\(name.key) has no version \(choice.text ?? "")")
  }

  // MARK: Looking

  /// The first of a key's versions in family `v`.
  func newestOlder(of key: String, in bucket: BucketRecord) throws(StoreError)
    -> VersionRecord?
  {
    guard bucket.versionCount > 0 else { return nil }
    let range = KeyRange(prefix: Key.versions(bucket: bucket.identity, key: key.utf8))
    guard let row = try view.scan(range, limit: 1).first else { return nil }
    return try VersionRecord(stored: row.value)
  }

  /// Where in family `v` the key's null version is.
  private func nullVersion(of key: String, in bucket: BucketRecord) throws(StoreError) -> UInt64? {
    guard bucket.versionCount > 0,
      let bytes = try view.get(Key.nullVersion(bucket: bucket.identity, key: key.utf8))
    else { return nil }
    return try Key.number(in: bytes, at: 0)
  }

  /// Of a version that is there, perhaps; nil when there is surely none of that name.
  private func identity(
    of choice: VersionName, _ key: String, _ current: ObjectRecord?, in bucket: BucketRecord
  ) throws(StoreError) -> UInt64? {
    switch choice {
    case .unnamed: return current?.identity
    case .identity(let identity): return identity < 1 << 56 ? identity : nil
    case .null:
      if let current, current.isNull { return current.identity }
      return try nullVersion(of: key, in: bucket)
    }
  }

  /// An older version, or a marker.
  func older(_ identity: UInt64, at key: String, in bucket: BucketRecord) throws(StoreError)
    -> VersionRecord?
  {
    guard bucket.versionCount > 0, identity < 1 << 56 else { return nil }
    return try view.value(Key.version(bucket: bucket.identity, key: key.utf8, identity))
  }

  /// The object that is meant.
  ///
  /// - Parameter identity: 0: the current one.
  /// - Throws: ``StoreError/refused(_:)`` with noSuchBucket; noSuchKey; isDeleteMarker; preconditionFailed when there is no such version.
  func version(_ name: ObjectName, _ identity: UInt64) throws(StoreError) -> (
    record: ObjectRecord, bucket: BucketRecord
  ) {
    guard let bucket = try buckets.get(Array(name.bucket.utf8)) else {
      throw .refused(.noSuchBucket, name.bucket)
    }
    let current = try object(bucket, name.key)
    if let current, identity == 0 || identity == current.identity { return (current, bucket) }
    guard identity != 0 else { throw try missing(name.key, in: bucket) }
    if let version = try older(identity, at: name.key, in: bucket) {
      guard case .object(let record) = version else {
        throw .refused(.isDeleteMarker, "version \(version.id) is a delete marker")
      }
      return (record, bucket)
    }
    guard let current else { throw try missing(name.key, in: bucket) }
    throw .refused(.preconditionFailed, "the current version is \(current.identity)")
  }

  /// Why a key is not there.
  func missing(_ key: String, in bucket: BucketRecord) throws(StoreError) -> StoreError {
    .refused(.noSuchKey, try missingReason(key, in: bucket))
  }

  private func missingReason(_ key: String, in bucket: BucketRecord) throws(StoreError) -> String {
    guard let newest = try newestOlder(of: key, in: bucket) else { return key }
    return DeleteMarkerReason(marker: newest.name).text
  }

  /// What a version is called in its bucket.
  func name(of record: ObjectRecord, in bucket: BucketRecord) -> VersionName {
    if bucket.versioning == .off { return .unnamed }
    return record.isNull ? .null : .identity(record.identity)
  }

  /// - Throws: ``StoreError/refused(_:)`` with noSuchBucket, noSuchKey, noSuchVersion.
  package func find(_ request: FindVersion) throws(StoreError) -> FindVersion.Answer {
    let name = request.name
    guard let bucket = try buckets.get(Array(name.bucket.utf8)) else {
      throw .refused(.noSuchBucket, name.bucket)
    }
    let current = try object(bucket, name.key)
    func answer(_ entry: VersionEntry) -> FindVersion.Answer {
      FindVersion.Answer(entry: entry, versioning: bucket.versioning)
    }
    let found = try identity(of: request.version, name.key, current, in: bucket)
    if let current, current.identity == found {
      return answer(VersionEntry(current, key: name.key, isCurrent: true))
    }
    if request.version == .unnamed { throw try missing(name.key, in: bucket) }
    guard let found, let record = try older(found, at: name.key, in: bucket) else {
      throw .refused(.noSuchVersion, "\(name.key) has no version \(request.version.text ?? "")")
    }
    let newest = try current == nil ? newestOlder(of: name.key, in: bucket) : nil
    return answer(record.entry(name.key, isCurrent: newest == record))
  }

  // MARK: Listing

  /// Its cost follows the versions and groups answered, not the size of the bucket, of a group, or of a key's history.
  package func listVersions(_ request: ListVersions) throws(StoreError) -> ListVersions.Answer {
    guard let bucket = try buckets.get(Array(request.bucket.utf8)) else {
      throw .refused(.noSuchBucket, request.bucket)
    }
    let limit = min(Int(request.limit), Self.listLimit)
    var answer = ListVersions.Answer(entries: [], prefixes: [], isLast: true)
    guard limit > 0 else { return answer }
    let prefix = Array(request.prefix.utf8)
    let delimiter = Array(request.delimiter.utf8)
    var current = VersionCursor(
      KeyRange(prefix: Key.object(bucket: bucket.identity, key: prefix))
    ) { (key) throws(StoreError) in Array(key.dropFirst(9)) }
    var older = VersionCursor(
      KeyRange(prefix: Key.versions(bucket: bucket.identity, keyPrefix: prefix))
    ) { (key) throws(StoreError) in try Key.versionedKey(in: key) }
    var last = try begin(request, bucket, &current, &older)
    var room = Self.listByteLimit
    // With a delimiter most rows may be passed over.
    let stride = delimiter.isEmpty ? limit + 1 : 16
    while true {
      let left = try current.head(view, stride)
      let right = try older.head(view, stride)
      guard let key = [left?.key, right?.key].compactMap({ $0 }).min(by: keyPrecedes) else {
        return answer
      }
      guard answer.entries.count + answer.prefixes.count < limit, room > 0 else {
        answer.isLast = false
        return answer
      }
      if let group = Self.group(of: key, from: prefix.count, delimiter: delimiter) {
        answer.prefixes.append(String(decoding: group, as: UTF8.self))
        current.pass(Key.object(bucket: bucket.identity, key: group))
        older.pass(Key.versions(bucket: bucket.identity, keyPrefix: group))
        continue
      }
      let text = String(decoding: key, as: UTF8.self)
      let isNewest = key != last
      if let left, left.key == key {
        room -= key.count + left.value.count
        let record = try ObjectRecord(stored: left.value)
        answer.entries.append(VersionEntry(record, key: text, isCurrent: true))
        current.next()
      } else if let right {
        room -= key.count + right.value.count
        let record = try VersionRecord(stored: right.value)
        answer.entries.append(record.entry(text, isCurrent: isNewest))
        older.next()
      }
      last = key
    }
  }

  /// Moves both cursors to where the listing goes on.
  ///
  /// - Returns: the key of which newer versions were listed already; nil when there is none.
  private func begin(
    _ request: ListVersions, _ bucket: BucketRecord, _ current: inout VersionCursor,
    _ older: inout VersionCursor
  ) throws(StoreError) -> [UInt8]? {
    guard !request.afterKey.isEmpty else { return nil }
    let key = Array(request.afterKey.utf8)
    let group = Self.group(
      of: key, from: request.prefix.utf8.count, delimiter: Array(request.delimiter.utf8))
    if request.after == .unnamed, let group, group == key,
      key.starts(with: request.prefix.utf8)
    {
      current.pass(Key.object(bucket: bucket.identity, key: key))
      older.pass(Key.versions(bucket: bucket.identity, keyPrefix: key))
      return nil
    }
    let row = Key.object(bucket: bucket.identity, key: key)
    let versions = Key.versions(bucket: bucket.identity, key: key)
    guard request.after != .unnamed else {
      current.begin(at: row + [0])
      if let past = KeyRange.successor(of: versions) { older.begin(at: past) }
      return nil
    }
    let newest = try object(bucket, request.afterKey)
    guard let identity = try identity(of: request.after, request.afterKey, newest, in: bucket)
    else {
      // Nobody knows where the null version was that is gone: all of the key is listed again.
      current.begin(at: row)
      older.begin(at: versions)
      return nil
    }
    let isNewestOlder = newest.map { $0.identity < identity } ?? false
    current.begin(at: isNewestOlder ? row : row + [0])
    older.begin(at: Key.version(bucket: bucket.identity, key: key, identity) + [0])
    return isNewestOlder ? nil : key
  }
}

/// Rows of one family by the object key in theirs, some at a time.
private struct VersionCursor {
  private var range: KeyRange
  private var rows: ArraySlice<StoreEntry> = []
  private var isAtEnd = false
  private let key: ([UInt8]) throws(StoreError) -> [UInt8]

  init(_ range: KeyRange, key: @escaping ([UInt8]) throws(StoreError) -> [UInt8]) {
    self.range = range
    self.key = key
  }

  mutating func begin(at lower: [UInt8]) {
    if keyPrecedes(range.lower, lower) { range.lower = lower }
  }

  mutating func head(_ view: StoreView, _ wanted: Int) throws(StoreError) -> (
    key: [UInt8], value: [UInt8]
  )? {
    if rows.isEmpty && !isAtEnd {
      rows = try view.scan(range, limit: wanted)[...]
      isAtEnd = rows.count < wanted
      if let last = rows.last { range.lower = last.key + [0] }
    }
    guard let row = rows.first else { return nil }
    return (try key(row.key), row.value)
  }

  mutating func next() { rows.removeFirst() }

  /// Goes on after all rows that begin so.
  mutating func pass(_ prefix: [UInt8]) {
    guard let past = KeyRange.successor(of: prefix) else {
      rows = []
      isAtEnd = true
      return
    }
    while let row = rows.first, keyPrecedes(row.key, past) { rows.removeFirst() }
    begin(at: past)
  }
}
