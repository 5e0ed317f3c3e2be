import Coding
import TestSupport
import Testing

@Suite("digests that clients of S3 ask for")
struct RunningDigestTests {
  @Test(
    "the check values of each standard",
    arguments: [
      (RunningDigest.Kind.md5, "25f9e794323b453885f5181f1b624d0b"),
      (.sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
      (.sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
      (.crc32, "cbf43926"), (.crc32c, "e3069283"), (.crc64nvme, "ae8b14860a799888"),
    ])
  func checkValues(kind: RunningDigest.Kind, wanted: String) {
    let found = RunningDigest.of(Array("123456789".utf8), kind)
    #expect(found.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() == wanted)
    #expect(found.count == kind.byteCount)
  }

  @Test("bytes in pieces of any size give what they give at once", arguments: Seed.several)
  func pieces(seed: Seed) {
    var random = seed.generator
    for kind in RunningDigest.Kind.allCases {
      let bytes = random.bytes(Int.random(in: 0...5000, using: &random))
      let digest = RunningDigest(kind)
      var rest = bytes[...]
      while !rest.isEmpty {
        let piece = rest.prefix(Int.random(in: 1...500, using: &random))
        digest.update(Array(piece))
        rest = rest.dropFirst(piece.count)
      }
      #expect(digest.finish() == RunningDigest.of(bytes, kind))
    }
  }
}
