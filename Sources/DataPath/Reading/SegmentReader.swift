import Coding
import Messages
import Ring
import Stripes

/// Why a segment cannot be read.
enum SegmentError: Error {
  case stripe(StripeError)
  /// The key of a group cannot be had.
  case key(DataPathError)
}

/// Reads segments: what is stored as it is goes out as it came, groups are decoded once for all who want some of them.
/// Nothing goes out that is not as its fingerprint says. Loop-confined.
struct SegmentReader {
  let access: ClusterAccess

  private struct Found {
    /// By part.
    var plain: [Int: [Slice]] = [:]
    /// Those to be read here.
    var own: [Int] = []
    /// Those that somebody else decodes.
    var others: [(index: Int, promise: GroupCache.Pending)] = []
  }

  /// What the object wants of the segment, in order.
  func read(_ segment: Segment) async throws(SegmentError) -> [Slice] {
    var found = Found()
    for (index, part) in segment.parts.enumerated() {
      if !part.isFrame {
        found.own.append(index)
        continue
      }
      switch access.groups.claim(key(segment, part)) {
      case .ready(let plain): found.plain[index] = [plain]
      case .pending(let promise): found.others.append((index, promise))
      case .mine: found.own.append(index)
      }
    }
    do throws(SegmentError) {
      try await readOwn(segment, &found)
    } catch {
      for index in found.own { settle(segment, index, nil) }
      throw error
    }
    for index in found.own { settle(segment, index, found.plain[index]) }
    // Whoever waits for another has given out what is its own: no two wait for each other.
    for (index, promise) in found.others {
      let part = segment.parts[index]
      if let plain = await promise.get(), segment.areRight([(part, [plain])])[0] {
        found.plain[index] = [plain]
      } else {
        found.plain[index] = try await readAlone(segment, part)
      }
    }
    return segment.parts.indices.flatMap { index in
      Segment.wanted(segment.parts[index], of: found.plain[index]!)
    }
  }

  private func key(_ segment: Segment, _ part: Segment.Part) -> GroupCache.Key {
    GroupCache.Key(target: segment.target, offset: part.range.lowerBound)
  }

  private func settle(_ segment: Segment, _ index: Int, _ plain: [Slice]?) {
    let part = segment.parts[index]
    if part.isFrame { access.groups.fulfil(key(segment, part), plain?.first) }
  }

  /// Reads the parts that are to be read here, and judges them and those that were decoded before.
  private func readOwn(_ segment: Segment, _ found: inout Found) async throws(SegmentError) {
    if let first = found.own.first, let last = found.own.last {
      let range =
        segment.parts[first].range.lowerBound..<segment.parts[last].range.upperBound
      let read = try await read(range, of: segment)
      if access.driver.meets(.bytesWrong) {
        read[0].withMutableBytes { $0[$0.count - 1] ^= 1 }
      }
      for (index, stored) in zip(found.own, segment.stored(found.own, in: read)) {
        found.plain[index] = try await decoded(segment.parts[index], stored, segment)
      }
    }
    let judged = segment.parts.indices.compactMap { index in
      found.plain[index].map { (index: index, plain: $0) }
    }
    let areRight = segment.areRight(judged.map { (segment.parts[$0.index], $0.plain) })
    for (one, isRight) in zip(judged, areRight) where !isRight { found.plain[one.index] = nil }
    let waited = Set(found.others.map(\.index))
    for (index, part) in segment.parts.enumerated()
    where found.plain[index] == nil && !waited.contains(index) {
      found.plain[index] = try await mended(segment, part)
    }
  }

  /// A part that somebody else was to decode, and could not, or not right.
  private func readAlone(_ segment: Segment, _ part: Segment.Part) async throws(SegmentError)
    -> [Slice]
  {
    let read = try await read(part.range, of: segment)
    if let plain = try await decoded(part, read, segment), segment.areRight([(part, plain)])[0] {
      return plain
    }
    return try await mended(segment, part)
  }

  private func read(_ range: Range<Int>, of segment: Segment) async throws(SegmentError)
    -> [Slice]
  {
    do throws(StripeError) {
      return try await access.stripes.read(segment.target, layout: segment.layout, range: range)
    } catch {
      throw .stripe(error)
    }
  }

  /// Nil when what is stored is no such group.
  private func decoded(_ part: Segment.Part, _ stored: [Slice], _ segment: Segment)
    async throws(SegmentError) -> [Slice]?
  {
    if !part.isFrame { return stored }
    let frame = joined(stored)
    var key: DataKey?
    if let domain = segment.keyDomain {
      guard let id = Self.keyID(of: frame) else { return nil }
      key = try await dataKey(id)
      guard let key, key.domain == domain.id else { return nil }
    }
    let plain = await access.codecs.decode(
      frame, codec: part.codec, plainByteCount: part.plainByteCount, key: key)
    return (try? plain.get()).map { [$0] }
  }

  /// Nil when there is no such key (any more).
  private func dataKey(_ id: UInt64) async throws(SegmentError) -> DataKey? {
    do throws(DataPathError) {
      return try await access.keys.dataKey(id)
    } catch {
      throw .key(error)
    }
  }

  /// That a frame's header names; nil when it is no header of a sealed frame.
  private static func keyID(of frame: Slice) -> UInt64? {
    guard frame.count > GroupHeader.byteCount else { return nil }
    return (try? GroupHeader(decoding: frame[0..<GroupHeader.byteCount].array))?.seal?.keyID
  }

  private func joined(_ slices: [Slice]) -> Slice {
    if slices.count == 1 { return slices[0] }
    let whole = access.driver.buffers.slice(slices.reduce(0) { $0 + $1.count })
    var end = 0
    for slice in slices {
      slice.withBytes { from in
        whole[end..<end + slice.count].withMutableBytes { $0.copyMemory(from: from) }
      }
      end += slice.count
    }
    return whole
  }

  /// A part's plain bytes, when they came out wrong: rebuilt without each choice of blocks until they are right.
  private func mended(_ segment: Segment, _ part: Segment.Part) async throws(SegmentError)
    -> [Slice]
  {
    var asked: Set<UInt64> = []
    while true {
      var plain: [Slice] = []
      var unknown: UInt64?
      do throws(StripeError) {
        _ = try await access.stripes.readDoubting(
          segment.target, layout: segment.layout, range: part.range
        ) { stored in
          guard part.isFrame else {
            plain = stored
            return segment.areRight([(part, plain)])[0]
          }
          let frame = joined(stored)
          var key: DataKey?
          if let domain = segment.keyDomain {
            guard let id = Self.keyID(of: frame) else { return false }
            key = access.keys.knownDataKey(id)
            if key == nil && !asked.contains(id) { unknown = unknown ?? id }
            guard let key, key.domain == domain.id else { return false }
          }
          guard
            let group = access.codecs.decodeNow(
              frame, codec: part.codec, plainByteCount: part.plainByteCount, key: key)
          else { return false }
          plain = [group]
          return segment.areRight([(part, plain)])[0]
        }
        return plain
      } catch {
        // What came out first named no key, or a wrong one; another choice of blocks named one that is not known here yet.
        guard let unknown, asked.insert(unknown).inserted else { throw .stripe(error) }
        _ = try await dataKey(unknown)
      }
    }
  }
}
