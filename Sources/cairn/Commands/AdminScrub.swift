import Cluster
import Messages
import Ring
import Service
import Wire

/// `cairn admin scrub`: has devices read everything they hold, now.
func adminScrub(_ context: Context) async throws(Failure) {
  var rate: UInt64 = 0
  if let text = context.arguments["--rate"] {
    guard let size = ByteSize(text), size.byteCount > 0 else {
      throw .usage("--rate takes bytes a second such as 200MiB: \(text)")
    }
    rate = size.byteCount
  }
  try await onNodes(context) { chosen, client throws(Failure) in
    var isWhole = true
    var begun: [(node: NodeRecord, entry: ScrubStanding.Entry)] = []
    for (node, device) in chosen {
      do throws(WireError) {
        let answer = try await client.wire.call(
          ScrubNow(device: device, byteRate: rate), at: node.address, deadline: .seconds(10)
        ).answer
        begun += answer.devices.map { (node, $0) }
      } catch {
        isWhole = false
        await client.output.error("cairn: \(describe(error)): \(node.name)")
      }
    }
    for (node, entry) in begun where entry.isFailed {
      isWhole = false
      await client.output.error(
        "cairn: takes no writes, and is not scrubbed: \(entry.device) of \(node.name)")
    }
    begun.removeAll { $0.entry.isFailed }
    for index in begun.indices where context.arguments.has("--wait") {
      if let ended = try await wait(begun[index].entry, begun[index].node, client) {
        begun[index].entry = ended
      } else {
        isWhole = false
      }
    }
    for (node, entry) in begun { try await show(entry, node, client) }
    try await client.output.flush()
    if !isWhole { throw .reported }
  }
}

/// `cairn admin scrub status`: how far each device is, and what was found.
func scrubStatus(_ context: Context) async throws(Failure) {
  try await onNodes(context) { chosen, client throws(Failure) in
    var isWhole = true
    for (node, device) in chosen {
      var standing: [ScrubStanding.Entry] = []
      do throws(WireError) {
        standing = try await client.wire.call(
          GetScrub(device: device), at: node.address, deadline: .seconds(5)
        ).answer.devices
      } catch {
        isWhole = false
        await client.output.error("cairn: \(describe(error)): \(node.name)")
      }
      for entry in standing { try await show(entry, node, client) }
    }
    try await client.output.flush()
    if !isWhole { throw .reported }
  }
}

/// What the commands on nodes have at hand.
private struct NodeClient {
  var wire: WireClient
  var output: Output
  var driver: any Driver
  var isJSON: Bool
}

/// Finds the nodes of the map that `--node` and `--device` name, or all, and connects to them.
private func onNodes(
  _ context: Context,
  _ body: ([(NodeRecord, DeviceID?)], NodeClient) async throws(Failure) -> Void
) async throws(Failure) {
  let configuration = try await ClientConfiguration.load(
    ClientConfiguration.path(context.arguments), on: context.driver)
  var nodes: [NodeRecord] = []
  try await Client.with(context) { client throws(Failure) in
    nodes = try await client.ask(GetMap(level: .strong), about: "the map").map.nodes
  }
  // Those that are given up hold nothing any more, and may be switched off.
  nodes = nodes.filter { node in
    context.arguments["--node"] != nil || node.devices.contains { $0.state != .retired }
  }
  if let name = context.arguments["--node"] {
    nodes = nodes.filter { $0.name == name || $0.id.description == name }
    if nodes.isEmpty { throw .failed("no such node", name) }
  }
  var chosen: [(NodeRecord, DeviceID?)] = nodes.map { ($0, nil) }
  if let name = context.arguments["--device"] {
    chosen = nodes.flatMap { node in
      node.devices.filter { $0.id.description == name }.map { (node, $0.id) }
    }
    if chosen.isEmpty { throw .failed("no such device", name) }
  }
  let wire = WireClient(
    driver: context.driver, key: configuration.key, name: "client",
    security: configuration.security)
  let client = NodeClient(
    wire: wire, output: context.output, driver: context.driver,
    isJSON: context.arguments.has("--json"))
  do throws(Failure) {
    try await body(chosen, client)
    await wire.close()
  } catch {
    await wire.close()
    throw error
  }
}

/// Waits until the round that was begun, or a later one, has ended. Nil when it does not end any more, which was said.
private func wait(_ begun: ScrubStanding.Entry, _ node: NodeRecord, _ client: NodeClient)
  async throws(Failure) -> ScrubStanding.Entry?
{
  // A node that is started anew goes on where it was.
  let patience = Duration.seconds(60)
  var heard = client.driver.now
  var pause = Duration.milliseconds(50)
  while true {
    do throws(WireError) {
      let answer = try await client.wire.call(
        GetScrub(device: begun.device), at: node.address, deadline: .seconds(5)
      ).answer
      heard = client.driver.now
      if let entry = answer.devices.first {
        if entry.report.finishedRound >= begun.report.round { return entry }
        if entry.isFailed || entry.report.round < begun.report.round {
          await client.output.error(
            "cairn: the scrub does not go on: \(begun.device) of \(node.name)")
          return nil
        }
      }
    } catch {
      if client.driver.now - heard > patience {
        await client.output.error("cairn: \(describe(error)): \(node.name)")
        return nil
      }
    }
    guard await client.driver.sleep(pause) else { throw .failed("interrupted") }
    pause = min(pause * 2, .seconds(1))
  }
}

private func show(_ entry: ScrubStanding.Entry, _ node: NodeRecord, _ client: NodeClient)
  async throws(Failure)
{
  let report = entry.report
  func time(_ milliseconds: UInt64) -> String? {
    milliseconds == 0 ? nil : rfc3339(.milliseconds(Int64(clamping: milliseconds)))
  }
  if client.isJSON {
    try await client.output.line(
      JSON.object([
        ("node", .string(node.name)), ("device", .string(entry.device.description)),
        ("failed", .bool(entry.isFailed)), ("running", .bool(report.isRunning)),
        ("round", .number(report.round)), ("finishedRound", .number(report.finishedRound)),
        ("began", time(report.beganMilliseconds).map { .string($0) } ?? .null),
        ("finished", time(report.finishedMilliseconds).map { .string($0) } ?? .null),
        ("bytesDone", .number(report.doneByteCount)),
        ("bytes", .number(report.totalByteCount)),
        ("foundInRound", .number(report.foundInRound)),
        ("foundInAll", .number(report.foundInAll)), ("damaged", .number(entry.damagedCount)),
      ]).text)
    return
  }
  var text = "\(node.name) \(entry.device): "
  if entry.isFailed { text += "takes no writes; " }
  if report.round == 0 {
    text += "not scrubbed yet"
  } else if report.isRunning {
    text +=
      "round \(report.round), \(byteText(report.doneByteCount)) of \(byteText(report.totalByteCount))"
      + ", begun \(time(report.beganMilliseconds) ?? "?")"
  } else {
    text +=
      "round \(report.round), \(byteText(report.doneByteCount)) read"
      + ", ended \(time(report.finishedMilliseconds) ?? "?")"
  }
  text +=
    "; found \(report.foundInRound), in all \(report.foundInAll); damaged \(entry.damagedCount)"
  try await client.output.line(text)
}

private func describe(_ error: WireError) -> String {
  switch error {
  case .refused(_, let reason): reason.isEmpty ? "refused" : reason
  case .unreachable(let reason), .disconnected(let reason): reason
  case .deadline: "no answer in time"
  default: "\(error)"
  }
}
