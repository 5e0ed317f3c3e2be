package import Wire

/// How a device stands, as a coordinator sees it now.
package enum DeviceStanding: UInt8, Sendable, WireValue, CaseIterable {
  /// Not heard of yet.
  case unknown = 0
  case healthy = 1
  /// Answers, many times slower than others of its kind: asked last, and given nothing new as long as others suffice.
  case degraded = 2
  /// Its node is silent, or it is not there.
  case offline = 3
  case draining = 4
  /// Silent for so long that its shards are written anew elsewhere.
  case lost = 5
  case retired = 6
  /// There, and takes no writes.
  case failed = 7

  package func encode(into writer: inout ByteWriter) { writer.fixed(rawValue) }
  package init(from reader: inout ByteReader) throws(ValueError) {
    guard let known = Self(rawValue: try reader.fixed()) else { throw .invalid("standing") }
    self = known
  }
}
