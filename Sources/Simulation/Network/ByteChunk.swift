/// Bytes on their way or arrived and not read. Filled by whoever makes it, then never changed.
final class ByteChunk {
  let base: UnsafeMutableRawPointer
  let count: Int
  private let pool: ChunkPool

  fileprivate init(base: UnsafeMutableRawPointer, count: Int, pool: ChunkPool) {
    self.base = base
    self.count = count
    self.pool = pool
  }

  deinit { pool.giveBack(base, count) }
}

/// Memory of chunks that are gone, for the next ones: at their size the allocator asks the kernel for it
/// again and again. One for each world's network.
final class ChunkPool {
  // Loop-confined.
  private static let smallest = 2048
  private static let largest = 64 << 10
  /// By size: 2 KiB, 4 KiB ... 64 KiB.
  private var idle = [[UnsafeMutableRawPointer]](repeating: [], count: 6)
  private static let idleLimit = 128

  deinit {
    for stack in idle { for base in stack { base.deallocate() } }
  }

  private static func place(_ count: Int) -> Int? {
    guard count > smallest / 2, count <= largest else { return nil }
    return max(0, Int.bitWidth - (count - 1).leadingZeroBitCount - 11)
  }

  /// Uninitialised.
  func take(_ count: Int) -> ByteChunk {
    let base: UnsafeMutableRawPointer
    if let place = Self.place(count) {
      base =
        idle[place].popLast()
        ?? .allocate(byteCount: Self.smallest << place, alignment: 16)
    } else {
      base = .allocate(byteCount: max(1, count), alignment: 16)
    }
    return ByteChunk(base: base, count: count, pool: self)
  }

  fileprivate func giveBack(_ base: UnsafeMutableRawPointer, _ count: Int) {
    if let place = Self.place(count), idle[place].count < Self.idleLimit {
      idle[place].append(base)
    } else {
      base.deallocate()
    }
  }
}
