import Cluster
import Service

/// Why too few failure domains take new containers, for people: how many are needed, which nodes are down, which
/// devices are full, retired, failing now, or avoided by the writer who asks.
struct DomainShortage: CustomStringConvertible {
  var live: Int
  var needed: Int
  /// Names of nodes.
  var down: [String] = []
  /// Devices by the names of their nodes, with what is left on them.
  var full: [String] = []
  var retired: [String] = []
  var failing: [String] = []
  var avoided: [String] = []

  init(_ placement: Placement, _ nodes: NodeTable, m: Int, avoiding avoid: [DeviceID]) {
    live = placement.liveDomains(avoiding: Set(avoid)).count
    needed = m + 1
    for node in placement.map.nodes.sorted(by: { ($0.name, $0.id) < ($1.name, $1.id) }) {
      guard nodes.isUp(node.id) else {
        down.append(node.name)
        continue
      }
      for device in node.devices {
        let name = node.devices.count == 1 ? node.name : "\(node.name) \(device.id)"
        if device.state != .healthy {
          retired.append(name)
        } else if let free = placement.free[device.id] {
          if free < placement.leastFree {
            full.append("\(name) (\(ByteSize(free)) left)")
          } else if avoid.contains(device.id) {
            avoided.append(name)
          }
        } else {
          failing.append(name)
        }
      }
    }
  }

  var description: String {
    var text = "\(live) failure domains take writes, \(needed) are needed"
    func add(_ what: String, _ names: [String]) {
      if !names.isEmpty { text += "; \(what): " + names.joined(separator: ", ") }
    }
    add("down", down)
    add("full", full)
    add("retired", retired)
    add("failing", failing)
    add("failed this writer", avoided)
    return text
  }
}
