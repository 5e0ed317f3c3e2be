package import Cluster
package import Wire

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
  /// Bytes it can still take for the log, which may use some of the reserve.
  package var logFree: UInt64
  package var tier: String
  /// Takes no writes now: retired, on a read-only file system, or with a damaged index.
  package var isFailed: Bool
  /// Retired for good, after a failed write or sync: nothing makes it healthy again.
  package var isRetired: Bool
  /// Blocks known to be wrong, until they are mended or deleted.
  package var damagedCount: UInt64
  /// Records that opening found to be gone; nobody can tell of which blocks, but by what the device no longer lists.
  package var lostCount: UInt64
  package var scrub: ScrubReport
  package var load: DeviceLoad

  package init(
    id: DeviceID, capacity: UInt64, used: UInt64, linkBytes: UInt64, free: UInt64, logFree: UInt64,
    tier: String, isFailed: Bool, isRetired: Bool, damagedCount: UInt64 = 0, lostCount: UInt64 = 0,
    scrub: ScrubReport = ScrubReport(), load: DeviceLoad = DeviceLoad()
  ) {
    self.id = id
    self.capacity = capacity
    self.used = used
    self.linkBytes = linkBytes
    self.free = free
    self.logFree = logFree
    self.tier = tier
    self.isFailed = isFailed
    self.isRetired = isRetired
    self.damagedCount = damagedCount
    self.lostCount = lostCount
    self.scrub = scrub
    self.load = load
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(id)
    writer.varint(capacity)
    writer.varint(used)
    writer.varint(linkBytes)
    writer.varint(free)
    writer.varint(logFree)
    writer.string(tier)
    writer.bool(isFailed)
    writer.bool(isRetired)
    writer.varint(damagedCount)
    writer.varint(lostCount)
    writer.value(scrub)
    writer.value(load)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    id = try reader.value()
    capacity = try reader.varint()
    used = try reader.varint()
    linkBytes = try reader.varint()
    free = try reader.varint()
    logFree = try reader.varint()
    tier = try reader.string()
    isFailed = try reader.bool()
    isRetired = try reader.bool()
    damagedCount = try reader.varint()
    lostCount = try reader.varint()
    scrub = try reader.value()
    load = try reader.value()
  }
}

/// How the scrub of a device stands.
package struct ScrubReport: Hashable, Sendable, WireValue {
  /// Number of the last round that began, from 1; 0: none did.
  package var round: UInt64 = 0
  /// Of the last round that read everything; below `round` while one is under way.
  package var finishedRound: UInt64 = 0
  /// Since 1970, by the node's clock: when `round` began and when `finishedRound` ended.
  package var beganMilliseconds: UInt64 = 0
  package var finishedMilliseconds: UInt64 = 0
  /// Of `round`: bytes read, and those of the blocks that lived when it began.
  package var doneByteCount: UInt64 = 0
  package var totalByteCount: UInt64 = 0
  /// Blocks found damaged in `round`, and in all rounds.
  package var foundInRound: UInt64 = 0
  package var foundInAll: UInt64 = 0

  package init() {}
  package var isRunning: Bool { round > finishedRound }

  package func encode(into writer: inout ByteWriter) {
    for value in [
      round, finishedRound, beganMilliseconds, finishedMilliseconds, doneByteCount, totalByteCount,
      foundInRound, foundInAll,
    ] { writer.varint(value) }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    round = try reader.varint()
    finishedRound = try reader.varint()
    beganMilliseconds = try reader.varint()
    finishedMilliseconds = try reader.varint()
    doneByteCount = try reader.varint()
    totalByteCount = try reader.varint()
    foundInRound = try reader.varint()
    foundInAll = try reader.varint()
  }
}

/// Some of a device's blocks that are wrong. Each hello goes on where the one before ended, until all were told; then from
/// the first.
package struct DeviceDamage: Hashable, Sendable, WireValue {
  package static let keyLimit = 64

  package var device: DeviceID
  /// Known to be wrong by the device itself; at most ``keyLimit``, as of the others.
  package var damaged: [BlockKey]
  /// A reader found them wrong though they are as their checksums say.
  package var suspected: [BlockKey]

  package init(device: DeviceID, damaged: [BlockKey], suspected: [BlockKey]) {
    self.device = device
    self.damaged = damaged
    self.suspected = suspected
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(device)
    writer.list(damaged)
    writer.list(suspected)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    device = try reader.value()
    damaged = try reader.list(limit: Self.keyLimit)
    suspected = try reader.list(limit: Self.keyLimit)
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
  /// Of the devices that have any.
  package var damage: [DeviceDamage]

  package init(
    clusterID: UInt64, node: NodeID, name: String, host: String, port: UInt16, domain: [String],
    devices: [DeviceReport], highestEpoch: UInt64, corruptBlocks: UInt64,
    damage: [DeviceDamage] = []
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
    self.damage = damage
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
    writer.list(damage)
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
    guard highestEpoch < 1 << 62 else { throw .invalid("epoch") }
    corruptBlocks = try reader.varint()
    damage = try reader.list()
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
