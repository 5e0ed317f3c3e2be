import Cluster
import Coding
import Messages
import Ring
import TestSupport
import Testing

@testable import DataPath
@testable import Stripes

/// A few stripes full of chunks, and objects made of them.
private struct Store {
  struct Chunk {
    var stripe: Int
    var offset: Int
    var bytes: [UInt8]
  }
  var stripes: [[UInt8]] = []
  var chunks: [Chunk] = []
  let scheme = Scheme(k: 2, m: 1)!

  init(_ random: inout SeededGenerator) {
    for stripe in 0..<3 {
      var data: [UInt8] = []
      for _ in 0..<Int(random.next() % 6) + 1 {
        let bytes = noise(Int(random.next() % 3000) + 1, &random)
        data +=
          GroupHeader(
            codec: .raw, chunkCount: 1, plainByteCount: bytes.count, payloadByteCount: bytes.count
          ).encoded
        chunks.append(Chunk(stripe: stripe, offset: data.count, bytes: bytes))
        data += bytes
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
            stripeIndex: UInt32(chunk.stripe), groupOffset: UInt32(chunk.offset - 48),
            groupByteCount: UInt32(chunk.bytes.count + 48), codec: 0, chunkOffset: 0,
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
}

@Suite struct SegmentTests {
  @Test("segments give an object's bytes in order, without a gap", arguments: Seed.several)
  func bytes(seed: Seed) async throws {
    var random = seed.generator
    for _ in 0..<100 {
      let store = Store(&random)
      let (answer, bytes) = store.answer(&random)
      var found: [UInt8] = []
      for segment in try Segment.cut(answer, first: 1000) {
        #expect(segment.first == UInt64(1000 + found.count))
        let part = try await segment.extract(store.read(segment, &random)) {
          _ async throws(StripeError) in throw .cancelled
        }.flatMap(\.array)
        #expect(part.count == Int(segment.byteCount))
        found += part
      }
      #expect(found == bytes)
    }
  }

  @Test(
    "a wrong byte in a chunk is never given out: that chunk, and no other, is asked for again",
    arguments: Seed.several)
  func corruption(seed: Seed) async throws {
    var random = seed.generator
    for _ in 0..<50 {
      let store = Store(&random)
      let (answer, bytes) = store.answer(&random)
      let segment = try Segment.cut(answer, first: 0)[0]
      let chunk = segment.pieces.randomElement(using: &random)!.chunk
      var wrong = store
      let place = chunk.lowerBound + Int(random.next() % UInt64(chunk.count))
      wrong.stripes[Int(segment.target.stripe)][place] ^= 1
      await #expect(throws: StripeError.cancelled) {
        try await segment.extract(wrong.read(segment, &random)) {
          _ async throws(StripeError) in throw .cancelled
        }
      }
      var asked: [Range<Int>] = []
      let found = try await segment.extract(wrong.read(segment, &random)) {
        piece async throws(StripeError) in
        asked.append(piece.chunk)
        let right = Slice(
          copying: Array(store.stripes[Int(segment.target.stripe)][piece.chunk]))
        #expect(Segment.isRight([right[0..<1], right[1..<right.count]], piece) || right.count == 1)
        return [right]
      }
      #expect(Set(asked) == [chunk])
      #expect(
        found.flatMap(\.array) == Array(bytes.prefix(Int(segment.byteCount))))
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
      switch random.next() % 8 {
      case 0: answer.pieces[index].stripeIndex = wild
      case 1: answer.pieces[index].groupOffset = wild
      case 2: answer.pieces[index].chunkOffset = wild
      case 3: answer.pieces[index].chunkByteCount = wild
      case 4: answer.pieces[index].skip = wild
      case 5: answer.pieces[index].take = wild
      case 6: answer.stripes[Int(answer.pieces[index].stripeIndex)].containerIndex = wild
      default: answer.pieces[index].codec = UInt8(truncatingIfNeeded: wild)
      }
      do throws(DataPathError) {
        for segment in try Segment.cut(answer, first: 0) {
          #expect(segment.range.upperBound <= segment.layout.byteCount)
          #expect(
            segment.byteCount
              == segment.pieces.reduce(0) { $0 + UInt64($1.wanted.count) })
          _ = try? await segment.extract(store.read(segment, &random)) {
            _ async throws(StripeError) in throw .cancelled
          }
        }
      } catch {
        guard case .corrupt = error else { throw Unexpected() }
      }
    }
  }
}
