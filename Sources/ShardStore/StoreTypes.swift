package import Cluster

/// What a block's record says of it besides its bytes.
package struct StoredBlock: Hashable, Sendable {
  package var key: BlockKey
  package var layout: StripeLayout
  /// For links: stripes 0 ..< this were acknowledged when the block was written. 0 for data.
  package var acknowledged: UInt64
  /// For links and checkpoints the leader's epoch, for data that of the cluster map at the grant.
  package var epoch: UInt64

  package init(key: BlockKey, layout: StripeLayout, acknowledged: UInt64, epoch: UInt64) {
    self.key = key
    self.layout = layout
    self.acknowledged = acknowledged
    self.epoch = epoch
  }

  /// Bytes of its record: header and payload.
  package var recordByteCount: Int { RecordHeader.byteCount + layout.blockByteCount }
}

/// A block of a listed shard.
package struct ListedBlock: Hashable, Sendable {
  package var stripe: UInt64
  package var layout: StripeLayout
  package var acknowledged: UInt64
}

/// One line of the inventory.
package struct ShardSummary: Hashable, Sendable {
  package var shard: ShardKey
  package var stripes = StripeTally()
  /// On the device, headers included.
  package var storedByteCount: UInt64
}

/// Whether the store uses something that not every file system has.
package enum FeatureUse: String, CaseIterable, Sendable {
  /// A device without it is refused.
  case required
  /// Without it the store works another way and says so (``ShardStore/fallbacks``).
  case preferred
  case off
}

/// How one device is to be used.
package struct StoreSettings: Equatable, Sendable {
  /// Bytes the store may take, headers and index included; the file system's free space may allow less.
  package var capacity: UInt64
  /// Bytes of a volume file. One is made larger when a record needs it.
  package var volumeByteCount: UInt64
  /// Bytes only links, checkpoints, deletes, fences and compaction may use.
  package var reserveByteCount: UInt64
  /// Concurrent writes to the open volume; small records waiting behind them go out together. Four times as many where
  /// each is as large as they become anyway.
  package var concurrentWrites = 8
  /// Records that lie one after the other are written together up to this many bytes; a larger one goes alone.
  package var largestAppendByteCount: UInt64 = 512 << 10
  /// And up to this many of them.
  package var largestAppendRecordCount = 128
  /// Volumes past the page cache (O_DIRECT); without it through it.
  package var directIO = FeatureUse.preferred
  /// The space of a volume set aside when it is made (fallocate); without it the file is sparse, and takes its space
  /// write by write.
  package var preallocation = FeatureUse.preferred
  /// Payloads of dead records are punched out at once; if not, only compaction returns their space.
  package var punchesDeadRanges = true
  /// Index entries kept in memory before they are flushed as a run; each takes about 150 bytes.
  package var indexEntryLimit = 32_768
  /// Appended bytes after which the index is flushed even when it is small, so that recovery reads few headers.
  package var unindexedByteLimit: UInt64 = 4 << 30
  /// A full volume is compacted when less than this percentage of it is alive.
  package var compactionPercent: UInt64 = 25
  /// The device is a rotating disk: reads that wait are done in the order of their places, neighbours together.
  package var isRotational = false
  /// Reads that a rotating disk has at a time.
  package var rotationalDepth = 4
  /// Every living block is read again in this time; 0: only when it is asked for.
  package var scrubInterval = Duration.zero
  /// What a daemon takes for it where nothing else is said.
  package static let usualScrubInterval = Duration.seconds(14 * 86400)
  /// Bytes a second that a round of the scrub takes at most.
  package var scrubByteRate = usualScrubByteRate
  package static let usualScrubByteRate: UInt64 = 64 << 20
  /// Volume files kept open at a time.
  package var openFileLimit = 128

  /// Whether a daemon was told how to scrub.
  package var scrubsUnusually: Bool {
    scrubInterval != Self.usualScrubInterval || scrubByteRate != Self.usualScrubByteRate
  }

  /// A new device with less has no room for ``leastReserve``, four times which it must hold.
  package static let leastCapacity: UInt64 = 4 * leastReserve
  /// Of this the log gets the place of 384 small stripes, what a busy coordinator writes while it makes a checkpoint;
  /// the beginnings of links 1 MiB, checkpoints two pieces, and compaction a full record.
  package static let leastReserve: UInt64 = 8 << 20

  /// - Parameter reserveByteCount: by default the larger of 64 MiB and 2 %, but at most a quarter.
  package init(
    capacity: UInt64, volumeByteCount: UInt64 = 256 << 20, reserveByteCount: UInt64? = nil
  ) {
    self.capacity = capacity
    self.volumeByteCount = max(16 << 10, volumeByteCount / 4096 * 4096)
    self.reserveByteCount =
      min(reserveByteCount ?? max(64 << 20, capacity / 50), capacity / 4)
  }
}

/// Bytes and blocks of one device.
package struct StoreUsage: Equatable, Sendable {
  /// What may be used: the configured capacity, or less when the file system has less.
  package var capacity: UInt64
  /// Live blocks, headers included.
  package var usedByteCount: UInt64
  /// Of these, in blocks of links and checkpoints.
  package var linkByteCount: UInt64
  /// All that the store occupies: live and dead records, volume headers, index.
  package var occupiedByteCount: UInt64
  /// What data may still take; the reserve is not in it.
  package var freeByteCount: UInt64
  /// What the log may still take: some of the reserve is in it.
  package var linkFreeByteCount: UInt64
  package var reserveByteCount: UInt64
  package var blockCount: UInt64
}

/// Whether the device may be trusted with new bytes.
package enum StoreState: Equatable, Sendable {
  case healthy
  /// Nothing is acknowledged from it again; reads are still tried.
  case retired(reason: String)
}

/// What opening a device found.
package struct RecoveryReport: Equatable, Sendable {
  /// One damaged place.
  package struct Finding: Equatable, Sendable, CustomStringConvertible {
    /// The file, relative to the device's directory.
    package var file: String
    /// In bytes.
    package var offset: UInt64
    package var what: String
    package var description: String { "\(file) at \(offset): \(what)" }
  }

  /// Why the index was made anew from the volumes; nil when it was whole.
  package var rebuildReason: String?
  /// Records read because no run covered them.
  package var scannedRecordCount = 0
  /// Records once known durable of which nothing readable is left; their blocks are not listed.
  package var lostRecordCount: UInt64 = 0
  /// Unproven records cut off at the end.
  package var cutRecordCount = 0
  /// Volumes the index knew whose files are gone, with live blocks in them.
  package var missingVolumeCount = 0
  package var readErrorCount = 0
  /// At most ``findingLimit``, in order of place.
  package var findings: [Finding] = []
  package static let findingLimit = 1000

  package init() {}

  /// Nothing was wrong, not even an unproven tail.
  package var isClean: Bool {
    lostRecordCount == 0 && cutRecordCount == 0 && missingVolumeCount == 0 && readErrorCount == 0
      && rebuildReason == nil && findings.isEmpty
  }

  mutating func note(_ file: String, _ offset: UInt64, _ what: String) {
    if findings.count < Self.findingLimit {
      findings.append(Finding(file: file, offset: offset, what: what))
    }
  }
}

/// Sizes that whoever hands blocks to the store may want to know.
package enum RecordLayout {
  /// Of the header before each payload.
  package static let headerByteCount = 4096
}
