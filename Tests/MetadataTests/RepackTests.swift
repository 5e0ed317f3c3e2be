import Cluster
import Coding
import Messages
import TestSupport
import Testing
import Wire

@testable import Metadata

@Suite("Packing a container's groups anew")
struct RepackTests {
  /// A directory as writers leave it: short stripes and full ones, some not registered, groups of all sizes.
  private func directory(_ random: inout SeededGenerator, scheme: Scheme, largest: Int)
    -> [StripeRecord]
  {
    var rows: [StripeRecord] = []
    var stripe: UInt64 = 0
    var ordinal: UInt64 = 0
    for _ in 0..<Int.random(in: 1..<30, using: &random) {
      stripe += UInt64.random(in: 1..<4, using: &random)
      if Int.random(in: 0..<4, using: &random) == 0 { ordinal += 7 }
      var groups: [StripeRecord.Group] = []
      var offset = 0
      let wanted = Int.random(in: 1..<40, using: &random)
      while groups.count < wanted {
        let size = Int.random(in: 49..<largest, using: &random)
        guard offset + size <= StripeLayout.capacity(of: scheme) else { break }
        let chunks = (0..<Int.random(in: 1..<3, using: &random)).map { _ in
          StripeRecord.Chunk(
            fingerprint: Workload.fingerprint(Int.random(in: 0..<1000, using: &random)),
            byteCount: 17)
        }
        groups.append(
          StripeRecord.Group(
            offset: UInt32(offset), storedByteCount: UInt32(size), codec: .raw, chunks: chunks))
        offset += size
      }
      if groups.isEmpty { continue }
      rows.append(
        StripeRecord(
          stripe: stripe, layout: .smallest(for: offset, scheme: scheme), firstOrdinal: ordinal,
          groups: groups))
      ordinal += UInt64(rows.last!.chunkCount)
    }
    return rows
  }

  /// Each ordinal's chunk, and which bytes of the old stripes hold its group.
  private struct Home: Hashable {
    var chunk: StripeRecord.Chunk
    var stripe: UInt64
    var range: Range<Int>
  }
  private func homes(_ rows: [StripeRecord], _ origin: (UInt64, Range<Int>) -> (UInt64, Range<Int>))
    -> [UInt64: Home]
  {
    var homes: [UInt64: Home] = [:]
    for row in rows {
      var ordinal = row.firstOrdinal
      for group in row.groups {
        let start = Int(group.offset)
        let (stripe, range) = origin(row.stripe, start..<start + Int(group.storedByteCount))
        for chunk in group.chunks {
          #expect(homes[ordinal] == nil)
          homes[ordinal] = Home(chunk: chunk, stripe: stripe, range: range)
          ordinal += 1
        }
      }
    }
    return homes
  }

  @Test(
    "groups move byte for byte, ordinals stay, stripes are as full as can be",
    arguments: Seed.several)
  func repack(seed: Seed) throws {
    var random = seed.generator
    let schemes = [(1, 0), (1, 1), (1, 3), (2, 1), (4, 2), (4, 3), (6, 3), (8, 3), (20, 4)]
    let (k, m) = schemes.randomElement(using: &random)!
    let (newK, newM) = schemes.randomElement(using: &random)!
    let scheme = Scheme(k: newK, m: newM)!
    let capacity = StripeLayout.capacity(of: scheme)
    let rows = directory(
      &random, scheme: Scheme(k: k, m: m)!,
      largest: [3000, 70_000, 1_000_000].randomElement(using: &random)!)
    let repacked = try #require(Repacking(rows, scheme: scheme))

    let stripes = Dictionary(uniqueKeysWithValues: repacked.stripes.map { ($0.stripe, $0) })
    let after = homes(repacked.rows) { number, range in
      // The piece of the old generation that the group's bytes come from.
      let stripe = stripes[number]!
      var start = 0
      for part in stripe.parts {
        if range.lowerBound < start + part.range.count {
          #expect(range.upperBound <= start + part.range.count)
          let shift = part.range.lowerBound - start
          return (part.stripe, range.lowerBound + shift..<range.upperBound + shift)
        }
        start += part.range.count
      }
      Issue.record("a group outside its stripe")
      return (number, range)
    }
    #expect(after == homes(rows) { ($0, $1) })

    #expect(repacked.stripes.map(\.stripe) == (0..<UInt64(repacked.stripes.count)).map { $0 })
    for (stripe, following) in zip(repacked.stripes, repacked.stripes.dropFirst()) {
      let next = repacked.rows.first { $0.stripe == following.stripe }!.groups[0]
      #expect(stripe.layout.byteCount + Int(next.storedByteCount) > capacity)
    }
    for stripe in repacked.stripes {
      #expect(stripe.layout.scheme == scheme)
      #expect(stripe.parts.reduce(0) { $0 + $1.range.count } == stripe.layout.byteCount)
      #expect(try RepackedStripe(decoding: stripe.encoded) == stripe)
    }
    for row in repacked.rows {
      #expect(row.layout == stripes[row.stripe]!.layout)
      #expect(try StripeRecord(decoding: row.encoded) == row)
    }
    #expect(repacked.byteCount == rows.flatMap(\.groups).reduce(0) { $0 + Int($1.storedByteCount) })
    // Once more changes nothing but where it comes from.
    #expect(Repacking(repacked.rows, scheme: scheme)?.rows == repacked.rows)
  }

  @Test(
    "only groups without a living ordinal go",
    arguments: Seed.several)
  func living(seed: Seed) throws {
    var random = seed.generator
    let rows = directory(&random, scheme: Scheme("4+2")!, largest: 70_000)
    let all = homes(rows) { ($0, $1) }
    let alive = Set(all.keys.filter { _ in Int.random(in: 0..<3, using: &random) == 0 })
    let runs = NumberRun.normalized(alive.map { NumberRun(first: $0, count: 1) })
    let (kept, dead) = Repacking.living(rows, alive: runs)
    let left = homes(kept) { ($0, $1) }
    for (ordinal, home) in left { #expect(all[ordinal] == home) }
    #expect(alive.allSatisfy { left[$0] != nil })
    for (first, group) in dead {
      for index in group.chunks.indices {
        #expect(!alive.contains(first + UInt64(index)) && left[first + UInt64(index)] == nil)
      }
    }
    #expect(left.count + dead.reduce(0) { $0 + $1.group.chunks.count } == all.count)
  }

  @Test("a group that no stripe of the scheme can hold is no reason to lose it")
  func tooLarge() {
    let size = StripeLayout.capacity(of: Scheme("1+1")!) + 1
    let row = StripeRecord(
      stripe: 3, layout: .smallest(for: size, scheme: Scheme("2+1")!), firstOrdinal: 0,
      groups: [
        .init(
          offset: 0, storedByteCount: UInt32(size), codec: .raw,
          chunks: [.init(fingerprint: Workload.fingerprint(1), byteCount: 9)])
      ])
    #expect(Repacking([row], scheme: Scheme("1+1")!) == nil)
    #expect(Repacking([row], scheme: Scheme("2+2")!) != nil)
    #expect(Repacking([], scheme: Scheme("2+2")!) == nil)
  }

  @Test(
    "an object reads the same when its container has another scheme"
  )
  func swap() throws {
    let desk = try Desk()
    try desk.ask(.createBucket(name: "bucket"))
    let upload = try desk.openUpload()
    let grant = try desk.grant(upload)
    let contents = [[1, 2], [3], [4, 5, 6]]
    var ordinal: UInt64 = 0
    var stripes: [StripeRecord] = []
    for (index, chunks) in contents.enumerated() {
      stripes.append(desk.stripe(UInt64(index) * 2, ordinal: ordinal, chunks))
      ordinal += UInt64(chunks.count)
    }
    #expect(try desk.register(upload, grant, stripes) == .done)
    let run = desk.run(grant, 0, [1, 2, 3, 4, 5, 6])
    #expect(desk.number(try desk.commit("a", .embedded([run]), run.byteCount, upload: upload)) > 0)
    func read() throws -> ResolveRange.Answer {
      try desk.machine.resolve(
        ResolveRange(
          level: .strong, name: ObjectName(bucket: "bucket", key: "a"), identity: 0, first: 0,
          byteCount: .max))
    }
    let before = try read()
    #expect(before.stripes.count == 3)
    let begin = Command.beginRepack(
      grant.container, scheme: Scheme("3+2")!, devices: [20, 40, 10, 60, 50].map { DeviceID($0) },
      isThinned: false)
    #expect(desk.code(try desk.log(begin)) == .failed)  // It is open.
    try desk.ask(.releaseGrant(grant: grant.id, container: grant.container))
    let lease = desk.number(try desk.log(begin))
    #expect(desk.code(try desk.log(begin)) == .failed)
    #expect(try read().stripes == before.stripes)
    #expect(try desk.log(.commitRewrite(grant.container, lease: lease)) == .done)

    let after = try read()
    #expect(after.pieces.map(\.fingerprint) == before.pieces.map(\.fingerprint))
    #expect(after.stripes.count == 1)
    #expect(after.containers[0].scheme == Scheme("3+2")!)
    #expect(after.containers[0].places.allSatisfy { $0.generation == lease })
    let doomed = try desk.machine.doomedShards(limit: 100)
    #expect(doomed.map(\.device) == Desk.devices)
    #expect(doomed.allSatisfy { $0.shard.generation == grant.generation })
    // Not full, so a writer goes on in it, in the new generation.
    let next = try desk.ask(
      .requestGrant(
        upload: upload, avoid: [],
        placement: ClientCommand.Placement(
          scheme: Scheme("3+2")!, devices: [20, 40, 10, 60, 50].map { DeviceID($0) })))
    guard case .grant(let bytes) = next else { throw CancellationError() }
    let second = try Grant(decoding: bytes)
    #expect(second.container == grant.container && second.generation == lease)
    #expect(second.firstStripe == 1 && second.firstOrdinal == 6)
    #expect(try violations(in: desk.store) == [])
  }
}
