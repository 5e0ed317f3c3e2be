import Messages
import Ring
import Service

/// `cairn admin gc`: how much of what is stored is dead, and its removal now rather than when it has added up.
func collectGarbage(_ context: Context) async throws(Failure) {
  let isDryRun = context.arguments.has("--dry-run")
  let below = try context.arguments.number("--below", in: 1...100) ?? 95
  let waits = context.arguments.has("--wait")
  if isDryRun && waits { throw .usage("--dry-run does nothing that could be waited for") }
  try await Client.with(context) { client throws(Failure) in
    var answer = try await client.ask(
      CollectGarbage(below: UInt8(below), isDryRun: isDryRun), about: "gc")
    let isShown = waits && HostProcess.isTerminal(2)
    // What was deleted a moment ago counts, and so do containers that were not looked at. Some may not be for long.
    var patience = context.driver.now + lookPatience
    while true {
      let isCollecting = waits && answer.collectContainers > 0
      if isCollecting { patience = context.driver.now + lookPatience }
      let isKnown = answer.lookedAt == answer.containers && answer.trashCount == 0
      if !isCollecting && (isKnown || context.driver.now > patience) { break }
      if isShown {
        await client.output.errorText(
          "\r\u{1B}[K\(counted(answer.collectContainers, "container")) left, \(byteText(answer.collectBytes))"
        )
      }
      guard await client.driver.sleep(.milliseconds(500)) else { throw .failed("interrupted") }
      answer = try await client.ask(
        CollectGarbage(below: UInt8(below), isDryRun: true), about: "gc")
    }
    if isShown { await client.output.errorText("\r\u{1B}[K") }
    if context.arguments.has("--json") {
      try await client.output.line(json(answer).text)
    } else {
      for line in lines(answer) { try await client.output.line(line) }
    }
    try await client.output.flush()
  }
}

/// For how long containers that were not looked at are waited for.
private let lookPatience = Duration.seconds(20)

private func json(_ answer: CollectGarbage.Answer) -> JSON {
  .object([
    ("containers", .number(answer.containers)), ("lookedAt", .number(answer.lookedAt)),
    ("dataBytes", .number(answer.dataBytes)), ("deadBytes", .number(answer.deadBytes)),
    ("collectContainers", .number(answer.collectContainers)),
    ("collectBytes", .number(answer.collectBytes)), ("trash", .number(answer.trashCount)),
  ])
}

private func lines(_ answer: CollectGarbage.Answer) -> [String] {
  var lines: [String] = []
  let share =
    answer.dataBytes > 0
    ? Double(answer.deadBytes) / Double(answer.dataBytes) * 100 : 0
  let tenths = Int((share * 10).rounded())
  lines.append(
    "dead              \(byteText(answer.deadBytes)) of \(byteText(answer.dataBytes)) in containers, before coding: \(tenths / 10).\(tenths % 10) %"
  )
  lines.append(
    "to be packed anew \(counted(answer.collectContainers, "container")), \(byteText(answer.collectBytes)) to be gained"
  )
  if answer.lookedAt < answer.containers {
    lines.append(
      "not looked at     \(answer.containers - answer.lookedAt) of \(counted(answer.containers, "container")): repair or another scheme comes first"
    )
  }
  if answer.trashCount > 0 {
    lines.append("deletions         \(answer.trashCount) not yet seen to")
  }
  return lines
}
