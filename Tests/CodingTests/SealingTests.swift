import TestSupport
import Testing

@testable import Coding

@Suite struct SealingTests {
  struct Vector: Sendable, CustomTestStringConvertible {
    var name: String
    var key, nonce, plain, additional, cipher, tag: String
    var testDescription: String { name }
  }

  private static let key2 = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
  private static let plain15 =
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    + "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
  private static let cipher15 =
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    + "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
  private static let zeroKey = String(repeating: "00", count: 32)

  /// McGrew and Viega, The Galois/Counter Mode of Operation, as submitted to NIST: those of AES-256 with 96-bit nonces.
  static let vectors = [
    Vector(
      name: "13", key: zeroKey, nonce: "000000000000000000000000", plain: "", additional: "",
      cipher: "", tag: "530f8afbc74536b9a963b4f1c4cb738b"),
    Vector(
      name: "14", key: zeroKey, nonce: "000000000000000000000000",
      plain: "00000000000000000000000000000000", additional: "",
      cipher: "cea7403d4d606b6e074ec5d3baf39d18", tag: "d0d1c8a799996bf0265b98b5d48ab919"),
    Vector(
      name: "15", key: key2, nonce: "cafebabefacedbaddecaf888", plain: plain15, additional: "",
      cipher: cipher15, tag: "b094dac5d93471bdec1a502270e3cc6c"),
    Vector(
      name: "16", key: key2, nonce: "cafebabefacedbaddecaf888",
      plain: String(plain15.dropLast(8)), additional: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
      cipher: String(cipher15.dropLast(8)), tag: "76fc6ece0f4e1768cddf8853bb2d551b"),
  ]

  @Test("AES-256-GCM gives the published bytes, and reads them", arguments: vectors)
  func published(vector: Vector) throws {
    let sealed = bytes(vector.cipher + vector.tag)
    let nonce = try #require(AES256GCM.Nonce(bytes(vector.nonce)))
    let key = bytes(vector.key)
    let (plain, additional) = (bytes(vector.plain), bytes(vector.additional))
    // In pieces of 16 bytes too.
    for largestCall in [1 << 30, 16] {
      #expect(Self.seal(plain, key, nonce, additional, largestCall: largestCall) == sealed)
      #expect(try Self.open(sealed, key, nonce, additional, largestCall: largestCall) == plain)
    }
  }

  @Test(
    "what was sealed opens, in place or apart, with one context or new ones",
    arguments: Seed.several)
  func roundTrip(seed: Seed) throws {
    var random = seed.generator
    let key = randomBytes(32, using: &random)
    var cipher = AES256GCM(key: key)
    for size in [0, 1, 15, 16, 17, 4096, 65_536, Int.random(in: 0...100_000, using: &random)] {
      let plain = randomBytes(size, using: &random)
      let additional = randomBytes(Int.random(in: 0...70, using: &random), using: &random)
      let nonce = AES256GCM.Nonce(
        high: .random(in: 0...UInt32.max, using: &random),
        low: .random(in: 0...UInt64.max, using: &random))
      let expected = Self.seal(plain, key, nonce, additional)
      #expect(size < 16 || Array(expected.prefix(size)) != plain)

      var memory = plain + [UInt8](repeating: 0, count: 16)
      memory.withUnsafeMutableBytes { memory in
        additional.withUnsafeBytes { additional in
          cipher.seal(
            UnsafeRawBufferPointer(rebasing: memory[..<size]), into: memory, nonce: nonce,
            additional: additional)
        }
      }
      #expect(memory == expected)
      try memory.withUnsafeMutableBytes { memory in
        try additional.withUnsafeBytes { additional in
          try cipher.open(
            UnsafeRawBufferPointer(memory),
            into: UnsafeMutableRawBufferPointer(rebasing: memory[..<size]), nonce: nonce,
            additional: additional)
        }
      }
      #expect(Array(memory.prefix(size)) == plain)
      #expect(try Self.open(expected, key, nonce, additional) == plain)
    }
  }

  @Test(
    "any bit changed in bytes, tag, nonce, additional data or key is noticed, and nothing is given away",
    arguments: Seed.several)
  func forgery(seed: Seed) throws {
    var random = seed.generator
    let key = randomBytes(32, using: &random)
    let additional = randomBytes(20, using: &random)
    let plain = randomBytes(100, using: &random)
    let nonceBytes = randomBytes(12, using: &random)
    let nonce = AES256GCM.Nonce(nonceBytes)!
    let sealed = Self.seal(plain, key, nonce, additional)
    func flipped(_ bytes: [UInt8], _ bit: Int) -> [UInt8] {
      var wrong = bytes
      wrong[bit / 8] ^= 1 << UInt8(bit % 8)
      return wrong
    }
    func refused(
      _ sealed: [UInt8], _ key: [UInt8], _ nonce: AES256GCM.Nonce, _ additional: [UInt8]
    ) {
      #expect(throws: CodingError.notAuthentic) {
        try Self.open(sealed, key, nonce, additional)
      }
    }
    for bit in 0..<sealed.count * 8 { refused(flipped(sealed, bit), key, nonce, additional) }
    for bit in 0..<96 {
      refused(sealed, key, AES256GCM.Nonce(flipped(nonceBytes, bit))!, additional)
    }
    for bit in 0..<256 { refused(sealed, flipped(key, bit), nonce, additional) }
    for bit in 0..<160 { refused(sealed, key, nonce, flipped(additional, bit)) }
    refused(sealed, key, nonce, [])
    refused(Array(sealed.dropLast()), key, nonce, additional)
    refused(sealed + [0], key, nonce, additional)
    for count in 0..<16 {
      #expect(throws: CodingError.damaged) {
        try Self.open(Array(sealed.prefix(count)), key, nonce, additional)
      }
    }

    // The context that refused reads the next one.
    var cipher = AES256GCM(key: key)
    var target = [UInt8](repeating: 0xA5, count: 100)
    for wrong in [flipped(sealed, 3), sealed] {
      let outcome = Result {
        try wrong.withUnsafeBytes { wrong in
          try target.withUnsafeMutableBytes { target in
            try additional.withUnsafeBytes { additional in
              try cipher.open(wrong, into: target, nonce: nonce, additional: additional)
            }
          }
        }
      }
      switch outcome {
      case .success: #expect(target == plain)
      case .failure: #expect(target == [UInt8](repeating: 0, count: 100))
      }
    }
    #expect(target == plain)
  }

  @Test("a nonce is twelve bytes")
  func nonces() {
    #expect(AES256GCM.Nonce([UInt8](repeating: 1, count: 11)) == nil)
    #expect(AES256GCM.Nonce([UInt8](repeating: 1, count: 13)) == nil)
    #expect(
      AES256GCM.Nonce(Array(1...12))
        == AES256GCM.Nonce(high: 0x0102_0304, low: 0x0506_0708_090A_0B0C))
  }

  private static func seal(
    _ plain: [UInt8], _ key: [UInt8], _ nonce: AES256GCM.Nonce, _ additional: [UInt8],
    largestCall: Int = 1 << 30
  ) -> [UInt8] {
    var cipher = AES256GCM(key: key, largestCall: largestCall)
    let memory = Memory(blockCount: 1, byteCount: plain.count + 16)
    plain.withUnsafeBytes { plain in
      additional.withUnsafeBytes { additional in
        cipher.seal(
          plain, into: UnsafeMutableRawBufferPointer(start: memory[0], count: memory.byteCount),
          nonce: nonce, additional: additional)
      }
    }
    #expect(memory.gapsAreIntact)
    return memory.block(0)
  }

  private static func open(
    _ sealed: [UInt8], _ key: [UInt8], _ nonce: AES256GCM.Nonce, _ additional: [UInt8],
    largestCall: Int = 1 << 30
  ) throws -> [UInt8] {
    var cipher = AES256GCM(key: key, largestCall: largestCall)
    let memory = Memory(blockCount: 1, byteCount: max(0, sealed.count - 16))
    try sealed.withUnsafeBytes { sealed in
      try additional.withUnsafeBytes { additional in
        try cipher.open(
          sealed, into: UnsafeMutableRawBufferPointer(start: memory[0], count: memory.byteCount),
          nonce: nonce, additional: additional)
      }
    }
    #expect(memory.gapsAreIntact)
    return memory.block(0)
  }

  /// RFC 7914, 12: the second vector's first 32 bytes.
  @Test("scrypt gives the RFC's key, and takes no cost that is absurd")
  func scrypt() throws {
    let cost = try #require(Scrypt(logCost: 10, blockSize: 8, parallelism: 16))
    #expect(
      hexText(cost.key(Array("password".utf8), salt: Array("NaCl".utf8)) ?? [])
        == "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162")
    #expect(cost.key([], salt: []) != nil)
    for (logCost, blockSize, parallelism) in [
      (9, 8, 1), (25, 1, 1), (17, 0, 1), (17, 33, 1), (17, 8, 0), (17, 8, 17), (20, 9, 1),
      (255, 255, 255),
    ] {
      let made = Scrypt(
        logCost: UInt8(logCost), blockSize: UInt8(blockSize), parallelism: UInt8(parallelism))
      #expect(made == nil)
    }
    #expect(Scrypt(logCost: 20, blockSize: 8, parallelism: 1) != nil)
  }

  /// As the cryptography package for Python 48.0, which is OpenSSL too, has it.
  @Test("AES-256-SIV is as others have it")
  func known() {
    let sealed = AES256SIV.seal(
      Array("a name of an object".utf8), key: Array(0..<64), context: Array("its bucket".utf8))
    #expect(
      hexText(sealed) == "488ec90a6ce45f087d318e7823893926fcf12598ad7dfe577158e2dd5d0f4ac8a59b09")
  }

  @Test(
    "what is sealed twice is the same, and opens with its key and context alone",
    arguments: Seed.several)
  func synthetic(seed: Seed) {
    var random = seed.generator
    for _ in 0..<50 {
      let (key, context) = (random.bytes(64), random.bytes(Int(random.next() % 60) + 1))
      let plain = random.bytes(Int(random.next() % 300) + 1)
      let sealed = AES256SIV.seal(plain, key: key, context: context)
      #expect(sealed == AES256SIV.seal(plain, key: key, context: context))
      #expect(AES256SIV.open(sealed, key: key, context: context) == plain)
      #expect(AES256SIV.seal(plain, key: key, context: context + [0]) != sealed)
      #expect(AES256SIV.open(sealed, key: key, context: context + [0]) == nil)
      #expect(AES256SIV.open(sealed, key: random.bytes(64), context: context) == nil)
      var wrong = sealed
      wrong[Int(random.next() % UInt64(wrong.count))] ^= UInt8(random.next() % 255) + 1
      #expect(AES256SIV.open(wrong, key: key, context: context) == nil)
      let cut = Array(sealed.dropLast(Int(random.next() % UInt64(sealed.count)) + 1))
      #expect(AES256SIV.open(cut, key: key, context: context) == nil)
    }
  }
}
