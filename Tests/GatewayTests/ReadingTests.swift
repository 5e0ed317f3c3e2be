import HTTP
import Messages
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

  @Test(
    "documents of settings are read or refused whatever is wrong with them", arguments: Seed.several
  )
  func settings(seed: Seed) throws {
    var random = seed.generator
    let lifecycle = Array(
      "<LifecycleConfiguration><Rule><ID>x</ID><Filter><And><Prefix>a/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></And></Filter><Status>Enabled</Status><Expiration><Days>3</Days></Expiration><NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays></NoncurrentVersionExpiration></Rule></LifecycleConfiguration>"
        .utf8)
    let cors = Array(
      "<CORSConfiguration><CORSRule><AllowedOrigin>https://*.a</AllowedOrigin><AllowedMethod>GET</AllowedMethod><AllowedHeader>*</AllowedHeader><MaxAgeSeconds>5</MaxAgeSeconds></CORSRule></CORSConfiguration>"
        .utf8)
    let tags = Array(
      "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>".utf8)
    let lock = Array(
      "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Years>3</Years></DefaultRetention></Rule></ObjectLockConfiguration>"
        .utf8)
    // What is read is written, and read again as the same.
    let rules = try S3Lifecycle.read(lifecycle)
    #expect(try S3Lifecycle.read(S3Lifecycle.write(rules)) == rules)
    let origins = try S3CORS(document: cors)
    #expect(try S3CORS(document: origins.document) == origins)
    #expect(origins.rule(origin: "https://b.a", method: "GET", headers: ["x"]) != nil)
    #expect(origins.rule(origin: "https://b.c", method: "GET") == nil)
    #expect(try S3Tags(document: tags, limit: 10).pairs == [.init(key: "a", value: "b")])
    #expect(try S3Lock.readBucket(lock) == BucketLock(mode: .governance, days: 1095))
    for _ in 0..<1000 {
      if let found = try? S3Lifecycle.read(Self.mutated(lifecycle, &random)) {
        #expect(try S3Lifecycle.read(S3Lifecycle.write(found)) == found)
      }
      if let found = try? S3CORS(document: Self.mutated(cors, &random)) {
        #expect(try S3CORS(document: found.document) == found)
      }
      _ = try? S3Tags(document: Self.mutated(tags, &random), limit: 10)
      _ = try? S3Tags(
        header: String(decoding: Self.mutated(Array("a=b&c=%20".utf8), &random), as: UTF8.self))
      _ = try? S3Lock.readBucket(Self.mutated(lock, &random))
      _ = VersionName(
        text: String(
          decoding: Self.mutated(Array(VersionName.identity(9).text!.utf8), &random), as: UTF8.self)
      )
    }
  }
}
