import Glibc
internal import Ring

/// A disk with one file system on it, kept in memory.
///
/// # Fault model
///
/// What code may rely on, and no more:
///
/// - **Bytes.** A finished write is seen by every later read. It is durable only when a
///   `synchronize` of that file, submitted after the write had finished, has succeeded. The same
///   holds for a file's size and its allocation; `dataOnly` makes no difference to those, only to
///   mode and time.
/// - **Power loss** (``crash()``): each unsynced change of each file is kept, lost, or torn at
///   sectors of 512 bytes, in any combination and any order; of a sector written several times any
///   version may stay. A size may stay at any value it had since the last sync; where it grew and
///   the bytes were lost, there are zeros, or what was there before a truncate. Zeroing (truncate,
///   punch hole) happens to whole pages of 4 KiB or not at all. Writes under way count as unsynced,
///   or never began.
/// - **Names.** Made, removed and renamed names are durable only when the directory that holds them
///   (for a rename: that holds the new name) was synced afterwards. Syncing a new file, or the
///   directory a file was moved out of, makes the name durable with luck. At a power loss each
///   change of a name is kept or lost; a rename is one piece; a change is never kept without
///   earlier changes of the same name or file. A directory's own name needs a sync of its parent.
/// - **A killed process** loses no finished operation. One under way has happened, or not, or (a
///   write) in part.
/// - **O_DIRECT** wants offset, length and memory aligned to 4096 (-EINVAL). It is no promise of
///   durability.
/// - **Errors by plan** (``faults``): any errno for any operation, delays, short transfers, lost
///   and misdirected writes, syncs that lie. A failed write may have landed in part. After a failed
///   sync unsynced bytes reached the medium or not, by chance, and no later sync brings them; reads
///   may still show them until a crash.
/// - **Decay** by hand: ``flipBit(_:bit:)``, ``truncate(_:to:)``, ``overwrite(_:at:with:)``,
///   ``makeUnreadable(_:_:)``; or at a place that chance picks: ``decay(_:under:_:)``.
/// - **Short transfers** without any fault: ``shortTransfersPerThousand``.
///
/// Operations under way at the same time finish in any order. Permissions are not checked:
/// everybody is root.
package final class SimulatedDisk: @unchecked Sendable {
  // Loop-confined.
  package let name: String
  /// What `status` shows as the device's number.
  package let number: UInt64
  package var speed = DiskSpeed.nvme
  /// Bytes of files; a write past it is -ENOSPC.
  package var capacityByteCount = 1 << 40
  /// Every change is -EROFS.
  package var isReadOnly = false
  /// Whether O_DIRECT is taken; without it, it is -EINVAL.
  package var hasDirectIO = true
  /// What `fileSystem` shows as its type; ext4's.
  package var fileSystemType: UInt64 = 0xEF53
  /// Of a thousand reads and writes over 4 KiB, how many move only a part, in whole 4 KiB.
  package var shortTransfersPerThousand = 10
  /// Asked once for each operation when it is submitted.
  package var faults: ((DiskAccess) -> DiskFault)?
  /// Operations so far.
  package private(set) var accessCount = 0

  let world: SimulatedWorld
  private(set) var root: Inode
  var journal = NameJournal()
  var chance: SimulationRandom
  let account = SpaceAccount()
  private var nextInode: UInt64 = 2

  init(name: String, number: UInt64, world: SimulatedWorld) {
    self.name = name
    self.number = number
    self.world = world
    chance = world.random(named: "disk/\(name)")
    root = Self.emptyRoot(world)
  }

  private static func emptyRoot(_ world: SimulatedWorld) -> Inode {
    let root = Inode(
      number: 1, body: .directory(DirectoryBody()),
      attributes: Inode.Attributes(mode: 0o755, modified: world.wallNanoseconds))
    root.nameCount = 1
    return root
  }

  // MARK: Power

  /// Loses what the fault model lets a power loss lose. Living processes that use the disk are killed
  /// first. See ``SimulatedMachine/powerCut()`` for a whole machine.
  package func crash() {
    for process in world.users(of: self) { process.kill() }
    world.note("disk/\(name)", "crash")
    world.count(.diskCrash)
    losePower()
  }

  func losePower() {
    journal.crash(&chance)
    account.usedPageCount = 0
    settle(root)
  }

  private func settle(_ inode: Inode) {
    inode.nameCount = 1
    inode.openCount = 0
    inode.lockHolder = nil
    if chance.chance(1, in: 2) { inode.durableAttributes = inode.attributes }
    inode.attributes = inode.durableAttributes
    if let content = inode.file {
      content.crash(&chance)
      content.startCounting()
    }
    if let directory = inode.directory {
      directory.current = directory.durable
      for entry in directory.sorted { settle(entry.inode) }
    }
  }

  /// The world is over: nothing is left here.
  func forget() {
    faults = nil
    journal = NameJournal()
    root = Self.emptyRoot(world)
  }

  // MARK: Making files

  func makeInode(_ body: Inode.Body, mode: UInt32) -> Inode {
    let inode = Inode(
      number: nextInode, body: body,
      attributes: Inode.Attributes(mode: mode & 0o7777, modified: world.wallNanoseconds))
    nextInode += 1
    return inode
  }

  /// A directory that is durable at once, with its name.
  func makeDurableDirectory(_ name: [UInt8], in parent: DirectoryBody) -> Inode {
    let inode = makeInode(.directory(DirectoryBody()), mode: 0o755)
    inode.nameCount = 1
    parent.current[name] = inode
    parent.durable[name] = inode
    return inode
  }

  // MARK: Space

  var freePageCount: Int { max(0, capacityByteCount / Page.byteCount - account.usedPageCount) }

  package var usedByteCount: Int { account.usedPageCount * Page.byteCount }

  // MARK: Judging an operation

  func judge(
    _ kind: DiskAccess.Kind, process: String, path: String, offset: UInt64 = 0, byteCount: Int = 0
  ) -> (fault: DiskFault, delay: Int64) {
    let access = DiskAccess(
      index: accessCount, kind: kind, process: process, path: path, offset: offset,
      byteCount: byteCount)
    accessCount += 1
    let fault = faults?(access) ?? .none
    var range = speed.metadata
    switch kind {
    case .read: range = speed.read
    case .write: range = speed.write
    case .synchronize: range = speed.synchronize
    default: break
    }
    let transfer = Int64(Double(byteCount) * 1e9 / Double(max(1, speed.bytesPerSecond)))
    let delay =
      (speed.tail.draw(chance.within(range), &chance) + transfer)
      .addingSaturated(fault.delay.saturatedNanoseconds)
    if let kind = Self.faultKind(fault, kind) {
      world.count(kind)
      world.note("disk/\(name)", "\(kind) at \(path) for \(process)")
    }
    if fault.delay > .zero { world.count(.slowOperation) }
    return (fault, delay)
  }

  private static func faultKind(_ fault: DiskFault, _ kind: DiskAccess.Kind) -> FaultKind? {
    if fault.errno != nil {
      switch kind {
      case .read: return .readError
      case .write, .allocate, .truncate: return .writeError
      case .synchronize: return .synchronizeError
      default: return .nameError
      }
    }
    if fault.isLost { return kind == .synchronize ? .lyingSynchronize : .lostWrite }
    return fault.misdirectedOffset != nil ? .misdirectedWrite : nil
  }

  /// How much of a transfer moves; with O_DIRECT whole blocks.
  func drawTransfer(_ byteCount: Int, _ fault: DiskFault, isDirect: Bool) -> Int {
    var count = byteCount
    if count > Page.byteCount, chance.chance(shortTransfersPerThousand, in: 1000) {
      count = (1 + chance.below((count - 1) / Page.byteCount)) * Page.byteCount
    }
    guard let limit = fault.byteLimit else { return count }
    return min(
      count, isDirect ? max(Page.byteCount, limit / Page.byteCount * Page.byteCount) : limit)
  }

  // MARK: Images

  /// What the disk holds now, as after a clean unmount; cheap, for pages are shared.
  ///
  /// - Parameter durableOnly: only what is certain to survive a crash now.
  package func image(durableOnly: Bool = false) -> DiskImage {
    DiskImage(root: copy(root, durableOnly: durableOnly, account: SpaceAccount()))
  }

  /// Replaces the disk by an empty one. No living process may use it.
  package func wipe() {
    load(DiskImage(root: Self.emptyRoot(world)))
    world.note("disk/\(name)", "wiped")
    world.count(.wipe)
  }

  /// Replaces everything by what `image` holds. No living process may use the disk.
  package func load(_ image: DiskImage) {
    precondition(world.users(of: self).allSatisfy { $0.descriptors.isEmpty })
    journal = NameJournal()
    account.usedPageCount = 0
    root = copy(image.root, durableOnly: false, account: account)
  }

  private func copy(_ inode: Inode, durableOnly: Bool, account: SpaceAccount) -> Inode {
    let body: Inode.Body
    switch inode.body {
    case .file(let content):
      body = .file(FileContent(copying: content, durableOnly: durableOnly, account: account))
    case .symbolicLink(let target): body = .symbolicLink(target)
    case .directory(let directory):
      let fresh = DirectoryBody()
      let entries = durableOnly ? directory.durable : directory.current
      for (name, child) in entries.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
        fresh.current[name] = copy(child, durableOnly: durableOnly, account: account)
      }
      fresh.durable = fresh.current
      body = .directory(fresh)
    }
    let made = Inode(
      number: inode.number, body: body,
      attributes: durableOnly ? inode.durableAttributes : inode.attributes)
    nextInode = max(nextInode, inode.number + 1)
    made.nameCount = 1
    made.unreadableSectors = inode.unreadableSectors
    return made
  }
}

/// A disk's files at one moment, to be loaded into disks of any world.
package struct DiskImage: @unchecked Sendable {
  // Sound: never changed after it was made; loading copies it.
  let root: Inode
}
