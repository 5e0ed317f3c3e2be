import Ring
import Service
import Swarm
import Synchronization

/// Told by one thread, looked at by another.
final class SharedFlag: Sendable {
  private let value = Atomic<Bool>(false)
  var isRaised: Bool { value.load(ordering: .relaxed) }
  func raise() { value.store(true, ordering: .relaxed) }
}

/// Where children leave what they say; removed at the end. Loop-confined.
final class SimulationFolder: @unchecked Sendable {
  // Loop-confined.
  let path: String
  private let driver: any Driver
  private var count = 0

  init(_ driver: any Driver) async throws(Failure) {
    self.driver = driver
    path =
      (HostProcess.environment("TMPDIR") ?? "/tmp") + "/cairn-sim-"
      + String(driver.random(), radix: 16)
    do throws(RingError) {
      try await driver.makeDirectories(path, mode: 0o700)
    } catch {
      throw .failed(error.reason, path)
    }
  }

  /// A file that nobody uses.
  func newFile() -> String {
    count += 1
    return "\(path)/\(count)"
  }

  func remove() async {
    for entry in (try? await driver.list(path)) ?? [] {
      try? await driver.remove(path + "/" + PathText.string(entry.name))
    }
    try? await driver.remove(path, isDirectory: true)
  }
}

/// One seed in a process of its own.
enum SimulationChild {
  /// A child that does not end by itself after its time limit and so much more is killed.
  private static let grace = Duration.seconds(30)

  /// For a shell that becomes the child: glibc reads how to keep memory when a process starts. A trial allocates by the
  /// million from a thread of its own, and lives for seconds. By default that thread's heap grows by a call of mprotect for
  /// each few pages, what is freed at its end goes back to the kernel, to be asked for and zeroed anew, and only seven idle
  /// pieces of a size are kept at hand.
  private static let script =
    "export GLIBC_TUNABLES="
    + [
      "arena_max=1", "top_pad=\(4 << 20)", "trim_threshold=\(256 << 20)",
      "mmap_threshold=\(32 << 20)", "tcache_count=100",
    ].map { "glibc.malloc." + $0 }.joined(separator: ":") + #"; exec "$0" "$@""#

  /// Always gives a report: that of the child, or one that says how the child ended.
  static func run(
    _ seed: UInt64, _ request: SimulationRequest, _ folder: SimulationFolder, _ driver: any Driver
  ) async -> SimulationReport {
    let log = folder.newFile()
    let began = driver.now
    var words = request.words(seed) + ["--child"]
    words += ["--time-limit", "\(max(1, Int(request.timeLimit / .milliseconds(1))))ms"]
    if request.isTwice { words.append("--twice") }
    let launch = ProcessLaunch(
      executable: "/bin/sh", arguments: ["-c", script, HostProcess.executablePath] + words,
      logPath: log)
    let process = Outcome<Int32>()
    let started = await driver.submit(.spawnProcess(launch, process))
    guard started >= 0, let pid = process.value else {
      return broken(seed, "cannot start a process", "errno \(-started)", .zero)
    }
    let isLate = SharedFlag()
    let bound = driver.spawn("time limit") {
      guard await driver.sleep(request.timeLimit + grace) else { return }
      isLate.raise()
      _ = await driver.submit(.signalProcess(pid: pid, signal: Signal.kill))
    }
    // The wait is not ours to cancel: a child that is told to go is waited for too.
    let ended = Promise<Int32>()
    driver.spawn("child") { ended.fulfil(await driver.submit(.waitForProcess(pid: pid))) }
    let status = await withTaskCancellationHandler {
      await ended.get()
    } onCancel: {
      driver.spawn("stop child") {
        _ = await driver.submit(.signalProcess(pid: pid, signal: Signal.kill))
      }
    }
    bound.cancel()
    let elapsed = driver.now - began
    let said = (try? await driver.readFile(log, limit: 64 << 20)) ?? []
    try? await driver.remove(log)
    let lines = String(decoding: said, as: UTF8.self).split(separator: "\n").map(String.init)
    if status == 0, let report = SimulationRecord.read(lines) { return report }
    let plan = SimulationRecord.readPlan(lines)
    func failed(_ property: String, _ detail: String) -> SimulationReport {
      var report = broken(seed, property, detail, elapsed)
      report.trial.plannedFaultCount = plan.faults
      report.trial.plannedOperationCount = plan.operations
      return report
    }
    if isLate.isRaised {
      return failed("real time", "killed after \(elapsed.text): it did not end by itself")
    }
    let what =
      status > 128 ? "signal \(status - 128)" : status == 0 ? "no report" : "exit status \(status)"
    // What a trap says of itself, else the last words.
    let spoken = lines.filter { !SimulationRecord.isRecord($0) }
    let fatal = spoken.firstIndex { $0.contains("Fatal error") || $0.contains("precondition") }
    let told = fatal.map { spoken[$0...].prefix(6) } ?? spoken.suffix(6)
    return failed("the process survives", ([what] + told).joined(separator: "\n"))
  }

  private static func broken(
    _ seed: UInt64, _ property: String, _ detail: String, _ elapsed: Duration
  ) -> SimulationReport {
    var report = TrialReport(seed: seed)
    report.failure = TrialFailure(property: property, detail: detail, at: .zero)
    return SimulationReport(trial: report, elapsed: elapsed)
  }
}

/// Seeds, some at a time, until all are done, the time is over or one failed. Loop-confined.
final class SimulationBatch: @unchecked Sendable {
  // Loop-confined.
  private let request: SimulationRequest
  private let folder: SimulationFolder
  private let context: Context
  private let began: Duration
  private var next: UInt64
  private let last: UInt64
  private var isExhausted = false
  private var isFailed = false
  private(set) var summary: SimulationSummary

  init(_ request: SimulationRequest, _ folder: SimulationFolder, _ context: Context) {
    self.request = request
    self.folder = folder
    self.context = context
    began = context.driver.now
    switch request.seeds {
    case .one(let seed):
      next = seed
      last = seed
    case .range(let seeds):
      next = seeds.lowerBound
      last = seeds.upperBound
    case .fresh:
      // Short enough to be typed.
      next = context.driver.random() >> 32
      last = .max
    }
    summary = SimulationSummary(first: next)
  }

  func run() async {
    if case .fresh(let time) = request.seeds {
      await context.output.error("fresh seeds from \(next) on, for \(time.text)")
    }
    let isShown = HostProcess.isTerminal(2)
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<request.jobs {
        group.addTask { [self] in
          while let seed = takeSeed() {
            let report = await SimulationChild.run(seed, request, folder, context.driver)
            if Task.isCancelled { return }
            summary.add(report)
            if report.trial.failure != nil { isFailed = true }
            if isShown {
              await context.output.errorText(
                "\r\u{1B}[K\(summary.seedCount) seeds, \(summary.failures.count) failed, "
                  + "\(tenths(summary.speed)) simulated s a second")
            }
          }
        }
      }
      // The first failure ends the others, unless all are wanted.
      while await group.next() != nil {
        if isFailed && !request.keepsGoing { group.cancelAll() }
      }
    }
    if isShown { await context.output.errorText("\r\u{1B}[K") }
    summary.elapsed = context.driver.now - began
  }

  private func takeSeed() -> UInt64? {
    if isExhausted || Task.isCancelled || isFailed && !request.keepsGoing { return nil }
    if case .fresh(let time) = request.seeds, context.driver.now - began >= time { return nil }
    let seed = next
    if seed == last { isExhausted = true } else { next += 1 }
    return seed
  }
}
