import Messages

/// A check under way, or the last one: soft state of its leader. Loop-confined.
final class CheckRun: @unchecked Sendable {
  // Loop-confined.
  let id: UInt64
  let parts: CheckParts
  let repairs: Bool
  var phase = ""
  var done: UInt64 = 0
  var total: UInt64 = 0
  private(set) var findings: [CheckStatus.Finding] = []
  private(set) var findingCount: UInt64 = 0
  private(set) var isDone = false
  private(set) var failure = ""
  /// Findings that are kept.
  private static let findingLimit = 20_000

  init(id: UInt64, _ request: StartCheck) {
    self.id = id
    parts = request.parts
    repairs = request.repairs
  }

  func begin(_ phase: String, of total: Int = 0) {
    self.phase = phase
    done = 0
    self.total = UInt64(total)
  }

  /// Notes what disagrees.
  func add(
    _ kind: CheckStatus.Finding.Kind, _ subject: String, _ text: String, isRepaired: Bool = false
  ) {
    findingCount += 1
    guard findings.count < Self.findingLimit else { return }
    findings.append(
      CheckStatus.Finding(
        kind: kind, subject: Self.cut(subject), text: Self.cut(text), isRepaired: isRepaired))
  }

  private static func cut(_ text: String) -> String {
    text.utf8.count <= 2048 ? text : String(text.prefix(500)) + "…"
  }

  func end(_ failure: String = "") {
    guard !isDone else { return }
    self.failure = String(failure.prefix(500))
    isDone = true
  }

  func answer(after: UInt64) -> CheckStatus.Answer {
    let page = findings.dropFirst(Int(clamping: after)).prefix(CheckStatus.pageLimit)
    return CheckStatus.Answer(
      isDone: isDone, failure: failure, phase: phase, done: done, total: total,
      findingCount: findingCount, findings: Array(page))
  }
}
