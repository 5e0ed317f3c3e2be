import Ring
import Service
import Simulation
import Swarm

/// How a child tells its parent what it found: lines of tab-separated fields after "@sim"; all else that it prints is
/// for people.
enum SimulationRecord {
  private static let mark = "@sim"

  static func lines(_ report: SimulationReport) -> [String] {
    let trial = report.trial
    var lines: [String] = []
    func add(_ fields: String...) {
      lines.append(([mark] + fields.map(escaped)).joined(separator: "\t"))
    }
    add("seed", "\(trial.seed)")
    for line in trial.scenario { add("scenario", line) }
    add("hash", "\(trial.eventHash)")
    for kind in trial.operations.keys.sorted() {
      let counts = trial.operations[kind]!
      add("operation", kind, "\(counts.ok)", "\(counts.inDoubt)", "\(counts.refused)")
    }
    for kind in trial.faults.keys.sorted() { add("fault", kind, "\(trial.faults[kind]!)") }
    for point in trial.injections.keys.sorted() {
      add("injection", point, "\(trial.injections[point]!)")
    }
    add(
      "counts", "\(trial.operationCount)", "\(trial.byteCount)", "\(trial.faultCount)",
      "\(trial.plannedFaultCount)", "\(trial.plannedOperationCount)", "\(trial.hitCount)")
    add("simulated", "\(trial.simulated.nanoseconds)")
    add("elapsed", "\(report.elapsed.nanoseconds)")
    for line in trial.ledTo { add("ledTo", line) }
    if let failure = trial.failure {
      add("failure", failure.property, failure.detail, "\(failure.at.nanoseconds)")
    }
    add("end")
    return lines
  }

  /// Said before anything is simulated.
  static func plan(faults: Int, operations: Int) -> String {
    "\(mark)\tplan\t\(faults)\t\(operations)"
  }

  static func isRecord(_ line: String) -> Bool { line.hasPrefix(mark + "\t") }

  /// What a child that did not live to report had planned.
  static func readPlan(_ lines: [String]) -> (faults: Int, operations: Int) {
    for line in lines where line.hasPrefix(mark + "\tplan\t") {
      let fields = line.split(separator: "\t")
      if fields.count == 4 { return (Int(fields[2]) ?? 0, Int(fields[3]) ?? 0) }
    }
    return (0, 0)
  }

  /// Nil when the record is not whole.
  static func read(_ lines: [String]) -> SimulationReport? {
    var report: SimulationReport?
    var isWhole = false
    for line in lines {
      let fields = line.split(separator: "\t", omittingEmptySubsequences: false).map(plain)
      guard fields.count > 1, fields[0] == mark else { continue }
      let numbers = fields.dropFirst(2).map { UInt64($0) ?? 0 }
      func integer(_ index: Int) -> Int { Int(clamping: numbers[index]) }
      switch (fields[1], fields.count) {
      case ("seed", 3):
        report = SimulationReport(trial: TrialReport(seed: numbers[0]), elapsed: .zero)
      case ("scenario", 3): report?.trial.scenario.append(fields[2])
      case ("hash", 3): report?.trial.eventHash = numbers[0]
      case ("operation", 6):
        var counts = OperationCounts()
        counts.ok = integer(1)
        counts.inDoubt = integer(2)
        counts.refused = integer(3)
        report?.trial.operations[fields[2]] = counts
      case ("fault", 4): report?.trial.faults[fields[2]] = integer(1)
      case ("injection", 4): report?.trial.injections[fields[2]] = integer(1)
      case ("counts", 8):
        report?.trial.operationCount = integer(0)
        report?.trial.byteCount = numbers[1]
        report?.trial.faultCount = integer(2)
        report?.trial.plannedFaultCount = integer(3)
        report?.trial.plannedOperationCount = integer(4)
        report?.trial.hitCount = integer(5)
      case ("simulated", 3): report?.trial.simulated = .nanoseconds(Int64(clamping: numbers[0]))
      case ("elapsed", 3): report?.elapsed = .nanoseconds(Int64(clamping: numbers[0]))
      case ("ledTo", 3): report?.trial.ledTo.append(fields[2])
      case ("failure", 5):
        report?.trial.failure = TrialFailure(
          property: fields[2], detail: fields[3], at: .nanoseconds(Int64(clamping: numbers[2])))
      case ("plan", 4): break
      case ("end", 2): isWhole = true
      default: return nil
      }
    }
    return isWhole ? report : nil
  }

  private static func escaped(_ text: String) -> String {
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\t": result += "\\t"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  private static func plain(_ text: Substring) -> String {
    var result = ""
    var isEscaped = false
    for scalar in text.unicodeScalars {
      if isEscaped {
        result.unicodeScalars.append(scalar == "n" ? "\n" : scalar == "t" ? "\t" : scalar)
        isEscaped = false
      } else if scalar == "\\" {
        isEscaped = true
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}

extension Duration {
  fileprivate var nanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    return UInt64(seconds) &* 1_000_000_000 &+ UInt64(attoseconds / 1_000_000_000)
  }
  /// For rates.
  fileprivate var inSeconds: Double { Double(nanoseconds) / 1e9 }
}

/// "23.8"
func tenths(_ value: Double) -> String {
  guard value.isFinite, value >= 0, value < 1e12 else { return "-" }
  let rounded = Int((value * 10).rounded())
  return "\(rounded / 10).\(rounded % 10)"
}

/// All that a batch has found.
struct SimulationSummary {
  let first: UInt64
  private(set) var seedCount = 0
  private var hashes: [(seed: UInt64, hash: UInt64)] = []
  private(set) var failures: [TrialReport] = []
  private var operations: [String: OperationCounts] = [:]
  private var operationCount = 0
  private var byteCount: UInt64 = 0
  private var faults: [String: Int] = [:]
  private var faultCount = 0
  private var hitCount = 0
  private var injections: [String: Int] = [:]
  private var simulated = Duration.zero
  /// Real time of all trials, one after the other.
  private var worked = Duration.zero
  private var last: UInt64
  /// Real time from start to end.
  var elapsed = Duration.zero

  init(first: UInt64) {
    self.first = first
    last = first
  }

  mutating func add(_ report: SimulationReport) {
    let trial = report.trial
    seedCount += 1
    last = max(last, trial.seed)
    hashes.append((trial.seed, trial.eventHash))
    for (kind, counts) in trial.operations {
      operations[kind, default: OperationCounts()].ok += counts.ok
      operations[kind, default: OperationCounts()].inDoubt += counts.inDoubt
      operations[kind, default: OperationCounts()].refused += counts.refused
    }
    operationCount += trial.operationCount
    byteCount &+= trial.byteCount
    for (kind, count) in trial.faults { faults[kind, default: 0] += count }
    faultCount += trial.faultCount
    hitCount += trial.hitCount
    for (point, count) in trial.injections { injections[point, default: 0] += count }
    simulated += trial.simulated
    worked += report.elapsed
    if trial.failure != nil { failures.append(trial) }
  }

  /// Simulated seconds a second of one core.
  var speed: Double { worked > .zero ? simulated.inSeconds / worked.inSeconds : 0 }
  private func perMinute(_ count: Int) -> Double {
    simulated > .zero ? Double(count) / (simulated.inSeconds / 60) : 0
  }
  private var operationsPerSecond: Double {
    simulated > .zero ? Double(operationCount) / simulated.inSeconds : 0
  }
  /// Of one seed its own, of several all together by seed, in whatever order they ended.
  private var eventHash: UInt64 {
    if hashes.count == 1 { return hashes[0].hash }
    var all = EventHash()
    for (seed, hash) in hashes.sorted(by: { $0.seed < $1.seed }) {
      all.combine(seed)
      all.combine(hash)
    }
    return all.value
  }

  // MARK: For people

  /// At most a screen for the first failure, a line for each further one.
  func lines(_ request: SimulationRequest) -> [String] {
    var lines: [String] = []
    let failed = failures.sorted { $0.seed < $1.seed }
    if let worst = failed.first { lines += Self.screen(worst, request) + [""] }
    for other in failed.dropFirst() {
      lines.append("seed \(other.seed) FAILED: \(other.failure!.property)")
    }
    let which =
      seedCount == 1 ? "seed \(hashes[0].seed)" : "\(seedCount) seeds from \(first) to \(last)"
    let verdict =
      failed.isEmpty ? "all held" : seedCount == 1 ? "FAILED" : "\(failed.count) FAILED"
    lines.append("\(which), commit \(commit): \(verdict)")
    lines.append(
      "  \(tenths(simulated.inSeconds)) s simulated in \(tenths(elapsed.inSeconds)) s: "
        + "\(tenths(speed)) simulated seconds a second on one core, \(request.jobs) at once")
    lines.append(
      "  operations \(operationCount), \(tenths(operationsPerSecond)) a simulated second, "
        + byteText(byteCount))
    let kinds = operations.sorted { $0.key < $1.key }.map { kind, counts in
      var text = "\(kind) \(counts.ok)"
      if counts.inDoubt > 0 { text += "+\(counts.inDoubt)?" }
      if counts.refused > 0 { text += "-\(counts.refused)" }
      return text
    }
    lines += Self.wrapped(kinds, indent: "    ")
    lines.append(
      "  faults \(faultCount), \(tenths(perMinute(faultCount))) a simulated minute; "
        + "\(hitCount) operations, processes and bytes hit")
    lines += Self.wrapped(
      faults.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }, indent: "    ")
    let rare = injections.values.reduce(0, +)
    if rare > 0 {
      lines.append("  rare paths taken \(rare)")
      lines += Self.wrapped(
        injections.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }, indent: "    ")
    }
    lines.append("  event hash \(hex(eventHash))")
    return lines
  }

  private static let lineLength = 100
  private static let detailLines = 12

  /// A failure in one screen.
  private static func screen(_ report: TrialReport, _ request: SimulationRequest) -> [String] {
    guard let failure = report.failure else { return [] }
    func cut(_ text: String) -> String {
      text.count > lineLength ? String(text.prefix(lineLength - 1)) + "…" : text
    }
    var lines = [
      "FAILED: \(failure.property)",
      "  seed \(report.seed), commit \(commit), at \(failure.at.text) of simulated time",
    ]
    let detail = failure.detail.split(separator: "\n").flatMap { Self.folded($0) }
    lines += detail.prefix(detailLines).map { "  " + $0 }
    if detail.count > detailLines {
      lines.append("  and \(detail.count - detailLines) lines more")
    }
    for line in report.scenario.prefix(4) { lines.append(cut("  scenario: " + line)) }
    if !report.ledTo.isEmpty {
      lines.append("  what led to it:")
      lines += report.ledTo.suffix(detailLines).map { cut("    " + $0) }
    }
    // A shrunk trial names many operations: it must stay whole, to be pasted.
    let words = request.words(report.seed).joined(separator: " ")
    lines.append("  replay: cairn \(words) --trace")
    if request.keptFaults == nil { lines.append("  shrink: cairn \(words) --shrink") }
    return lines
  }

  /// A long line as several, the further ones set in.
  private static func folded(_ text: Substring) -> [String] {
    var lines: [String] = []
    var rest = text
    while !rest.isEmpty {
      let indent = lines.isEmpty ? "" : "    "
      let part = rest.prefix(lineLength - indent.count)
      lines.append(indent + part)
      rest = rest.dropFirst(part.count)
    }
    return lines
  }

  private static func wrapped(_ words: [String], indent: String) -> [String] {
    var lines: [String] = []
    var line = ""
    for word in words {
      if !line.isEmpty && indent.count + line.count + word.count + 2 > lineLength {
        lines.append(indent + line + ",")
        line = ""
      }
      line += line.isEmpty ? word : ", " + word
    }
    if !line.isEmpty { lines.append(indent + line) }
    return lines
  }

  // MARK: For scripts

  func json(_ request: SimulationRequest) -> JSON {
    .object([
      ("commit", .string(commit)), ("firstSeed", .number(first)), ("lastSeed", .number(last)),
      ("seeds", .number(seedCount)), ("eventHash", .string(hex(eventHash))),
      ("operations", .number(operationCount)), ("bytes", .number(byteCount)),
      ("faults", .number(faultCount)), ("simulatedSeconds", .double(simulated.inSeconds)),
      ("realSeconds", .double(elapsed.inSeconds)), ("simulatedSecondsPerSecond", .double(speed)),
      ("faultsPerSimulatedMinute", .double(perMinute(faultCount))), ("hits", .number(hitCount)),
      ("hitsPerSimulatedMinute", .double(perMinute(hitCount))),
      (
        "operationsByKind",
        .object(
          operations.sorted { $0.key < $1.key }.map { kind, counts in
            (
              kind,
              .object([
                ("ok", .number(counts.ok)), ("inDoubt", .number(counts.inDoubt)),
                ("refused", .number(counts.refused)),
              ])
            )
          })
      ),
      (
        "faultsByKind",
        .object(faults.sorted { $0.key < $1.key }.map { ($0.key, .number($0.value)) })
      ),
      (
        "injections",
        .object(injections.sorted { $0.key < $1.key }.map { ($0.key, .number($0.value)) })
      ),
      (
        "failures",
        .array(
          failures.sorted { $0.seed < $1.seed }.map { report in
            .object([
              ("seed", .number(report.seed)), ("property", .string(report.failure!.property)),
              ("detail", .string(report.failure!.detail)),
              ("atSeconds", .double(report.failure!.at.inSeconds)),
              ("plannedFaults", .number(report.plannedFaultCount)),
              ("plannedOperations", .number(report.plannedOperationCount)),
              (
                "replay", .string("cairn " + request.words(report.seed).joined(separator: " "))
              ),
            ])
          })
      ),
    ])
  }
}
