import Messages
import Ring
import Service

/// `cairn admin fsck`: what the cluster knows is compared with what there is; a line for each disagreement.
func fsck(_ context: Context) async throws(Failure) {
  let repairs = context.arguments.has("--repair")
  let asJSON = context.arguments.has("--json")
  try await Client.with(context) { client throws(Failure) in
    let ended = try await client.check([.state, .devices, .objects], repairs: repairs) {
      finding throws(Failure) in
      try await client.output.line(asJSON ? json(finding).text : text(finding))
    }
    if asJSON {
      try await client.output.line(
        JSON.object([
          ("clean", .bool(ended.findingCount == 0 && ended.failure.isEmpty)),
          ("findings", .number(ended.findingCount)),
          ("failure", ended.failure.isEmpty ? .null : .string(ended.failure)),
        ]).text)
    } else if ended.findingCount == 0 && ended.failure.isEmpty {
      try await client.output.line("all agrees")
    }
    try await client.output.flush()
    if !ended.failure.isEmpty { throw .failed(ended.failure, "the check did not end") }
    if ended.findingCount > 0 { throw .reported }
  }
}

/// Objects that cannot be read whole, one a line.
func showLostObjects(_ client: Client, asJSON: Bool) async throws(Failure) {
  let ended = try await client.check([.objects], repairs: false) { finding throws(Failure) in
    try await client.output.line(asJSON ? json(finding).text : text(finding))
  }
  if !ended.failure.isEmpty { throw .failed(ended.failure, "objects were not looked at") }
  if ended.findingCount == 0 && !asJSON {
    try await client.output.line("objects           all can be read")
  }
}

extension Client {
  /// Has the leader check, and hands each finding to `body` as it comes. Shows on a terminal how far it is.
  ///
  /// - Returns: the last answer.
  fileprivate func check(
    _ parts: CheckParts, repairs: Bool,
    _ body: (CheckStatus.Finding) async throws(Failure) -> Void
  ) async throws(Failure) -> CheckStatus.Answer {
    let id = try await ask(StartCheck(parts: parts, repairs: repairs), about: "the check").check
    let isShown = HostProcess.isTerminal(2)
    var seen: UInt64 = 0
    var pause = Duration.milliseconds(20)
    while true {
      let answer = try await ask(CheckStatus(check: id, after: seen), about: "the check")
      if isShown { await output.errorText("\r\u{1B}[K") }
      for finding in answer.findings { try await body(finding) }
      seen += UInt64(answer.findings.count)
      guard answer.findings.isEmpty else { continue }
      if answer.isDone { return answer }
      try await output.flush()
      if isShown {
        let total = answer.total > 0 ? " of \(answer.total)" : ""
        await output.errorText("checking \(answer.phase): \(answer.done)\(total)")
      }
      guard await driver.sleep(pause) else { throw .failed("interrupted") }
      pause = min(pause * 2, .milliseconds(300))
    }
  }
}

private func json(_ finding: CheckStatus.Finding) -> JSON {
  .object([
    ("kind", .string("\(finding.kind)")), ("subject", .string(finding.subject)),
    ("text", .string(finding.text)), ("repaired", .bool(finding.isRepaired)),
  ])
}

private func text(_ finding: CheckStatus.Finding) -> String {
  let end =
    switch (finding.isRepaired, finding.kind) {
    case (true, .missing): " (is being written anew)"
    case (true, _): " (deleted)"
    case (false, _): ""
    }
  return "\(finding.kind): \(Output.printable(finding.subject)): \(finding.text)\(end)"
}
