package import Wire

/// Asks the leader to hand over: it finishes what is under way, takes nothing new, and gives the lease up, so that a standby
/// need not wait for it to run out. Answered when the lease is given up.
///
/// Refused: notLeader; failed where no other coordinator could take over.
package struct StepDown: Call {
  package static let method: UInt16 = 540
  package init() {
  }
  package func encode(into writer: inout ByteWriter) {
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
  }
  package struct Answer: Hashable, Sendable, WireValue {
    /// The one that was given up.
    package var epoch: UInt64
    package init(epoch: UInt64) { self.epoch = epoch }
    package func encode(into writer: inout ByteWriter) { writer.varint(epoch) }
    package init(from reader: inout ByteReader) throws(ValueError) { epoch = try reader.varint() }
  }
}
