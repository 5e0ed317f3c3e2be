import Messages
import Ring

/// Puts sealed names in the place of plain ones in what is asked of the coordinator, and plain ones in its answers, for buckets whose
/// keys are their clients' alone. Everything a client asks goes through here, so that no command has to know. Loop-confined.
package final class SealedNames: @unchecked Sendable {
  // Loop-confined.
  private unowned let coordinator: CoordinatorClient
  private let keys: KeyRing
  private var ciphers: [String: NameCipher?] = [:]
  /// Of buckets that are sealed. What a bucket was is what it is while this process lives, whatever the cluster says later.
  private var domains: [String: KeyDomainID] = [:]

  /// A listing goes on at a name as the cluster has it; this before it says so. Keys begin with it nowhere else.
  private static let raw = "\0"

  package init(_ access: ClusterAccess) {
    coordinator = access.coordinator
    keys = access.keys
  }

  /// Whether a bucket's names, and what it holds, are sealed here.
  package func areSealed(in bucket: String) async throws(DataPathError) -> Bool {
    try await cipher(bucket) != nil
  }

  /// Nil where names are plain.
  private func cipher(_ bucket: String) async throws(DataPathError) -> NameCipher? {
    if let known = ciphers[bucket] { return known }
    let answer: GetBucket.Answer
    do throws(DataPathError) {
      answer = try await coordinator.query(GetBucket(level: .strong, name: bucket))
    } catch {
      // What was asked will be answered so, too.
      if error.refusalCode == .noSuchBucket { return nil }
      throw error
    }
    var cipher: NameCipher?
    if let domain = try await keys.domain(answer.domain.keyDomain), keys.opened[domain.id] != nil {
      cipher = NameCipher(domain, bucket: bucket)
      domains[bucket] = domain.id
    }
    ciphers[bucket] = .some(cipher)
    return cipher
  }

  private func sealed(_ name: ObjectName) async throws(DataPathError) -> ObjectName {
    guard let cipher = try await cipher(name.bucket) else { return name }
    let key = cipher.sealed(name.key)
    guard key.utf8.count <= 1024 else {
      throw .refused(
        code: RefusalCode.malformed.rawValue,
        reason: "key is \(key.utf8.count) bytes long when it is encrypted, 1024 are allowed")
    }
    return ObjectName(bucket: name.bucket, key: key)
  }

  // MARK: Questions

  /// The question as the coordinator is to have it.
  func sealed<Request: Call>(_ request: Request) async throws(DataPathError) -> Request {
    switch request {
    case var one as any NamesObject:
      one.name = try await sealed(one.name)
      return one as! Request
    case var one as ListObjects:
      guard let cipher = try await cipher(one.bucket) else { return request }
      one.prefix = try folder(one.prefix, one.delimiter, cipher)
      one.after = place(one.after, cipher)
      return one as! Request
    case var one as ListVersions:
      guard let cipher = try await cipher(one.bucket) else { return request }
      one.prefix = try folder(one.prefix, one.delimiter, cipher)
      one.afterKey = place(one.afterKey, cipher)
      return one as! Request
    default: return request
    }
  }

  /// The part of a prefix that can be asked for: to its last slash. What comes after is looked at here.
  private func folder(_ prefix: String, _ delimiter: String, _ cipher: NameCipher)
    throws(DataPathError) -> String
  {
    guard delimiter.isEmpty || delimiter == "/" else {
      throw .refused(
        code: RefusalCode.malformed.rawValue, reason: "encrypted names are grouped by '/' alone")
    }
    let end = prefix.utf8.lastIndex(of: UInt8(ascii: "/")).map { prefix.utf8.index(after: $0) }
    return cipher.sealed(String(prefix[..<(end ?? prefix.startIndex)]))
  }

  private func place(_ after: String, _ cipher: NameCipher) -> String {
    if after.isEmpty { return "" }
    return after.utf8.first == 0
      ? String(decoding: after.utf8.dropFirst(), as: UTF8.self) : cipher.sealed(after)
  }

  // MARK: Answers

  /// The answer as the client is to have it. Names that were not sealed here stay as they are.
  ///
  /// - Throws: ``DataPathError/corrupt(_:)`` for bytes of a sealed bucket that would not be sealed, and for a bucket that was and
  ///   is not any more: whoever writes or reads goes by these answers.
  func opened<Request: Call>(_ answer: Request.Answer, to request: Request)
    throws(DataPathError) -> Request.Answer
  {
    switch (request, answer) {
    case (let asked as ResolveRange, let plan as ResolveRange.Answer):
      try check(asked.name.bucket, plan.keyDomain, inline: plan.inline)
      return answer
    case (let asked as CoverRange, let found as CoverRange.Answer):
      try check(asked.name.bucket, nil, inline: found.inline)
      return answer
    case (let asked as GetBucket, let found as GetBucket.Answer):
      try check(asked.name, found.domain.keyDomain)
      return answer
    case (let asked as ListObjects, var page as ListObjects.Answer):
      guard let cipher = ciphers[asked.bucket] ?? nil else { return answer }
      page.entries = page.entries.compactMap { entry in
        var entry = entry
        entry.key = cipher.plain(entry.key) ?? entry.key
        return entry.key.utf8.starts(with: asked.prefix.utf8) ? entry : nil
      }
      page.prefixes = opened(page.prefixes, asked.prefix, cipher)
      page.next = page.next.map { Self.raw + $0 }
      return page as! Request.Answer
    case (let asked as ListVersions, var page as ListVersions.Answer):
      guard let cipher = ciphers[asked.bucket] ?? nil else { return answer }
      page.goesOn = page.next.map {
        ListVersions.Place(key: Self.raw + $0.key, after: $0.after)
      }
      page.entries = page.entries.compactMap { entry in
        var entry = entry
        entry.key = cipher.plain(entry.key) ?? entry.key
        return entry.key.utf8.starts(with: asked.prefix.utf8) ? entry : nil
      }
      page.prefixes = opened(page.prefixes, asked.prefix, cipher)
      return page as! Request.Answer
    case (let asked as FindVersion, var found as FindVersion.Answer):
      found.entry.key = asked.name.key
      return found as! Request.Answer
    default: return answer
    }
  }

  /// - Parameter found: the key domain that the cluster names; nil when it names none.
  private func check(_ bucket: String, _ found: KeyDomainID?, inline: [UInt8] = [])
    throws(DataPathError)
  {
    guard let domain = domains[bucket] else { return }
    guard found ?? domain == domain, inline.isEmpty else {
      throw .corrupt("'\(bucket)' is encrypted by its clients, and the cluster says otherwise")
    }
  }

  private func opened(_ groups: [String], _ prefix: String, _ cipher: NameCipher) -> [String] {
    groups.map { cipher.plain($0) ?? $0 }.filter { $0.utf8.starts(with: prefix.utf8) }
  }

  // MARK: Changes

  /// The change as the coordinator is to have it.
  func sealed(_ command: ClientCommand) async throws(DataPathError) -> ClientCommand {
    switch command {
    case .commitObject(
      let upload, let name, let content, let byteCount, let hash, let attributes,
      let precondition, let unlessIdentical, let modified):
      return .commitObject(
        upload: upload, name: try await sealed(name), content: content, byteCount: byteCount,
        contentHash: hash, attributes: attributes, precondition: precondition,
        unlessIdentical: unlessIdentical, modified: modified)
    case .deleteObject(let name, let precondition):
      return .deleteObject(name: try await sealed(name), precondition: precondition)
    case .copyObject(
      let source, let identity, let target, let attributes, let move, let precondition,
      let modified):
      return .copyObject(
        source: try await sealed(source), sourceIdentity: identity,
        target: try await sealed(target), attributes: attributes, move: move,
        precondition: precondition, modified: modified)
    case .createMultipart(let name, let attributes, let owner, let modified):
      return .createMultipart(
        name: try await sealed(name), attributes: attributes, owner: owner, modified: modified)
    case .putPart(let upload, let multipart, let part, let modified):
      return .putPart(
        upload: upload, multipart: try await sealed(multipart), part: part, modified: modified)
    case .completeMultipart(
      let upload, let multipart, let parts, let root, let attributes, let precondition,
      let modified):
      return .completeMultipart(
        upload: upload, multipart: try await sealed(multipart), parts: parts, root: root,
        attributes: attributes, precondition: precondition, modified: modified)
    case .abortMultipart(let multipart): return .abortMultipart(try await sealed(multipart))
    case .deleteVersion(let name, let version, let bypasses):
      return .deleteVersion(
        name: try await sealed(name), version: version, bypassesGovernance: bypasses)
    case .setLock(let name, let version, let change, let bypasses):
      return .setLock(
        name: try await sealed(name), version: version, change: change,
        bypassesGovernance: bypasses)
    case .setAttributes(let name, let version, let prefix, let attributes):
      return .setAttributes(
        name: try await sealed(name), version: version, prefix: prefix, attributes: attributes)
    // Its name is as the coordinator gave it.
    case .moveVersion: return command
    // They name no object. Listed one by one: what is added is to be thought of here.
    case .createBucket, .removeBucket, .openUpload, .endUpload, .requestGrant, .releaseGrant,
      .registerStripes, .makeDataKey, .holdChunks, .putPage, .setBucketSetting, .setVersioning,
      .setBucketLock, .changeUser, .changeAccessKey, .changeBucketAccess:
      return command
    }
  }

  private func sealed(_ multipart: MultipartName) async throws(DataPathError) -> MultipartName {
    var multipart = multipart
    multipart.name = try await sealed(multipart.name)
    return multipart
  }
}
