import Coding
import Ring

/// Whole chunks of an object, one after the other in memory.
struct Piece: Sendable {
  var bytes: Slice
  /// Together `bytes.count`.
  var chunkByteCounts: [Int]
  /// One for each chunk.
  var fingerprints: [Fingerprint]
  var share: BudgetShare

  /// Each chunk and its fingerprint, in order.
  func chunks() -> [(fingerprint: Fingerprint, slice: Slice)] {
    var result: [(fingerprint: Fingerprint, slice: Slice)] = []
    result.reserveCapacity(chunkByteCounts.count)
    var offset = 0
    for (length, fingerprint) in zip(chunkByteCounts, fingerprints) {
      result.append((fingerprint, bytes[offset..<offset + length]))
      offset += length
    }
    return result
  }
}

/// Reads a source a buffer at a time and cuts it where chunks end; what is left over moves to the next buffer.
struct PieceReader {
  private let source: any ByteSource
  private let writer: ObjectWriter
  /// Under whose key chunks are named; nil: by their bytes alone.
  private let keyDomain: KeyedDomain?
  /// Bytes read that belong to the next piece.
  private var rest: Slice?
  private var left: UInt64?
  private(set) var isAtEnd = false
  /// The last piece was there within ``quickTime``.
  private var isQuick = false
  private static let quickTime = Duration.milliseconds(250)

  init(_ source: any ByteSource, _ writer: ObjectWriter, _ keyDomain: KeyedDomain?) {
    self.source = source
    self.keyDomain = keyDomain
    self.writer = writer
    left = source.byteCount
  }

  /// The next piece, nil after the last.
  mutating func next() async throws(DataPathError) -> Piece? {
    if isAtEnd && (rest?.count ?? 0) == 0 { return nil }
    let carried = rest?.count ?? 0
    // A small file needs a small buffer.
    let options = writer.options
    let wanted = min(
      UInt64(isQuick ? options.pieceByteCount : options.slowPieceByteCount),
      max(UInt64(carried) + (left ?? .max / 2), 4096))
    let capacity = Int(wanted)
    let cost = min(max(capacity, 4096), writer.options.memoryByteCount)
    await writer.budget.acquire(cost)
    let share = BudgetShare(writer.budget, cost)
    let begun = writer.access.driver.now
    let buffer = writer.access.driver.buffers.slice(capacity)
    if let rest, carried > 0 {
      rest.withBytes { from in
        buffer.withMutableBytes { $0.copyMemory(from: from) }
      }
    }
    rest = nil
    var filled = carried
    while filled < capacity && !isAtEnd {
      let count = try await source.read(into: buffer[filled..<capacity])
      if count == 0 {
        isAtEnd = true
        if let left, left > 0 { throw .source("ended \(left) bytes too early") }
      }
      filled += count
      if let known = left { left = known - min(known, UInt64(count)) }
      if left == 0 { isAtEnd = true }
    }
    if filled == 0 { return nil }
    isQuick = writer.access.driver.now - begun < Self.quickTime
    // Measuring pays for whoever has much to hash.
    let driver = writer.access.driver
    let kernel =
      filled >= 1 << 20 ? HashKernel.settle(now: { driver.now }) : HashKernel.current
    var (lengths, fingerprints) = Self.cut(buffer[0..<filled], isEnd: isAtEnd, kernel: kernel)
    if let keyDomain { fingerprints = fingerprints.map { keyDomain.keyed($0) } }
    let offset = lengths.reduce(0, +)
    if offset < filled {
      // Copied, so that the buffer goes when its chunks do.
      let tail = buffer[offset..<filled]
      let copy = writer.access.driver.buffers.slice(tail.count)
      tail.withBytes { from in copy.withMutableBytes { $0.copyMemory(from: from) } }
      rest = copy
    }
    return Piece(
      bytes: buffer[0..<offset], chunkByteCounts: lengths, fingerprints: fingerprints, share: share)
  }

  /// The chunks at the front of `bytes`. A few at a time are cut and then hashed, while the cache has them.
  private static func cut(
    _ bytes: Slice, isEnd: Bool, kernel: HashKernel
  ) -> ([Int], [Fingerprint]) {
    var lengths: [Int] = []
    var fingerprints: [Fingerprint] = []
    bytes.withBytes { bytes in
      var offset = 0
      var waiting: [UnsafeRawBufferPointer] = []
      while offset < bytes.count,
        let length = Chunker.standard.cut(
          UnsafeRawBufferPointer(rebasing: bytes[offset...]), isEnd: isEnd)
      {
        waiting.append(UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + length]))
        lengths.append(length)
        offset += length
        if waiting.count == kernel.batchCount {
          fingerprints += Fingerprint.of(waiting, by: kernel)
          waiting.removeAll(keepingCapacity: true)
        }
      }
      fingerprints += Fingerprint.of(waiting, by: kernel)
    }
    return (lengths, fingerprints)
  }
}
