package import Coding
package import Wire

extension Scheme: WireValue {
  package func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(k))
    writer.fixed(UInt8(m))
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    let k: UInt8 = try reader.fixed()
    let m: UInt8 = try reader.fixed()
    guard let scheme = Scheme(k: Int(k), m: Int(m)) else { throw .invalid("scheme") }
    self = scheme
  }
}

extension Fingerprint: WireValue {
  package func encode(into writer: inout ByteWriter) {
    for word in [w0, w1, w2, w3] { writer.fixed(word.bigEndian) }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    self.init(
      w0: UInt64(bigEndian: try reader.fixed()), w1: UInt64(bigEndian: try reader.fixed()),
      w2: UInt64(bigEndian: try reader.fixed()), w3: UInt64(bigEndian: try reader.fixed()))
  }
}
