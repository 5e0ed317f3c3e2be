import TestSupport
import Testing

@testable import HTTP

private let tokenBytes = Array("!#$%&'*+-.^_`|~0aZ9bC".utf8)

extension SeededGenerator {
  fileprivate mutating func token() -> String {
    let count = Int.random(in: 1...12, using: &self)
    return String(
      decoding: (0..<count).map { _ in tokenBytes.randomElement(using: &self)! }, as: UTF8.self)
  }
  fileprivate mutating func content() -> String {
    let letters = Array("ab:;,= \t\"äß日€0~")
    let count = Int.random(in: 0...30, using: &self)
    let text = String((0..<count).map { _ in letters.randomElement(using: &self)! })
    return String(text[...].trimmed)
  }
  fileprivate mutating func fields() -> HTTPFields {
    HTTPFields(
      (0..<Int.random(in: 0...8, using: &self)).map { _ in HTTPFields.Line(token(), content()) })
  }
}

@Suite("HTTP heads")
struct HeadParserTests {
  @Test("what is written is read back, and no part of it is a head", arguments: Seed.several)
  func roundTrip(seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<300 {
      let request = HTTPRequestHead(
        method: random.token(), target: "/" + random.token(),
        minorVersion: UInt8.random(in: 0...1, using: &random), fields: random.fields())
      let response = HTTPResponseHead(
        status: Int.random(in: 100...999, using: &random), reason: random.content(),
        minorVersion: UInt8.random(in: 0...1, using: &random), fields: random.fields())
      #expect(try HTTPHeadParser.request(request.encoded[...]) == request)
      #expect(try HTTPHeadParser.response(response.encoded[...]) == response)
      let bytes = request.encoded
      let searched = Int.random(in: 0..<bytes.count, using: &random)
      #expect(HTTPHeadParser.end(of: bytes[...]) == bytes.count)
      #expect(HTTPHeadParser.end(of: bytes[..<searched]) == nil)
      #expect(HTTPHeadParser.end(of: (bytes + [1, 2])[...], searched: searched) == bytes.count)
    }
  }

  @Test(
    "damaged heads are refused, or are what they say when written again", arguments: Seed.several)
  func damaged(seed: Seed) {
    var random = seed.generator
    let special = Array("\r\n :\t\0\u{7F}Ht/1.".utf8)
    for _ in 0..<3000 {
      var bytes = HTTPRequestHead(
        method: random.token(), target: "/" + random.token(), fields: random.fields()
      ).encoded
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let place = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes[place] = special.randomElement(using: &random)!
        case 1: bytes[place] = random.bytes(1)[0]
        default: bytes.insert(special.randomElement(using: &random)!, at: place)
        }
      }
      if let head = try? HTTPHeadParser.request(bytes[...]) {
        #expect((try? HTTPHeadParser.request(head.encoded[...])) == head)
      }
      if let head = try? HTTPHeadParser.response(bytes[...]) {
        #expect((try? HTTPHeadParser.response(head.encoded[...])) == head)
      }
    }
  }

  @Test(
    "what two readers could read in two ways is refused",
    arguments: [
      "GET / HTTP/1.1\nHost: a\n\n", "GET  / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1 \r\n\r\n",
      "GET / HTTP/2.0\r\n\r\n", "GET /a b HTTP/1.1\r\n\r\n", "G(T / HTTP/1.1\r\n\r\n",
      "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
      "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
      "GET / HTTP/1.1\r\nA: \0\r\n\r\n", "GET / HTTP/1.1\r\nA\r\n\r\n", "\r\n\r\n", "",
      "GET / HTTP/1.1\r\n: b\r\n\r\n", "GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
      "GET / HTTP/1.1\r\n\r\nmore",
    ])
  func ambiguous(text: String) {
    #expect(throws: HTTPError.self) { try HTTPHeadParser.request(Array(text.utf8)[...]) }
  }

  @Test(
    "a body with two ends is refused",
    arguments: [
      [("Content-Length", "1"), ("Content-Length", "1")],
      [("Content-Length", "1"), ("Transfer-Encoding", "chunked")],
      [("Transfer-Encoding", "gzip, chunked")], [("Transfer-Encoding", "identity")],
      // The sign for kelvin is k in lower case, to some.
      [("Transfer-Encoding", "chun\u{212A}ed")],
      [("Content-Length", "+1")], [("Content-Length", "0x1")], [("Content-Length", "")],
      [("Content-Length", "-1")], [("Content-Length", "1, 1")],
      [("Content-Length", "99999999999999999999")],
    ])
  func framing(fields: [(String, String)]) {
    let fields = HTTPFields(fields.map { HTTPFields.Line($0.0, $0.1) })
    #expect(throws: HTTPError.self) {
      try HTTPBodyFraming(request: HTTPRequestHead(method: "PUT", target: "/", fields: fields))
    }
  }

  @Test("codings are named in letters of either case")
  func codings() throws {
    let head = HTTPRequestHead(
      method: "PUT", target: "/", fields: HTTPFields([.init("Transfer-Encoding", "ChunKed")]))
    #expect(try HTTPBodyFraming(request: head) == .chunked)
  }

  @Test("limits hold")
  func limits() {
    let long = "GET / HTTP/1.1\r\nA: " + String(repeating: "b", count: 40_000) + "\r\n\r\n"
    #expect(throws: HTTPError.self) { try HTTPHeadParser.request(Array(long.utf8)[...]) }
    let many =
      "GET / HTTP/1.1\r\n" + String(repeating: "A: b\r\n", count: 200) + "\r\n"
    #expect(throws: HTTPError.self) { try HTTPHeadParser.request(Array(many.utf8)[...]) }
  }
}

@Suite("The chunked coding")
struct ChunkedTests {
  static func encode(_ body: [UInt8], _ random: inout SeededGenerator) -> [UInt8] {
    var out: [UInt8] = []
    var rest = body[...]
    while !rest.isEmpty {
      let piece = rest.prefix(Int.random(in: 1...rest.count, using: &random))
      rest = rest.dropFirst(piece.count)
      let ending = Bool.random(using: &random) ? "" : ";name=\"value\""
      out += Array((String(piece.count, radix: 16) + ending + "\r\n").utf8) + piece + [13, 10]
    }
    out += Array((Bool.random(using: &random) ? "0\r\n" : "0\r\nTrailer: x\r\n").utf8)
    return out + [13, 10]
  }

  @Test(
    "bodies are read back however they are cut, and what follows is left", arguments: Seed.several)
  func roundTrip(seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<300 {
      let body = random.bytes(Int.random(in: 0...300, using: &random))
      let coded = Self.encode(body, &random)
      let tail = random.bytes(5)
      var rest = (coded + tail)[...]
      var decoder = ChunkedDecoder()
      var out: [UInt8] = []
      while !decoder.isDone {
        let piece = rest.prefix(Int.random(in: 1...40, using: &random))
        let used = try decoder.feed(piece, into: &out)
        rest = rest.dropFirst(used)
      }
      #expect(out == body && Array(rest) == tail)
    }
  }

  @Test("damaged bodies never give more bytes than came", arguments: Seed.several)
  func damaged(seed: Seed) {
    var random = seed.generator
    for _ in 0..<2000 {
      var coded = Self.encode(random.bytes(40), &random)
      for _ in 0..<3 {
        coded[Int.random(in: 0..<coded.count, using: &random)] = random.bytes(1)[0]
      }
      var decoder = ChunkedDecoder()
      var out: [UInt8] = []
      let used = try? decoder.feed(coded[...], into: &out)
      #expect(out.count <= coded.count && used ?? 0 <= coded.count)
    }
  }

  @Test(
    "bad sizes are refused",
    arguments: [
      "\r\n", "g\r\n", "-1\r\n", "+1\r\n", "1\n", "0x1\r\n", "fffffffffffffffff\r\n", " 1\r\n",
      "-0\r\n", "+5\r\n", "5 junk\r\n", "0x5\r\n", "\u{0661}\r\n",
    ])
  func sizes(text: String) {
    var decoder = ChunkedDecoder()
    var out: [UInt8] = []
    #expect(throws: HTTPError.self) { try decoder.feed(Array(text.utf8)[...], into: &out) }
  }

  @Test(
    "sizes with extensions, and spaces before them, are taken",
    arguments: ["5;ext=1", "5 ;ext=1", "5\t; ext", "05", "5"])
  func extensions(size: String) throws {
    var decoder = ChunkedDecoder()
    var out: [UInt8] = []
    let coded = Array("\(size)\r\nabcde\r\n0\r\n\r\n".utf8)
    #expect(try decoder.feed(coded[...], into: &out) == coded.count)
    #expect(decoder.isDone && out == Array("abcde".utf8))
  }
}
