package import Cluster
package import Coding
package import Wire

package struct GetMap: Call {
  package static let method: UInt16 = 520
  package var level: ReadLevel

  package init(level: ReadLevel) {
    self.level = level
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var map: ClusterMap
    /// Nodes the leader has not heard of for a while. Soft state.
    package var down: [NodeID]
    /// Of the default class.
    package var scheme: Scheme
    /// Devices that are many times slower than others of their kind: to be asked last.
    package var degraded: [DeviceID]

    package init(map: ClusterMap, down: [NodeID], scheme: Scheme, degraded: [DeviceID] = []) {
      self.map = map
      self.down = down
      self.scheme = scheme
      self.degraded = degraded
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(map)
      writer.list(down)
      writer.value(scheme)
      writer.list(degraded)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      map = try reader.value()
      down = try reader.list()
      scheme = try reader.value()
      degraded = try reader.list()
    }
  }
}

package struct GetUsage: Call {
  package static let method: UInt16 = 526
  package var level: ReadLevel

  package init(level: ReadLevel) {
    self.level = level
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var objectCount: UInt64
    /// Sum of the sizes of all current objects.
    package var logicalBytes: UInt64
    /// Plain bytes of all chunks in living containers, and inlined bytes.
    package var uniqueBytes: UInt64
    /// Their groups as stored, before coding, and inlined bytes.
    package var compressedBytes: UInt64
    /// All bytes that blocks occupy on devices, headers and padding included.
    package var storedBytes: UInt64
    /// Of these, links and checkpoints.
    package var metadataBytes: UInt64
    package var capacityBytes: UInt64
    /// Before coding overhead.
    package var freeBytes: UInt64
    package var containerCount: UInt64
    /// Deletions whose space is not returned yet.
    package var trashCount: UInt64
    /// The same by storage class, by number.
    package var classes: [ClassUsage]

    package init(
      objectCount: UInt64, logicalBytes: UInt64, uniqueBytes: UInt64, compressedBytes: UInt64,
      storedBytes: UInt64, metadataBytes: UInt64, capacityBytes: UInt64, freeBytes: UInt64,
      containerCount: UInt64, trashCount: UInt64, classes: [ClassUsage]
    ) {
      self.objectCount = objectCount
      self.logicalBytes = logicalBytes
      self.uniqueBytes = uniqueBytes
      self.compressedBytes = compressedBytes
      self.storedBytes = storedBytes
      self.metadataBytes = metadataBytes
      self.capacityBytes = capacityBytes
      self.freeBytes = freeBytes
      self.containerCount = containerCount
      self.trashCount = trashCount
      self.classes = classes
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(objectCount)
      writer.varint(logicalBytes)
      writer.varint(uniqueBytes)
      writer.varint(compressedBytes)
      writer.varint(storedBytes)
      writer.varint(metadataBytes)
      writer.varint(capacityBytes)
      writer.varint(freeBytes)
      writer.varint(containerCount)
      writer.varint(trashCount)
      writer.list(classes)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      objectCount = try reader.varint()
      logicalBytes = try reader.varint()
      uniqueBytes = try reader.varint()
      compressedBytes = try reader.varint()
      storedBytes = try reader.varint()
      metadataBytes = try reader.varint()
      capacityBytes = try reader.varint()
      freeBytes = try reader.varint()
      containerCount = try reader.varint()
      trashCount = try reader.varint()
      classes = try reader.list()
    }
  }
}

/// How this coordinator does; answered by any, leader or not.
package struct GetStatus: Call {
  package static let method: UInt16 = 527

  package init() {
  }
  package func encode(into writer: inout ByteWriter) {
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var name: String
    /// "leader", "starting", "standby" (another leads) or "waiting".
    package var role: String
    /// What it waits for, for people; empty when all is well.
    package var detail: String
    package var clusterID: UInt64
    package var epoch: UInt64
    /// Applied log position.
    package var position: UInt64
    package var scheme: Scheme
    package var nodes: [Node]

    package init(
      name: String, role: String, detail: String, clusterID: UInt64, epoch: UInt64,
      position: UInt64, scheme: Scheme, nodes: [Node]
    ) {
      self.name = name
      self.role = role
      self.detail = detail
      self.clusterID = clusterID
      self.epoch = epoch
      self.position = position
      self.scheme = scheme
      self.nodes = nodes
    }
    package func encode(into writer: inout ByteWriter) {
      writer.string(name)
      writer.string(role)
      writer.string(detail)
      writer.varint(clusterID)
      writer.varint(epoch)
      writer.varint(position)
      writer.value(scheme)
      writer.list(nodes)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      name = try reader.string()
      role = try reader.string()
      detail = try reader.string()
      clusterID = try reader.varint()
      epoch = try reader.varint()
      position = try reader.varint()
      scheme = try reader.value()
      nodes = try reader.list()
    }
  }
  package struct Node: Hashable, Sendable, WireValue {
    package var record: NodeRecord
    package var isUp: Bool
    package var devices: [DeviceReport]
    /// Of each device of the record.
    package var standings: [DeviceStanding]

    package init(
      record: NodeRecord, isUp: Bool, devices: [DeviceReport], standings: [DeviceStanding]
    ) {
      self.record = record
      self.isUp = isUp
      self.devices = devices
      self.standings = standings
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(record)
      writer.bool(isUp)
      writer.list(devices)
      writer.list(standings)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      record = try reader.value()
      isUp = try reader.bool()
      devices = try reader.list()
      standings = try reader.list()
      guard standings.count == record.devices.count else { throw .invalid("standings") }
    }
  }
}
