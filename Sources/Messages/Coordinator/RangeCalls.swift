package import Cluster
package import Coding
package import Wire

/// Where the bytes of a range are. Refused: noSuchBucket, noSuchKey, preconditionFailed, invalidRange (first > size).
package struct ResolveRange: Call, NamesObject {
  package static let method: UInt16 = 524
  package var level: ReadLevel
  package var name: ObjectName
  /// 0: the current version; else that version, or preconditionFailed when it is not there any more.
  package var identity: UInt64
  /// The first byte wanted.
  package var first: UInt64
  /// How many; the answer may cover fewer and then `isLast` is false.
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
    package var identity: UInt64
    package var objectByteCount: UInt64
    package var contentHash: Fingerprint
    package var attributes: ObjectAttributes
    package var modified: UInt64
    /// What the version is called.
    package var name: VersionName
    package var mapEpoch: UInt64
    /// The range's bytes when the object is inlined; then there are no pieces.
    package var inline: [UInt8]
    package var containers: [ContainerPlan]
    package var stripes: [StripePlan]
    /// In the order of the object. Together they cover the range from `first` on.
    package var pieces: [Piece]
    /// Whether they cover all of it.
    package var isLast: Bool
    /// Of all of them: unless it is the plain one, each group is sealed.
    package var keyDomain: KeyDomainID

    package init(
      identity: UInt64, objectByteCount: UInt64, contentHash: Fingerprint,
      attributes: ObjectAttributes, modified: UInt64, name: VersionName = .unnamed,
      mapEpoch: UInt64, inline: [UInt8],
      containers: [ContainerPlan], stripes: [StripePlan], pieces: [Piece], isLast: Bool,
      keyDomain: KeyDomainID = .plain
    ) {
      self.keyDomain = keyDomain
      self.identity = identity
      self.objectByteCount = objectByteCount
      self.contentHash = contentHash
      self.attributes = attributes
      self.modified = modified
      self.name = name
      self.mapEpoch = mapEpoch
      self.inline = inline
      self.containers = containers
      self.stripes = stripes
      self.pieces = pieces
      self.isLast = isLast
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(identity)
      writer.varint(objectByteCount)
      writer.value(contentHash)
      writer.value(attributes)
      writer.varint(modified)
      writer.value(name)
      writer.varint(mapEpoch)
      writer.blob(inline)
      writer.list(containers)
      writer.list(stripes)
      writer.list(pieces)
      writer.bool(isLast)
      writer.value(keyDomain)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      identity = try reader.varint()
      objectByteCount = try reader.varint()
      contentHash = try reader.value()
      attributes = try reader.value()
      modified = try reader.varint()
      name = try reader.value()
      mapEpoch = try reader.varint()
      inline = try reader.blob()
      containers = try reader.list()
      stripes = try reader.list()
      pieces = try reader.list()
      isLast = try reader.bool()
      keyDomain = try reader.value()
    }
  }
  package struct ContainerPlan: Hashable, Sendable, WireValue {
    package var container: ContainerID
    package var scheme: Scheme
    /// One for each shard.
    package var places: [ShardPlace]

    package init(container: ContainerID, scheme: Scheme, places: [ShardPlace]) {
      self.container = container
      self.scheme = scheme
      self.places = places
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(container)
      writer.value(scheme)
      writer.list(places)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      container = try reader.value()
      scheme = try reader.value()
      places = try reader.list()
    }
  }
  package struct StripePlan: Hashable, Sendable, WireValue {
    /// In `containers`.
    package var containerIndex: UInt32
    package var stripe: UInt64
    package var layout: StripeLayout

    package init(containerIndex: UInt32, stripe: UInt64, layout: StripeLayout) {
      self.containerIndex = containerIndex
      self.stripe = stripe
      self.layout = layout
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(containerIndex)
      writer.varint(stripe)
      writer.value(layout)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      containerIndex = try reader.varint32()
      stripe = try reader.varint()
      layout = try reader.value()
    }
  }
  package struct Piece: Hashable, Sendable, WireValue {
    /// In `stripes`.
    package var stripeIndex: UInt32
    /// Of the group's frame in the stripe's data bytes.
    package var groupOffset: UInt32
    /// Of the frame, header included.
    package var groupByteCount: UInt32
    package var codec: UInt8
    /// Plain bytes of all the group's chunks.
    package var groupPlainByteCount: UInt32
    /// Of the chunk in the group's plain bytes.
    package var chunkOffset: UInt32
    package var chunkByteCount: UInt32
    package var fingerprint: Fingerprint
    /// Bytes of the chunk before the range.
    package var skip: UInt32
    /// Bytes of the chunk in the range.
    package var take: UInt32

    package init(
      stripeIndex: UInt32, groupOffset: UInt32, groupByteCount: UInt32, codec: UInt8,
      groupPlainByteCount: UInt32, chunkOffset: UInt32, chunkByteCount: UInt32,
      fingerprint: Fingerprint, skip: UInt32, take: UInt32
    ) {
      self.stripeIndex = stripeIndex
      self.groupOffset = groupOffset
      self.groupByteCount = groupByteCount
      self.codec = codec
      self.groupPlainByteCount = groupPlainByteCount
      self.chunkOffset = chunkOffset
      self.chunkByteCount = chunkByteCount
      self.fingerprint = fingerprint
      self.skip = skip
      self.take = take
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(stripeIndex)
      writer.varint(groupOffset)
      writer.varint(groupByteCount)
      writer.fixed(codec)
      writer.varint(groupPlainByteCount)
      writer.varint(chunkOffset)
      writer.varint(chunkByteCount)
      writer.value(fingerprint)
      writer.varint(skip)
      writer.varint(take)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      stripeIndex = try reader.varint32()
      groupOffset = try reader.varint32()
      groupByteCount = try reader.varint32()
      codec = try reader.fixed()
      groupPlainByteCount = try reader.varint32()
      chunkOffset = try reader.varint32()
      chunkByteCount = try reader.varint32()
      fingerprint = try reader.value()
      skip = try reader.varint32()
      take = try reader.varint32()
    }
  }
}

/// Which chunks are stored already, in a domain. Hints: whoever uses one must hold it (`holdChunks`).
package struct FindChunks: Call {
  package static let method: UInt16 = 525
  package var domain: ChunkDomain
  /// At most 4,096.
  package var fingerprints: [Fingerprint]

  package init(fingerprints: [Fingerprint], in domain: ChunkDomain) {
    self.domain = domain
    self.fingerprints = fingerprints
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(domain)
    writer.list(fingerprints)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    domain = try reader.value()
    fingerprints = try reader.list()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    /// One for each fingerprint; count 0 where there is none.
    package var found: [Location]
    /// Other chunks of the stripes that were hit, likely to be asked for next.
    package var neighbours: [Neighbour]

    package init(found: [Location], neighbours: [Neighbour]) {
      self.found = found
      self.neighbours = neighbours
    }
    package func encode(into writer: inout ByteWriter) {
      writer.list(found)
      writer.list(neighbours)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      found = try reader.list()
      neighbours = try reader.list()
    }
  }
  package struct Location: Hashable, Sendable, WireValue {
    package var container: ContainerID
    package var ordinal: UInt64
    /// 0: not stored.
    package var byteCount: UInt32

    package init(container: ContainerID, ordinal: UInt64, byteCount: UInt32) {
      self.container = container
      self.ordinal = ordinal
      self.byteCount = byteCount
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(container)
      writer.varint(ordinal)
      writer.varint(byteCount)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      container = try reader.value()
      ordinal = try reader.varint()
      byteCount = try reader.varint32()
    }
  }
  package struct Neighbour: Hashable, Sendable, WireValue {
    package var fingerprint: Fingerprint
    package var location: Location

    package init(fingerprint: Fingerprint, location: Location) {
      self.fingerprint = fingerprint
      self.location = location
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(fingerprint)
      writer.value(location)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      fingerprint = try reader.value()
      location = try reader.value()
    }
  }
}
