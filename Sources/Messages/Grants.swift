package import Cluster
package import Coding
package import Wire

/// The right to append to one container, given to one writer.
package struct Grant: Hashable, Sendable, WireValue {
  /// The log position of the granting command; never reused.
  package var id: UInt64
  package var container: ContainerID
  package var generation: UInt64
  package var scheme: Scheme
  /// One device for each shard, k + m of them, in distinct failure domains.
  package var devices: [DeviceID]
  /// Stripe numbers this grant may use: `firstStripe ..< endStripe`.
  package var firstStripe: UInt64
  package var endStripe: UInt64
  /// The first ordinal this grant may use; the writer counts up from it.
  package var firstOrdinal: UInt64
  /// How many ordinals, from `firstOrdinal`, it may use.
  package static let ordinalCount: UInt64 = 1 << 20
  /// Data bytes the container may still take before it is full.
  package var byteLimit: UInt64
  /// Of the cluster map.
  package var epoch: UInt64

  package init(
    id: UInt64, container: ContainerID, generation: UInt64, scheme: Scheme, devices: [DeviceID],
    firstStripe: UInt64, endStripe: UInt64, firstOrdinal: UInt64, byteLimit: UInt64, epoch: UInt64
  ) {
    self.id = id
    self.container = container
    self.generation = generation
    self.scheme = scheme
    self.devices = devices
    self.firstStripe = firstStripe
    self.endStripe = endStripe
    self.firstOrdinal = firstOrdinal
    self.byteLimit = byteLimit
    self.epoch = epoch
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(id)
    writer.value(container)
    writer.varint(generation)
    writer.value(scheme)
    writer.list(devices)
    writer.varint(firstStripe)
    writer.varint(endStripe)
    writer.varint(firstOrdinal)
    writer.varint(byteLimit)
    writer.varint(epoch)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    id = try reader.varint()
    container = try reader.value()
    generation = try reader.varint()
    scheme = try reader.value()
    devices = try reader.list(limit: 64)
    firstStripe = try reader.varint()
    endStripe = try reader.varint()
    firstOrdinal = try reader.varint()
    byteLimit = try reader.varint()
    epoch = try reader.varint()
    guard devices.count == scheme.width, firstStripe <= endStripe else { throw .invalid("grant") }
  }
}

/// A grant that nodes can check: HMAC-SHA256 with the cluster key's "grant" subkey.
package struct SignedGrant: Hashable, Sendable, WireValue {
  package var grant: Grant
  /// 32 bytes.
  package var signature: [UInt8]

  /// - Parameter key: `ClusterKey.subkey("grant")`.
  package init(signing grant: Grant, key: [UInt8]) {
    self.grant = grant
    signature = HMACSHA256.authenticate(grant.encoded, key: key)
  }
  package func isValid(key: [UInt8]) -> Bool {
    HMACSHA256.isValid(signature, for: grant.encoded, key: key)
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(grant)
    writer.raw(signature)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    grant = try reader.value()
    signature = try reader.raw(32)
  }
}
