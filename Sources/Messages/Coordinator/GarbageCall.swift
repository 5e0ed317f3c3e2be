package import Wire

/// How much of what containers hold is dead; on request the leader packs anew, without waiting, those of which a smaller share is
/// alive than asked for. Only the leader answers. Its cost follows the number of containers.
package struct CollectGarbage: Call {
  package static let method: UInt16 = 536
  /// In hundredths of a container's data, at most 100.
  package var below: UInt8
  /// Only says it.
  package var isDryRun: Bool

  package init(below: UInt8, isDryRun: Bool) {
    self.below = below
    self.isDryRun = isDryRun
  }
  package func encode(into writer: inout ByteWriter) {
    writer.fixed(below)
    writer.bool(isDryRun)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    below = try reader.fixed()
    isDryRun = try reader.bool()
    guard below <= 100 else { throw .invalid("share") }
  }

  package struct Answer: Hashable, Sendable, WireValue {
    /// Containers that hold data and are not being written, and how many of them this leader has looked through.
    package var containers: UInt64
    package var lookedAt: UInt64
    /// Data bytes of those looked through, before coding, and how many of these are dead.
    package var dataBytes: UInt64
    package var deadBytes: UInt64
    /// Containers to be packed anew, and what is dead in them.
    package var collectContainers: UInt64
    package var collectBytes: UInt64
    /// Deletions whose edges are still to be returned.
    package var trashCount: UInt64

    package init() {
      containers = 0
      lookedAt = 0
      dataBytes = 0
      deadBytes = 0
      collectContainers = 0
      collectBytes = 0
      trashCount = 0
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(containers)
      writer.varint(lookedAt)
      writer.varint(dataBytes)
      writer.varint(deadBytes)
      writer.varint(collectContainers)
      writer.varint(collectBytes)
      writer.varint(trashCount)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      containers = try reader.varint()
      lookedAt = try reader.varint()
      dataBytes = try reader.varint()
      deadBytes = try reader.varint()
      collectContainers = try reader.varint()
      collectBytes = try reader.varint()
      trashCount = try reader.varint()
    }
  }
}
