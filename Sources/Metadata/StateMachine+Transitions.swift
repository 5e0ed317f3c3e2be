internal import Coding
package import Messages
internal import Wire

/// Versions go to other classes: their bytes were stored anew there, and here they take the place of the old ones.
///
/// The version keeps its identity, so whoever reads it goes on with the new bytes, which are the same. Its edges are called by the
/// move's own position: the old ones may wait in the trash for long, and a version may come to a class again where some of them lead.
extension StateMachine {
  func moveVersion(
    _ upload: UploadKey, _ name: ObjectName, _ identity: UInt64, to domain: ChunkDomain,
    _ content: ObjectContent?, _ tier: ObjectTier
  ) throws(StoreError) -> CommandOutcome {
    guard let bucket = try buckets.get(Array(name.bucket.utf8)) else {
      return .refused(.noSuchBucket, name.bucket)
    }
    guard domain.keyDomain == bucket.domain.keyDomain else {
      return .refused(.otherClass, "\(domain.keyDomain) is not that of \(name.bucket)")
    }
    guard try classes.get(domain.storageClass) != nil else {
      return .refused(.noSuchClass, "\(domain.storageClass)")
    }
    guard let (before, isCurrent) = try movable(name, identity, in: bucket) else {
      return .refused(.noSuchVersion, "\(name.key) has no version \(identity)")
    }
    // Another worker was quicker.
    if let reached = ObjectTier(of: before.attributes), reached >= tier { return .done }
    var record = before
    record.attributes = before.attributes.withoutTier
    guard record.attributes.user.count < ObjectAttributes.userLimit else {
      return .refused(.malformed, "the version has too many attributes")
    }
    record.attributes.user.append(.init(name: ObjectTier.attributeName, value: tier.name))
    record.attributes.user.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    if let content {
      if let outcome = try adopt(content, of: before, domain, upload) { return outcome }
      record.content = content
      record.moved = ObjectRecord.Moved(domain: domain, source: position)
      returnEdges(of: before)
    } else if before.domain(in: bucket) != domain {
      guard case .inline = before.content else {
        return .refused(
          .malformed, "the version's bytes are of another class, and no others are said")
      }
      record.moved = ObjectRecord.Moved(domain: domain, source: position)
    }
    try recount(before, record, isCurrent, in: bucket)
    if isCurrent {
      view.put(Key.object(bucket: bucket.identity, key: name.key.utf8), record)
    } else {
      view.put(
        Key.version(bucket: bucket.identity, key: name.key.utf8, identity),
        VersionRecord.object(record))
    }
    return .done
  }

  /// Adds the edges of content that is to be the version's.
  ///
  /// - Returns: why it cannot be; nil: it is.
  private func adopt(
    _ content: ObjectContent, of version: ObjectRecord, _ domain: ChunkDomain, _ upload: UploadKey
  ) throws(StoreError) -> CommandOutcome? {
    func refusal(_ found: ChunkDomain, _ byteCount: UInt64) -> CommandOutcome? {
      guard found == domain else {
        return .refused(.otherClass, "bytes of \(found), not \(domain)")
      }
      return byteCount == version.byteCount
        ? nil : .refused(.malformed, "\(byteCount) bytes are not \(version.byteCount)")
    }
    switch content {
    case .inline(let bytes):
      // Who reads it compares it with this name.
      guard !domain.isSealed, UInt64(bytes.count) == version.byteCount,
        Fingerprint(of: bytes) == version.contentHash
      else { return .refused(.malformed, "inlined bytes that are not the version's") }
    case .embedded(let runs):
      guard try uploads.get(upload) != nil else { return .noSuchUpload(upload.number) }
      switch try check(runs) {
      case .malformed(let problem): return .refused(.malformed, problem)
      case .missing(let missing): return .missing(runs: missing, pages: [])
      case .alive(_, let byteCount, let uses, let found):
        if let refusal = refusal(found, byteCount) { return refusal }
        try addEdges(from: .object(position), to: uses)
      }
    case .root(let page):
      guard try uploads.get(upload) != nil else { return .noSuchUpload(upload.number) }
      guard let info = try pages.get(page) else { return .missing(runs: [], pages: [page]) }
      if let refusal = refusal(info.domain, info.byteCount) { return refusal }
      try addEdge(from: .object(position), toPage: page)
    }
    return nil
  }

  private func recount(
    _ before: ObjectRecord, _ after: ObjectRecord, _ isCurrent: Bool, in bucket: BucketRecord
  ) throws(StoreError) {
    let objects: UInt64 = isCurrent ? 1 : 0
    try count(in: before.domain(in: bucket)) {
      $0.objectCount &-= objects
      $0.logicalBytes &-= before.byteCount
      $0.inlineBytes &-= before.content.inlineByteCount
    }
    try count(in: after.domain(in: bucket)) {
      $0.objectCount &+= objects
      $0.logicalBytes &+= after.byteCount
      $0.inlineBytes &+= after.content.inlineByteCount
    }
  }

  /// Nil when there is no such version, or it is a delete marker.
  private func movable(_ name: ObjectName, _ identity: UInt64, in bucket: BucketRecord)
    throws(StoreError) -> (record: ObjectRecord, isCurrent: Bool)?
  {
    if let current = try object(bucket, name.key), current.identity == identity {
      return (current, true)
    }
    guard case .object(let record)? = try older(identity, at: name.key, in: bucket) else {
      return nil
    }
    return (record, false)
  }

  // MARK: For the leader

  /// Whether anybody but its clients can move what a bucket holds.
  package func isMovable(_ bucket: String) throws(StoreError) -> Bool {
    guard let record = try buckets.get(Array(bucket.utf8)) else { return false }
    return try keyDomain(record.domain.keyDomain)?.isClients != true
  }

  /// What there is to know of a version for who moves it; nil when it is gone meanwhile, or there is no class of that name.
  package func dueVersion(_ name: ObjectName, _ identity: UInt64, _ transition: Transition)
    throws(StoreError) -> DueVersion?
  {
    guard let bucket = try buckets.get(Array(name.bucket.utf8)),
      let (record, _) = try movable(name, identity, in: bucket),
      let (id, found) = try storageClass(named: transition.storageClass),
      // Else it is refused when all of it is stored anew.
      record.attributes.withoutTier.user.count < ObjectAttributes.userLimit
    else { return nil }
    let domain = ChunkDomain(id, in: bucket.domain.keyDomain)
    let bytes: DueVersion.Bytes =
      switch record.content {
      case _ where record.domain(in: bucket) == domain: .stay
      case .inline: .stay
      case .embedded: .embedded
      case .root: .belowPage
      }
    return DueVersion(
      name: name, identity: identity, byteCount: record.byteCount, attributes: record.attributes,
      tier: transition.tier, domain: domain, storageClass: found.policy, bytes: bytes)
  }
}
