package import Cluster
package import Coding
package import Ring
package import Wire

/// The one record that decides which links make the log and who may extend it. Held by the arbiter and
/// changed only by compare-and-swap on `version`; each link begins with a copy of it.
///
///     0  magic "CnRt"    4  format version 1    5  payload length (varint), payload    end - 4  CRC32C of all before
package struct RootRecord: Hashable, Sendable, WireValue {
  /// Rises by one with every change.
  package var version: UInt64
  package var clusterID: UInt64
  /// Of the leader that wrote it.
  package var epoch: UInt64
  /// Of the default class.
  package var scheme: Scheme
  /// Where the nodes were, so that a coordinator without a disk finds them. Ascending by node.
  package var domains: [Domain]
  /// In log order; only the last may be open.
  package var links: [Link]
  package var checkpoint: Checkpoint?

  package struct Domain: Hashable, Sendable, WireValue {
    package var node: NodeID
    package var name: String
    package var address: SocketAddress
    package var devices: [DeviceID]
    package init(node: NodeID, name: String, address: SocketAddress, devices: [DeviceID]) {
      self.node = node
      self.name = name
      self.address = address
      self.devices = devices
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(node)
      writer.string(name)
      writer.string(address.host)
      writer.fixed(address.port)
      writer.list(devices)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      node = try reader.value()
      name = try reader.string(limit: 256)
      address = SocketAddress(host: try reader.string(limit: 256), port: try reader.fixed())
      devices = try reader.list(limit: 1024)
    }
  }

  /// One link of the log's chain.
  package struct Link: Hashable, Sendable, WireValue {
    /// Of its container: `ContainerID(.link, number)`.
    package var number: UInt64
    /// The epoch that opened it.
    package var generation: UInt64
    /// 1+m.
    package var scheme: Scheme
    /// One for each shard.
    package var devices: [DeviceID]
    /// The log position of its first command.
    package var firstPosition: UInt64
    /// How many stripes belong to the log; nil while it is open.
    package var sealedStripes: UInt64?
    package init(
      number: UInt64, generation: UInt64, scheme: Scheme, devices: [DeviceID],
      firstPosition: UInt64, sealedStripes: UInt64?
    ) {
      self.number = number
      self.generation = generation
      self.scheme = scheme
      self.devices = devices
      self.firstPosition = firstPosition
      self.sealedStripes = sealedStripes
    }
    package var container: ContainerID { ContainerID(.link, number) }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(number)
      writer.varint(generation)
      writer.value(scheme)
      writer.list(devices)
      writer.varint(firstPosition)
      writer.optional(sealedStripes)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      number = try reader.varint()
      generation = try reader.varint()
      scheme = try reader.value()
      devices = try reader.list(limit: Scheme.largestWidth)
      firstPosition = try reader.varint()
      sealedStripes = try reader.optional()
      guard devices.count == scheme.width, number < 1 << 56 else { throw .invalid("link") }
    }
  }

  /// The whole state after a position, kept in containers of the kind checkpoint.
  package struct Checkpoint: Hashable, Sendable, WireValue {
    package var position: UInt64
    package var containers: [Part]
    package struct Part: Hashable, Sendable, WireValue {
      package var container: ContainerID
      package var generation: UInt64
      package var scheme: Scheme
      package var devices: [DeviceID]
      package var stripeCount: UInt64
      package init(
        container: ContainerID, generation: UInt64, scheme: Scheme, devices: [DeviceID],
        stripeCount: UInt64
      ) {
        self.container = container
        self.generation = generation
        self.scheme = scheme
        self.devices = devices
        self.stripeCount = stripeCount
      }
      package func encode(into writer: inout ByteWriter) {
        writer.value(container)
        writer.varint(generation)
        writer.value(scheme)
        writer.list(devices)
        writer.varint(stripeCount)
      }
      package init(from reader: inout ByteReader) throws(ValueError) {
        container = try reader.value()
        generation = try reader.varint()
        scheme = try reader.value()
        devices = try reader.list(limit: Scheme.largestWidth)
        stripeCount = try reader.varint()
        guard devices.count == scheme.width else { throw .invalid("checkpoint") }
      }
    }
    package init(position: UInt64, containers: [Part]) {
      self.position = position
      self.containers = containers
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(position)
      writer.list(containers)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      position = try reader.varint()
      containers = try reader.list()
    }
  }

  package init(
    version: UInt64, clusterID: UInt64, epoch: UInt64, scheme: Scheme, domains: [Domain],
    links: [Link], checkpoint: Checkpoint? = nil
  ) {
    self.version = version
    self.clusterID = clusterID
    self.epoch = epoch
    self.scheme = scheme
    self.domains = domains
    self.links = links
    self.checkpoint = checkpoint
  }

  private static let magic: [UInt8] = Array("CnRt".utf8)
  /// Nodes keep no larger one.
  package static let byteLimit = 1 << 20

  package func encode(into writer: inout ByteWriter) {
    var payload = ByteWriter(reserving: 1024)
    payload.varint(version)
    payload.fixed(clusterID)
    payload.varint(epoch)
    payload.value(scheme)
    payload.list(domains)
    payload.list(links)
    payload.optional(checkpoint)
    var frame = ByteWriter(reserving: payload.count + 16)
    frame.raw(Self.magic)
    frame.fixed(UInt8(1))
    frame.blob(payload.bytes)
    frame.fixed(CRC32C.checksum(frame.bytes))
    writer.raw(frame.bytes)
  }

  package init(from reader: inout ByteReader) throws(ValueError) {
    guard try reader.raw(4) == Self.magic else { throw .invalid("root magic") }
    guard try reader.fixed(UInt8.self) == 1 else { throw .invalid("root version") }
    let bytes = try reader.blob(limit: Self.byteLimit)
    var frame = ByteWriter(reserving: bytes.count + 16)
    frame.raw(Self.magic)
    frame.fixed(UInt8(1))
    frame.blob(bytes)
    guard try reader.fixed(UInt32.self) == CRC32C.checksum(frame.bytes) else {
      throw .invalid("root checksum")
    }
    var payload = ByteReader(bytes)
    version = try payload.varint()
    clusterID = try payload.fixed()
    epoch = try payload.varint()
    scheme = try payload.value()
    domains = try payload.list()
    links = try payload.list()
    checkpoint = try payload.optional()
    // Both count up.
    guard version < 1 << 62, epoch < 1 << 62 else { throw .invalid("root number") }
    try payload.finish()
  }
}
