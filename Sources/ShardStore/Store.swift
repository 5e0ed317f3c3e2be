package import Cluster
internal import Coding
internal import Glibc
internal import Ring

/// The storage engine of one device: one directory with volumes to which blocks are appended, and an index of them.
///
/// What a device directory holds (docs/formats-volume.md, to the byte):
///
///     identity          whose device this is                           DeviceIdentity.swift
///     lock              flock: one process at a time
///     scrub             how far the scrub is and what it found           Scrub/ScrubNote.swift
///     retired           why nothing is written here any more, if so
///     volumes/N-ID      preallocated files of records                   Volume.swift, RecordHeader.swift
///     index/manifest    which runs there are and what they cover       Index/Manifest.swift
///     index/run-N       sorted, immutable index entries                Index/Run.swift
///
/// Where to read on:
///
///     Store+Open        opening, closing
///     Store+Recovery    what is read at opening, and what is believed
///     Store+Append      sequence numbers, gathered writes, group commit, retirement
///     Store+Room        capacity, reserve, volumes made ahead of need
///     Store+Write       write-once blocks
///     Store+Read        ranges, verified
///     Store+Fence       epochs
///     Store+Delete      deletes, and giving space back
///     Store+List        listing, inventory, usage
///     Store+Compact     copying the living out of volumes that are mostly dead
///     Store+Index       flushing and merging the index
///     Scrub/            what is known to be wrong until it is mended or deleted, and looking for more
///     VolumeScanner     walking a volume's records past damage
///
/// The volumes are the truth. Records carry a sequence that rises by one; a record is durable once it and everything
/// before it is synced, and only then do the index, a listing or an acknowledgement know of it.
///
/// Loop-confined.
package final class ShardStore: @unchecked Sendable {
  package let path: String
  package let settings: StoreSettings
  let driver: any Driver
  var identity: DeviceIdentity
  let lockFile: File
  /// By its own numbers: what the path led to when it was locked.
  private let lockStatus: FileStatus

  package internal(set) var state = StoreState.healthy
  /// Why a write or a sync failed, now or before the device was opened; nil when none did. What a device in another
  /// ``state`` than healthy suffers from without this is over when it can be opened for writing.
  package internal(set) var retiredForGood: String?
  /// Told when that happens after opening.
  package var onRetirement: ((String) -> Void)?
  /// What opening found.
  package internal(set) var recovery = RecoveryReport()
  var isClosing = false

  let volumes: VolumeSet
  let index: BlockIndex
  var manifest: Manifest
  let gates = ShardGates()
  /// Of a rotating disk.
  let sweptReads: SweptReads?
  var headers = HeaderCache(limit: 512)

  // Appending (Store+Append).
  /// The open volume; nil before the first append and while the next one is made.
  var open: Volume?
  /// Made ahead of need, empty.
  var prepared: Volume?
  var rotation: Gate?
  var preparation: Gate?
  var nextVolume: UInt32 = 1
  var volumesInMaking: Set<UInt32> = []
  var nextSequence: UInt64 = 1
  /// Every record up to this one is durable and applied.
  var durableSequence: UInt64 = 0
  var unwritten: [Append] = []
  var unwrittenHead = 0
  var unwrittenByteCount: UInt64 = 0
  var uncommitted: [Append] = []
  var uncommittedHead = 0
  var writesInFlight = 0
  var isPumpScheduled = false
  var isSyncing = false
  let idle = WaitQueue()

  // Blocks being written (Store+Write).
  var writing: [BlockKey: WriteInFlight] = [:]
  /// Blocks that were found wrong; they may be written anew.
  var damage = DamagedBlocks()
  /// Reads that are asked for and not answered; background work gives way to them.
  var readsUnderWay = 0
  /// Reads that met wrong bytes since opening.
  package internal(set) var corruptReadCount: UInt64 = 0

  /// The highest leader epoch this device has seen, durable or in a record under way.
  package internal(set) var highestEpoch: UInt64 = 0

  /// Files of volumes that the manifest says were removed; unlinked once it has proved right (Store+Recovery).
  var removedVolumes: [String] = []

  // Room (Store+Room).
  /// Bytes of the file system's free space when last asked, less what was allocated since.
  var freeSpace: UInt64 = .max
  var freeSpaceTime: Duration?
  /// Of the file system, used or not.
  var fileSystemByteCount: UInt64 = .max
  /// What the store occupied when it asked for the free space.
  var occupiedAtFreeSpace: UInt64 = 0
  /// Whether volumes get their space when they are made.
  var preallocates: Bool
  /// Whether payloads of dead records are punched out.
  var punches: Bool

  /// What ``settings`` prefer and the file system turned out not to have, a line for people each.
  package internal(set) var fallbacks: [String] = []

  // Scrub (Scrub/).
  var scrubNote: ScrubNote
  var scrubNoteChanged = false
  /// Whether the note of earlier sessions has been read, or is not there.
  var isScrubRecalled = false
  var scrubNoteTime: Duration?
  var isWritingScrubNote = false
  /// Bytes a second of the round under way, where it was asked for.
  var scrubRate: UInt64?
  var scrubTask: SpawnedTask?
  var scrubTaskCount = 0
  /// The file system refused direct I/O to the scrub too.
  var scrubIsBuffered = false
  let scrubEnded = WaitQueue()

  // Background work.
  var pendingPunches = 0
  let punchesDone = WaitQueue()
  var isFlushing = false
  var isFlushScheduled = false
  var isCompacting = false
  var backgroundTasks = 0
  /// Bytes appended since the last flush of the index.
  var unindexedByteCount: UInt64 = 0

  package var device: DeviceID { identity.device }
  package var node: NodeID { identity.node }
  /// 0 while the device knows none.
  package var cluster: UInt64 { identity.cluster }

  init(
    path: String, settings: StoreSettings, identity: DeviceIdentity, lockFile: File,
    lockStatus: FileStatus, driver: any Driver
  ) {
    self.path = path
    self.settings = settings
    self.identity = identity
    self.lockFile = lockFile
    self.lockStatus = lockStatus
    self.driver = driver
    volumes = VolumeSet(path: path, settings: settings, driver: driver)
    preallocates = settings.preallocation != .off
    punches = settings.punchesDeadRanges
    sweptReads =
      settings.isRotational
      ? SweptReads(depth: settings.rotationalDepth, pool: driver.buffers) : nil
    index = BlockIndex(path: path, device: identity.device, driver: driver)
    manifest = Manifest(device: identity.device)
    scrubNote = ScrubNote(device: identity.device)
    volumes.onBuffered = { [unowned self] in
      fallbacks.append("no direct I/O here: volumes are read and written through the page cache")
    }
  }

  /// Throws when nothing may be written.
  func checkWritable() throws(StoreError) {
    if isClosing { throw .closed }
    if case .retired(let reason) = state { throw .deviceFailed(reason) }
  }

  /// Whether the directory is still where it was. When it was deleted, moved or mounted over, files that are open go on
  /// to take writes and syncs that nobody will find after the next start, so the device is retired until it is opened
  /// again. To be called now and then.
  package func checkPath() async {
    guard state == .healthy, !isClosing else { return }
    do throws(RingError) {
      let now = try await driver.status(path + "/lock", followLinks: false)
      guard now.inode != lockStatus.inode || now.deviceNumber != lockStatus.deviceNumber else {
        return
      }
    } catch {
      // Anything but its absence says nothing about where it is.
      guard error.errno == ENOENT || error.errno == ENOTDIR else { return }
    }
    retire("\(path) is another directory, or gone", isForGood: false, isPathOurs: false)
  }

  /// Runs background work that ``close()`` waits for.
  func background(_ name: String, _ work: @escaping @Sendable () async -> Void) {
    backgroundTasks += 1
    driver.spawn(name) {
      await work()
      self.backgroundTasks -= 1
      self.idle.wakeAll()
    }
  }

  /// Translates what the index met. Runs are checked when the store opens, so this is rot that came since. The device
  /// is retired, as nothing it says about its blocks can be relied on, but only until it is opened again: the manifest
  /// goes, and the index is then made anew.
  func failed(_ damage: IndexDamage) -> StoreError {
    retire("index: \(damage.what)", isForGood: false)
    return .deviceFailed("index: \(damage.what)")
  }

  func find(_ key: BlockKey) async throws(StoreError) -> Place? {
    do throws(IndexDamage) { return try await index.find(key) } catch { throw failed(error) }
  }

  func blocks(of shard: ShardKey) async throws(StoreError) -> [IndexEntry] {
    do throws(IndexDamage) { return try await index.blocks(of: shard) } catch {
      throw failed(error)
    }
  }
}
