import Cluster
import Coding
import Messages
import Ring
import TestSupport
import Testing

@testable import DataPath
@testable import Stripes

/// A few stripes full of groups, and objects made of their chunks.
private struct Store {
  struct Chunk {
    var stripe: Int
    /// Of its group's frame.
    var frame: Range<Int>
    var codec: Codec
    var plainByteCount: Int
    var offset: Int
    var bytes: [UInt8]
  }
  var stripes: [[UInt8]] = []
  var chunks: [Chunk] = []
  let scheme = Scheme(k: 2, m: 1)!

  init(_ random: inout SeededGenerator) {
    let codec = GroupCodec()
    for stripe in 0..<3 {
      var data: [UInt8] = []
      for _ in 0..<Int(random.next() % 4) + 1 {
        let contents = (0..<Int(random.next() % 4) + 1).map { _ in
          shrinking(Int(random.next() % 3000) + 1, &random)
        }
        let group = framed(contents, Codec(rawValue: UInt8(random.next() % 4))!, codec)
        var offset = 0
        for bytes in contents {
          chunks.append(
            Chunk(
              stripe: stripe, frame: data.count..<data.count + group.frame.count,
              codec: group.codec, plainByteCount: contents.reduce(0) { $0 + $1.count },
              offset: offset, bytes: bytes))
          offset += bytes.count
        }
        data += group.frame
      }
      stripes.append(data)
    }
  }

  func layout(_ stripe: Int) -> StripeLayout {
    StripeLayout.smallest(for: stripes[stripe].count, scheme: scheme)
  }

  /// An answer for an object of these chunks with skips and takes, and its bytes.
  func answer(_ random: inout SeededGenerator) -> (ResolveRange.Answer, [UInt8]) {
    var bytes: [UInt8] = []
    var pieces: [ResolveRange.Piece] = []
    for _ in 0..<Int(random.next() % 12) + 1 {
      let start = Int(random.next() % UInt64(chunks.count))
      for chunk in chunks[start..<min(chunks.count, start + Int(random.next() % 5) + 1)] {
        var skip = 0
        var take = chunk.bytes.count
        if random.next() % 3 == 0 {
          skip = Int(random.next() % UInt64(chunk.bytes.count))
          take = Int(random.next() % UInt64(chunk.bytes.count - skip)) + 1
        }
        bytes += chunk.bytes[skip..<skip + take]
        pieces.append(
          ResolveRange.Piece(
            stripeIndex: UInt32(chunk.stripe), groupOffset: UInt32(chunk.frame.lowerBound),
            groupByteCount: UInt32(chunk.frame.count), codec: chunk.codec.rawValue,
            groupPlainByteCount: UInt32(chunk.plainByteCount), chunkOffset: UInt32(chunk.offset),
            chunkByteCount: UInt32(chunk.bytes.count), fingerprint: Fingerprint(of: chunk.bytes),
            skip: UInt32(skip), take: UInt32(take)))
      }
    }
    let answer = ResolveRange.Answer(
      identity: 5, objectByteCount: 1 << 30, contentHash: Fingerprint(of: []),
      attributes: ObjectAttributes(), modified: 0, mapEpoch: 1, inline: [],
      containers: [
        ResolveRange.ContainerPlan(
          container: ContainerID(.data, 1), scheme: scheme,
          places: [ShardPlace]([DeviceID(1), DeviceID(2), DeviceID(3)], generation: 1))
      ],
      stripes: stripes.indices.map {
        ResolveRange.StripePlan(containerIndex: 0, stripe: UInt64($0), layout: layout($0))
      }, pieces: pieces, isLast: true)
    return (answer, bytes)
  }

  /// The range of a stripe, in slices cut at random.
  func read(_ segment: Segment, _ random: inout SeededGenerator) -> [Slice] {
    var rest = stripes[Int(segment.target.stripe)][segment.range]
    var slices: [Slice] = []
    while !rest.isEmpty {
      let count = Int(random.next() % UInt64(rest.count)) + 1
      slices.append(Slice(copying: Array(rest.prefix(count))))
      rest = rest.dropFirst(count)
    }
    return slices
  }

  /// The parts' plain bytes, as far as they can be decoded.
  func plain(_ segment: Segment, _ random: inout SeededGenerator) -> [(Segment.Part, [Slice])] {
    let codec = GroupCodec()
    let stored = segment.stored(Array(segment.parts.indices), in: read(segment, &random))
    return zip(segment.parts, stored).compactMap { part, slices in
      if part.codec == .raw { return (part, slices) }
      let frame = slices.flatMap(\.array)
      let plain = frame.withUnsafeBytes {
        try? codec.decode(
          $0, codec: part.codec, plainByteCount: part.plainByteCount,
          in: BufferPool(retainedByteLimit: 1 << 20))
      }
      return plain.map { (part, [$0]) }
    }
  }
}

@Suite struct SegmentTests {
  @Test("segments give an object's bytes in order, without a gap", arguments: Seed.several)
  func bytes(seed: Seed) async throws {
    var random = seed.generator
    for _ in 0..<100 {
      let store = Store(&random)
      let (answer, bytes) = store.answer(&random)
      var found: [UInt8] = []
      for segment in try Segment.cut(answer, first: 1000, nil) {
        #expect(segment.first == UInt64(1000 + found.count))
        let plain = store.plain(segment, &random)
        #expect(plain.count == segment.parts.count)
        #expect(segment.areRight(plain).allSatisfy { $0 })
        let part = plain.flatMap { Segment.wanted($0.0, of: $0.1) }.flatMap(\.array)
        #expect(part.count == Int(segment.byteCount))
        found += part
      }
      #expect(found == bytes)
    }
  }

  @Test(
    "a wrong byte makes the parts that have it wrong, or not to be decoded, and no other",
    arguments: Seed.several)
  func corruption(seed: Seed) async throws {
    var random = seed.generator
    for _ in 0..<50 {
      let store = Store(&random)
      let segment = try Segment.cut(store.answer(&random).0, first: 0, nil)[0]
      let range = segment.parts.randomElement(using: &random)!.range
      var wrong = store
      let place = range.lowerBound + Int(random.next() % UInt64(range.count))
      wrong.stripes[Int(segment.target.stripe)][place] ^= 1
      let plain = wrong.plain(segment, &random)
      let right = zip(plain, segment.areRight(plain)).filter(\.1).map(\.0)
      for part in segment.parts where !part.range.contains(place) {
        #expect(right.contains { $0.0.range == part.range })
      }
      // What came out right is right, wherever the wrong byte is: some bits of a frame mean nothing.
      let before = store.plain(segment, &random)
      for (part, found) in right {
        let expected = before.first { $0.0.range == part.range }!.1
        #expect(
          Segment.wanted(part, of: found).flatMap(\.array)
            == Segment.wanted(part, of: expected).flatMap(\.array))
      }
    }
  }

  @Test("an answer that contradicts itself is refused, and never traps", arguments: Seed.several)
  func contradictions(seed: Seed) async throws {
    var random = seed.generator
    for _ in 0..<500 {
      let store = Store(&random)
      var (answer, _) = store.answer(&random)
      let index = Int(random.next() % UInt64(answer.pieces.count))
      let wild = [UInt32(0), 1, 100, 1 << 20, 1 << 31, .max].randomElement(using: &random)!
      switch random.next() % 10 {
      case 0: answer.pieces[index].stripeIndex = wild
      case 1: answer.pieces[index].groupOffset = wild
      case 2: answer.pieces[index].chunkOffset = wild
      case 3: answer.pieces[index].chunkByteCount = wild
      case 4: answer.pieces[index].skip = wild
      case 5: answer.pieces[index].take = wild
      case 6: answer.stripes[Int(answer.pieces[index].stripeIndex)].containerIndex = wild
      case 7: answer.pieces[index].groupByteCount = wild
      case 8: answer.pieces[index].groupPlainByteCount = wild
      default: answer.pieces[index].codec = UInt8(truncatingIfNeeded: wild)
      }
      do throws(DataPathError) {
        for segment in try Segment.cut(answer, first: 0, nil) {
          #expect(segment.range.upperBound <= segment.layout.byteCount)
          #expect(
            segment.byteCount
              == segment.parts.reduce(0) { sum, part in
                part.pieces.reduce(sum) { $0 + UInt64($1.wanted.count) }
              })
          let plain = store.plain(segment, &random)
          for (part, found) in plain where segment.areRight([(part, found)])[0] {
            _ = Segment.wanted(part, of: found)
          }
        }
      } catch {
        guard case .corrupt = error else { throw Unexpected() }
      }
    }
  }
}
