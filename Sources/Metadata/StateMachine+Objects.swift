internal import Cluster
internal import Coding
internal import Messages
internal import Wire

extension StateMachine {
  static let keyByteLimit = 1024

  // MARK: Buckets

  func createBucket(_ name: String, _ storageClass: String, _ keyDomain: String)
    throws(StoreError) -> CommandOutcome
  {
    guard Self.isBucketName(name) else { return .refused(.invalidName, name) }
    let key = Array(name.utf8)
    guard try buckets.get(key) == nil else { return .refused(.bucketExists, name) }
    guard let (id, _) = try self.storageClass(named: storageClass) else {
      return .refused(.noSuchClass, storageClass)
    }
    guard let keyDomain = try self.keyDomain(named: keyDomain) else {
      return .refused(.noSuchKeyDomain, keyDomain)
    }
    buckets.set(
      key,
      BucketRecord(
        identity: position, created: wallMilliseconds, domain: ChunkDomain(id, in: keyDomain)))
    return .done
  }

  func removeBucket(_ name: String) throws(StoreError) -> CommandOutcome {
    let key = Array(name.utf8)
    guard let bucket = try buckets.get(key) else { return .refused(.noSuchBucket, name) }
    guard bucket.isEmpty else { return .refused(.bucketNotEmpty, name) }
    buckets.set(key, nil)
    try removeSettings(of: bucket)
    forgetAccess(of: bucket)
    try endMultiparts(of: bucket)
    return .done
  }

  package static func isBucketName(_ name: String) -> Bool { BucketName.brokenRule(name) == nil }

  // MARK: Objects

  func object(_ bucket: BucketRecord, _ key: String) throws(StoreError) -> ObjectRecord? {
    try view.value(Key.object(bucket: bucket.identity, key: key.utf8))
  }

  func commitObject(
    _ upload: UploadKey, name: ObjectName, record: ObjectRecord, precondition: Precondition,
    unlessIdentical: Bool
  ) throws(StoreError) -> CommandOutcome {
    guard let bucket = try buckets.get(Array(name.bucket.utf8)) else {
      return .refused(.noSuchBucket, name.bucket)
    }
    if let problem = Self.problem(withKey: name.key) { return .refused(.invalidName, problem) }
    if let refusal = lockRefusal(record.attributes, in: bucket) { return refusal }
    let current = try object(bucket, name.key)
    if let refusal = Self.refusal(precondition, current: current) { return refusal }
    if unlessIdentical, let current, Self.isIdentical(current, to: record) {
      return .number(current.identity)
    }
    switch record.content {
    case .inline(let bytes):
      guard UInt64(bytes.count) == record.byteCount else {
        return .refused(.malformed, "\(bytes.count) bytes are not \(record.byteCount)")
      }
      // Inlined bytes are plain in the log.
      if bucket.domain.isSealed && !bytes.isEmpty {
        return .refused(.otherClass, "\(name.bucket) is encrypted: its objects are not inlined")
      }
    case .embedded(let runs):
      guard try uploads.get(upload) != nil else { return .noSuchUpload(upload.number) }
      switch try check(runs) {
      case .malformed(let problem): return .refused(.malformed, problem)
      case .missing(let missing): return .missing(runs: missing, pages: [])
      case .alive(_, let byteCount, let uses, let domain):
        if let refusal = try refusal(of: domain, in: bucket, name.bucket) { return refusal }
        guard byteCount == record.byteCount else {
          return .refused(.malformed, "\(byteCount) bytes are not \(record.byteCount)")
        }
        try addEdges(from: .object(position), to: uses)
      }
    case .root(let page):
      guard try uploads.get(upload) != nil else { return .noSuchUpload(upload.number) }
      guard let info = try pages.get(page) else { return .missing(runs: [], pages: [page]) }
      if let refusal = try refusal(of: info.domain, in: bucket, name.bucket) { return refusal }
      guard info.byteCount == record.byteCount else {
        return .refused(.malformed, "\(info.byteCount) bytes are not \(record.byteCount)")
      }
      try addEdge(from: .object(position), toPage: page)
    }
    return try store(record, at: name, in: bucket, replacing: current)
  }

  func deleteObject(_ name: ObjectName, precondition: Precondition) throws(StoreError)
    -> CommandOutcome
  {
    guard let bucket = try buckets.get(Array(name.bucket.utf8)) else {
      return .refused(.noSuchBucket, name.bucket)
    }
    let current = try object(bucket, name.key)
    if current == nil, bucket.versioning == .off || precondition != .none {
      return .refused(.noSuchKey, name.key)
    }
    if let problem = Self.problem(withKey: name.key) { return .refused(.invalidName, problem) }
    if let refusal = Self.refusal(precondition, current: current) { return refusal }
    return try delete(current, at: name, in: bucket)
  }

  func copyObject(
    from source: ObjectName, _ sourceIdentity: UInt64, to target: ObjectName,
    attributes: ObjectAttributes?, move: Bool, precondition: Precondition, modified: UInt64
  ) throws(StoreError) -> CommandOutcome {
    guard let sourceBucket = try buckets.get(Array(source.bucket.utf8)) else {
      return .refused(.noSuchBucket, source.bucket)
    }
    guard let targetBucket = try buckets.get(Array(target.bucket.utf8)) else {
      return .refused(.noSuchBucket, target.bucket)
    }
    let newest = try object(sourceBucket, source.key)
    var found = newest
    if sourceIdentity != 0, newest?.identity != sourceIdentity {
      switch try move ? nil : older(sourceIdentity, at: source.key, in: sourceBucket) {
      case .object(let record): found = record
      case .marker: return .refused(.isDeleteMarker, "version \(sourceIdentity)")
      case nil:
        if let newest {
          return .refused(.sourceChanged, "the source is version \(newest.identity)")
        }
      }
    }
    guard let original = found else { return .refused(.noSuchKey, source.key) }
    if let problem = Self.problem(withKey: target.key) { return .refused(.invalidName, problem) }
    if let attributes, let refusal = lockRefusal(attributes, in: targetBucket) { return refusal }
    let current = try object(targetBucket, target.key)
    if let refusal = Self.refusal(precondition, current: current) { return refusal }
    // What is inlined is in no container; but its bytes are plain, and so is what its content hash says of them.
    let isShared =
      switch original.content {
      case .inline(let bytes):
        bytes.isEmpty || !(sourceBucket.domain.isSealed || targetBucket.domain.isSealed)
      case .embedded, .root: false
      }
    if !isShared,
      let refusal = try refusal(
        of: original.domain(in: sourceBucket), in: targetBucket, target.bucket)
    {
      return refusal
    }
    var record = original
    record.identity = position
    record.modified = modified
    // A lock is the version's own.
    record.attributes.lock = nil
    if let attributes { record.attributes = attributes }
    switch record.content {
    case .inline: break
    case .embedded(let runs):
      var uses: [(ContainerID, OrdinalSet)] = []
      for id in Set(runs.map(\.container)).sorted() {
        let key = Key.edge(.containerEdge, target: id.raw, source: .object(original.source))
        guard let ordinals: OrdinalSet = try view.value(key) else {
          throw .corrupt("version \(original.identity) has no edge to \(id)")
        }
        uses.append((id, ordinals))
      }
      try addEdges(from: .object(position), to: uses)
    case .root(let page): try addEdge(from: .object(position), toPage: page)
    }
    let outcome = try store(record, at: target, in: targetBucket, replacing: current)
    let isSame =
      source.bucket.utf8.elementsEqual(target.bucket.utf8)
      && source.key.utf8.elementsEqual(target.key.utf8)
    if move && !isSame, let bucket = try buckets.get(Array(source.bucket.utf8)) {
      _ = try delete(original, at: source, in: bucket)
    }
    return outcome
  }

  /// Chunks are of one domain: whoever wants their bytes in another writes them anew.
  func refusal(of domain: ChunkDomain, in bucket: BucketRecord, _ name: String)
    throws(StoreError) -> CommandOutcome?
  {
    if domain == bucket.domain { return nil }
    guard domain.keyDomain == bucket.domain.keyDomain else {
      return .refused(
        .otherClass, "the bytes are not of the key domain of \(name): write them anew")
    }
    let (theirs, ours) = (try policy(of: domain).name, try policy(of: bucket.domain).name)
    return .refused(
      .otherClass, "the bytes are stored as '\(theirs)' and \(name) is '\(ours)': write them anew")
  }

  /// Same bytes, same attributes: committing `record` would change nothing that a reader sees.
  static func isIdentical(_ current: ObjectRecord, to record: ObjectRecord) -> Bool {
    // Attributes by bytes: equal strings may differ in theirs.
    guard current.contentHash == record.contentHash, current.byteCount == record.byteCount else {
      return false
    }
    // A lock it may have from its bucket.
    var (ours, theirs) = (current.attributes, record.attributes)
    (ours.lock, theirs.lock) = (nil, nil)
    return ours.withoutTier.encoded == theirs.withoutTier.encoded
  }

  static func problem(withKey key: String) -> String? {
    if key.isEmpty { return "a key is empty" }
    return key.utf8.count > keyByteLimit ? "a key has at most \(keyByteLimit) bytes" : nil
  }

  static func refusal(_ precondition: Precondition, current: ObjectRecord?)
    -> CommandOutcome?
  {
    switch precondition {
    case .none: return nil
    case .absent:
      guard let current else { return nil }
      return .refused(.preconditionFailed, "the key is there, version \(current.identity)")
    case .identity(let identity):
      guard let current else { return .refused(.preconditionFailed, "the key is not there") }
      return current.identity == identity
        ? nil : .refused(.preconditionFailed, "the current version is \(current.identity)")
    }
  }

  /// Makes a version current.
  ///
  /// - Parameter current: the object that it replaces.
  /// - Returns: what was made.
  func store(
    _ new: ObjectRecord, at name: ObjectName, in bucket: BucketRecord,
    replacing current: ObjectRecord?
  ) throws(StoreError) -> CommandOutcome {
    var record = new
    record.isNull = bucket.versioning != .enabled
    record.moved = nil
    record.attributes = record.attributes.withoutTier
    lock(&record, in: bucket)
    view.put(Key.object(bucket: bucket.identity, key: name.key.utf8), record)
    try count(in: bucket.domain) {
      $0.logicalBytes &+= record.byteCount
      $0.inlineBytes &+= record.content.inlineByteCount
      if current == nil { $0.objectCount &+= 1 }
    }
    if let current, current.domain(in: bucket) != bucket.domain {
      try count(in: current.domain(in: bucket)) { $0.objectCount &-= 1 }
      try count(in: bucket.domain) { $0.objectCount &+= 1 }
    }
    let before = bucket
    var bucket = bucket
    if current == nil { bucket.objectCount &+= 1 }
    try giveWay(current, at: name.key, in: &bucket)
    if bucket != before { buckets.set(Array(name.bucket.utf8), bucket) }
    let versionName = self.name(of: record, in: bucket)
    return versionName == .unnamed
      ? .number(record.identity) : .version(identity: record.identity, versionName)
  }

  /// A delete that names no version.
  func delete(
    _ current: ObjectRecord?, at name: ObjectName, in bucket: BucketRecord
  ) throws(StoreError) -> CommandOutcome {
    guard bucket.versioning == .off, let current else {
      return try mark(name, current, in: bucket)
    }
    var bucket = bucket
    try takeOut(current, name.key, &bucket)
    buckets.set(Array(name.bucket.utf8), bucket)
    try retire(current, of: bucket)
    return .done
  }

  /// A version is gone: its edges are returned from the trash.
  func retire(_ version: ObjectRecord, of bucket: BucketRecord) throws(StoreError) {
    try count(in: version.domain(in: bucket)) {
      $0.logicalBytes &-= version.byteCount
      $0.inlineBytes &-= version.content.inlineByteCount
    }
    returnEdges(of: version)
  }

  /// What a version's content leads to is used by it no more.
  func returnEdges(of version: ObjectRecord) {
    switch version.content {
    case .inline: break
    case .embedded(let runs):
      addTrash(
        .embedded(identity: version.source, containers: Set(runs.map(\.container)).sorted()))
    case .root(let page): addTrash(.root(identity: version.source, page: page))
    }
  }
}

extension ObjectRecord {
  /// What its chunks are stored in.
  func domain(in bucket: BucketRecord) -> ChunkDomain { moved?.domain ?? bucket.domain }
}

extension BucketRecord {
  /// Neither objects nor older versions nor delete markers.
  var isEmpty: Bool { objectCount == 0 && versionCount == 0 }
}

extension ObjectContent {
  /// Bytes kept in the record.
  var inlineByteCount: UInt64 {
    if case .inline(let bytes) = self { UInt64(bytes.count) } else { 0 }
  }
}
