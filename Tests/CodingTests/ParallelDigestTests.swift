import TestSupport
import Testing

@testable import Coding

@Suite struct ParallelDigestTests {
  @Test(
    "pieces hashed together have the digests they have alone, whatever their number and sizes",
    arguments: HashKernel.available, Seed.several)
  func together(kernel: HashKernel, seed: Seed) {
    var random = seed.generator
    for round in 0..<200 {
      let limit = [1, 70, 130, 300, 5000][round % 5]
      let most = [7, 40][round % 2]
      let pieces = (0..<Int.random(in: 0...most, using: &random)).map { _ in
        randomBytes(Int.random(in: 0...limit, using: &random), using: &random)
      }
      #expect(digests(of: pieces, by: kernel) == pieces.map { Fingerprint(of: $0) })
    }
  }

  @Test(
    "every length up to 1,024 is right, in order, backwards and shuffled",
    arguments: HashKernel.available, Seed.several)
  func everyLength(kernel: HashKernel, seed: Seed) {
    var random = seed.generator
    let pieces = (0...1024).map { randomBytes($0, using: &random) }
    let expected = pieces.map { Fingerprint(of: $0) }
    #expect(digests(of: pieces, by: kernel) == expected)
    #expect(digests(of: pieces.reversed(), by: kernel) == expected.reversed())
    let order = pieces.indices.shuffled(using: &random)
    #expect(digests(of: order.map { pieces[$0] }, by: kernel) == order.map { expected[$0] })
    // Each length in every lane of a full set.
    for length in stride(from: 0, through: 1024, by: 41) {
      let same = [[UInt8]](repeating: pieces[length], count: 17)
      #expect(
        digests(of: same, by: kernel)
          == [Fingerprint](repeating: expected[length], count: 17))
    }
  }

  @Test(
    "large pieces are right beside small ones", arguments: HashKernel.available, Seed.several)
  func large(kernel: HashKernel, seed: Seed) {
    var random = seed.generator
    let pieces = (0..<24).map { place in
      randomBytes(
        .random(in: place % 3 == 0 ? 0...200 : 30_000...400_000, using: &random), using: &random)
    }
    #expect(digests(of: pieces, by: kernel) == pieces.map { Fingerprint(of: $0) })
  }

  @Test(
    "every length around the padding's edges is right beside every other",
    arguments: HashKernel.available)
  func edges(kernel: HashKernel) {
    let lengths = [0, 1, 54, 55, 56, 57, 63, 64, 65, 118, 119, 120, 121, 127, 128, 129, 192]
    for first in lengths {
      for second in lengths {
        let pieces = [first, second, first].map { count in
          (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ count) }
        }
        #expect(digests(of: pieces, by: kernel) == pieces.map { Fingerprint(of: $0) })
      }
    }
  }

  @Test("published vectors hold for pieces hashed together", arguments: HashKernel.available)
  func vectors(kernel: HashKernel) {
    let texts = FingerprintTests.published
    #expect(
      digests(of: texts.map { Array($0.text.utf8) }, by: kernel).map(\.hex) == texts.map(\.hex))
  }

  @Test("OpenSSL is always there, and what the features say is")
  func available() {
    #expect(HashKernel.available.first == .openSSL)
    #expect(HashKernel.available.contains(.byFeatures))
    #expect(HashKernel.available.contains(.current))
  }

  @Test("a clock that stands still changes nothing")
  func still() {
    #expect(HashKernel.fastest(of: HashKernel.available) { .zero } == .byFeatures)
  }

  @Test(
    "the one that takes the least time is chosen, one that is hardly faster is not",
    arguments: HashKernel.available)
  func fastest(winner: HashKernel) {
    /// The time that each kernel in turn is made to take.
    func choice(_ time: (HashKernel) -> Duration) -> HashKernel {
      var (reading, calls) = (Duration.zero, 0)
      return HashKernel.fastest(of: HashKernel.available) {
        defer { calls += 1 }
        if calls % 2 == 1 {
          reading += time(HashKernel.available[calls / 2 % HashKernel.available.count])
        }
        return reading
      }
    }
    #expect(choice { $0 == winner ? .microseconds(50) : .microseconds(100) } == winner)
    #expect(choice { $0 == winner ? .microseconds(97) : .microseconds(100) } == .byFeatures)
  }

  private func digests(of pieces: [[UInt8]], by kernel: HashKernel) -> [Fingerprint] {
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
      return Fingerprint.of(views, by: kernel)
    }
  }
}
