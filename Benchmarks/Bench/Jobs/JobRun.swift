import Ring

/// One job under way: `iodepth` tasks on one loop, each making one transfer after the other. Loop-confined.
///
/// A transfer's time runs from the moment its task hands it to the driver until the task runs again. Submission is no part
/// of its own: the loop hands over all that one turn has brought with a single call, the one it also waits in.
final class JobRun<E: Engine>: @unchecked Sendable {
  private let driver: any Driver
  private let options: JobOptions
  private let engine: E
  private let usageScope: UsageScope

  private var pattern: AccessPattern
  private var statistics = JobStatistics()
  private var inFlight = 0
  private var isOver = false
  private var failure: BenchError?

  private var began = Duration.zero
  private var usageBefore = ResourceUsage()
  private var processUsageBefore = ResourceUsage()
  private var isRamping = false
  private var rampEnd = Duration.zero
  private var end: Duration?
  private var lastCompletion = Duration.zero
  private var pacers: (read: Pacer?, write: Pacer?) = (nil, nil)
  private var writesSinceSync = 0
  private var writesSinceDataSync = 0
  /// What was moved when half seconds were last counted.
  private var sampled: (read: DirectionStatistics, write: DirectionStatistics, at: Duration)?
  /// Blocks to be read back.
  private var written: Set<UInt64> = []
  private var unchecked: [UInt64] = []

  init(
    _ options: JobOptions, job: Int, engine: E, usageScope: UsageScope, isAppending: Bool,
    on driver: any Driver
  ) {
    self.options = options
    self.engine = engine
    self.usageScope = usageScope
    self.driver = driver
    pattern = AccessPattern(
      options, job: job, space: engine.spaceByteCount, isAppending: isAppending)
  }

  func run() async throws(BenchError) -> JobStatistics {
    let largest =
      E.usesBuffers
      ? JobOptions.Direction.allCases.map { options.sizes($0).largest }.max()! : 4096
    let workers = (0..<options.depth).map {
      Worker(index: $0, byteCount: largest, seed: options.randomSeed, on: driver)
    }
    begin()
    isRamping = options.rampTime > .zero
    rampEnd = began + options.rampTime
    if let runtime = options.runtime { end = rampEnd + runtime }
    if let rate = options.readRate { pacers.read = Pacer(rate: rate, start: began) }
    if let rate = options.writeRate { pacers.write = Pacer(rate: rate, start: began) }

    await withTaskGroup(of: Bool.self) { group in
      group.addTask { [self] in
        await sample()
        return false
      }
      for worker in workers {
        group.addTask { [self] in
          await work(worker)
          return true
        }
      }
      var working = workers.count
      while working > 0, let isWorker = await group.next() {
        if isWorker { working -= 1 }
      }
      isOver = true
      finish()
      group.cancelAll()
    }
    if let failure { throw failure }
    if !written.isEmpty { try await readBack(workers) }
    return statistics
  }

  private func begin() {
    usageBefore = driver.usage(of: usageScope)
    processUsageBefore = driver.usage(of: .process)
    began = driver.now
    lastCompletion = began
  }

  private func finish() {
    statistics.elapsed = lastCompletion - began
    statistics.jobTime = statistics.elapsed
    statistics.usage = driver.usage(of: usageScope).since(usageBefore)
    statistics.processUsage = driver.usage(of: .process).since(processUsageBefore)
  }

  /// The ramp is over: counting begins anew.
  private func endRamp() {
    isRamping = false
    statistics = JobStatistics()
    sampled = nil
    begin()
  }

  private func work(_ worker: Worker) async {
    var now = driver.now
    while !isOver, let access = pattern.next() {
      if pacers.read != nil || pacers.write != nil {
        await pace(access, now)
        if isOver { return }
        now = driver.now
      }
      inFlight += 1
      statistics.depths.noteDepth(inFlight)
      let moved: Int
      do throws(BenchError) {
        moved = try await engine.perform(access, worker)
      } catch {
        return fail(error)
      }
      inFlight -= 1
      let done = driver.now
      record(access.direction, moved, took: done - now, at: done)
      now = done
      if options.verification != .none {
        do throws(BenchError) {
          try check(access, worker)
        } catch {
          return fail(error)
        }
        now = driver.now
      }
      if access.direction == .write, let dataOnly = syncIsDue() {
        do throws(BenchError) {
          try await engine.synchronize(dataOnly: dataOnly)
        } catch {
          return fail(error)
        }
        let synced = driver.now
        statistics.sync.add((synced - now).nanoseconds)
        lastCompletion = synced
        now = synced
      }
    }
  }

  private func record(
    _ direction: JobOptions.Direction, _ moved: Int, took: Duration, at done: Duration
  ) {
    lastCompletion = done
    let nanoseconds = took.nanoseconds
    if direction == .read {
      statistics.read.byteCount &+= UInt64(moved)
      statistics.read.count &+= 1
      statistics.read.latency.add(nanoseconds)
    } else {
      statistics.write.byteCount &+= UInt64(moved)
      statistics.write.count &+= 1
      statistics.write.latency.add(nanoseconds)
    }
    if isRamping && done >= rampEnd { endRamp() }
    if let end, done >= end { isOver = true }
  }

  private func fail(_ error: BenchError) {
    failure = failure ?? error
    isOver = true
  }

  private func pace(_ access: Access, _ now: Duration) async {
    let due =
      access.direction == .read
      ? pacers.read?.reserve(access.count, now: now)
      : pacers.write?.reserve(access.count, now: now)
    guard let due, due > now else { return }
    let isPastEnd = end.map { due >= $0 } ?? false
    let wake = isPastEnd ? end! : due
    if await !driver.sleep(wake - now) || isPastEnd { isOver = true }
  }

  /// Whether fdatasync is enough; nil when no sync is due.
  private func syncIsDue() -> Bool? {
    writesSinceSync += 1
    writesSinceDataSync += 1
    if options.syncEvery > 0, writesSinceSync >= options.syncEvery {
      writesSinceSync = 0
      return false
    }
    if options.dataSyncEvery > 0, writesSinceDataSync >= options.dataSyncEvery {
      writesSinceDataSync = 0
      return true
    }
    return nil
  }

  private func sample() async {
    while await driver.sleep(.milliseconds(500)) {
      if isOver { return }
      if isRamping { continue }
      let now = driver.now
      if let before = sampled {
        let seconds = (now - before.at).inSeconds
        Self.sample(&statistics.read, since: before.read, seconds)
        Self.sample(&statistics.write, since: before.write, seconds)
      }
      sampled = (Self.counts(statistics.read), Self.counts(statistics.write), now)
    }
    // Cancelled: by the end of the run, or by whoever wants it to end.
    isOver = true
  }

  private static func counts(_ direction: DirectionStatistics) -> DirectionStatistics {
    var counts = DirectionStatistics()
    counts.byteCount = direction.byteCount
    counts.count = direction.count
    return counts
  }

  private static func sample(
    _ direction: inout DirectionStatistics, since before: DirectionStatistics, _ seconds: Double
  ) {
    guard direction.count > 0, seconds > 0 else { return }
    direction.bandwidth.add(Double(direction.byteCount - before.byteCount) / 1024 / seconds)
    direction.rate.add(Double(direction.count - before.count) / seconds)
  }

  // MARK: Verifying

  private func check(_ access: Access, _ worker: Worker) throws(BenchError) {
    if access.direction == .write {
      written.insert(access.offset)
    } else if !options.pattern.writes {
      try engine.verify(access, worker)
      statistics.verifiedCount += 1
    }
  }

  /// Reads every block that was written, and compares.
  private func readBack(_ workers: [Worker]) async throws(BenchError) {
    unchecked = written.sorted()
    written = []
    let count = options.writeSizes.largest
    await withTaskGroup(of: Void.self) { group in
      for worker in workers {
        group.addTask { [self] in
          while failure == nil, !Task.isCancelled, let offset = unchecked.popLast() {
            let access = Access(direction: .read, offset: offset, count: count)
            do throws(BenchError) {
              _ = try await engine.perform(access, worker)
              try engine.verify(access, worker)
              statistics.verifiedCount += 1
            } catch {
              failure = failure ?? error
            }
          }
        }
      }
    }
    if let failure { throw failure }
  }
}
