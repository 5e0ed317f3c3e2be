package import Cluster
package import Coding
package import Wire

/// A question about one object.
package protocol NamesObject: Call {
  var name: ObjectName { get set }
}

/// Refused: noSuchBucket, noSuchKey, noSuchVersion, isDeleteMarker.
package struct StatObject: Call, NamesObject {
  package static let method: UInt16 = 521
  package var level: ReadLevel
  package var name: ObjectName
  package var version: VersionName

  package init(level: ReadLevel, name: ObjectName, version: VersionName = .unnamed) {
    self.level = level
    self.name = name
    self.version = version
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.value(name)
    writer.value(version)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    name = try reader.value()
    version = try reader.value()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var record: ObjectRecord
    /// Those that hold its bytes, ascending.
    package var containers: [ContainerSummary]
    /// The bucket's.
    package var storageClass: String
    /// Groups that hold its chunks, as stored, before coding; others may have chunks in them too. Nil when there are too many
    /// to count.
    package var groupBytes: UInt64?

    package init(
      record: ObjectRecord, containers: [ContainerSummary], storageClass: String,
      groupBytes: UInt64?
    ) {
      self.record = record
      self.containers = containers
      self.storageClass = storageClass
      self.groupBytes = groupBytes
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(record)
      writer.list(containers)
      writer.string(storageClass)
      writer.optional(groupBytes)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      record = try reader.value()
      containers = try reader.list()
      storageClass = try reader.string()
      groupBytes = try reader.optional()
    }
  }
}

package struct ContainerSummary: Hashable, Sendable, WireValue {
  package var container: ContainerID
  package var scheme: Scheme
  /// One for each shard.
  package var places: [ShardPlace]
  /// Shards whose node is down or whose device is retired, as the leader sees it now.
  package var missing: UInt32
  /// Blocks known to be wrong on the other shards: of the stripe of the object that has most.
  package var damaged: UInt32

  package init(
    container: ContainerID, scheme: Scheme, places: [ShardPlace], missing: UInt32,
    damaged: UInt32 = 0
  ) {
    self.container = container
    self.scheme = scheme
    self.places = places
    self.missing = missing
    self.damaged = damaged
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(container)
    writer.value(scheme)
    writer.list(places)
    writer.varint(missing)
    writer.varint(damaged)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    container = try reader.value()
    scheme = try reader.value()
    places = try reader.list()
    missing = try reader.varint32()
    damaged = try reader.varint32()
  }
}

/// Keys in byte order. Refused: noSuchBucket.
package struct ListObjects: Call {
  package static let method: UInt16 = 522
  package var level: ReadLevel
  package var bucket: String
  package var prefix: String
  /// Keys after this one, exclusive, by bytes.
  package var after: String
  /// Empty: no grouping.
  package var delimiter: String
  /// At most 1,000.
  package var limit: UInt32

  package init(
    level: ReadLevel, bucket: String, prefix: String, after: String, delimiter: String,
    limit: UInt32
  ) {
    self.level = level
    self.bucket = bucket
    self.prefix = prefix
    self.after = after
    self.delimiter = delimiter
    self.limit = limit
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.string(bucket)
    writer.string(prefix)
    writer.string(after)
    writer.string(delimiter)
    writer.varint(limit)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    bucket = try reader.string()
    prefix = try reader.string()
    after = try reader.string()
    delimiter = try reader.string()
    limit = try reader.varint32()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var entries: [Entry]
    /// Groups of keys up to the delimiter, ascending.
    package var prefixes: [String]
    /// Where to go on, as `after`; nil at the end.
    package var next: String?

    package init(entries: [Entry], prefixes: [String], next: String?) {
      self.entries = entries
      self.prefixes = prefixes
      self.next = next
    }
    package func encode(into writer: inout ByteWriter) {
      writer.list(entries)
      writer.list(prefixes)
      writer.optional(next)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      entries = try reader.list()
      prefixes = try reader.list()
      next = try reader.optional()
    }
  }
  package struct Entry: Hashable, Sendable, WireValue {
    package var key: String
    package var identity: UInt64
    package var byteCount: UInt64
    /// Milliseconds since 1970.
    package var modified: UInt64
    package var contentHash: Fingerprint
    package var attributes: ObjectAttributes

    package init(
      key: String, identity: UInt64, byteCount: UInt64, modified: UInt64, contentHash: Fingerprint,
      attributes: ObjectAttributes
    ) {
      self.key = key
      self.identity = identity
      self.byteCount = byteCount
      self.modified = modified
      self.contentHash = contentHash
      self.attributes = attributes
    }
    package func encode(into writer: inout ByteWriter) {
      writer.string(key)
      writer.varint(identity)
      writer.varint(byteCount)
      writer.varint(modified)
      writer.value(contentHash)
      writer.value(attributes)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      key = try reader.string()
      identity = try reader.varint()
      byteCount = try reader.varint()
      modified = try reader.varint()
      contentHash = try reader.value()
      attributes = try reader.value()
    }
  }
}

package struct ListBuckets: Call {
  package static let method: UInt16 = 523
  package var level: ReadLevel

  package init(level: ReadLevel) {
    self.level = level
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var buckets: [Entry]

    package init(buckets: [Entry]) {
      self.buckets = buckets
    }
    package func encode(into writer: inout ByteWriter) {
      writer.list(buckets)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      buckets = try reader.list()
    }
  }
  package struct Entry: Hashable, Sendable, WireValue {
    package var name: String
    /// Milliseconds since 1970.
    package var created: UInt64
    package var storageClass: String
    /// Empty: it is not encrypted.
    package var keyDomain: String

    package init(name: String, created: UInt64, storageClass: String, keyDomain: String = "") {
      self.name = name
      self.created = created
      self.storageClass = storageClass
      self.keyDomain = keyDomain
    }
    package func encode(into writer: inout ByteWriter) {
      writer.string(name)
      writer.varint(created)
      writer.string(storageClass)
      writer.string(keyDomain)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      name = try reader.string()
      created = try reader.varint()
      storageClass = try reader.string()
      keyDomain = try reader.string()
    }
  }
}
