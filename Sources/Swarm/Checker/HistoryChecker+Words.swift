internal import Coding
internal import Messages

/// What is wrong with a history, for people.
extension HistoryChecker {
  func describe(
    _ register: Int, _ taken: [RegisterStep], _ violation: RegisterChecker.Violation
  ) -> TrialFailure {
    let step = taken[violation.step]
    let entry = history.entries[step.entry]
    var text =
      switch names[register] {
      case .key(let name): "\(name.bucket)/\(name.key)"
      case .bucket(let bucket): "bucket \(bucket)"
      }
    text +=
      ": \(entry.label) was answered \(show(entry.outcome)), which no order explains; it may have held "
    text += violation.configurations.prefix(4).map { show($0.state) }.joined(separator: " or ")
    let before = taken.filter { $0.invoked < step.returned && $0.entry != step.entry }
      .sorted { $0.invoked < $1.invoked }
    let pending = before.filter { !$0.isMandatory || $0.returned > step.invoked }.suffix(8)
    let ended = before.filter { $0.isMandatory && $0.returned <= step.invoked }.suffix(10)
    for one in (ended + pending).sorted(by: { $0.invoked < $1.invoked }) {
      let other = history.entries[one.entry]
      let returned = other.returnedAt.map { "\($0)" } ?? "never"
      text += "\n  \(other.invokedAt)...\(returned) \(other.label) \(show(one.effect))"
      text += " -> \(show(other.outcome))"
    }
    text +=
      "\n  \(entry.invokedAt)...\(entry.returnedAt.map { "\($0)" } ?? "never") \(entry.label) "
    text += "\(show(step.effect)) -> \(show(entry.outcome))"
    return TrialFailure(
      property: "linearizable", detail: text, at: entry.returnedAt ?? entry.invokedAt)
  }

  func show(_ state: RegisterState) -> String {
    guard state.isPresent else { return "nothing" }
    let tag = state.value >= 0 ? values[safe: state.value]?.tag ?? "it" : "something"
    return state.identity > 0 ? "\(tag) (version \(state.identity))" : tag
  }

  func show(_ effect: RegisterStep.Effect) -> String {
    switch effect {
    case .read(let sight): "sees \(show(sight))"
    case .erase(let sight): "erases \(show(sight))"
    case .write(let value, let condition, _):
      "writes \(value.flatMap { values[safe: $0]?.tag } ?? "a copy")"
        + (condition == .anything ? "" : " over \(show(condition))")
    }
  }

  func show(_ sight: Sight) -> String {
    switch sight {
    case .anything: "anything"
    case .absent: "nothing"
    case .present: "something"
    case .version(let value, let identity):
      "\(values[safe: value]?.tag ?? "") version \(identity)"
    case .oneOf(let set):
      "one of "
        + set.sorted().prefix(4).map { values[safe: $0]?.tag ?? "?" }.joined(separator: ", ")
    case .not(let identity): "not version \(identity)"
    case .other(let identity): "another than version \(identity)"
    }
  }

  func show(_ outcome: History.Outcome) -> String {
    switch outcome {
    case .written(let identity, _): "written as \(identity)"
    case .seen(let version): "seen \(version.tag) version \(version.identity)"
    case .page(let page): "a page of \(page.entries.count)"
    default: "\(outcome)"
    }
  }
}

extension Array {
  fileprivate subscript(safe index: Int) -> Element? { indices.contains(index) ? self[index] : nil }
}
