package import Wire

/// What a device did since its node started, and how long it took: counted from a call's arrival to its answer.
package struct DeviceLoad: Hashable, Sendable, WireValue {
  /// Of one kind of call.
  package struct Tally: Hashable, Sendable, WireValue {
    package var count: UInt64 = 0
    /// All of them together.
    package var microseconds: UInt64 = 0
    package init(count: UInt64 = 0, microseconds: UInt64 = 0) {
      self.count = count
      self.microseconds = microseconds
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(count)
      writer.varint(microseconds)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      count = try reader.varint()
      microseconds = try reader.varint()
    }
  }
  package var reads = Tally()
  package var writes = Tally()
  /// Calls that wait for it now.
  package var underWay: UInt64 = 0

  package init() {}
  package func encode(into writer: inout ByteWriter) {
    writer.value(reads)
    writer.value(writes)
    writer.varint(underWay)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    reads = try reader.value()
    writes = try reader.value()
    underWay = try reader.varint()
  }
}
