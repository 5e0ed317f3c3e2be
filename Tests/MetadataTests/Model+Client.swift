import Cluster
import Coding
import Messages
import TestSupport
import Wire

@testable import Metadata

/// What clients' commands do to the model.
extension Model {
  mutating func perform(_ command: ClientCommand, session: UInt64) -> CommandOutcome {
    func has(_ upload: UInt64) -> Bool { uploads[upload]?.session == session }
    switch command {
    case .createBucket(let name, let storageClass, let keyDomain):
      guard StateMachine.isBucketName(name) else { return refused(.invalidName) }
      guard buckets[Array(name.utf8)] == nil else { return refused(.bucketExists) }
      guard let id = classID(named: storageClass) else { return refused(.noSuchClass) }
      guard let keyDomain = self.keyDomain(named: keyDomain) else {
        return refused(.noSuchKeyDomain)
      }
      buckets[Array(name.utf8)] = Bucket(
        identity: position, domain: ChunkDomain(id, in: keyDomain))
      return .done
    case .removeBucket(let name):
      guard let bucket = buckets[Array(name.utf8)] else { return refused(.noSuchBucket) }
      guard bucket.isEmpty else { return refused(.bucketNotEmpty) }
      for number in bucket.multiparts.keys { endMultipart(Array(name.utf8), number) }
      buckets[Array(name.utf8)] = nil
      return .done
    case .openUpload:
      uploads[position] = Upload(session: session)
      return .number(position)
    case .endUpload(let upload):
      guard has(upload) else { return refused(.noSuchUpload) }
      endUpload(upload)
      return .done
    case .requestGrant(let upload, _, let placement, let domain):
      guard has(upload) else { return refused(.noSuchUpload) }
      guard classes[domain.storageClass] != nil else { return refused(.noSuchClass) }
      guard domain.keyDomain == .plain || keyDomains[domain.keyDomain] != nil else {
        return refused(.noSuchKeyDomain)
      }
      return requestGrant(session, placement, domain)
    case .releaseGrant(let grant, let container):
      guard let known = grants[grant], known.session == session, known.container == container
      else { return refused(.grantEnded) }
      endGrant(grant)
      return .done
    case .makeDataKey(let upload, let domain, let key):
      guard has(upload) else { return refused(.noSuchUpload) }
      return makeDataKey(upload, domain, key)
    case .registerStripes(let upload, let grant, let container, let stripes, let dataKeys):
      guard has(upload) else { return refused(.noSuchUpload) }
      guard let known = grants[grant], known.session == session, known.container == container
      else { return refused(.grantEnded) }
      guard stripes.isEmpty || maySeal(dataKeys, upload, containers[container]!.domain.keyDomain)
      else { return refused(.malformed) }
      let outcome = register(stripes, upload, known)
      if outcome == .done, !stripes.isEmpty {
        for key in dataKeys { self.dataKeys[key]!.containers.insert(container) }
      }
      return outcome
    case .holdChunks(let upload, let runs):
      guard has(upload) else { return refused(.noSuchUpload) }
      if runs.reduce(0, { $0 + Int($1.count) }) > 1 << 16 { return refused(.malformed) }
      var missing: [Run] = []
      for run in runs {
        let ordinals = (run.firstOrdinal..<run.firstOrdinal + UInt64(run.count)).map {
          Ordinal(container: run.container, number: $0)
        }
        if isTarget(run.container),
          ordinals.allSatisfy({ containers[run.container]!.chunks[$0.number] != nil })
        {
          uploads[upload]!.ordinals.formUnion(ordinals)
        } else {
          missing.append(run)
        }
      }
      return .missing(runs: missing, pages: [])
    case .putPage(let upload, let page):
      guard has(upload) else { return refused(.noSuchUpload) }
      return putPage(upload, page)
    case .commitObject(
      let upload, let name, let content, let byteCount, let contentHash, let attributes,
      let precondition, let unlessIdentical, let modified):
      guard let bucket = buckets[Array(name.bucket.utf8)] else { return refused(.noSuchBucket) }
      guard (1...1024).contains(name.key.utf8.count) else { return refused(.invalidName) }
      if attributes.lock != nil, bucket.lock == nil { return refused(.noLocks) }
      let current = bucket.objects[Array(name.key.utf8)]
      if fails(precondition, current) { return refused(.preconditionFailed) }
      if unlessIdentical, let current, current.contentHash == contentHash,
        current.byteCount == byteCount,
        unlocked(current.attributes).withoutTier == unlocked(attributes).withoutTier
      {
        return .number(current.identity)
      }
      switch content {
      case .inline(let bytes):
        if UInt64(bytes.count) != byteCount { return refused(.malformed) }
        if !bytes.isEmpty, bucket.domain.keyDomain != .plain { return refused(.otherClass) }
      case .embedded(let runs):
        guard has(upload) else { return refused(.noSuchUpload) }
        switch check(runs) {
        case .failure(let outcome): return outcome.outcome
        case .success(let found):
          if found.domain != bucket.domain { return refused(.otherClass) }
          if found.byteCount != byteCount { return refused(.malformed) }
        }
      case .root(let page):
        guard has(upload) else { return refused(.noSuchUpload) }
        guard let known = pages[page] else { return .missing(runs: [], pages: [page]) }
        if known.domain != bucket.domain { return refused(.otherClass) }
        if known.byteCount != byteCount { return refused(.malformed) }
      }
      return store(
        ObjectRecord(
          identity: position, byteCount: byteCount, contentHash: contentHash,
          attributes: attributes, modified: modified, content: content), at: name)
    case .deleteObject(let name, let precondition):
      guard let bucket = buckets[Array(name.bucket.utf8)] else { return refused(.noSuchBucket) }
      let current = bucket.objects[Array(name.key.utf8)]
      if current == nil, bucket.versioning == .off || precondition != .none {
        return refused(.noSuchKey)
      }
      guard (1...1024).contains(name.key.utf8.count) else { return refused(.invalidName) }
      if fails(precondition, current) { return refused(.preconditionFailed) }
      return delete(name)
    case .setAttributes(let name, let choice, let prefix, let attributes):
      guard !prefix.isEmpty, attributes.allSatisfy({ $0.name.hasPrefix(prefix) }) else {
        return refused(.malformed)
      }
      guard let bucket = buckets[Array(name.bucket.utf8)] else { return refused(.noSuchBucket) }
      let stack = bucket.stacks[Array(name.key.utf8)] ?? []
      guard let index = place(of: choice, in: stack) else {
        return refused(choice == .unnamed ? .noSuchKey : .noSuchVersion)
      }
      guard var record = stack[index].record else { return refused(.isDeleteMarker) }
      record.attributes.user.removeAll { $0.name.hasPrefix(prefix) }
      record.attributes.user += attributes
      record.attributes.user.sort { $0.name < $1.name }
      buckets[Array(name.bucket.utf8)]!.stacks[Array(name.key.utf8)]![index] = .object(record)
      if bucket.versioning == .off { return .done }
      return .version(
        identity: record.identity, record.isNull ? .null : .identity(record.identity))
    case .setVersioning(let name, let versioning):
      guard let bucket = buckets[Array(name.utf8)] else { return refused(.noSuchBucket) }
      if versioning == .off, bucket.versioning != .off { return refused(.bucketState) }
      if versioning != .enabled, bucket.versioning != versioning, bucket.lock != nil {
        return refused(.bucketState)
      }
      buckets[Array(name.utf8)]!.versioning = versioning
      return .done
    case .setBucketLock(let name, let lock, let enablesVersioning):
      guard let bucket = buckets[Array(name.utf8)] else { return refused(.noSuchBucket) }
      if !enablesVersioning, bucket.versioning != .enabled { return refused(.bucketState) }
      buckets[Array(name.utf8)]!.versioning = .enabled
      buckets[Array(name.utf8)]!.lock = lock
      return .done
    case .setLock(let name, let choice, let change, let bypasses):
      guard let bucket = buckets[Array(name.bucket.utf8)] else { return refused(.noSuchBucket) }
      guard bucket.lock != nil else { return refused(.noLocks) }
      let stack = bucket.stacks[Array(name.key.utf8)] ?? []
      guard let index = place(of: choice, in: stack) else {
        return refused(choice == .unnamed ? .noSuchKey : .noSuchVersion)
      }
      guard var record = stack[index].record else { return refused(.isDeleteMarker) }
      var lock = record.attributes.lock ?? ObjectLock()
      switch change {
      case .legalHold(let isOn): lock.hasLegalHold = isOn
      case .retention(let new):
        if let old = lock.retention, isActive(old), old.mode == .compliance || !bypasses {
          guard let new, new.until >= old.until, old.mode == .governance || new.mode == .compliance
          else { return refused(.objectLocked) }
        }
        lock.retention = new
      }
      record.attributes.lock = lock == ObjectLock() ? nil : lock
      buckets[Array(name.bucket.utf8)]!.stacks[Array(name.key.utf8)]![index] = .object(record)
      return .version(
        identity: record.identity, record.isNull ? .null : .identity(record.identity))
    case .deleteVersion(let name, let choice, let bypasses):
      guard let bucket = buckets[Array(name.bucket.utf8)] else { return refused(.noSuchBucket) }
      let stack = bucket.stacks[Array(name.key.utf8)] ?? []
      guard let index = place(of: choice, in: stack) else { return refused(.noSuchVersion) }
      let removed = stack[index]
      if isHeld(removed, bypasses: bypasses) { return refused(.objectLocked) }
      buckets[Array(name.bucket.utf8)]!.stacks[Array(name.key.utf8)]!.remove(at: index)
      guard case .marker(let identity, let isNull) = removed else {
        trash.append(.object(removed.record!.content))
        return .done
      }
      return .version(identity: identity, isNull ? .null : .identity(identity))
    case .createMultipart(let name, let attributes, let owner, let modified):
      guard buckets[Array(name.bucket.utf8)] != nil else { return refused(.noSuchBucket) }
      guard (1...1024).contains(name.key.utf8.count) else { return refused(.invalidName) }
      if attributes.lock != nil, buckets[Array(name.bucket.utf8)]!.lock == nil {
        return refused(.noLocks)
      }
      buckets[Array(name.bucket.utf8)]!.multiparts[position] = Multipart(
        key: Array(name.key.utf8),
        description: MultipartDescription(
          initiated: modified, owner: owner, attributes: attributes))
      return .number(position)
    case .putPart(let upload, let multipart, let part, let modified):
      guard (1...10_000).contains(part.number) else { return refused(.malformed) }
      guard buckets[Array(multipart.name.bucket.utf8)] != nil else {
        return refused(.noSuchBucket)
      }
      guard let known = self.multipart(multipart) else { return refused(.noSuchMultipart) }
      if part.page != 0 {
        guard has(upload) else { return refused(.noSuchUpload) }
        guard let page = pages[part.page] else { return .missing(runs: [], pages: [part.page]) }
        if page.byteCount != part.byteCount { return refused(.malformed) }
        if page.domain != buckets[Array(multipart.name.bucket.utf8)]!.domain {
          return refused(.otherClass)
        }
      } else if part.byteCount != 0 {
        return refused(.malformed)
      }
      if let old = known.parts[part.number] { trash.append(.part(old)) }
      buckets[Array(multipart.name.bucket.utf8)]!.multiparts[multipart.number]!
        .parts[part.number] = ListParts.Part(part: part, identity: position, modified: modified)
      return .number(position)
    case .completeMultipart(
      let upload, let multipart, let parts, let root, let attributes, let precondition,
      let modified):
      guard let bucket = buckets[Array(multipart.name.bucket.utf8)] else {
        return refused(.noSuchBucket)
      }
      guard let known = self.multipart(multipart) else { return refused(.noSuchMultipart) }
      if parts.isEmpty { return refused(.malformed) }
      if attributes.lock != nil, bucket.lock == nil { return refused(.noLocks) }
      var chosen: [Page.Child] = []
      var last: UInt32 = 0
      for choice in parts {
        if choice.number <= last { return refused(.partOrder) }
        last = choice.number
        guard let part = known.parts[choice.number], part.identity == choice.identity else {
          return refused(.noSuchPart)
        }
        if part.part.page != 0 {
          chosen.append(Page.Child(page: part.part.page, byteCount: part.part.byteCount))
        }
      }
      if fails(precondition, bucket.objects[Array(multipart.name.key.utf8)]) {
        return refused(.preconditionFailed)
      }
      var content = ObjectContent.inline([])
      var hash = Fingerprint(of: [])
      if chosen.isEmpty {
        if root != 0 { return refused(.malformed) }
      } else {
        guard has(upload) else { return refused(.noSuchUpload) }
        guard let page = pages[root] else { return .missing(runs: [], pages: [root]) }
        guard page.page == .children(chosen) else { return refused(.malformed) }
        content = .root(root)
        hash = Fingerprint(of: Array(page.signature.utf8))
        completedHashes.insert(hash)
      }
      let size = chosen.reduce(0) { $0 + $1.byteCount }
      let outcome = store(
        ObjectRecord(
          identity: position, byteCount: size, contentHash: hash, attributes: attributes,
          modified: modified, content: content), at: multipart.name)
      endMultipart(Array(multipart.name.bucket.utf8), multipart.number)
      return outcome
    case .abortMultipart(let multipart):
      guard buckets[Array(multipart.name.bucket.utf8)] != nil else {
        return refused(.noSuchBucket)
      }
      guard self.multipart(multipart) != nil else { return refused(.noSuchMultipart) }
      endMultipart(Array(multipart.name.bucket.utf8), multipart.number)
      return .done
    case .setBucketSetting(let name, let setting):
      guard buckets[Array(name.utf8)] != nil else { return refused(.noSuchBucket) }
      buckets[Array(name.utf8)]!.settings[setting.kind] =
        setting.bytes.isEmpty ? nil : setting.bytes
      return .done
    case .moveVersion(let upload, let name, let identity, let domain, let content, let tier):
      return moveVersion(has(upload), name, identity, domain, content, tier)
    case .changeUser(let name, let change): return self.change(user: name, change)
    case .changeAccessKey(let name, let change): return self.change(accessKey: name, change)
    case .changeBucketAccess(let bucket, let change):
      return self.change(accessOf: bucket, change)
    case .copyObject(
      let source, let sourceIdentity, let target, let attributes, let move, let precondition,
      let modified):
      guard let from = buckets[Array(source.bucket.utf8)] else { return refused(.noSuchBucket) }
      guard let to = buckets[Array(target.bucket.utf8)] else { return refused(.noSuchBucket) }
      let newest = from.objects[Array(source.key.utf8)]
      var found = newest
      if sourceIdentity != 0, sourceIdentity != newest?.identity {
        let stack = move ? [] : from.stacks[Array(source.key.utf8)] ?? []
        switch stack.first(where: { $0.identity == sourceIdentity }) {
        case .object(let record): found = record
        case .marker: return refused(.isDeleteMarker)
        case nil: if newest != nil { return refused(.sourceChanged) }
        }
      }
      guard var record = found else { return refused(.noSuchKey) }
      guard (1...1024).contains(target.key.utf8.count) else { return refused(.invalidName) }
      if attributes?.lock != nil, to.lock == nil { return refused(.noLocks) }
      if fails(precondition, to.objects[Array(target.key.utf8)]) {
        return refused(.preconditionFailed)
      }
      switch record.content {
      case .inline([]): break
      case .inline:
        if from.domain != to.domain,
          from.domain.keyDomain != .plain || to.domain.keyDomain != .plain
        {
          return refused(.otherClass)
        }
      default:
        if record.moved?.domain ?? from.domain != to.domain { return refused(.otherClass) }
      }
      record.identity = position
      record.modified = modified
      record.attributes = attributes ?? unlocked(record.attributes)
      let outcome = store(record, at: target)
      if move && source.encoded != target.encoded { _ = delete(source) }
      return outcome
    }
  }

  mutating func moveVersion(
    _ hasUpload: Bool, _ name: ObjectName, _ identity: UInt64, _ domain: ChunkDomain,
    _ content: ObjectContent?, _ tier: ObjectTier
  ) -> CommandOutcome {
    guard let bucket = buckets[Array(name.bucket.utf8)] else { return refused(.noSuchBucket) }
    if domain.keyDomain != bucket.domain.keyDomain { return refused(.otherClass) }
    guard classes[domain.storageClass] != nil else { return refused(.noSuchClass) }
    let stack = bucket.stacks[Array(name.key.utf8)] ?? []
    guard let index = stack.firstIndex(where: { $0.identity == identity }),
      var record = stack[index].record
    else { return refused(.noSuchVersion) }
    if let reached = ObjectTier(of: record.attributes), reached >= tier { return .done }
    let before = record
    switch content {
    case nil:
      if record.moved?.domain ?? bucket.domain != domain {
        guard case .inline = record.content else { return refused(.malformed) }
        record.moved = .init(domain: domain, source: position)
      }
    case .inline(let bytes):
      guard domain.keyDomain == .plain, bytes.count == record.byteCount,
        Fingerprint(of: bytes) == record.contentHash
      else { return refused(.malformed) }
    case .embedded(let runs):
      guard hasUpload else { return refused(.noSuchUpload) }
      switch check(runs) {
      case .failure(let outcome): return outcome.outcome
      case .success(let found):
        if found.domain != domain { return refused(.otherClass) }
        if found.byteCount != record.byteCount { return refused(.malformed) }
      }
    case .root(let page):
      guard hasUpload else { return refused(.noSuchUpload) }
      guard let known = pages[page] else { return .missing(runs: [], pages: [page]) }
      if known.domain != domain { return refused(.otherClass) }
      if known.byteCount != record.byteCount { return refused(.malformed) }
    }
    if let content {
      record.content = content
      record.moved = .init(domain: domain, source: position)
      trash.append(.object(before.content))
    }
    record.attributes = record.attributes.withoutTier
    record.attributes.user.append(.init(name: "storage-class", value: tier.name))
    record.attributes.user.sort { $0.name < $1.name }
    buckets[Array(name.bucket.utf8)]!.stacks[Array(name.key.utf8)]![index] = .object(record)
    return .done
  }

  func multipart(_ multipart: MultipartName) -> Multipart? {
    let known = buckets[Array(multipart.name.bucket.utf8)]?.multiparts[multipart.number]
    return known?.key == Array(multipart.name.key.utf8) ? known : nil
  }
  mutating func endMultipart(_ bucket: [UInt8], _ number: UInt64) {
    let multipart = buckets[bucket]!.multiparts.removeValue(forKey: number)!
    for number in multipart.parts.keys.sorted() { trash.append(.part(multipart.parts[number]!)) }
  }

  func fails(_ precondition: Precondition, _ current: ObjectRecord?) -> Bool {
    switch precondition {
    case .none: false
    case .absent: current != nil
    case .identity(let identity): current?.identity != identity
    }
  }
  mutating func store(_ new: ObjectRecord, at name: ObjectName) -> CommandOutcome {
    var record = new
    let versioning = buckets[Array(name.bucket.utf8)]!.versioning
    record.isNull = versioning != .enabled
    record.moved = nil
    record.attributes = record.attributes.withoutTier
    if let usual = buckets[Array(name.bucket.utf8)]!.lock, usual.days > 0,
      record.attributes.lock?.retention == nil
    {
      record.attributes.lock = ObjectLock(
        retention: .init(
          mode: usual.mode, until: record.modified + UInt64(usual.days) * 86_400_000),
        hasLegalHold: record.attributes.lock?.hasLegalHold ?? false)
    }
    if record.isNull { removeNull(name) }
    buckets[Array(name.bucket.utf8)]!.stacks[Array(name.key.utf8), default: []]
      .append(.object(record))
    switch versioning {
    case .off: return .number(position)
    case .enabled: return .version(identity: position, .identity(position))
    case .suspended: return .version(identity: position, .null)
    }
  }
  mutating func delete(_ name: ObjectName) -> CommandOutcome {
    let versioning = buckets[Array(name.bucket.utf8)]!.versioning
    if versioning != .enabled { removeNull(name) }
    if versioning == .off { return .done }
    let isNull = versioning == .suspended
    buckets[Array(name.bucket.utf8)]!.stacks[Array(name.key.utf8), default: []]
      .append(.marker(identity: position, isNull: isNull))
    return .version(identity: position, isNull ? .null : .identity(position))
  }
  /// The clock of these tests stays far below what is drawn as a time to come, and above the others.
  func isActive(_ retention: ObjectLock.Retention) -> Bool { retention.until > 50_000_000 }
  func isHeld(_ version: Version, bypasses: Bool) -> Bool {
    guard let lock = version.record?.attributes.lock else { return false }
    if lock.hasLegalHold { return true }
    guard let retention = lock.retention, isActive(retention) else { return false }
    return retention.mode == .compliance || !bypasses
  }
  func unlocked(_ attributes: ObjectAttributes) -> ObjectAttributes {
    var attributes = attributes
    attributes.lock = nil
    return attributes
  }
  mutating func expire(_ row: ExpiredVersion) {
    let key = Array(row.key.utf8)
    guard let bucket = buckets[Array(row.bucket.utf8)], bucket.identity == row.bucketIdentity,
      let stack = bucket.stacks[key],
      let index = stack.firstIndex(where: { $0.identity == row.identity })
    else { return }
    let (isNewest, version) = (index == stack.count - 1, stack[index])
    switch row.action {
    case .delete:
      if isNewest, version.record != nil {
        _ = delete(ObjectName(bucket: row.bucket, key: row.key))
      }
      return
    case .remove: if isNewest || isHeld(version, bypasses: false) { return }
    case .removeLoneMarker: if stack.count != 1 || version.record != nil { return }
    }
    if let record = version.record { trash.append(.object(record.content)) }
    buckets[Array(row.bucket.utf8)]!.stacks[key]!.remove(at: index)
  }
  func place(of choice: VersionName, in stack: [Version]) -> Int? {
    switch choice {
    case .unnamed: stack.last?.record == nil ? nil : stack.indices.last
    case .null: stack.firstIndex { $0.isNull }
    case .identity(let identity): stack.firstIndex { $0.identity == identity }
    }
  }
  mutating func removeNull(_ name: ObjectName) {
    let stack = buckets[Array(name.bucket.utf8)]!.stacks[Array(name.key.utf8)] ?? []
    for version in stack where version.isNull {
      if let record = version.record { trash.append(.object(record.content)) }
    }
    buckets[Array(name.bucket.utf8)]!.stacks[Array(name.key.utf8)] = stack.filter { !$0.isNull }
  }

  mutating func requestGrant(
    _ session: UInt64, _ placement: ClientCommand.Placement?, _ domain: ChunkDomain
  ) -> CommandOutcome {
    guard let placement else { return refused(.tooFewDomains) }
    guard Set(placement.devices).count == placement.devices.count else {
      return refused(.malformed)
    }
    if placement.devices.contains(where: { deviceState($0) != .healthy }) {
      return refused(.unavailable)
    }
    let free = containers.filter {
      $0.value.grant == nil && !$0.value.isSealed && !$0.value.isCondemned
        && $0.value.domain == domain && $0.value.scheme == placement.scheme
        && $0.value.devices == placement.devices
    }.keys.min()
    let id = free ?? ContainerID(.data, position)
    if free == nil {
      containers[id] = Container(
        domain: domain, scheme: placement.scheme,
        places: [ShardPlace](placement.devices, generation: position))
    }
    var container = containers[id]!
    container.grant = position
    let grant = OpenGrant(
      session: session, container: id, firstStripe: container.nextStripe,
      firstOrdinal: container.nextOrdinal)
    container.nextStripe += 4096
    containers[id] = container
    grants[position] = grant
    return .grant(
      Grant(
        id: position, container: id, generation: container.places[0].generation,
        scheme: placement.scheme,
        devices: placement.devices, firstStripe: grant.firstStripe,
        endStripe: grant.firstStripe + 4096, firstOrdinal: grant.firstOrdinal,
        byteLimit: UInt64(max(0, 1 << 30 - container.dataBytes)), epoch: mapEpoch
      ).encoded)
  }

  mutating func register(
    _ stripes: [StripeRecord], _ upload: UInt64, _ grant: OpenGrant
  ) -> CommandOutcome {
    var container = containers[grant.container]!
    let least: UInt32 = container.domain.keyDomain == .plain ? 48 : 64
    var held: Set<Ordinal> = []
    var newHints = hints
    for stripe in stripes {
      let window = grant.firstStripe..<grant.firstStripe + 4096
      guard window.contains(stripe.stripe), stripe.layout.scheme == container.scheme,
        container.stripes.insert(stripe.stripe).inserted
      else { return refused(.malformed) }
      var number = stripe.firstOrdinal
      var end: UInt32 = 0
      for group in stripe.groups {
        let plain = group.chunks.reduce(0) { $0 + $1.byteCount }
        let fits =
          group.codec == .raw
          ? plain + least == group.storedByteCount
          : group.storedByteCount > least && group.storedByteCount < plain + least
        guard group.offset >= end, fits, plain <= 1_044_432 else { return refused(.malformed) }
        end = group.offset + group.storedByteCount
        container.groupBytes += Int(group.storedByteCount)
        container.groups[number] = (stripe.stripe, group)
        for chunk in group.chunks {
          guard number >= grant.firstOrdinal, number < grant.firstOrdinal + 1 << 20,
            container.chunks[number] == nil
          else { return refused(.malformed) }
          container.chunks[number] = chunk
          let ordinal = Ordinal(container: grant.container, number: number)
          held.insert(ordinal)
          let hint = Hint(fingerprint: chunk.fingerprint, domain: container.domain)
          if let known = newHints[hint], isTarget(known.container) {
          } else {
            newHints[hint] = ordinal
          }
          number += 1
        }
      }
      container.nextOrdinal = max(container.nextOrdinal, number)
      container.layouts[stripe.stripe] = stripe.layout
    }
    hints = newHints
    containers[grant.container] = container
    uploads[upload]!.ordinals.formUnion(held)
    return .done
  }

  struct Failure: Error { var outcome: CommandOutcome }

  func check(_ runs: [Run]) -> Result<
    (signature: String, byteCount: UInt64, domain: ChunkDomain), Failure
  > {
    let malformed = Failure(outcome: refused(.malformed))
    guard !runs.isEmpty, runs.reduce(0, { $0 + Int($1.count) }) <= 1024 else {
      return .failure(malformed)
    }
    var missing: [Run] = []
    var signature = "runs"
    var total: UInt64 = 0
    var domain: ChunkDomain?
    next: for run in runs {
      guard let container = containers[run.container], !container.isCondemned else {
        missing.append(run)
        continue
      }
      if let domain, container.domain != domain { return .failure(malformed) }
      domain = container.domain
      var rest = run.byteCount
      var skip = run.skip
      for number in run.firstOrdinal..<run.firstOrdinal + UInt64(run.count) {
        guard let chunk = container.chunks[number] else {
          missing.append(run)
          continue next
        }
        guard skip < chunk.byteCount, rest > 0 else { return .failure(malformed) }
        let take = min(rest, UInt64(chunk.byteCount - skip))
        signature += " \(chunk.fingerprint.w3):\(skip):\(take)"
        rest -= take
        skip = 0
      }
      guard rest == 0 else { return .failure(malformed) }
      total += run.byteCount
    }
    if !missing.isEmpty { return .failure(Failure(outcome: .missing(runs: missing, pages: []))) }
    return .success(("\(domain!) " + signature, total, domain!))
  }

  mutating func putPage(_ upload: UInt64, _ page: Page) -> CommandOutcome {
    var new = ModelPage(
      page: page, byteCount: 0, level: 0, signature: "", domain: .standard)
    var domain: ChunkDomain?
    switch page {
    case .runs(let runs):
      switch check(runs) {
      case .failure(let failure): return failure.outcome
      case .success(let found):
        new.byteCount = found.byteCount
        new.signature = found.signature
        new.domain = found.domain
      }
    case .children(let children):
      if children.isEmpty { return refused(.malformed) }
      var missing: [UInt64] = []
      new.signature = "children"
      for child in children {
        guard let known = pages[child.page] else {
          missing.append(child.page)
          continue
        }
        guard known.byteCount == child.byteCount else { return refused(.malformed) }
        if let domain, known.domain != domain { return refused(.malformed) }
        domain = known.domain
        new.domain = known.domain
        new.byteCount += child.byteCount
        new.level = max(new.level, known.level + 1)
        new.signature += " (\(known.signature))"
      }
      if !missing.isEmpty { return .missing(runs: [], pages: missing) }
      if new.level > 6 { return refused(.malformed) }
    }
    if let known = pageNames[new.signature], let other = pages[known] {
      let isShareable =
        switch (other.page, page) {
        case (.runs(let runs), _): runs.allSatisfy { isTarget($0.container) }
        default: other.page == page
        }
      if isShareable {
        uploads[upload]!.pages.insert(known)
        return .number(known)
      }
    }
    pages[position] = new
    pageNames[new.signature] = position
    uploads[upload]!.pages.insert(position)
    return .number(position)
  }
}
