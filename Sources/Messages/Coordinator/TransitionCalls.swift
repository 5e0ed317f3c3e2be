/// Versions that buckets' rules move to other storage classes, and who moves them. Method 600.
package import Wire

/// Versions to move next. Only the leader answers.
///
/// The leader walks a bucket for one worker at a time, and remembers how far it is for ten minutes after the worker last asked: what a
/// worker did not move is found again the next time. Rules are looked at as often as those that let versions go.
package struct NextTransitions: Call {
  package static let method: UInt16 = 600
  /// Chosen at random by each worker, once.
  package var worker: UInt64
  /// At most ``limit``; 0: the worker is busy with what it has, and keeps it.
  package var limit: UInt32

  package static let countLimit = 100

  package init(worker: UInt64, limit: UInt32) {
    self.worker = worker
    self.limit = limit
  }
  package func encode(into writer: inout ByteWriter) {
    writer.fixed(worker)
    writer.varint(limit)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    worker = try reader.fixed()
    limit = try reader.varint32()
  }

  package struct Answer: Hashable, Sendable, WireValue {
    package var versions: [DueVersion]
    /// Ask again after so long; 0: at once.
    package var pauseMilliseconds: UInt32

    package init(versions: [DueVersion], pauseMilliseconds: UInt32) {
      self.versions = versions
      self.pauseMilliseconds = pauseMilliseconds
    }
    package func encode(into writer: inout ByteWriter) {
      writer.list(versions)
      writer.varint(pauseMilliseconds)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      versions = try reader.list(limit: NextTransitions.countLimit)
      pauseMilliseconds = try reader.varint32()
    }
  }
}

/// A version that is to be in another class.
package struct DueVersion: Hashable, Sendable, WireValue {
  package var name: ObjectName
  package var identity: UInt64
  package var byteCount: UInt64
  package var attributes: ObjectAttributes
  package var tier: ObjectTier
  /// Where it is to be.
  package var domain: ChunkDomain
  package var storageClass: StorageClass
  package var bytes: Bytes

  package enum Bytes: UInt8, Sendable {
    /// They are inlined, or of that class already: nothing is stored anew.
    case stay = 0
    /// They lie below a page.
    case belowPage = 1
    /// They are named in the version's record.
    case embedded = 2
  }

  package init(
    name: ObjectName, identity: UInt64, byteCount: UInt64, attributes: ObjectAttributes,
    tier: ObjectTier, domain: ChunkDomain, storageClass: StorageClass, bytes: Bytes
  ) {
    self.name = name
    self.identity = identity
    self.byteCount = byteCount
    self.attributes = attributes
    self.tier = tier
    self.domain = domain
    self.storageClass = storageClass
    self.bytes = bytes
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(name)
    writer.varint(identity)
    writer.varint(byteCount)
    writer.value(attributes)
    writer.value(tier)
    writer.value(domain)
    writer.value(storageClass)
    writer.fixed(bytes.rawValue)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    name = try reader.value()
    identity = try reader.varint()
    byteCount = try reader.varint()
    attributes = try reader.value()
    tier = try reader.value()
    domain = try reader.value()
    storageClass = try reader.value()
    guard let bytes = Bytes(rawValue: try reader.fixed()), byteCount < 1 << 62 else {
      throw .invalid("due version")
    }
    self.bytes = bytes
  }
}
