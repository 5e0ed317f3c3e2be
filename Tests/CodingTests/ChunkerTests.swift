import TestSupport
import Testing

@testable import Coding

@Suite struct ChunkerTests {
  /// The standard's proportions, small enough for slow models.
  static let small = Chunker(minimum: 256, average: 512, maximum: 1024)

  static let several = [
    small, Chunker(minimum: 64, average: 256, maximum: 256),
    Chunker(minimum: 256, average: 256, maximum: 300),
    Chunker(minimum: 100, average: 1024, maximum: 4001),
    Chunker(minimum: 512, average: 2048, maximum: 65536),
  ]

  /// Every candidate from scratch, as the documentation states it.
  static func model(_ chunker: Chunker, _ bytes: ArraySlice<UInt8>) -> Int {
    let bits = chunker.average.trailingZeroBitCount
    for length in chunker.minimum..<max(chunker.minimum, chunker.maximum) {
      guard length <= bytes.count else { return bytes.count }
      var hash: UInt64 = 0
      for place in length - 64..<length {
        hash = hash &* 2 &+ Chunker.gear[Int(bytes[bytes.startIndex + place])]
      }
      let hard = length < chunker.average * 25 / 32
      let count = UInt64(hard ? bits + 2 : bits - 2)
      // The `count` bits below the highest.
      if (hash << 1) >> (64 - count) == 0 { return length }
    }
    return min(bytes.count, chunker.maximum)
  }

  /// Random stretches, runs of one byte, and repeats of what came before.
  static func mixed(_ count: Int, using random: inout some RandomNumberGenerator) -> [UInt8] {
    var all: [UInt8] = []
    while all.count < count {
      let length = Int.random(in: 1...3000, using: &random)
      switch Int.random(in: 0..<4, using: &random) {
      case 0:
        all += [UInt8](repeating: .random(in: 0...255, using: &random), count: length)
      case 1 where !all.isEmpty:
        let from = Int.random(in: 0..<all.count, using: &random)
        all += all[from..<min(all.count, from + length)]
      default: all += randomBytes(length, using: &random)
      }
    }
    return Array(all.prefix(count))
  }

  @Test("cuts are where the slow model puts them", arguments: several, Seed.several)
  func model(chunker: Chunker, seed: Seed) {
    var random = seed.generator
    let all = Self.mixed(20_000, using: &random)
    var rest = all[...]
    var expected: [Int] = []
    while !rest.isEmpty {
      expected.append(Self.model(chunker, rest))
      rest = rest.dropFirst(expected.last!)
    }
    #expect(all.withUnsafeBytes { chunker.lengths(of: $0) } == expected)
  }

  /// One byte a step, as the yardstick of Benchmarks/compare/code does it.
  static func plain(_ chunker: Chunker, _ bytes: ArraySlice<UInt8>) -> Int {
    let bits = chunker.average.trailingZeroBitCount
    func mask(_ count: Int) -> UInt64 { ((1 << UInt64(count)) - 1) << UInt64(63 - count) }
    let (hard, easy) = (mask(bits + 2), mask(bits - 2))
    var hash: UInt64 = 0
    let limit = min(bytes.count, chunker.maximum)
    for place in min(limit, chunker.minimum - 64)..<limit {
      hash = hash << 1 &+ Chunker.gear[Int(bytes[bytes.startIndex + place])]
      let length = place + 1
      guard length >= chunker.minimum && length < chunker.maximum else { continue }
      if hash & (length < chunker.average * 25 / 32 ? hard : easy) == 0 { return length }
    }
    return min(bytes.count, chunker.maximum)
  }

  @Test(
    "two bytes a step cut where one byte a step does, at every alignment of the end",
    arguments: several + [.standard], Seed.several)
  func plain(chunker: Chunker, seed: Seed) {
    var random = seed.generator
    let most = chunker.maximum * 3
    let all =
      Bool.random(using: &random)
      ? Self.mixed(most, using: &random) : randomBytes(most, using: &random)
    for count in [most] + (0..<8).map({ chunker.minimum + chunker.average / 2 + $0 }) {
      var rest = all.prefix(count)
      var expected: [Int] = []
      while !rest.isEmpty {
        expected.append(Self.plain(chunker, rest))
        rest = rest.dropFirst(expected.last!)
      }
      #expect(
        all.withUnsafeBytes { chunker.lengths(of: UnsafeRawBufferPointer(rebasing: $0[..<count])) }
          == expected)
    }
  }

  @Test("chunks add up to the input and keep their bounds", arguments: several, Seed.several)
  func bounds(chunker: Chunker, seed: Seed) {
    var random = seed.generator
    for count in [0, 1, 63, 64, 65, chunker.minimum - 1, chunker.minimum, chunker.maximum, 50_000] {
      let all = Self.mixed(count, using: &random)
      let lengths = all.withUnsafeBytes { chunker.lengths(of: $0) }
      #expect(lengths.reduce(0, +) == count)
      #expect(lengths.dropLast().allSatisfy { chunker.minimum...chunker.maximum ~= $0 })
      if let last = lengths.last { #expect(1...chunker.maximum ~= last) }
    }
  }

  @Test(
    "cuts do not depend on how the bytes arrive, rescanned or not", arguments: several, Seed.several
  )
  func arrival(chunker: Chunker, seed: Seed) {
    var random = seed.generator
    let all = Self.mixed(20_000, using: &random)
    all.withUnsafeBytes { bytes in
      let expected = chunker.lengths(of: bytes)
      for remembers in [false, true] {
        var found: [Int] = []
        var (start, end, scanned) = (0, 0, 0)
        while start < bytes.count {
          let seen = UnsafeRawBufferPointer(rebasing: bytes[start..<end])
          // The end may show only after the last byte did.
          let isEnd = end == bytes.count && Bool.random(using: &random)
          if let length = chunker.cut(seen, scanned: remembers ? scanned : 0, isEnd: isEnd) {
            found.append(length)
            start += length
            scanned = 0
          } else {
            #expect(seen.count < chunker.maximum && !(isEnd && seen.count > 0))
            scanned = seen.count
            end = min(bytes.count, end + .random(in: 0...200, using: &random))
          }
        }
        #expect(found == expected)
      }
    }
  }

  @Test("no bytes are no chunk")
  func nothing() {
    let empty = UnsafeRawBufferPointer(start: nil, count: 0)
    #expect(Chunker.standard.cut(empty, isEnd: false) == nil)
    #expect(Chunker.standard.cut(empty, isEnd: true) == nil)
    #expect([UInt8]().withUnsafeBytes { Chunker.standard.lengths(of: $0) } == [])
  }

  @Test("bytes put in or taken out move only the cuts near them", arguments: Seed.several)
  func shifts(seed: Seed) {
    var random = seed.generator
    func chunks(_ all: [UInt8]) -> Set<Fingerprint> {
      var start = 0
      return Set(
        all.withUnsafeBytes { Self.small.lengths(of: $0) }.map { length in
          defer { start += length }
          return Fingerprint(of: Array(all[start..<start + length]))
        })
    }
    let all = randomBytes(200_000, using: &random)
    let before = chunks(all)
    for place in [0, 1, all.count / 2, all.count] {
      var changed = all
      changed.insert(contentsOf: randomBytes(1 + place % 7, using: &random), at: place)
      #expect(chunks(changed).intersection(before).count >= before.count - 12)
    }
    let shorter = Array(all.dropFirst(12_345))
    #expect(before.subtracting(chunks(shorter)).count <= 12_345 / 256 + 12)
  }

  @Test("a cut depends on the 64 bytes before it alone", arguments: Seed.several)
  func window(seed: Seed) {
    var random = seed.generator
    for _ in 0..<20 {
      var all = randomBytes(1024, using: &random)
      let length = all.withUnsafeBytes { Self.small.cut($0, isEnd: true)! }
      guard length < 1024 else { continue }
      for place in 0..<min(length - 64, 256 - 64) {
        all[place] = .random(in: 0...255, using: &random)
      }
      #expect(all.withUnsafeBytes { Self.small.cut($0, isEnd: true)! } == length)
    }
  }

  @Test("no run of one byte value is cut short of the maximum")
  func runs() {
    let most = Chunker.standard.maximum
    for value in UInt8.min...UInt8.max {
      // The hash of a run is the same everywhere, so its last places are enough to look at.
      let run = [UInt8](repeating: value, count: most)
      #expect(
        run.withUnsafeBytes { Chunker.standard.cut($0, scanned: most - 3, isEnd: true) } == most)
    }
    let zeros = [UInt8](repeating: 0, count: 300 << 10)
    #expect(
      zeros.withUnsafeBytes { Chunker.standard.lengths(of: $0) } == [
        128 << 10, 128 << 10, 44 << 10,
      ])
  }

  @Test("chunks of random bytes have the promised average")
  func average() {
    var random = SeededGenerator(seed: 21)
    let all = randomBytes(2 << 20, using: &random)
    let lengths = all.withUnsafeBytes { Self.small.lengths(of: $0) }
    let mean = Double(all.count) / Double(lengths.count)
    #expect((0.95 * 512...1.05 * 512).contains(mean))
    let longest = lengths.count { $0 == 1024 }
    #expect(Double(longest) < 0.02 * Double(lengths.count))
  }

  @Test("the table and the cuts of the standard chunker never change")
  func frozen() {
    let table = (0..<256).flatMap { byte in
      (0..<8).map { UInt8(truncatingIfNeeded: Chunker.gear[byte] >> UInt64(8 * $0)) }
    }
    #expect(Chunker.gear[0] == 121_522_975_897_107_957)
    #expect(Chunker.gear[255] == 15_985_300_876_679_339_847)
    #expect(CRC32C.checksum(table) == 4_046_183_799)
    for byte in 0..<256 { #expect(Chunker.gear[256 + byte] == Chunker.gear[byte] << 1) }

    var random = SeededGenerator(seed: 22)
    let all = randomBytes(2 << 20, using: &random)
    let lengths = all.withUnsafeBytes { Chunker.standard.lengths(of: $0) }
    #expect(
      lengths == [
        54408, 52319, 56390, 75455, 51411, 33738, 79110, 60510, 61857, 102315, 60787, 64446, 56006,
        58815, 103713, 75961, 82217, 73870, 38399, 69975, 62046, 57412, 65482, 61515, 69932, 40066,
        65787, 62022, 58379, 45979, 58461, 52846, 59675, 25848,
      ])
  }
}
