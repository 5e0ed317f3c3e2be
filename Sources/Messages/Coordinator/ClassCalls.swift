/// Storage classes: which there are, what they hold, their change. Methods 545 ... 548.
package import Wire

/// A bucket and the class it has. Refused: noSuchBucket.
package struct GetBucket: Call {
  package static let method: UInt16 = 545
  package var level: ReadLevel
  package var name: String

  package init(level: ReadLevel, name: String) {
    self.level = level
    self.name = name
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.string(name)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    name = try reader.string(limit: 4096)
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var domain: ChunkDomain
    package var storageClass: StorageClass
    package var objectCount: UInt64
    package var versioning: BucketVersioning
    /// Nil: the bucket has no locks.
    package var lock: BucketLock?

    package init(
      domain: ChunkDomain, storageClass: StorageClass, objectCount: UInt64,
      versioning: BucketVersioning = .off, lock: BucketLock? = nil
    ) {
      self.domain = domain
      self.storageClass = storageClass
      self.objectCount = objectCount
      self.versioning = versioning
      self.lock = lock
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(domain)
      writer.value(storageClass)
      writer.varint(objectCount)
      writer.value(versioning)
      writer.optional(lock)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      domain = try reader.value()
      storageClass = try reader.value()
      objectCount = try reader.varint()
      versioning = try reader.value()
      lock = try reader.optional()
    }
  }
}

/// All classes, by number, and what each holds.
package struct ListClasses: Call {
  package static let method: UInt16 = 546
  package var level: ReadLevel

  package init(level: ReadLevel) { self.level = level }
  package func encode(into writer: inout ByteWriter) { writer.value(level) }
  package init(from reader: inout ByteReader) throws(ValueError) { level = try reader.value() }

  package struct Answer: Hashable, Sendable, WireValue {
    package var classes: [ClassUsage]
    package init(classes: [ClassUsage]) { self.classes = classes }
    package func encode(into writer: inout ByteWriter) { writer.list(classes) }
    package init(from reader: inout ByteReader) throws(ValueError) { classes = try reader.list() }
  }
}

/// A class and what is stored in it.
package struct ClassUsage: Hashable, Sendable, WireValue {
  package var id: ClassID
  package var storageClass: StorageClass
  package var objectCount: UInt64
  /// Sum of the sizes of all current objects of its buckets.
  package var logicalBytes: UInt64
  /// Of these, bytes kept in the metadata.
  package var inlineBytes: UInt64
  /// Plain bytes of all chunks in its living containers.
  package var chunkBytes: UInt64
  /// Their groups as stored, frames included, before coding.
  package var groupBytes: UInt64
  /// What their stripes' blocks occupy, parity, headers and padding included.
  package var blockBytes: UInt64
  package var containerCount: UInt64

  package init(
    id: ClassID, storageClass: StorageClass, objectCount: UInt64, logicalBytes: UInt64,
    inlineBytes: UInt64, chunkBytes: UInt64, groupBytes: UInt64, blockBytes: UInt64,
    containerCount: UInt64
  ) {
    self.id = id
    self.storageClass = storageClass
    self.objectCount = objectCount
    self.logicalBytes = logicalBytes
    self.inlineBytes = inlineBytes
    self.chunkBytes = chunkBytes
    self.groupBytes = groupBytes
    self.blockBytes = blockBytes
    self.containerCount = containerCount
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(id)
    writer.value(storageClass)
    writer.varint(objectCount)
    writer.varint(logicalBytes)
    writer.varint(inlineBytes)
    writer.varint(chunkBytes)
    writer.varint(groupBytes)
    writer.varint(blockBytes)
    writer.varint(containerCount)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    id = try reader.value()
    storageClass = try reader.value()
    objectCount = try reader.varint()
    logicalBytes = try reader.varint()
    inlineBytes = try reader.varint()
    chunkBytes = try reader.varint()
    groupBytes = try reader.varint()
    blockBytes = try reader.varint()
    containerCount = try reader.varint()
  }
}

/// Makes a class, or changes the one of that name: what is written from then on is stored so, and what there is gets the
/// scheme bit by bit. Only the leader answers.
///
/// A scheme with a larger m is in effect once the metadata log has as many copies: until then the answer says that the class is
/// not, and the call is to be made again.
///
/// Refused: invalidName, malformed; tooLittleLeft when there are fewer failure domains than its scheme needs.
package struct DefineClass: Call {
  package static let method: UInt16 = 547
  package var storageClass: StorageClass

  package init(storageClass: StorageClass) { self.storageClass = storageClass }
  package func encode(into writer: inout ByteWriter) { writer.value(storageClass) }
  package init(from reader: inout ByteReader) throws(ValueError) {
    storageClass = try reader.value()
  }

  package struct Answer: Hashable, Sendable, WireValue {
    package var isInEffect: Bool
    /// Of the metadata log, all of it.
    package var logCopies: UInt32

    package init(isInEffect: Bool, logCopies: UInt32) {
      self.isInEffect = isInEffect
      self.logCopies = logCopies
    }
    package func encode(into writer: inout ByteWriter) {
      writer.bool(isInEffect)
      writer.varint(logCopies)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      isInEffect = try reader.bool()
      logCopies = try reader.varint32()
    }
  }
}

/// Gives a bucket without objects another class. Only the leader answers.
///
/// Refused: noSuchBucket, noSuchClass; bucketNotEmpty, since what a bucket holds shares chunks with its class.
package struct SetBucketClass: Call {
  package static let method: UInt16 = 548
  package typealias Answer = Done
  package var bucket: String
  package var storageClass: String

  package init(bucket: String, storageClass: String) {
    self.bucket = bucket
    self.storageClass = storageClass
  }
  package func encode(into writer: inout ByteWriter) {
    writer.string(bucket)
    writer.string(storageClass)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    bucket = try reader.string(limit: 4096)
    storageClass = try reader.string(limit: 4096)
  }
}
