import Cluster
import Messages
import Ring
import Service

/// `cairn admin nodes`: nodes and devices, what they are for and how full they are.
func adminNodes(_ context: Context) async throws(Failure) {
  try await Client.with(context) { client throws(Failure) in
    let answer = try await client.ask(GetMap(level: .strong), about: "the map")
    let heard = try await client.ask(GetStatus(), about: "the nodes").nodes
    var reports: [DeviceID: DeviceReport] = [:]
    for report in heard.flatMap(\.devices) { reports[report.id] = report }
    for node in answer.map.nodes {
      let isDown = answer.down.contains(node.id)
      if context.arguments.has("--json") {
        try await client.output.line(
          JSON.object([
            ("node", .string(node.name)), ("id", .string(node.id.description)),
            ("address", .string(node.address.description)),
            ("domain", .array(node.domain.map { .string($0) })), ("down", .bool(isDown)),
            (
              "devices",
              .array(
                node.devices.map {
                  .object([
                    ("device", .string($0.id.description)), ("state", .string("\($0.state)")),
                    ("capacity", .number($0.capacity)),
                    ("used", reports[$0.id].map { .number($0.used) } ?? .null),
                    ("free", reports[$0.id].map { .number($0.free) } ?? .null),
                    ("failed", reports[$0.id].map { .bool($0.isFailed) } ?? .null),
                    ("damagedBlocks", reports[$0.id].map { .number($0.damagedCount) } ?? .null),
                    ("tier", .string($0.tier)),
                  ])
                })
            ),
          ]).text)
      } else {
        let place = node.domain.isEmpty ? "" : " in " + node.domain.joined(separator: "/")
        try await client.output.line(
          "\(node.name) at \(node.address)\(place)\(isDown ? ", down" : "")")
        for device in node.devices {
          var line = "  \(device.id) \(device.state)"
          if let report = reports[device.id] {
            if report.isFailed { line += ", failed" }
            line += ", \(byteText(report.used)) used, \(byteText(report.free)) free"
            if report.damagedCount > 0 { line += ", \(report.damagedCount) damaged blocks" }
          }
          line += ", of \(byteText(device.capacity))"
          if !device.tier.isEmpty { line += ", " + device.tier }
          try await client.output.line(line)
        }
      }
    }
    try await client.output.flush()
  }
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
