internal import Cluster
internal import Coding
internal import Messages
internal import Wire

extension StateMachine {
  /// Chunks one `holdChunks` may name.
  static let holdLimit: UInt64 = 1 << 16

  // MARK: Grants

  func requestGrant(
    _ upload: UploadKey, placement: ClientCommand.Placement?, _ domain: ChunkDomain
  ) throws(StoreError) -> CommandOutcome {
    guard try uploads.get(upload) != nil, var session = try sessions.get(upload.session) else {
      return .noSuchUpload(upload.number)
    }
    guard try classes.get(domain.storageClass) != nil else {
      return .refused(.noSuchClass, "\(domain)")
    }
    if domain.isSealed, try keyDomains.get(domain.keyDomain) == nil {
      return .refused(.noSuchKeyDomain, "\(domain.keyDomain)")
    }
    guard let placement else { return .refused(.tooFewDomains, "no placement was found") }
    guard Set(placement.devices).count == placement.devices.count else {
      return .refused(.malformed, "a device is chosen twice")
    }
    if let device = placement.devices.first(where: { !isHealthy($0) }) {
      return .refused(.unavailable, "device \(device) takes no new data; ask again")
    }
    guard session.grantCount < Self.grantLimit else {
      return .refused(.unavailable, "a session has at most \(Self.grantLimit) grants")
    }
    let free = Key.available(domain, scheme: placement.scheme, devices: placement.devices)
    var container: ContainerRecord
    if let entry = try view.scan(KeyRange(prefix: free), limit: 1).first {
      let id = try Key.container(in: entry.key, at: free.count)
      guard let known = try containers.get(id), known.state == .available else {
        throw .corrupt("\(id) is listed as available")
      }
      container = known
      view.delete(entry.key)
      container.state = .open(grant: position)
    } else {
      container = ContainerRecord(
        id: ContainerID(.data, position), domain: domain, scheme: placement.scheme,
        places: [ShardPlace](placement.devices, generation: position),
        state: .open(grant: position))
      try count(in: domain) { $0.containerCount &+= 1 }
      for (index, device) in container.devices.enumerated() {
        view.put(
          Key.of(.deviceContainer, device.raw, container.id.raw), [UInt8(truncatingIfNeeded: index)]
        )
      }
    }
    let grant = OpenGrant(
      id: position, session: upload.session, container: container.id,
      firstStripe: container.nextStripe, endStripe: container.nextStripe + OpenGrant.stripeCount,
      firstOrdinal: container.nextOrdinal)
    container.nextStripe = grant.endStripe
    containers.set(container.id, container)
    grants.set(UploadKey(session: upload.session, number: position), grant)
    session.grantCount += 1
    sessions.set(upload.session, session)
    return .grant(
      Grant(
        id: grant.id, container: container.id, generation: container.places[0].generation,
        scheme: container.scheme, devices: container.devices, firstStripe: grant.firstStripe,
        endStripe: grant.endStripe, firstOrdinal: grant.firstOrdinal,
        byteLimit: ContainerRecord.byteLimit
          - min(container.dataByteCount, ContainerRecord.byteLimit),
        epoch: state.mapEpoch
      ).encoded)
  }

  /// Nothing more can be registered under the grant; its container may be granted again unless it is full,
  /// its devices fail, or nothing in it is wanted.
  func endGrant(_ grant: OpenGrant) throws(StoreError) {
    guard var container = try containers.get(grant.container),
      container.state == .open(grant: grant.id)
    else { throw .corrupt("grant \(grant.id) without its container") }
    grants.set(UploadKey(session: grant.session, number: grant.id), nil)
    if var session = try sessions.get(grant.session) {
      session.grantCount &-= 1
      sessions.set(grant.session, session)
    }
    view.put(Key.of(.endedGrant, grant.id), EndedGrant(grant, of: container))
    if container.isFull || !container.devices.allSatisfy({ isHealthy($0) }) {
      container.state = .sealed
    } else {
      container.state = .available
      view.put(Key.available(container), [])
    }
    try condemnIfUnused(&container)
    containers.set(container.id, container)
  }

  /// Containers waiting to be granted again are sealed when one of their devices takes no new data.
  func sealOnUnhealthyDevices() throws(StoreError) {
    for entry in try view.scan(KeyRange(prefix: Key.family(.availableContainer))) {
      let id = try Key.container(in: entry.key, at: entry.key.count - 8)
      guard var container = try containers.get(id), container.state == .available else {
        throw .corrupt("\(id) is listed as available")
      }
      // A device that is only missing from the list may come back.
      guard container.devices.contains(where: { isListed($0) && !isHealthy($0) }) else { continue }
      container.state = .sealed
      view.delete(entry.key)
      containers.set(id, container)
    }
  }

  // MARK: Registration

  func registerStripes(
    _ stripes: [StripeRecord], upload: UploadKey, grant grantKey: UploadKey,
    container id: ContainerID, dataKeys: [UInt64]
  ) throws(StoreError) -> CommandOutcome {
    guard let uploadRecord = try uploads.get(upload) else { return .noSuchUpload(upload.number) }
    guard var grant = try grants.get(grantKey), grant.container == id else {
      return .refused(.grantEnded, "grant \(grantKey.number)")
    }
    guard var container = try containers.get(id), container.state == .open(grant: grant.id) else {
      throw .corrupt("grant \(grant.id) without its container")
    }
    // All checks first: a refused registration changes nothing.
    if !stripes.isEmpty, let problem = try problem(dataKeys, of: upload.number, in: container) {
      return .refused(.malformed, problem)
    }
    var accepted: [NumberRun] = []
    var nextOrdinal = container.nextOrdinal
    for stripe in stripes {
      if let problem = Self.problem(stripe, grant: grant, of: container) {
        return .refused(.malformed, "stripe \(stripe.stripe): \(problem)")
      }
      guard NumberRun.insert(stripe.stripe, into: &grant.registered) else {
        return .refused(.malformed, "stripe \(stripe.stripe) is registered already")
      }
      let ordinals = NumberRun(first: stripe.firstOrdinal, count: UInt64(stripe.chunkCount))
      if ordinals.first < nextOrdinal {
        let neighbour = try directory.stripe(id, atOrBefore: ordinals.end - 1)
        let isTaken =
          (neighbour.map { $0.endOrdinal > ordinals.first } ?? false)
          || accepted.contains { $0.first < ordinals.end && ordinals.first < $0.end }
        if isTaken {
          return .refused(.malformed, "ordinals from \(ordinals.first) are registered already")
        }
      }
      accepted.append(ordinals)
      nextOrdinal = max(nextOrdinal, ordinals.end)
    }
    for stripe in stripes {
      view.put(Key.of(.directory, id.raw, stripe.firstOrdinal), stripe)
      let entry = DirectoryStripe(stripe)
      directory.insert(entry, of: id)
      var chunkBytes: UInt64 = 0
      for (index, chunk) in entry.chunks.enumerated() {
        chunkBytes += UInt64(chunk.byteCount)
        try addHint(
          chunk.fingerprint, in: container.domain,
          FingerprintHint(
            container: id, ordinal: entry.firstOrdinal + UInt64(index), byteCount: chunk.byteCount))
      }
      let groupBytes = stripe.groups.reduce(UInt64(0)) { $0 + UInt64($1.storedByteCount) }
      let blockBytes = UInt64(stripe.layout.storedByteCount)
      container.stripeCount += 1
      container.chunkCount += UInt64(entry.chunks.count)
      container.dataByteCount += UInt64(stripe.layout.byteCount)
      container.chunkByteCount &+= chunkBytes
      container.blockByteCount += blockBytes
      container.groupByteCount += groupBytes
      try count(in: container.domain) {
        $0.chunkBytes &+= chunkBytes
        $0.groupBytes &+= groupBytes
        $0.blockBytes &+= blockBytes
      }
    }
    container.nextOrdinal = nextOrdinal
    try use(stripes.isEmpty ? [] : dataKeys, in: id)
    for run in NumberRun.normalized(accepted) {
      try addUploadEdge(upload.number, to: &container, run)
    }
    if !uploadRecord.holds && !stripes.isEmpty {
      var uploadRecord = uploadRecord
      uploadRecord.holds = true
      uploads.set(upload, uploadRecord)
    }
    containers.set(id, container)
    grants.set(grantKey, grant)
    return .done
  }

  /// What is wrong with a stripe by itself; nil when nothing is.
  private static func problem(
    _ stripe: StripeRecord, grant: OpenGrant, of container: ContainerRecord
  ) -> String? {
    guard stripe.stripe >= grant.firstStripe, stripe.stripe < grant.endStripe else {
      return "outside the grant's window"
    }
    guard stripe.layout.scheme == container.scheme else { return "not of the container's scheme" }
    let count = UInt64(stripe.chunkCount)
    guard count > 0, stripe.firstOrdinal < 1 << 62, stripe.firstOrdinal >= grant.firstOrdinal,
      stripe.firstOrdinal + count <= grant.firstOrdinal + OpenGrant.ordinalCount
    else { return "ordinals outside the grant's window" }
    var end: UInt64 = 0
    for group in stripe.groups {
      guard UInt64(group.offset) >= end else { return "overlapping groups" }
      end = UInt64(group.offset) + UInt64(group.storedByteCount)
      let plain = group.chunks.reduce(UInt64(0)) { $0 + UInt64($1.byteCount) }
      guard plain <= UInt64(StorageClass.largestGroup) else { return "a group's plain bytes" }
      guard
        GroupHeader.isFrame(
          UInt64(group.storedByteCount), of: plain, codec: group.codec,
          isSealed: container.domain.isSealed)
      else { return "group size" }
    }
    return nil
  }

  /// Keeps a hint that is alive; one to a container that is condemned or has lost shards is replaced.
  private func addHint(
    _ fingerprint: Fingerprint, in domain: ChunkDomain, _ hint: FingerprintHint
  ) throws(StoreError) {
    let key = Key.fingerprint(fingerprint, in: domain)
    if let known: FingerprintHint = try view.value(key) {
      if try isTarget(known.container) { return }
    }
    view.put(key, hint)
  }

  /// Whether chunks in this container may be shared.
  func isTarget(_ id: ContainerID) throws(StoreError) -> Bool {
    guard let container = try containers.get(id), container.state != .condemned else {
      return false
    }
    return !hasLostShards(container)
  }

  // MARK: Holding

  func holdChunks(_ upload: UploadKey, runs: [Run]) throws(StoreError) -> CommandOutcome {
    guard var uploadRecord = try uploads.get(upload) else { return .noSuchUpload(upload.number) }
    var total: UInt64 = 0
    for run in runs { total += UInt64(run.count) }
    guard total <= Self.holdLimit else {
      return .refused(.malformed, "at most \(Self.holdLimit) chunks are held at once")
    }
    var missing: [Run] = []
    for run in runs {
      guard var container = try containers.get(run.container), container.state != .condemned,
        !hasLostShards(container), try isRegistered(run)
      else {
        missing.append(run)
        continue
      }
      let edges = container.edgeCount
      try addUploadEdge(
        upload.number, to: &container,
        NumberRun(first: run.firstOrdinal, count: UInt64(run.count)))
      if container.edgeCount != edges { containers.set(container.id, container) }
      if !uploadRecord.holds {
        uploadRecord.holds = true
        uploads.set(upload, uploadRecord)
      }
    }
    return .missing(runs: missing, pages: [])
  }

  /// Whether all ordinals of the run are in the container's directory.
  func isRegistered(_ run: Run) throws(StoreError) -> Bool {
    var ordinal = run.firstOrdinal
    let end = ordinal + UInt64(run.count)
    while ordinal < end {
      guard let stripe = try directory.stripe(run.container, covering: ordinal) else {
        return false
      }
      ordinal = stripe.endOrdinal
    }
    return true
  }

  /// Adds ordinals to an upload's edges to a container. The last run is lengthened where possible, so that a
  /// writer that streams has one row for each grant.
  private func addUploadEdge(
    _ upload: UInt64, to container: inout ContainerRecord, _ run: NumberRun
  ) throws(StoreError) {
    let heldKey = Key.held(upload: upload, container: container.id)
    var row = run
    if let bytes = try view.get(heldKey) {
      let last = try OrdinalSet(stored: bytes).single()
      if last.first <= run.first && run.end <= last.end { return }
      if last.end == run.first { row = NumberRun(first: last.first, count: last.count + run.count) }
    }
    let key = Key.uploadEdge(
      container: container.id, upload: upload, firstOrdinal: row.first)
    if let bytes = try view.get(key) {
      row.count = max(row.count, try OrdinalSet(stored: bytes).single().count)
    } else {
      container.edgeCount += 1
    }
    view.put(key, OrdinalSet(runs: [row]))
    view.put(heldKey, OrdinalSet(runs: [row]))
  }
}

extension OrdinalSet {
  func single() throws(StoreError) -> NumberRun {
    guard runs.count == 1 else { throw .corrupt("an upload's edge") }
    return runs[0]
  }
}
