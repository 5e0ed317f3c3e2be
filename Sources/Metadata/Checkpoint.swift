internal import Coding
internal import Messages
package import Wire

/// A piece of a checkpoint: entries of the state's store, in key order over all pieces. Each is one stripe of a
/// checkpoint container and one group frame with codec raw, as batches are.
///
///     4 bytes  magic "CnCk"      1 byte   version: 1
///     8 bytes  cluster id        varint   log position of the state
///     varint   number of the piece, from 0
///     1 byte   whether it is the last
///     varint   count, then for each entry its key and value, each a varint length and bytes
package struct CheckpointPiece: Equatable, Sendable, WireValue {
  package var clusterID: UInt64
  package var position: UInt64
  package var index: UInt64
  package var isLast: Bool
  package var entries: [StoreEntry]

  /// Bytes of keys and values after which a piece is full. The largest entry, at most half a batch, still fits a
  /// stripe after that.
  package static let fullByteCount = 384 << 10
  private static let magic: [UInt8] = Array("CnCk".utf8)

  package init(
    clusterID: UInt64, position: UInt64, index: UInt64, isLast: Bool, entries: [StoreEntry]
  ) {
    self.clusterID = clusterID
    self.position = position
    self.index = index
    self.isLast = isLast
    self.entries = entries
  }
  package func encode(into writer: inout ByteWriter) {
    writer.raw(Self.magic)
    writer.fixed(UInt8(1))
    writer.fixed(clusterID)
    writer.varint(position)
    writer.varint(index)
    writer.bool(isLast)
    writer.varint(entries.count)
    for entry in entries {
      writer.blob(entry.key)
      writer.blob(entry.value)
    }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    guard try reader.raw(4) == Self.magic, try reader.fixed(UInt8.self) == 1 else {
      throw .invalid("checkpoint")
    }
    clusterID = try reader.fixed()
    position = try reader.varint()
    index = try reader.varint()
    isLast = try reader.bool()
    let count = try reader.count(limit: 1 << 20)
    guard count <= reader.remaining else { throw .truncated }
    entries = []
    entries.reserveCapacity(count)
    for _ in 0..<count {
      entries.append(
        StoreEntry(key: try reader.blob(limit: 1 << 20), value: try reader.blob(limit: 1 << 20)))
    }
  }

  package var framed: [UInt8] {
    let payload = encoded
    return GroupHeader(
      codec: .raw, chunkCount: 1, plainByteCount: payload.count, payloadByteCount: payload.count
    ).encoded + payload
  }

  /// - Parameter framed: a stripe's data bytes; what follows the frame is ignored.
  package init(framed: [UInt8]) throws(ValueError) {
    let header = try GroupHeader(decoding: framed)
    let end = GroupHeader.byteCount + Int(header.payloadByteCount)
    guard header.isPlain else { throw .invalid("checkpoint codec") }
    guard framed.count >= end else { throw .truncated }
    try self.init(decoding: Array(framed[GroupHeader.byteCount..<end]))
  }
}

/// Fills an empty store from a checkpoint's pieces, in their order. The record of the applied position comes last, so
/// a store filled in part is known for what it is, and thrown away, when it is opened.
// Confined to the offload lane of its store's user.
package final class CheckpointLoader: @unchecked Sendable {
  private let store: any OrderedStore
  private var next: UInt64 = 0
  private var state: [UInt8]?
  private var isComplete = false
  private let clusterID: UInt64
  private let position: UInt64

  /// - Parameter store: without any entry.
  package init(into store: any OrderedStore, clusterID: UInt64, position: UInt64) {
    self.store = store
    self.clusterID = clusterID
    self.position = position
  }

  /// - Throws: ``StoreError/corrupt(_:)`` for a piece of another checkpoint or out of order.
  package func add(_ piece: CheckpointPiece) throws(StoreError) {
    guard piece.clusterID == clusterID, piece.position == position, piece.index == next,
      !isComplete
    else { throw .corrupt("piece \(piece.index) does not belong here") }
    next += 1
    isComplete = piece.isLast
    var batch = WriteBatch()
    for entry in piece.entries {
      if entry.key == Key.state {
        state = entry.value
      } else {
        batch.put(entry.key, entry.value)
      }
    }
    try store.apply(batch)
  }

  /// After the last piece: the store is whole, and survives a crash.
  package func finish() throws(StoreError) {
    guard isComplete, let state else { throw .corrupt("the checkpoint is not whole") }
    guard try MachineState(stored: state).appliedPosition == position else {
      throw .corrupt("the checkpoint is of another position")
    }
    try store.flush()
    var batch = WriteBatch()
    batch.put(Key.state, state)
    try store.apply(batch)
    try store.flush()
  }
}
