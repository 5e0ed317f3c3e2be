import HTTP
import TestSupport
import Testing

@testable import Gateway

@Suite("what clients of S3 write")
struct ReadingTests {
  @Test("byte ranges as HTTP has them; what is none is passed over")
  func ranges() {
    #expect(ByteRange("bytes=0-9") == .closed(0, 9))
    #expect(ByteRange("bytes=5-") == .from(5))
    #expect(ByteRange("bytes=-5") == .last(5))
    for text in [
      "bytes=5-4", "bytes=-", "bytes=a-b", "bytes=0-1,3-4", "lines=1-2", "", "bytes=+1-2",
    ] {
      #expect(ByteRange(text) == nil, "\(text)")
    }
    #expect(ByteRange.closed(0, 9).resolve(5) == 0..<5)
    #expect(ByteRange.closed(5, 9).resolve(5) == nil)
    #expect(ByteRange.last(9).resolve(5) == 0..<5)
    #expect(ByteRange.last(0).resolve(5) == nil)
    #expect(ByteRange("bytes=99999999999999999999-")?.resolve(5) == nil)
    #expect(ByteRange("bytes=0-99999999999999999999")?.resolve(5) == 0..<5)
  }

  @Test("percent coding goes there and back, for all bytes")
  func coding() {
    let all = Array(UInt8.min...UInt8.max)
    #expect(URLCoding.decode(URLCoding.encode(all).utf8) == all)
    #expect(URLCoding.encode(Array("a/b c+é".utf8), keepingSlash: true) == "a/b%20c%2B%C3%A9")
    for text in ["%", "%1", "%zz", "a%2"] { #expect(URLCoding.decode(text.utf8) == nil) }
  }

  @Test("a document type, another root, too deep a tree and bytes after the end are refused")
  func xml() throws {
    let good = try XMLTree.read(
      Array(
        "<Delete xmlns=\"x\"><Object><Key>a&amp;b</Key></Object><Quiet>true</Quiet></Delete>".utf8),
      root: "Delete")
    #expect(good.all("Object").first?.value("Key") == "a&b")
    #expect(good.value("Quiet") == "true")
    let deep = String(repeating: "<Delete>", count: 40) + String(repeating: "</Delete>", count: 40)
    for text in [
      "", "<Delete>", "<Other/>", "<Delete/><Delete/>", deep,
      "<!DOCTYPE Delete [<!ENTITY a \"b\">]><Delete>&a;</Delete>", "<Delete>&lt",
      "<Delete>\u{0}</Delete>",
    ] {
      #expect(throws: XMLTree.Malformed.self) {
        try XMLTree.read(Array(text.utf8), root: "Delete")
      }
    }
  }

  @Test(
    "no mutation of a document, a head or a signature makes a reader trap", arguments: Seed.several)
  func mutations(seed: Seed) throws {
    var random = seed.generator
    let document = Array(
      "<?xml version=\"1.0\"?><Delete><Object><Key>some key</Key></Object><Quiet>true</Quiet></Delete>"
        .utf8)
    let heads = Published.examples.map(\.head.encoded) + [Published.pieces.encoded]
    for _ in 0..<2000 {
      _ = try? XMLTree.read(Self.mutated(document, &random), root: "Delete")
      let head = Self.mutated(heads[Int.random(in: heads.indices, using: &random)], &random)
      guard let parsed = try? HTTPHeadParser.request(head[...]),
        let request = try? S3Request(parsed, domain: "s3.amazonaws.com")
      else { continue }
      _ = try? BodyClaims(request)
      _ = try? ObjectFacts(request, now: 0)
      guard let claim = try? SignedClaim(request) else { continue }
      // One that still verifies says the same as before.
      if (try? claim.verify(request, secret: Published.secret)) != nil {
        #expect(
          (Published.examples.map(\.head) + [Published.pieces]).contains {
            (try? S3Request($0, domain: "s3.amazonaws.com"))?.pathBytes == request.pathBytes
          })
      }
    }
  }

  private static func mutated(_ bytes: [UInt8], _ random: inout some RandomNumberGenerator)
    -> [UInt8]
  {
    var bytes = bytes
    for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
      let place = Int.random(in: bytes.indices, using: &random)
      switch Int.random(in: 0..<4, using: &random) {
      case 0: bytes[place] = UInt8.random(in: .min ... .max, using: &random)
      case 1: bytes.remove(at: place)
      case 2: bytes.insert(UInt8.random(in: .min ... .max, using: &random), at: place)
      default: bytes.removeSubrange(place..<min(bytes.count, place + 9))
      }
    }
    return bytes
  }
}
