package import Ring

/// Measures a device for a bounded time without harming data: in a scratch file whose name is gone before the first
/// byte is written, so that no end of the process, however sudden, leaves it; or by reading only.
///
/// Loop-confined.
package final class DeviceMeasurement: @unchecked Sendable {
  /// Why nothing, or not all, could be measured; one line for people.
  package struct Refused: Error, Equatable, CustomStringConvertible {
    package var description: String
    package init(_ description: String) { self.description = description }
  }

  private let driver: any Driver
  /// For all phases together.
  private let runtime: Duration
  private var random: UInt64
  private var figures = DeviceFigures()

  private static let small = 4096
  private static let large = 1 << 20
  /// Below this nothing can be told from the device's cache.
  package static let leastScratch: UInt64 = 16 << 20
  private static let mostScratch: UInt64 = 1 << 30
  private static let depths = [1, 4, 16]

  package init(runtime: Duration, on driver: any Driver) {
    self.driver = driver
    self.runtime = runtime
    random = driver.random() | 1
  }

  /// Measures reads and writes in a scratch file in the directory at `path`.
  ///
  /// - Parameter freeByteCount: of its file system; a quarter at most is used. 0 when it does not say.
  /// - Throws: ``Refused``.
  package func measure(directory path: String, freeByteCount: UInt64) async throws(Refused)
    -> DeviceFigures
  {
    let room = freeByteCount == 0 ? Self.leastScratch * 4 : freeByteCount / 4
    let scratch = min(Self.mostScratch, room) / UInt64(Self.large) * UInt64(Self.large)
    guard scratch >= Self.leastScratch else {
      throw Refused(
        "too small: \(freeByteCount >> 20) MiB are free, \(Self.leastScratch >> 18) MiB are needed: "
          + path)
    }
    let file = try await openScratch(in: path)
    do throws(Refused) {
      try await tryFeatures(file)
      try await measureWrites(file, scratch)
      try await measureReads(file, figures.scratchByteCount)
    } catch {
      await file.close()
      throw error
    }
    await file.close()
    return figures
  }

  /// Measures reads of what is there: of a block device, or of a large file.
  package func measure(readingOnly path: String, byteCount: UInt64) async throws(Refused)
    -> DeviceFigures
  {
    let file: File
    do throws(RingError) {
      file = try await File.open(path, OpenFlags.readOnly | OpenFlags.direct, on: driver)
    } catch {
      throw Refused("cannot be read past the page cache: \(error.reason): \(path)")
    }
    guard byteCount >= Self.leastScratch else {
      await file.close()
      throw Refused("too small: \(byteCount >> 20) MiB: \(path)")
    }
    figures.hasDirectIO = true
    do throws(Refused) {
      try await measureReads(file, byteCount)
    } catch {
      await file.close()
      throw error
    }
    await file.close()
    return figures
  }

  // MARK: The scratch file

  private func openScratch(in path: String) async throws(Refused) -> File {
    let name = path + "/.cairn-tune-" + String(driver.random(), radix: 16)
    func open(_ flags: Int32) async throws(RingError) -> File {
      // Linux makes the file also when it refuses the flag.
      let file: Result<File, RingError>
      do throws(RingError) {
        file = .success(
          try await File.open(
            name, OpenFlags.readWrite | OpenFlags.create | flags, mode: 0o600, on: driver))
      } catch {
        file = .failure(error)
      }
      let removed = await driver.submit(.remove(path: name, isDirectory: false))
      if case .success(let open) = file, removed < 0 {
        await open.close()
        throw RingError(errno: -removed, operation: "remove", subject: name)
      }
      return try file.get()
    }
    do throws(RingError) {
      do throws(RingError) {
        let file = try await open(OpenFlags.direct)
        figures.hasDirectIO = true
        return file
      } catch {
        guard error.errno == Errno.invalid else { throw error }
        figures.hasDirectIO = false
        figures.isDirect = false
        return try await open(0)
      }
    } catch {
      if error.errno == Errno.readOnly {
        throw Refused(
          "the file system is read-only; --read-only measures what reading alone can tell: \(path)")
      }
      throw Refused("cannot make a scratch file: \(error.reason): \(path)")
    }
  }

  /// Tries fallocate and hole punching.
  private func tryFeatures(_ file: File) async throws(Refused) {
    figures.hasPreallocation = try await has(
      .allocate(
        descriptor: file.descriptor, mode: 0, offset: 0, byteCount: UInt64(Self.large)), file)
    // PUNCH_HOLE | KEEP_SIZE
    figures.hasPunching = try await has(
      .allocate(descriptor: file.descriptor, mode: 3, offset: 4096, byteCount: 8192), file)
  }

  private func has(_ operation: RingOperation, _ file: File) async throws(Refused) -> Bool {
    let result = await driver.submit(operation)
    if result >= 0 { return true }
    if result == -Errno.unsupported || result == -Errno.noSuchOperation { return false }
    let error = RingError(errno: -result, operation: "allocate", subject: file.path)
    throw Refused("\(error)")
  }

  // MARK: Phases

  private func share(_ percent: Int) -> Duration { runtime * percent / 100 }

  private func measureWrites(_ file: File, _ scratch: UInt64) async throws(Refused) {
    let slots = UInt64(scratch) / UInt64(Self.large)
    var next: UInt64 = 0
    for depth in Self.depths {
      let done = try await run(file, for: share(9), depth: depth, Self.large, isWrite: true) {
        defer { next += 1 }
        return next % slots * UInt64(Self.large)
      }
      figures.writes.append(Bandwidth(depth: depth, bytesPerSecond: done.bytesPerSecond))
    }
    // Only what was written can be read from the device: the rest are holes, which cost it nothing.
    figures.scratchByteCount = min(next, slots) * UInt64(Self.large)
    try await synchronize(file)
    figures.smallSync = try await syncs(file, Self.small)
    figures.largeSync = try await syncs(file, Self.large)
  }

  private func measureReads(_ file: File, _ byteCount: UInt64) async throws(Refused) {
    let blocks = byteCount / UInt64(Self.large)
    guard blocks > 0 else { return }
    var next: UInt64 = 0
    for depth in Self.depths {
      let done = try await run(file, for: share(8), depth: depth, Self.large, isWrite: false) {
        defer { next += 1 }
        return next % blocks * UInt64(Self.large)
      }
      figures.reads.append(Bandwidth(depth: depth, bytesPerSecond: done.bytesPerSecond))
    }
    let units = byteCount / UInt64(Self.small)
    var unit = nextRandom() % units
    figures.sequentialRead = Latency(
      try await run(file, for: share(7), depth: 1, Self.small, isWrite: false) {
        defer { unit += 1 }
        return unit % units * UInt64(Self.small)
      }.times)
    figures.randomRead = Latency(
      try await run(file, for: share(14), depth: 1, Self.small, isWrite: false) {
        self.nextRandom() % units * UInt64(Self.small)
      }.times)
    figures.randomReadRate = try await run(
      file, for: share(12), depth: 32, Self.small, isWrite: false
    ) {
      self.nextRandom() % units * UInt64(Self.small)
    }.perSecond
  }

  private struct Done {
    var times: [Duration] = []
    var perSecond = 0.0
    var bytesPerSecond = 0.0
  }

  private struct Finished: Sendable {
    var buffer: Slice
    var time: Duration?
    var failure: RingError?
  }

  private func operate(_ file: File, _ buffer: Slice, _ offset: UInt64, isWrite: Bool) async
    -> Finished
  {
    let start = driver.now
    do throws(RingError) {
      if isWrite {
        try await file.write([buffer], at: offset)
      } else if try await file.read(into: buffer, at: offset) < buffer.count {
        throw RingError(
          errno: Errno.inputOutput, operation: "read past the end", subject: file.path)
      }
      return Finished(buffer: buffer, time: driver.now - start)
    } catch {
      return Finished(buffer: buffer, failure: error)
    }
  }

  /// As many operations as begin within `duration`, at least three, `depth` of them at a time.
  private func run(
    _ file: File, for duration: Duration, depth: Int, _ byteCount: Int, isWrite: Bool,
    place: () -> UInt64
  ) async throws(Refused) -> Done {
    var idle = (0..<depth).map { _ in isWrite ? fresh(byteCount) : driver.buffers.slice(byteCount) }
    let began = driver.now
    let end = began + duration
    var done = Done()
    var begun = 0
    var failure: RingError?
    await withTaskGroup(of: Finished.self) { group in
      while true {
        // However busy the machine is, there is a figure.
        let goesOn = failure == nil && (driver.now < end || begun < 3) && !Task.isCancelled
        if goesOn, let buffer = idle.popLast() {
          begun += 1
          let offset = place()
          if isWrite { stamp(buffer, offset) }
          group.addTask { await self.operate(file, buffer, offset, isWrite: isWrite) }
        } else if let finished = await group.next() {
          if let time = finished.time { done.times.append(time) }
          failure = failure ?? finished.failure
          idle.append(finished.buffer)
        } else if !goesOn {
          break
        }
      }
    }
    try check(failure)
    let span = (driver.now - began) / .seconds(1)
    if span > 0 {
      done.perSecond = Double(done.times.count) / span
      done.bytesPerSecond = done.perSecond * Double(byteCount)
    }
    return done
  }

  /// Of a write and an fdatasync the time of the second, over and over, at least three times.
  private func syncs(_ file: File, _ byteCount: Int) async throws(Refused) -> Latency? {
    let end = driver.now + share(8)
    let buffer = fresh(byteCount)
    let places = max(1, figures.scratchByteCount / UInt64(byteCount))
    var times: [Duration] = []
    var failure: RingError?
    while failure == nil, driver.now < end || times.count < 3, !Task.isCancelled {
      let offset = UInt64(times.count) % places * UInt64(byteCount)
      stamp(buffer, offset)
      do throws(RingError) {
        try await file.write([buffer], at: offset)
        let start = driver.now
        try await file.synchronize()
        times.append(driver.now - start)
      } catch {
        failure = error
      }
    }
    try check(failure)
    return Latency(times)
  }

  private func synchronize(_ file: File) async throws(Refused) {
    do throws(RingError) { try await file.synchronize() } catch { try check(error) }
  }

  private func check(_ failure: RingError?) throws(Refused) {
    if Task.isCancelled { throw Refused("interrupted") }
    guard let failure else { return }
    if failure.errno == Errno.noSpace {
      throw Refused("too small: the file system is full: \(failure.subject)")
    }
    throw Refused("\(failure)")
  }

  // MARK: Bytes and places

  /// Xorshift64 (Marsaglia, Journal of Statistical Software, 2003): places must be spread, not secret.
  private func nextRandom() -> UInt64 {
    random ^= random << 13
    random ^= random >> 7
    random ^= random << 17
    return random
  }

  private func fresh(_ byteCount: Int) -> Slice {
    let slice = driver.buffers.slice(byteCount)
    slice.withMutableBytes { bytes in
      for at in stride(from: 0, to: byteCount, by: 8) {
        bytes.storeBytes(of: nextRandom(), toByteOffset: at, as: UInt64.self)
      }
    }
    return slice
  }

  /// Makes each 4 KiB differ from all others, lest a device keep them once.
  private func stamp(_ slice: Slice, _ offset: UInt64) {
    slice.withMutableBytes { bytes in
      for at in stride(from: 0, to: bytes.count, by: 4096) {
        bytes.storeBytes(
          of: nextRandom() ^ (offset + UInt64(at)), toByteOffset: at, as: UInt64.self)
      }
    }
  }
}
