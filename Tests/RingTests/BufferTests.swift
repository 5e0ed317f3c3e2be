import Glibc
import TestSupport
import Testing

@testable import Ring

@Suite("buffers")
struct BufferTests {
  @Test("buffers in use never overlap and are as large as asked", arguments: Seed.several)
  func noOverlap(seed: Seed) {
    var random = seed.generator
    let pool = BufferPool(
      retainedByteLimit: 8 << 20, registeredByteCount: 2 << 20, hugeByteCount: 4 << 20)
    var held: [(Buffer, UInt8)] = []
    for round in 0..<3000 {
      if held.count < 20 || random.next() % 2 == 0 {
        let byteCount = 1 + Int(random.next() % (1 << (random.next() % 23)))
        let buffer = pool.take(byteCount)
        #expect(buffer.byteCount >= byteCount)
        #expect(UInt(bitPattern: buffer.base) % 4096 == 0)
        let mark = UInt8(truncatingIfNeeded: round)
        // Marks at both ends of every page: an overlap would change one.
        for place in stride(from: 0, to: buffer.byteCount, by: 4096) {
          buffer.base.storeBytes(of: mark, toByteOffset: place, as: UInt8.self)
          buffer.base.storeBytes(of: mark, toByteOffset: place + 4095, as: UInt8.self)
        }
        held.append((buffer, mark))
      } else {
        let (buffer, mark) = held.remove(at: Int(random.next() % UInt64(held.count)))
        for place in stride(from: 0, to: buffer.byteCount, by: 4096) {
          #expect(buffer.base.load(fromByteOffset: place, as: UInt8.self) == mark)
          #expect(buffer.base.load(fromByteOffset: place + 4095, as: UInt8.self) == mark)
        }
      }
      #expect(pool.idleByteCount <= 12 << 20)
    }
    held.removeAll()
    pool.trim()
    #expect(pool.idleByteCount == 0)
  }

  @Test("all of an arena can be had again once all came back", arguments: Seed.several)
  func buddies(seed: Seed) {
    var random = seed.generator
    var allocator = BuddyAllocator(blockCount: 3)
    var owner = [Int](repeating: -1, count: 3 * 256)
    var held: [(unit: Int, order: Int)] = []
    for round in 0..<5000 {
      let order = Int(random.next() % 10)
      if random.next() % 2 == 0 {
        if let unit = allocator.take(order: order) {
          #expect(order <= 8)
          for place in unit..<(unit + 1 << order) {
            #expect(owner[place] == -1)
            owner[place] = round
          }
          held.append((unit, order))
        }
      } else if !held.isEmpty {
        let (unit, order) = held.remove(at: Int(random.next() % UInt64(held.count)))
        for place in unit..<(unit + 1 << order) { owner[place] = -1 }
        allocator.giveBack(unit, order: order)
      }
    }
    for (unit, order) in held { allocator.giveBack(unit, order: order) }
    #expect(Set((0..<3).map { _ in allocator.take(order: 8) }) == [0, 256, 512])
    #expect(allocator.take(order: 0) == nil)
  }

  @Test("only what nobody needed between two looks is dropped")
  func trimming() {
    let pool = BufferPool(retainedByteLimit: 64 << 20)
    var buffers = (0..<8).map { _ in pool.take(1 << 20) }
    buffers.removeAll()
    #expect(pool.idleByteCount == 8 << 20)
    pool.trimUnused()
    buffers = (0..<3).map { _ in pool.take(1 << 20) }
    buffers.removeAll()
    pool.trimUnused()
    #expect(pool.idleByteCount == 3 << 20)
    pool.trimUnused()
    #expect(pool.idleByteCount == 0)
  }

  @Test("huge pages go when nobody took from them between two looks, and come again zeroed")
  func hugePages() {
    let pool = BufferPool(retainedByteLimit: 0, hugeByteCount: 8 << 20)
    var buffers = (0..<8).map { _ in pool.take(1 << 20) }
    for buffer in buffers {
      buffer.base.initializeMemory(as: UInt8.self, repeating: 7, count: 1 << 20)
    }
    #expect(pool.idleByteCount == 0)
    buffers.removeAll()
    #expect(pool.idleByteCount == 8 << 20)
    pool.trimUnused()
    #expect(pool.idleByteCount == 8 << 20)
    let kept = pool.take(64 << 10)
    #expect(pool.idleByteCount == 6 << 20)
    #expect(kept.base.load(as: UInt8.self) == 7)
    pool.trimUnused()
    #expect(pool.idleByteCount == 0)
    #expect(kept.base.load(as: UInt8.self) == 7)
    var zeroed = 0
    buffers = (0..<7).map { _ in pool.take(1 << 20) }
    for buffer in buffers where buffer.base.load(as: UInt8.self) == 0 { zeroed += 1 }
    // The other half of the page that was kept is as it was.
    #expect(zeroed == 6)
    // Small ones, which may live long, and what does not fit come from elsewhere.
    #expect(pool.take(4096).byteCount == 4096)
    // Nothing keeps a buffer while its memory is read, but a name that is used later.
    let other = pool.take(1 << 20)
    #expect(other.base.load(as: UInt8.self) == 0)
    withExtendedLifetime((kept, other)) {}
    buffers.removeAll()
    pool.trim()
    #expect(pool.idleByteCount == 0)
  }

  @Test("slices of slices see the same bytes")
  func slices() {
    let slice = Slice(copying: Array(0..<100))
    #expect(slice[10..<20][2..<5].array == [12, 13, 14])
    #expect(slice[100..<100].array.isEmpty)
    #expect(Slice(copying: []).count == 0)
  }

  @Test("any name comes back from its text", arguments: Seed.several)
  func pathText(seed: Seed) {
    var random = seed.generator
    var names: [[UInt8]] = [
      [], [0xFF], Array("a\u{10FE80}b".utf8), Array("é€😀".utf8), [0xF4, 0x8F],
    ]
    for _ in 0..<500 {
      var name = random.bytes(Int(random.next() % 12))
      if random.next() % 2 == 0 { name += Array("ö\u{10FEFF}".utf8) }
      names.append(name)
    }
    var texts = Set<String>()
    for name in names {
      let text = PathText.string(name)
      #expect(PathText.bytes(text) == name)
      texts.insert(text)
    }
    #expect(texts.count == Set(names).count)
    #expect(PathText.string(Array("plain/ö".utf8)) == "plain/ö")
  }
}
