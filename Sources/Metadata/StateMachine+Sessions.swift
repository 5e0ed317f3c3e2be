import Messages
internal import Wire

/// What belongs to a session: an upload or a grant.
struct UploadKey: Hashable {
  var session: UInt64
  var number: UInt64
}

struct UploadRecord: Hashable, StoredValue {
  /// The cluster's time when it was opened.
  var opened: UInt64
  /// Whether it has any edge.
  var holds = false

  init(opened: UInt64) { self.opened = opened }
  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.varint(opened)
    writer.bool(holds)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(1)
    opened = try reader.varint()
    holds = try reader.bool()
  }
}

extension StateMachine {
  /// Outcomes a session keeps at most.
  package static let outstandingLimit: UInt64 = 1024
  static let uploadLimit: UInt64 = 4096
  static let grantLimit: UInt64 = 256

  func openSession(_ client: String) throws(StoreError) -> CommandOutcome {
    guard client.utf8.count <= 256 else {
      return .refused(.invalidName, "a client's name has at most 256 bytes")
    }
    sessions.set(position, SessionRecord(client: client, opened: wallMilliseconds))
    return .number(position)
  }

  /// Carries a command out unless the session has its outcome already.
  func executeOnce(
    _ command: ClientCommand, session id: UInt64, sequence: UInt64, lowestUnanswered: UInt64
  ) throws(StoreError) -> CommandOutcome {
    guard var session = try sessions.get(id) else { return .noSuchSession(id) }
    let floor = max(session.lowestUnanswered, lowestUnanswered)
    if floor > session.lowestUnanswered {
      let kept = min(floor - session.lowestUnanswered, Self.outstandingLimit)
      for old in session.lowestUnanswered..<session.lowestUnanswered + kept {
        view.delete(Key.of(.outcome, id, old))
      }
      session.lowestUnanswered = floor
      sessions.set(id, session)
    }
    guard sequence >= floor else {
      return .refused(.outcomeUnknown, "the answer to command \(sequence) was dropped")
    }
    guard sequence - floor < Self.outstandingLimit else {
      return .refused(
        .malformed, "more than \(Self.outstandingLimit) commands of a session are unanswered")
    }
    let key = Key.of(.outcome, id, sequence)
    if let known: CommandOutcome = try view.value(key) { return known }
    let outcome = try perform(command, session: id)
    view.put(key, outcome)
    return outcome
  }

  private func perform(_ command: ClientCommand, session: UInt64) throws(StoreError)
    -> CommandOutcome
  {
    switch command {
    case .createBucket(let name, let storageClass, let keyDomain):
      return try createBucket(name, storageClass, keyDomain)
    case .removeBucket(let name): return try removeBucket(name)
    case .openUpload: return try openUpload(session: session)
    case .endUpload(let upload):
      guard try endUpload(UploadKey(session: session, number: upload)) else {
        return .noSuchUpload(upload)
      }
      return .done
    case .requestGrant(let upload, _, let placement, let domain):
      return try requestGrant(
        UploadKey(session: session, number: upload), placement: placement, domain)
    case .releaseGrant(let grant, let container):
      let key = UploadKey(session: session, number: grant)
      guard let record = try grants.get(key), record.container == container else {
        return .refused(.grantEnded, "grant \(grant)")
      }
      try endGrant(record)
      return .done
    case .registerStripes(let upload, let grant, let container, let stripes, let dataKeys):
      return try registerStripes(
        stripes, upload: UploadKey(session: session, number: upload),
        grant: UploadKey(session: session, number: grant), container: container,
        dataKeys: dataKeys)
    case .makeDataKey(let upload, let domain, let key):
      return try makeDataKey(UploadKey(session: session, number: upload), domain, key)
    case .holdChunks(let upload, let runs):
      return try holdChunks(UploadKey(session: session, number: upload), runs: runs)
    case .putPage(let upload, let page):
      return try putPage(UploadKey(session: session, number: upload), page: page)
    case .commitObject(
      let upload, let name, let content, let byteCount, let contentHash, let attributes,
      let precondition, let unlessIdentical, let modified):
      let record = ObjectRecord(
        identity: position, byteCount: byteCount, contentHash: contentHash,
        attributes: attributes, modified: modified, content: content)
      return try commitObject(
        UploadKey(session: session, number: upload), name: name, record: record,
        precondition: precondition, unlessIdentical: unlessIdentical)
    case .deleteObject(let name, let precondition):
      return try deleteObject(name, precondition: precondition)
    case .copyObject(
      let source, let sourceIdentity, let target, let attributes, let move, let precondition,
      let modified):
      return try copyObject(
        from: source, sourceIdentity, to: target, attributes: attributes, move: move,
        precondition: precondition, modified: modified)
    case .createMultipart(let name, let attributes, let owner, let modified):
      return try createMultipart(
        name,
        MultipartDescription(initiated: modified, owner: owner, attributes: attributes))
    case .putPart(let upload, let multipart, let part, let modified):
      return try putPart(
        UploadKey(session: session, number: upload), multipart, part, modified: modified)
    case .completeMultipart(
      let upload, let multipart, let parts, let root, let attributes, let precondition,
      let modified):
      return try completeMultipart(
        UploadKey(session: session, number: upload), multipart, parts, root: root,
        attributes: attributes, precondition: precondition, modified: modified)
    case .abortMultipart(let multipart): return try abortMultipart(multipart)
    case .setBucketSetting(let bucket, let setting): return try set(setting, of: bucket)
    case .setVersioning(let bucket, let versioning): return try set(versioning, ofBucket: bucket)
    case .deleteVersion(let name, let version, let bypassesGovernance):
      return try deleteVersion(name, version, bypassesGovernance: bypassesGovernance)
    case .setBucketLock(let bucket, let lock, let enablesVersioning):
      return try set(lock, ofBucket: bucket, enablesVersioning: enablesVersioning)
    case .setLock(let name, let version, let change, let bypassesGovernance):
      return try setLock(of: name, version, change, bypassesGovernance: bypassesGovernance)
    case .setAttributes(let name, let version, let prefix, let attributes):
      return try setAttributes(of: name, version, prefix: prefix, attributes)
    case .moveVersion(let upload, let name, let identity, let domain, let content, let tier):
      return try moveVersion(
        UploadKey(session: session, number: upload), name, identity, to: domain, content, tier)
    case .changeUser(let name, let change): return try changeUser(name, change)
    case .changeAccessKey(let name, let change): return try changeAccessKey(name, change)
    case .changeBucketAccess(let bucket, let change):
      return try changeAccess(ofBucket: bucket, change)
    }
  }

  private func openUpload(session id: UInt64) throws(StoreError) -> CommandOutcome {
    guard var session = try sessions.get(id) else { return .noSuchSession(id) }
    guard session.uploadCount < Self.uploadLimit else {
      return .refused(.unavailable, "a session has at most \(Self.uploadLimit) uploads")
    }
    session.uploadCount += 1
    sessions.set(id, session)
    uploads.set(
      UploadKey(session: id, number: position), UploadRecord(opened: state.time))
    return .number(position)
  }

  /// False when there is no such upload.
  private func endUpload(_ key: UploadKey) throws(StoreError) -> Bool {
    guard let upload = try uploads.get(key) else { return false }
    uploads.set(key, nil)
    try endDataKeys(of: key.number)
    if var session = try sessions.get(key.session) {
      session.uploadCount &-= 1
      sessions.set(key.session, session)
    }
    if upload.holds { addTrash(.upload(key.number)) }
    return true
  }

  /// Ends a session that exists, with its uploads and grants.
  func endSession(_ id: UInt64) throws(StoreError) {
    // The caches hold uploads and grants made in this batch; scans must see them.
    uploads.writeBack()
    grants.writeBack()
    for entry in try view.scan(KeyRange(prefix: Key.of(.grant, id))) {
      let grant = UploadKey(session: id, number: try Key.number(in: entry.key, at: 9))
      if let record = try grants.get(grant) { try endGrant(record) }
    }
    for entry in try view.scan(KeyRange(prefix: Key.of(.upload, id))) {
      _ = try endUpload(UploadKey(session: id, number: Key.number(in: entry.key, at: 9)))
    }
    for entry in try view.scan(KeyRange(prefix: Key.of(.outcome, id))) { view.delete(entry.key) }
    sessions.set(id, nil)
  }
}
