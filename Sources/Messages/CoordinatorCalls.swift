/// What the coordinator answers. Methods 512 ... 767. Reads state how fresh they must be.
package import Cluster
package import Coding
package import Wire

/// How fresh an answer must be.
package enum ReadLevel: Hashable, Sendable, WireValue {
  /// Every acknowledged write is seen; answered by the leader under its lease.
  case strong
  /// Everything up to this log position is seen.
  case position(UInt64)
  case eventual

  package func encode(into writer: inout ByteWriter) {
    switch self {
    case .strong: writer.fixed(UInt8(0))
    case .position(let position):
      writer.fixed(UInt8(1))
      writer.varint(position)
    case .eventual: writer.fixed(UInt8(2))
    }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    switch try reader.fixed(UInt8.self) {
    case 0: self = .strong
    case 1: self = .position(try reader.varint())
    case 2: self = .eventual
    default: throw .invalid("read level")
    }
  }
}

/// How a device does, in a heartbeat.
package struct DeviceReport: Hashable, Sendable, WireValue {
  package var id: DeviceID
  /// Bytes it may hold for us.
  package var capacity: UInt64
  /// Bytes that living blocks occupy, headers included.
  package var used: UInt64
  /// Of `used`, bytes in blocks of links and checkpoints.
  package var linkBytes: UInt64
  /// Bytes it can still take for data: without the reserve.
  package var free: UInt64
  package var tier: String
  /// Retired after a failed write or sync.
  package var isFailed: Bool

  package init(
    id: DeviceID, capacity: UInt64, used: UInt64, linkBytes: UInt64, free: UInt64, tier: String,
    isFailed: Bool
  ) {
    self.id = id
    self.capacity = capacity
    self.used = used
    self.linkBytes = linkBytes
    self.free = free
    self.tier = tier
    self.isFailed = isFailed
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(id)
    writer.varint(capacity)
    writer.varint(used)
    writer.varint(linkBytes)
    writer.varint(free)
    writer.string(tier)
    writer.bool(isFailed)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    id = try reader.value()
    capacity = try reader.varint()
    used = try reader.varint()
    linkBytes = try reader.varint()
    free = try reader.varint()
    tier = try reader.string()
    isFailed = try reader.bool()
  }
}

/// A node says that it is there; sent at start and every second.
/// Refused: failed when it belongs to another cluster.
package struct Hello: Call {
  package static let method: UInt16 = 512
  /// 0 when the node has never belonged to a cluster.
  package var clusterID: UInt64
  package var node: NodeID
  /// The operator's name.
  package var name: String
  /// Where it serves blocks; empty: as the connection comes from.
  package var host: String
  package var port: UInt16
  /// Failure domain path, widest first.
  package var domain: [String]
  package var devices: [DeviceReport]
  /// The highest leader epoch it has seen.
  package var highestEpoch: UInt64
  /// Blocks found corrupt since it started.
  package var corruptBlocks: UInt64

  package init(
    clusterID: UInt64, node: NodeID, name: String, host: String, port: UInt16, domain: [String],
    devices: [DeviceReport], highestEpoch: UInt64, corruptBlocks: UInt64
  ) {
    self.clusterID = clusterID
    self.node = node
    self.name = name
    self.host = host
    self.port = port
    self.domain = domain
    self.devices = devices
    self.highestEpoch = highestEpoch
    self.corruptBlocks = corruptBlocks
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(clusterID)
    writer.value(node)
    writer.string(name)
    writer.string(host)
    writer.fixed(port)
    writer.list(domain)
    writer.list(devices)
    writer.varint(highestEpoch)
    writer.varint(corruptBlocks)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    clusterID = try reader.varint()
    node = try reader.value()
    name = try reader.string()
    host = try reader.string()
    port = try reader.fixed()
    domain = try reader.list()
    devices = try reader.list()
    highestEpoch = try reader.varint()
    corruptBlocks = try reader.varint()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    /// 0 while the cluster is not founded.
    package var clusterID: UInt64
    /// 0 when this coordinator does not lead.
    package var leaderEpoch: UInt64
    package var mapEpoch: UInt64
    /// When to say hello again.
    package var intervalMilliseconds: UInt32

    package init(
      clusterID: UInt64, leaderEpoch: UInt64, mapEpoch: UInt64, intervalMilliseconds: UInt32
    ) {
      self.clusterID = clusterID
      self.leaderEpoch = leaderEpoch
      self.mapEpoch = mapEpoch
      self.intervalMilliseconds = intervalMilliseconds
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(clusterID)
      writer.varint(leaderEpoch)
      writer.varint(mapEpoch)
      writer.varint(intervalMilliseconds)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      clusterID = try reader.varint()
      leaderEpoch = try reader.varint()
      mapEpoch = try reader.varint()
      intervalMilliseconds = try reader.varint32()
    }
  }
}

/// Opens a session for commands. It lives while it is used or kept; the leader expires it after `lifetimeMilliseconds` of silence.
package struct OpenSession: Call {
  package static let method: UInt16 = 513
  /// What the client calls itself, for people.
  package var client: String

  package init(client: String) {
    self.client = client
  }
  package func encode(into writer: inout ByteWriter) {
    writer.string(client)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    client = try reader.string()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var session: UInt64
    package var lifetimeMilliseconds: UInt32

    package init(session: UInt64, lifetimeMilliseconds: UInt32) {
      self.session = session
      self.lifetimeMilliseconds = lifetimeMilliseconds
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(session)
      writer.varint(lifetimeMilliseconds)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      session = try reader.varint()
      lifetimeMilliseconds = try reader.varint32()
    }
  }
}

/// Refused: noSuchSession.
package struct KeepSession: Call {
  package static let method: UInt16 = 514
  package typealias Answer = Done
  package var session: UInt64

  package init(session: UInt64) {
    self.session = session
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(session)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    session = try reader.varint()
  }
}

/// Carries out one command exactly once, however often it is sent. At most 1,024 may be unanswered.
/// Refused: noSuchSession, outcomeUnknown, notLeader, unavailable.
package struct Execute: Call {
  package static let method: UInt16 = 515
  package var session: UInt64
  /// Counts up from 1 in a session.
  package var sequence: UInt64
  /// Outcomes below this sequence number may be forgotten.
  package var lowestUnanswered: UInt64
  package var command: ClientCommand

  package init(session: UInt64, sequence: UInt64, lowestUnanswered: UInt64, command: ClientCommand)
  {
    self.session = session
    self.sequence = sequence
    self.lowestUnanswered = lowestUnanswered
    self.command = command
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(session)
    writer.varint(sequence)
    writer.varint(lowestUnanswered)
    writer.value(command)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    session = try reader.varint()
    sequence = try reader.varint()
    lowestUnanswered = try reader.varint()
    command = try reader.value()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    /// The log position after which the effect is seen.
    package var position: UInt64
    package var outcome: CommandOutcome

    package init(position: UInt64, outcome: CommandOutcome) {
      self.position = position
      self.outcome = outcome
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(position)
      writer.value(outcome)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      position = try reader.varint()
      outcome = try reader.value()
    }
  }
}

/// Ends a session, its uploads and grants with it.
package struct CloseSession: Call {
  package static let method: UInt16 = 516
  package typealias Answer = Done
  package var session: UInt64

  package init(session: UInt64) {
    self.session = session
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(session)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    session = try reader.varint()
  }
}

package struct GetMap: Call {
  package static let method: UInt16 = 520
  package var level: ReadLevel

  package init(level: ReadLevel) {
    self.level = level
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var map: ClusterMap
    /// Nodes the leader has not heard of for a while. Soft state.
    package var down: [NodeID]
    /// Of the default class.
    package var scheme: Scheme

    package init(map: ClusterMap, down: [NodeID], scheme: Scheme) {
      self.map = map
      self.down = down
      self.scheme = scheme
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(map)
      writer.list(down)
      writer.value(scheme)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      map = try reader.value()
      down = try reader.list()
      scheme = try reader.value()
    }
  }
}

/// Refused: noSuchBucket, noSuchKey.
package struct StatObject: Call {
  package static let method: UInt16 = 521
  package var level: ReadLevel
  package var name: ObjectName

  package init(level: ReadLevel, name: ObjectName) {
    self.level = level
    self.name = name
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.value(name)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    name = try reader.value()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var record: ObjectRecord
    /// Those that hold its bytes, ascending.
    package var containers: [ContainerSummary]

    package init(record: ObjectRecord, containers: [ContainerSummary]) {
      self.record = record
      self.containers = containers
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(record)
      writer.list(containers)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      record = try reader.value()
      containers = try reader.list()
    }
  }
}

package struct ContainerSummary: Hashable, Sendable, WireValue {
  package var container: ContainerID
  package var generation: UInt64
  package var scheme: Scheme
  package var devices: [DeviceID]
  /// Shards whose node is down or whose device is retired, as the leader sees it now.
  package var missing: UInt32

  package init(
    container: ContainerID, generation: UInt64, scheme: Scheme, devices: [DeviceID], missing: UInt32
  ) {
    self.container = container
    self.generation = generation
    self.scheme = scheme
    self.devices = devices
    self.missing = missing
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(container)
    writer.varint(generation)
    writer.value(scheme)
    writer.list(devices)
    writer.varint(missing)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    container = try reader.value()
    generation = try reader.varint()
    scheme = try reader.value()
    devices = try reader.list()
    missing = try reader.varint32()
  }
}

/// Keys in byte order. Refused: noSuchBucket.
package struct ListObjects: Call {
  package static let method: UInt16 = 522
  package var level: ReadLevel
  package var bucket: String
  package var prefix: String
  /// Keys after this one, exclusive, by bytes.
  package var after: String
  /// Empty: no grouping.
  package var delimiter: String
  /// At most 1,000.
  package var limit: UInt32

  package init(
    level: ReadLevel, bucket: String, prefix: String, after: String, delimiter: String,
    limit: UInt32
  ) {
    self.level = level
    self.bucket = bucket
    self.prefix = prefix
    self.after = after
    self.delimiter = delimiter
    self.limit = limit
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.string(bucket)
    writer.string(prefix)
    writer.string(after)
    writer.string(delimiter)
    writer.varint(limit)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    bucket = try reader.string()
    prefix = try reader.string()
    after = try reader.string()
    delimiter = try reader.string()
    limit = try reader.varint32()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var entries: [Entry]
    /// Groups of keys up to the delimiter, ascending.
    package var prefixes: [String]
    /// Where to go on, as `after`; nil at the end.
    package var next: String?

    package init(entries: [Entry], prefixes: [String], next: String?) {
      self.entries = entries
      self.prefixes = prefixes
      self.next = next
    }
    package func encode(into writer: inout ByteWriter) {
      writer.list(entries)
      writer.list(prefixes)
      writer.optional(next)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      entries = try reader.list()
      prefixes = try reader.list()
      next = try reader.optional()
    }
  }
  package struct Entry: Hashable, Sendable, WireValue {
    package var key: String
    package var identity: UInt64
    package var byteCount: UInt64
    /// Milliseconds since 1970.
    package var modified: UInt64
    package var contentHash: Fingerprint
    package var attributes: ObjectAttributes

    package init(
      key: String, identity: UInt64, byteCount: UInt64, modified: UInt64, contentHash: Fingerprint,
      attributes: ObjectAttributes
    ) {
      self.key = key
      self.identity = identity
      self.byteCount = byteCount
      self.modified = modified
      self.contentHash = contentHash
      self.attributes = attributes
    }
    package func encode(into writer: inout ByteWriter) {
      writer.string(key)
      writer.varint(identity)
      writer.varint(byteCount)
      writer.varint(modified)
      writer.value(contentHash)
      writer.value(attributes)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      key = try reader.string()
      identity = try reader.varint()
      byteCount = try reader.varint()
      modified = try reader.varint()
      contentHash = try reader.value()
      attributes = try reader.value()
    }
  }
}

package struct ListBuckets: Call {
  package static let method: UInt16 = 523
  package var level: ReadLevel

  package init(level: ReadLevel) {
    self.level = level
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var buckets: [Entry]

    package init(buckets: [Entry]) {
      self.buckets = buckets
    }
    package func encode(into writer: inout ByteWriter) {
      writer.list(buckets)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      buckets = try reader.list()
    }
  }
  package struct Entry: Hashable, Sendable, WireValue {
    package var name: String
    /// Milliseconds since 1970.
    package var created: UInt64

    package init(name: String, created: UInt64) {
      self.name = name
      self.created = created
    }
    package func encode(into writer: inout ByteWriter) {
      writer.string(name)
      writer.varint(created)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      name = try reader.string()
      created = try reader.varint()
    }
  }
}

/// Where the bytes of a range are. Refused: noSuchBucket, noSuchKey, preconditionFailed, invalidRange (first > size).
package struct ResolveRange: Call {
  package static let method: UInt16 = 524
  package var level: ReadLevel
  package var name: ObjectName
  /// 0: the current version; else that version, or preconditionFailed when it is current no more.
  package var identity: UInt64
  /// The first byte wanted.
  package var first: UInt64
  /// How many; the answer may cover fewer and then `isLast` is false.
  package var byteCount: UInt64

  package init(
    level: ReadLevel, name: ObjectName, identity: UInt64, first: UInt64, byteCount: UInt64
  ) {
    self.level = level
    self.name = name
    self.identity = identity
    self.first = first
    self.byteCount = byteCount
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.value(name)
    writer.varint(identity)
    writer.varint(first)
    writer.varint(byteCount)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    name = try reader.value()
    identity = try reader.varint()
    first = try reader.varint()
    byteCount = try reader.varint()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var identity: UInt64
    package var objectByteCount: UInt64
    package var contentHash: Fingerprint
    package var attributes: ObjectAttributes
    package var modified: UInt64
    package var mapEpoch: UInt64
    /// The range's bytes when the object is inlined; then there are no pieces.
    package var inline: [UInt8]
    package var containers: [ContainerPlan]
    package var stripes: [StripePlan]
    /// In the order of the object. Together they cover the range from `first` on.
    package var pieces: [Piece]
    /// Whether they cover all of it.
    package var isLast: Bool

    package init(
      identity: UInt64, objectByteCount: UInt64, contentHash: Fingerprint,
      attributes: ObjectAttributes, modified: UInt64, mapEpoch: UInt64, inline: [UInt8],
      containers: [ContainerPlan], stripes: [StripePlan], pieces: [Piece], isLast: Bool
    ) {
      self.identity = identity
      self.objectByteCount = objectByteCount
      self.contentHash = contentHash
      self.attributes = attributes
      self.modified = modified
      self.mapEpoch = mapEpoch
      self.inline = inline
      self.containers = containers
      self.stripes = stripes
      self.pieces = pieces
      self.isLast = isLast
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(identity)
      writer.varint(objectByteCount)
      writer.value(contentHash)
      writer.value(attributes)
      writer.varint(modified)
      writer.varint(mapEpoch)
      writer.blob(inline)
      writer.list(containers)
      writer.list(stripes)
      writer.list(pieces)
      writer.bool(isLast)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      identity = try reader.varint()
      objectByteCount = try reader.varint()
      contentHash = try reader.value()
      attributes = try reader.value()
      modified = try reader.varint()
      mapEpoch = try reader.varint()
      inline = try reader.blob()
      containers = try reader.list()
      stripes = try reader.list()
      pieces = try reader.list()
      isLast = try reader.bool()
    }
  }
  package struct ContainerPlan: Hashable, Sendable, WireValue {
    package var container: ContainerID
    package var generation: UInt64
    package var scheme: Scheme
    package var devices: [DeviceID]

    package init(container: ContainerID, generation: UInt64, scheme: Scheme, devices: [DeviceID]) {
      self.container = container
      self.generation = generation
      self.scheme = scheme
      self.devices = devices
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(container)
      writer.varint(generation)
      writer.value(scheme)
      writer.list(devices)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      container = try reader.value()
      generation = try reader.varint()
      scheme = try reader.value()
      devices = try reader.list()
    }
  }
  package struct StripePlan: Hashable, Sendable, WireValue {
    /// In `containers`.
    package var containerIndex: UInt32
    package var stripe: UInt64
    package var layout: StripeLayout

    package init(containerIndex: UInt32, stripe: UInt64, layout: StripeLayout) {
      self.containerIndex = containerIndex
      self.stripe = stripe
      self.layout = layout
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(containerIndex)
      writer.varint(stripe)
      writer.value(layout)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      containerIndex = try reader.varint32()
      stripe = try reader.varint()
      layout = try reader.value()
    }
  }
  package struct Piece: Hashable, Sendable, WireValue {
    /// In `stripes`.
    package var stripeIndex: UInt32
    /// Of the group's frame in the stripe's data bytes.
    package var groupOffset: UInt32
    /// Of the frame, header included.
    package var groupByteCount: UInt32
    package var codec: UInt8
    /// Of the chunk in the group's plain bytes.
    package var chunkOffset: UInt32
    package var chunkByteCount: UInt32
    package var fingerprint: Fingerprint
    /// Bytes of the chunk before the range.
    package var skip: UInt32
    /// Bytes of the chunk in the range.
    package var take: UInt32

    package init(
      stripeIndex: UInt32, groupOffset: UInt32, groupByteCount: UInt32, codec: UInt8,
      chunkOffset: UInt32, chunkByteCount: UInt32, fingerprint: Fingerprint, skip: UInt32,
      take: UInt32
    ) {
      self.stripeIndex = stripeIndex
      self.groupOffset = groupOffset
      self.groupByteCount = groupByteCount
      self.codec = codec
      self.chunkOffset = chunkOffset
      self.chunkByteCount = chunkByteCount
      self.fingerprint = fingerprint
      self.skip = skip
      self.take = take
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(stripeIndex)
      writer.varint(groupOffset)
      writer.varint(groupByteCount)
      writer.fixed(codec)
      writer.varint(chunkOffset)
      writer.varint(chunkByteCount)
      writer.value(fingerprint)
      writer.varint(skip)
      writer.varint(take)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      stripeIndex = try reader.varint32()
      groupOffset = try reader.varint32()
      groupByteCount = try reader.varint32()
      codec = try reader.fixed()
      chunkOffset = try reader.varint32()
      chunkByteCount = try reader.varint32()
      fingerprint = try reader.value()
      skip = try reader.varint32()
      take = try reader.varint32()
    }
  }
}

/// Which chunks are stored already, in the default domain. Hints: whoever uses one must hold it (`holdChunks`).
package struct FindChunks: Call {
  package static let method: UInt16 = 525
  /// At most 4,096.
  package var fingerprints: [Fingerprint]

  package init(fingerprints: [Fingerprint]) {
    self.fingerprints = fingerprints
  }
  package func encode(into writer: inout ByteWriter) {
    writer.list(fingerprints)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    fingerprints = try reader.list()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    /// One for each fingerprint; count 0 where there is none.
    package var found: [Location]
    /// Other chunks of the stripes that were hit, likely to be asked for next.
    package var neighbours: [Neighbour]

    package init(found: [Location], neighbours: [Neighbour]) {
      self.found = found
      self.neighbours = neighbours
    }
    package func encode(into writer: inout ByteWriter) {
      writer.list(found)
      writer.list(neighbours)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      found = try reader.list()
      neighbours = try reader.list()
    }
  }
  package struct Location: Hashable, Sendable, WireValue {
    package var container: ContainerID
    package var ordinal: UInt64
    /// 0: not stored.
    package var byteCount: UInt32

    package init(container: ContainerID, ordinal: UInt64, byteCount: UInt32) {
      self.container = container
      self.ordinal = ordinal
      self.byteCount = byteCount
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(container)
      writer.varint(ordinal)
      writer.varint(byteCount)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      container = try reader.value()
      ordinal = try reader.varint()
      byteCount = try reader.varint32()
    }
  }
  package struct Neighbour: Hashable, Sendable, WireValue {
    package var fingerprint: Fingerprint
    package var location: Location

    package init(fingerprint: Fingerprint, location: Location) {
      self.fingerprint = fingerprint
      self.location = location
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(fingerprint)
      writer.value(location)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      fingerprint = try reader.value()
      location = try reader.value()
    }
  }
}

package struct GetUsage: Call {
  package static let method: UInt16 = 526
  package var level: ReadLevel

  package init(level: ReadLevel) {
    self.level = level
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var objectCount: UInt64
    /// Sum of the sizes of all current objects.
    package var logicalBytes: UInt64
    /// Plain bytes of all chunks in living containers, and inlined bytes.
    package var uniqueBytes: UInt64
    /// Their groups as stored, before coding, and inlined bytes.
    package var compressedBytes: UInt64
    /// All bytes that blocks occupy on devices, headers and padding included.
    package var storedBytes: UInt64
    /// Of these, links and checkpoints.
    package var metadataBytes: UInt64
    package var capacityBytes: UInt64
    /// Before coding overhead.
    package var freeBytes: UInt64
    package var containerCount: UInt64
    /// Deletions whose space is not returned yet.
    package var trashCount: UInt64

    package init(
      objectCount: UInt64, logicalBytes: UInt64, uniqueBytes: UInt64, compressedBytes: UInt64,
      storedBytes: UInt64, metadataBytes: UInt64, capacityBytes: UInt64, freeBytes: UInt64,
      containerCount: UInt64, trashCount: UInt64
    ) {
      self.objectCount = objectCount
      self.logicalBytes = logicalBytes
      self.uniqueBytes = uniqueBytes
      self.compressedBytes = compressedBytes
      self.storedBytes = storedBytes
      self.metadataBytes = metadataBytes
      self.capacityBytes = capacityBytes
      self.freeBytes = freeBytes
      self.containerCount = containerCount
      self.trashCount = trashCount
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(objectCount)
      writer.varint(logicalBytes)
      writer.varint(uniqueBytes)
      writer.varint(compressedBytes)
      writer.varint(storedBytes)
      writer.varint(metadataBytes)
      writer.varint(capacityBytes)
      writer.varint(freeBytes)
      writer.varint(containerCount)
      writer.varint(trashCount)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      objectCount = try reader.varint()
      logicalBytes = try reader.varint()
      uniqueBytes = try reader.varint()
      compressedBytes = try reader.varint()
      storedBytes = try reader.varint()
      metadataBytes = try reader.varint()
      capacityBytes = try reader.varint()
      freeBytes = try reader.varint()
      containerCount = try reader.varint()
      trashCount = try reader.varint()
    }
  }
}

/// How this coordinator does; answered by any, leader or not.
package struct GetStatus: Call {
  package static let method: UInt16 = 527

  package init() {
  }
  package func encode(into writer: inout ByteWriter) {
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var name: String
    /// "leader", "starting" or "waiting".
    package var role: String
    /// What it waits for, for people; empty when all is well.
    package var detail: String
    package var clusterID: UInt64
    package var epoch: UInt64
    /// Applied log position.
    package var position: UInt64
    package var scheme: Scheme
    package var nodes: [Node]

    package init(
      name: String, role: String, detail: String, clusterID: UInt64, epoch: UInt64,
      position: UInt64, scheme: Scheme, nodes: [Node]
    ) {
      self.name = name
      self.role = role
      self.detail = detail
      self.clusterID = clusterID
      self.epoch = epoch
      self.position = position
      self.scheme = scheme
      self.nodes = nodes
    }
    package func encode(into writer: inout ByteWriter) {
      writer.string(name)
      writer.string(role)
      writer.string(detail)
      writer.varint(clusterID)
      writer.varint(epoch)
      writer.varint(position)
      writer.value(scheme)
      writer.list(nodes)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      name = try reader.string()
      role = try reader.string()
      detail = try reader.string()
      clusterID = try reader.varint()
      epoch = try reader.varint()
      position = try reader.varint()
      scheme = try reader.value()
      nodes = try reader.list()
    }
  }
  package struct Node: Hashable, Sendable, WireValue {
    package var record: NodeRecord
    package var isUp: Bool
    package var devices: [DeviceReport]

    package init(record: NodeRecord, isUp: Bool, devices: [DeviceReport]) {
      self.record = record
      self.isUp = isUp
      self.devices = devices
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(record)
      writer.bool(isUp)
      writer.list(devices)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      record = try reader.value()
      isUp = try reader.bool()
      devices = try reader.list()
    }
  }
}
