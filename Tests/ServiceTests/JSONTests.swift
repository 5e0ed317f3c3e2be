import TestSupport
import Testing

@testable import Service

extension SeededGenerator {
  fileprivate mutating func text() -> String {
    let letters = Array("aZ\"\\/\n\t\u{1}\u{7F}äß日😀 ")
    return String(
      (0..<Int.random(in: 0...10, using: &self)).map { _ in letters.randomElement(using: &self)! })
  }
  fileprivate mutating func json(depth: Int) -> JSON {
    switch Int.random(in: 0..<(depth > 0 ? 7 : 5), using: &self) {
    case 0: return .null
    case 1: return .bool(Bool.random(using: &self))
    case 2: return .number(next() >> UInt64.random(in: 0...63, using: &self))
    case 3: return .double(Double.random(in: -1e6 ... -1, using: &self))
    case 4: return .string(text())
    case 5:
      return .array(
        (0..<Int.random(in: 0...4, using: &self)).map { _ in json(depth: depth - 1) })
    default:
      return .object(
        (0..<Int.random(in: 0...4, using: &self)).map { ("\($0)" + text(), json(depth: depth - 1)) }
      )
    }
  }
}

@Suite("JSON")
struct JSONTests {
  @Test("what is printed is read back", arguments: Seed.several)
  func roundTrip(seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<500 {
      let text = random.json(depth: 4).text
      #expect(try JSON(parsing: Array(text.utf8)).text == text)
      #expect(try JSON(parsing: Array(" \n\(text)\t ".utf8)).text == text)
    }
  }

  @Test("damaged text is refused, or is what it says when printed", arguments: Seed.several)
  func damaged(seed: Seed) throws {
    var random = seed.generator
    let special = Array("{}[],:\"\\ud83-0.eE".utf8)
    for _ in 0..<3000 {
      var bytes = Array(random.json(depth: 3).text.utf8)
      for _ in 0..<3 {
        let place = Int.random(in: 0..<bytes.count, using: &random)
        bytes[place] =
          Bool.random(using: &random)
          ? special.randomElement(using: &random)! : random.bytes(1)[0]
      }
      if let value = try? JSON(parsing: bytes) {
        #expect((try? JSON(parsing: Array(value.text.utf8)))?.text == value.text)
      }
    }
  }

  @Test(
    "what is not JSON is refused",
    arguments: [
      "", " ", "{", "[1,]", "{\"a\":1,}", "{\"a\":1,\"a\":2}", "{a:1}", "01", "1.", ".5", "+1", "-",
      "1e", "nul", "true false", "\"\\x\"", "\"\\ud800\"", "\"\\udc00\"", "\"a\nb\"", "'a'",
      "1e999",
      "[1 2]", "{\"a\" 1}", "\"", "NaN",
    ])
  func refused(text: String) {
    #expect(throws: JSONError.self) { try JSON(parsing: Array(text.utf8)) }
  }

  @Test("nesting is bounded")
  func nesting() {
    let deep = [UInt8](repeating: UInt8(ascii: "["), count: 100_000)
    #expect(throws: JSONError.self) { try JSON(parsing: deep) }
  }

  @Test("escapes and whole numbers in quotes, as protocol buffers print them")
  func values() throws {
    let value = try JSON(
      parsing: Array(
        #"{"a":"\u00e4\ud83d\ude00\/","n":"18446744073709551615","m":7,"b":[true]}"#.utf8))
    #expect(value["a"]?.string == "ä😀/")
    #expect(value["n"]?.whole == .max && value["m"]?.whole == 7)
    #expect(value["b"]?.elements?.first?.bool == true && value["c"] == nil)
  }
}

@Suite("Base64")
struct Base64Tests {
  @Test("what is encoded is decoded, in one way only", arguments: Seed.several)
  func roundTrip(seed: Seed) {
    var random = seed.generator
    for count in 0..<200 {
      let bytes = random.bytes(count)
      let text = Base64.encode(bytes)
      #expect(Base64.decode(text) == bytes)
      var damaged = Array(text.utf8)
      if damaged.isEmpty { continue }
      damaged[Int.random(in: 0..<damaged.count, using: &random)] = random.bytes(1)[0]
      let other = String(decoding: damaged, as: UTF8.self)
      if let decoded = Base64.decode(other) { #expect(Base64.encode(decoded) == other) }
    }
  }

  @Test("known answers", arguments: [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")])
  func known(plain: String, coded: String) {
    #expect(Base64.encode(Array(plain.utf8)) == coded)
    #expect(Base64.decode(coded) == Array(plain.utf8))
  }
}
