import Messages
import Ring

/// A group as it is to be stored, and the chunks that wait for it.
struct EncodedGroup: Sendable {
  var codec: Codec
  /// Its chunks, in order.
  var handles: [ChunkHandle]
  var plainByteCount: Int
  /// Encrypted where there is a seal, with its tag.
  var payload: Slice
  var seal: GroupHeader.Seal?
  /// For how many containers it was packed in vain.
  var attemptCount = 0

  var frameByteCount: Int { GroupHeader.byteCount + payload.count }

  func settle(_ result: Result<ChunkHandle.Location, DataPathError>) {
    for handle in handles { handle.settle(result) }
  }

  /// Writes the frame.
  func copy(to target: UnsafeMutableRawPointer) {
    let header = GroupHeader(
      codec: codec, chunkCount: handles.count, plainByteCount: plainByteCount,
      payloadByteCount: payload.count, seal: seal)
    header.encoded.withUnsafeBytes {
      target.copyMemory(from: $0.baseAddress!, byteCount: GroupHeader.byteCount)
    }
    payload.withBytes {
      (target + GroupHeader.byteCount).copyMemory(from: $0.baseAddress!, byteCount: $0.count)
    }
  }

  /// As the directory has it.
  func record(at offset: Int) -> StripeRecord.Group {
    StripeRecord.Group(
      offset: UInt32(offset), storedByteCount: UInt32(frameByteCount), codec: codec,
      chunks: handles.map {
        StripeRecord.Chunk(fingerprint: $0.fingerprint, byteCount: UInt32($0.byteCount))
      })
  }
}
