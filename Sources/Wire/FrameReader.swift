import Coding
import Ring

/// Cuts a stream into frames. What comes first after a pause comes in memory lent by the stream, what stands behind it in a
/// buffer that follows the traffic from 4 to 64 KiB, and bulk straight in memory of its own. At rest between frames it
/// needs none.
final class FrameReader: @unchecked Sendable {
  // Loop-confined.
  /// TLS takes the place of the plain stream during the handshake.
  var stream: any ByteStream
  private let pool: BufferPool
  private var buffer: Buffer?
  /// The buffer is lent by the stream, which has few of them: it is not kept while waiting for more.
  private var isLent = false
  private var start = 0
  private var end = 0
  private var capacity = FrameReader.smallest
  private var sparseFills = 0
  /// The last receive filled its memory: more stands behind it.
  private var isMoreThere = false
  /// The version agreed in the handshake.
  var version: UInt8 = 0
  /// Set by every byte that arrives; the one who watches for silence clears it.
  var heard = true
  private(set) var receivedByteCount: UInt64 = 0

  private static let smallest = 4096
  private static let largest = 64 << 10
  /// Bulk is awaited in pieces, so that a slow peer is heard while one body arrives.
  private static let piece = 256 << 10
  /// Where a received body begins in its buffer: room for a block's header in front of it.
  static let bodyHeadroom = 4096

  init(_ stream: any ByteStream, pool: BufferPool) {
    self.stream = stream
    self.pool = pool
  }

  private var buffered: Int { end - start }

  /// Between frames, and nothing of the next has come yet: a place to wait without a task.
  var isAtRest: Bool { buffered == 0 && !isMoreThere && !stream.isHolding }

  /// Holds no memory until something comes.
  func rest() {
    buffer = nil
    stream.rest()
  }

  /// Puts TLS in the place of the plain stream; what was read already is its first part.
  func secure(_ context: TLSContext, _ pool: BufferPool) async throws(WireError) {
    let secured = TLSStream(stream, context: context, pool: pool, alreadyRead: takeBuffered())
    try await secured.handshake()
    stream = secured
  }

  /// Takes what was read but not used, for a stream that is to decode it.
  private func takeBuffered() -> [UInt8] {
    guard let buffer else { return [] }
    defer { start = end }
    return Slice(buffer: buffer, offset: start, count: end - start).array
  }

  /// Reads until `count` bytes, at most `capacity`, are buffered.
  ///
  /// - Returns: false when the stream ends with none of them.
  private func require(_ count: Int) async throws(WireError) -> Bool {
    while buffered < count {
      if buffered == 0 && !isMoreThere {
        buffer = nil
        let some = try await stream.receive()
        if some.count == 0 { return false }
        note(some.count)
        buffer = some.buffer
        isLent = true
        start = some.offset
        end = some.offset + some.count
        isMoreThere = some.count >= Self.smallest
        continue
      }
      let room = makeRoom(for: count)
      let received = try await stream.receive(into: room, waitForAll: false)
      if received == 0 {
        if buffered == 0 { return false }
        throw .disconnected("the stream ended inside a frame")
      }
      note(received)
      end += received
      isMoreThere = received == room.count
      adapt(received, of: room.count)
    }
    return true
  }

  private func note(_ received: Int) {
    heard = true
    receivedByteCount &+= UInt64(received)
  }

  private func makeRoom(for count: Int) -> Slice {
    let wanted = max(capacity, (count + 4095) / 4096 * 4096)
    if let buffer, !isLent, buffer.byteCount >= wanted,
      buffer.byteCount <= max(wanted, 2 * capacity)
    {
      if start == end {
        start = 0
        end = 0
      } else if start + count > buffer.byteCount || end == buffer.byteCount {
        buffer.base.copyMemory(from: buffer.base + start, byteCount: buffered)
        end -= start
        start = 0
      }
      return Slice(buffer: buffer, offset: end, count: buffer.byteCount - end)
    }
    let fresh = pool.take(max(wanted, buffered + 1))
    if let buffer, buffered > 0 {
      fresh.base.copyMemory(from: buffer.base + start, byteCount: buffered)
    }
    end -= start
    start = 0
    buffer = fresh
    isLent = false
    return Slice(buffer: fresh, offset: end, count: fresh.byteCount - end)
  }

  /// A full buffer means that a larger one saves calls; a run of nearly empty ones that it is waste.
  private func adapt(_ received: Int, of room: Int) {
    if received == room {
      capacity = min(2 * capacity, Self.largest)
      sparseFills = 0
    } else if received < capacity / 4 && capacity > Self.smallest {
      sparseFills += 1
      if sparseFills == 16 {
        capacity /= 2
        sparseFills = 0
      }
    } else {
      sparseFills = 0
    }
  }

  /// Exactly `count` bytes, at most 4096: the handshake's way of reading.
  func read(_ count: Int) async throws(WireError) -> [UInt8] {
    guard try await require(count), let buffer else { throw .disconnected("the stream ended") }
    defer { start += count }
    return Slice(buffer: buffer, offset: start, count: count).array
  }

  /// The next byte, left in place.
  func peek() async throws(WireError) -> UInt8 {
    guard try await require(1), let buffer else { throw .disconnected("the stream ended") }
    return buffer.base.load(fromByteOffset: start, as: UInt8.self)
  }

  /// The next frame's header, or nil at a clean end of the stream. Then call ``content(of:)``.
  func header() async throws(WireError) -> FrameHeader? {
    guard try await require(FrameHeader.byteCount), let buffer else { return nil }
    let header = try FrameHeader(buffer.base + start, version: version)
    start += FrameHeader.byteCount
    return header
  }

  /// Message and body of the frame whose header came last, checked.
  func content(of header: FrameHeader) async throws(WireError) -> Packet {
    if header.messageByteCount == 0 && header.bodyByteCount == 0 { return Packet() }
    var packet = Packet()
    var checksum: UInt32 = 0
    if header.messageByteCount > 0 {
      packet.message = try await message(header.messageByteCount)
      checksum = packet.message.withUnsafeBytes { CRC32C.checksum($0, seed: checksum) }
    }
    if header.bodyByteCount > 0 {
      var sums = UnitSums(expecting: header.bodyByteCount)
      packet.body = [try await body(header.bodyByteCount) { sums.add($0) }]
      packet.bodySums = sums.sums
      checksum = CRC32C.joined(checksum, units: sums.sums, byteCount: header.bodyByteCount)
    }
    guard checksum == header.contentChecksum else {
      throw .malformed("checksum of a frame's content")
    }
    return packet
  }

  private func message(_ count: Int) async throws(WireError) -> [UInt8] {
    if count <= max(capacity, buffered) {
      return try await read(count)
    }
    let whole = pool.slice(count)
    try await fill(whole) { _ in }
    return whole.array
  }

  private func body(_ count: Int, _ sum: (UnsafeRawBufferPointer) -> Void)
    async throws(WireError) -> Slice
  {
    let whole = Slice(
      buffer: pool.take(Self.bodyHeadroom + count), offset: Self.bodyHeadroom, count: count)
    try await fill(whole, sum)
    return whole
  }

  /// What is buffered first, then straight from the stream. Each piece is summed as it comes, while
  /// it is still in the processor's cache.
  private func fill(_ whole: Slice, _ sum: (UnsafeRawBufferPointer) -> Void)
    async throws(WireError)
  {
    var done = take(into: whole, at: 0)
    if done < whole.count && whole.count - done < capacity / 2 {
      // A short rest is cheaper to read along with what follows it.
      guard try await require(whole.count - done) else {
        throw .disconnected("the stream ended inside a frame")
      }
      done += take(into: whole, at: done)
    }
    whole[0..<done].withBytes(sum)
    if done < whole.count && isLent {
      // Consumed; others may have use of it while this waits.
      buffer = nil
      isLent = false
      start = 0
      end = 0
    }
    if whole.count - done > Self.largest { capacity = max(Self.smallest, capacity / 2) }
    while done < whole.count {
      let piece = whole[done..<min(done + Self.piece, whole.count)]
      let received = try await stream.receive(into: piece, waitForAll: true)
      if received == 0 { throw .disconnected("the stream ended inside a frame") }
      note(received)
      piece[0..<received].withBytes(sum)
      isMoreThere = false
      done += received
    }
  }

  private func take(into whole: Slice, at offset: Int) -> Int {
    let count = min(buffered, whole.count - offset)
    guard count > 0, let buffer else { return 0 }
    whole[offset..<offset + count].withMutableBytes { target in
      target.baseAddress!.copyMemory(from: buffer.base + start, byteCount: count)
    }
    start += count
    return count
  }
}
