internal import Cluster
internal import Coding

/// Where the newest record of a block is, and what a listing says of it; or that the block is deleted.
struct Place: Equatable, Sendable {
  /// Of the record.
  var sequence: UInt64
  var acknowledged: UInt64
  var volume: UInt32
  /// The record's offset in the volume, in units of 4 KiB.
  var unit: UInt32
  var stripeByteCount: UInt32
  var k: UInt8
  var m: UInt8
  /// Payload units of 4 KiB, 1 ... 255; 0 marks a deleted block.
  var units: UInt8

  init(_ block: StoredBlock, volume: UInt32, offset: UInt64, sequence: UInt64) {
    self.sequence = sequence
    acknowledged = block.acknowledged
    self.volume = volume
    unit = UInt32(offset / 4096)
    stripeByteCount = UInt32(block.layout.byteCount)
    k = UInt8(block.layout.scheme.k)
    m = UInt8(block.layout.scheme.m)
    units = UInt8(block.layout.blockByteCount / 4096)
  }

  /// The mark of a block deleted at `sequence`.
  init(deletedAt sequence: UInt64) {
    self.sequence = sequence
    acknowledged = 0
    volume = 0
    unit = 0
    stripeByteCount = 0
    k = 0
    m = 0
    units = 0
  }

  var isDeleted: Bool { units == 0 }
  var offset: UInt64 { UInt64(unit) * 4096 }
  var payloadByteCount: Int { Int(units) * 4096 }
  var recordByteCount: UInt64 { (UInt64(units) + 1) * 4096 }

  /// Of a block that is not deleted.
  var layout: StripeLayout {
    StripeLayout(
      scheme: Scheme(k: Int(k), m: Int(m))!, blockByteCount: payloadByteCount,
      byteCount: Int(stripeByteCount))
  }
}

/// A key and its place. In a run it takes 64 bytes, little-endian:
///
///     offset  bytes
///          0      8  container: kind in the top byte, number below
///          8      8  generation
///         16      8  stripe
///         24      8  sequence of the record
///         32      8  acknowledged
///         40      4  volume number
///         44      4  offset of the record in units of 4 KiB
///         48      4  data bytes in the stripe
///         52      1  shard index
///         53      1  k
///         54      1  m
///         55      1  payload units of 4 KiB; 0: the block is deleted, and all of 32 ..< 52, 53, 54 is zero
///         56      8  zero
struct IndexEntry: Equatable, Sendable {
  var key: BlockKey
  var place: Place

  static let byteCount = 64

  func encode(into bytes: UnsafeMutableRawPointer) {
    func put<Integer: FixedWidthInteger>(_ value: Integer, _ at: Int) {
      bytes.storeBytes(of: value.littleEndian, toByteOffset: at, as: Integer.self)
    }
    put(key.shard.container.raw, 0)
    put(key.shard.generation, 8)
    put(key.stripe, 16)
    put(place.sequence, 24)
    put(place.acknowledged, 32)
    put(place.volume, 40)
    put(place.unit, 44)
    put(place.stripeByteCount, 48)
    put(key.shard.shardIndex, 52)
    put(place.k, 53)
    put(place.m, 54)
    put(place.units, 55)
    put(UInt64(0), 56)
  }

  /// Nil when the bytes are no entry.
  init?(_ bytes: UnsafeRawPointer) {
    func get<Integer: FixedWidthInteger>(_ at: Int, _ type: Integer.Type = Integer.self) -> Integer
    {
      Integer(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: type))
    }
    let container = get(0, UInt64.self)
    guard let kind = ContainerKind(rawValue: UInt8(container >> 56)) else { return nil }
    key = BlockKey(
      shard: ShardKey(
        container: ContainerID(kind, container & (1 << 56 - 1)), generation: get(8),
        shardIndex: get(52)),
      stripe: get(16))
    place = Place(deletedAt: get(24))
    place.units = get(55)
    guard !place.isDeleted else { return }
    place.acknowledged = get(32)
    place.volume = get(40)
    place.unit = get(44)
    place.stripeByteCount = get(48)
    place.k = get(53)
    place.m = get(54)
    guard let scheme = Scheme(k: Int(place.k), m: Int(place.m)),
      place.stripeByteCount > 0,
      Int(place.stripeByteCount) <= scheme.k * place.payloadByteCount,
      Int(key.shard.shardIndex) < scheme.width
    else { return nil }
  }

  init(key: BlockKey, place: Place) {
    self.key = key
    self.place = place
  }
}

/// The index entries that no run holds yet.
struct MemoryTable: Sendable {
  private(set) var shards: [ShardKey: [UInt64: Place]] = [:]
  /// Entries, deletion marks included.
  private(set) var count = 0

  subscript(key: BlockKey) -> Place? { shards[key.shard]?[key.stripe] }

  mutating func set(_ key: BlockKey, _ place: Place) {
    if shards[key.shard, default: [:]].updateValue(place, forKey: key.stripe) == nil { count += 1 }
  }

  /// All entries, ascending by key.
  var sorted: [IndexEntry] {
    var entries: [IndexEntry] = []
    entries.reserveCapacity(count)
    for shard in shards.keys.sorted() { entries += self.entries(of: shard) }
    return entries
  }

  /// Ascending by stripe.
  func entries(of shard: ShardKey) -> [IndexEntry] {
    guard let stripes = shards[shard] else { return [] }
    return stripes.keys.sorted().map {
      IndexEntry(key: BlockKey(shard: shard, stripe: $0), place: stripes[$0]!)
    }
  }

  /// Takes in what an older table holds and this one does not.
  mutating func addOlder(_ older: MemoryTable) {
    for (shard, stripes) in older.shards {
      for (stripe, place) in stripes where shards[shard]?[stripe] == nil {
        set(BlockKey(shard: shard, stripe: stripe), place)
      }
    }
  }
}
