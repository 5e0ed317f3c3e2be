/// A running digest of what happened. Two runs that differ in one event differ here.
///
/// - Source: FNV-1a on 64-bit words, with a shift after each so that high bits count too.
package struct EventHash: Sendable {
  package private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

  package init() {}

  package mutating func combine(_ word: UInt64) {
    value = (value ^ word) &* 0x0000_0100_0000_01B3
    value ^= value >> 29
  }

  package mutating func combine(_ text: String) {
    var text = text
    text.withUTF8 { bytes in combine(UnsafeRawBufferPointer(bytes)) }
  }

  /// Every byte; for short things.
  package mutating func combine(_ bytes: UnsafeRawBufferPointer) {
    var offset = 0
    while offset + 8 <= bytes.count {
      combine(bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
      offset += 8
    }
    var tail = UInt64(bytes.count) << 56
    while offset < bytes.count {
      tail = (tail << 8) ^ UInt64(bytes[offset])
      offset += 1
    }
    combine(tail)
  }

  /// The count and 16 words spread over the bytes: enough to tell two runs apart, at a price that does
  /// not grow with bulk data.
  package mutating func sample(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count > 128 else { return combine(bytes) }
    combine(UInt64(bytes.count))
    let stride = (bytes.count - 8) / 15
    for index in 0..<16 {
      combine(bytes.loadUnaligned(fromByteOffset: index * stride, as: UInt64.self))
    }
  }
}
