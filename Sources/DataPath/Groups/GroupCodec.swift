import Coding
package import Messages
package import Ring
import Wire

/// Why a group's frame cannot be read.
package enum GroupError: Error, Equatable {
  /// The frame contradicts itself, or what the directory says of it.
  case wrong(String)
  /// It is not what was sealed with its key: it, its header or its tag was changed.
  case notAuthentic
}

/// Codes groups, one after the other with the same memory. Used by one thread at a time.
package final class GroupCodec: @unchecked Sendable {
  // Each belongs to one offload lane, or to the loop.
  private var lz4: (level: Int, compressor: Held<LZ4Compressor>)?
  private var zstd: (level: Int, compressor: Held<ZstdCompressor>)?
  private var xz: (level: Int, compressor: Held<XZCompressor>)?
  private let unzstd = Held(ZstdDecompressor())
  private let unxz = Held(XZDecompressor())

  private final class Held<Value: ~Copyable> {
    var value: Value
    init(_ value: consuming Value) { self.value = value }
  }

  package init() {}

  /// Writes the compressed form of `plain` to the start of `target`.
  ///
  /// - Returns: its length; nil when `target` is too short for it.
  package func compress(
    _ plain: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer, codec: Codec,
    level: Int
  ) -> Int? {
    switch codec {
    case .raw: return nil
    case .lz4:
      if lz4?.level != level { lz4 = (level, Held(LZ4Compressor(level: level))) }
      return lz4!.compressor.value.compress(plain, into: target)
    case .zstd:
      if zstd?.level != level { zstd = (level, Held(ZstdCompressor(level: level))) }
      return zstd!.compressor.value.compress(plain, into: target)
    case .xz:
      if xz?.level != level { xz = (level, Held(XZCompressor(level: level))) }
      return xz!.compressor.value.compress(plain, into: target)
    }
  }

  /// The plain bytes of a group.
  ///
  /// - Parameters:
  ///   - frame: header and payload, nothing else.
  ///   - codec: as the directory says.
  ///   - plainByteCount: as the directory says; the frame must say the same before a byte is allocated.
  ///   - key: that the frame names; nil where frames are not sealed. One that is not as expected is refused, so that nobody
  ///     passes plain bytes off as sealed ones.
  package func decode(
    _ frame: UnsafeRawBufferPointer, codec: Codec, plainByteCount: Int, key: DataKey? = nil,
    in buffers: BufferPool
  ) throws(GroupError) -> Slice {
    guard plainByteCount > 0, plainByteCount <= StorageClass.largestGroup else {
      throw .wrong("a group of \(plainByteCount) plain bytes")
    }
    guard frame.count > GroupHeader.byteCount else {
      throw .wrong("a group of \(frame.count) bytes")
    }
    let header: GroupHeader
    do throws(ValueError) {
      header = try GroupHeader(decoding: Array(frame[..<GroupHeader.byteCount]))
    } catch {
      throw .wrong("\(error)")
    }
    guard header.codec == codec, Int(header.plainByteCount) == plainByteCount,
      Int(header.payloadByteCount) == frame.count - GroupHeader.byteCount,
      GroupHeader.isFrame(
        UInt64(frame.count), of: UInt64(plainByteCount), codec: codec, isSealed: key != nil)
    else { throw .wrong("a group's header is not as the directory says") }
    guard header.seal?.keyID == key?.id else {
      throw .wrong("a group's header names another key, or none")
    }
    var payload = UnsafeRawBufferPointer(rebasing: frame[GroupHeader.byteCount...])
    let plain = buffers.slice(plainByteCount)
    var opened: Slice?
    if let key {
      opened = try open(frame, header, key, codec == .raw ? plain : nil, buffers)
      if codec == .raw { return plain }
      payload = opened!.withBytes { $0 }
    }
    defer { withExtendedLifetime(opened) {} }
    let count: Int
    do throws(CodingError) {
      count = try plain.withMutableBytes { target throws(CodingError) in
        try decompress(payload, into: target, codec)
      }
    } catch {
      throw .wrong("\(error)")
    }
    guard count == plainByteCount else { throw .wrong("a group with \(count) bytes") }
    return plain
  }

  /// A payload's bytes as they were before they were sealed.
  ///
  /// - Parameter target: where they are to go; nil: memory of their own.
  private func open(
    _ frame: UnsafeRawBufferPointer, _ header: GroupHeader, _ key: DataKey, _ target: Slice?,
    _ buffers: BufferPool
  ) throws(GroupError) -> Slice {
    let payload = UnsafeRawBufferPointer(rebasing: frame[GroupHeader.byteCount...])
    let opened = target ?? buffers.slice(payload.count - AES256GCM.tagByteCount)
    let isAuthentic = opened.withMutableBytes { target in
      var cipher = AES256GCM(key: key.key)
      do throws(CodingError) {
        // As it is stored, so that bits count, too, that mean nothing.
        try cipher.open(
          payload, into: target, nonce: header.seal!.nonce,
          additional: UnsafeRawBufferPointer(
            rebasing: frame[..<GroupHeader.authenticatedByteCount]))
        return true
      } catch {
        return false
      }
    }
    guard isAuthentic else { throw .notAuthentic }
    return opened
  }

  /// Seals a payload; the tag follows the encrypted bytes.
  package func seal(
    _ payload: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer,
    header: GroupHeader, key: DataKey
  ) {
    var cipher = AES256GCM(key: key.key)
    Array(header.authenticated).withUnsafeBytes {
      cipher.seal(payload, into: target, nonce: header.seal!.nonce, additional: $0)
    }
  }

  private func decompress(
    _ payload: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer, _ codec: Codec
  ) throws(CodingError) -> Int {
    switch codec {
    case .raw:
      guard payload.count == target.count else { throw .damaged }
      target.copyMemory(from: payload)
      return payload.count
    case .lz4: return try LZ4.decompress(payload, into: target)
    case .zstd: return try unzstd.value.decompress(payload, into: target)
    case .xz: return try unxz.value.decompress(payload, into: target)
    }
  }
}

/// The process's codecs: small work is done at once, the rest on offload lanes, so that the loop goes on. Loop-confined.
final class GroupCodecs: @unchecked Sendable {
  // Loop-confined.
  private let driver: any Driver
  private let own = GroupCodec()
  private let lanes = (0..<GroupCodecs.laneCount).map { _ in GroupCodec() }
  private var turn = 0

  /// The driver has four.
  static let laneCount = 4
  /// Less than this takes no longer than handing it over and back, whatever the codec but xz.
  private static let smallByteCount = 32 << 10

  init(_ driver: any Driver) { self.driver = driver }

  private func perform<Value: Sendable>(
    _ byteCount: Int, _ codec: Codec, _ work: @escaping @Sendable (GroupCodec) -> Value
  ) async -> Value {
    if byteCount < Self.smallByteCount && codec != .xz { return work(own) }
    turn = (turn + 1) % Self.laneCount
    let codec = lanes[turn]
    return await driver.offload(lane: turn) { work(codec) }
  }

  /// The compressed form of a group's plain bytes; nil when it saves less than a 32nd part.
  func compress(_ plain: Slice, _ storageClass: StorageClass) async -> Slice? {
    let (codec, level) = (storageClass.codec, storageClass.level)
    let limit = plain.count - max(1, plain.count / 32)
    guard codec != .raw, limit > 0 else { return nil }
    let target = driver.buffers.slice(limit)
    let count = await perform(plain.count, codec) { group in
      plain.withBytes { from in
        target.withMutableBytes { group.compress(from, into: $0, codec: codec, level: level) }
      }
    }
    return count.map { target[0..<$0] }
  }

  /// The group sealed: its payload is another then, and as long with its tag as its header says.
  func seal(_ group: EncodedGroup, _ turn: GroupSealer.Turn) async -> EncodedGroup {
    let payload = group.payload
    let target = driver.buffers.slice(payload.count + AES256GCM.tagByteCount)
    let header = GroupHeader(
      codec: group.codec, chunkCount: group.handles.count, plainByteCount: group.plainByteCount,
      payloadByteCount: target.count, seal: turn.seal)
    await perform(payload.count, .raw) { codec in
      payload.withBytes { from in
        target.withMutableBytes { codec.seal(from, into: $0, header: header, key: turn.key) }
      }
    }
    var sealed = group
    sealed.payload = target
    sealed.seal = turn.seal
    return sealed
  }

  /// - Parameters:
  ///   - frame: all of it in one slice.
  ///   - key: that it names; nil where it is not sealed.
  func decode(_ frame: Slice, codec: Codec, plainByteCount: Int, key: DataKey?) async -> Result<
    Slice, GroupError
  > {
    let buffers = driver.buffers
    return await perform(plainByteCount, codec) { group in
      do throws(GroupError) {
        return .success(
          try frame.withBytes { bytes throws(GroupError) in
            try group.decode(
              bytes, codec: codec, plainByteCount: plainByteCount, key: key, in: buffers)
          })
      } catch {
        return .failure(error)
      }
    }
  }

  /// The same at once, for the rare case that it cannot wait.
  func decodeNow(_ frame: Slice, codec: Codec, plainByteCount: Int, key: DataKey?) -> Slice? {
    try? frame.withBytes { bytes throws(GroupError) in
      try own.decode(
        bytes, codec: codec, plainByteCount: plainByteCount, key: key, in: driver.buffers)
    }
  }
}
