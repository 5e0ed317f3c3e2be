internal import Cluster
internal import Coding
internal import Ring
internal import Wire

/// The first 4 KiB of every record in a volume. The payload follows, padded with zeros to 4 KiB. Numbers are
/// little-endian, what is not named is zero.
///
///     offset  bytes
///          0      8  "CAIRNREC"
///          8      2  version: 1
///         10      1  kind: 1 block, 2 delete, 3 fence, 4 mark
///         12      4  payload bytes, padding not counted; at most 255 * 4096
///         16      8  id of the volume it belongs to
///         24      8  its own offset in the volume
///         32      8  sequence: rises by one from record to record of a device
///         40      8  the sequence known durable when this was written
///         48      8  the first sequence of this volume
///         56      8  cut: what earlier volumes hold above this sequence is void
///         64      8  container: kind in the top byte, number below
///         72      8  generation
///         80      8  stripe
///         88      1  shard index
///         89      1  k
///         90      1  m
///         91      1  payload units of 4 KiB in each block of the stripe
///         92      4  data bytes in the stripe
///         96      8  acknowledged
///        104      8  epoch
///        128   1020  CRC32C of each 4 KiB of payload, padding included
///       4092      4  CRC32C of bytes 0 ..< 4092
///
/// A delete and a mark name no block: bytes 64 ..< 104 are zero. A fence names a shard.
struct RecordHeader: Equatable, Sendable {
  static let byteCount = 4096
  static let unit = 4096
  static let largestPayload = 255 * 4096
  static let version: UInt16 = 1
  private static let magic: UInt64 = 0x4345_524E_5249_4143  // "CAIRNREC"

  enum Kind: UInt8, Sendable {
    case block = 1
    case delete = 2
    case fence = 3
    case mark = 4
  }

  var kind: Kind
  var payloadByteCount: Int
  var volumeID: UInt64 = 0
  var offset: UInt64 = 0
  var sequence: UInt64 = 0
  var durable: UInt64 = 0
  var firstSequence: UInt64 = 0
  var cut: UInt64 = 0
  var shard = ShardKey(container: ContainerID(.data, 0), generation: 0, shardIndex: 0)
  var stripe: UInt64 = 0
  /// Blocks only.
  var layout: StripeLayout?
  var acknowledged: UInt64 = 0
  var epoch: UInt64 = 0
  var checksums: [UInt32]

  /// Header, payload and padding.
  var recordByteCount: UInt64 { UInt64(Self.byteCount + Self.padded(payloadByteCount)) }
  var key: BlockKey { BlockKey(shard: shard, stripe: stripe) }

  static func padded(_ byteCount: Int) -> Int { (byteCount + unit - 1) / unit * unit }

  /// What a block's record says; nil for other kinds.
  var block: StoredBlock? {
    layout.map {
      StoredBlock(key: key, layout: $0, acknowledged: acknowledged, epoch: epoch)
    }
  }

  /// Fills all 4096 bytes of `bytes`.
  func encode(into bytes: UnsafeMutableRawBufferPointer) {
    precondition(bytes.count == Self.byteCount && checksums.count <= 255)
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
    bytes.put(Self.magic, at: 0)
    bytes.put(Self.version, at: 8)
    bytes.put(kind.rawValue, at: 10)
    bytes.put(UInt32(payloadByteCount), at: 12)
    bytes.put(volumeID, at: 16)
    bytes.put(offset, at: 24)
    bytes.put(sequence, at: 32)
    bytes.put(durable, at: 40)
    bytes.put(firstSequence, at: 48)
    bytes.put(cut, at: 56)
    bytes.put(shard.container.raw, at: 64)
    bytes.put(shard.generation, at: 72)
    bytes.put(stripe, at: 80)
    bytes.put(shard.shardIndex, at: 88)
    if let layout {
      bytes.put(UInt8(layout.scheme.k), at: 89)
      bytes.put(UInt8(layout.scheme.m), at: 90)
      bytes.put(UInt8(layout.blockByteCount / Self.unit), at: 91)
      bytes.put(UInt32(layout.byteCount), at: 92)
    }
    bytes.put(acknowledged, at: 96)
    bytes.put(epoch, at: 104)
    checksums.withUnsafeBytes { source in
      if let from = source.baseAddress {
        bytes.baseAddress!.advanced(by: 128).copyMemory(from: from, byteCount: source.count)
      }
    }
    bytes.seal()
  }

  enum Parsed {
    /// No header of ours, or a damaged one.
    case none
    /// Whole, but of a later version or of an unknown kind.
    case newer(version: UInt16)
    case header(RecordHeader)
  }

  /// Reads the header in the first 4096 bytes of `bytes`.
  static func parse(_ bytes: UnsafeRawBufferPointer) -> Parsed {
    guard bytes.count >= byteCount else { return .none }
    let bytes = UnsafeRawBufferPointer(rebasing: bytes[0..<byteCount])
    guard bytes.integer(at: 0, UInt64.self) == magic, bytes.isSealed else { return .none }
    let version = bytes.integer(at: 8, UInt16.self)
    guard version == Self.version, let kind = Kind(rawValue: bytes.integer(at: 10)) else {
      return .newer(version: version)
    }
    let payloadByteCount = Int(bytes.integer(at: 12, UInt32.self))
    guard payloadByteCount <= largestPayload,
      let container = ContainerID(raw: bytes.integer(at: 64)),
      [32, 40, 48, 56].allSatisfy({ bytes.integer(at: $0) < sequenceLimit })
    else { return .none }

    var layout: StripeLayout?
    if kind == .block {
      let units = Int(bytes.integer(at: 91, UInt8.self))
      let stripeByteCount = Int(bytes.integer(at: 92, UInt32.self))
      guard
        let scheme = Scheme(
          k: Int(bytes.integer(at: 89, UInt8.self)), m: Int(bytes.integer(at: 90, UInt8.self))),
        units > 0, payloadByteCount == units * unit, stripeByteCount > 0,
        stripeByteCount <= scheme.k * units * unit,
        Int(bytes.integer(at: 88, UInt8.self)) < scheme.width
      else { return .none }
      layout = StripeLayout(
        scheme: scheme, blockByteCount: units * unit, byteCount: stripeByteCount)
    }
    let count = padded(payloadByteCount) / unit
    let checksums = [UInt32](unsafeUninitializedCapacity: count) { sums, filled in
      for index in 0..<count {
        sums.initializeElement(at: index, to: bytes.integer(at: 128 + 4 * index))
      }
      filled = count
    }
    return .header(
      RecordHeader(
        kind: kind, payloadByteCount: payloadByteCount, volumeID: bytes.integer(at: 16),
        offset: bytes.integer(at: 24),
        sequence: bytes.integer(at: 32), durable: bytes.integer(at: 40),
        firstSequence: bytes.integer(at: 48), cut: bytes.integer(at: 56),
        shard: ShardKey(
          container: container, generation: bytes.integer(at: 72),
          shardIndex: bytes.integer(at: 88)),
        stripe: bytes.integer(at: 80), layout: layout, acknowledged: bytes.integer(at: 96),
        epoch: bytes.integer(at: 104),
        checksums: checksums))
  }

  /// Whether `payload`, padded, is what the header describes.
  func matches(_ payload: UnsafeRawBufferPointer) -> Bool {
    payload.count == checksums.count * Self.unit
      && CRC32C.checksums(of: payload, unit: Self.unit) == checksums
  }
}
