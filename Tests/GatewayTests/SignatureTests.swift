import HTTP
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import Gateway

/// The examples that AWS publishes ("Authenticating Requests (AWS Signature Version 4)").
enum Published {
  static let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
  static let credential = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"
  static let now = Duration.seconds(1_369_353_600)

  struct Example: Sendable, CustomStringConvertible {
    var description: String
    var head: HTTPRequestHead
  }

  static func head(
    _ method: String, _ target: String, _ fields: [(String, String)], signed: String,
    signature: String, host: String = "examplebucket.s3.amazonaws.com"
  ) -> HTTPRequestHead {
    var lines = HTTPFields([.init("Host", host)])
    for (name, value) in fields { lines.add(name, value) }
    lines.add(
      "Authorization",
      "AWS4-HMAC-SHA256 Credential=\(credential),SignedHeaders=\(signed),Signature=\(signature)")
    return HTTPRequestHead(method: method, target: target, fields: lines)
  }

  static let examples: [Example] = [
    Example(
      description: "GET with a range",
      head: head(
        "GET", "/test.txt",
        [
          ("Range", "bytes=0-9"), ("x-amz-content-sha256", SignatureV4.emptyDigest),
          ("x-amz-date", "20130524T000000Z"),
        ], signed: "host;range;x-amz-content-sha256;x-amz-date",
        signature: "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")),
    Example(
      description: "PUT of a name with a dollar",
      head: head(
        "PUT", "/test$file.text",
        [
          ("Date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-date", "20130524T000000Z"),
          ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
          (
            "x-amz-content-sha256",
            "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
          ),
        ], signed: "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        signature: "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd")),
    Example(
      description: "GET of a sub-resource",
      head: head(
        "GET", "/?lifecycle",
        [
          ("x-amz-date", "20130524T000000Z"), ("x-amz-content-sha256", SignatureV4.emptyDigest),
        ], signed: "host;x-amz-content-sha256;x-amz-date",
        signature: "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")),
    Example(
      description: "GET of a list",
      head: head(
        "GET", "/?max-keys=2&prefix=J",
        [
          ("x-amz-date", "20130524T000000Z"), ("x-amz-content-sha256", SignatureV4.emptyDigest),
        ], signed: "host;x-amz-content-sha256;x-amz-date",
        signature: "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")),
    Example(
      description: "presigned GET",
      head: HTTPRequestHead(
        method: "GET",
        target:
          "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
        fields: HTTPFields([.init("Host", "examplebucket.s3.amazonaws.com")]))),
  ]

  static let pieces = head(
    "PUT", "/examplebucket/chunkObject.txt",
    [
      ("x-amz-date", "20130524T000000Z"), ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
      ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
      ("Content-Encoding", "aws-chunked"), ("x-amz-decoded-content-length", "66560"),
      ("Content-Length", "66824"),
    ],
    signed:
      "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
    signature: "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    host: "s3.amazonaws.com")
}

/// Bytes that come in pieces of any size.
final class BytesPull: BytePull, @unchecked Sendable {
  // Confined to its test.
  private var rest: ArraySlice<UInt8>
  private let most: Int
  init(_ bytes: [UInt8], most: Int = .max) {
    rest = bytes[...]
    self.most = most
  }
  func read(into slice: Slice) async throws(HTTPError) -> Int {
    let piece = rest.prefix(min(slice.count, most))
    slice.withMutableBytes { $0.copyBytes(from: piece) }
    rest = rest.dropFirst(piece.count)
    return piece.count
  }
}

@Suite("Signature Version 4")
struct SignatureTests {
  @Test("what AWS published is believed", arguments: Published.examples)
  func published(example: Published.Example) throws {
    let request = try S3Request(example.head, domain: "s3.amazonaws.com")
    let claim = try #require(try SignedClaim(request))
    _ = try claim.verify(request, secret: Published.secret)
    try claim.checkTime(Published.now)
    #expect(throws: S3Error.self) { try claim.verify(request, secret: Published.secret + "x") }
    #expect(throws: S3Error.self) { try claim.checkTime(Published.now + .seconds(86401)) }
    var other = request
    other.pathBytes.append(UInt8(ascii: "x"))
    #expect(throws: S3Error.self) { try claim.verify(other, secret: Published.secret) }
  }

  private static func read(_ bytes: [UInt8], most: Int, key: [UInt8], _ claim: SignedClaim)
    async throws -> [UInt8]
  {
    let pool = BufferPool(retainedByteLimit: 0)
    let payload = ChunkedPayload(
      BytesPull(bytes, most: most),
      signing: PieceSigning(
        key: key, previous: claim.signature, date: claim.date, scope: claim.scope.text),
      hasTrailer: false, pool: pool)
    var found: [UInt8] = []
    let slice = pool.slice(3000)
    while true {
      let count = try await payload.read(into: slice)
      if count == 0 { return found }
      found += slice[0..<count].array
    }
  }

  @Test(
    "pieces signed one by one: as published, however they come; none may differ by a bit",
    arguments: [1, 7, 4096, 100_000])
  func pieces(most: Int) async throws {
    let request = try S3Request(Published.pieces, domain: "")
    let claim = try #require(try SignedClaim(request))
    let key = try claim.verify(request, secret: Published.secret)
    let content = [UInt8](repeating: UInt8(ascii: "a"), count: 66560)
    let body =
      Array(
        "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
          .utf8) + content[..<65536]
      + Array(
        "\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n"
          .utf8) + content[..<1024]
      + Array(
        "\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
          .utf8)
    #expect(body.count == 66824)
    #expect(try await Self.read(body, most: most, key: key, claim) == content)
    guard most > 100 else { return }
    for place in [0, 30, 100, 50_000, 65_630, 65_700, 66_700, body.count - 1] {
      var changed = body
      changed[place] ^= 1
      await #expect(throws: ChunkedPayload.Failure.self) {
        try await Self.read(changed, most: most, key: key, claim)
      }
    }
    await #expect(throws: ChunkedPayload.Failure.self) {
      try await Self.read(Array(body.dropLast(2)), most: most, key: key, claim)
    }
    await #expect(throws: ChunkedPayload.Failure.self) {
      try await Self.read(body + [1], most: most, key: key, claim)
    }
  }

  @Test("Version 2 is told from none, and refused")
  func versionTwo() throws {
    let fields = HTTPFields([.init("Host", "h"), .init("Authorization", "AWS key:signature")])
    let header = HTTPRequestHead(method: "GET", target: "/b/k", fields: fields)
    let query = HTTPRequestHead(
      method: "GET", target: "/b/k?AWSAccessKeyId=a&Signature=b&Expires=1",
      fields: HTTPFields([.init("Host", "h")]))
    for head in [header, query] {
      let error = #expect(throws: S3Error.self) {
        try SignedClaim(try S3Request(head, domain: ""))
      }
      #expect(error?.code == .invalidRequest)
      #expect(error?.message.contains("AWS4-HMAC-SHA256") == true)
    }
  }
}
