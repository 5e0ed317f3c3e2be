import Cluster
import Coding
import Messages
import Wire

@testable import Metadata

/// One chunk's place.
struct Ordinal: Hashable {
  var container: ContainerID
  var number: UInt64
}

/// The metadata state as plain dictionaries and sets: slow and obvious. What is alive is found by marking from
/// objects, uploads and trash; nothing is counted.
struct Model {
  struct Session {
    var lowest: UInt64 = 1
    var outcomes: [UInt64: CommandOutcome] = [:]
  }
  struct Upload {
    var session: UInt64
    var ordinals: Set<Ordinal> = []
    var pages: Set<UInt64> = []
  }
  struct Container {
    var domain: ChunkDomain
    var scheme: Scheme
    var places: [ShardPlace]
    var grant: UInt64?
    var rewrite: RewriteRecord?
    var isSealed = false
    var isCondemned = false
    /// Condemned, and its directory taken apart.
    var isEmptied = false
    var nextStripe: UInt64 = 0
    var nextOrdinal: UInt64 = 0
    var chunks: [UInt64: StripeRecord.Chunk] = [:]
    var stripes: Set<UInt64> = []
    /// By first ordinal.
    var groups: [UInt64: (stripe: UInt64, group: StripeRecord.Group)] = [:]
    var layouts: [UInt64: StripeLayout] = [:]
    var dataBytes: Int { layouts.values.reduce(0) { $0 + $1.byteCount } }
    var groupBytes = 0
    var devices: [DeviceID] { places.devices }
  }
  struct OpenGrant {
    var session: UInt64
    var container: ContainerID
    var firstStripe: UInt64
    var firstOrdinal: UInt64
  }
  struct ModelPage {
    var page: Page
    var byteCount: UInt64
    var level: Int
    var signature: String
    var domain: ChunkDomain
  }
  struct Bucket {
    var identity: UInt64
    var domain: ChunkDomain
    var access = BucketAccess()
    var versioning = BucketVersioning.off
    var lock: BucketLock?
    /// Every version of a key that there is, the newest last.
    var stacks: [[UInt8]: [Version]] = [:]
    /// What is current: the newest version, when it is no marker.
    var objects: [[UInt8]: ObjectRecord] { stacks.compactMapValues { $0.last?.record } }
    var isEmpty: Bool { stacks.values.allSatisfy(\.isEmpty) }
    var multiparts: [UInt64: Multipart] = [:]
    var settings: [SettingKind: [UInt8]] = [:]
  }
  enum Version: Hashable {
    case object(ObjectRecord)
    case marker(identity: UInt64, isNull: Bool)
    var record: ObjectRecord? { if case .object(let record) = self { record } else { nil } }
    var identity: UInt64 {
      switch self {
      case .object(let record): record.identity
      case .marker(let identity, _): identity
      }
    }
    var isNull: Bool {
      switch self {
      case .object(let record): record.isNull
      case .marker(_, let isNull): isNull
      }
    }
  }
  struct Multipart {
    var key: [UInt8]
    var description: MultipartDescription
    var parts: [UInt32: ListParts.Part] = [:]
  }
  enum Trash {
    case object(ObjectContent)
    case upload(Upload)
    case part(ListParts.Part)
  }

  var isFounded = false
  var sessions: [UInt64: Session] = [:]
  var uploads: [UInt64: Upload] = [:]
  var containers: [ContainerID: Container] = [:]
  var grants: [UInt64: OpenGrant] = [:]
  var pages: [UInt64: ModelPage] = [:]
  var pageNames: [String: UInt64] = [:]
  struct Hint: Hashable {
    var fingerprint: Fingerprint
    var domain: ChunkDomain
  }
  var hints: [Hint: Ordinal] = [:]
  var classes: [ClassID: StorageClass] = [:]
  var buckets: [[UInt8]: Bucket] = [:]
  var users: [String: User] = [:]
  var accessKeys: [String: AccessKey] = [:]
  var keyDomains: [KeyDomainID: KeyDomain] = [:]
  var dataKeys: [UInt64: DataKey] = [:]
  var trash: [Trash] = []
  var nodes: [NodeID: NodeRecord] = [:]
  var mapEpoch: UInt64 = 0
  var position: UInt64 = 0
  /// Stand for the names of pages that objects were completed with.
  var completedHashes: Set<Fingerprint> = []

  // MARK: Liveness

  struct Marks {
    var ordinals: Set<Ordinal> = []
    var containers: Set<ContainerID> = []
    var pages: Set<UInt64> = []
  }

  func marks() -> Marks {
    var marks = Marks()
    for bucket in buckets.values {
      for version in bucket.stacks.values.joined() {
        if let record = version.record { mark(record.content, &marks) }
      }
      for multipart in bucket.multiparts.values {
        for part in multipart.parts.values { mark(page: part.part.page, &marks) }
      }
    }
    for upload in uploads.values { mark(upload, &marks) }
    for entry in trash {
      switch entry {
      case .object(let content): mark(content, &marks)
      case .upload(let upload): mark(upload, &marks)
      case .part(let part): mark(page: part.part.page, &marks)
      }
    }
    return marks
  }
  func mark(_ upload: Upload, _ marks: inout Marks) {
    marks.ordinals.formUnion(upload.ordinals)
    marks.containers.formUnion(upload.ordinals.map(\.container))
    for page in upload.pages { mark(page: page, &marks) }
  }
  func mark(_ content: ObjectContent, _ marks: inout Marks) {
    switch content {
    case .inline: break
    case .embedded(let runs): mark(runs, &marks)
    case .root(let page): mark(page: page, &marks)
    }
  }
  func mark(_ runs: [Run], _ marks: inout Marks) {
    for run in runs {
      marks.containers.insert(run.container)
      for number in run.firstOrdinal..<run.firstOrdinal + UInt64(run.count) {
        marks.ordinals.insert(Ordinal(container: run.container, number: number))
      }
    }
  }
  func mark(page: UInt64, _ marks: inout Marks) {
    guard marks.pages.insert(page).inserted, let known = pages[page] else { return }
    switch known.page {
    case .runs(let runs): mark(runs, &marks)
    case .children(let children): for child in children { mark(page: child.page, &marks) }
    }
  }

  mutating func condemnUnmarked(_ ids: [ContainerID]) {
    let marked = marks().containers
    for id in ids where !marked.contains(id) {
      guard let container = containers[id], container.grant == nil, !container.isCondemned else {
        continue
      }
      containers[id]?.isCondemned = true
      containers[id]?.rewrite = nil
      hints = hints.filter { $0.value.container != id }
    }
  }

  mutating func emptyTrash() {
    trash = []
    let alive = marks().pages
    for (id, page) in pages where !alive.contains(id) {
      if pageNames[page.signature] == id { pageNames[page.signature] = nil }
      pages[id] = nil
    }
    condemnUnmarked(Array(containers.keys))
    for id in containers.keys where containers[id]!.isCondemned { containers[id]!.isEmptied = true }
  }

  func deviceState(_ device: DeviceID) -> DeviceState? {
    for node in nodes.values {
      if let record = node.devices.first(where: { $0.id == device }) { return record.state }
    }
    return nil
  }
  func isLost(_ device: DeviceID) -> Bool {
    let state = deviceState(device)
    return state == nil || state == .retired
  }
  func isTarget(_ id: ContainerID) -> Bool {
    guard let container = containers[id], !container.isCondemned else { return false }
    return !container.devices.contains(where: isLost)
  }

  // MARK: Commands

  mutating func apply(_ command: Command) -> CommandOutcome {
    position += 1
    defer { sweepKeys() }
    if case .found = command {
      if isFounded { return refused(.failed) }
      isFounded = true
      for (index, policy) in StorageClass.builtIn.enumerated() {
        classes[ClassID(UInt16(index + 1))] = policy
      }
      return .done
    }
    guard isFounded else { return refused(.unavailable) }
    switch command {
    case .found: return .done
    case .client(let id, let sequence, let lowest, let command):
      guard sessions[id] != nil else { return refused(.noSuchSession) }
      sessions[id]!.lowest = max(sessions[id]!.lowest, lowest)
      let floor = sessions[id]!.lowest
      sessions[id]!.outcomes = sessions[id]!.outcomes.filter { $0.key >= floor }
      if sequence < floor { return refused(.outcomeUnknown) }
      if sequence >= floor + 1024 { return refused(.malformed) }
      if let known = sessions[id]!.outcomes[sequence] { return known }
      let outcome = perform(command, session: id)
      sessions[id]!.outcomes[sequence] = outcome
      return outcome
    case .openSession(let client):
      if client.utf8.count > 256 { return refused(.invalidName) }
      sessions[position] = Session()
      return .number(position)
    case .closeSession(let id):
      guard sessions[id] != nil else { return refused(.noSuchSession) }
      endSession(id)
      return .done
    case .expireSessions(let ids):
      for id in ids where sessions[id] != nil { endSession(id) }
      return .done
    case .setNode(var node):
      for index in node.devices.indices where node.devices[index].state != .retired {
        node.devices[index].state =
          deviceState(node.devices[index].id) ?? node.devices[index].state
      }
      if nodes[node.id]?.encoded == node.encoded { return .done }
      for other in nodes.keys where other != node.id {
        nodes[other]!.devices.removeAll { device in
          node.devices.contains { $0.id == device.id }
        }
      }
      nodes[node.id] = node
      adoptMap()
      return .done
    case .setDeviceState(let device, let state):
      guard let known = deviceState(device) else { return refused(.noSuchDevice) }
      if known == state { return .done }
      for id in nodes.keys {
        for index in nodes[id]!.devices.indices where nodes[id]!.devices[index].id == device {
          nodes[id]!.devices[index].state = state
        }
      }
      adoptMap()
      return .done
    case .returnEdges:
      emptyTrash()
      return .number(0)
    case .dropContainers(let ids):
      condemnUnmarked(ids)
      return .done
    case .forgetContainers(let ids):
      for id in ids where containers[id]?.isEmptied == true { containers[id] = nil }
      return .done
    case .clearEndedGrants, .advanceTime, .clearDoomedShards, .setScheme: return .done
    case .expireMultiparts(let rows):
      for row in rows {
        for (name, bucket) in buckets
        where bucket.identity == row.bucket
          && bucket.multiparts[row.number]?.key == Array(row.key.utf8)
        {
          endMultipart(name, row.number)
        }
      }
      return .done
    case .expireVersions(let rows):
      for row in rows { expire(row) }
      return .done
    case .setBucketClass(let bucket, let name):
      let key = Array(bucket.utf8)
      guard let known = buckets[key] else { return refused(.noSuchBucket) }
      guard let id = classID(named: name) else { return refused(.noSuchClass) }
      return move(bucket, to: ChunkDomain(id, in: known.domain.keyDomain))
    case .changeKeys(let change): return self.change(keys: change)
    case .defineClass(let policy):
      if policy.brokenRule != nil { return refused(.malformed) }
      let id =
        classes.first { $0.value.name == policy.name }?.key
        ?? ClassID(max(16, classes.keys.max()!.raw + 1))
      classes[id] = policy
      return .number(UInt64(id.raw))
    case .beginRewrite(let id, let moves): return beginRewrite(id, moves)
    case .commitRewrite(let id, let lease):
      guard let rewrite = containers[id]?.rewrite, rewrite.id == lease else {
        return refused(.grantEnded)
      }
      if rewrite.targets.contains(where: { isLost($0.device) }) { return refused(.unavailable) }
      containers[id]!.rewrite = nil
      switch rewrite.work {
      case .moves(let moves):
        for move in moves {
          containers[id]!.places[Int(move.shardIndex)] = ShardPlace(
            device: move.to, generation: lease)
        }
      case .repack(let scheme, let devices):
        containers[id]!.scheme = scheme
        containers[id]!.places = devices.map { ShardPlace(device: $0, generation: lease) }
        repack(&containers[id]!)
        containers[id]!.isSealed =
          isFull(containers[id]!) || devices.contains { deviceState($0) != .healthy }
      }
      return .done
    case .beginRepack(let id, let scheme, let devices, let isThinned):
      return beginRepack(id, scheme, devices, isThinned)
    case .endRewrite(let id, let lease):
      if containers[id]?.rewrite?.id == lease { containers[id]?.rewrite = nil }
      return .done
    }
  }

  mutating func beginRewrite(_ id: ContainerID, _ moves: [ShardMove]) -> CommandOutcome {
    guard let container = containers[id], container.rewrite == nil else { return refused(.failed) }
    guard !moves.isEmpty, moves.allSatisfy({ Int($0.shardIndex) < container.places.count }),
      moves.map(\.shardIndex) == Set(moves.map(\.shardIndex)).sorted()
    else { return refused(.malformed) }
    for move in moves {
      if container.devices[Int(move.shardIndex)] != move.from { return refused(.failed) }
    }
    let targets = moves.map(\.to)
    if targets.contains(where: container.devices.contains) { return refused(.malformed) }
    if targets.contains(where: { deviceState($0) != .healthy }) { return refused(.unavailable) }
    guard Set(targets).count == targets.count else { return refused(.malformed) }
    guard container.grant == nil, !container.isCondemned else { return refused(.failed) }
    containers[id]!.isSealed = true
    containers[id]!.rewrite = RewriteRecord(
      id: position, container: id, work: .moves(moves))
    return .number(position)
  }

  mutating func beginRepack(
    _ id: ContainerID, _ scheme: Scheme, _ devices: [DeviceID], _ isThinned: Bool
  ) -> CommandOutcome {
    guard let container = containers[id], container.rewrite == nil else { return refused(.failed) }
    guard devices.count == scheme.width else { return refused(.malformed) }
    func ordinals(_ first: UInt64, _ group: StripeRecord.Group) -> [Ordinal] {
      (0..<UInt64(group.chunks.count)).map { Ordinal(container: id, number: first + $0) }
    }
    let alive = isThinned ? marks().ordinals : []
    let dead =
      isThinned
      ? container.groups.filter { !ordinals($0, $1.group).contains(where: alive.contains) } : [:]
    let living = container.groups.filter { dead[$0.key] == nil }
    let capacity = StripeLayout.capacity(of: scheme)
    guard !container.isEmptied, !living.isEmpty,
      living.values.allSatisfy({ $0.group.storedByteCount <= capacity })
    else {
      return refused(.failed)
    }
    guard devices.allSatisfy({ deviceState($0) == .healthy }) else { return refused(.unavailable) }
    guard Set(devices).count == devices.count else { return refused(.malformed) }
    guard container.grant == nil, !container.isCondemned else { return refused(.failed) }
    containers[id]!.isSealed = true
    containers[id]!.rewrite = RewriteRecord(
      id: position, container: id, work: .repack(scheme, devices: devices))
    guard isThinned else { return .number(position) }
    for (first, known) in dead {
      let ordinals = ordinals(first, known.group)
      containers[id]!.groups[first] = nil
      containers[id]!.groupBytes -= Int(known.group.storedByteCount)
      for ordinal in ordinals { containers[id]!.chunks[ordinal.number] = nil }
      hints = hints.filter { !ordinals.contains($0.value) }
    }
    containers[id]!.stripes = Set(containers[id]!.groups.values.map(\.stripe))
    containers[id]!.layouts = containers[id]!.layouts.filter {
      containers[id]!.stripes.contains($0.key)
    }
    return .number(position)
  }

  /// Groups one after the other, a new stripe whenever the next does not fit.
  func repack(_ container: inout Container) {
    var sizes: [Int] = []
    for first in container.groups.keys.sorted() {
      let size = Int(container.groups[first]!.group.storedByteCount)
      if sizes.isEmpty || sizes.last! + size > StripeLayout.capacity(of: container.scheme) {
        sizes.append(0)
      }
      container.groups[first]!.stripe = UInt64(sizes.count - 1)
      container.groups[first]!.group.offset = UInt32(sizes.last!)
      sizes[sizes.count - 1] += size
    }
    container.stripes = Set(sizes.indices.map(UInt64.init))
    container.nextStripe = UInt64(sizes.count)
    container.layouts = [:]
    for (stripe, size) in sizes.enumerated() {
      container.layouts[UInt64(stripe)] = .smallest(for: size, scheme: container.scheme)
    }
  }

  func isFull(_ container: Container) -> Bool {
    container.dataBytes + StripeLayout.capacity(of: container.scheme) > 1 << 30
      || container.stripes.count >= 1 << 13
  }

  mutating func adoptMap() {
    mapEpoch = position
    for (id, container) in containers where container.grant == nil && !container.isCondemned {
      if container.devices.contains(where: { deviceState($0) != nil && deviceState($0) != .healthy }
      ) {
        containers[id]!.isSealed = true
      }
    }
  }

  func classID(named name: String) -> ClassID? {
    name.isEmpty ? StorageClass.standard : classes.first { $0.value.name == name }?.key
  }

  func refused(_ code: RefusalCode) -> CommandOutcome {
    .refused(code: code.rawValue, reason: "")
  }

  mutating func endSession(_ id: UInt64) {
    for (grant, record) in grants.sorted(by: { $0.key < $1.key }) where record.session == id {
      endGrant(grant)
    }
    for (upload, record) in uploads where record.session == id { endUpload(upload) }
    sessions[id] = nil
  }
  mutating func endUpload(_ id: UInt64) {
    trash.append(.upload(uploads.removeValue(forKey: id)!))
  }
  mutating func endGrant(_ id: UInt64) {
    let grant = grants.removeValue(forKey: id)!
    var container = containers[grant.container]!
    container.grant = nil
    if isFull(container) || container.devices.contains(where: { deviceState($0) != .healthy }) {
      container.isSealed = true
    }
    containers[grant.container] = container
    condemnUnmarked([grant.container])
  }
}
