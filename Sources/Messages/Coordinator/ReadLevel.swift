package import Wire

/// How fresh an answer must be.
package enum ReadLevel: Hashable, Sendable, WireValue {
  /// Every acknowledged write is seen; answered by the leader under its lease.
  case strong
  /// Everything up to this log position is seen.
  case position(UInt64)
  case eventual

  package func encode(into writer: inout ByteWriter) {
    switch self {
    case .strong: writer.fixed(UInt8(0))
    case .position(let position):
      writer.fixed(UInt8(1))
      writer.varint(position)
    case .eventual: writer.fixed(UInt8(2))
    }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    switch try reader.fixed(UInt8.self) {
    case 0: self = .strong
    case 1: self = .position(try reader.varint())
    case 2: self = .eventual
    default: throw .invalid("read level")
    }
  }
}
