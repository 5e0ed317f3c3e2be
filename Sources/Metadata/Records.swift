package import Cluster
package import Coding
package import Messages
package import Wire

/// A value of the store. Its form begins with a version byte of its family; bytes that are no valid form mean
/// that the store is damaged.
protocol StoredValue: WireValue {}

extension StoredValue {
  init(stored bytes: [UInt8]) throws(StoreError) {
    do {
      try self.init(decoding: bytes)
    } catch {
      throw .corrupt("\(Self.self): \(error)")
    }
  }
}

extension ByteReader {
  mutating func version(_ expected: UInt8) throws(ValueError) {
    guard try fixed(UInt8.self) == expected else { throw .invalid("record version") }
  }
}

/// Counters that commands keep up to date.
package struct UsageCounters: Hashable, Sendable {
  /// Keys that are there: current objects.
  package var objectCount: UInt64 = 0
  /// Sum of the sizes of all versions, current and older.
  package var logicalBytes: UInt64 = 0
  /// Bytes kept in their records.
  package var inlineBytes: UInt64 = 0
  /// Plain bytes of all chunks in living containers.
  package var chunkBytes: UInt64 = 0
  /// Their groups' frames, before coding.
  package var groupBytes: UInt64 = 0
  /// What the blocks of their stripes occupy on devices.
  package var blockBytes: UInt64 = 0
  /// Containers that are not condemned.
  package var containerCount: UInt64 = 0
  /// Trash entries: versions, uploads, pages and containers still to be taken apart.
  package var trashCount: UInt64 = 0

  package init() {}

  /// In the store and in checkpoints.
  func encode(into writer: inout ByteWriter) {
    writer.varint(objectCount)
    writer.varint(logicalBytes)
    writer.varint(inlineBytes)
    writer.varint(chunkBytes)
    writer.varint(groupBytes)
    writer.varint(blockBytes)
    writer.varint(containerCount)
    writer.varint(trashCount)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    objectCount = try reader.varint()
    logicalBytes = try reader.varint()
    inlineBytes = try reader.varint()
    chunkBytes = try reader.varint()
    groupBytes = try reader.varint()
    blockBytes = try reader.varint()
    containerCount = try reader.varint()
    trashCount = try reader.varint()
  }

  /// As `df` names them.
  package var uniqueBytes: UInt64 { chunkBytes + inlineBytes }
  package var compressedBytes: UInt64 { groupBytes + inlineBytes }
}

/// What is single: identity of the cluster, position, time, counters.
struct MachineState: Hashable, StoredValue {
  var appliedPosition: UInt64 = 0
  /// 0 before the founding.
  var clusterID: UInt64 = 0
  var scheme = Scheme(k: 1, m: 0)!
  /// Milliseconds since 1970.
  var created: UInt64 = 0
  var mapEpoch: UInt64 = 0
  /// Milliseconds of the leaders' monotonic clocks, joined.
  var time: UInt64 = 0
  /// No trash entry is at a lower position. Spares scans the remains of deleted ones.
  var trashHead: UInt64 = 0
  var usage = UsageCounters()

  init() {}
  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(2))
    writer.varint(appliedPosition)
    writer.fixed(clusterID)
    writer.value(scheme)
    writer.varint(created)
    writer.varint(mapEpoch)
    writer.varint(time)
    writer.varint(trashHead)
    usage.encode(into: &writer)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(2)
    appliedPosition = try reader.varint()
    clusterID = try reader.fixed()
    scheme = try reader.value()
    created = try reader.varint()
    mapEpoch = try reader.varint()
    time = try reader.varint()
    trashHead = try reader.varint()
    usage = try UsageCounters(from: &reader)
  }
}

struct BucketRecord: Hashable, StoredValue {
  /// The position that made it; object keys carry it.
  var identity: UInt64
  /// Milliseconds since 1970.
  var created: UInt64
  /// Current objects.
  var objectCount: UInt64
  /// What its objects' chunks are stored in.
  var domain: ChunkDomain
  var versioning = BucketVersioning.off
  /// Older versions and delete markers.
  var versionCount: UInt64 = 0
  /// Nil: versions cannot be locked.
  var lock: BucketLock?

  init(identity: UInt64, created: UInt64, domain: ChunkDomain) {
    self.identity = identity
    self.created = created
    self.domain = domain
    objectCount = 0
  }
  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(3))
    writer.varint(identity)
    writer.varint(created)
    writer.varint(objectCount)
    writer.value(domain)
    writer.value(versioning)
    writer.varint(versionCount)
    writer.optional(lock)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    let form: UInt8 = try reader.fixed()
    guard form == 2 || form == 3 else { throw .invalid("record version") }
    identity = try reader.varint()
    created = try reader.varint()
    objectCount = try reader.varint()
    domain = try reader.value()
    // Buckets from before there were versions have none.
    guard form == 3 else { return }
    versioning = try reader.value()
    versionCount = try reader.varint()
    lock = try reader.optional()
  }
}

/// A storage class, and what is stored in it.
struct ClassRecord: Hashable, StoredValue {
  var policy: StorageClass
  /// Of its buckets and containers; trash is not counted by class.
  var usage = UsageCounters()

  init(policy: StorageClass) { self.policy = policy }
  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.value(policy)
    usage.encode(into: &writer)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(1)
    policy = try reader.value()
    usage = try UsageCounters(from: &reader)
  }
}

/// A client's session.
package struct SessionRecord: Hashable, Sendable, WireValue, StoredValue {
  /// What the client calls itself.
  package var client: String
  /// The leader's wall clock when it was opened, milliseconds since 1970.
  package var opened: UInt64
  /// Outcomes below this sequence number are dropped.
  package var lowestUnanswered: UInt64
  package var uploadCount: UInt64
  package var grantCount: UInt64

  init(client: String, opened: UInt64) {
    self.client = client
    self.opened = opened
    lowestUnanswered = 1
    uploadCount = 0
    grantCount = 0
  }
  package func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.string(client)
    writer.varint(opened)
    writer.varint(lowestUnanswered)
    writer.varint(uploadCount)
    writer.varint(grantCount)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(1)
    client = try reader.string(limit: 256)
    opened = try reader.varint()
    lowestUnanswered = try reader.varint()
    uploadCount = try reader.varint()
    grantCount = try reader.varint()
  }
}

/// A container as the log knows it: its current generation and what is in it.
package struct ContainerRecord: Hashable, Sendable, WireValue, StoredValue {
  package enum State: Hashable, Sendable {
    /// Written under this grant.
    case open(grant: UInt64)
    /// Not full; may be granted again.
    case available
    case sealed
    /// Nothing refers to it any more; its shards are to be deleted.
    case condemned
  }
  package var id: ContainerID
  /// What all its chunks belong to.
  package var domain: ChunkDomain
  package var scheme: Scheme
  /// One for each shard. At first all have the same generation: the position of the command that granted it first.
  package var places: [ShardPlace]
  package var state: State
  /// The first stripe number never granted.
  package var nextStripe: UInt64
  /// One past the highest registered ordinal.
  package var nextOrdinal: UInt64
  package var stripeCount: UInt64
  package var chunkCount: UInt64
  /// Data bytes of its registered stripes.
  package var dataByteCount: UInt64
  /// What their blocks occupy on devices.
  package var blockByteCount: UInt64
  /// Plain bytes of its chunks.
  package var chunkByteCount: UInt64
  /// Frames of its groups.
  package var groupByteCount: UInt64
  /// Edges kept at it.
  package var edgeCount: UInt64

  /// A container with so many data bytes is full.
  package static let byteLimit: UInt64 = 1 << 30
  /// So is one with so many stripes, so that its directory stays small.
  package static let stripeLimit: UInt64 = 1 << 13

  /// The first stripe number of the live grant, if there is one, or the first that was never granted: what is below and
  /// not registered never will be.
  package var firstLiveStripe: UInt64 {
    guard case .open = state else { return nextStripe }
    return nextStripe - min(nextStripe, OpenGrant.stripeCount)
  }

  init(
    id: ContainerID, domain: ChunkDomain, scheme: Scheme, places: [ShardPlace], state: State
  ) {
    self.id = id
    self.domain = domain
    self.scheme = scheme
    self.places = places
    self.state = state
    nextStripe = 0
    nextOrdinal = 0
    stripeCount = 0
    chunkCount = 0
    dataByteCount = 0
    blockByteCount = 0
    chunkByteCount = 0
    groupByteCount = 0
    edgeCount = 0
  }

  package var devices: [DeviceID] { places.devices }

  /// No room for another full stripe, or too many of them.
  package var isFull: Bool {
    dataByteCount + UInt64(StripeLayout.capacity(of: scheme)) > Self.byteLimit
      || stripeCount >= Self.stripeLimit
  }

  package func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(3))
    writer.value(id)
    writer.value(domain)
    writer.value(scheme)
    writer.list(places)
    switch state {
    case .open(let grant):
      writer.fixed(UInt8(0))
      writer.varint(grant)
    case .available: writer.fixed(UInt8(1))
    case .sealed: writer.fixed(UInt8(2))
    case .condemned: writer.fixed(UInt8(3))
    }
    writer.varint(nextStripe)
    writer.varint(nextOrdinal)
    writer.varint(stripeCount)
    writer.varint(chunkCount)
    writer.varint(dataByteCount)
    writer.varint(blockByteCount)
    writer.varint(chunkByteCount)
    writer.varint(groupByteCount)
    writer.varint(edgeCount)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(3)
    id = try reader.value()
    domain = try reader.value()
    scheme = try reader.value()
    places = try reader.list(limit: Scheme.largestWidth)
    switch try reader.fixed(UInt8.self) {
    case 0: state = .open(grant: try reader.varint())
    case 1: state = .available
    case 2: state = .sealed
    case 3: state = .condemned
    default: throw .invalid("container state")
    }
    nextStripe = try reader.varint()
    nextOrdinal = try reader.varint()
    stripeCount = try reader.varint()
    chunkCount = try reader.varint()
    dataByteCount = try reader.varint()
    blockByteCount = try reader.varint()
    chunkByteCount = try reader.varint()
    groupByteCount = try reader.varint()
    edgeCount = try reader.varint()
    guard places.count == scheme.width else { throw .invalid("container places") }
  }
}

/// Consecutive numbers `first ..< first + count`.
package struct NumberRun: Hashable, Sendable, WireValue {
  package var first: UInt64
  package var count: UInt64
  package init(first: UInt64, count: UInt64) {
    self.first = first
    self.count = count
  }
  package var end: UInt64 { first + count }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(first)
    writer.varint(count)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    first = try reader.varint()
    count = try reader.varint()
    guard !first.addingReportingOverflow(count).overflow else { throw .invalid("run of numbers") }
  }

  /// Adds `number` to ascending, separate runs; false when it is there already.
  static func insert(_ number: UInt64, into runs: inout [NumberRun]) -> Bool {
    // The usual case: numbers are registered as they are written, in order.
    var index = runs.count
    while index > 0 && runs[index - 1].first > number { index -= 1 }
    if index > 0 && number < runs[index - 1].end { return false }
    let joinsLeft = index > 0 && runs[index - 1].end == number
    let joinsRight = index < runs.count && runs[index].first == number + 1
    switch (joinsLeft, joinsRight) {
    case (true, true):
      runs[index - 1].count += 1 + runs[index].count
      runs.remove(at: index)
    case (true, false): runs[index - 1].count += 1
    case (false, true):
      runs[index].first = number
      runs[index].count += 1
    case (false, false): runs.insert(NumberRun(first: number, count: 1), at: index)
    }
    return true
  }

  /// Ascending, separate runs of the same numbers.
  static func normalized(_ runs: [NumberRun]) -> [NumberRun] {
    var result: [NumberRun] = []
    for run in runs.sorted(by: { ($0.first, $0.count) < ($1.first, $1.count) }) {
      if let last = result.last, run.first <= last.end {
        result[result.count - 1].count = max(last.end, run.end) - last.first
      } else {
        result.append(run)
      }
    }
    return result
  }
}

/// A live grant.
package struct OpenGrant: Hashable, Sendable, WireValue, StoredValue {
  package var id: UInt64
  package var session: UInt64
  package var container: ContainerID
  package var firstStripe: UInt64
  package var endStripe: UInt64
  package var firstOrdinal: UInt64
  /// Stripe numbers registered under it, ascending.
  package var registered: [NumberRun]

  package static let stripeCount: UInt64 = 4096
  package static let ordinalCount = Grant.ordinalCount

  init(
    id: UInt64, session: UInt64, container: ContainerID, firstStripe: UInt64, endStripe: UInt64,
    firstOrdinal: UInt64
  ) {
    self.id = id
    self.session = session
    self.container = container
    self.firstStripe = firstStripe
    self.endStripe = endStripe
    self.firstOrdinal = firstOrdinal
    registered = []
  }
  package func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.varint(id)
    writer.varint(session)
    writer.value(container)
    writer.varint(firstStripe)
    writer.varint(endStripe)
    writer.varint(firstOrdinal)
    writer.list(registered)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(1)
    id = try reader.varint()
    session = try reader.varint()
    container = try reader.value()
    firstStripe = try reader.varint()
    endStripe = try reader.varint()
    firstOrdinal = try reader.varint()
    registered = try reader.list(limit: 4096)
  }
}

/// A grant that ended: nodes may now drop the stripes of its window that were not registered.
package struct EndedGrant: Hashable, Sendable, WireValue, StoredValue {
  package var id: UInt64
  package var container: ContainerID
  package var scheme: Scheme
  package var places: [ShardPlace]
  package var firstStripe: UInt64
  package var endStripe: UInt64
  /// Stripe numbers registered under it, ascending.
  package var registered: [NumberRun]

  init(_ grant: OpenGrant, of container: ContainerRecord) {
    id = grant.id
    self.container = container.id
    scheme = container.scheme
    places = container.places
    firstStripe = grant.firstStripe
    endStripe = grant.endStripe
    registered = grant.registered
  }

  package var devices: [DeviceID] { places.devices }

  /// What is to be dropped, ascending.
  package var unregistered: [Range<UInt64>] {
    var result: [Range<UInt64>] = []
    var next = firstStripe
    for run in registered {
      if next < run.first { result.append(next..<run.first) }
      next = run.end
    }
    if next < endStripe { result.append(next..<endStripe) }
    return result
  }

  package func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(2))
    writer.varint(id)
    writer.value(container)
    writer.value(scheme)
    writer.list(places)
    writer.varint(firstStripe)
    writer.varint(endStripe)
    writer.list(registered)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(2)
    id = try reader.varint()
    container = try reader.value()
    scheme = try reader.value()
    places = try reader.list(limit: Scheme.largestWidth)
    firstStripe = try reader.varint()
    endStripe = try reader.varint()
    registered = try reader.list(limit: 4096)
  }
}

/// What is known of a page beside its content. It exists as long as the page is alive.
struct PageInfo: Hashable, StoredValue {
  var edgeCount: UInt64
  var byteCount: UInt64
  /// Pages below it on the way to the chunks: 0 for a page of runs.
  var level: UInt8
  var name: Fingerprint
  /// Of all chunks below it.
  var domain: ChunkDomain

  /// 1,024 to the power of 6 chunks are more than any object has.
  static let levelLimit: UInt8 = 6

  init(
    edgeCount: UInt64, byteCount: UInt64, level: UInt8, name: Fingerprint, domain: ChunkDomain
  ) {
    self.edgeCount = edgeCount
    self.byteCount = byteCount
    self.level = level
    self.name = name
    self.domain = domain
  }
  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(2))
    writer.varint(edgeCount)
    writer.varint(byteCount)
    writer.fixed(level)
    writer.value(name)
    writer.value(domain)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(2)
    edgeCount = try reader.varint()
    byteCount = try reader.varint()
    level = try reader.fixed()
    name = try reader.value()
    domain = try reader.value()
  }
}

/// A page's content.
struct PageRecord: Hashable, StoredValue {
  var page: Page
  init(page: Page) { self.page = page }
  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.value(page)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(1)
    page = try reader.value()
  }
}

/// Where a fingerprint's chunk is.
struct FingerprintHint: Hashable, StoredValue {
  var container: ContainerID
  var ordinal: UInt64
  var byteCount: UInt32
  init(container: ContainerID, ordinal: UInt64, byteCount: UInt32) {
    self.container = container
    self.ordinal = ordinal
    self.byteCount = byteCount
  }
  func encode(into writer: inout ByteWriter) {
    writer.value(container)
    writer.varint(ordinal)
    writer.varint(byteCount)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    container = try reader.value()
    ordinal = try reader.varint()
    byteCount = try reader.varint32()
  }
}

/// The value of an edge from an object or a page to a container: the ordinals it uses.
struct OrdinalSet: Hashable, StoredValue {
  var runs: [NumberRun]
  init(runs: [NumberRun]) { self.runs = runs }
  func encode(into writer: inout ByteWriter) { writer.list(runs) }
  init(from reader: inout ByteReader) throws(ValueError) { runs = try reader.list() }
}

/// Something whose edges are still to be returned.
struct TrashEntry: Hashable, StoredValue {
  enum Content: Hashable {
    /// A version that is gone: its edges to containers, ascending.
    case embedded(identity: UInt64, containers: [ContainerID])
    /// A version that is gone: its edge to its root page.
    case root(identity: UInt64, page: UInt64)
    /// An upload that ended.
    case upload(UInt64)
    /// A page without edges; its first `returned` targets have theirs back.
    case page(UInt64, returned: UInt64)
    /// A condemned container; its directory is empty below `ordinal`.
    case container(ContainerID, ordinal: UInt64)
    /// A part that was put again: its edge to its root page.
    case part(identity: UInt64, page: UInt64)
    /// A multipart upload that ended: its parts.
    case multipart(UInt64)
    /// A bucket that was removed: the multipart uploads under way in it.
    case bucket(UInt64)
  }
  /// The cluster's time when it came here.
  var time: UInt64
  var content: Content

  init(time: UInt64, content: Content) {
    self.time = time
    self.content = content
  }
  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.varint(time)
    switch content {
    case .embedded(let identity, let containers):
      writer.fixed(UInt8(0))
      writer.varint(identity)
      writer.list(containers)
    case .root(let identity, let page):
      writer.fixed(UInt8(1))
      writer.varint(identity)
      writer.varint(page)
    case .upload(let upload):
      writer.fixed(UInt8(2))
      writer.varint(upload)
    case .page(let page, let returned):
      writer.fixed(UInt8(3))
      writer.varint(page)
      writer.varint(returned)
    case .container(let container, let ordinal):
      writer.fixed(UInt8(4))
      writer.value(container)
      writer.varint(ordinal)
    case .part(let identity, let page):
      writer.fixed(UInt8(5))
      writer.varint(identity)
      writer.varint(page)
    case .multipart(let number):
      writer.fixed(UInt8(6))
      writer.varint(number)
    case .bucket(let identity):
      writer.fixed(UInt8(7))
      writer.varint(identity)
    }
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(1)
    time = try reader.varint()
    switch try reader.fixed(UInt8.self) {
    case 0:
      content = .embedded(identity: try reader.varint(), containers: try reader.list(limit: 4096))
    case 1: content = .root(identity: try reader.varint(), page: try reader.varint())
    case 2: content = .upload(try reader.varint())
    case 3: content = .page(try reader.varint(), returned: try reader.varint())
    case 4: content = .container(try reader.value(), ordinal: try reader.varint())
    case 5: content = .part(identity: try reader.varint(), page: try reader.varint())
    case 6: content = .multipart(try reader.varint())
    case 7: content = .bucket(try reader.varint())
    default: throw .invalid("trash")
    }
  }
}

extension NodeRecord: StoredValue {}
extension ObjectRecord: StoredValue {}
extension CommandOutcome: StoredValue {}
extension StripeRecord: StoredValue {}
