import CKernel
import CURing
import Glibc

extension UringDriver {
  func read(_ descriptor: Int32, _ slice: Slice, _ offset: UInt64) async -> Int32 {
    if offset == .max { return await readStream(descriptor, slice) }
    let base = slice.buffer.base + slice.offset
    let count = UInt32(min(slice.count, 1 << 30))
    let isRegistered = buffers.isRegistered(base)
    let isEager = loop.state.pointee.files.isDirect(descriptor)
    while true {
      let result = await loop.operate(isEager: isEager) {
        if isRegistered {
          io_uring_prep_read_fixed($0, descriptor, base, count, offset, 0)
        } else {
          io_uring_prep_read($0, descriptor, base, count, offset)
        }
        loop.state.pointee.files.use($0, descriptor)
      }
      if result != -EINTR && result != -EAGAIN { return result }
    }
  }

  private func readStream(_ descriptor: Int32, _ slice: Slice) async -> Int32 {
    let slot = loop.state.takeSlot()
    defer { loop.state.giveBack(slot) }
    let base = slice.buffer.base + slice.offset
    let count = UInt32(min(slice.count, 1 << 30))
    let start = lseek(descriptor, 0, SEEK_CUR)
    while true {
      let result = await loop.interruptible(slot) {
        io_uring_prep_read($0, descriptor, base, count, .max)
      }
      if result == -EAGAIN {
        let ready = await poll(slot, descriptor, POLLIN)
        if ready < 0 { return ready }
      } else if result != -EINTR {
        if result < count { advance(descriptor, from: start, by: result) }
        return result
      }
    }
  }

  /// Linux 6.18 and before: when part of a file was read or written "where it stands" and the rest failed (disk full,
  /// a bad sector), the part is the answer but the file's position stays, so that the next call repeats that place:
  /// a full disk never shows and the bytes are wrong. A pipe has no position and `start` is -1.
  private func advance(_ descriptor: Int32, from start: off_t, by count: Int32) {
    guard start >= 0, count > 0, lseek(descriptor, 0, SEEK_CUR) == start else { return }
    lseek(descriptor, start + off_t(count), SEEK_SET)
  }

  func write(_ descriptor: Int32, _ slices: [Slice], _ offset: UInt64) async -> Int32 {
    if offset == .max { return await writeStream(descriptor, slices) }
    if slices.count == 1 {
      let base = slices[0].buffer.base + slices[0].offset
      let count = UInt32(min(slices[0].count, 1 << 30))
      let isRegistered = buffers.isRegistered(base)
      let isEager = loop.state.pointee.files.isDirect(descriptor)
      while true {
        let result = await loop.operate(isEager: isEager) {
          if isRegistered {
            io_uring_prep_write_fixed($0, descriptor, base, count, offset, 0)
          } else {
            io_uring_prep_write($0, descriptor, base, count, offset)
          }
          loop.state.pointee.files.use($0, descriptor)
        }
        if result != -EINTR && result != -EAGAIN { return result }
      }
    }
    let slot = loop.state.takeSlot()
    defer { loop.state.giveBack(slot) }
    let count = slot.pointee.gather(slices, after: 0)
    if count == 0 { return 0 }
    while true {
      let result = await loop.operate {
        io_uring_prep_writev($0, descriptor, slot.pointee.vectors, UInt32(count), offset)
        loop.state.pointee.files.use($0, descriptor)
      }
      if result != -EINTR && result != -EAGAIN { return result }
    }
  }

  func writeDurably(_ descriptor: Int32, _ slices: [Slice], _ offset: UInt64) async -> Int32 {
    let slot = loop.state.takeSlot()
    defer { loop.state.giveBack(slot) }
    let count = slot.pointee.gather(slices, after: 0)
    var wanted = 0
    for slice in slices { wanted += slice.count }
    while true {
      let (written, synced) = await loop.operateLinked(slot) {
        if count == 1, let vector = slot.pointee.vectors,
          self.buffers.isRegistered(vector.pointee.iov_base)
        {
          io_uring_prep_write_fixed(
            $0, descriptor, vector.pointee.iov_base, UInt32(vector.pointee.iov_len), offset, 0)
        } else {
          io_uring_prep_writev($0, descriptor, slot.pointee.vectors, UInt32(count), offset)
        }
        loop.state.pointee.files.use($0, descriptor)
      } then: {
        io_uring_prep_fsync($0, descriptor, IORING_FSYNC_DATASYNC)
        loop.state.pointee.files.use($0, descriptor)
      }
      if written == -EINTR || written == -EAGAIN { continue }
      // What the kernel counts as whole may be a part of what was asked for: it takes 1,024 pieces at most.
      if written < 0 || Int(written) < wanted || synced >= 0 { return written }
      if synced != -EINTR && synced != -EAGAIN { return synced }
      let result = await repeated { io_uring_prep_fsync($0, descriptor, IORING_FSYNC_DATASYNC) }
      return result < 0 ? result : written
    }
  }

  func synchronize(_ descriptor: Int32, _ dataOnly: Bool) async -> Int32 {
    await repeated {
      io_uring_prep_fsync($0, descriptor, dataOnly ? IORING_FSYNC_DATASYNC : 0)
      loop.state.pointee.files.use($0, descriptor)
    }
  }

  private func writeStream(_ descriptor: Int32, _ slices: [Slice]) async -> Int32 {
    let slot = loop.state.takeSlot()
    defer { loop.state.giveBack(slot) }
    let count = slot.pointee.gather(slices, after: 0)
    if count == 0 { return 0 }
    let start = lseek(descriptor, 0, SEEK_CUR)
    while true {
      let result = await loop.interruptible(slot) {
        io_uring_prep_writev($0, descriptor, slot.pointee.vectors, UInt32(count), .max)
      }
      if result == -EAGAIN {
        let ready = await poll(slot, descriptor, POLLOUT)
        if ready < 0 { return ready }
      } else if result != -EINTR {
        advance(descriptor, from: start, by: result)
        return result
      }
    }
  }

  func open(_ path: String, _ flags: Int32, _ mode: UInt32) async -> Int32 {
    let descriptor = await withPath(path) { path in
      await repeated { io_uring_prep_openat($0, AT_FDCWD, path, flags | O_CLOEXEC, mode) }
    }
    // Only what is opened for many operations repays the two calls that this costs.
    if descriptor >= 0 && flags & O_DIRECT != 0 { loop.enterFile(descriptor) }
    return descriptor
  }

  func close(_ descriptor: Int32) async -> Int32 {
    loop.endAccepting(descriptor)
    loop.leaveTable(descriptor)
    // Not repeated: the descriptor is gone whatever the answer.
    return await loop.operate { io_uring_prep_close($0, descriptor) }
  }

  func truncate(_ descriptor: Int32, _ byteCount: UInt64) async -> Int32 {
    guard let length = off_t(exactly: byteCount) else { return -EINVAL }
    if loop.truncatesInRing {
      return await repeated { cairn_prep_ftruncate($0, descriptor, byteCount) }
    }
    return await loop.offload(lane: EventLoop.fileLane) {
      ftruncate(descriptor, length) == 0 ? 0 : -errno
    }
  }

  func status(_ path: String, _ followLinks: Bool, _ outcome: Outcome<FileStatus>) async -> Int32 {
    let answer = UnsafeMutablePointer<statx>.allocate(capacity: 1)
    answer.initialize(to: statx())
    defer { answer.deallocate() }
    let result = await withPath(path) { path in
      await repeated {
        io_uring_prep_statx(
          $0, AT_FDCWD, path, followLinks ? 0 : AT_SYMLINK_NOFOLLOW,
          UInt32(STATX_BASIC_STATS), answer)
      }
    }
    guard result >= 0 else { return result }
    let found = answer.pointee
    outcome.value = FileStatus(
      kind: Self.kind(ofMode: UInt32(found.stx_mode)), byteCount: found.stx_size,
      allocatedByteCount: found.stx_blocks * 512, mode: UInt32(found.stx_mode) & 0o7777,
      modified: Self.nanoseconds(found.stx_mtime.tv_sec, Int64(found.stx_mtime.tv_nsec)),
      deviceNumber: UInt64(found.stx_dev_major) << 32 | UInt64(found.stx_dev_minor),
      inode: found.stx_ino)
    return 0
  }

  /// At once: an open file's inode is in memory, and a way through the ring costs the kernel a thread of its own. Only a network file system
  /// may ask its server.
  func fileStatus(_ descriptor: Int32, _ outcome: Outcome<FileStatus>) -> Int32 {
    var found = stat()
    guard fstat(descriptor, &found) == 0 else { return -errno }
    outcome.value = Self.status(found)
    return 0
  }

  private static func status(_ found: stat) -> FileStatus {
    // As statx has it in the call for paths.
    let device = UInt64(found.st_dev)
    let major = device >> 8 & 0xFFF | device >> 32 & 0xFFFF_F000
    let minor = device & 0xFF | device >> 12 & 0xFFFF_FF00
    return FileStatus(
      kind: kind(ofMode: found.st_mode), byteCount: UInt64(clamping: found.st_size),
      allocatedByteCount: UInt64(clamping: found.st_blocks) &* 512, mode: found.st_mode & 0o7777,
      modified: nanoseconds(Int64(found.st_mtim.tv_sec), Int64(found.st_mtim.tv_nsec)),
      deviceNumber: major << 32 | minor, inode: UInt64(found.st_ino))
  }

  /// Since 1970. File systems hold times that nanoseconds in 64 bits do not, before 1677 and after 2262: those become the
  /// nearest that they do, not one at the other end.
  static func nanoseconds(_ seconds: Int64, _ rest: Int64) -> Int64 {
    let (whole, isTooFar) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    let (sum, isTooLate) = whole.addingReportingOverflow(rest)
    return isTooFar || isTooLate ? (seconds < 0 ? .min : .max) : sum
  }

  private static func kind(ofMode mode: UInt32) -> FileKind {
    switch mode & S_IFMT {
    case S_IFREG: .file
    case S_IFDIR: .directory
    case S_IFLNK: .symbolicLink
    default: .other
    }
  }

  func list(_ path: String, _ withStatus: Bool, _ outcome: Outcome<[DirectoryEntry]>) async
    -> Int32
  {
    guard let path = PathBytes(path) else { return -EINVAL }
    return await loop.offload(lane: EventLoop.fileLane) { () -> Int32 in
      guard let directory = path.withCString({ opendir($0) }) else { return -errno }
      defer { closedir(directory) }
      var entries: [DirectoryEntry] = []
      while true {
        errno = 0
        guard let entry = readdir(directory) else {
          if errno != 0 { return -errno }
          break
        }
        let (name, type) = (
          withUnsafePointer(to: &entry.pointee.d_name) { name in
            Array(
              UnsafeRawBufferPointer(
                start: name,
                count: strlen(UnsafeRawPointer(name).assumingMemoryBound(to: CChar.self))))
          }, Int32(entry.pointee.d_type)
        )
        if name == [0x2E] || name == [0x2E, 0x2E] { continue }
        var status: FileStatus?
        // Some file systems do not say of what kind it is.
        if withStatus || type == 0 {
          var found = stat()
          let failed = withUnsafePointer(to: &entry.pointee.d_name) { name in
            fstatat(
              dirfd(directory), UnsafeRawPointer(name).assumingMemoryBound(to: CChar.self), &found,
              AT_SYMLINK_NOFOLLOW)
          }
          if failed == 0 { status = Self.status(found) }
        }
        let kind: FileKind
        switch type {
        case 8: kind = .file
        case 4: kind = .directory
        case 10: kind = .symbolicLink
        case 0:
          // Removed since: it is in no listing made now.
          guard let status else { continue }
          kind = status.kind
        default: kind = .other
        }
        entries.append(
          DirectoryEntry(name: name, kind: kind, status: withStatus ? status : nil))
      }
      entries.sort { $0.name.lexicographicallyPrecedes($1.name) }
      outcome.value = entries
      return 0
    }
  }

  func readSymbolicLink(_ path: String, _ outcome: Outcome<[UInt8]>) async -> Int32 {
    guard let path = PathBytes(path) else { return -EINVAL }
    return await loop.offload(lane: EventLoop.fileLane) { () -> Int32 in
      // PATH_MAX bounds what a link can hold.
      var count = 0
      let target = [UInt8](unsafeUninitializedCapacity: 4096) { buffer, initialized in
        count = path.withCString { path in
          buffer.withMemoryRebound(to: CChar.self) { readlink(path, $0.baseAddress!, 4096) }
        }
        initialized = max(count, 0)
      }
      if count < 0 { return -errno }
      outcome.value = target
      return 0
    }
  }

  func setAttributes(_ path: String, _ mode: UInt32?, _ modified: Int64?) async -> Int32 {
    guard let path = PathBytes(path) else { return -EINVAL }
    return await loop.offload(lane: EventLoop.fileLane) { () -> Int32 in
      path.withCString { path in
        if let mode, fchmodat(AT_FDCWD, path, mode & 0o7777, AT_SYMLINK_NOFOLLOW) != 0 {
          return -errno
        }
        if let modified {
          let (seconds, rest) = modified.quotientAndRemainder(dividingBy: 1_000_000_000)
          // A time before 1970 still wants nanoseconds that count forward.
          let borrow = rest < 0 ? 1 : 0
          let times = [
            timespec(tv_sec: 0, tv_nsec: (1 << 30) - 2),  // UTIME_OMIT
            timespec(tv_sec: Int(seconds) - borrow, tv_nsec: Int(rest) + borrow * 1_000_000_000),
          ]
          if utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW) != 0 { return -errno }
        }
        return 0
      }
    }
  }

  func space(_ path: String, _ outcome: Outcome<FileSystemSpace>) async -> Int32 {
    guard let path = PathBytes(path) else { return -EINVAL }
    return await loop.offload(lane: EventLoop.fileLane) { () -> Int32 in
      var found = statvfs()
      let failed = path.withCString { path in
        while true {
          let result = statvfs(path, &found)
          if result == 0 || errno != EINTR { return result }
        }
      }
      if failed != 0 { return -errno }
      let unit = UInt64(found.f_frsize)
      outcome.value = FileSystemSpace(
        totalByteCount: UInt64(found.f_blocks) &* unit,
        freeByteCount: UInt64(found.f_bavail) &* unit
      )
      return 0
    }
  }

  func fileSystem(_ path: String, _ outcome: Outcome<FileSystemFacts>) async -> Int32 {
    guard let path = PathBytes(path) else { return -EINVAL }
    return await loop.offload(lane: EventLoop.fileLane) { () -> Int32 in
      var found = cairn_file_system()
      let result = path.withCString { cairn_file_system($0, &found) }
      guard result >= 0 else { return result }
      outcome.value = FileSystemFacts(
        type: found.type, isReadOnly: found.is_read_only != 0,
        isBlockDevice: found.is_block_device != 0, major: found.major, minor: found.minor)
      return 0
    }
  }

  /// Hands `body` the path as C text that lives until it has returned; -EINVAL when there is a zero
  /// byte in it.
  @inline(__always)
  func withPath(_ path: String, _ body: (UnsafePointer<CChar>) async -> Int32) async -> Int32 {
    guard let bytes = PathBytes(path) else { return -EINVAL }
    let text = Self.copy(bytes.bytes)
    defer { free(text) }
    return await body(UnsafePointer(text))
  }

  static func copy(_ bytes: [UInt8]) -> UnsafeMutablePointer<CChar> {
    let text = malloc(bytes.count + 1)!
    bytes.withUnsafeBytes { source in
      if let from = source.baseAddress { text.copyMemory(from: from, byteCount: source.count) }
    }
    text.storeBytes(of: 0, toByteOffset: bytes.count, as: UInt8.self)
    return text.assumingMemoryBound(to: CChar.self)
  }
}

/// A path as the kernel wants it: any bytes but zero.
struct PathBytes: Sendable {
  let bytes: [UInt8]

  /// nil when there is a zero byte in it, where the kernel would end it.
  init?(_ path: String) {
    let bytes = PathText.bytes(path)
    guard !bytes.contains(0) else { return nil }
    self.bytes = bytes
  }

  func withCString<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result {
    let text = UringDriver.copy(bytes)
    defer { free(text) }
    return body(text)
  }
}

extension UringDriver {
  package func start(_ place: TransferPlace) {
    loop.start(place)
  }
}

extension EventLoop {
  func start(_ place: TransferPlace) {
    guard let slice = place.pointee.slice else { preconditionFailure("a transfer without memory") }
    let base = slice.buffer.base + slice.offset
    let count = UInt32(min(slice.count, 1 << 30))
    let isRegistered = buffers.isRegistered(base)
    let entry = nextEntry()
    let descriptor = place.pointee.descriptor
    let offset = place.pointee.offset
    switch (place.pointee.isWrite, isRegistered) {
    case (false, true): io_uring_prep_read_fixed(entry, descriptor, base, count, offset, 0)
    case (false, false): io_uring_prep_read(entry, descriptor, base, count, offset)
    case (true, true): io_uring_prep_write_fixed(entry, descriptor, base, count, offset, 0)
    case (true, false): io_uring_prep_write(entry, descriptor, base, count, offset)
    }
    state.pointee.files.use(entry, descriptor)
    entry.pointee.user_data = Tag.transfer(place)
    state.pointee.inFlight += 1
    if state.pointee.files.isDirect(descriptor) { submitEagerly() }
  }

  func transferred(_ place: TransferPlace, _ result: Int32) {
    state.pointee.inFlight -= 1
    if result == -EINTR || result == -EAGAIN {
      start(place)
    } else {
      place.pointee.queue?.complete(place, result)
    }
  }
}
