import Cluster
import Coding
import Messages
import Ring
import Stripes

/// Consecutive pieces of an object that lie in one stripe close together, read as one range of it.
struct Segment: Sendable {
  var target: StripeTarget
  var layout: StripeLayout
  /// Of the stripe's data bytes: from the first piece's chunk to the last one's end.
  var range: Range<Int>
  /// The object's byte that the segment begins with, and how many of its bytes it gives.
  var first: UInt64
  var byteCount: UInt64
  var pieces: [Piece]

  struct Piece: Sendable {
    /// The whole chunk, in the stripe's data bytes.
    var chunk: Range<Int>
    var fingerprint: Fingerprint
    /// Of the chunk, what the object wants.
    var wanted: Range<Int>
  }

  /// Unread bytes between two pieces that are read along rather than asked for separately.
  private static let gapLimit = 64 << 10

  /// - Parameter first: the object's byte that the plan begins with.
  /// - Throws: ``DataPathError/corrupt(_:)`` when the plan contradicts itself.
  static func cut(_ plan: ResolveRange.Answer, first: UInt64) throws(DataPathError) -> [Segment] {
    var segments: [Segment] = []
    var offset = first
    var lastStripe: UInt32?
    for piece in plan.pieces {
      guard piece.stripeIndex < plan.stripes.count else { throw .corrupt("stripe of a piece") }
      let stripe = plan.stripes[Int(piece.stripeIndex)]
      guard stripe.containerIndex < plan.containers.count else {
        throw .corrupt("container of a stripe")
      }
      let container = plan.containers[Int(stripe.containerIndex)]
      guard piece.codec == Codec.raw.rawValue else {
        throw .corrupt("codec \(piece.codec) is not known here")
      }
      let start = Int(piece.groupOffset) + GroupHeader.byteCount + Int(piece.chunkOffset)
      let end = start + Int(piece.chunkByteCount)
      guard end <= stripe.layout.byteCount, piece.take > 0,
        UInt64(piece.skip) + UInt64(piece.take) <= UInt64(piece.chunkByteCount),
        stripe.layout.scheme == container.scheme,
        container.places.count == container.scheme.width
      else { throw .corrupt("piece outside its stripe") }
      let part = Piece(
        chunk: start..<end, fingerprint: piece.fingerprint,
        wanted: Int(piece.skip)..<Int(piece.skip + piece.take))
      if lastStripe == piece.stripeIndex, let last = segments.last,
        start >= last.range.upperBound, start - last.range.upperBound <= gapLimit
      {
        segments[segments.count - 1].range = last.range.lowerBound..<end
        segments[segments.count - 1].byteCount += UInt64(piece.take)
        segments[segments.count - 1].pieces.append(part)
      } else {
        segments.append(
          Segment(
            target: StripeTarget(
              container: container.container, places: container.places, stripe: stripe.stripe),
            layout: stripe.layout,
            range: start..<end, first: offset, byteCount: UInt64(piece.take), pieces: [part]))
      }
      lastStripe = piece.stripeIndex
      offset += UInt64(piece.take)
    }
    return segments
  }

  /// The object's bytes in what was read of the stripe, after each chunk was checked. Nothing is copied.
  ///
  /// - Parameters:
  ///   - read: slices that together are `range`.
  ///   - mend: called for each chunk that was read wrong; gives its right bytes, or throws.
  func extract(
    _ read: [Slice], mend: (Piece) async throws(StripeError) -> [Slice]
  ) async throws(StripeError) -> [Slice] {
    var cursor = Cursor(read)
    var position = range.lowerBound
    var chunks: [[Slice]] = []
    chunks.reserveCapacity(pieces.count)
    for piece in pieces {
      cursor.skip(piece.chunk.lowerBound - position)
      chunks.append(cursor.take(piece.chunk.count))
      position = piece.chunk.upperBound
    }
    let found = Self.fingerprints(of: chunks)
    var result: [Slice] = []
    result.reserveCapacity(chunks.count)
    for (index, piece) in pieces.enumerated() {
      if found[index] != piece.fingerprint { chunks[index] = try await mend(piece) }
      if piece.wanted.count == piece.chunk.count {
        result += chunks[index]
      } else {
        var inner = Cursor(chunks[index])
        inner.skip(piece.wanted.lowerBound)
        result += inner.take(piece.wanted.count)
      }
    }
    return result
  }

  /// Whether these slices together are the piece's chunk.
  static func isRight(_ slices: [Slice], _ piece: Piece) -> Bool {
    fingerprints(of: [slices]) == [piece.fingerprint]
  }

  /// Chunks that lie in one slice are hashed together, the few that lie across two blocks by themselves.
  private static func fingerprints(of chunks: [[Slice]]) -> [Fingerprint] {
    var whole: [UnsafeRawBufferPointer] = []
    whole.reserveCapacity(chunks.count)
    // `chunks` keeps the memory alive to the end of this scope.
    for parts in chunks where parts.count == 1 { whole.append(parts[0].withBytes { $0 }) }
    var hashed = Fingerprint.of(whole)[...]
    let result = chunks.map { parts in
      if parts.count == 1 { return hashed.removeFirst() }
      var hasher = SHA256Hasher()
      for part in parts { part.withBytes { hasher.update($0) } }
      return hasher.finish()
    }
    withExtendedLifetime(chunks) {}
    return result
  }

  /// Walks over slices as if they were one.
  private struct Cursor {
    let slices: [Slice]
    var index = 0
    var offset = 0

    init(_ slices: [Slice]) { self.slices = slices }

    mutating func skip(_ count: Int) { _ = take(count) }

    mutating func take(_ count: Int) -> [Slice] {
      var result: [Slice] = []
      var left = count
      while left > 0 {
        let slice = slices[index]
        let part = min(left, slice.count - offset)
        if part > 0 { result.append(slice[offset..<offset + part]) }
        offset += part
        left -= part
        if offset == slice.count {
          index += 1
          offset = 0
        }
      }
      return result
    }
  }
}
