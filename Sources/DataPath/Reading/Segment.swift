import Cluster
import Coding
import Messages
import Ring
import Stripes

/// Consecutive bytes of an object that lie in one stripe close together, read as one range of it.
struct Segment: Sendable {
  var target: StripeTarget
  var layout: StripeLayout
  /// The object's byte that the segment begins with, and how many of its bytes it gives.
  var first: UInt64
  var byteCount: UInt64
  var parts: [Part]
  /// In which its groups are sealed and its chunks named; nil: they are plain.
  var keyDomain: KeyedDomain?

  /// What is read and judged as one: a chunk that is stored as it is, or a group that must be decoded whole.
  struct Part: Sendable {
    /// In the stripe's data bytes: the chunk's bytes, or the group's frame.
    var range: Range<Int>
    var codec: Codec
    /// Whether `range` is a frame.
    var isFrame: Bool
    var plainByteCount: Int
    /// In the order of the object.
    var pieces: [Piece]
  }

  struct Piece: Sendable {
    /// In the part's plain bytes.
    var chunk: Range<Int>
    var fingerprint: Fingerprint
    /// Of the chunk, what the object wants.
    var wanted: Range<Int>
  }

  /// Of the stripe's data bytes: from the first part to the last one's end.
  var range: Range<Int> { parts[0].range.lowerBound..<parts[parts.count - 1].range.upperBound }
  /// What it takes in memory: what is read, and what groups decode to.
  var memoryByteCount: Int {
    parts.reduce(range.count) { $0 + ($1.isFrame ? $1.plainByteCount : 0) }
  }

  /// Unread bytes between two parts that are read along rather than asked for separately.
  private static let gapLimit = 64 << 10
  /// Plain bytes of groups in one segment: a stripe of well compressed ones may hold many times its size.
  private static let plainLimit = 4 << 20

  /// - Parameters:
  ///   - first: the object's byte that the plan begins with.
  ///   - keyDomain: the one that the plan names, with its key.
  /// - Throws: ``DataPathError/corrupt(_:)`` when the plan contradicts itself.
  static func cut(_ plan: ResolveRange.Answer, first: UInt64, _ keyDomain: KeyedDomain?)
    throws(DataPathError) -> [Segment]
  {
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
      let part = try part(of: piece, in: stripe, isSealed: keyDomain != nil)
      guard piece.take > 0,
        UInt64(piece.skip) + UInt64(piece.take) <= UInt64(piece.chunkByteCount),
        stripe.layout.scheme == container.scheme,
        container.places.count == container.scheme.width
      else { throw .corrupt("piece outside its stripe") }
      if lastStripe != piece.stripeIndex || segments.isEmpty
        || !segments[segments.count - 1].append(part)
      {
        segments.append(
          Segment(
            target: StripeTarget(
              container: container.container, places: container.places, stripe: stripe.stripe),
            layout: stripe.layout, first: offset, byteCount: 0, parts: [part],
            keyDomain: keyDomain))
      }
      segments[segments.count - 1].byteCount += UInt64(piece.take)
      lastStripe = piece.stripeIndex
      offset += UInt64(piece.take)
    }
    return segments
  }

  private static func part(
    of piece: ResolveRange.Piece, in stripe: ResolveRange.StripePlan, isSealed: Bool
  ) throws(DataPathError) -> Part {
    guard let codec = Codec(rawValue: piece.codec) else {
      throw .corrupt("codec \(piece.codec) is not known here")
    }
    let place = Int(piece.chunkOffset)
    let end = place + Int(piece.chunkByteCount)
    let frame = Int(piece.groupOffset)..<Int(piece.groupOffset) + Int(piece.groupByteCount)
    guard frame.upperBound <= stripe.layout.byteCount, frame.count > GroupHeader.byteCount,
      end <= Int(piece.groupPlainByteCount),
      Int(piece.groupPlainByteCount) <= StorageClass.largestGroup,
      GroupHeader.isFrame(
        UInt64(frame.count), of: UInt64(piece.groupPlainByteCount), codec: codec,
        isSealed: isSealed)
    else { throw .corrupt("group of a piece") }
    let wanted = Int(piece.skip)..<Int(piece.skip) + Int(piece.take)
    // One chunk of a raw group can be had without the others; of one that is sealed only all.
    if codec == .raw && !isSealed {
      let start = frame.lowerBound + GroupHeader.byteCount + place
      return Part(
        range: start..<start + (end - place), codec: .raw, isFrame: false,
        plainByteCount: end - place,
        pieces: [
          Piece(chunk: 0..<end - place, fingerprint: piece.fingerprint, wanted: wanted)
        ])
    }
    return Part(
      range: frame, codec: codec, isFrame: true, plainByteCount: Int(piece.groupPlainByteCount),
      pieces: [Piece(chunk: place..<end, fingerprint: piece.fingerprint, wanted: wanted)])
  }

  /// Takes the next part in, when it lies behind the last one or is the same; false when it does not fit.
  private mutating func append(_ part: Part) -> Bool {
    let last = parts[parts.count - 1]
    if part.isFrame, part.range == last.range, part.codec == last.codec,
      part.plainByteCount == last.plainByteCount
    {
      parts[parts.count - 1].pieces += part.pieces
      return true
    }
    let gap = part.range.lowerBound - last.range.upperBound
    guard gap >= 0, gap <= Self.gapLimit else { return false }
    if part.isFrame {
      let plain = parts.reduce(0) { $0 + ($1.isFrame ? $1.plainByteCount : 0) }
      guard plain + part.plainByteCount <= Self.plainLimit else { return false }
    }
    parts.append(part)
    return true
  }

  /// The parts' bytes as they are stored, from slices that together are the range between the first and the last of them.
  ///
  /// - Parameter indices: of parts, ascending, at least one.
  func stored(_ indices: [Int], in read: [Slice]) -> [[Slice]] {
    var cursor = Cursor(read)
    var position = parts[indices[0]].range.lowerBound
    return indices.map { index in
      cursor.skip(parts[index].range.lowerBound - position)
      position = parts[index].range.upperBound
      return cursor.take(parts[index].range.count)
    }
  }

  /// What the object wants of a part's plain bytes.
  static func wanted(_ part: Part, of plain: [Slice]) -> [Slice] {
    var result: [Slice] = []
    for piece in part.pieces {
      var cursor = Cursor(plain)
      cursor.skip(piece.chunk.lowerBound + piece.wanted.lowerBound)
      result += cursor.take(piece.wanted.count)
    }
    return result
  }

  /// For each part whether all its pieces are as their fingerprints say, in the plain bytes given. Nothing is copied; chunks that
  /// lie in one slice are hashed together, the few that lie across two blocks by themselves.
  func areRight(_ parts: [(part: Part, plain: [Slice])]) -> [Bool] {
    var chunks: [[Slice]] = []
    for (part, plain) in parts {
      for piece in part.pieces {
        var cursor = Cursor(plain)
        cursor.skip(piece.chunk.lowerBound)
        chunks.append(cursor.take(piece.chunk.count))
      }
    }
    var found = Self.fingerprints(of: chunks)[...]
    if let keyDomain { found = found.map { keyDomain.keyed($0) }[...] }
    return parts.map { part, _ in
      var isRight = true
      for piece in part.pieces where found.removeFirst() != piece.fingerprint { isRight = false }
      return isRight
    }
  }

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
