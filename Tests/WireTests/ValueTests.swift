import TestSupport
import Testing

@testable import Wire

/// One of everything.
private struct Sample: WireValue, Equatable {
  var byte: UInt8
  var word: UInt64
  var signed: Int64
  var flag: Bool
  var bytes: [UInt8]
  var text: String
  var list: [UInt64]
  var maybe: UInt32?

  init(_ random: inout SeededGenerator) {
    byte = UInt8.random(in: 0...255, using: &random)
    word = random.next() >> UInt64.random(in: 0..<64, using: &random)
    signed = Int64(bitPattern: random.next()) >> Int64.random(in: 0..<64, using: &random)
    flag = Bool.random(using: &random)
    bytes = random.bytes(Int.random(in: 0..<40, using: &random))
    text = String(["", "a", "é", "node n3"].randomElement(using: &random)!)
    let values = (0..<Int.random(in: 0..<5, using: &random)).map { _ in 0 }
    list = values.map { _ in 0 }
    for index in list.indices { list[index] = random.next() }
    maybe = Bool.random(using: &random) ? UInt32.random(in: 0 ... .max, using: &random) : nil
  }

  func encode(into writer: inout ByteWriter) {
    writer.fixed(byte)
    writer.varint(word)
    writer.signed(signed)
    writer.bool(flag)
    writer.blob(bytes)
    writer.string(text)
    writer.list(list)
    writer.optional(maybe)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    byte = try reader.fixed()
    word = try reader.varint()
    signed = try reader.signed()
    flag = try reader.bool()
    bytes = try reader.blob()
    text = try reader.string()
    list = try reader.list()
    maybe = try reader.optional()
  }
}

@Test("a value comes back as it was", arguments: Seed.several)
func roundTrip(seed: Seed) throws {
  var random = seed.generator
  for _ in 0..<500 {
    let sample = Sample(&random)
    #expect(try Sample(decoding: sample.encoded) == sample)
  }
}

@Test("a truncated value is refused, and a longer one too", arguments: Seed.several)
func truncated(seed: Seed) {
  var random = seed.generator
  for _ in 0..<100 {
    let bytes = Sample(&random).encoded
    for count in 0..<bytes.count {
      #expect(throws: ValueError.truncated) { try Sample(decoding: Array(bytes[..<count])) }
    }
    #expect(throws: ValueError.trailing(byteCount: 1)) { try Sample(decoding: bytes + [0]) }
  }
}

@Test("garbage never traps, and what is accepted is a value", arguments: Seed.several)
func garbage(seed: Seed) {
  var random = seed.generator
  for _ in 0..<2000 {
    var bytes = Sample(&random).encoded
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(
        in: 0...255, using: &random)
    }
    if let value = try? Sample(decoding: bytes) {
      #expect((try? Sample(decoding: value.encoded)) == value)
    }
    _ = try? Sample(decoding: random.bytes(Int.random(in: 0..<60, using: &random)))
  }
}

@Test("varints hold every width and refuse what does not fit 64 bits")
func varints() {
  for shift in 0..<64 {
    for value in [
      UInt64(1) << UInt64(shift), (UInt64(1) << UInt64(shift)) - 1, .max >> UInt64(shift),
    ] {
      var writer = ByteWriter()
      writer.varint(value)
      var reader = ByteReader(writer.bytes)
      #expect((try? reader.varint()) == value)
    }
  }
  let tooLong = [UInt8](repeating: 0x80, count: 10) + [1]
  #expect(throws: ValueError.invalid("varint")) {
    var reader = ByteReader(tooLong)
    _ = try reader.varint()
  }
  #expect(throws: ValueError.invalid("varint")) {
    var reader = ByteReader([UInt8](repeating: 0xFF, count: 9) + [2])
    _ = try reader.varint()
  }
}

@Test("a huge count in few bytes is refused before memory is taken")
func hugeCount() {
  var writer = ByteWriter()
  writer.varint(UInt64(1) << 19)
  #expect(throws: ValueError.truncated) {
    var reader = ByteReader(writer.bytes)
    _ = try reader.list(UInt64.self)
  }
  #expect(throws: ValueError.truncated) {
    var reader = ByteReader(writer.bytes)
    _ = try reader.blob()
  }
}

@Test(
  "numbers of fixed width come back in one piece as one by one, and no more than there are",
  arguments: Seed.several)
func fixedNumbers(seed: Seed) throws {
  var random = seed.generator
  for count in [0, 1, 2, 255, 256] {
    let numbers = (0..<count).map { _ in UInt32.random(in: 0 ... .max, using: &random) }
    var writer = ByteWriter()
    // So that they are not aligned.
    writer.bool(true)
    for number in numbers { writer.fixed(number) }
    var reader = ByteReader(writer.bytes)
    _ = try reader.bool()
    var twin = reader
    #expect(try reader.fixed32(count: count) == numbers)
    #expect(reader.remaining == 0)
    for number in numbers { #expect(try twin.fixed(UInt32.self) == number) }
    for refused in [count + 1, -1, .max, .min] {
      #expect(throws: ValueError.truncated) {
        var reader = ByteReader(Array(writer.bytes.dropFirst()))
        _ = try reader.fixed32(count: refused)
      }
    }
  }
}
