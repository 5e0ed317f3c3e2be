internal import Cluster
package import Coding
package import Wire

/// A storage class's number. Names may be understood anew; numbers never are.
package struct ClassID: Hashable, Comparable, Sendable, WireValue, CustomStringConvertible {
  package var raw: UInt16
  package init(_ raw: UInt16) { self.raw = raw }
  package static func < (a: Self, b: Self) -> Bool { a.raw < b.raw }
  package var description: String { "class \(raw)" }
  package func encode(into writer: inout ByteWriter) { writer.fixed(raw) }
  package init(from reader: inout ByteReader) throws(ValueError) { raw = try reader.fixed() }
}

/// What may share chunks: a key domain and a storage class. 32 bits in keys: the key domain's number, then the class's.
package struct ChunkDomain: Hashable, Comparable, Sendable, WireValue, CustomStringConvertible {
  package var raw: UInt32
  package init(raw: UInt32) { self.raw = raw }
  package init(_ storageClass: ClassID, in keyDomain: KeyDomainID = .plain) {
    raw = UInt32(keyDomain.raw) << 16 | UInt32(storageClass.raw)
  }
  package static func < (a: Self, b: Self) -> Bool { a.raw < b.raw }

  /// Of buckets that nobody said a class for.
  package static let standard = ChunkDomain(StorageClass.standard)

  package var storageClass: ClassID { ClassID(UInt16(truncatingIfNeeded: raw)) }
  package var keyDomain: KeyDomainID { KeyDomainID(UInt16(truncatingIfNeeded: raw >> 16)) }
  /// Whether its groups are encrypted.
  package var isSealed: Bool { keyDomain != .plain }
  package var description: String { "domain \(raw)" }
  package func encode(into writer: inout ByteWriter) { writer.fixed(raw) }
  package init(from reader: inout ByteReader) throws(ValueError) { raw = try reader.fixed() }
}

/// How new chunks of a bucket are stored: a named policy, kept in the metadata.
package struct StorageClass: Hashable, Sendable, WireValue {
  /// 1 ... 32 of a-z, 0-9 and "-".
  package var name: String
  package var codec: Codec
  /// The codec's; 0 for ``Codec/raw``.
  package var level: Int
  /// Plain bytes that are gathered into one group; one chunk is a group whatever its size. One of ``groupByteCounts``.
  package var groupByteCount: Int
  /// Nil: the cluster's.
  package var scheme: Scheme?

  package init(name: String, codec: Codec, level: Int, groupByteCount: Int, scheme: Scheme? = nil) {
    self.name = name
    self.codec = codec
    self.level = level
    self.groupByteCount = groupByteCount
    self.scheme = scheme
  }

  /// Those that every cluster has from its founding; their numbers count up from 1, docs/decisions/0016-groups.md says why
  /// they are as they are.
  package static let builtIn = [
    StorageClass(name: "hot", codec: .lz4, level: 1, groupByteCount: 128 << 10),
    StorageClass(name: "warm", codec: .zstd, level: 3, groupByteCount: 512 << 10),
    StorageClass(name: "cold", codec: .xz, level: 6, groupByteCount: 1 << 20),
  ]
  /// The class of buckets that nobody said one for: warm.
  package static let standard = ClassID(2)
  /// Classes that an operator defines are numbered from here.
  package static let firstDefined = ClassID(16)
  /// Classes of a cluster.
  package static let countLimit = 64

  package static let groupByteCounts = 4096...1 << 20
  /// Plain bytes of the largest group: with its frame it fits a stripe of any scheme, packed or not.
  package static let largestGroup = StripeLayout.largestBlockByteCount - GroupHeader.byteCount
  /// Chunks of a group.
  package static let groupChunkLimit = 1024

  /// Plain bytes at which a group takes no more.
  package func groupLimit(isSealed: Bool) -> Int {
    min(groupByteCount, Self.largestGroup - GroupHeader.tagByteCount(isSealed: isSealed))
  }

  package static func levels(of codec: Codec) -> ClosedRange<Int> {
    switch codec {
    case .raw: 0...0
    case .lz4: 1...12
    case .zstd: -7...19
    case .xz: 0...9
    }
  }

  /// The first rule that it breaks, for people; nil when it may be.
  package var brokenRule: String? {
    let letters = Array("abcdefghijklmnopqrstuvwxyz0123456789-".utf8)
    guard (1...32).contains(name.utf8.count), name.utf8.allSatisfy({ letters.contains($0) }) else {
      return "a class's name has 1 to 32 of a to z, 0 to 9 and '-'"
    }
    let levels = Self.levels(of: codec)
    guard levels.contains(level) else {
      return "\(codec) has levels \(levels.lowerBound) to \(levels.upperBound), not \(level)"
    }
    guard Self.groupByteCounts.contains(groupByteCount) else {
      return "a group has 4 KiB to 1 MiB, not \(groupByteCount) bytes"
    }
    return nil
  }

  package func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.string(name)
    writer.fixed(codec.rawValue)
    writer.signed(Int64(level))
    writer.varint(groupByteCount)
    writer.optional(scheme)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    guard try reader.fixed(UInt8.self) == 1 else { throw .invalid("class version") }
    name = try reader.string(limit: 64)
    guard let codec = Codec(rawValue: try reader.fixed()) else { throw .invalid("codec") }
    self.codec = codec
    level = Int(try reader.signed())
    groupByteCount = try reader.count(limit: 1 << 30)
    scheme = try reader.optional()
  }
}
