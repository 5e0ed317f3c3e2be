import TestSupport
import Testing

@testable import Coding

@Suite struct ParallelDigestTests {
  @Test(
    "pieces hashed together have the digests they have alone, whatever their number and sizes",
    arguments: Seed.several)
  func together(seed: Seed) {
    var random = seed.generator
    for round in 0..<200 {
      let limit = [1, 70, 130, 300, 5000][round % 5]
      let pieces = (0..<Int.random(in: 0...7, using: &random)).map { _ in
        randomBytes(Int.random(in: 0...limit, using: &random), using: &random)
      }
      #expect(digests(of: pieces) == pieces.map { Fingerprint(of: $0) })
    }
  }

  @Test("every length around the padding's edges is right beside every other")
  func edges() {
    let lengths = [0, 1, 54, 55, 56, 57, 63, 64, 65, 118, 119, 120, 121, 127, 128, 129, 192]
    for first in lengths {
      for second in lengths {
        let pieces = [first, second, first].map { count in
          (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ count) }
        }
        #expect(digests(of: pieces) == pieces.map { Fingerprint(of: $0) })
      }
    }
  }

  @Test("published vectors hold for pieces hashed together")
  func vectors() {
    let texts = FingerprintTests.published
    #expect(digests(of: texts.map { Array($0.text.utf8) }).map(\.hex) == texts.map(\.hex))
  }

  /// By way of the C code where the processor allows it.
  private func digests(of pieces: [[UInt8]]) -> [Fingerprint] {
    // One run of memory, so that all pieces lie still at once.
    let joined = pieces.flatMap { $0 }
    return joined.withUnsafeBytes { all in
      var start = 0
      let views = pieces.map { piece in
        defer { start += piece.count }
        return piece.isEmpty
          ? UnsafeRawBufferPointer(start: nil, count: 0)
          : UnsafeRawBufferPointer(rebasing: all[start..<start + piece.count])
      }
      return Fingerprint.hasParallelHashing
        ? Fingerprint.hashTogether(views) : Fingerprint.of(views)
    }
  }
}
