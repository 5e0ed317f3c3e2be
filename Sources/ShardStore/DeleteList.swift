internal import Cluster
internal import Ring
internal import Wire

/// What died, and up to which sequence.
struct DeleteEntry: Equatable, Sendable, WireValue {
  var shard: ShardKey
  /// Records of a lower sequence are dead; 0: lower than that of the record that holds this entry.
  var before: UInt64
  /// Empty: all of the shard.
  var stripes: [UInt64]

  init(shard: ShardKey, before: UInt64, stripes: [UInt64]) {
    self.shard = shard
    self.before = before
    self.stripes = stripes
  }
  func encode(into writer: inout ByteWriter) {
    writer.value(shard)
    writer.fixed(before)
    writer.list(stripes)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    shard = try reader.value()
    before = try reader.fixed()
    stripes = try reader.list()
  }
}

/// The payload of a delete record:
///
///     varint  number of entries
///     each    shard: container kind (1 byte), container number (varint), generation (varint), shard index (1 byte)
///             8 bytes: records of a lower sequence are dead; 0 means lower than the record's own
///             varint: number of stripes, 0 for the whole shard; then each as a varint
struct DeleteList: WireValue {
  var entries: [DeleteEntry]

  init(_ entries: [DeleteEntry]) { self.entries = entries }
  func encode(into writer: inout ByteWriter) { writer.list(entries) }
  init(from reader: inout ByteReader) throws(ValueError) { entries = try reader.list() }

  /// The most stripes one entry may have and the most entries one list, so that a list of one of each always fits a
  /// record: an entry takes at most 29 bytes and 10 for each stripe.
  static let stripesPerEntry = 16_384
  static let byteLimit = 512 << 10
}
