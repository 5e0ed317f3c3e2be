import Coding
import Ring

/// Bytes that are the same in every run and in Benchmarks/compare/loops.c.
enum Material {
  /// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
  struct Numbers {
    var state: UInt64

    mutating func next() -> UInt64 {
      state &+= 0x9E37_79B9_7F4A_7C15
      var word = state
      word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
      word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
      return word ^ word >> 31
    }
  }

  /// Nothing to compress.
  static func noise(_ byteCount: Int, seed: UInt64) -> Buffer {
    let buffer = memory(byteCount)
    var numbers = Numbers(state: seed)
    var place = 0
    while place < byteCount {
      let word = numbers.next()
      for shift in 0..<min(8, byteCount - place) {
        buffer.base.storeBytes(
          of: UInt8(truncatingIfNeeded: word >> UInt64(8 * shift)), toByteOffset: place + shift,
          as: UInt8.self)
      }
      place += 8
    }
    return buffer
  }

  /// Words of a made-up language, common ones more often: zstd's first level halves it, as it does logs and prose.
  static func text(_ byteCount: Int, seed: UInt64) -> Buffer {
    let buffer = memory(byteCount)
    var numbers = Numbers(state: seed)
    let words = (0..<2048).map { _ -> [UInt8] in
      let count = 2 + Int(numbers.next() % 8)
      return (0..<count).map { _ in 97 + UInt8(numbers.next() % 26) } + [32]
    }
    var place = 0
    while place < byteCount {
      let draw = numbers.next()
      let index = min(draw & 2047, draw >> 11 & 2047, draw >> 22 & 2047)
      for byte in words[Int(index)] where place < byteCount {
        buffer.base.storeBytes(of: byte, toByteOffset: place, as: UInt8.self)
        place += 1
      }
    }
    return buffer
  }

  /// Touched, so that no page is missing when it counts.
  static func memory(_ byteCount: Int) -> Buffer {
    let buffer = BufferPool(retainedByteLimit: 0).take(max(1, byteCount))
    buffer.base.initializeMemory(as: UInt8.self, repeating: 0, count: buffer.byteCount)
    return buffer
  }
}

extension Buffer {
  func bytes(_ range: Range<Int>) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: base + range.lowerBound, count: range.count)
  }

  func mutableBytes(_ range: Range<Int>) -> UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(start: base + range.lowerBound, count: range.count)
  }
}
