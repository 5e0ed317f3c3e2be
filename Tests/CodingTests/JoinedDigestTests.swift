import Coding
import TestSupport
import Testing

@Suite("Checksums of parts put together")
struct JoinedDigestTests {
  @Test("the checksum of all follows from those of its parts", arguments: Seed.several)
  func joined(seed: Seed) {
    var random = seed.generator
    for kind in RunningDigest.Kind.allCases where kind.isJoinable {
      for _ in 0..<50 {
        let first = random.bytes(Int.random(in: 0..<3000, using: &random))
        let second = random.bytes(Int.random(in: 0..<3000, using: &random))
        #expect(
          kind.joined(
            RunningDigest.of(first, kind), RunningDigest.of(second, kind),
            secondByteCount: UInt64(second.count)) == RunningDigest.of(first + second, kind))
      }
    }
    #expect(RunningDigest.Kind.allCases.filter(\.isJoinable) == [.crc32, .crc32c, .crc64nvme])
  }
}
