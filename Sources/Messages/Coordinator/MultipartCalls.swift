package import Wire

/// The parts that a multipart upload has so far, by number. Refused: noSuchBucket, noSuchMultipart.
package struct ListParts: Call {
  package static let method: UInt16 = 550
  package var level: ReadLevel
  package var multipart: MultipartName
  /// Parts after this number.
  package var after: UInt32
  /// At most 1,000.
  package var limit: UInt32

  package init(level: ReadLevel, multipart: MultipartName, after: UInt32, limit: UInt32) {
    self.level = level
    self.multipart = multipart
    self.after = after
    self.limit = limit
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.value(multipart)
    writer.varint(after)
    writer.varint(limit)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    multipart = try reader.value()
    after = try reader.varint32()
    limit = try reader.varint32()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var description: MultipartDescription
    package var parts: [Part]
    /// Whether there are none after these.
    package var isLast: Bool

    package init(description: MultipartDescription, parts: [Part], isLast: Bool) {
      self.description = description
      self.parts = parts
      self.isLast = isLast
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(description)
      writer.list(parts)
      writer.bool(isLast)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      description = try reader.value()
      parts = try reader.list()
      isLast = try reader.bool()
    }
  }
  package struct Part: Hashable, Sendable, WireValue {
    package var part: NewPart
    package var identity: UInt64
    /// Milliseconds since 1970.
    package var modified: UInt64

    package init(part: NewPart, identity: UInt64, modified: UInt64) {
      self.part = part
      self.identity = identity
      self.modified = modified
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(part)
      writer.varint(identity)
      writer.varint(modified)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      part = try reader.value()
      identity = try reader.varint()
      modified = try reader.varint()
    }
  }
}

/// What was said when a multipart upload was begun.
package struct MultipartDescription: Hashable, Sendable, WireValue {
  /// By the leader's clock: milliseconds since 1970.
  package var initiated: UInt64
  /// Who began it.
  package var owner: String
  package var attributes: ObjectAttributes

  package init(initiated: UInt64, owner: String, attributes: ObjectAttributes) {
    self.initiated = initiated
    self.owner = owner
    self.attributes = attributes
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(initiated)
    writer.string(owner)
    writer.value(attributes)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    initiated = try reader.varint()
    owner = try reader.string(limit: 4096)
    attributes = try reader.value()
  }
}

/// Multipart uploads under way, by the bytes of their keys, then in the order in which they were begun. Refused: noSuchBucket.
package struct ListMultiparts: Call {
  package static let method: UInt16 = 551
  package var level: ReadLevel
  package var bucket: String
  package var prefix: String
  /// Empty: no grouping.
  package var delimiter: String
  /// Keys after this one; where `afterNumber` is not 0, also those of this key that were begun after that one.
  package var afterKey: String
  package var afterNumber: UInt64
  /// At most 1,000, of uploads and prefixes together.
  package var limit: UInt32

  package init(
    level: ReadLevel, bucket: String, prefix: String, delimiter: String, afterKey: String,
    afterNumber: UInt64, limit: UInt32
  ) {
    self.level = level
    self.bucket = bucket
    self.prefix = prefix
    self.delimiter = delimiter
    self.afterKey = afterKey
    self.afterNumber = afterNumber
    self.limit = limit
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.string(bucket)
    writer.string(prefix)
    writer.string(delimiter)
    writer.string(afterKey)
    writer.varint(afterNumber)
    writer.varint(limit)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    bucket = try reader.string()
    prefix = try reader.string()
    delimiter = try reader.string()
    afterKey = try reader.string()
    afterNumber = try reader.varint()
    limit = try reader.varint32()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var entries: [Entry]
    /// Groups of keys up to the delimiter, ascending.
    package var prefixes: [String]
    /// Whether there are none after these.
    package var isLast: Bool

    package init(entries: [Entry], prefixes: [String], isLast: Bool) {
      self.entries = entries
      self.prefixes = prefixes
      self.isLast = isLast
    }
    package func encode(into writer: inout ByteWriter) {
      writer.list(entries)
      writer.list(prefixes)
      writer.bool(isLast)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      entries = try reader.list()
      prefixes = try reader.list()
      isLast = try reader.bool()
    }
  }
  package struct Entry: Hashable, Sendable, WireValue {
    package var key: String
    package var number: UInt64
    package var description: MultipartDescription

    package init(key: String, number: UInt64, description: MultipartDescription) {
      self.key = key
      self.number = number
      self.description = description
    }
    package func encode(into writer: inout ByteWriter) {
      writer.string(key)
      writer.varint(number)
      writer.value(description)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      key = try reader.string()
      number = try reader.varint()
      description = try reader.value()
    }
  }
}

/// Where one of the parts is that an object was completed from. Refused: noSuchBucket, noSuchKey; preconditionFailed when the version
/// is current no more; invalidRange when there is no such part.
package struct FindPart: Call, NamesObject {
  package static let method: UInt16 = 552
  package var level: ReadLevel
  package var name: ObjectName
  package var identity: UInt64
  /// From 1, in the order of the object, whatever the numbers under which the parts were put.
  package var ordinal: UInt32
  /// How many parts the object was completed from, one without bytes at the end included.
  package var partCount: UInt32

  package init(
    level: ReadLevel, name: ObjectName, identity: UInt64, ordinal: UInt32, partCount: UInt32
  ) {
    self.level = level
    self.name = name
    self.identity = identity
    self.ordinal = ordinal
    self.partCount = partCount
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.value(name)
    writer.varint(identity)
    writer.varint(ordinal)
    writer.varint(partCount)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    name = try reader.value()
    identity = try reader.varint()
    ordinal = try reader.varint32()
    partCount = try reader.varint32()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var first: UInt64
    package var byteCount: UInt64

    package init(first: UInt64, byteCount: UInt64) {
      self.first = first
      self.byteCount = byteCount
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(first)
      writer.varint(byteCount)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      first = try reader.varint()
      byteCount = try reader.varint()
    }
  }
}

/// What a range of an object is made of, so that it can be put together elsewhere without moving a byte: pages that lie in it
/// whole, as large as they come but at most one level above pages of runs, and runs at its ends.
/// Refused: noSuchBucket, noSuchKey; preconditionFailed when the version is current no more; invalidRange (it ends past the object).
package struct CoverRange: Call, NamesObject {
  package static let method: UInt16 = 553
  package var level: ReadLevel
  package var name: ObjectName
  package var identity: UInt64
  package var first: UInt64
  /// How many bytes; the answer may cover fewer, and says how many.
  package var byteCount: UInt64

  package init(
    level: ReadLevel, name: ObjectName, identity: UInt64, first: UInt64, byteCount: UInt64
  ) {
    self.level = level
    self.name = name
    self.identity = identity
    self.first = first
    self.byteCount = byteCount
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.value(name)
    writer.varint(identity)
    writer.varint(first)
    writer.varint(byteCount)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    name = try reader.value()
    identity = try reader.varint()
    first = try reader.varint()
    byteCount = try reader.varint()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    /// The bytes when the object is inlined; then there are no pieces.
    package var inline: [UInt8]
    /// In order: children are pages to be named as they are, each of runs is a page to be put.
    package var pieces: [Page]
    /// From the first byte on.
    package var byteCount: UInt64

    package init(inline: [UInt8], pieces: [Page], byteCount: UInt64) {
      self.inline = inline
      self.pieces = pieces
      self.byteCount = byteCount
    }
    package func encode(into writer: inout ByteWriter) {
      writer.blob(inline)
      writer.list(pieces)
      writer.varint(byteCount)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      inline = try reader.blob(limit: ObjectContent.inlineLimit)
      pieces = try reader.list()
      byteCount = try reader.varint()
    }
  }
}
