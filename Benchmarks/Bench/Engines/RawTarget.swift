import Ring

/// The file or device of a raw job: found or made before the clock starts, and never written to when it holds somebody's
/// data.
///
/// What bench makes it may use again: `FILE.cairn-bench` beside it says which file that was and when it was last written.
/// A file that is another, or was written by somebody else since, holds data like any other.
struct RawTarget: Sendable {
  let path: String
  /// Of the job's part.
  let byteCount: UInt64
  /// Made by bench, now or in an earlier run.
  let isOurs: Bool

  /// The name of a job's file, as fio has it: `NAME.JOB.0` unless one is given.
  static func path(_ options: JobOptions, job: Int) -> String {
    let name = options.filename ?? "\(options.name).\(job).0"
    guard let directory = options.directory, name.utf8.first != UInt8(ascii: "/") else {
      return name
    }
    return directory.utf8.last == UInt8(ascii: "/") ? directory + name : directory + "/" + name
  }

  private static func markPath(_ path: String) -> String { path + ".cairn-bench" }

  /// Looks only; refuses what must not be written to.
  ///
  /// - Returns: what is there; nil when nothing is.
  static func inspect(_ path: String, _ options: JobOptions, on driver: any Driver)
    async throws(BenchError) -> (status: FileStatus, isOurs: Bool)?
  {
    let status: FileStatus
    do throws(RingError) {
      status = try await driver.status(path)
    } catch {
      if error.errno == Errno.noEntry { return nil }
      throw .system(error)
    }
    if status.kind == .directory { throw .failed("is a directory: \(path)") }
    let isOurs = await isMarked(path, status, on: driver)
    if options.pattern.writes && !options.overwritesExistingData && !isOurs {
      if status.kind != .file {
        throw .failed(
          "is a device, and writing destroys what is on it: give --overwrite-existing-data: \(path)"
        )
      }
      if status.byteCount > 0 {
        throw .failed(
          "holds data, and writing destroys it: give --overwrite-existing-data: \(path)")
      }
    }
    return (status, isOurs)
  }

  /// Makes the file when it is missing or too short, whole and written, so that no transfer meets a hole.
  static func prepare(_ path: String, _ options: JobOptions, on driver: any Driver)
    async throws(BenchError) -> RawTarget
  {
    let found = try await inspect(path, options, on: driver)
    let least = UInt64(JobOptions.Direction.allCases.map { options.sizes($0).largest }.max()!)
    if let (status, isOurs) = found {
      if status.kind == .other {
        guard let size = options.byteCount else { throw .usage("a device needs a size: \(path)") }
        return RawTarget(path: path, byteCount: size, isOurs: false)
      }
      let room = status.byteCount > options.offset ? status.byteCount - options.offset : 0
      let wanted = options.byteCount ?? room
      if wanted <= room {
        guard wanted >= least else { throw .failed("is smaller than one transfer: \(path)") }
        return RawTarget(path: path, byteCount: wanted, isOurs: isOurs)
      }
      guard isOurs || status.byteCount == 0 || options.overwritesExistingData else {
        throw .failed("has \(status.byteCount) bytes, not the size asked for: \(path)")
      }
    } else if options.byteCount == nil {
      throw .usage("a file that is yet to be made needs a size: \(path)")
    }
    guard let wanted = options.byteCount, wanted >= least else {
      throw .usage("needs a size of one transfer at least: \(path)")
    }
    let isNew = found == nil || found!.isOurs || found!.status.byteCount == 0
    do throws(RingError) {
      try await layOut(
        path, from: found?.status.byteCount ?? 0, to: options.offset + wanted, driver)
      if isNew { try await mark(path, on: driver) }
    } catch {
      throw .system(error)
    }
    return RawTarget(path: path, byteCount: wanted, isOurs: isNew)
  }

  private static func layOut(_ path: String, from: UInt64, to end: UInt64, _ driver: any Driver)
    async throws(RingError)
  {
    let file = try await File.open(
      path, OpenFlags.writeOnly | OpenFlags.create, mode: 0o600, on: driver)
    do throws(RingError) {
      try await file.allocate(offset: 0, byteCount: end)
      var random = BenchRandom(seed: end)
      // One piece of noise for all: a device that looked for equal pieces of this size would be a rare one.
      let noise = driver.buffers.slice(1 << 20)
      noise.withMutableBytes { random.fill($0) }
      var at = from
      while at < end {
        let count = Int(min(UInt64(noise.count), end - at))
        try await file.write([noise[0..<count]], at: at)
        at += UInt64(count)
        // What is only in memory is written behind our backs while we measure.
        if at % (256 << 20) < UInt64(count) { try await file.synchronize() }
        if Task.isCancelled {
          throw RingError(errno: Errno.cancelled, operation: "write", subject: path)
        }
      }
      try await file.synchronize(dataOnly: false)
      await file.close()
    } catch {
      await file.close()
      throw error
    }
  }

  // MARK: The mark

  private static func text(_ status: FileStatus) -> [UInt8] {
    Array(
      """
      cairn bench made the file beside this one and may write over it.
      device=\(status.deviceNumber) inode=\(status.inode) bytes=\(status.byteCount) modified=\(status.modified)

      """.utf8)
  }

  private static func isMarked(_ path: String, _ status: FileStatus, on driver: any Driver) async
    -> Bool
  {
    guard status.kind == .file,
      let found = try? await driver.readFile(markPath(path), limit: 4096)
    else { return false }
    return found == text(status)
  }

  /// Notes the file as it is now to be bench's own.
  static func mark(_ path: String, on driver: any Driver) async throws(RingError) {
    let status = try await driver.status(path)
    try await driver.replaceFile(markPath(path), with: text(status), mode: 0o600)
  }

  /// After the run: the file goes, when that was asked for, or is noted as bench's own again.
  func close(_ options: JobOptions, on driver: any Driver) async throws(BenchError) {
    guard isOurs else { return }
    do throws(RingError) {
      if options.unlinks == true {
        try await driver.remove(path)
        try await driver.remove(Self.markPath(path))
      } else {
        try await Self.mark(path, on: driver)
      }
    } catch {
      throw .system(error)
    }
  }
}
