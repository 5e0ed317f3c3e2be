import Testing

/// Equal blocks of memory with a gap after each, to see writes that go too far.
final class Memory {
  let byteCount: Int
  let blockCount: Int
  private let stride: Int
  private let base: UnsafeMutableRawPointer

  init(blockCount: Int, byteCount: Int) {
    self.blockCount = blockCount
    self.byteCount = byteCount
    stride = byteCount + 16
    base = .allocate(byteCount: max(1, blockCount * stride), alignment: 1)
    base.initializeMemory(as: UInt8.self, repeating: 0xA5, count: blockCount * stride)
  }

  convenience init(_ blocks: [[UInt8]]) {
    self.init(blockCount: blocks.count, byteCount: blocks.first?.count ?? 0)
    for (index, block) in blocks.enumerated() {
      block.withUnsafeBytes { source in
        if let start = source.baseAddress {
          self[index].copyMemory(from: start, byteCount: source.count)
        }
      }
    }
  }

  deinit { base.deallocate() }

  subscript(_ index: Int) -> UnsafeMutableRawPointer { base + index * stride }

  var pointers: [UnsafeMutableRawPointer] { (0..<blockCount).map { self[$0] } }

  func block(_ index: Int) -> [UInt8] {
    Array(UnsafeRawBufferPointer(start: self[index], count: byteCount))
  }

  var blocks: [[UInt8]] { (0..<blockCount).map(block) }

  var gapsAreIntact: Bool {
    (0..<blockCount).allSatisfy { index in
      UnsafeRawBufferPointer(start: self[index] + byteCount, count: 16).allSatisfy { $0 == 0xA5 }
    }
  }

  /// Nothing was ever written to any block.
  var isUntouched: Bool {
    UnsafeRawBufferPointer(start: base, count: blockCount * stride).allSatisfy { $0 == 0xA5 }
  }
}

func bytes(_ hex: String) -> [UInt8] {
  let digits = hex.utf8.filter { $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: "\n") }
  precondition(digits.count.isMultiple(of: 2))
  return stride(from: 0, to: digits.count, by: 2).map { place in
    UInt8(String(decoding: digits[place..<place + 2], as: UTF8.self), radix: 16)!
  }
}

/// Many random bytes, eight to a draw.
func randomBytes(_ count: Int, using random: inout some RandomNumberGenerator) -> [UInt8] {
  [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
    let target = UnsafeMutableRawBufferPointer(buffer)
    while filled < count {
      withUnsafeBytes(of: random.next().littleEndian) { word in
        let piece = min(8, count - filled)
        target.baseAddress!.advanced(by: filled).copyMemory(
          from: word.baseAddress!, byteCount: piece)
        filled += piece
      }
    }
  }
}
