import CCommit
import Glibc  // fflush only.
import Ring
import Service
import Simulation
import Swarm

/// `sim`: whole clusters in one thread under faults, from seeds.
///
/// Each seed runs in a process of its own (``SimulationChild``), so that one that traps or hangs costs the batch nothing
/// and is reported as that seed's failure. With `--trace` the one seed runs in this process.
func simulate(_ context: Context) async throws(Failure) {
  let request = try SimulationRequest(context.arguments)
  if context.arguments.has("--child") {
    guard case .one(let seed) = request.seeds else { throw .usage("--child takes --seed") }
    let report = await runTrial(seed, request, context, trace: nil)
    for line in SimulationRecord.lines(report) { try await context.output.line(line) }
    return try await context.output.flush()
  }
  if context.arguments.has("--trace") { return try await trace(request, context) }
  if context.arguments.has("--shrink") { return try await shrink(request, context) }
  let folder = try await SimulationFolder(context.driver)
  let batch = SimulationBatch(request, folder, context)
  await batch.run()
  await folder.remove()
  if Task.isCancelled { throw .interrupted(signal: Signal.interrupt) }
  try await show(batch.summary, request, context)
}

/// The commit this executable was made from.
var commit: String { String(cString: cairn_commit()) }

/// What the command line asks for.
struct SimulationRequest: Sendable {
  enum Seeds: Sendable {
    case one(UInt64)
    case range(ClosedRange<UInt64>)
    /// Fresh ones, for so long.
    case fresh(Duration)
  }
  var seeds: Seeds
  var jobs: Int
  /// Of workload; nil: what the seed draws.
  var seconds: Int?
  var keptFaults: [Int]?
  var keptOperations: [Int]?
  /// Of real time for a seed.
  var timeLimit: Duration
  /// Each seed twice in one process, to see the same event hash.
  var isTwice: Bool
  var keepsGoing: Bool
  var isJSON: Bool

  init(_ arguments: Arguments) throws(Failure) {
    isTwice = arguments.has("--twice")
    keepsGoing = arguments.has("--keep-going")
    isJSON = arguments.has("--json")
    seconds = try arguments.number("--seconds", in: 1...86_400)
    jobs = try arguments.number("--jobs", in: 1...256) ?? 1
    timeLimit = try Self.duration("--time-limit", arguments) ?? .seconds(300)
    let forTime = try Self.duration("--for", arguments)
    keptFaults = try arguments["--only-faults"].map { text throws(Failure) in
      try Self.indices("--only-faults", text)
    }
    keptOperations = try arguments["--only-operations"].map { text throws(Failure) in
      try Self.indices("--only-operations", text)
    }
    switch (arguments["--seed"], arguments["--seeds"], forTime) {
    case (let text?, nil, _):
      if forTime != nil && !arguments.has("--shrink") {
        throw .usage("--for draws fresh seeds; with --seed it only bounds --shrink")
      }
      seeds = .one(try Self.seed("--seed", text))
    case (nil, let text?, nil):
      guard let dots = text.firstRange(of: "..") else {
        throw .usage("--seeds takes A..B, both included: \(text)")
      }
      let first = try Self.seed("--seeds", String(text[..<dots.lowerBound]))
      let last = try Self.seed("--seeds", String(text[dots.upperBound...]))
      guard first <= last else { throw .usage("--seeds takes A..B with A up to B: \(text)") }
      seeds = .range(first...last)
    case (nil, nil, let time?): seeds = .fresh(time)
    default: throw .usage("sim takes one of --seed N, --seeds A..B and --for DURATION")
    }
    if case .one = seeds { return }
    for name in ["--only-faults", "--only-operations"] where arguments[name] != nil {
      throw .usage("\(name) belongs to one --seed")
    }
    for name in ["--trace", "--shrink"] where arguments.has(name) {
      throw .usage("\(name) belongs to one --seed")
    }
  }

  private static func duration(_ name: String, _ arguments: Arguments) throws(Failure) -> Duration?
  {
    guard let text = arguments[name] else { return nil }
    guard let duration = Duration(text: text), duration > .zero else {
      throw .usage("\(name) takes a time such as 90s or 5min: \(text)")
    }
    return duration
  }

  private static func seed(_ name: String, _ text: String) throws(Failure) -> UInt64 {
    let seed = text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
    guard let seed else { throw .usage("\(name) takes a number below 2^64: \(text)") }
    return seed
  }

  /// "0-4,9", "none".
  private static func indices(_ name: String, _ text: String) throws(Failure) -> [Int] {
    if text == "none" { return [] }
    var found: Set<Int> = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let ends = part.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
      guard let first = Int(ends[0]), let last = Int(ends[ends.count - 1]), first >= 0,
        first <= last, last < 1 << 32, last - first < 1 << 24
      else { throw .usage("\(name) takes numbers and ranges such as 0-4,9, or none: \(text)") }
      found.formUnion(first...last)
    }
    return found.sorted()
  }

  /// As `--only-faults` reads them.
  static func text(_ indices: [Int]) -> String {
    if indices.isEmpty { return "none" }
    var parts: [String] = []
    var rest = indices[...]
    while let first = rest.popFirst() {
      var last = first
      while rest.first == last + 1 { last = rest.removeFirst() }
      parts.append(first == last ? "\(first)" : "\(first)-\(last)")
    }
    return parts.joined(separator: ",")
  }

  /// The words after `cairn` that run one seed of this request.
  func words(_ seed: UInt64) -> [String] {
    var words = ["sim", "--seed", "\(seed)"]
    if let seconds { words += ["--seconds", "\(seconds)"] }
    if let keptFaults { words += ["--only-faults", Self.text(keptFaults)] }
    if let keptOperations { words += ["--only-operations", Self.text(keptOperations)] }
    return words
  }
}

/// A report and what its making took.
struct SimulationReport: Sendable {
  var trial: TrialReport
  /// Of real time.
  var elapsed: Duration
}

/// Runs one seed in this process: on a lane, so that the loop can tell it when its time is over.
func runTrial(
  _ seed: UInt64, _ request: SimulationRequest, _ context: Context,
  trace: (@Sendable (String) -> Void)?
) async -> SimulationReport {
  let driver = context.driver
  let isOver = SharedFlag()
  let bound = driver.spawn("time limit") {
    if await driver.sleep(request.timeLimit) { isOver.raise() }
  }
  var options = TrialOptions()
  options.seconds = request.seconds.map { .seconds($0) }
  options.keptFaults = request.keptFaults.map { Set($0) }
  options.keptOperations = request.keptOperations.map { Set($0) }
  options.trace = trace
  if context.arguments.has("--child") {
    options.onPlan = { faults, operations in
      print(SimulationRecord.plan(faults: faults, operations: operations))
      // A trap that follows takes what is not out yet.
      fflush(nil)
    }
  }
  options.isOver = { isOver.isRaised }
  let began = driver.now
  var report = await driver.offload(lane: 0) { [options] in
    Trial.run(seed: seed, options: options)
  }
  let elapsed = driver.now - began
  if request.isTwice, report.failure == nil {
    let second = await driver.offload(lane: 0) { [options] in
      Trial.run(seed: seed, options: options)
    }
    if second.eventHash != report.eventHash {
      report.failure = TrialFailure(
        property: "the same seed gives the same events",
        detail: "event hash \(hex(report.eventHash)), the second time \(hex(second.eventHash))",
        at: report.simulated)
    }
  }
  bound.cancel()
  return SimulationReport(trial: report, elapsed: elapsed)
}

/// 16 digits.
func hex(_ value: UInt64) -> String {
  let digits = String(value, radix: 16)
  return String(repeating: "0", count: 16 - digits.count) + digits
}

/// `--trace`: every line of the timeline, then the report, all on standard output.
private func trace(_ request: SimulationRequest, _ context: Context) async throws(Failure) {
  guard case .one(let seed) = request.seeds else { return }
  let report = await runTrial(seed, request, context) { print($0) }
  var summary = SimulationSummary(first: seed)
  summary.add(report)
  summary.elapsed = report.elapsed
  for line in summary.lines(request) { print(line) }
  if summary.failures.isEmpty { return }
  throw .reported
}

/// Prints what came of it; throws when something failed.
private func show(_ summary: SimulationSummary, _ request: SimulationRequest, _ context: Context)
  async throws(Failure)
{
  if request.isJSON {
    try await context.output.line(summary.json(request).text)
  } else {
    for line in summary.lines(request) { try await context.output.line(line) }
  }
  try await context.output.flush()
  if !summary.failures.isEmpty { throw .reported }
}

/// `--shrink`: the same failure with as little as possible.
private func shrink(_ request: SimulationRequest, _ context: Context) async throws(Failure) {
  guard case .one(let seed) = request.seeds else { return }
  let folder = try await SimulationFolder(context.driver)
  let outcome = await shrink(seed, request, folder, context)
  await folder.remove()
  if Task.isCancelled { throw .interrupted(signal: Signal.interrupt) }
  guard let outcome else {
    try await context.output.line("seed \(seed) held: there is nothing to shrink")
    return try await context.output.flush()
  }
  try await show(outcome.summary, outcome.request, context)
}

private func shrink(
  _ seed: UInt64, _ request: SimulationRequest, _ folder: SimulationFolder, _ context: Context
) async -> (request: SimulationRequest, summary: SimulationSummary)? {
  let driver = context.driver
  let began = driver.now
  let bound = (try? duration(context.arguments)) ?? .seconds(600)
  let first = await SimulationChild.run(seed, request, folder, driver)
  guard let failure = first.trial.failure else { return nil }
  await context.output.error(
    "seed \(seed): \(failure.property); \(first.trial.plannedFaultCount) faults, "
      + "\(first.trial.plannedOperationCount) operations planned")
  var last = (request: request, report: first)
  let start = Shrinker.Candidate(
    faults: request.keptFaults ?? Array(0..<first.trial.plannedFaultCount),
    operations: request.keptOperations ?? Array(0..<first.trial.plannedOperationCount),
    // A trial that trapped says nothing of its time.
    seconds: request.seconds
      ?? (first.trial.simulated > .zero ? Int(first.trial.simulated.components.seconds) + 1 : 128))
  func asked(_ candidate: Shrinker.Candidate) -> SimulationRequest {
    var asked = request
    asked.keptFaults = candidate.faults
    asked.keptOperations = candidate.operations
    // As long as nothing was shortened, the seed's own draw stands.
    asked.seconds = candidate.seconds == start.seconds ? request.seconds : candidate.seconds
    return asked
  }
  var reports: [SimulationReport] = []
  let shrinker = Shrinker(
    width: request.jobs,
    fails: { candidates in
      reports = await withTaskGroup(of: (Int, SimulationReport).self) { group in
        for (index, candidate) in candidates.enumerated() {
          let asked = asked(candidate)
          group.addTask { (index, await SimulationChild.run(seed, asked, folder, driver)) }
        }
        var found: [Int: SimulationReport] = [:]
        for await (index, report) in group { found[index] = report }
        return candidates.indices.map { found[$0]! }
      }
      return reports.map { $0.trial.failure?.property == failure.property }
    },
    isOver: { Task.isCancelled || driver.now - began > bound },
    progress: { candidate in
      if let report = reports.first(where: { $0.trial.failure?.property == failure.property }) {
        last = (asked(candidate), report)
      }
      await context.output.error(
        "\((driver.now - began).text): \(candidate.faults.count) faults, "
          + "\(candidate.operations.count) operations, \(candidate.seconds) s")
    })
  _ = await shrinker.shrink(start)
  var summary = SimulationSummary(first: seed)
  summary.add(last.report)
  summary.elapsed = driver.now - began
  return (last.request, summary)
}

private func duration(_ arguments: Arguments) throws(Failure) -> Duration? {
  arguments["--for"].flatMap { Duration(text: $0) }
}
