import CKernel
import Glibc

/// The flag for `open` that goes past the page cache; Swift's Glibc does not show it.
// swift-format-ignore: AlwaysUseLowerCamelCase
package let O_DIRECT = cairn_o_direct()

/// An open file. Close it; dropping it without leaks the descriptor. Loop-confined.
package final class File: Sendable {
  package let driver: any Driver
  package let descriptor: Int32
  package let path: String

  package init(driver: any Driver, descriptor: Int32, path: String) {
    self.driver = driver
    self.descriptor = descriptor
    self.path = path
  }

  /// - Parameter flags: the kernel's, for example `O_RDWR | O_CREAT | O_DIRECT`.
  package static func open(
    _ path: String, _ flags: Int32, mode: UInt32 = 0o644, on driver: any Driver
  ) async throws(RingError) -> File {
    let descriptor = try await driver.perform(
      .open(path: path, flags: flags, mode: mode), "open", path)
    return File(driver: driver, descriptor: Int32(descriptor), path: path)
  }

  /// Fills as much of `slice` as the file has from `offset`; returns the count, less only at the end.
  package func read(into slice: Slice, at offset: UInt64) async throws(RingError) -> Int {
    var done = 0
    while done < slice.count {
      let count = try await driver.perform(
        .read(
          descriptor: descriptor, into: slice[done..<slice.count], offset: offset + UInt64(done)),
        "read", path)
      if count == 0 { break }
      done += count
    }
    return done
  }

  /// One read of a stream (pipe, terminal): what is there, 0 at the end.
  package func readStream(into slice: Slice) async throws(RingError) -> Int {
    try await driver.perform(
      .read(descriptor: descriptor, into: slice, offset: .max), "read", path)
  }

  /// Writes all of `slices`, in order, from `offset` (`.max`: where the stream stands).
  package func write(_ slices: [Slice], at offset: UInt64) async throws(RingError) {
    var rest = slices.filter { $0.count > 0 }
    var position = offset
    while !rest.isEmpty {
      var count = try await driver.perform(
        .write(descriptor: descriptor, from: rest, offset: position), "write", path)
      if count == 0 { throw RingError(errno: EIO, operation: "write", subject: path) }
      if position != .max { position += UInt64(count) }
      while let first = rest.first, count >= first.count {
        count -= first.count
        rest.removeFirst()
      }
      if count > 0, let first = rest.first { rest[0] = first[count..<first.count] }
    }
  }

  /// As `write`, then ``synchronize(dataOnly:)``.
  package func writeDurably(_ slices: [Slice], at offset: UInt64) async throws(RingError) {
    let wanted = slices.reduce(0) { $0 + $1.count }
    var done = try await driver.perform(
      .writeDurably(descriptor: descriptor, from: slices, offset: offset), "write and sync", path)
    if done == wanted { return }
    var rest: [Slice] = []
    for slice in slices {
      let skipped = min(done, slice.count)
      done -= skipped
      rest.append(slice[skipped..<slice.count])
    }
    try await write(rest, at: offset + UInt64(wanted - rest.reduce(0) { $0 + $1.count }))
    try await synchronize()
  }

  package func synchronize(dataOnly: Bool = true) async throws(RingError) {
    try await driver.perform(
      .synchronize(descriptor: descriptor, dataOnly: dataOnly), "sync", path)
  }

  package func allocate(mode: Int32 = 0, offset: UInt64, byteCount: UInt64) async throws(RingError)
  {
    try await driver.perform(
      .allocate(descriptor: descriptor, mode: mode, offset: offset, byteCount: byteCount),
      "allocate", path)
  }

  package func truncate(to byteCount: UInt64) async throws(RingError) {
    try await driver.perform(
      .truncate(descriptor: descriptor, byteCount: byteCount), "truncate", path)
  }

  /// - Returns: false when another process holds the lock.
  package func lock() async throws(RingError) -> Bool {
    let result = await driver.submit(.lock(descriptor: descriptor))
    if result == -EWOULDBLOCK { return false }
    guard result >= 0 else { throw RingError(errno: -result, operation: "lock", subject: path) }
    return true
  }

  /// Of the file as it is now, whatever its path leads to by now.
  package func status() async throws(RingError) -> FileStatus {
    let outcome = Outcome<FileStatus>()
    try await driver.perform(.fileStatus(descriptor: descriptor, outcome), "stat", path)
    return outcome.value!
  }

  package func close() async {
    _ = await driver.submit(.close(descriptor: descriptor))
  }
}

/// Operations on paths.
extension Driver {
  package func status(_ path: String, followLinks: Bool = true) async throws(RingError)
    -> FileStatus
  {
    let outcome = Outcome<FileStatus>()
    try await perform(.status(path: path, followLinks: followLinks, outcome), "stat", path)
    return outcome.value!
  }

  package func fileSystem(_ path: String) async throws(RingError) -> FileSystemFacts {
    let outcome = Outcome<FileSystemFacts>()
    try await perform(.fileSystem(path: path, outcome), "statfs", path)
    return outcome.value!
  }

  package func space(_ path: String) async throws(RingError) -> FileSystemSpace {
    let outcome = Outcome<FileSystemSpace>()
    try await perform(.space(path: path, outcome), "statvfs", path)
    return outcome.value!
  }

  package func exists(_ path: String) async -> Bool {
    await submit(.status(path: path, followLinks: false, Outcome<FileStatus>())) == 0
  }

  package func list(_ path: String, withStatus: Bool = false) async throws(RingError)
    -> [DirectoryEntry]
  {
    let outcome = Outcome<[DirectoryEntry]>()
    try await perform(.list(path: path, withStatus: withStatus, outcome), "list", path)
    return outcome.value!
  }

  /// Makes `path` and every missing parent.
  package func makeDirectories(_ path: String, mode: UInt32 = 0o755) async throws(RingError) {
    let result = await submit(.makeDirectory(path: path, mode: mode))
    if result == 0 || result == -EEXIST { return }
    guard result == -ENOENT, let cut = path.utf8.lastIndex(of: UInt8(ascii: "/")),
      cut != path.startIndex
    else {
      throw RingError(errno: -result, operation: "mkdir", subject: path)
    }
    try await makeDirectories(String(path[..<cut]), mode: mode)
    try await perform(.makeDirectory(path: path, mode: mode), "mkdir", path)
  }

  package func remove(_ path: String, isDirectory: Bool = false) async throws(RingError) {
    try await perform(.remove(path: path, isDirectory: isDirectory), "remove", path)
  }

  package func rename(_ from: String, to: String, exclusive: Bool = false) async throws(RingError) {
    try await perform(.rename(from: from, to: to, exclusive: exclusive), "rename", from)
  }

  /// fsync of a directory, so that names made or removed in it survive a power cut.
  package func synchronizeDirectory(_ path: String) async throws(RingError) {
    let directory = try await File.open(path, O_RDONLY | O_DIRECTORY, on: self)
    let result = await submit(.synchronize(descriptor: directory.descriptor, dataOnly: false))
    await directory.close()
    guard result >= 0 else { throw RingError(errno: -result, operation: "sync", subject: path) }
  }

  /// The whole file; throws EFBIG when it is larger than `limit`.
  package func readFile(_ path: String, limit: Int = 16 << 20) async throws(RingError) -> [UInt8] {
    let file = try await File.open(path, O_RDONLY, on: self)
    do throws(RingError) {
      var bytes: [UInt8] = []
      let chunk = buffers.slice(64 << 10)
      while true {
        let count = try await file.read(into: chunk, at: UInt64(bytes.count))
        bytes += chunk[0..<count].array
        if bytes.count > limit { throw RingError(errno: EFBIG, operation: "read", subject: path) }
        if count < chunk.count { break }
      }
      await file.close()
      return bytes
    } catch {
      await file.close()
      throw error
    }
  }

  /// Replaces `path` so that after a crash it holds the old bytes or the new, never a mix: written to
  /// `path.new`, synced, renamed, directory synced.
  package func replaceFile(_ path: String, with bytes: [UInt8], mode: UInt32 = 0o600)
    async throws(RingError)
  {
    let fresh = path + ".new"
    let file = try await File.open(fresh, O_WRONLY | O_CREAT | O_TRUNC, mode: mode, on: self)
    do throws(RingError) {
      try await file.write([Slice(copying: bytes)], at: 0)
      try await file.synchronize(dataOnly: false)
      await file.close()
    } catch {
      await file.close()
      throw error
    }
    try await rename(fresh, to: path)
    try await synchronizeEntry(of: path)
  }

  /// Makes it durable that there is something at `path`: syncs the directory that it is in.
  package func synchronizeEntry(of path: String) async throws(RingError) {
    let cut = path.utf8.lastIndex(of: UInt8(ascii: "/"))
    let parent = cut.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    try await synchronizeDirectory(parent)
  }
}
