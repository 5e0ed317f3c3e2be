import Cluster
import Coding
import Ring
import TestSupport
import Testing

@testable import Stripes

/// A stripe with its true blocks.
struct TrueStripe {
  var layout: StripeLayout
  /// The data bytes, without padding.
  var data: [UInt8]
  /// By index; nil where the layout stores none.
  var blocks: [Slice?]

  init(_ layout: StripeLayout, _ random: inout SeededGenerator) {
    self.layout = layout
    var word = random.next() | 1
    data = (0..<layout.byteCount).map { _ in
      word = word &* 0x5851_F42D_4C95_7F2D &+ 0x1405_7B7E_F767_814F
      return UInt8(truncatingIfNeeded: word >> 56)
    }
    let padded =
      data
      + [UInt8](repeating: 0, count: layout.dataBlockCount * layout.blockByteCount - data.count)
    var blocks: [Slice?] = (0..<layout.scheme.k).map { index in
      guard index < layout.dataBlockCount else { return nil }
      let start = index * layout.blockByteCount
      return Slice(copying: Array(padded[start..<start + layout.blockByteCount]))
    }
    for _ in 0..<layout.scheme.m {
      blocks.append(Slice(copying: [UInt8](repeating: 0, count: layout.blockByteCount)))
    }
    StripeCoder.shared(layout.scheme).encode(
      data: blocks.prefix(layout.dataBlockCount).map { $0!.withBytes { $0.baseAddress! } },
      parity: blocks.suffix(layout.scheme.m).map { $0!.withMutableBytes { $0.baseAddress! } },
      byteCount: layout.blockByteCount)
    self.blocks = blocks
  }

  static func random(_ random: inout SeededGenerator) -> TrueStripe {
    let scheme = Scheme(k: Int(random.next() % 8) + 1, m: Int(random.next() % 5))!
    let block = (Int(random.next() % 5) + 1) * 4096
    let byteCount = Int(random.next() % UInt64(scheme.k * block)) + 1
    return TrueStripe(
      StripeLayout(scheme: scheme, blockByteCount: block, byteCount: byteCount), &random)
  }

  func bytes(_ part: BlockRange) -> Slice { blocks[part.index]![part.range] }
}

func randomRange(_ limit: Int, _ random: inout SeededGenerator) -> Range<Int> {
  let a = Int(random.next() % UInt64(limit))
  let b = Int(random.next() % UInt64(limit))
  return min(a, b)..<max(a, b) + 1
}

/// The unit-aligned parts of the blocks that hold a range of the data.
func parts(of range: Range<Int>, _ layout: StripeLayout) -> [BlockRange] {
  var result: [BlockRange] = []
  for index in 0..<layout.dataBlockCount {
    let start = index * layout.blockByteCount
    let units = (0..<layout.blockByteCount / 4096).filter {
      range.overlaps(start + $0 * 4096..<start + ($0 + 1) * 4096)
    }
    if let first = units.first, let last = units.last {
      result.append(BlockRange(index: index, range: first * 4096..<(last + 1) * 4096))
    }
  }
  return result
}

@Suite struct ReadPlanTests {
  @Test("when all blocks answer, just the wanted units are fetched", arguments: Seed.several)
  func minimal(seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<50 {
      let stripe = TrueStripe.random(&random)
      let wanted = parts(of: randomRange(stripe.layout.byteCount, &random), stripe.layout)
      var plan = ReadPlan(layout: stripe.layout, wanted: wanted)
      #expect(plan.next() == .fetch(wanted))
      for part in wanted.shuffled(using: &random) { plan.arrived(part, stripe.bytes(part)) }
      #expect(plan.next() == .done)
      let found = try plan.assemble(.shared(stripe.layout.scheme), pool: pool)
      #expect(found.map { $0.count } == wanted.map { _ in 1 })
    }
  }

  let pool = BufferPool(retainedByteLimit: 1 << 20)

  @Test(
    "any blocks but m may fail, be slow, be avoided or be dear, in any order, and the bytes come out right; no byte of a block is fetched twice",
    arguments: Seed.several)
  func anyOrder(seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<300 {
      let stripe = TrueStripe.random(&random)
      let layout = stripe.layout
      let stored = layout.storedBlocks
      let count = Int(random.next() % UInt64(stored.count + 1))
      let lost = Set(stored.shuffled(using: &random).prefix(min(count, layout.scheme.m + 1)))
      let avoided = stored.filter { _ in random.next() % 4 == 0 }
      let wanted = parts(of: randomRange(layout.byteCount, &random), layout)
      let costs = (0..<layout.scheme.width).map { _ in Double(random.next() % 8 + 1) }
      let spared =
        random.next() % 2 == 0
        ? []
        : ReadPreference.spared(
          layout: layout, wanted: wanted, costs: costs, barred: Set(avoided))
      var plan = ReadPlan(layout: layout, wanted: wanted, avoided: avoided, spared: spared)
      var pending: [BlockRange] = []
      var fetched: [Int: [Range<Int>]] = [:]
      var step = plan.next()
      while case .fetch(let fetches) = step {
        for part in fetches {
          #expect(layout.isStored(part.index))
          #expect(part.range.lowerBound % 4096 == 0 && part.range.upperBound % 4096 == 0)
          #expect(!(fetched[part.index] ?? []).contains { $0.overlaps(part.range) })
          fetched[part.index, default: []].append(part.range)
        }
        pending += fetches
        try #require(!pending.isEmpty, "waits for nothing")
        if random.next() % 3 == 0 { _ = plan.hedge(within: .max) }
        if random.next() % 4 != 0 {
          let part = pending.remove(at: Int(random.next() % UInt64(pending.count)))
          if lost.contains(part.index) {
            plan.failed(part, .silent)
            pending.removeAll { $0.index == part.index }
          } else {
            plan.arrived(part, stripe.bytes(part))
          }
        }
        step = plan.next()
      }
      if step == .hopeless {
        #expect(lost.count > layout.scheme.m)
        #expect(plan.failures().count > layout.scheme.m)
        continue
      }
      let found = try plan.assemble(.shared(layout.scheme), pool: pool)
      for (part, slices) in zip(wanted, found) {
        #expect(slices.flatMap(\.array) == stripe.bytes(part).array, "\(layout) \(part)")
      }
    }
  }

  @Test("a block lost in the middle of a range costs the same range of others, no more")
  func middle() throws {
    var random = SeededGenerator(seed: 5)
    let layout = StripeLayout(
      scheme: Scheme(k: 4, m: 2)!, blockByteCount: 4 * 4096, byteCount: 4 * 4 * 4096)
    let stripe = TrueStripe(layout, &random)
    // The last unit of block 0, all of 1 and the first unit of 2; 1 is lost.
    let wanted = parts(of: 3 * 4096..<9 * 4096, layout)
    var plan = ReadPlan(layout: layout, wanted: wanted)
    guard case .fetch(let first) = plan.next() else { throw Unexpected() }
    for part in first where part.index != 1 { plan.arrived(part, stripe.bytes(part)) }
    plan.failed(BlockRange(index: 1, range: 0..<4 * 4096), .silent)
    guard case .fetch(let more) = plan.next() else { throw Unexpected() }
    #expect(more.reduce(0) { $0 + $1.range.count } == (3 + 3 + 4 + 4) * 4096)
    for part in more { plan.arrived(part, stripe.bytes(part)) }
    #expect(plan.next() == .done)
    #expect(plan.rebuiltCount == 1)
  }

  @Test("a hedge that costs more than is allowed changes nothing")
  func allowance() {
    let layout = StripeLayout(
      scheme: Scheme(k: 4, m: 2)!, blockByteCount: 4096, byteCount: 4 * 4096)
    var plan = ReadPlan(layout: layout, wanted: parts(of: 0..<4096, layout))
    _ = plan.next()
    #expect(plan.hedge(within: 4 * 4096 - 1) == nil)
    #expect(plan.next() == .fetch([]))
    #expect(plan.hedge(within: 4 * 4096) == 4 * 4096)
    if case .fetch(let parts) = plan.next() { #expect(parts.map(\.index) == [1, 2, 3, 4]) }
  }

  @Test("ranges are subtracted and joined as sets of places are", arguments: Seed.several)
  func ranges(seed: Seed) {
    var random = seed.generator
    for _ in 0..<200 {
      let a = (0..<Int(random.next() % 4)).map { _ in randomRange(30, &random) }
      let b = (0..<Int(random.next() % 4)).map { _ in randomRange(30, &random) }
      let joined = union(a)
      #expect(Set(joined.flatMap { $0 }) == Set(a.flatMap { $0 }))
      #expect(zip(joined, joined.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound })
      let rest = subtract(joined, b)
      #expect(rest.flatMap { $0 } == Set(a.flatMap { $0 }).subtracting(b.flatMap { $0 }).sorted())
    }
  }
}

struct Unexpected: Error {}
