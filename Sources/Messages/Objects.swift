package import Cluster
package import Coding
package import Wire

/// Consecutive ordinals of one container, as a page names them.
package struct Run: Hashable, Sendable, WireValue {
  package var container: ContainerID
  package var firstOrdinal: UInt64
  package var count: UInt32
  /// Bytes to skip at the start of the first chunk.
  package var skip: UInt32
  /// Bytes the run contributes.
  package var byteCount: UInt64

  package init(
    container: ContainerID, firstOrdinal: UInt64, count: UInt32, skip: UInt32, byteCount: UInt64
  ) {
    self.container = container
    self.firstOrdinal = firstOrdinal
    self.count = count
    self.skip = skip
    self.byteCount = byteCount
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(container)
    writer.varint(firstOrdinal)
    writer.varint(count)
    writer.varint(skip)
    writer.varint(byteCount)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    container = try reader.value()
    firstOrdinal = try reader.varint()
    count = try reader.varint32()
    skip = try reader.varint32()
    byteCount = try reader.varint()
    guard count > 0, firstOrdinal.addingReportingOverflow(UInt64(count)).overflow == false,
      byteCount < 1 << 62
    else { throw .invalid("run") }
  }
}

/// One page of a manifest: runs, or child pages. At most 1,024 entries.
package enum Page: Hashable, Sendable, WireValue {
  case runs([Run])
  case children([Child])

  package struct Child: Hashable, Sendable, WireValue {
    /// The child's identity.
    package var page: UInt64
    package var byteCount: UInt64
    package init(page: UInt64, byteCount: UInt64) {
      self.page = page
      self.byteCount = byteCount
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(page)
      writer.varint(byteCount)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      page = try reader.varint()
      byteCount = try reader.varint()
      guard byteCount < 1 << 62 else { throw .invalid("child") }
    }
  }

  package static let entryLimit = 1024

  package func encode(into writer: inout ByteWriter) {
    switch self {
    case .runs(let runs):
      writer.fixed(UInt8(0))
      writer.list(runs)
    case .children(let children):
      writer.fixed(UInt8(1))
      writer.list(children)
    }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    switch try reader.fixed(UInt8.self) {
    case 0: self = .runs(try reader.list(limit: Self.entryLimit))
    case 1: self = .children(try reader.list(limit: Self.entryLimit))
    default: throw .invalid("page")
    }
  }
}

/// Where an object's bytes are.
package enum ObjectContent: Hashable, Sendable, WireValue {
  /// In the record itself; at most ``inlineLimit`` bytes.
  case inline([UInt8])
  /// One page kept in the record; at most ``embeddedRunLimit`` runs.
  case embedded([Run])
  /// The identity of the root page.
  case root(UInt64)

  package static let inlineLimit = 4096
  package static let embeddedRunLimit = 16

  package func encode(into writer: inout ByteWriter) {
    switch self {
    case .inline(let bytes):
      writer.fixed(UInt8(0))
      writer.blob(bytes)
    case .embedded(let runs):
      writer.fixed(UInt8(1))
      writer.list(runs)
    case .root(let page):
      writer.fixed(UInt8(2))
      writer.varint(page)
    }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    switch try reader.fixed(UInt8.self) {
    case 0: self = .inline(try reader.blob(limit: Self.inlineLimit))
    case 1: self = .embedded(try reader.list(limit: Self.embeddedRunLimit))
    case 2: self = .root(try reader.varint())
    default: throw .invalid("content")
    }
  }
}

package enum ObjectKind: UInt8, Sendable {
  case file = 0
  case symbolicLink = 1
  case directory = 2
}

/// What a file system, or a client, says of an object beside its bytes.
package struct ObjectAttributes: Hashable, Sendable, WireValue {
  package var kind: ObjectKind
  /// Permission bits, 07777; nil when the source had none.
  package var mode: UInt32?
  /// Of the source file, nanoseconds since 1970; nil when the source had none.
  package var sourceModified: Int64?
  package var contentType: String
  /// Sorted by name.
  package var user: [UserAttribute]
  /// What keeps the version from being taken away; nil: nothing.
  package var lock: ObjectLock?

  /// How many user attributes there may be.
  package static let userLimit = 96

  package struct UserAttribute: Hashable, Sendable, WireValue {
    package var name: String
    package var value: String
    package init(name: String, value: String) {
      self.name = name
      self.value = value
    }
    package func encode(into writer: inout ByteWriter) {
      writer.string(name)
      writer.string(value)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      name = try reader.string(limit: 1024)
      value = try reader.string(limit: 8192)
    }
  }

  package init(
    kind: ObjectKind = .file, mode: UInt32? = nil, sourceModified: Int64? = nil,
    contentType: String = "", user: [UserAttribute] = [], lock: ObjectLock? = nil
  ) {
    self.kind = kind
    self.mode = mode
    self.sourceModified = sourceModified
    self.contentType = contentType
    self.user = user
    self.lock = lock
  }
  package func encode(into writer: inout ByteWriter) {
    writer.fixed(
      kind.rawValue | (mode != nil ? 0x10 : 0) | (sourceModified != nil ? 0x20 : 0)
        | (lock != nil ? 0x40 : 0))
    if let mode { writer.varint(mode) }
    if let sourceModified { writer.signed(sourceModified) }
    writer.string(contentType)
    writer.list(user)
    if let lock { writer.value(lock) }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    let tag: UInt8 = try reader.fixed()
    guard let kind = ObjectKind(rawValue: tag & 0x0F), tag & 0x80 == 0 else {
      throw .invalid("attributes")
    }
    self.kind = kind
    mode = tag & 0x10 != 0 ? try reader.varint32() : nil
    sourceModified = tag & 0x20 != 0 ? try reader.signed() : nil
    contentType = try reader.string(limit: 1024)
    user = try reader.list(limit: Self.userLimit)
    lock = tag & 0x40 != 0 ? try reader.value() : nil
  }
}

/// One version of a key as the state machine keeps it.
package struct ObjectRecord: Hashable, Sendable, WireValue {
  /// The log position of the command that made it.
  package var identity: UInt64
  package var byteCount: UInt64
  /// One chunk: its fingerprint. Otherwise SHA-256 over each chunk's fingerprint and length (32-bit little-endian)
  /// in order; of no chunk: SHA-256 of nothing. An inlined object is one chunk. Of one that was completed from parts: the name of
  /// its root page.
  package var contentHash: Fingerprint
  package var attributes: ObjectAttributes
  /// When it was committed, by the leader's clock: milliseconds since 1970.
  package var modified: UInt64
  package var content: ObjectContent
  /// Made while the bucket's versioning was not enabled.
  package var isNull: Bool
  /// Nil: its content is as it was committed.
  package var moved: Moved?

  /// A version whose content was stored anew in another class.
  package struct Moved: Hashable, Sendable, WireValue {
    /// Of the content; the key domain is the bucket's.
    package var domain: ChunkDomain
    /// By which the content's edges are called: the log position of the move.
    package var source: UInt64
    package init(domain: ChunkDomain, source: UInt64) {
      self.domain = domain
      self.source = source
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(domain)
      writer.varint(source)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      domain = try reader.value()
      source = try reader.varint()
    }
  }

  /// By which the edges of its content are called.
  package var source: UInt64 { moved?.source ?? identity }

  package init(
    identity: UInt64, byteCount: UInt64, contentHash: Fingerprint, attributes: ObjectAttributes,
    modified: UInt64, content: ObjectContent, isNull: Bool = true
  ) {
    self.identity = identity
    self.byteCount = byteCount
    self.contentHash = contentHash
    self.attributes = attributes
    self.modified = modified
    self.content = content
    self.isNull = isNull
  }
  package func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8((isNull ? 1 : 2) + (moved == nil ? 0 : 2)))
    writer.varint(identity)
    writer.varint(byteCount)
    writer.value(contentHash)
    writer.value(attributes)
    writer.varint(modified)
    writer.value(content)
    if let moved { writer.value(moved) }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    let form: UInt8 = try reader.fixed()
    guard (1...4).contains(form) else { throw .invalid("object version") }
    isNull = form % 2 == 1
    identity = try reader.varint()
    byteCount = try reader.varint()
    contentHash = try reader.value()
    attributes = try reader.value()
    modified = try reader.varint()
    content = try reader.value()
    moved = form > 2 ? try reader.value() : nil
  }
}

/// How a group's bytes are coded.
package enum Codec: UInt8, Sendable {
  case raw = 0
  case lz4 = 1
  case zstd = 2
  case xz = 3
}

/// A stripe whose blocks are all on stable storage, as its writer registers it and the directory keeps it.
package struct StripeRecord: Hashable, Sendable, WireValue {
  package var stripe: UInt64
  package var layout: StripeLayout
  /// Of the first chunk; the others count up.
  package var firstOrdinal: UInt64
  package var groups: [Group]

  package struct Group: Hashable, Sendable, WireValue {
    /// Of the group's frame, from the start of the stripe's data bytes.
    package var offset: UInt32
    /// The frame, header included.
    package var storedByteCount: UInt32
    package var codec: Codec
    package var chunks: [Chunk]
    package init(offset: UInt32, storedByteCount: UInt32, codec: Codec, chunks: [Chunk]) {
      self.offset = offset
      self.storedByteCount = storedByteCount
      self.codec = codec
      self.chunks = chunks
    }
    /// Plain bytes of its chunks.
    package var plainByteCount: Int { chunks.reduce(0) { $0 + Int($1.byteCount) } }

    package func encode(into writer: inout ByteWriter) {
      writer.varint(offset)
      writer.varint(storedByteCount)
      writer.fixed(codec.rawValue)
      writer.list(chunks)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      offset = try reader.varint32()
      storedByteCount = try reader.varint32()
      guard let codec = Codec(rawValue: try reader.fixed()) else { throw .invalid("codec") }
      self.codec = codec
      chunks = try reader.list(limit: 1 << 16)
      guard !chunks.isEmpty else { throw .invalid("group") }
    }
  }
  package struct Chunk: Hashable, Sendable, WireValue {
    package var fingerprint: Fingerprint
    package var byteCount: UInt32
    package init(fingerprint: Fingerprint, byteCount: UInt32) {
      self.fingerprint = fingerprint
      self.byteCount = byteCount
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(fingerprint)
      writer.varint(byteCount)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      fingerprint = try reader.value()
      byteCount = try reader.varint32()
      guard byteCount > 0 else { throw .invalid("chunk") }
    }
  }

  package init(stripe: UInt64, layout: StripeLayout, firstOrdinal: UInt64, groups: [Group]) {
    self.stripe = stripe
    self.layout = layout
    self.firstOrdinal = firstOrdinal
    self.groups = groups
  }
  package var chunkCount: Int { groups.reduce(0) { $0 + $1.chunks.count } }

  package func encode(into writer: inout ByteWriter) {
    writer.varint(stripe)
    writer.value(layout)
    writer.varint(firstOrdinal)
    writer.list(groups)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    stripe = try reader.varint()
    layout = try reader.value()
    firstOrdinal = try reader.varint()
    groups = try reader.list(limit: 1 << 16)
    guard firstOrdinal < 1 << 62, !groups.isEmpty else { throw .invalid("stripe record") }
    for group in groups {
      guard Int(group.offset) + Int(group.storedByteCount) <= layout.byteCount else {
        throw .invalid("group outside its stripe")
      }
    }
  }
}

/// The frame around each group in a stripe's data bytes, before its payload: 48 bytes, little-endian.
///
///     0  magic "CnGr"          4  version 1        5  codec          6  encryption (1 yes)    7  reserved 0
///     8  chunk count           12 plain bytes      16 payload bytes  20 reserved 0
///     24 key id (0 none)       32 nonce (12)       44 CRC32C of bytes 0 ..< 44
package struct GroupHeader: Hashable, Sendable {
  package static let byteCount = 48
  package var codec: Codec
  package var chunkCount: UInt32
  package var plainByteCount: UInt32
  /// A sealed payload's tag included.
  package var payloadByteCount: UInt32
  /// Nil: the payload is not encrypted.
  package var seal: Seal?

  /// With what a payload is encrypted, by AES-256-GCM.
  package struct Seal: Hashable, Sendable {
    /// Of the data key; not 0.
    package var keyID: UInt64
    package var nonce: AES256GCM.Nonce
    package init(keyID: UInt64, nonce: AES256GCM.Nonce) {
      self.keyID = keyID
      self.nonce = nonce
    }
  }

  package static func tagByteCount(isSealed: Bool) -> Int {
    isSealed ? AES256GCM.tagByteCount : 0
  }

  package init(
    codec: Codec, chunkCount: Int, plainByteCount: Int, payloadByteCount: Int, seal: Seal? = nil
  ) {
    self.codec = codec
    self.chunkCount = UInt32(chunkCount)
    self.plainByteCount = UInt32(plainByteCount)
    self.payloadByteCount = UInt32(payloadByteCount)
    self.seal = seal
  }

  /// Whether a frame of so many bytes can be right for so many plain ones. One that its codec makes no smaller is
  /// stored raw, so that nothing claims less than it is.
  package static func isFrame(
    _ storedByteCount: UInt64, of plainByteCount: UInt64, codec: Codec, isSealed: Bool
  ) -> Bool {
    let least = UInt64(byteCount + tagByteCount(isSealed: isSealed))
    return codec == .raw
      ? storedByteCount == least + plainByteCount
      : storedByteCount > least && storedByteCount < least + plainByteCount
  }

  /// Whether the payload is the plain bytes as they are.
  package var isPlain: Bool {
    codec == .raw && seal == nil && plainByteCount == payloadByteCount
  }

  /// What is authenticated beside the payload: all of the header but its checksum. Nothing of it says where the group is, so
  /// that groups can be moved without keys.
  package var authenticated: ArraySlice<UInt8> { encoded[..<Self.authenticatedByteCount] }
  package static let authenticatedByteCount = 44

  package var encoded: [UInt8] {
    var writer = ByteWriter(reserving: Self.byteCount)
    writer.raw([0x43, 0x6E, 0x47, 0x72, 1, codec.rawValue, seal == nil ? 0 : 1, 0])
    writer.fixed(chunkCount)
    writer.fixed(plainByteCount)
    writer.fixed(payloadByteCount)
    writer.fixed(UInt32(0))
    writer.fixed(seal?.keyID ?? 0)
    writer.raw((seal?.nonce ?? AES256GCM.Nonce(high: 0, low: 0)).bytes)
    writer.fixed(CRC32C.checksum(writer.bytes))
    return writer.bytes
  }

  /// - Parameter bytes: at least 48 bytes; those after are ignored.
  package init(decoding bytes: [UInt8]) throws(ValueError) {
    guard bytes.count >= Self.byteCount else { throw .truncated }
    var reader = ByteReader(Array(bytes[0..<Self.byteCount]))
    guard try reader.raw(4) == [0x43, 0x6E, 0x47, 0x72], try reader.fixed(UInt8.self) == 1,
      let codec = Codec(rawValue: try reader.fixed())
    else { throw .invalid("group header") }
    self.codec = codec
    let cipher: UInt8 = try reader.fixed()
    _ = try reader.raw(1)
    chunkCount = try reader.fixed()
    plainByteCount = try reader.fixed()
    payloadByteCount = try reader.fixed()
    _ = try reader.raw(4)
    let keyID: UInt64 = try reader.fixed()
    guard let nonce = AES256GCM.Nonce(try reader.raw(AES256GCM.nonceByteCount)) else {
      throw .invalid("group header")
    }
    switch cipher {
    case 0: seal = nil
    case 1 where keyID != 0: seal = Seal(keyID: keyID, nonce: nonce)
    default: throw .invalid("group header's encryption")
    }
    let checksum: UInt32 = try reader.fixed()
    guard checksum == CRC32C.checksum(Array(bytes[..<Self.authenticatedByteCount])) else {
      throw .invalid("group header checksum")
    }
  }
}
