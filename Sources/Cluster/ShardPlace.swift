package import Wire

/// Where one shard of a container is.
///
/// A shard that is written anew gets a generation of its own, numbered by the lease it is written under and never reused.
/// So whatever is still on its way for an older one, a late block or a deletion, cannot touch it.
package struct ShardPlace: Hashable, Sendable, WireValue {
  package var device: DeviceID
  package var generation: UInt64

  package init(device: DeviceID, generation: UInt64) {
    self.device = device
    self.generation = generation
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(device)
    writer.varint(generation)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    device = try reader.value()
    generation = try reader.varint()
  }
}

extension [ShardPlace] {
  /// Those of a container that was never rewritten.
  package init(_ devices: [DeviceID], generation: UInt64) {
    self = devices.map { ShardPlace(device: $0, generation: generation) }
  }
  package var devices: [DeviceID] { map(\.device) }
  /// The keys of a container's shards, in order.
  package func shards(of container: ContainerID) -> [ShardKey] {
    enumerated().map {
      ShardKey(
        container: container, generation: $0.element.generation, shardIndex: UInt8($0.offset))
    }
  }
}
