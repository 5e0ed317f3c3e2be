package import Cluster
internal import Coding
package import Messages
internal import Wire

/// The metadata of a cluster: commands in log order change it, queries read it.
///
/// Deterministic: the same commands from the same state give the same outcomes and the same bytes in the store,
/// whatever the store. No clock, no randomness, no hash order.
///
/// - `StateMachine.swift`: batches, commands that concern the cluster
/// - `+Sessions`: exactly-once commands, uploads
/// - `+Containers`: grants, registered stripes, held chunks
/// - `+Rewrites`: shards and containers written anew, `Repacking`: what these then hold
/// - `+Classes`: storage classes and what is counted by them
/// - `+Keys`: key domains, data keys and who uses them
/// - `+Pages`, `+Objects`: manifests, buckets and keys
/// - `+Multipart`: objects that come in parts
/// - `+Versions`: what stays when a key gets another version
/// - `+Locks`, `+Expiry`: versions that must stay, and those that go by themselves
/// - `+BucketSettings`: documents that buckets have
/// - `+Access`: users, access keys, what buckets grant
/// - `+Trash`: edges returned, pages and containers without any taken apart
/// - `+Queries`: what the coordinator answers and what its leader needs to know
/// - `Keys`, `Records`: the store's schema (docs/formats-metadata.md)
// Confined to the offload lane that uses its store.
package final class StateMachine: @unchecked Sendable {
  let view: StoreView
  var state = MachineState()
  /// The cluster map. Its epoch is the position of the command that changed it last.
  package private(set) var map = ClusterMap()
  /// Devices whose shards are not lost.
  private var listedDevices: [DeviceID: DeviceState] = [:]

  let classes: RecordCache<ClassID, ClassRecord>
  let keyDomains: RecordCache<KeyDomainID, KeyDomainRecord>
  let buckets: RecordCache<[UInt8], BucketRecord>
  let sessions: RecordCache<UInt64, SessionRecord>
  let uploads: RecordCache<UploadKey, UploadRecord>
  let grants: RecordCache<UploadKey, OpenGrant>
  let containers: RecordCache<ContainerID, ContainerRecord>
  let pages: RecordCache<UInt64, PageInfo>
  let directory: DirectoryCache

  /// Of the command in hand.
  var position: UInt64 = 0
  /// Of the batch in hand: the leader's wall clock, milliseconds since 1970.
  var wallMilliseconds: UInt64 = 0
  /// Trash entries the command in hand has made.
  var trashIndex: UInt32 = 0

  /// - Throws: ``StoreError/corrupt(_:)`` when the store holds no state of this version.
  package init(store: any OrderedStore) throws(StoreError) {
    view = StoreView(store)
    classes = RecordCache(view) { Key.storageClass($0) }
    keyDomains = RecordCache(view) { Key.keyDomain($0) }
    buckets = RecordCache(view) { [Key.Family.bucket.rawValue] + $0 }
    sessions = RecordCache(view) { Key.of(.session, $0) }
    uploads = RecordCache(view) { Key.of(.upload, $0.session, $0.number) }
    grants = RecordCache(view) { Key.of(.grant, $0.session, $0.number) }
    containers = RecordCache(view) { Key.of(.container, $0.raw) }
    pages = RecordCache(view) { Key.of(.pageInfo, $0) }
    directory = DirectoryCache(view)
    if let stored: MachineState = try view.value(Key.state) {
      state = stored
    } else if let stray = try store.scan(KeyRange(), limit: 1).first {
      throw .corrupt("no state record, but key \(stray.key)")
    }
    var nodes: [NodeRecord] = []
    for entry in try view.scan(KeyRange(prefix: Key.family(.node))) {
      nodes.append(try NodeRecord(stored: entry.value))
    }
    setMap(ClusterMap(epoch: state.mapEpoch, nodes: nodes))
  }

  /// The log position of the last command applied; 0 at first.
  package var appliedPosition: UInt64 { state.appliedPosition }

  /// Applies a batch that is acknowledged, in one write to the store.
  ///
  /// - Returns: an outcome for each command; nothing for a batch that was applied before.
  /// - Throws: ``StoreError/gap(expected:found:)`` when the batch does not follow; errors of the store. The state
  ///   is then as before, and after `corrupt` the store is to be discarded.
  package func apply(_ batch: LogBatch) throws(StoreError) -> [CommandOutcome] {
    guard !batch.commands.isEmpty, batch.lastPosition > state.appliedPosition else { return [] }
    guard batch.firstPosition == state.appliedPosition + 1 else {
      throw .gap(expected: state.appliedPosition + 1, found: batch.firstPosition)
    }
    let stateBefore = state
    let mapBefore = map
    do {
      wallMilliseconds = batch.wallMilliseconds
      var outcomes: [CommandOutcome] = []
      outcomes.reserveCapacity(batch.commands.count)
      for command in batch.commands {
        position = state.appliedPosition + 1
        trashIndex = 0
        outcomes.append(try execute(command))
        state.appliedPosition = position
      }
      writeBack()
      view.put(Key.state, state)
      try view.commit()
      return outcomes
    } catch {
      view.discard()
      classes.discard()
      keyDomains.discard()
      buckets.discard()
      sessions.discard()
      uploads.discard()
      grants.discard()
      containers.discard()
      pages.discard()
      directory.discard()
      state = stateBefore
      setMap(mapBefore)
      throw error
    }
  }

  /// Makes changed records visible to scans.
  private func writeBack() {
    classes.writeBack()
    keyDomains.writeBack()
    buckets.writeBack()
    sessions.writeBack()
    uploads.writeBack()
    grants.writeBack()
    containers.writeBack()
    pages.writeBack()
  }

  private func execute(_ command: Command) throws(StoreError) -> CommandOutcome {
    if case .found(let clusterID, let scheme, let created) = command {
      guard state.clusterID == 0 else { return .refused(.failed, "the cluster is founded already") }
      guard clusterID != 0 else { return .refused(.malformed, "cluster id 0") }
      state.clusterID = clusterID
      state.scheme = scheme
      state.created = created
      addBuiltInClasses()
      return .done
    }
    guard state.clusterID != 0 else { return .refused(.unavailable, "the cluster is not founded") }
    switch command {
    case .found: return .done
    case .client(let session, let sequence, let lowestUnanswered, let command):
      return try executeOnce(
        command, session: session, sequence: sequence, lowestUnanswered: lowestUnanswered)
    case .openSession(let client): return try openSession(client)
    case .closeSession(let session):
      guard try sessions.get(session) != nil else { return .noSuchSession(session) }
      try endSession(session)
      return .done
    case .expireSessions(let expired):
      for session in expired where try sessions.get(session) != nil { try endSession(session) }
      return .done
    case .setNode(let node): return try setNode(node)
    case .setDeviceState(let device, let deviceState):
      return try setDeviceState(device, deviceState)
    case .returnEdges(let limit): return try returnEdges(limit: limit)
    case .dropContainers(let dropped):
      for id in dropped {
        guard var container = try containers.get(id) else { continue }
        try condemnIfUnused(&container)
        containers.set(id, container)
      }
      return .done
    case .forgetContainers(let forgotten):
      for id in forgotten { try forget(id) }
      return .done
    case .clearEndedGrants(let ended):
      for grant in ended { view.delete(Key.of(.endedGrant, grant)) }
      return .done
    case .advanceTime(let milliseconds):
      let (time, overflow) = state.time.addingReportingOverflow(milliseconds)
      state.time = overflow ? .max : time
      return .done
    case .beginRewrite(let container, let moves): return try beginRewrite(container, moves)
    case .beginRepack(let container, let scheme, let devices, let isThinned):
      return try beginRepack(container, scheme, on: devices, isThinned: isThinned)
    case .commitRewrite(let container, let lease):
      return try commitRewrite(container, lease: lease)
    case .endRewrite(let container, let lease):
      try endRewrite(container, lease: lease)
      return .done
    case .setScheme(let scheme):
      state.scheme = scheme
      return .done
    case .setBucketClass(let bucket, let storageClass):
      return try setClass(ofBucket: bucket, storageClass)
    case .defineClass(let storageClass): return try defineClass(storageClass)
    case .changeKeys(let change): return try changeKeys(change)
    case .clearDoomedShards(let shards):
      clearDoomed(shards)
      return .done
    case .expireMultiparts(let rows):
      for row in rows { try endMultipart(row) }
      return .done
    case .expireVersions(let versions):
      for version in versions { try expire(version) }
      return .done
    }
  }

  // MARK: The map

  private func setMap(_ map: ClusterMap) {
    self.map = map
    listedDevices = [:]
    for node in map.nodes {
      for device in node.devices { listedDevices[device.id] = device.state }
    }
  }

  /// Whether a shard on this device is gone for good, or its device is not listed.
  func isLost(_ device: DeviceID) -> Bool {
    guard let state = listedDevices[device] else { return true }
    return state == .retired
  }
  func isListed(_ device: DeviceID) -> Bool { listedDevices[device] != nil }
  func hasLostShards(_ container: ContainerRecord) -> Bool {
    container.places.contains { isLost($0.device) }
  }
  /// Whether new bytes may go to it.
  func isHealthy(_ device: DeviceID) -> Bool { listedDevices[device] == .healthy }

  private func setNode(_ given: NodeRecord) throws(StoreError) -> CommandOutcome {
    var seen: Set<DeviceID> = []
    for device in given.devices where !seen.insert(device.id).inserted {
      return .refused(.malformed, "device \(device.id) is listed twice")
    }
    var node = given
    for index in node.devices.indices where node.devices[index].state != .retired {
      node.devices[index].state = listedDevices[node.devices[index].id] ?? node.devices[index].state
    }
    var changed = map
    for index in changed.nodes.indices where changed.nodes[index].id != node.id {
      let before = changed.nodes[index].devices.count
      changed.nodes[index].devices.removeAll { seen.contains($0.id) }
      if changed.nodes[index].devices.count != before {
        let other = changed.nodes[index]
        view.put(Key.of(.node, other.id.raw), other)
      }
    }
    if let index = changed.nodes.firstIndex(where: { $0.id == node.id }) {
      if changed.nodes[index].encoded == node.encoded { return .done }
      changed.nodes[index] = node
    } else {
      changed.nodes.append(node)
      changed.nodes.sort { $0.id < $1.id }
    }
    view.put(Key.of(.node, node.id.raw), node)
    try adopt(changed)
    return .done
  }

  private func setDeviceState(_ device: DeviceID, _ deviceState: DeviceState) throws(StoreError)
    -> CommandOutcome
  {
    var changed = map
    for nodeIndex in changed.nodes.indices {
      guard
        let index = changed.nodes[nodeIndex].devices.firstIndex(where: { $0.id == device })
      else { continue }
      guard changed.nodes[nodeIndex].devices[index].state != deviceState else { return .done }
      changed.nodes[nodeIndex].devices[index].state = deviceState
      view.put(Key.of(.node, changed.nodes[nodeIndex].id.raw), changed.nodes[nodeIndex])
      try adopt(changed)
      return .done
    }
    return .refused(.noSuchDevice, "\(device)")
  }

  private func adopt(_ changed: ClusterMap) throws(StoreError) {
    var changed = changed
    changed.epoch = position
    state.mapEpoch = position
    setMap(changed)
    try sealOnUnhealthyDevices()
  }
}

extension CommandOutcome {
  static func refused(_ code: RefusalCode, _ reason: String) -> CommandOutcome {
    .refused(code: code.rawValue, reason: reason)
  }
  static func noSuchSession(_ session: UInt64) -> CommandOutcome {
    .refused(.noSuchSession, "session \(session)")
  }
  static func noSuchUpload(_ upload: UInt64) -> CommandOutcome {
    .refused(.noSuchUpload, "upload \(upload)")
  }
}
