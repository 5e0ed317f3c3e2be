package import Coding
package import Wire

/// Says or changes how much of what is stored may be lost, and at what price: the scheme of the default class. What is stored
/// already gets it bit by bit. Only the leader answers.
///
/// A scheme with a larger m is in effect once the metadata log has as many copies: until then the answer says the old one, and the
/// call is to be made again.
///
/// Refused: tooLittleLeft when there are fewer failure domains than it needs.
package struct ChangeScheme: Call {
  package static let method: UInt16 = 535
  /// Nil: only says it.
  package var scheme: Scheme?

  package init(scheme: Scheme?) { self.scheme = scheme }
  package func encode(into writer: inout ByteWriter) { writer.optional(scheme) }
  package init(from reader: inout ByteReader) throws(ValueError) { scheme = try reader.optional() }

  package struct Answer: Hashable, Sendable, WireValue {
    /// In effect.
    package var scheme: Scheme
    /// Of the metadata log, all of it.
    package var logCopies: UInt32
    /// Containers that have another one still.
    package var otherContainers: UInt64
    /// These are written anew when there was room for it so long.
    package var patienceMilliseconds: UInt64

    package init(
      scheme: Scheme, logCopies: UInt32, otherContainers: UInt64, patienceMilliseconds: UInt64
    ) {
      self.scheme = scheme
      self.logCopies = logCopies
      self.otherContainers = otherContainers
      self.patienceMilliseconds = patienceMilliseconds
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(scheme)
      writer.varint(logCopies)
      writer.varint(otherContainers)
      writer.varint(patienceMilliseconds)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      scheme = try reader.value()
      logCopies = try reader.varint32()
      otherContainers = try reader.varint()
      patienceMilliseconds = try reader.varint()
    }
  }
}
