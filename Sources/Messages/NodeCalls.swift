/// What a storage node answers. Methods 256 ... 511.
package import Cluster
package import Wire

/// What a block's header records besides its place in the volume.
package struct BlockDescription: Hashable, Sendable, WireValue {
  package var key: BlockKey
  package var layout: StripeLayout
  /// For links: stripes 0 ..< this were acknowledged when the block was written. 0 for data.
  package var acknowledged: UInt64
  /// For links the leader's epoch, for data the epoch of the cluster map at the grant.
  package var epoch: UInt64

  package init(key: BlockKey, layout: StripeLayout, acknowledged: UInt64, epoch: UInt64) {
    self.key = key
    self.layout = layout
    self.acknowledged = acknowledged
    self.epoch = epoch
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(key)
    writer.value(layout)
    writer.varint(acknowledged)
    writer.varint(epoch)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    key = try reader.value()
    layout = try reader.value()
    acknowledged = try reader.varint()
    epoch = try reader.varint()
  }
}

/// CRC32C of each 4 KiB unit, as fixed 32-bit numbers.
package struct UnitChecksums: Equatable, Sendable, WireValue {
  package var values: [UInt32]
  package init(_ values: [UInt32]) { self.values = values }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(values.count)
    values.withUnsafeBytes { writer.raw($0) }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    values = try reader.fixed32(count: try reader.count(limit: 256))
  }
}

/// What lets a write in: for data a signed grant, for links and checkpoints the leader's epoch.
package enum WriteRight: Sendable, WireValue {
  case grant(SignedGrant)
  case leader(epoch: UInt64)

  package func encode(into writer: inout ByteWriter) {
    switch self {
    case .grant(let grant):
      writer.fixed(UInt8(0))
      writer.value(grant)
    case .leader(let epoch):
      writer.fixed(UInt8(1))
      writer.varint(epoch)
    }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    switch try reader.fixed(UInt8.self) {
    case 0: self = .grant(try reader.value())
    case 1: self = .leader(epoch: try reader.varint())
    default: throw .invalid("right")
    }
  }
}

/// Stores one block; the body is its payload (`layout.blockByteCount` bytes). Answered when it is on stable
/// storage, and everything before it in its volume too. Sending the same block again is answered "done" when what is there
/// is whole, and mends it when it is damaged. A block that a reader found wrong under right checksums (``ReportDamage``)
/// gives way to other bytes too.
///
/// Refused: badGrant, staleEpoch, blockExists, deviceFull, deviceFailed, noSuchDevice, corrupt (the body
/// does not match `checksums`).
package struct WriteBlock: Call {
  package static let method: UInt16 = 256
  package typealias Answer = Done
  package var device: DeviceID
  package var right: WriteRight
  package var block: BlockDescription
  package var checksums: UnitChecksums

  package init(
    device: DeviceID, right: WriteRight, block: BlockDescription, checksums: UnitChecksums
  ) {
    self.device = device
    self.right = right
    self.block = block
    self.checksums = checksums
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(device)
    writer.value(right)
    writer.value(block)
    writer.value(checksums)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    device = try reader.value()
    right = try reader.value()
    block = try reader.value()
    checksums = try reader.value()
  }
}

/// Reads a range of one block. The body of the answer is the bytes; the node has verified them against the
/// header's checksums and sends those along.
///
/// Refused: noSuchBlock, corrupt, deviceFailed, noSuchDevice, invalidRange.
package struct ReadBlock: Call {
  package static let method: UInt16 = 257
  package var device: DeviceID
  package var key: BlockKey
  /// Multiples of 4096; `byteCount` 0 asks for the description alone.
  package var offset: UInt32
  package var byteCount: UInt32

  package init(device: DeviceID, key: BlockKey, offset: Int, byteCount: Int) {
    self.device = device
    self.key = key
    self.offset = UInt32(offset)
    self.byteCount = UInt32(byteCount)
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(device)
    writer.value(key)
    writer.varint(offset)
    writer.varint(byteCount)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    device = try reader.value()
    key = try reader.value()
    offset = try reader.varint32()
    byteCount = try reader.varint32()
  }

  package struct Answer: WireValue {
    package var block: BlockDescription
    /// Of the units in the body.
    package var checksums: UnitChecksums
    package init(block: BlockDescription, checksums: UnitChecksums) {
      self.block = block
      self.checksums = checksums
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(block)
      writer.value(checksums)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      block = try reader.value()
      checksums = try reader.value()
    }
  }
}

/// A shard as one device has it.
package struct ShardListing: Sendable, WireValue {
  package var shard: ShardKey
  /// Ascending by stripe. Unreadable ones are left out.
  package var blocks: [Entry]

  package struct Entry: Sendable, WireValue, Equatable {
    package var stripe: UInt64
    package var layout: StripeLayout
    package var acknowledged: UInt64
    package init(stripe: UInt64, layout: StripeLayout, acknowledged: UInt64) {
      self.stripe = stripe
      self.layout = layout
      self.acknowledged = acknowledged
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(stripe)
      writer.value(layout)
      writer.varint(acknowledged)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      stripe = try reader.varint()
      layout = try reader.value()
      acknowledged = try reader.varint()
    }
  }
  package init(shard: ShardKey, blocks: [Entry]) {
    self.shard = shard
    self.blocks = blocks
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(shard)
    writer.list(blocks)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    shard = try reader.value()
    blocks = try reader.list()
  }
}

/// Raises the node's highest leader epoch for one container generation on one device, durably and with no lower-epoch write of it
/// in flight, then lists what that device holds of it. From then on writes below `epoch` are refused.
///
/// Refused: staleEpoch when the node has seen a higher one; noSuchDevice; deviceFailed.
package struct FenceShard: Call {
  package static let method: UInt16 = 258
  package typealias Answer = ShardListing
  package var device: DeviceID
  package var shard: ShardKey
  package var epoch: UInt64

  package init(device: DeviceID, shard: ShardKey, epoch: UInt64) {
    self.device = device
    self.shard = shard
    self.epoch = epoch
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(device)
    writer.value(shard)
    writer.varint(epoch)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    device = try reader.value()
    shard = try reader.value()
    epoch = try reader.varint()
  }
}

/// Lists one shard without fencing.
package struct ListShard: Call {
  package static let method: UInt16 = 259
  package typealias Answer = ShardListing
  package var device: DeviceID
  package var shard: ShardKey
  package init(device: DeviceID, shard: ShardKey) {
    self.device = device
    self.shard = shard
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(device)
    writer.value(shard)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    device = try reader.value()
    shard = try reader.value()
  }
}

/// Drops every block of the shards, durably, and returns their space. Shards that are not there count as done.
/// Refused: staleEpoch.
package struct DeleteShards: Call {
  package static let method: UInt16 = 260
  package typealias Answer = Done
  package var device: DeviceID
  package var epoch: UInt64
  package var shards: [ShardKey]
  package init(device: DeviceID, epoch: UInt64, shards: [ShardKey]) {
    self.device = device
    self.epoch = epoch
    self.shards = shards
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(device)
    writer.varint(epoch)
    writer.list(shards)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    device = try reader.value()
    epoch = try reader.varint()
    shards = try reader.list(limit: 1 << 16)
  }
}

/// Drops single stripes of a shard: what a writer left unregistered when its grant ended.
/// Refused: staleEpoch.
package struct DeleteStripes: Call {
  package static let method: UInt16 = 261
  package typealias Answer = Done
  package var device: DeviceID
  package var epoch: UInt64
  package var shard: ShardKey
  package var stripes: [UInt64]
  package init(device: DeviceID, epoch: UInt64, shard: ShardKey, stripes: [UInt64]) {
    self.device = device
    self.epoch = epoch
    self.shard = shard
    self.stripes = stripes
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(device)
    writer.varint(epoch)
    writer.value(shard)
    writer.list(stripes)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    device = try reader.value()
    epoch = try reader.varint()
    shard = try reader.value()
    stripes = try reader.list(limit: 1 << 16)
  }
}

/// The file arbiter's lease, kept by the nodes: the node accepts when `epoch` is at least the highest it has seen (durably
/// raised before the answer), and keeps the newest root it was shown (durably). `root` empty: only the lease.
///
/// Refused: staleEpoch; failed, when the node belongs to another cluster, or to any and is shown the root of one that is
/// only being founded.
package struct HoldLease: Call {
  package static let method: UInt16 = 262
  /// The node joins it for ever, once it keeps the root. 0: it joins none.
  package var clusterID: UInt64
  package var epoch: UInt64
  /// Milliseconds from the receipt for which the node refuses no one but reports this holder.
  package var leaseMilliseconds: UInt32
  package var holder: String
  /// Version and bytes of a root record to keep when newer than the one kept.
  package var rootVersion: UInt64
  package var root: [UInt8]

  package init(
    clusterID: UInt64, epoch: UInt64, leaseMilliseconds: UInt32, holder: String,
    rootVersion: UInt64, root: [UInt8]
  ) {
    self.clusterID = clusterID
    self.epoch = epoch
    self.leaseMilliseconds = leaseMilliseconds
    self.holder = holder
    self.rootVersion = rootVersion
    self.root = root
  }
  package func encode(into writer: inout ByteWriter) {
    writer.fixed(clusterID)
    writer.varint(epoch)
    writer.varint(leaseMilliseconds)
    writer.string(holder)
    writer.varint(rootVersion)
    writer.blob(root)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    clusterID = try reader.fixed()
    epoch = try reader.varint()
    leaseMilliseconds = try reader.varint32()
    holder = try reader.string(limit: 256)
    rootVersion = try reader.varint()
    root = try reader.blob(limit: 1 << 20)
  }

  package struct Answer: WireValue {
    /// The cluster that the node belongs to; 0: none yet, and what root it keeps is of a founding under way, or of one
    /// that came to nothing.
    package var clusterID: UInt64
    package var highestEpoch: UInt64
    /// The newest root this node keeps; version 0 and no bytes when it has none.
    package var rootVersion: UInt64
    package var root: [UInt8]
    package init(clusterID: UInt64, highestEpoch: UInt64, rootVersion: UInt64, root: [UInt8]) {
      self.clusterID = clusterID
      self.highestEpoch = highestEpoch
      self.rootVersion = rootVersion
      self.root = root
    }
    package func encode(into writer: inout ByteWriter) {
      writer.fixed(clusterID)
      writer.varint(highestEpoch)
      writer.varint(rootVersion)
      writer.blob(root)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      clusterID = try reader.fixed()
      highestEpoch = try reader.varint()
      rootVersion = try reader.varint()
      root = try reader.blob(limit: 1 << 20)
      // Both are counted up from.
      guard highestEpoch < 1 << 62, rootVersion < 1 << 62 else { throw .invalid("epoch") }
    }
  }
}

/// Every shard a device holds, in key order, a page at a time.
package struct Inventory: Call {
  package static let method: UInt16 = 263
  package var device: DeviceID
  /// Exclusive; nil for the start.
  package var after: ShardKey?
  package init(device: DeviceID, after: ShardKey?) {
    self.device = device
    self.after = after
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(device)
    writer.optional(after)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    device = try reader.value()
    after = try reader.optional()
  }

  package struct Answer: WireValue {
    package var shards: [Entry]
    package var isComplete: Bool
    package init(shards: [Entry], isComplete: Bool) {
      self.shards = shards
      self.isComplete = isComplete
    }
    package func encode(into writer: inout ByteWriter) {
      writer.list(shards)
      writer.bool(isComplete)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      shards = try reader.list()
      isComplete = try reader.bool()
    }
  }
  package struct Entry: WireValue {
    package var shard: ShardKey
    package var stripes: StripeTally
    /// On the device, headers included.
    package var storedByteCount: UInt64
    package init(shard: ShardKey, stripes: StripeTally, storedByteCount: UInt64) {
      self.shard = shard
      self.stripes = stripes
      self.storedByteCount = storedByteCount
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(shard)
      writer.value(stripes)
      writer.varint(storedByteCount)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      shard = try reader.value()
      stripes = try reader.value()
      storedByteCount = try reader.varint()
    }
  }
}

/// A reader found blocks of a device wrong. The node reads each itself before it believes: what is wrong is known to be
/// damaged from then on, what is as its checksums say is suspected. Both are told to the coordinators (``Hello``). Blocks
/// that are not there, and keys beyond what it can keep, are passed over.
///
/// Refused: noSuchDevice; failed when they cannot be read now.
package struct ReportDamage: Call {
  package static let method: UInt16 = 266
  package var device: DeviceID
  /// At most ``keyLimit``.
  package var keys: [BlockKey]
  package static let keyLimit = 64

  package init(device: DeviceID, keys: [BlockKey]) {
    self.device = device
    self.keys = keys
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(device)
    writer.list(keys)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    device = try reader.value()
    keys = try reader.list(limit: Self.keyLimit)
  }

  package struct Answer: Equatable, WireValue {
    package var damagedCount: UInt64
    package var suspectedCount: UInt64
    package init(damagedCount: UInt64, suspectedCount: UInt64) {
      self.damagedCount = damagedCount
      self.suspectedCount = suspectedCount
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(damagedCount)
      writer.varint(suspectedCount)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      damagedCount = try reader.varint()
      suspectedCount = try reader.varint()
    }
  }
}

/// How the scrubs of a node's devices stand, ascending by device.
package struct ScrubStanding: Sendable, WireValue {
  package struct Entry: Equatable, Sendable, WireValue {
    package var device: DeviceID
    package var report: ScrubReport
    /// Blocks known to be wrong now.
    package var damagedCount: UInt64
    /// It takes no writes, and its scrub stands still.
    package var isFailed: Bool

    package init(device: DeviceID, report: ScrubReport, damagedCount: UInt64, isFailed: Bool) {
      self.device = device
      self.report = report
      self.damagedCount = damagedCount
      self.isFailed = isFailed
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(device)
      writer.value(report)
      writer.varint(damagedCount)
      writer.bool(isFailed)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      device = try reader.value()
      report = try reader.value()
      damagedCount = try reader.varint()
      isFailed = try reader.bool()
    }
  }
  package var devices: [Entry]

  package init(_ devices: [Entry]) { self.devices = devices }
  package func encode(into writer: inout ByteWriter) { writer.list(devices) }
  package init(from reader: inout ByteReader) throws(ValueError) { devices = try reader.list() }
}

/// Begins a round of the scrub now, from the first block, in the place of one under way. Devices that take no writes are
/// left out of all, and refused when named.
///
/// Refused: noSuchDevice, deviceFailed.
package struct ScrubNow: Call {
  package static let method: UInt16 = 267
  package typealias Answer = ScrubStanding
  /// Nil: all of the node.
  package var device: DeviceID?
  /// Bytes a second for each device; 0: as many as its settings allow.
  package var byteRate: UInt64

  package init(device: DeviceID?, byteRate: UInt64) {
    self.device = device
    self.byteRate = byteRate
  }
  package func encode(into writer: inout ByteWriter) {
    writer.optional(device)
    writer.varint(byteRate)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    device = try reader.optional()
    byteRate = try reader.varint()
  }
}

/// How the scrubs stand. Refused: noSuchDevice.
package struct GetScrub: Call {
  package static let method: UInt16 = 268
  package typealias Answer = ScrubStanding
  /// Nil: all of the node.
  package var device: DeviceID?

  package init(device: DeviceID?) { self.device = device }
  package func encode(into writer: inout ByteWriter) { writer.optional(device) }
  package init(from reader: inout ByteReader) throws(ValueError) {
    device = try reader.optional()
  }
}
