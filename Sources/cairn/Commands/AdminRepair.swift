import Cluster
import Messages
import Service

/// `cairn admin repair status`: what survives how many losses, and what is being done about it.
func repairStatus(_ context: Context) async throws(Failure) {
  try await Client.with(context) { client throws(Failure) in
    let status = try await client.ask(GetRepairStatus(), about: "repair")
    if context.arguments.has("--json") {
      try await client.output.line(json(status).text)
    } else {
      for line in lines(status) { try await client.output.line(line) }
    }
    if context.arguments.has("--objects") {
      try await showLostObjects(client, asJSON: context.arguments.has("--json"))
    }
    try await client.output.flush()
  }
}

private func json(_ status: GetRepairStatus.Answer) -> JSON {
  .object([
    ("lostShards", .number(status.lostShards)), ("silentShards", .number(status.silentShards)),
    ("drainedShards", .number(status.drainedShards)),
    ("minMargin", status.margins.first.map { .signed($0.losses) } ?? .null),
    ("bytesLeft", .number(status.bytesLeft)), ("bytesPerSecond", .number(status.byteRate)),
    ("secondsLeft", secondsLeft(status).map { .number($0) } ?? .null),
    ("waitingContainers", .number(status.waitingContainers)),
    ("reencodeContainers", .number(status.repackContainers)),
    ("reencodeBytes", .number(status.repackBytes)),
    ("deadBytes", .number(status.deadBytes)),
    ("collectContainers", .number(status.collectContainers)),
    ("damagedBlocks", .number(status.damagedBlocks)), ("logHurt", .bool(status.isLogHurt)),
    (
      "margins",
      .array(
        status.margins.map {
          .object([("losses", .signed($0.losses)), ("containers", .number($0.containerCount))])
        })
    ),
    (
      "devices",
      .array(
        status.devices.map {
          .object([
            ("device", .string($0.id.description)), ("node", .string($0.node)),
            ("state", .string(text($0.state))),
            ("silentSeconds", .number($0.silentMilliseconds / 1000)),
            ("containers", .number($0.containerCount)),
          ])
        })
    ),
    (
      "rewrites",
      .array(
        status.rewrites.map {
          .object([
            ("container", .string($0.container.description)), ("worker", .string($0.worker)),
            ("targets", .array($0.targets.map { .string($0.description) })),
            ("stripesDone", .number($0.progress.stripesDone)),
            ("stripes", .number($0.progress.stripeCount)),
            ("bytesRead", .number($0.progress.bytesRead)),
            ("bytesWritten", .number($0.progress.bytesWritten)),
          ])
        })
    ),
  ])
}

private func lines(_ status: GetRepairStatus.Answer) -> [String] {
  var lines: [String] = []
  let most = status.margins.map(\.containerCount).max() ?? 0
  for margin in status.margins {
    let name =
      switch margin.losses {
      case -1: "too few shards"
      case 0: "no further loss"
      case 1: "1 more loss"
      default: "\(margin.losses) more losses"
      }
    let bar = String(repeating: "#", count: Int(margin.containerCount * 40 / max(1, most)))
    lines.append("survives \(padded(name, 16)) \(padded("\(margin.containerCount)", 9)) \(bar)")
  }
  if status.margins.isEmpty { lines.append("no containers") }
  lines.append("lost shards       \(status.lostShards)")
  if status.silentShards > 0 { lines.append("silent shards     \(status.silentShards)") }
  if status.drainedShards > 0 { lines.append("shards to drain   \(status.drainedShards)") }
  if status.damagedBlocks > 0 { lines.append("damaged blocks    \(status.damagedBlocks)") }
  lines.append("bytes left        \(byteText(status.bytesLeft))\(pace(status))")
  if status.waitingContainers > 0 {
    lines.append(
      "waiting           \(counted(status.waitingContainers, "container")) with too few failure domains with room: add nodes or devices"
    )
  }
  if status.repackContainers > 0 {
    lines.append(
      "to be re-encoded  \(status.repackContainers) containers, \(byteText(status.repackBytes))")
  }
  if status.deadBytes > 0 {
    lines.append(
      "dead bytes        \(byteText(status.deadBytes)) in containers, of which \(status.collectContainers) are to be packed anew"
    )
  }
  if status.isLogHurt { lines.append("metadata log      \(logHurt(status))") }
  for device in status.devices {
    let silence =
      device.silentMilliseconds > 0 ? ", silent for \(device.silentMilliseconds / 1000) s" : ""
    lines.append(
      "device            \(device.id) on \(device.node): \(text(device.state))\(silence), \(counted(device.containerCount, "container"))"
    )
  }
  for rewrite in status.rewrites {
    let progress = rewrite.progress
    let done =
      progress.stripeCount == 0
      ? "about to begin"
      : "\(progress.stripesDone) of \(counted(progress.stripeCount, "stripe"))"
    lines.append("rewriting         \(rewrite.container) by \(rewrite.worker): \(done)")
  }
  return lines
}

/// What the leader mends by writing that part of the log anew elsewhere.
func logHurt(_ status: GetRepairStatus.Answer) -> String {
  let isLost = status.devices.contains { $0.state == .lost }
  return switch (status.damagedBlocks > 0, isLost) {
  case (true, true): "copies on lost devices, or damaged"
  case (true, false): "damaged copies"
  // One that holds nothing else is not listed.
  case (false, _): "copies on lost devices"
  }
}

/// At the present rate; nil while nothing of it is written.
private func secondsLeft(_ status: GetRepairStatus.Answer) -> UInt64? {
  guard status.bytesLeft > 0, status.byteRate > 0, !status.rewrites.isEmpty,
    status.waitingContainers == 0
  else { return nil }
  return status.bytesLeft / status.byteRate + 1
}

private func pace(_ status: GetRepairStatus.Answer) -> String {
  guard let seconds = secondsLeft(status) else { return "" }
  return ", \(byteText(status.byteRate))/s, about \(timeText(Int(clamping: seconds))) left"
}

private func padded(_ text: String, _ width: Int) -> String {
  text + String(repeating: " ", count: max(0, width - text.count))
}

private func text(_ state: GetRepairStatus.Device.State) -> String {
  switch state {
  case .silent: "silent"
  case .lost: "lost"
  case .draining: "draining"
  }
}
