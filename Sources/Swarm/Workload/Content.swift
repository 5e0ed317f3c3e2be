internal import Simulation

/// The bytes of an object as a recipe: made when they are written and made again when they are compared, never kept.
package struct Content: Hashable, Sendable {
  /// Bytes `first ..< first + byteCount` of an endless stream; the stream 0 is all zeros, every other odd one compresses well.
  package struct Piece: Hashable, Sendable {
    package var stream: UInt64
    package var first: UInt64
    package var byteCount: UInt64
    package init(stream: UInt64, first: UInt64, byteCount: UInt64) {
      self.stream = stream
      self.first = first
      self.byteCount = byteCount
    }
  }

  /// None is empty.
  package private(set) var pieces: [Piece]
  package private(set) var byteCount: UInt64

  package init(_ pieces: [Piece]) {
    self.pieces = pieces.filter { $0.byteCount > 0 }
    byteCount = pieces.reduce(0) { $0 + $1.byteCount }
  }

  /// The bytes of a range, as a content of their own.
  package func part(_ range: Range<UInt64>) -> Content {
    var found: [Piece] = []
    var start: UInt64 = 0
    for piece in pieces {
      let end = start + piece.byteCount
      let (from, to) = (max(start, range.lowerBound), min(end, range.upperBound))
      if from < to {
        found.append(
          Piece(stream: piece.stream, first: piece.first + (from - start), byteCount: to - from))
      }
      start = end
    }
    return Content(found)
  }

  /// Fills `target` with the content's bytes from `offset` on.
  package func fill(_ target: UnsafeMutableRawBufferPointer, at offset: UInt64) {
    visit(offset, target.count) { piece, first, place, count in
      Self.fill(
        UnsafeMutableRawBufferPointer(rebasing: target[place..<place + count]), piece.stream, first)
      return true
    }
  }

  /// The index in `bytes`, which should be the content's from `offset` on, of the first that is not; bytes past the end are wrong.
  package func firstDifference(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) -> Int? {
    var difference: Int?
    let end = min(UInt64(bytes.count), byteCount - min(byteCount, offset))
    visit(offset, Int(end)) { piece, first, place, count in
      let part = UnsafeRawBufferPointer(rebasing: bytes[place..<place + count])
      if let index = Self.firstDifference(part, piece.stream, first) { difference = place + index }
      return difference == nil
    }
    return difference ?? (Int(end) < bytes.count ? Int(end) : nil)
  }

  /// Calls `body` with each piece's part of `offset ..< offset + count`: where in its stream it begins, and where in the range.
  private func visit(
    _ offset: UInt64, _ count: Int, _ body: (Piece, UInt64, Int, Int) -> Bool
  ) {
    precondition(offset + UInt64(count) <= byteCount)
    var start: UInt64 = 0
    for piece in pieces {
      let end = start + piece.byteCount
      defer { start = end }
      let from = max(start, offset)
      let to = min(end, offset + UInt64(count))
      guard from < to else { continue }
      guard body(piece, piece.first + (from - start), Int(from - offset), Int(to - from)) else {
        return
      }
    }
  }

  // MARK: Streams

  /// Word `index` of a stream. Each is a function of its index, so that a range can begin anywhere.
  ///
  /// - Source: the finalizer of SplitMix64, without its first round: good enough to look random to chunker and eye.
  @inline(__always)
  private static func word(_ stream: UInt64, _ index: UInt64) -> UInt64 {
    let word = noise(stream, index)
    // Of 64 words in an order that looks random: compressors find them, the chunker cuts as ever.
    return stream & 3 == 1 ? noise(stream, word & 63) : word
  }

  @inline(__always)
  private static func noise(_ stream: UInt64, _ index: UInt64) -> UInt64 {
    var z = stream &+ index &* 0x9E37_79B9_7F4A_7C15
    z = (z ^ (z >> 32)) &* 0xBF58_476D_1CE4_E5B9
    return z ^ (z >> 29)
  }

  private static func byte(_ stream: UInt64, _ index: UInt64) -> UInt8 {
    UInt8(truncatingIfNeeded: word(stream, index >> 3).littleEndian >> ((index & 7) * 8))
  }

  private static func fill(
    _ target: UnsafeMutableRawBufferPointer, _ stream: UInt64, _ first: UInt64
  ) {
    guard stream != 0 else {
      target.initializeMemory(as: UInt8.self, repeating: 0)
      return
    }
    var place = 0
    while place < target.count, (first + UInt64(place)) & 7 != 0 {
      target[place] = byte(stream, first + UInt64(place))
      place += 1
    }
    var index = (first + UInt64(place)) >> 3
    let base = target.baseAddress!
    while place + 8 <= target.count {
      base.storeBytes(of: word(stream, index), toByteOffset: place, as: UInt64.self)
      place += 8
      index += 1
    }
    while place < target.count {
      target[place] = byte(stream, first + UInt64(place))
      place += 1
    }
  }

  private static func firstDifference(
    _ bytes: UnsafeRawBufferPointer, _ stream: UInt64, _ first: UInt64
  ) -> Int? {
    func expected(_ place: Int) -> UInt8 {
      stream == 0 ? 0 : byte(stream, first + UInt64(place))
    }
    var place = 0
    while place < bytes.count, (first + UInt64(place)) & 7 != 0 {
      if bytes[place] != expected(place) { return place }
      place += 1
    }
    var index = (first + UInt64(place)) >> 3
    let base = bytes.baseAddress
    while place + 64 <= bytes.count {
      var wrong: UInt64 = 0
      for step in 0..<8 {
        let found = base!.loadUnaligned(fromByteOffset: place + step * 8, as: UInt64.self)
        wrong |= found ^ (stream == 0 ? 0 : word(stream, index &+ UInt64(step)))
      }
      if wrong != 0 { break }
      place += 64
      index += 8
    }
    while place < bytes.count {
      if bytes[place] != expected(place) { return place }
      place += 1
    }
    return nil
  }
}
