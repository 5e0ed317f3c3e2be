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
    var objects: [[UInt8]: ObjectRecord] = [:]
    var multiparts: [UInt64: Multipart] = [:]
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
      for record in bucket.objects.values { mark(record.content, &marks) }
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
  private func mark(_ upload: Upload, _ marks: inout Marks) {
    marks.ordinals.formUnion(upload.ordinals)
    marks.containers.formUnion(upload.ordinals.map(\.container))
    for page in upload.pages { mark(page: page, &marks) }
  }
  private func mark(_ content: ObjectContent, _ marks: inout Marks) {
    switch content {
    case .inline: break
    case .embedded(let runs): mark(runs, &marks)
    case .root(let page): mark(page: page, &marks)
    }
  }
  private func mark(_ runs: [Run], _ marks: inout Marks) {
    for run in runs {
      marks.containers.insert(run.container)
      for number in run.firstOrdinal..<run.firstOrdinal + UInt64(run.count) {
        marks.ordinals.insert(Ordinal(container: run.container, number: number))
      }
    }
  }
  private func mark(page: UInt64, _ marks: inout Marks) {
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
      for id in ids where containers[id]?.isCondemned == true { containers[id] = nil }
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
    case .setBucketClass(let bucket, let name):
      let key = Array(bucket.utf8)
      guard let known = buckets[key] else { return refused(.noSuchBucket) }
      guard let domain = domain(named: name) else { return refused(.noSuchClass) }
      if known.domain != domain {
        guard known.objects.isEmpty, known.multiparts.isEmpty else {
          return refused(.bucketNotEmpty)
        }
        buckets[key]!.domain = domain
      }
      return .done
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

  private mutating func beginRewrite(_ id: ContainerID, _ moves: [ShardMove]) -> CommandOutcome {
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

  private mutating func beginRepack(
    _ id: ContainerID, _ scheme: Scheme, _ devices: [DeviceID], _ isThinned: Bool
  ) -> CommandOutcome {
    guard let container = containers[id], container.rewrite == nil else { return refused(.failed) }
    guard devices.count == scheme.width else { return refused(.malformed) }
    guard !container.groups.isEmpty else { return refused(.failed) }
    guard devices.allSatisfy({ deviceState($0) == .healthy }) else { return refused(.unavailable) }
    guard Set(devices).count == devices.count else { return refused(.malformed) }
    guard container.grant == nil, !container.isCondemned else { return refused(.failed) }
    containers[id]!.isSealed = true
    containers[id]!.rewrite = RewriteRecord(
      id: position, container: id, work: .repack(scheme, devices: devices))
    guard isThinned else { return .number(position) }
    let alive = marks().ordinals
    for (first, known) in container.groups {
      let ordinals = (0..<UInt64(known.group.chunks.count)).map {
        Ordinal(container: id, number: first + $0)
      }
      if ordinals.contains(where: alive.contains) { continue }
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
  private func repack(_ container: inout Container) {
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

  private func isFull(_ container: Container) -> Bool {
    container.dataBytes + StripeLayout.capacity(of: container.scheme) > 1 << 30
      || container.stripes.count >= 1 << 13
  }

  private mutating func adoptMap() {
    mapEpoch = position
    for (id, container) in containers where container.grant == nil && !container.isCondemned {
      if container.devices.contains(where: { deviceState($0) != nil && deviceState($0) != .healthy }
      ) {
        containers[id]!.isSealed = true
      }
    }
  }

  private func domain(named name: String) -> ChunkDomain? {
    name.isEmpty
      ? .standard : classes.first { $0.value.name == name }.map { ChunkDomain($0.key) }
  }

  private func refused(_ code: RefusalCode) -> CommandOutcome {
    .refused(code: code.rawValue, reason: "")
  }

  private mutating func endSession(_ id: UInt64) {
    for (grant, record) in grants.sorted(by: { $0.key < $1.key }) where record.session == id {
      endGrant(grant)
    }
    for (upload, record) in uploads where record.session == id { endUpload(upload) }
    sessions[id] = nil
  }
  private mutating func endUpload(_ id: UInt64) {
    trash.append(.upload(uploads.removeValue(forKey: id)!))
  }
  private mutating func endGrant(_ id: UInt64) {
    let grant = grants.removeValue(forKey: id)!
    var container = containers[grant.container]!
    container.grant = nil
    if isFull(container) || container.devices.contains(where: { deviceState($0) != .healthy }) {
      container.isSealed = true
    }
    containers[grant.container] = container
    condemnUnmarked([grant.container])
  }

  private mutating func perform(_ command: ClientCommand, session: UInt64) -> CommandOutcome {
    func has(_ upload: UInt64) -> Bool { uploads[upload]?.session == session }
    switch command {
    case .createBucket(let name, let storageClass):
      guard StateMachine.isBucketName(name) else { return refused(.invalidName) }
      guard buckets[Array(name.utf8)] == nil else { return refused(.bucketExists) }
      guard let domain = domain(named: storageClass) else { return refused(.noSuchClass) }
      buckets[Array(name.utf8)] = Bucket(identity: position, domain: domain)
      return .done
    case .removeBucket(let name):
      guard let bucket = buckets[Array(name.utf8)] else { return refused(.noSuchBucket) }
      guard bucket.objects.isEmpty else { return refused(.bucketNotEmpty) }
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
      guard classes[domain.storageClass] != nil, domain.raw >> 16 == 0 else {
        return refused(.noSuchClass)
      }
      return requestGrant(session, placement, domain)
    case .releaseGrant(let grant, let container):
      guard let known = grants[grant], known.session == session, known.container == container
      else { return refused(.grantEnded) }
      endGrant(grant)
      return .done
    case .registerStripes(let upload, let grant, let container, let stripes):
      guard has(upload) else { return refused(.noSuchUpload) }
      guard let known = grants[grant], known.session == session, known.container == container
      else { return refused(.grantEnded) }
      return register(stripes, upload, known)
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
      let current = bucket.objects[Array(name.key.utf8)]
      if fails(precondition, current) { return refused(.preconditionFailed) }
      if unlessIdentical, let current, current.contentHash == contentHash,
        current.byteCount == byteCount, current.attributes == attributes
      {
        return .number(current.identity)
      }
      switch content {
      case .inline(let bytes):
        if UInt64(bytes.count) != byteCount { return refused(.malformed) }
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
      store(
        ObjectRecord(
          identity: position, byteCount: byteCount, contentHash: contentHash,
          attributes: attributes, modified: modified, content: content), at: name)
      return .number(position)
    case .deleteObject(let name, let precondition):
      guard let bucket = buckets[Array(name.bucket.utf8)] else { return refused(.noSuchBucket) }
      guard let current = bucket.objects[Array(name.key.utf8)] else { return refused(.noSuchKey) }
      if fails(precondition, current) { return refused(.preconditionFailed) }
      remove(name)
      return .done
    case .createMultipart(let name, let attributes, let owner, let modified):
      guard buckets[Array(name.bucket.utf8)] != nil else { return refused(.noSuchBucket) }
      guard (1...1024).contains(name.key.utf8.count) else { return refused(.invalidName) }
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
      store(
        ObjectRecord(
          identity: position, byteCount: size, contentHash: hash, attributes: attributes,
          modified: modified, content: content), at: multipart.name)
      endMultipart(Array(multipart.name.bucket.utf8), multipart.number)
      return .number(position)
    case .abortMultipart(let multipart):
      guard buckets[Array(multipart.name.bucket.utf8)] != nil else {
        return refused(.noSuchBucket)
      }
      guard self.multipart(multipart) != nil else { return refused(.noSuchMultipart) }
      endMultipart(Array(multipart.name.bucket.utf8), multipart.number)
      return .done
    case .copyObject(
      let source, let sourceIdentity, let target, let attributes, let move, let precondition,
      let modified):
      guard let from = buckets[Array(source.bucket.utf8)] else { return refused(.noSuchBucket) }
      guard let to = buckets[Array(target.bucket.utf8)] else { return refused(.noSuchBucket) }
      guard var record = from.objects[Array(source.key.utf8)] else { return refused(.noSuchKey) }
      if sourceIdentity != 0, sourceIdentity != record.identity { return refused(.sourceChanged) }
      guard (1...1024).contains(target.key.utf8.count) else { return refused(.invalidName) }
      if fails(precondition, to.objects[Array(target.key.utf8)]) {
        return refused(.preconditionFailed)
      }
      if case .inline = record.content {
      } else if from.domain != to.domain {
        return refused(.otherClass)
      }
      record.identity = position
      record.modified = modified
      if let attributes { record.attributes = attributes }
      store(record, at: target)
      if move && source.encoded != target.encoded { remove(source) }
      return .number(position)
    }
  }

  private func multipart(_ multipart: MultipartName) -> Multipart? {
    let known = buckets[Array(multipart.name.bucket.utf8)]?.multiparts[multipart.number]
    return known?.key == Array(multipart.name.key.utf8) ? known : nil
  }
  private mutating func endMultipart(_ bucket: [UInt8], _ number: UInt64) {
    let multipart = buckets[bucket]!.multiparts.removeValue(forKey: number)!
    for number in multipart.parts.keys.sorted() { trash.append(.part(multipart.parts[number]!)) }
  }

  private func fails(_ precondition: Precondition, _ current: ObjectRecord?) -> Bool {
    switch precondition {
    case .none: false
    case .absent: current != nil
    case .identity(let identity): current?.identity != identity
    }
  }
  private mutating func store(_ record: ObjectRecord, at name: ObjectName) {
    remove(name)
    buckets[Array(name.bucket.utf8)]!.objects[Array(name.key.utf8)] = record
  }
  private mutating func remove(_ name: ObjectName) {
    let key = Array(name.key.utf8)
    if let old = buckets[Array(name.bucket.utf8)]!.objects.removeValue(forKey: key) {
      trash.append(.object(old.content))
    }
  }

  private mutating func requestGrant(
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

  private mutating func register(
    _ stripes: [StripeRecord], _ upload: UInt64, _ grant: OpenGrant
  ) -> CommandOutcome {
    var container = containers[grant.container]!
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
          ? plain + 48 == group.storedByteCount
          : group.storedByteCount > 48 && group.storedByteCount < plain + 48
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

  private struct Failure: Error { var outcome: CommandOutcome }

  private func check(_ runs: [Run]) -> Result<
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

  private mutating func putPage(_ upload: UInt64, _ page: Page) -> CommandOutcome {
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
