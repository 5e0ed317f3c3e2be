import TestSupport
import Testing

@testable import Coding

@Suite struct CompressionTests {
  /// One way to compress and its reader, with contexts that are used again for each call.
  enum Method: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case zstd1, zstd3, zstd19, zstdFast, lz4, lz4Fast, lz4HC, xz0, xz6
    var testDescription: String { rawValue }
  }

  /// ~Copyable contexts behind one door.
  final class Codec {
    private enum Kind { case zstd, lz4, xz }
    private let kind: Kind
    private var zstd: ZstdCompressor
    private var unzstd = ZstdDecompressor()
    private var lz4: LZ4Compressor
    private var xz: XZCompressor
    private var unxz = XZDecompressor()

    init(_ method: Method) {
      let level =
        switch method {
        case .zstd1: 1
        case .zstd3: 3
        case .zstd19: 19
        case .zstdFast: -5
        case .lz4: 1
        case .lz4Fast: -8
        case .lz4HC: 9
        case .xz0: 0
        case .xz6: 6
        }
      kind =
        switch method {
        case .zstd1, .zstd3, .zstd19, .zstdFast: .zstd
        case .lz4, .lz4Fast, .lz4HC: .lz4
        case .xz0, .xz6: .xz
        }
      zstd = ZstdCompressor(level: kind == .zstd ? level : 1)
      lz4 = LZ4Compressor(level: kind == .lz4 ? level : 1)
      xz = XZCompressor(level: kind == .xz ? level : 0)
    }

    func bound(_ count: Int) -> Int {
      switch kind {
      case .zstd: Zstd.bound(count)
      case .lz4: LZ4.bound(count)
      case .xz: XZ.bound(count)
      }
    }

    /// Into memory of `capacity` bytes, whose surroundings must stay as they are.
    func compress(_ source: [UInt8], capacity: Int) -> [UInt8]? {
      let memory = Memory(blockCount: 1, byteCount: capacity)
      let target = UnsafeMutableRawBufferPointer(start: memory[0], count: capacity)
      let count = source.withUnsafeBytes { source in
        switch kind {
        case .zstd: zstd.compress(source, into: target)
        case .lz4: lz4.compress(source, into: target)
        case .xz: xz.compress(source, into: target)
        }
      }
      #expect(memory.gapsAreIntact)
      return count.map { Array(memory.block(0).prefix($0)) }
    }

    func decompress(_ bytes: [UInt8], capacity: Int) throws -> [UInt8] {
      let memory = Memory(blockCount: 1, byteCount: capacity)
      let target = UnsafeMutableRawBufferPointer(start: memory[0], count: capacity)
      defer { #expect(memory.gapsAreIntact) }
      let count = try bytes.withUnsafeBytes { bytes in
        switch kind {
        case .zstd: try unzstd.decompress(bytes, into: target)
        case .lz4: try LZ4.decompress(bytes, into: target)
        case .xz: try unxz.decompress(bytes, into: target)
        }
      }
      return Array(memory.block(0).prefix(count))
    }
  }

  static func contents(using random: inout SeededGenerator) -> [[UInt8]] {
    let sizes = [0, 1, 2, 12, 13, 100, 4096, 65_536, Int.random(in: 0...300_000, using: &random)]
    return sizes.flatMap { size in
      [
        randomBytes(size, using: &random), [UInt8](repeating: 7, count: size),
        ChunkerTests.mixed(size, using: &random),
      ]
    }
  }

  @Test(
    "what was compressed comes back, whatever it is and whatever the contexts did before",
    arguments: Method.allCases, Seed.several)
  func roundTrip(method: Method, seed: Seed) throws {
    var random = seed.generator
    let codec = Codec(method)
    for content in Self.contents(using: &random).shuffled(using: &random) {
      let small = try #require(codec.compress(content, capacity: codec.bound(content.count)))
      #expect(try codec.decompress(small, capacity: content.count) == content)
      #expect(try codec.decompress(small, capacity: content.count + 100) == content)
    }
  }

  @Test(
    "a target too short gives nil or an error, and the next call is as good as the first",
    arguments: Method.allCases, Seed.several)
  func bounds(method: Method, seed: Seed) throws {
    var random = seed.generator
    let codec = Codec(method)
    for content in Self.contents(using: &random) where content.count > 12 {
      let small = try #require(codec.compress(content, capacity: codec.bound(content.count)))
      for capacity in [0, 1, small.count / 2] where capacity < small.count {
        #expect(codec.compress(content, capacity: capacity) == nil)
      }
      #expect(codec.compress(content, capacity: codec.bound(content.count)) == small)
      for capacity in [0, 1, content.count / 2, content.count - 1] {
        #expect(throws: CodingError.self) { try codec.decompress(small, capacity: capacity) }
      }
      #expect(try codec.decompress(small, capacity: content.count) == content)
    }
  }

  @Test(
    "damaged, cut and lengthened bytes never trap nor write outside", arguments: Method.allCases,
    Seed.several)
  func damage(method: Method, seed: Seed) throws {
    var random = seed.generator
    let codec = Codec(method)
    for size in [0, 1, 200, 5000, 40_000] {
      let content = ChunkerTests.mixed(size, using: &random)
      let small = try #require(codec.compress(content, capacity: codec.bound(size)))
      for _ in 0..<60 {
        var wrong = small
        for _ in 0..<Int.random(in: 1...3, using: &random) {
          let place = Int.random(in: 0..<min(wrong.count, 64), using: &random)
          wrong[Bool.random(using: &random) ? place : wrong.count - 1 - place] ^=
            1 << UInt8.random(in: 0..<8, using: &random)
        }
        if let found = try? codec.decompress(wrong, capacity: size) { #expect(found.count <= size) }
        let cut = Array(small.prefix(.random(in: 0..<small.count, using: &random)))
        if let found = try? codec.decompress(cut, capacity: size) { #expect(found != content) }
        let noise = randomBytes(Int.random(in: 0...300, using: &random), using: &random)
        _ = try? codec.decompress(noise, capacity: size)
      }
      #expect(try codec.decompress(small, capacity: size) == content)
    }
  }

  @Test(
    "more than one frame is refused", arguments: [Method.zstd3, .xz0])
  func trailing(method: Method) throws {
    let codec = Codec(method)
    let small = try #require(codec.compress(Array("hello".utf8), capacity: 200))
    #expect(throws: CodingError.damaged) { try codec.decompress(small + [0], capacity: 100) }
    #expect(throws: CodingError.damaged) { try codec.decompress(small + small, capacity: 100) }
    #expect(throws: CodingError.damaged) { try codec.decompress([], capacity: 100) }
  }

  @Test("frames made elsewhere are read")
  func foreign() throws {
    // RFC 8878: one raw block. LZ4: five literals. xz 5.4's own, with CRC64.
    let frames: [(Method, String)] = [
      (.zstd3, "28b52ffd 2005 290000 68656c6c6f"),
      (.lz4, "50 68656c6c6f"),
      (
        .xz0,
        "fd377a585a000004e6d6b446020021010c0000008f98419c01000468656c6c6f00000000b137b9dbe5da1e9b00011d05b82d80af1fb6f37d010000000004595a"
      ),
    ]
    for (method, hex) in frames {
      #expect(try Codec(method).decompress(bytes(hex), capacity: 5) == Array("hello".utf8))
    }
    var wrong = bytes(frames[2].1)
    wrong[wrong.count / 2 - 12] ^= 1
    #expect(throws: CodingError.damaged) { try Codec(.xz0).decompress(wrong, capacity: 5) }
  }

  @Test("a claimed length over the limit is refused before anything is done for it")
  func claims() throws {
    // A frame header alone: 2^40 bytes of content.
    let huge = bytes("28b52ffd e0 0000000000010000")
    huge.withUnsafeBytes { frame in
      #expect(throws: CodingError.tooLarge(claimed: 1 << 40, limit: 1 << 20)) {
        try Zstd.contentByteCount(of: frame, limit: 1 << 20)
      }
      #expect(throws: Never.self) { try Zstd.contentByteCount(of: frame, limit: 1 << 40) }
    }
    #expect(throws: CodingError.tooLarge(claimed: 1 << 40, limit: 77)) {
      try Codec(.zstd3).decompress(huge, capacity: 77)
    }
    // No length; a frame to be skipped; less than a header.
    for text in ["28b52ffd 0058 290000 68656c6c6f", "502a4d18 00000000", "28b52f", ""] {
      _ = bytes(text).withUnsafeBytes { frame in
        #expect(throws: CodingError.damaged) { try Zstd.contentByteCount(of: frame, limit: 100) }
      }
    }
  }

  @Test("an xz stream that wants more memory than allowed is refused")
  func xzMemory() throws {
    var random = SeededGenerator(seed: 31)
    let content = ChunkerTests.mixed(3 << 20, using: &random)
    var compressor = XZCompressor(level: 6)
    var small = [UInt8](repeating: 0, count: XZ.bound(content.count))
    let count = try #require(
      content.withUnsafeBytes { content in
        small.withUnsafeMutableBytes { compressor.compress(content, into: $0) }
      })
    small.removeLast(small.count - count)
    var target = [UInt8](repeating: 0, count: content.count)
    func read(memoryLimit: Int) throws -> Int {
      var decompressor = XZDecompressor(memoryLimit: memoryLimit)
      return try small.withUnsafeBytes { small in
        try target.withUnsafeMutableBytes { target in
          try decompressor.decompress(small, into: target)
        }
      }
    }
    let error = #expect(throws: CodingError.self) { try read(memoryLimit: 1 << 20) }
    guard case .tooLarge(let claimed, 1 << 20) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect((3 << 20...5 << 20).contains(claimed))
    #expect(try read(memoryLimit: 5 << 20) == content.count)
    #expect(target == content)
  }

  @Test(
    "zstd refers to a prefix and to a dictionary, and needs them again", arguments: Seed.several)
  func references(seed: Seed) throws {
    var random = seed.generator
    let before = randomBytes(50_000, using: &random)
    var content = before
    for _ in 0..<20 {
      content[.random(in: 0..<content.count, using: &random)] = .random(in: 0...255, using: &random)
    }
    before.withUnsafeBytes { before in
      let dictionary = Zstd.Dictionary(before, level: 3)
      for usesPrefix in [true, false] {
        func makeCompressor() -> ZstdCompressor {
          if usesPrefix { return ZstdCompressor(level: 3) }
          return ZstdCompressor(dictionary: dictionary)
        }
        var compressor = makeCompressor()
        var decompressor = ZstdDecompressor(dictionary: usesPrefix ? nil : dictionary)
        let prefix = usesPrefix ? before : .empty
        // Twice: a prefix counts once, and is not left behind.
        for _ in 0..<2 {
          var small = [UInt8](repeating: 0, count: Zstd.bound(content.count))
          let count = content.withUnsafeBytes { content in
            small.withUnsafeMutableBytes {
              compressor.compress(content, into: $0, prefix: prefix)
            }
          }
          guard let count else {
            Issue.record("did not fit")
            return
          }
          #expect(count < 2000)
          small.removeLast(small.count - count)
          var target = [UInt8](repeating: 0, count: content.count)
          let found = small.withUnsafeBytes { small in
            target.withUnsafeMutableBytes { target in
              try? decompressor.decompress(small, into: target, prefix: prefix)
            }
          }
          #expect(found == content.count && target == content)
          var bare = ZstdDecompressor()
          let unaided = small.withUnsafeBytes { small in
            target.withUnsafeMutableBytes { target in
              try? bare.decompress(small, into: target)
            }
          }
          #expect(unaided == nil)
        }
      }
    }
  }
}
