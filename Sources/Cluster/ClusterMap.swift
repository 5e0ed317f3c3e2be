package import Ring
package import Wire

/// The versioned list of nodes and devices. Liveness is not in it: that is soft state.
package struct ClusterMap: Hashable, Sendable, WireValue {
  /// Rises with every change.
  package var epoch: UInt64
  /// Ascending by id.
  package var nodes: [NodeRecord]

  package init(epoch: UInt64 = 0, nodes: [NodeRecord] = []) {
    self.epoch = epoch
    self.nodes = nodes
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(epoch)
    writer.list(nodes)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    epoch = try reader.varint()
    nodes = try reader.list(limit: 1 << 16)
  }

  package func node(_ id: NodeID) -> NodeRecord? { nodes.first { $0.id == id } }
  /// The node that holds a device.
  package func node(holding device: DeviceID) -> NodeRecord? {
    nodes.first { $0.devices.contains { $0.id == device } }
  }
}

package struct NodeRecord: Hashable, Sendable, WireValue {
  package var id: NodeID
  /// The operator's name: "n3".
  package var name: String
  /// "host:port" where it serves blocks.
  package var address: SocketAddress
  /// Failure domain path, widest first, the node itself left out: ["rack2"]. May be empty.
  package var domain: [String]
  package var devices: [DeviceRecord]

  package init(
    id: NodeID, name: String, address: SocketAddress, domain: [String], devices: [DeviceRecord]
  ) {
    self.id = id
    self.name = name
    self.address = address
    self.domain = domain
    self.devices = devices
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(id)
    writer.string(name)
    writer.string(address.host)
    writer.fixed(address.port)
    writer.list(domain)
    writer.list(devices)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    id = try reader.value()
    name = try reader.string(limit: 256)
    address = SocketAddress(host: try reader.string(limit: 256), port: try reader.fixed())
    domain = try reader.list(limit: 8)
    devices = try reader.list(limit: 1024)
  }
}

package enum DeviceState: UInt8, Sendable {
  case healthy = 0
  case retired = 1
  case draining = 2
}

package struct DeviceRecord: Hashable, Sendable, WireValue {
  package var id: DeviceID
  /// Bytes it may hold for us.
  package var capacity: UInt64
  /// "nvme", "ssd", "hdd"…; free text until tiers are used.
  package var tier: String
  package var state: DeviceState

  package init(id: DeviceID, capacity: UInt64, tier: String, state: DeviceState) {
    self.id = id
    self.capacity = capacity
    self.tier = tier
    self.state = state
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(id)
    writer.varint(capacity)
    writer.string(tier)
    writer.fixed(state.rawValue)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    id = try reader.value()
    capacity = try reader.varint()
    tier = try reader.string(limit: 64)
    guard let state = DeviceState(rawValue: try reader.fixed()) else { throw .invalid("state") }
    self.state = state
  }
}
