import Cluster
import Messages
import Ring
import Service

/// `cairn admin nodes`: nodes and devices, how they stand and how full they are, by name.
func adminNodes(_ context: Context) async throws(Failure) {
  try await Client.with(context) { client throws(Failure) in
    let answer = try await client.ask(GetMap(level: .strong), about: "the map")
    let heard = try await client.ask(GetStatus(), about: "the nodes").nodes
    var reports: [DeviceID: DeviceReport] = [:]
    var standings: [DeviceID: DeviceStanding] = [:]
    for node in heard {
      for report in node.devices { reports[report.id] = report }
      for (device, standing) in zip(node.record.devices, node.standings) {
        standings[device.id] = standing
      }
    }
    let asJSON = context.arguments.has("--json")
    var hidden = 0
    for node in answer.map.nodes.sorted(by: { isBefore($0, $1) }) {
      let isDown = answer.down.contains(node.id)
      // What is given up and switched off is of no use to anybody, and stays in the map for good.
      if isDown, !asJSON, !context.arguments.has("--all"), !node.devices.isEmpty,
        node.devices.allSatisfy({ $0.state == .retired })
      {
        hidden += 1
        continue
      }
      if asJSON {
        try await client.output.line(json(node, isDown: isDown, reports, standings).text)
      } else {
        for line in lines(node, isDown: isDown, reports, standings) {
          try await client.output.line(line)
        }
      }
    }
    if hidden > 0 {
      try await client.output.line(
        "\(counted(hidden, "node")) given up and down \(hidden == 1 ? "is" : "are") not shown: --all"
      )
    }
    try await client.output.flush()
  }
}

/// By name, numbers in it by their value: node-2 before node-10.
private func isBefore(_ one: NodeRecord, _ other: NodeRecord) -> Bool {
  func parts(_ name: String) -> (String, UInt64) {
    let digits = name.reversed().prefix { $0.isASCII && $0.isNumber }.reversed()
    return (String(name.dropLast(digits.count)), UInt64(String(digits)) ?? 0)
  }
  let (first, second) = (parts(one.name), parts(other.name))
  return (first.0, first.1, one.id) < (second.0, second.1, other.id)
}

private func json(
  _ node: NodeRecord, isDown: Bool, _ reports: [DeviceID: DeviceReport],
  _ standings: [DeviceID: DeviceStanding]
) -> JSON {
  .object([
    ("node", .string(node.name)), ("id", .string(node.id.description)),
    ("address", .string(node.address.description)),
    ("domain", .array(node.domain.map { .string($0) })), ("down", .bool(isDown)),
    (
      "devices",
      .array(
        node.devices.map {
          .object([
            ("device", .string($0.id.description)), ("state", .string("\($0.state)")),
            ("standing", .string("\(standings[$0.id] ?? .unknown)")),
            ("capacity", .number($0.capacity)),
            ("used", reports[$0.id].map { .number($0.used) } ?? .null),
            ("free", reports[$0.id].map { .number($0.free) } ?? .null),
            ("failed", reports[$0.id].map { .bool($0.isFailed) } ?? .null),
            ("damagedBlocks", reports[$0.id].map { .number($0.damagedCount) } ?? .null),
            ("tier", .string($0.tier)),
          ])
        })
    ),
  ])
}

private func lines(
  _ node: NodeRecord, isDown: Bool, _ reports: [DeviceID: DeviceReport],
  _ standings: [DeviceID: DeviceStanding]
) -> [String] {
  let place = node.domain.isEmpty ? "" : " in " + node.domain.joined(separator: "/")
  var lines = ["\(node.name) \(node.id) at \(node.address)\(place)\(isDown ? ", down" : "")"]
  for device in node.devices {
    var line = "  \(device.id) \(standings[device.id] ?? .unknown)"
    if let report = reports[device.id] {
      line += ", \(byteText(report.used)) used, \(byteText(report.free)) free"
      if report.damagedCount > 0 { line += ", \(counted(report.damagedCount, "damaged block"))" }
    }
    line += ", of \(byteText(device.capacity))"
    if !device.tier.isEmpty { line += ", " + device.tier }
    lines.append(line)
  }
  return lines
}

/// `cairn admin drain`: empties nodes or devices, as far as that is not to be taken back.
func adminDrain(_ context: Context) async throws(Failure) {
  try await setDevices(context, context.arguments.has("--cancel") ? .healthy : .draining)
}

/// `cairn admin retire`: gives nodes or devices up for good.
func adminRetire(_ context: Context) async throws(Failure) {
  try await setDevices(context, .retired)
}

private func setDevices(_ context: Context, _ state: DeviceState) async throws(Failure) {
  try await Client.with(context) { client throws(Failure) in
    let map = try await client.ask(GetMap(level: .strong), about: "the map").map
    var devices: [DeviceID] = []
    for name in context.arguments.operands {
      var named = map.nodes.filter { $0.name == name || $0.id.description == name }
      // One that was replaced by another of its name is seldom meant.
      let inUse = named.filter { $0.devices.contains { $0.state != .retired } }
      if named.count > 1 && !inUse.isEmpty { named = inUse }
      if named.count > 1 {
        throw .failed(
          "several nodes have that name, choose one by its id: "
            + named.map(\.id.description).joined(separator: ", "), name)
      }
      if let node = named.first {
        devices += node.devices.map(\.id)
      } else if let device = map.nodes.flatMap(\.devices).first(where: { $0.id.description == name }
      ) {
        devices.append(device.id)
      } else {
        throw .failed("no such node or device", name)
      }
    }
    var seen = Set<DeviceID>()
    devices = devices.filter { seen.insert($0).inserted }
    _ = try await client.ask(
      SetDevices(devices: devices, state: state, isForced: context.arguments.has("--force")),
      about: context.arguments.operands.joined(separator: " "))
  }
}
