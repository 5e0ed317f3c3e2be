internal import Messages
package import Wire

/// Which row a multipart upload has in the store.
package struct MultipartRow: Hashable, Sendable, WireValue {
  /// The bucket's identity.
  package var bucket: UInt64
  package var key: String
  package var number: UInt64

  package init(bucket: UInt64, key: String, number: UInt64) {
    self.bucket = bucket
    self.key = key
    self.number = number
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(bucket)
    writer.string(key)
    writer.varint(number)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    bucket = try reader.varint()
    key = try reader.string(limit: 4096)
    number = try reader.varint()
    // As any position: its key relies on the first byte.
    guard number < 1 << 56 else { throw .invalid("multipart") }
  }
}

/// A multipart upload under way.
struct MultipartRecord: Hashable, StoredValue {
  /// The cluster's time when it was begun.
  var opened: UInt64
  var description: MultipartDescription

  init(opened: UInt64, description: MultipartDescription) {
    self.opened = opened
    self.description = description
  }
  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.varint(opened)
    writer.value(description)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(1)
    opened = try reader.varint()
    description = try reader.value()
  }
}

/// A part that is there. It has an edge to its root page.
struct PartRecord: Hashable, StoredValue {
  /// The position of the command that put it.
  var identity: UInt64
  var part: NewPart
  /// Milliseconds since 1970.
  var modified: UInt64

  init(identity: UInt64, part: NewPart, modified: UInt64) {
    self.identity = identity
    self.part = part
    self.modified = modified
  }
  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.varint(identity)
    writer.value(part)
    writer.varint(modified)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(1)
    identity = try reader.varint()
    part = try reader.value()
    modified = try reader.varint()
  }
}
