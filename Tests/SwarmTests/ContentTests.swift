import TestSupport
import Testing

@testable import Swarm

@Suite struct ContentTests {
  /// Byte by byte, as slowly as can be.
  private func bytes(_ content: Content) -> [UInt8] {
    (0..<content.byteCount).map { offset in
      var byte: UInt8 = 0
      withUnsafeMutableBytes(of: &byte) { content.fill($0, at: offset) }
      return byte
    }
  }

  private func some(_ seed: Seed) -> Content {
    var random = seed.generator
    return Content(
      (0..<4).map { _ in
        Content.Piece(
          stream: random.next() % 4, first: random.next() % 100, byteCount: random.next() % 90)
      })
  }

  @Test("any range is filled alike, wherever it begins", arguments: Seed.several)
  func ranges(seed: Seed) {
    let content = some(seed)
    let whole = bytes(content)
    for first in 0..<whole.count {
      for end in [first + 1, min(whole.count, first + 17), whole.count] {
        var part = [UInt8](repeating: 0xEE, count: end - first)
        part.withUnsafeMutableBytes { content.fill($0, at: UInt64(first)) }
        #expect(part == Array(whole[first..<end]))
        #expect(part.withUnsafeBytes { content.firstDifference($0, at: UInt64(first)) } == nil)
      }
    }
  }

  @Test("the first wrong byte is named", arguments: Seed.several)
  func differences(seed: Seed) {
    let content = Content([
      Content.Piece(stream: seed.value | 1, first: 3, byteCount: 150),
      Content.Piece(stream: 0, first: 0, byteCount: 100),
    ])
    let whole = bytes(content)
    for place in whole.indices {
      var wrong = whole
      wrong[place] ^= 0x10
      if place + 9 < wrong.count { wrong[place + 9] ^= 1 }
      #expect(wrong.withUnsafeBytes { content.firstDifference($0, at: 0) } == place)
      let first = place / 2
      let found = wrong[first...].withUnsafeBytes {
        content.firstDifference($0, at: UInt64(first))
      }
      #expect(found == place - first)
    }
    let long = whole + [0]
    #expect(long.withUnsafeBytes { content.firstDifference($0, at: 0) } == whole.count)
  }

  @Test("streams differ, and differ at every offset")
  func streams() {
    let one = bytes(Content([Content.Piece(stream: 7, first: 0, byteCount: 4096)]))
    let other = bytes(Content([Content.Piece(stream: 9, first: 0, byteCount: 4096)]))
    let shifted = bytes(Content([Content.Piece(stream: 7, first: 8, byteCount: 4096)]))
    #expect(zip(one, other).count { $0 == $1 } < 64)
    #expect(zip(one, shifted).count { $0 == $1 } < 64)
    #expect(Array(one[8...]) == Array(shifted[..<4088]))
  }
}

@Suite struct WorkloadPlanTests {
  private func plan(_ seed: Seed, _ edit: (inout WorkloadShape) -> Void = { _ in }) -> WorkloadPlan
  {
    var shape = WorkloadShape()
    shape.operationsPerSecond = 50
    shape.duration = .seconds(60)
    edit(&shape)
    return WorkloadPlan(seed: seed.value, shape: shape, borders: [0, 4096, 65536, 1 << 20])
  }

  @Test("the same seed plans the same, another something else", arguments: Seed.several)
  func replay(seed: Seed) {
    let text = "\(plan(seed).operations)"
    #expect(text == "\(plan(seed).operations)")
    #expect(text != "\(plan(Seed(seed.value &+ 1)).operations)")
  }

  @Test("more time adds operations and changes none", arguments: Seed.several)
  func prefix(seed: Seed) {
    let short = plan(seed) { $0.duration = .seconds(10) }
    let long = plan(seed)
    for (few, many) in zip(short.operations, long.operations) {
      #expect("\(few)" == "\(many.prefix(few.count))")
    }
  }

  @Test("every kind comes up, keys collide, sizes reach from nothing to the largest")
  func mix() {
    var kinds: [String: Int] = [:]
    var sizes: [UInt64] = []
    var tags: [String: Int] = [:]
    for seed in 0..<20 {
      for operation in plan(Seed(UInt64(seed))).operations.joined() {
        kinds[operation.name, default: 0] += 1
        if case .put(let put) = operation.kind {
          sizes.append(put.content.byteCount)
          tags[put.tag, default: 0] += 1
        }
      }
    }
    #expect(kinds.count == 18)
    #expect(kinds.values.allSatisfy { $0 > 20 }, "\(kinds)")
    #expect(sizes.contains(0) && sizes.contains(4096) && sizes.contains(4097))
    #expect(sizes.max()! > 4 << 20)
    let mean = sizes.reduce(0, +) / UInt64(sizes.count)
    #expect((60_000..<400_000).contains(mean), "\(mean)")
    #expect(tags.values.max()! > 50)
  }

  @Test(
    "a tag stands for the same bytes wherever it is put, or for twins of one length",
    arguments: Seed.several)
  func tags(seed: Seed) {
    var contents: [String: Set<Content>] = [:]
    for operation in plan(seed).operations.joined() {
      guard case .put(let put) = operation.kind else { continue }
      contents[put.tag, default: []].insert(put.content)
    }
    var twins = 0
    for (tag, found) in contents {
      #expect(Set(found.map(\.byteCount)).count == 1)
      if tag.hasPrefix(History.twinMark) {
        #expect(found.count <= 2)
        twins += found.count == 2 ? 1 : 0
      } else {
        #expect(found.count == 1)
      }
    }
    #expect(twins > 0)
  }
}
