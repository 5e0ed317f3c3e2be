import Coding
import HTTP
import Messages
import Ring
import Service
import Simulation
import TestSupport
import Testing

@testable import Gateway

@Suite("objects in parts, as S3 has them")
struct PartTests {
  private static let least = Int(S3Service.leastPartByteCount)

  private func part(_ number: UInt32, _ byteCount: Int, _ text: String) -> ListParts.Part {
    ListParts.Part(
      part: NewPart(
        number: number, page: UInt64(number), byteCount: UInt64(byteCount),
        digest: RunningDigest.of(Array(text.utf8), .md5),
        checksum: RunningDigest.of(Array(text.utf8), .crc32)), identity: 1, modified: 2)
  }
  private func document(_ parts: [(UInt32, String)]) -> [UInt8] {
    let items = parts.map {
      "<Part><PartNumber>\($0)</PartNumber><ETag>&quot;\($1)&quot;</ETag></Part>"
    }
    return Array(
      "<CompleteMultipartUpload xmlns=\"x\">\(items.joined())</CompleteMultipartUpload>".utf8)
  }
  private func code(_ body: () throws(S3Error) -> some Any) -> S3Error.Code? {
    do throws(S3Error) {
      _ = try body()
      return nil
    } catch {
      return error.code
    }
  }

  @Test("a list of parts ascends, has one to 10,000 of them, and names no number out of range")
  func lists() throws {
    let read = try WantedPart.read(document([(1, "aa"), (10_000, "bb")]))
    #expect(read == [WantedPart(number: 1, etag: "aa"), WantedPart(number: 10_000, etag: "bb")])
    #expect(code { () throws(S3Error) in try WantedPart.read(document([])) } == .malformedXML)
    for wrong in [0, 10_001] as [UInt32] {
      #expect(
        code { () throws(S3Error) in try WantedPart.read(document([(wrong, "a")])) }
          == .malformedXML)
    }
    for order in [[(2, "a"), (1, "a")], [(1, "a"), (1, "a")]] as [[(UInt32, String)]] {
      #expect(
        code { () throws(S3Error) in try WantedPart.read(document(order)) } == .invalidPartOrder)
    }
    let most = (1...10_000).map { (UInt32($0), "a") }
    #expect(try WantedPart.read(document(most)).count == 10_000)
    // Half a million small elements are refused before they are a tree.
    let many = String(repeating: "<a/>", count: 500_000)
    #expect(
      code { () throws(S3Error) in
        try WantedPart.read(
          Array("<CompleteMultipartUpload>\(many)</CompleteMultipartUpload>".utf8))
      } == .malformedXML)
    #expect(throws: XMLTree.Malformed.self) {
      try XMLTree.read(Array("<Delete>\(many)</Delete>".utf8), root: "Delete", elementLimit: 8016)
    }
  }

  @Test("parts must be there, as named, and large enough but for the last")
  func choice() throws {
    let known: [UInt32: ListParts.Part] = [
      1: part(1, Self.least, "one"), 2: part(2, 7, "two"), 5: part(5, 9, "five"),
    ]
    func want(_ number: UInt32, _ text: String) -> WantedPart {
      WantedPart(number: number, etag: hexText(RunningDigest.of(Array(text.utf8), .md5)))
    }
    func choose(_ wanted: [WantedPart]) throws(S3Error) -> [UInt32] {
      try WantedPart.choose(wanted, known, nil).map(\.part.number)
    }
    #expect(try choose([want(1, "one"), want(5, "five")]) == [1, 5])
    #expect(
      code { () throws(S3Error) in try choose([want(1, "two")]) } == .invalidPart)
    #expect(code { () throws(S3Error) in try choose([want(3, "one")]) } == .invalidPart)
    #expect(
      code { () throws(S3Error) in try choose([want(2, "two"), want(5, "five")]) }
        == .entityTooSmall)
    let algorithm = PartFacts.Algorithm(name: "CRC32", kind: .crc32, isFull: true)
    var sum = want(5, "five")
    sum.checksums = ["CRC32": "AAAAAA=="]
    #expect(
      code { () throws(S3Error) in try WantedPart.choose([sum], known, algorithm) }
        == .invalidPart)
    sum.checksums = ["CRC32": Base64.encode(RunningDigest.of(Array("five".utf8), .crc32))]
    #expect(try WantedPart.choose([sum], known, algorithm).count == 1)
  }

  @Test("what is kept with an upload is there again, and ETag and checksum follow from the parts")
  func facts() throws {
    let texts = ["one", "two", "three"]
    let parts = texts.enumerated().map { part(UInt32($0 + 1), $1.utf8.count, $1) }
    for (isFull, checksum) in [
      (true, Base64.encode(RunningDigest.of(Array("onetwothree".utf8), .crc32))),
      (
        false,
        Base64.encode(
          RunningDigest.of(texts.flatMap { RunningDigest.of(Array($0.utf8), .crc32) }, .crc32))
          + "-3"
      ),
    ] {
      var facts = PartFacts(ObjectAttributes())
      facts.object.contentType = "a/b"
      facts.object.fields = [.init("x-amz-meta-k", "v")]
      facts.algorithm = PartFacts.Algorithm(name: "CRC32", kind: .crc32, isFull: isFull)
      let again = PartFacts(facts.attributes)
      #expect(again.algorithm == facts.algorithm)
      let attributes = try again.attributes(parts, upload: "u1")
      #expect(PartFacts.upload(of: attributes) == "u1")
      let object = ObjectFacts(attributes, contentName: "")
      let digest = RunningDigest.of(texts.flatMap { RunningDigest.of(Array($0.utf8), .md5) }, .md5)
      #expect(object.etag == hexText(digest) + "-3" && object.partCount == 3)
      #expect(object.contentType == "a/b" && object.fields == facts.object.fields)
      #expect(object.checksum?.value == checksum)
      // A copy comes from no upload.
      #expect(PartFacts.upload(of: object.attributes) == nil)
    }
    #expect(ObjectFacts(ObjectAttributes(), contentName: "abc").partCount == nil)
  }

  /// Answers in pieces with pauses, as one that takes long does.
  private final class Slow: HTTPHandler, @unchecked Sendable {
    // Loop-confined.
    func answer(_ exchange: HTTPExchange) async {
      exchange.beginStream(200, HTTPFields([.init("X", "a\r\nY: b\u{0}")]))
      for text in ["one", "", "two"] {
        try? await exchange.sendStream([Slice(copying: Array(text.utf8))])
        await exchange.driver.sleep(.seconds(5))
      }
      try? await exchange.endStream()
    }
    func refusal(status: Int, reason: String) -> (fields: HTTPFields, body: [UInt8]) {
      (HTTPFields(), [])
    }
  }

  @Test(
    "an answer of unknown length arrives whole, the connection stays, and no value begins a line")
  func stream() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let address = SocketAddress(host: "server", port: 80)
      let server = HTTPServer(driver: world.process("server"), handler: Slow())
      _ = try await server.start(on: address)
      let client = HTTPClient(
        driver: world.process("client"), endpoint: HTTPEndpoint(address: address, isSecure: false),
        trust: nil)
      for _ in 0..<2 {
        let answer = try await client.send(
          HTTPRequest("GET", "/", isRepeatable: true), deadline: .seconds(60))
        #expect(answer.body == Array("onetwo".utf8))
        #expect(answer.head.fields["X"] == "a  Y: b")
        #expect(answer.head.fields["Y"] == nil)
      }
      await client.close()
      await server.stop()
    }
  }
}
