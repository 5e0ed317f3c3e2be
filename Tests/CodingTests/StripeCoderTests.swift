import TestSupport
import Testing

@testable import Coding

/// GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1, by shifts; and the code as its documentation states it.
enum Model {
  static func multiply(_ left: UInt8, _ right: UInt8) -> UInt8 {
    var product: UInt8 = 0
    var (left, right) = (left, right)
    while right != 0 {
      if right & 1 == 1 { product ^= left }
      left = left & 0x80 == 0 ? left << 1 : left << 1 ^ 0x1D
      right >>= 1
    }
    return product
  }

  static let products: [[UInt8]] = (0..<256).map { left in
    (0..<256).map { multiply(UInt8(left), UInt8($0)) }
  }

  static func inverse(_ value: Int) -> UInt8 { UInt8(products[value].firstIndex(of: 1)!) }

  static func parity(_ data: [[UInt8]], _ scheme: Scheme, byteCount: Int) -> [[UInt8]] {
    (scheme.k..<scheme.width).map { row in
      var block = [UInt8](repeating: 0, count: byteCount)
      for (column, bytes) in data.enumerated() {
        let times = products[scheme.k == 1 ? 1 : Int(inverse(row ^ column))]
        for place in 0..<byteCount { block[place] ^= times[Int(bytes[place])] }
      }
      return block
    }
  }
}

/// A stripe whose last data blocks may be zeros, never stored.
struct Stripe {
  let scheme: Scheme
  let dataCount: Int
  let byteCount: Int
  let memory: Memory

  init(
    _ scheme: Scheme, dataCount: Int, byteCount: Int, coder: StripeCoder? = nil,
    using random: inout some RandomNumberGenerator
  ) {
    self.scheme = scheme
    self.dataCount = dataCount
    self.byteCount = byteCount
    let data = (0..<dataCount).map { _ in randomBytes(byteCount, using: &random) }
    let zeros = [[UInt8]](
      repeating: [UInt8](repeating: 0, count: byteCount), count: scheme.k - dataCount)
    let junk = (0..<scheme.m).map { _ in randomBytes(byteCount, using: &random) }
    memory = Memory(data + zeros + junk)
    (coder ?? .shared(scheme)).encode(
      data: memory.pointers.prefix(dataCount).map { UnsafeRawPointer($0) },
      parity: Array(memory.pointers.suffix(scheme.m)), byteCount: byteCount)
  }

  var zeros: [Int] { Array(dataCount..<scheme.k) }
  /// Blocks that a store would hold.
  var stored: [Int] { (0..<scheme.width).filter { !zeros.contains($0) } }

  func present(_ indices: some Sequence<Int>, offset: Int = 0) -> [(
    index: Int, bytes: UnsafeRawPointer
  )] {
    indices.map { (index: $0, bytes: UnsafeRawPointer(memory[$0] + offset)) }
  }

  /// Rebuilds `wanted` from `present` and says whether each is what it was.
  func rebuilds(
    _ wanted: [Int], from present: [Int], range: Range<Int>? = nil, coder: StripeCoder? = nil
  ) throws -> Bool {
    let range = range ?? 0..<byteCount
    let made = Memory(blockCount: wanted.count, byteCount: range.count)
    try (coder ?? .shared(scheme)).rebuild(
      wanted: wanted.enumerated().map { (index: $1, into: made[$0]) },
      present: self.present(present, offset: range.lowerBound), zeros: zeros,
      byteCount: range.count)
    return made.gapsAreIntact
      && wanted.enumerated().allSatisfy { made.block($0) == Array(memory.block($1)[range]) }
  }
}

@Suite struct StripeCoderTests {
  static let schemes = [
    (1, 0), (1, 1), (1, 3), (2, 0), (2, 1), (2, 2), (3, 2), (4, 2), (5, 3), (6, 3), (7, 7), (10, 4),
    (16, 1), (16, 16), (20, 12), (31, 1), (32, 32), (60, 4), (1, 63), (63, 1), (64, 0),
  ].map { Scheme(k: $0, m: $1)! }

  @Test(
    "parity is the documented combination of the data, whole stripe or short", arguments: schemes)
  func parity(scheme: Scheme) {
    var random = SeededGenerator(seed: 11)
    for dataCount in Set([0, 1, scheme.k / 2, scheme.k - 1, scheme.k]).sorted() {
      for byteCount in [0, 1, 15, 31, 32, 33, 63, 64, 65, 100, 257] {
        let stripe = Stripe(scheme, dataCount: dataCount, byteCount: byteCount, using: &random)
        let blocks = stripe.memory.blocks
        #expect(
          Array(blocks.suffix(scheme.m))
            == Model.parity(Array(blocks.prefix(dataCount)), scheme, byteCount: byteCount))
        #expect(stripe.memory.gapsAreIntact)
      }
    }
  }

  @Test("with k = 1 every block is a copy")
  func copies() throws {
    var random = SeededGenerator(seed: 12)
    let stripe = Stripe(Scheme(k: 1, m: 4)!, dataCount: 1, byteCount: 1000, using: &random)
    #expect(Set(stripe.memory.blocks).count == 1)
    for survivor in 0..<5 {
      #expect(try stripe.rebuilds([0, 1, 2, 3, 4], from: [survivor]))
    }
  }

  @Test(
    "every set of lost blocks that leaves k is rebuilt, and one more is refused",
    arguments: ["1+1", "1+2", "2+1", "2+2", "3+2", "4+2", "3+4", "6+3"].map { Scheme($0)! })
  func everyLoss(scheme: Scheme) throws {
    var random = SeededGenerator(seed: 13)
    for dataCount in 0...scheme.k {
      let stripe = Stripe(scheme, dataCount: dataCount, byteCount: 67, using: &random)
      for mask in 0..<(1 << scheme.width) {
        let lost = stripe.stored.filter { mask >> $0 & 1 == 1 }
        // Each set once: masks that name blocks never stored repeat others.
        guard mask.nonzeroBitCount == lost.count, lost.count <= scheme.m + 1 else { continue }
        let left = stripe.stored.filter { !lost.contains($0) }
        if lost.count <= scheme.m {
          #expect(try stripe.rebuilds(lost, from: left))
        } else {
          #expect(
            throws: CodingError.tooFewBlocks(
              have: left.count + stripe.zeros.count, need: scheme.k)
          ) { try stripe.rebuilds(lost, from: left) }
        }
      }
    }
  }

  @Test("random losses of wide schemes are rebuilt", arguments: schemes, Seed.several)
  func randomLosses(scheme: Scheme, seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<6 {
      let dataCount =
        Bool.random(using: &random) ? scheme.k : .random(in: 0...scheme.k, using: &random)
      let stripe = Stripe(
        scheme, dataCount: dataCount, byteCount: .random(in: 0...300, using: &random),
        using: &random)
      let shuffled = stripe.stored.shuffled(using: &random)
      let lost = Array(shuffled.prefix(.random(in: 0...scheme.m, using: &random)))
      let left = shuffled.filter { !lost.contains($0) }
      let enough = Array(left.prefix(dataCount))
      #expect(try stripe.rebuilds(lost, from: left))
      #expect(try stripe.rebuilds(Array(0..<scheme.width).shuffled(using: &random), from: enough))
      if let one = lost.first { #expect(try stripe.rebuilds([one], from: enough)) }
    }
  }

  @Test("any byte range is rebuilt from the same range of the others", arguments: Seed.several)
  func ranges(seed: Seed) throws {
    var random = seed.generator
    for scheme in ["2+1", "4+2", "6+3"].map({ Scheme($0)! }) {
      let stripe = Stripe(
        scheme, dataCount: .random(in: 1...scheme.k, using: &random), byteCount: 9000,
        using: &random)
      for _ in 0..<30 {
        let first = Int.random(in: 0...9000, using: &random)
        let range = first..<Int.random(in: first...9000, using: &random)
        let lost = Array(stripe.stored.shuffled(using: &random).prefix(scheme.m))
        let left = stripe.stored.filter { !lost.contains($0) }
        #expect(try stripe.rebuilds(lost, from: left, range: range))
      }
    }
  }

  @Test(
    "blocks at hand and blocks of zeros are given back without more ado, parity of zeros is zeros")
  func trivial() throws {
    var random = SeededGenerator(seed: 14)
    let scheme = Scheme("6+3")!
    let stripe = Stripe(scheme, dataCount: 2, byteCount: 100, using: &random)
    #expect(try stripe.rebuilds([0, 5, 1, 8, 2], from: [8, 0]))
    #expect(try stripe.rebuilds([], from: [8, 0]))
    let empty = Stripe(scheme, dataCount: 0, byteCount: 100, using: &random)
    #expect(empty.memory.blocks.allSatisfy { $0.allSatisfy { $0 == 0 } })
    #expect(try empty.rebuilds(Array(0..<9), from: []))
  }

  @Test("repeated blocks and what is said of zero blocks do not count")
  func distinct() throws {
    var random = SeededGenerator(seed: 15)
    let stripe = Stripe(Scheme("4+2")!, dataCount: 3, byteCount: 50, using: &random)
    #expect(try stripe.rebuilds([1], from: [5, 0, 5, 0, 3, 4]))
    let made = Memory(blockCount: 1, byteCount: 50)
    #expect(throws: CodingError.tooFewBlocks(have: 3, need: 4)) {
      try StripeCoder.shared(stripe.scheme).rebuild(
        wanted: [(1, made[0])], present: stripe.present([5, 0, 5, 0, 3]), zeros: [3, 3],
        byteCount: 50)
    }
    #expect(made.isUntouched)
  }

  @Test("lengths beyond ISA-L's are cut without a seam", arguments: [1, 7, 64, 100, 1000])
  func pieces(largestCall: Int) throws {
    var random = SeededGenerator(seed: 16)
    let scheme = Scheme("5+3")!
    let coder = StripeCoder(scheme, largestCall: largestCall, planLimit: 4)
    let stripe = Stripe(scheme, dataCount: 5, byteCount: 777, coder: coder, using: &random)
    #expect(try stripe.rebuilds([0, 3, 6], from: [1, 2, 4, 5, 7]))
    #expect(try stripe.rebuilds([0, 3, 6], from: [1, 2, 4, 5, 7], coder: coder))
    let data = Array(stripe.memory.blocks.prefix(5))
    #expect(
      Array(stripe.memory.blocks.suffix(3)) == Model.parity(data, scheme, byteCount: 777))
  }

  @Test("coding strip by strip gives the parity of the whole", arguments: schemes, Seed.several)
  func strips(scheme: Scheme, seed: Seed) {
    var random = seed.generator
    let byteCount = Int.random(in: 1...500, using: &random)
    for dataCount in Set([0, 1, scheme.k]).sorted() {
      let stripe = Stripe(scheme, dataCount: dataCount, byteCount: byteCount, using: &random)
      let parity = Memory(blockCount: scheme.m, byteCount: byteCount)
      let data = stripe.memory.pointers.prefix(dataCount).map { UnsafeRawPointer($0) }
      var strips: [Range<Int>] = []
      while (strips.last?.upperBound ?? 0) < byteCount {
        let start = strips.last?.upperBound ?? 0
        strips.append(start..<min(byteCount, start + .random(in: 1...200, using: &random)))
      }
      for strip in strips.shuffled(using: &random) {
        StripeCoder.shared(scheme).encode(
          data: data, parity: parity.pointers, offset: strip.lowerBound, byteCount: strip.count)
      }
      #expect(parity.gapsAreIntact)
      #expect(parity.blocks == Array(stripe.memory.blocks.suffix(scheme.m)))
    }
  }

  @Test("the cache of plans is bounded and forgetting does no harm", arguments: Seed.several)
  func cache(seed: Seed) throws {
    var random = seed.generator
    let scheme = Scheme("6+3")!
    let coder = StripeCoder(scheme, largestCall: 1 << 30, planLimit: 3)
    for _ in 0..<60 {
      let stripe = Stripe(
        scheme, dataCount: .random(in: 1...6, using: &random), byteCount: 40, coder: coder,
        using: &random)
      let lost = Array(stripe.stored.shuffled(using: &random).prefix(3))
      let left = stripe.stored.filter { !lost.contains($0) }
      #expect(try stripe.rebuilds(lost, from: left, coder: coder))
      #expect(coder.planCount <= 3)
    }
  }

  @Test("many may use one coder at once")
  func concurrent() async throws {
    let scheme = Scheme("6+3")!
    let coder = StripeCoder(scheme, largestCall: 1 << 30, planLimit: 2)
    let right = await withTaskGroup { group in
      for seed in UInt64(0)..<8 {
        group.addTask {
          var random = SeededGenerator(seed: seed)
          for _ in 0..<20 {
            let stripe = Stripe(
              scheme, dataCount: .random(in: 1...6, using: &random), byteCount: 100, coder: coder,
              using: &random)
            let lost = Array(stripe.stored.shuffled(using: &random).prefix(3))
            let left = stripe.stored.filter { !lost.contains($0) }
            guard (try? stripe.rebuilds(lost, from: left, coder: coder)) == true else {
              return false
            }
          }
          return true
        }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
    #expect(right == [Bool](repeating: true, count: 8))
  }

  @Test("what the code writes to disk never changes")
  func frozen() {
    var random = SeededGenerator(seed: 17)
    let sums = ["1+2", "2+1", "4+2", "6+3", "10+4", "32+32"].map { text in
      let scheme = Scheme(text)!
      let stripe = Stripe(scheme, dataCount: scheme.k, byteCount: 500, using: &random)
      return CRC32C.checksum(Array(stripe.memory.blocks.suffix(scheme.m).joined()))
    }
    #expect(
      sums == [
        517_296_645, 2_198_939_684, 3_155_721_894, 4_079_973_531, 1_662_030_124, 92_598_528,
      ])
  }

  @Test("one coder serves a scheme")
  func shared() {
    #expect(StripeCoder.shared(Scheme("6+3")!) === StripeCoder.shared(Scheme(k: 6, m: 3)!))
    #expect(StripeCoder.shared(Scheme("6+3")!) !== StripeCoder.shared(Scheme("6+2")!))
    #expect(StripeCoder.shared(Scheme("6+3")!).scheme == Scheme("6+3")!)
  }
}

@Suite struct SchemeTests {
  @Test("a scheme is what it prints", arguments: StripeCoderTests.schemes)
  func text(scheme: Scheme) {
    #expect(Scheme("\(scheme)") == scheme)
    #expect(scheme.width == scheme.k + scheme.m)
  }

  @Test(
    "anything else is refused",
    arguments: [
      "", "+", "6", "6+", "+3", "6+3+1", "6 + 3", " 6+3", "6+3 ", "06+3", "6+03", "6-3", "-6+3",
      "0+3", "64+1", "1+64", "100+1", "999999999999999999999+1", "6+3\n", "\u{FF16}+3", "a+b",
      "6++3",
    ])
  func refused(text: String) {
    #expect(Scheme(text) == nil)
  }

  @Test("widths end at 64")
  func bounds() {
    #expect(Scheme(k: 0, m: 1) == nil)
    #expect(Scheme(k: 1, m: -1) == nil)
    #expect(Scheme(k: -1, m: 2) == nil)
    #expect(Scheme(k: 33, m: 32) == nil)
    #expect(Scheme(k: Int.max, m: Int.max) == nil)
    #expect(Scheme(k: Int.min, m: Int.min) == nil)
    #expect(Scheme(k: 1, m: Int.max) == nil)
    #expect(Scheme(k: 32, m: 32) != nil)
  }

  @Test("schemes are ordered by k, then by m")
  func order() {
    let sorted = ["4+2", "1+2", "6+3", "1+1", "4+1"].map { Scheme($0)! }.sorted()
    #expect(sorted.map(\.description) == ["1+1", "1+2", "4+1", "4+2", "6+3"])
  }
}
