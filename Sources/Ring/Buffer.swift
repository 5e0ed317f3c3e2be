import Synchronization

/// Memory fit for direct I/O, aligned to 4096 bytes, with one noncopyable owner.
@safe package struct AlignedMemory: ~Copyable, @unchecked Sendable {
  package let base: UnsafeMutableRawPointer
  package let byteCount: Int

  /// - Parameter byteCount: a multiple of 4096, the largest logical block we accept.
  package init(byteCount: Int) {
    precondition(byteCount > 0 && byteCount.isMultiple(of: 4096))
    base = .allocate(byteCount: byteCount, alignment: 4096)
    base.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
    self.byteCount = byteCount
  }

  deinit { base.deallocate() }
}

/// A shared piece of aligned memory. Slices refer to it; when the last one goes, the memory returns
/// to its pool.
///
/// Whoever asked the pool for it may write; once a slice is handed on, nobody writes.
package final class Buffer: @unchecked Sendable {
  // Sound: the fields never change, and the hand-over rule above orders reads after writes.
  private var memory: AlignedMemory?
  private let pool: BufferPool?
  package let base: UnsafeMutableRawPointer
  package let byteCount: Int

  init(_ memory: consuming AlignedMemory, pool: BufferPool?) {
    base = memory.base
    byteCount = memory.byteCount
    self.memory = consume memory
    self.pool = pool
  }

  deinit {
    if let pool, let memory = memory.take() { pool.giveBack(memory) }
  }

  /// The whole of it.
  package var slice: Slice { Slice(buffer: self, offset: 0, count: byteCount) }
}

/// Reuses aligned memory by size class (powers of two from 4 KiB to 4 MiB); larger requests are made
/// to measure. At most `retainedByteLimit` idle bytes are kept. Safe from any thread.
package final class BufferPool: Sendable {
  private struct Shelf: ~Copyable {
    var stacks: [[Parked]] = Array(repeating: [], count: 11)
    var idleByteCount = 0
  }
  /// Array cannot hold a noncopyable value, so idle memory waits inside a class.
  private final class Parked: @unchecked Sendable {
    var memory: AlignedMemory?
    init(_ memory: consuming AlignedMemory) { self.memory = consume memory }
  }

  private let shelf = Mutex(Shelf())
  private let retainedByteLimit: Int

  package init(retainedByteLimit: Int) { self.retainedByteLimit = retainedByteLimit }

  private static func sizeClass(_ byteCount: Int) -> Int? {
    if byteCount > 4 << 20 { return nil }
    let units = (max(byteCount, 1) + 4095) / 4096
    return Int.bitWidth - (units - 1).leadingZeroBitCount
  }

  /// Uninitialised in all but the security sense: old bytes of the same process may show.
  ///
  /// - Parameter byteCount: bytes needed; the buffer may be larger.
  package func take(_ byteCount: Int) -> Buffer {
    guard let index = Self.sizeClass(byteCount) else {
      return Buffer(AlignedMemory(byteCount: (byteCount + 4095) / 4096 * 4096), pool: nil)
    }
    let parked = shelf.withLock { shelf -> Parked? in
      guard let found = shelf.stacks[index].popLast() else { return nil }
      shelf.idleByteCount -= 4096 << index
      return found
    }
    if let parked, let memory = parked.memory.take() { return Buffer(memory, pool: self) }
    return Buffer(AlignedMemory(byteCount: 4096 << index), pool: self)
  }

  /// A slice of exactly `byteCount` bytes.
  package func slice(_ byteCount: Int) -> Slice {
    Slice(buffer: take(byteCount), offset: 0, count: byteCount)
  }

  fileprivate func giveBack(_ memory: consuming AlignedMemory) {
    let byteCount = memory.byteCount
    guard let index = Self.sizeClass(byteCount) else { return }
    let parked = Parked(memory)
    shelf.withLock { shelf in
      guard shelf.idleByteCount + byteCount <= retainedByteLimit else { return }
      shelf.idleByteCount += byteCount
      shelf.stacks[index].append(parked)
    }
  }

  /// Drops all idle memory.
  package func trim() {
    shelf.withLock { shelf in
      for index in shelf.stacks.indices { shelf.stacks[index].removeAll() }
      shelf.idleByteCount = 0
    }
  }
}

/// A range of a ``Buffer``. Copying it copies a reference, never bytes.
@safe package struct Slice: Sendable {
  package let buffer: Buffer
  package let offset: Int
  package let count: Int

  package init(buffer: Buffer, offset: Int, count: Int) {
    precondition(offset >= 0 && count >= 0 && offset + count <= buffer.byteCount)
    self.buffer = buffer
    self.offset = offset
    self.count = count
  }

  /// A copy of `bytes` in memory of its own.
  package init(copying bytes: [UInt8], pool: BufferPool? = nil) {
    let rounded = max(4096, (bytes.count + 4095) / 4096 * 4096)
    let buffer = pool?.take(bytes.count) ?? Buffer(AlignedMemory(byteCount: rounded), pool: nil)
    bytes.withUnsafeBytes { source in
      if let from = source.baseAddress {
        buffer.base.copyMemory(from: from, byteCount: source.count)
      }
    }
    self.init(buffer: buffer, offset: 0, count: bytes.count)
  }

  /// The part at `range`, counted from this slice's first byte.
  package subscript(range: Range<Int>) -> Slice {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    return Slice(buffer: buffer, offset: offset + range.lowerBound, count: range.count)
  }

  package func withBytes<R, E: Error>(
    _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    try body(UnsafeRawBufferPointer(start: UnsafeRawPointer(buffer.base + offset), count: count))
  }

  /// For the one who made the buffer, before it is handed on.
  package func withMutableBytes<R, E: Error>(
    _ body: (UnsafeMutableRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    try body(UnsafeMutableRawBufferPointer(start: buffer.base + offset, count: count))
  }

  /// A copy as an array.
  package var array: [UInt8] { withBytes { Array($0) } }
}
