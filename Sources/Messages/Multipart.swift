package import Wire

/// A multipart upload: the key that it is to become, and the log position of the command that began it. It belongs to no session:
/// it lives until it is completed, aborted, expired by the leader, or its bucket is removed.
package struct MultipartName: Hashable, Sendable, WireValue {
  package var name: ObjectName
  package var number: UInt64

  package init(_ name: ObjectName, number: UInt64) {
    self.name = name
    self.number = number
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(name)
    writer.varint(number)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    name = try reader.value()
    number = try reader.varint()
  }
}

/// One part of a multipart upload, as its writer describes it.
package struct NewPart: Hashable, Sendable, WireValue {
  package var number: UInt32
  /// The identity of its root page; 0: it has no bytes.
  package var page: UInt64
  package var byteCount: UInt64
  /// What the writer wants to be told of the part later, at most ``digestLimit`` bytes each: the state machine never looks at them.
  package var digest: [UInt8]
  package var checksum: [UInt8]

  package static let numbers: ClosedRange<UInt32> = 1...10_000
  package static let digestLimit = 64

  package init(
    number: UInt32, page: UInt64, byteCount: UInt64, digest: [UInt8], checksum: [UInt8]
  ) {
    self.number = number
    self.page = page
    self.byteCount = byteCount
    self.digest = digest
    self.checksum = checksum
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(number)
    writer.varint(page)
    writer.varint(byteCount)
    writer.blob(digest)
    writer.blob(checksum)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    number = try reader.varint32()
    page = try reader.varint()
    byteCount = try reader.varint()
    digest = try reader.blob(limit: Self.digestLimit)
    checksum = try reader.blob(limit: Self.digestLimit)
    guard byteCount < 1 << 62 else { throw .invalid("part") }
  }
}

/// One part of those that a multipart upload is completed with.
package struct PartChoice: Hashable, Sendable, WireValue {
  package var number: UInt32
  /// The log position of the command that put it: one that was put again since is another.
  package var identity: UInt64

  package init(number: UInt32, identity: UInt64) {
    self.number = number
    self.identity = identity
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(number)
    writer.varint(identity)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    number = try reader.varint32()
    identity = try reader.varint()
  }
}
