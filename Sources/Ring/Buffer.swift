import Glibc
import Synchronization

/// Memory fit for direct I/O, aligned to 4096 bytes, with one noncopyable owner.
@safe package struct AlignedMemory: ~Copyable, @unchecked Sendable {
  package let base: UnsafeMutableRawPointer
  package let byteCount: Int

  /// From here on memory comes straight from the kernel, zeroed on first touch, and goes straight
  /// back, so that freeing it shrinks the process.
  private static let mapped = 64 << 10

  /// - Parameter byteCount: a multiple of 4096, the largest logical block we accept.
  package init(byteCount: Int) {
    precondition(byteCount > 0 && byteCount.isMultiple(of: 4096))
    if byteCount >= Self.mapped {
      let fresh = mmap(
        nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
      guard let fresh, fresh != MAP_FAILED else { fatalError("out of memory") }
      base = fresh
    } else {
      base = .allocate(byteCount: byteCount, alignment: 4096)
      base.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
    }
    self.byteCount = byteCount
  }

  /// Takes over what `release` gave.
  fileprivate init(adopting base: UnsafeMutableRawPointer, byteCount: Int) {
    self.base = base
    self.byteCount = byteCount
  }

  /// Gives up the ownership without freeing.
  fileprivate consuming func release() -> UnsafeMutableRawPointer {
    let base = base
    discard self
    return base
  }

  deinit {
    if byteCount >= Self.mapped { munmap(base, byteCount) } else { base.deallocate() }
  }
}

/// A shared piece of aligned memory. Slices refer to it; when the last one goes, the memory returns
/// to its pool.
///
/// Whoever asked the pool for it may write; once a slice is handed on, nobody writes.
package final class Buffer: @unchecked Sendable {
  // Sound: the fields never change, and the hand-over rule above orders reads after writes.
  private enum Home {
    case pool(BufferPool)
    case arena(BufferPool)
    case provided(ProvidedBuffers)
    case nowhere
  }
  private let home: Home
  package let base: UnsafeMutableRawPointer
  package let byteCount: Int

  init(_ memory: consuming AlignedMemory, pool: BufferPool?) {
    home = pool.map { .pool($0) } ?? .nowhere
    byteCount = memory.byteCount
    base = memory.release()
  }

  fileprivate init(inArenaOf pool: BufferPool, base: UnsafeMutableRawPointer, byteCount: Int) {
    home = .arena(pool)
    self.base = base
    self.byteCount = byteCount
  }

  init(providedBy home: ProvidedBuffers, base: UnsafeMutableRawPointer, byteCount: Int) {
    self.home = .provided(home)
    self.base = base
    self.byteCount = byteCount
  }

  deinit {
    switch home {
    case .pool(let pool): pool.giveBack(AlignedMemory(adopting: base, byteCount: byteCount))
    case .arena(let pool): pool.giveBack(inArena: base, byteCount: byteCount)
    case .provided(let buffers): buffers.giveBack(base)
    case .nowhere: _ = AlignedMemory(adopting: base, byteCount: byteCount)
    }
  }

  /// The whole of it.
  package var slice: Slice { Slice(buffer: self, offset: 0, count: byteCount) }
}

/// Reuses aligned memory by size class (powers of two from 4 KiB to 8 MiB); larger requests are made
/// to measure. At most `retainedByteLimit` idle bytes are kept. Safe from any thread.
///
/// A pool may own an ``Arena``, memory that the kernel has registered and that stays resident; what
/// fits there is taken from there first. What does not, and is large, comes from ``HugePages`` while they last; these
/// are idle bytes too, but bounded by their own number.
package final class BufferPool: Sendable {
  private struct Shelf: ~Copyable {
    /// Addresses of idle memory, by size class; as numbers, which may cross threads.
    var stacks: [[UInt]] = Array(repeating: [], count: 12)
    var idleByteCount = 0
    /// The fewest idle bytes since `trimUnused` last looked: what nobody needed.
    var leastIdleByteCount = 0
    var arena: BuddyAllocator
    var hugePages: HugePages

    enum Found: Sendable {
      case arena(unit: Int)
      case huge(address: UInt)
      case idle(address: UInt)
      case nothing
    }

    mutating func take(_ index: Int, fromArena: Bool) -> Found {
      if fromArena, let unit = arena.take(order: index) { return .arena(unit: unit) }
      if let address = hugePages.take(order: index) { return .huge(address: address) }
      guard let address = stacks[index].popLast() else { return .nothing }
      idleByteCount -= 4096 << index
      leastIdleByteCount = min(leastIdleByteCount, idleByteCount)
      return .idle(address: address)
    }
  }

  private let shelf: Mutex<Shelf>
  private let retainedByteLimit: Int
  /// What lies idle on the shelf and in huge pages, to be looked at without the lock.
  private let idle = Atomic<Int>(0)
  let arena: Arena?

  /// - Parameters:
  ///   - registeredByteCount: size of the arena, rounded up to whole MiB; 0 for none.
  ///   - hugeByteCount: how much may be in huge pages; 0 for nothing.
  package init(retainedByteLimit: Int, registeredByteCount: Int = 0, hugeByteCount: Int = 0) {
    self.retainedByteLimit = retainedByteLimit
    let megabytes = (registeredByteCount + (1 << 20) - 1) >> 20
    arena = megabytes > 0 ? Arena(byteCount: megabytes << 20) : nil
    shelf = Mutex(
      Shelf(
        arena: BuddyAllocator(blockCount: megabytes),
        hugePages: HugePages(byteCount: hugeByteCount)))
  }

  deinit { trim() }

  private static func sizeClass(_ byteCount: Int) -> Int? {
    if byteCount > 8 << 20 { return nil }
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
    let size = 4096 << index
    let found = shelf.withLock { shelf in
      let found = shelf.take(index, fromArena: arena != nil)
      noteIdle(shelf)
      return found
    }
    switch found {
    case .arena(let unit):
      return Buffer(inArenaOf: self, base: arena!.base + unit * 4096, byteCount: size)
    case .huge(let address):
      let base = UnsafeMutableRawPointer(bitPattern: address)!
      return Buffer(inArenaOf: self, base: base, byteCount: size)
    case .idle(let address):
      let base = UnsafeMutableRawPointer(bitPattern: address)!
      return Buffer(AlignedMemory(adopting: base, byteCount: size), pool: self)
    case .nothing: return Buffer(AlignedMemory(byteCount: size), pool: self)
    }
  }

  /// A slice of exactly `byteCount` bytes.
  package func slice(_ byteCount: Int) -> Slice {
    Slice(buffer: take(byteCount), offset: 0, count: byteCount)
  }

  fileprivate func giveBack(_ memory: consuming AlignedMemory) {
    let byteCount = memory.byteCount
    guard let index = Self.sizeClass(byteCount) else { return }
    let address = UInt(bitPattern: memory.base)
    let isRoom = shelf.withLock { shelf in
      guard shelf.idleByteCount + byteCount <= retainedByteLimit else { return false }
      shelf.idleByteCount += byteCount
      noteIdle(shelf)
      shelf.stacks[index].append(address)
      return true
    }
    if isRoom { _ = memory.release() }
  }

  fileprivate func giveBack(inArena base: UnsafeMutableRawPointer, byteCount: Int) {
    guard let index = Self.sizeClass(byteCount) else { return }
    shelf.withLock { shelf in
      if shelf.hugePages.contains(base) {
        shelf.hugePages.giveBack(base, order: index)
        noteIdle(shelf)
      } else if let arena {
        shelf.arena.giveBack((base - arena.base) / 4096, order: index)
      }
    }
  }

  /// Whether the kernel knows the memory at `base` as its registered buffer.
  func isRegistered(_ base: UnsafeMutableRawPointer) -> Bool {
    guard let arena, arena.isRegistered else { return false }
    return base >= arena.base && base < arena.base + arena.byteCount
  }

  /// Bytes that lie idle, apart from the arena.
  package var idleByteCount: Int { idle.load(ordering: .relaxed) }

  /// Whether enough lies idle that `trimUnused` should look from time to time.
  var isWorthTrimming: Bool { idleByteCount > 1 << 20 }

  /// Drops as much idle memory as was never needed since the last call.
  func trimUnused() {
    drop(onlyUnused: true)
  }

  /// Drops all idle memory.
  package func trim() {
    drop(onlyUnused: false)
  }

  private func drop(onlyUnused: Bool) {
    shelf.withLock { shelf in
      var surplus = onlyUnused ? shelf.leastIdleByteCount : shelf.idleByteCount
      for index in shelf.stacks.indices.reversed() {
        let size = 4096 << index
        while surplus >= size, let address = shelf.stacks[index].popLast() {
          let base = UnsafeMutableRawPointer(bitPattern: address)!
          _ = AlignedMemory(adopting: base, byteCount: size)
          shelf.idleByteCount -= size
          surplus -= size
        }
      }
      shelf.leastIdleByteCount = shelf.idleByteCount
      shelf.hugePages.dropIdle(onlyUnused: onlyUnused)
      noteIdle(shelf)
    }
  }

  private func noteIdle(_ shelf: borrowing Shelf) {
    idle.store(shelf.idleByteCount + shelf.hugePages.idleByteCount, ordering: .relaxed)
  }
}

/// Memory to register with the kernel in one piece, which spares it a look-up of pages for each
/// operation. In huge pages where the kernel has them: it is resident as a whole anyway.
final class Arena: @unchecked Sendable {
  // Sound: `isRegistered` is set before the pool is handed out; the rest is constant.
  private let memory: AlignedMemory
  var isRegistered = false
  var base: UnsafeMutableRawPointer { memory.base }
  var byteCount: Int { memory.byteCount }
  /// - Parameter byteCount: whole MiB.
  init(byteCount: Int) {
    memory =
      HugePages.map(byteCount).map { AlignedMemory(adopting: $0, byteCount: byteCount) }
      ?? AlignedMemory(byteCount: byteCount)
  }
}

/// Divides blocks of 1 MiB by halves, down to units of 4 KiB, and joins halves when both are free.
/// Knows numbers of units only, not their memory. Source: Knowlton, CACM 8(10), 1965.
struct BuddyAllocator {
  static let topOrder = 8
  /// For each unit the order of the free piece that begins there, or -1.
  private var freeOrder: [Int8]
  /// Where free pieces may begin, by order. An entry is true only if `freeOrder` says the same:
  /// joining leaves stale ones, which `take` drops.
  private var candidates: [[Int]]
  /// Pieces given back and not yet joined, by order: the next taker of that size has them at once.
  private var parked: [[Int]]
  private static let parkedLimit = 64

  init(blockCount: Int) {
    freeOrder = Array(repeating: -1, count: blockCount << Self.topOrder)
    candidates = Array(repeating: [], count: Self.topOrder + 1)
    parked = candidates
    for block in (0..<blockCount).reversed() {
      freeOrder[block << Self.topOrder] = Int8(Self.topOrder)
      candidates[Self.topOrder].append(block << Self.topOrder)
    }
  }

  /// - Returns: the first unit of 2^order free ones; nil when there are none.
  mutating func take(order: Int) -> Int? {
    guard order <= Self.topOrder else { return nil }
    if let unit = parked[order].popLast() { return unit }
    if let unit = divide(order) { return unit }
    guard joinParked() else { return nil }
    return divide(order)
  }

  private mutating func divide(_ order: Int) -> Int? {
    for larger in order...Self.topOrder {
      while let unit = candidates[larger].popLast() {
        guard freeOrder[unit] == Int8(larger) else { continue }
        freeOrder[unit] = -1
        // Keep the lower half, give the upper one back, at each order on the way down.
        for half in (order..<larger).reversed() {
          let upper = unit + (1 << half)
          freeOrder[upper] = Int8(half)
          candidates[half].append(upper)
        }
        return unit
      }
    }
    return nil
  }

  mutating func giveBack(_ unit: Int, order: Int) {
    if parked[order].count < Self.parkedLimit {
      parked[order].append(unit)
    } else {
      join(unit, order)
    }
  }

  /// - Returns: false when there was nothing to join.
  private mutating func joinParked() -> Bool {
    var found = false
    for order in parked.indices {
      while let unit = parked[order].popLast() {
        join(unit, order)
        found = true
      }
    }
    return found
  }

  private mutating func join(_ unit: Int, _ order: Int) {
    var unit = unit
    var order = order
    while order < Self.topOrder {
      let buddy = unit ^ (1 << order)
      guard freeOrder[buddy] == Int8(order) else { break }
      freeOrder[buddy] = -1
      unit = min(unit, buddy)
      order += 1
    }
    freeOrder[unit] = Int8(order)
    candidates[order].append(unit)
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

  /// No bytes.
  package static let none = Slice(copying: [])

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
