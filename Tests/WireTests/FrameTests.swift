import Coding
import TestSupport
import Testing

@testable import Wire

func checksum(_ bytes: [UInt8]) -> UInt32 { CRC32C.checksum(bytes) }

private func parse(_ bytes: [UInt8]) throws -> FrameHeader {
  try bytes.withUnsafeBytes { try FrameHeader($0.baseAddress!, version: 1) }
}

private func someHeader() -> FrameHeader {
  var header = FrameHeader(version: 1, kind: .request)
  header.method = 0x0102
  header.messageByteCount = 0x1122
  header.bodyByteCount = 0x1234
  header.deadlineMilliseconds = 0x0A0B_0C0D
  header.id = 0x0102_0304_0506_0708
  header.contentChecksum = 0xA1B2_C3D4
  return header
}

@Test("a header lies in its 40 bytes as documented")
func layout() throws {
  let bytes = someHeader().bytes
  #expect(
    Array(bytes[..<36]) == [
      0x43, 0x52, 0x4E, 0x46, 1, 1, 0, 0, 0x02, 0x01, 0, 0, 0x22, 0x11, 0, 0, 0x34, 0x12, 0, 0,
      0x0D, 0x0C, 0x0B, 0x0A, 8, 7, 6, 5, 4, 3, 2, 1, 0xD4, 0xC3, 0xB2, 0xA1,
    ])
  #expect(try parse(bytes) == someHeader())
}

@Test("a header with any bit changed is refused")
func bits() {
  let bytes = someHeader().bytes
  for bit in 0..<bytes.count * 8 {
    var changed = bytes
    changed[bit / 8] ^= 1 << (bit % 8)
    #expect(throws: WireError.self) { try parse(changed) }
  }
}

@Test("a header that breaks a rule is refused although its checksum is right")
func rules() {
  func refused(_ change: (inout FrameHeader) -> Void) -> Bool {
    var header = someHeader()
    change(&header)
    return (try? parse(header.bytes)) == nil
  }
  #expect(!refused { _ in })
  #expect(refused { $0.messageByteCount = WireLimits.messageByteCount + 1 })
  #expect(refused { $0.bodyByteCount = WireLimits.bodyByteCount + 1 })
  #expect(refused { $0.deadlineMilliseconds = 0 })
  #expect(refused { $0.version = 2 })
  #expect(refused { $0.kind = .ping })
  #expect(refused { $0.kind = .response })
  #expect(
    refused {
      $0.messageByteCount = 0
      $0.bodyByteCount = 0
    })
  #expect(
    refused {
      $0.kind = .refusal
      $0.deadlineMilliseconds = 0
    })
}

@Test("random headers never trap", arguments: Seed.several)
func randomHeaders(seed: Seed) {
  var random = seed.generator
  for _ in 0..<2000 {
    var bytes = random.bytes(FrameHeader.byteCount)
    bytes.replaceSubrange(0..<6, with: [0x43, 0x52, 0x4E, 0x46, 1, UInt8(random.next() % 9)])
    let sum = checksum(Array(bytes[..<36]))
    for index in 0..<4 { bytes[36 + index] = UInt8(truncatingIfNeeded: sum >> (8 * UInt32(index))) }
    if let header = try? parse(bytes) { #expect(header.bytes == bytes) }
  }
}

@Test("a key in hexadecimal comes back, and nothing else is one", arguments: Seed.several)
func keys(seed: Seed) {
  var random = seed.generator
  let key = ClusterKey(secret: random.bytes(32))
  #expect(ClusterKey(hex: key.hex) == key)
  #expect(ClusterKey(hex: key.hex.uppercased()) == key)
  #expect(ClusterKey(hex: "") == nil)
  #expect(ClusterKey(hex: String(key.hex.dropLast())) == nil)
  #expect(ClusterKey(hex: key.hex.dropLast() + "g") == nil)
  #expect(ClusterKey(hex: key.hex + "\n") == nil)
  #expect(!"\(key)".contains(key.hex.prefix(8)) && !String(reflecting: key).contains("secret"))
  #expect(key.subkey("a") != key.subkey("b") && key.subkey("a").count == 32)
}

@Test(
  "deadlines are rounded up to milliseconds",
  arguments: [
    (.zero, 1), (.seconds(-1), 1), (.nanoseconds(1), 1), (.milliseconds(5), 5),
    (.microseconds(5001), 6), (.seconds(1), 1000), (.seconds(1 << 40), 4_000_000_000),
  ] as [(Duration, UInt32)])
func rounding(duration: Duration, expected: UInt32) {
  #expect(milliseconds(duration) == expected)
}
