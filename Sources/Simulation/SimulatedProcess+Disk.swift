import Glibc
internal import Ring

/// The file operations. Each is judged by its disk's fault plan when it is submitted, takes its time,
/// and then has its effect and its answer at one moment.
extension SimulatedProcess {
  func dispatchToDisk(_ pending: PendingOperation) {
    switch pending.operation {
    case .open(let path, let flags, let mode):
      begin(pending, .open, path) { try self.open(path, flags, mode) }
    case .read(let descriptor, let slice, let offset):
      withFile(pending, descriptor) { self.read(pending, $0, slice, offset) }
    case .write(let descriptor, let slices, let offset):
      withFile(pending, descriptor) { self.write(pending, $0, slices, offset) }
    case .writeDurably(let descriptor, let slices, let offset):
      let wanted = Int32(clamping: slices.reduce(0) { $0 + $1.count })
      withFile(pending, descriptor) { file in
        self.write(pending, file, slices, offset) { written in
          if written == wanted {
            self.synchronize(pending, file, true, answer: written)
          } else {
            pending.finish(written)
          }
        }
      }
    case .synchronize(let descriptor, let dataOnly):
      withFile(pending, descriptor) { self.synchronize(pending, $0, dataOnly) }
    case .allocate(let descriptor, let mode, let offset, let byteCount):
      withFile(pending, descriptor) { file in
        self.begin(pending, .allocate, on: file, offset: offset, byteCount: 0) {
          try self.allocate(file, mode, offset, byteCount)
        }
      }
    case .truncate(let descriptor, let byteCount):
      withFile(pending, descriptor) { file in
        self.begin(pending, .truncate, on: file, offset: byteCount, byteCount: 0) {
          try self.truncate(file, byteCount)
        }
      }
    case .lock(let descriptor):
      withFile(pending, descriptor) { file in
        self.begin(pending, .lock, on: file, offset: 0, byteCount: 0) { file.lock() }
      }
    case .status(let path, let followLinks, let outcome):
      begin(pending, .status, path) {
        outcome.value = try self.status(path, followLinks)
        return 0
      }
    case .fileStatus(let descriptor, let outcome):
      withFile(pending, descriptor) { file in
        self.begin(pending, .status, on: file, offset: 0, byteCount: 0) {
          outcome.value = Self.status(of: file.inode, on: file.disk)
          return 0
        }
      }
    case .list(let path, let withStatus, let outcome):
      begin(pending, .list, path) {
        outcome.value = try self.list(path, withStatus)
        return 0
      }
    case .makeDirectory(let path, let mode):
      begin(pending, .makeDirectory, path) {
        try self.make(path, mode: mode) { .directory(DirectoryBody()) }
      }
    case .makeSymbolicLink(let path, let target):
      begin(pending, .link, path) {
        guard !target.isEmpty else { throw Refusal(ENOENT) }
        guard target.count < 4096 else { throw Refusal(ENAMETOOLONG) }
        return try self.make(path, mode: 0o777) { .symbolicLink(target) }
      }
    case .readSymbolicLink(let path, let outcome):
      begin(pending, .link, path) {
        let (_, inode) = try PathWalk(self.machine).existing(path, followLast: false)
        guard case .symbolicLink(let target) = inode.body else { throw Refusal(EINVAL) }
        outcome.value = target
        return 0
      }
    case .remove(let path, let isDirectory):
      begin(pending, .remove, path) { try self.remove(path, isDirectory) }
    case .rename(let from, let to, let exclusive):
      begin(pending, .rename, from) { try self.rename(from, to, exclusive) }
    case .setAttributes(let path, let mode, let modified):
      begin(pending, .attributes, path) { try self.setAttributes(path, mode, modified) }
    case .space(let path, let outcome):
      begin(pending, .space, path) {
        let disk = try PathWalk(self.machine).existing(path).0.disk
        outcome.value = FileSystemSpace(
          totalByteCount: UInt64(disk.capacityByteCount),
          freeByteCount: UInt64(disk.freePageCount * Page.byteCount))
        return 0
      }
    case .fileSystem(let path, let outcome):
      begin(pending, .space, path) {
        let disk = try PathWalk(self.machine).existing(path).0.disk
        outcome.value = FileSystemFacts(
          type: disk.fileSystemType, isReadOnly: disk.isReadOnly, isBlockDevice: false, major: 0,
          minor: UInt32(clamping: disk.number))
        return 0
      }
    default: refuseUnknown(pending)
    }
  }

  // MARK: Beginning and ending

  // Closures of several statements do not infer a typed throw; only `Refusal` is ever thrown.
  private typealias Effect = () throws -> Int32

  private func withFile(
    _ pending: PendingOperation, _ descriptor: Int32, _ body: (OpenFile) -> Void
  ) {
    switch descriptors[descriptor] {
    case .file(let file): body(file)
    case .none:
      // Logs of a simulated process: kept for the test to look at.
      if case .write(1...2, let slices, _) = pending.operation {
        for slice in slices where consoleOutput.count < 1 << 20 { consoleOutput += slice.array }
        return pending.decide(Int32(clamping: slices.reduce(0) { $0 + $1.count }))
      }
      // Standard input is empty.
      if case .read(0, _, _) = pending.operation { return pending.decide(0) }
      pending.decide(-EBADF)
    default:
      // The kernel's answers for a socket differ by call; no caller may rely on one.
      pending.decide(-EINVAL)
    }
  }

  private func begin(
    _ pending: PendingOperation, _ kind: DiskAccess.Kind, _ path: String, _ effect: @escaping Effect
  ) {
    let disk = machine.disk(holding: path)
    let (fault, delay) = disk.judge(kind, process: name, path: path)
    perform(pending, fault, delay) { _ in try effect() }
  }

  private func begin(
    _ pending: PendingOperation, _ kind: DiskAccess.Kind, on file: OpenFile, offset: UInt64,
    byteCount: Int, _ effect: @escaping Effect
  ) {
    let (fault, delay) = file.disk.judge(
      kind, process: name, path: file.path, offset: offset, byteCount: byteCount)
    perform(pending, fault, delay) { _ in try effect() }
  }

  /// - Parameters:
  ///   - onFailure: what a planned failure does to the disk.
  ///   - next: what follows, given the answer; without it, that is the end.
  ///   - effect: gets the bytes that may land at most.
  private func perform(
    _ pending: PendingOperation, _ fault: DiskFault, _ delay: Int64,
    onFailure: @escaping () -> Void = {}, next: ((Int32) -> Void)? = nil,
    effect: @escaping (Int) throws -> Int32
  ) {
    pending.effect = { limit in
      if let errno = fault.errno {
        onFailure()
        return -errno
      }
      do {
        return try effect(limit)
      } catch {
        let errno = (error as! Refusal).errno
        if errno == ENOSPC { self.world.count(.full) }
        if errno == EROFS { self.world.count(.readOnly) }
        return -errno
      }
    }
    pending.event = world.schedule(after: delay) {
      guard let effect = pending.effect else { return }
      pending.effect = nil
      let answer = effect(.max)
      if let next { next(answer) } else { pending.finish(answer) }
    }
  }

  // MARK: Open files

  private func read(
    _ pending: PendingOperation, _ file: OpenFile, _ slice: Slice, _ offset: UInt64
  ) {
    do throws(Refusal) {
      try file.checkTransfer([slice], offset, isWrite: false)
    } catch {
      return pending.decide(-error.errno)
    }
    let (fault, delay) = file.disk.judge(
      .read, process: name, path: file.path, offset: offset, byteCount: slice.count)
    let transfer = file.disk.drawTransfer(slice.count, fault, isDirect: file.isDirect)
    perform(pending, fault, delay) { _ in
      let count = try file.read(into: slice, offset: offset, limit: transfer)
      slice.withBytes { self.world.mix(sample: UnsafeRawBufferPointer(rebasing: $0[..<count])) }
      return Int32(clamping: count)
    }
  }

  private func write(
    _ pending: PendingOperation, _ file: OpenFile, _ slices: [Slice], _ offset: UInt64,
    next: ((Int32) -> Void)? = nil
  ) {
    do throws(Refusal) {
      try file.checkTransfer(slices, offset, isWrite: true)
    } catch {
      if error.errno == EROFS { world.count(.readOnly) }
      return pending.decide(-error.errno)
    }
    let total = slices.reduce(0) { $0 + $1.count }
    let (fault, delay) = file.disk.judge(
      .write, process: name, path: file.path, offset: offset, byteCount: total)
    let transfer = file.disk.drawTransfer(total, fault, isDirect: file.isDirect)
    let landing = fault.misdirectedOffset ?? offset
    perform(
      pending, fault, delay,
      onFailure: {
        // Nobody knows how much of a failed write landed.
        let sectors = file.disk.chance.below(total / 512 + 1)
        _ = try? file.write(slices, offset: landing, limit: sectors * 512)
      },
      next: next,
      effect: { limit in
        if fault.isLost { return Int32(clamping: transfer) }
        return Int32(
          clamping: try file.write(slices, offset: landing, limit: min(limit, transfer)))
      })
  }

  private func synchronize(
    _ pending: PendingOperation, _ file: OpenFile, _ dataOnly: Bool, answer: Int32 = 0
  ) {
    let disk = file.disk
    let inode = file.inode
    let (fault, delay) = disk.judge(.synchronize, process: name, path: file.path)
    let contentLimit = inode.file?.sequence ?? 0
    let namesLimit = disk.journal.sequence
    let attributes = inode.attributes
    perform(
      pending, fault, delay,
      onFailure: { inode.file?.failSynchronize(&disk.chance) },
      effect: { _ in
        if fault.isLost { return answer }
        if let content = inode.file {
          content.synchronize(upTo: contentLimit)
          if !dataOnly { inode.durableAttributes = attributes }
          if disk.chance.chance(1, in: 2) {
            disk.journal.synchronize(upTo: namesLimit) { change in
              change.assignments.contains { $0.inode === inode }
            }
          }
        } else {
          inode.durableAttributes = attributes
          let isLucky = disk.chance.chance(1, in: 2)
          disk.journal.synchronize(upTo: namesLimit) { change in
            change.target === inode || (isLucky && change.source === inode)
          }
        }
        return answer
      })
  }

  private func allocate(_ file: OpenFile, _ mode: Int32, _ offset: UInt64, _ byteCount: UInt64)
    throws(Refusal) -> Int32
  {
    guard file.canWrite else { throw Refusal(EBADF) }
    guard let content = file.inode.file else { throw Refusal(ENODEV) }
    if file.disk.isReadOnly { throw Refusal(EROFS) }
    guard byteCount > 0 else { throw Refusal(EINVAL) }
    let largest = UInt64(FileContent.largestByteCount)
    guard offset <= largest, byteCount <= largest - offset else { throw Refusal(EFBIG) }
    let start = Int(offset)
    let count = Int(byteCount)
    switch mode {
    case 0, LinuxFlags.keepSize:
      guard content.missingPageCount(start, count) <= file.disk.freePageCount else {
        throw Refusal(ENOSPC)
      }
      content.reserve(start, count, keepSize: mode != 0)
    case LinuxFlags.keepSize | LinuxFlags.punchHole:
      content.punchHole(start, count)
      file.inode.remakeSectors(start, count)
    default: throw Refusal(EOPNOTSUPP)
    }
    return 0
  }

  private func truncate(_ file: OpenFile, _ byteCount: UInt64) throws(Refusal) -> Int32 {
    guard file.canWrite, let content = file.inode.file else { throw Refusal(EINVAL) }
    if file.disk.isReadOnly { throw Refusal(EROFS) }
    guard byteCount <= UInt64(FileContent.largestByteCount) else { throw Refusal(EFBIG) }
    content.truncate(to: Int(byteCount))
    file.inode.remakeSectors(Int(byteCount), FileContent.largestByteCount)
    file.inode.attributes.modified = world.wallNanoseconds
    return 0
  }

  // MARK: Paths

  private func open(_ path: String, _ flags: Int32, _ mode: UInt32) throws(Refusal) -> Int32 {
    if flags & LinuxFlags.temporaryFile == LinuxFlags.temporaryFile | O_DIRECTORY {
      throw Refusal(EOPNOTSUPP)
    }
    let isExclusive = flags & O_CREAT != 0 && flags & O_EXCL != 0
    let isWritten = flags & O_ACCMODE != O_RDONLY
    let walk = PathWalk(machine)
    let place = try walk.find(path, followLast: !isExclusive && flags & O_NOFOLLOW == 0)
    let inode: Inode
    if let found = place.inode {
      if isExclusive { throw Refusal(EEXIST) }
      if found.kind == .symbolicLink { throw Refusal(ELOOP) }
      if found.kind == .directory && (isWritten || flags & O_CREAT != 0) { throw Refusal(EISDIR) }
      if flags & O_DIRECTORY != 0 && found.kind != .directory { throw Refusal(ENOTDIR) }
      if place.disk.isReadOnly && isWritten { throw Refusal(EROFS) }
      if flags & O_TRUNC != 0, isWritten, let content = found.file, content.byteCount > 0 {
        content.truncate(to: 0)
        found.attributes.modified = world.wallNanoseconds
      }
      inode = found
    } else {
      guard flags & O_CREAT != 0 else { throw Refusal(ENOENT) }
      if flags & O_DIRECTORY != 0 { throw Refusal(EINVAL) }
      inode = try add(place, mode) { .file(FileContent(account: place.disk.account)) }
    }
    // As Linux does it: after making the file.
    if flags & OpenFlags.direct != 0, !place.disk.hasDirectIO, inode.kind == .file {
      throw Refusal(EINVAL)
    }
    let file = OpenFile(inode: inode, disk: place.disk, flags: flags, path: path)
    // Of a process killed in the middle only the name stays.
    guard isAlive else {
      file.close()
      return -ECANCELED
    }
    return addDescriptor(.file(file))
  }

  /// A new name at `place`, which has none.
  private func add(_ place: PathWalk.Place, _ mode: UInt32, _ body: () -> Inode.Body)
    throws(Refusal) -> Inode
  {
    guard let parent = place.parent else { throw Refusal(EEXIST) }
    if place.disk.isReadOnly { throw Refusal(EROFS) }
    // A directory that was removed while its path was walked takes no names.
    guard parent.nameCount > 0 else { throw Refusal(ENOENT) }
    let inode = place.disk.makeInode(body(), mode: mode)
    place.disk.journal.apply(
      [NameJournal.Assignment(directory: parent, name: place.name, inode: inode)],
      inodes: [inode], target: parent)
    parent.attributes.modified = world.wallNanoseconds
    return inode
  }

  private func make(_ path: String, mode: UInt32, _ body: () -> Inode.Body) throws(Refusal)
    -> Int32
  {
    let place = try PathWalk(machine).find(path, followLast: false)
    if place.inode != nil { throw Refusal(EEXIST) }
    _ = try add(place, mode, body)
    return 0
  }

  private func remove(_ path: String, _ isDirectory: Bool) throws(Refusal) -> Int32 {
    let (place, inode) = try PathWalk(machine).existing(path, followLast: false)
    guard let parent = place.parent else { throw Refusal(EBUSY) }
    if place.disk.isReadOnly { throw Refusal(EROFS) }
    if let directory = inode.directory {
      guard isDirectory else { throw Refusal(EISDIR) }
      guard directory.current.isEmpty else { throw Refusal(ENOTEMPTY) }
      if isMountPoint(inode, place) { throw Refusal(EBUSY) }
    } else if isDirectory {
      throw Refusal(ENOTDIR)
    }
    place.disk.journal.apply(
      [NameJournal.Assignment(directory: parent, name: place.name, inode: nil)],
      inodes: [inode], target: parent)
    parent.attributes.modified = world.wallNanoseconds
    return 0
  }

  private func isMountPoint(_ inode: Inode, _ place: PathWalk.Place) -> Bool {
    machine.mounts.contains { mount in
      mount.point.last == place.name && mount.disk !== place.disk && inode.kind == .directory
        && PathWalk(machine).covers(mount.point, inode)
    }
  }

  private func rename(_ from: String, _ to: String, _ exclusive: Bool) throws(Refusal) -> Int32 {
    let walk = PathWalk(machine)
    let (source, inode) = try walk.existing(from, followLast: false)
    let target = try walk.find(to, followLast: false)
    guard let oldParent = source.parent, let newParent = target.parent else {
      throw Refusal(EBUSY)
    }
    guard source.disk === target.disk else { throw Refusal(EXDEV) }
    if source.disk.isReadOnly { throw Refusal(EROFS) }
    guard newParent.nameCount > 0 else { throw Refusal(ENOENT) }
    if exclusive && target.inode != nil { throw Refusal(EEXIST) }
    if target.inode === inode { return 0 }
    if inode.directory != nil {
      if isMountPoint(inode, source) { throw Refusal(EBUSY) }
      if newParent === inode || isBelow(newParent, inode) { throw Refusal(EINVAL) }
    }
    var inodes = [inode]
    if let replaced = target.inode {
      if let directory = replaced.directory {
        guard inode.directory != nil else { throw Refusal(EISDIR) }
        guard directory.current.isEmpty else { throw Refusal(ENOTEMPTY) }
      } else if inode.directory != nil {
        throw Refusal(ENOTDIR)
      }
      inodes.append(replaced)
    }
    source.disk.journal.apply(
      [
        NameJournal.Assignment(directory: newParent, name: target.name, inode: inode),
        NameJournal.Assignment(directory: oldParent, name: source.name, inode: nil),
      ], inodes: inodes, target: newParent, source: oldParent)
    oldParent.attributes.modified = world.wallNanoseconds
    newParent.attributes.modified = world.wallNanoseconds
    return 0
  }

  private func isBelow(_ inode: Inode, _ ancestor: Inode) -> Bool {
    guard let directory = ancestor.directory else { return false }
    return directory.current.values.contains { $0 === inode || isBelow(inode, $0) }
  }

  private func status(_ path: String, _ followLinks: Bool) throws(Refusal) -> FileStatus {
    let (place, inode) = try PathWalk(machine).existing(path, followLast: followLinks)
    return Self.status(of: inode, on: place.disk)
  }

  private static func status(of inode: Inode, on disk: SimulatedDisk) -> FileStatus {
    var byteCount = 0
    var allocated = 0
    switch inode.body {
    case .file(let content):
      byteCount = content.byteCount
      allocated = content.allocated.count * Page.byteCount
    case .symbolicLink(let target): byteCount = target.count
    case .directory: (byteCount, allocated) = (Page.byteCount, Page.byteCount)
    }
    return FileStatus(
      kind: inode.kind, byteCount: UInt64(byteCount), allocatedByteCount: UInt64(allocated),
      mode: inode.attributes.mode, modified: inode.attributes.modified,
      deviceNumber: disk.number, inode: inode.number)
  }

  private func list(_ path: String, _ withStatus: Bool) throws(Refusal) -> [DirectoryEntry] {
    let (place, inode) = try PathWalk(machine).existing(path)
    guard let directory = inode.directory else { throw Refusal(ENOTDIR) }
    return directory.sorted.map {
      DirectoryEntry(
        name: $0.name, kind: $0.inode.kind,
        status: withStatus ? Self.status(of: $0.inode, on: place.disk) : nil)
    }
  }

  private func setAttributes(_ path: String, _ mode: UInt32?, _ modified: Int64?) throws(Refusal)
    -> Int32
  {
    let (place, inode) = try PathWalk(machine).existing(path, followLast: false)
    if place.disk.isReadOnly { throw Refusal(EROFS) }
    if let mode {
      if inode.kind == .symbolicLink { throw Refusal(EOPNOTSUPP) }
      inode.attributes.mode = mode & 0o7777
    }
    if let modified { inode.attributes.modified = modified }
    return 0
  }
}
