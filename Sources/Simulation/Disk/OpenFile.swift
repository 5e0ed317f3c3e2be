import Glibc
internal import Ring

/// An open file description.
final class OpenFile {
  let inode: Inode
  let disk: SimulatedDisk
  let flags: Int32
  let path: String
  /// Where a stream would stand.
  private var position = 0
  private var isClosed = false

  init(inode: Inode, disk: SimulatedDisk, flags: Int32, path: String) {
    self.inode = inode
    self.disk = disk
    self.flags = flags
    self.path = path
    inode.openCount += 1
  }

  var canRead: Bool { flags & O_ACCMODE != O_WRONLY }
  var canWrite: Bool { flags & O_ACCMODE != O_RDONLY }
  var isDirect: Bool { flags & OpenFlags.direct != 0 }

  func close() {
    guard !isClosed else { return }
    isClosed = true
    if inode.lockHolder === self { inode.lockHolder = nil }
    inode.openCount -= 1
    inode.releaseIfUnreachable()
  }

  /// - Returns: -EWOULDBLOCK when another holds it.
  func lock() -> Int32 {
    if isClosed { return -EBADF }
    if let holder = inode.lockHolder, holder !== self { return -EWOULDBLOCK }
    inode.lockHolder = self
    return 0
  }

  private func place(_ offset: UInt64) throws(Refusal) -> Int {
    if offset == .max { return position }
    guard offset <= UInt64(FileContent.largestByteCount) else { throw Refusal(EINVAL) }
    return Int(offset)
  }

  private func checkAlignment(_ slices: [Slice], _ offset: Int) throws(Refusal) {
    guard isDirect else { return }
    guard offset % 4096 == 0 else { throw Refusal(EINVAL) }
    for slice in slices {
      let address = UInt(bitPattern: slice.buffer.base) + UInt(slice.offset)
      guard address % 4096 == 0, slice.count % 4096 == 0 else { throw Refusal(EINVAL) }
    }
  }

  /// What the kernel refuses before it starts.
  func checkTransfer(_ slices: [Slice], _ offset: UInt64, isWrite: Bool) throws(Refusal) {
    guard isWrite ? canWrite : canRead else { throw Refusal(EBADF) }
    guard inode.file != nil else { throw Refusal(isWrite ? EBADF : EISDIR) }
    try checkAlignment(slices, place(offset))
    if isWrite {
      if disk.isReadOnly { throw Refusal(EROFS) }
      var end = try place(offset)
      for slice in slices { end += slice.count }
      if end > FileContent.largestByteCount { throw Refusal(EFBIG) }
    }
  }

  func read(into slice: Slice, offset: UInt64, limit: Int) throws(Refusal) -> Int {
    let content = inode.file!
    let start = try place(offset)
    let wanted = max(0, min(slice.count, limit, content.byteCount - start))
    if wanted > 0, inode.unreadableSectors.count > 0 {
      let sector = Page.sectorByteCount
      let range = start / sector..<(start + wanted + sector - 1) / sector
      if inode.unreadableSectors.count(in: range) > 0 {
        disk.world.count(.readError)
        throw Refusal(EIO)
      }
    }
    let count = slice.withMutableBytes { bytes in
      content.read(into: UnsafeMutableRawBufferPointer(rebasing: bytes[..<wanted]), at: start)
    }
    if offset == .max { position = start + count }
    return count
  }

  /// - Parameter limit: how many bytes may land.
  func write(_ slices: [Slice], offset: UInt64, limit: Int) throws(Refusal) -> Int {
    let content = inode.file!
    var start = try place(offset)
    if flags & O_APPEND != 0 { start = content.byteCount }
    var count = min(limit, slices.reduce(0) { $0 + $1.count })
    guard count > 0 else { return 0 }
    if content.missingPageCount(start, count) > disk.freePageCount {
      // As much as fits, in whole pages.
      var fitting = (start / Page.byteCount + 1) * Page.byteCount - start
      var best = 0
      while fitting < count, content.missingPageCount(start, fitting) <= disk.freePageCount {
        best = fitting
        fitting += Page.byteCount
      }
      guard best > 0 else { throw Refusal(ENOSPC) }
      count = best
    }
    var cursor = GatherCursor(slices)
    content.write(&cursor, at: start, count: count)
    inode.remakeSectors(start, count)
    inode.attributes.modified = disk.world.wallNanoseconds
    if offset == .max { position = start + count }
    if flags & (O_SYNC | O_DSYNC) != 0 { content.synchronize(upTo: content.sequence) }
    return count
  }
}
