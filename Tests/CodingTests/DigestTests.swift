import TestSupport
import Testing

@testable import Coding

@Suite struct FingerprintTests {
  static let published: [(text: String, hex: String)] = [
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    (
      "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
        + "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
      "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
    ),
    (
      String(repeating: "a", count: 1_000_000),
      "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
    ),
  ]

  @Test("SHA-256 gives the published digests", arguments: published)
  func vectors(text: String, hex: String) {
    #expect(Fingerprint(of: Array(text.utf8)).hex == hex)
  }

  @Test(
    "pieces of any size give the digest of the whole, and a hasher starts anew after finish",
    arguments: Seed.several)
  func pieces(seed: Seed) {
    var random = seed.generator
    var hasher = SHA256Hasher()
    for _ in 0..<50 {
      let whole = randomBytes(Int.random(in: 0...1000, using: &random), using: &random)
      var start = 0
      while start < whole.count {
        let end = Int.random(in: start...min(whole.count, start + 200), using: &random)
        hasher.update(Array(whole[start..<end]))
        start = end
      }
      #expect(hasher.finish() == Fingerprint(of: whole))
    }
  }

  @Test(
    "bytes, text and words describe the same fingerprint, and its order is that of its bytes",
    arguments: Seed.several)
  func representations(seed: Seed) {
    var random = seed.generator
    var earlier = Fingerprint(w0: 1, w1: 2, w2: 3, w3: 4)
    for round in 0..<200 {
      var raw = earlier.bytes
      for _ in 0...round % 3 {
        raw[Int.random(in: 0..<32, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      let one = Fingerprint(raw)!
      #expect(one.bytes == raw)
      #expect(Fingerprint((raw + [0]).dropLast()) == one)
      #expect(Fingerprint(Array(raw.reversed()).reversed()) == one)
      #expect(Fingerprint(raw.lazy.map { $0 }) == one)
      #expect(Fingerprint(hex: one.hex) == one)
      #expect(Fingerprint(hex: one.hex.uppercased()) == one)
      #expect("\(one)" == one.hex && one.hex.utf8.count == 64)
      #expect(Fingerprint(w0: one.w0, w1: one.w1, w2: one.w2, w3: one.w3) == one)
      #expect((one < earlier) == raw.lexicographicallyPrecedes(earlier.bytes))
      #expect((earlier < one) == earlier.bytes.lexicographicallyPrecedes(raw))
      earlier = one
    }
  }

  @Test("the first byte is the most significant of the first word")
  func wordOrder() {
    let one = Fingerprint((1...32).map { UInt8($0) })!
    #expect(one.w0 == 0x0102_0304_0506_0708)
    #expect(one.w3 == 0x191a_1b1c_1d1e_1f20)
    #expect(one.hex.hasPrefix("0102"))
  }

  @Test("other lengths and other characters are no fingerprint")
  func refusals() {
    #expect(Fingerprint([UInt8](repeating: 0, count: 31)) == nil)
    #expect(Fingerprint([UInt8](repeating: 0, count: 33)) == nil)
    #expect(Fingerprint([]) == nil)
    let hex = String(repeating: "0", count: 63)
    #expect(Fingerprint(hex: hex) == nil)
    #expect(Fingerprint(hex: hex + "00") == nil)
    #expect(Fingerprint(hex: hex + "g") == nil)
    #expect(Fingerprint(hex: hex + " ") == nil)
    #expect(Fingerprint(hex: "0x" + String(repeating: "0", count: 62)) == nil)
    #expect(Fingerprint(hex: "") == nil)
  }
}

@Suite struct CRC32CTests {
  static let published: [(bytes: [UInt8], sum: UInt32)] = [
    (Array("123456789".utf8), 0xE306_9283),
    ([], 0),
    // RFC 3720, B.4; it prints the sums least significant byte first.
    ([UInt8](repeating: 0, count: 32), 0x8A91_36AA),
    ([UInt8](repeating: 0xFF, count: 32), 0x62A8_AB43),
    ((0..<32).map { UInt8($0) }, 0x46DD_794E),
    ((0..<32).map { UInt8(31 - $0) }, 0x113F_DB5C),
    (
      bytes(
        """
        01c00000000000000000000000000000 14000000000004000000001400000018
        28000000000000000200000000000000
        """), 0xD996_3A56
    ),
  ]

  @Test("the published checksums come out", arguments: published)
  func vectors(bytes: [UInt8], sum: UInt32) {
    #expect(CRC32C.checksum(bytes) == sum)
  }

  /// Bit by bit, as the standard describes it.
  static func model(_ bytes: some Sequence<UInt8>) -> UInt32 {
    var register: UInt32 = .max
    for byte in bytes {
      register ^= UInt32(byte)
      for _ in 0..<8 { register = register & 1 == 1 ? register >> 1 ^ 0x82F6_3B78 : register >> 1 }
    }
    return ~register
  }

  @Test("any length agrees with the bitwise model, and checksums chain", arguments: Seed.several)
  func model(seed: Seed) {
    var random = seed.generator
    for _ in 0..<40 {
      let all = randomBytes(Int.random(in: 0...700, using: &random), using: &random)
      let cut = Int.random(in: 0...all.count, using: &random)
      let (first, second) = (Array(all[..<cut]), Array(all[cut...]))
      #expect(CRC32C.checksum(all) == Self.model(all))
      #expect(CRC32C.checksum(second, seed: CRC32C.checksum(first)) == CRC32C.checksum(all))
    }
  }

  @Test("checksums of parts, and of units, join to that of the whole", arguments: Seed.several)
  func joining(seed: Seed) {
    var random = seed.generator
    for count in [0, 1, 4095, 4096, 4097, 8192, 40_000, 65_536] {
      let all = randomBytes(count, using: &random)
      for cut in [0, count, Int.random(in: 0...count, using: &random)] {
        let (first, second) = (Array(all[..<cut]), Array(all[cut...]))
        #expect(
          CRC32C.joined(
            CRC32C.checksum(first), CRC32C.checksum(second), secondByteCount: second.count)
            == CRC32C.checksum(all))
        let units = second.withUnsafeBytes { CRC32C.checksums(of: $0) }
        #expect(
          CRC32C.joined(CRC32C.checksum(first), units: units, byteCount: second.count)
            == CRC32C.checksum(all))
      }
    }
  }

  @Test("units are summed right in whatever pieces they come", arguments: Seed.several)
  func pieceSums(seed: Seed) {
    var random = seed.generator
    for count in [0, 1, 4095, 4096, 12_289, 50_000] {
      let all = randomBytes(count, using: &random)
      var sums = UnitSums(expecting: count)
      all.withUnsafeBytes { bytes in
        var start = 0
        while start < count {
          let end = min(count, start + Int.random(in: 0...9000, using: &random))
          sums.add(UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
          start = end
        }
        #expect(sums.sums == CRC32C.checksums(of: bytes))
      }
    }
  }

  @Test("lengths beyond ISA-L's are cut without a seam", arguments: [1, 7, 64, 1000])
  func pieces(largestCall: Int) {
    var random = SeededGenerator(seed: 31)
    let all = randomBytes(999, using: &random)
    let sum = all.withUnsafeBytes {
      CRC32C.checksum($0, seed: 0x1234_5678, largestCall: largestCall)
    }
    #expect(sum == CRC32C.checksum(all, seed: 0x1234_5678))
  }

  @Test("each unit has its own checksum, the short last one too", arguments: Seed.several)
  func units(seed: Seed) {
    var random = seed.generator
    for count in [0, 1, 4095, 4096, 4097, 8192, 20_000] {
      let all = randomBytes(count, using: &random)
      for unit in [4096, 512, 7000] {
        let expected = stride(from: 0, to: count, by: unit).map {
          CRC32C.checksum(Array(all[$0..<min($0 + unit, count)]))
        }
        #expect(all.withUnsafeBytes { CRC32C.checksums(of: $0, unit: unit) } == expected)
      }
      #expect(
        all.withUnsafeBytes { CRC32C.checksums(of: $0) }
          == all.withUnsafeBytes { CRC32C.checksums(of: $0, unit: 4096) })
    }
  }
}
