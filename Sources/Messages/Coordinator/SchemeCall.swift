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

    package init(scheme: Scheme, logCopies: UInt32) {
      self.scheme = scheme
      self.logCopies = logCopies
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(scheme)
      writer.varint(logCopies)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      scheme = try reader.value()
      logCopies = try reader.varint32()
    }
  }
}
