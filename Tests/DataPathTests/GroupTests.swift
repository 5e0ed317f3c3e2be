import Cluster
import Coding
import Messages
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import DataPath
@testable import Stripes

@Suite struct GroupTests {
  private static let pool = BufferPool(retainedByteLimit: 1 << 20)

  private func decode(_ frame: [UInt8], _ codec: Codec, _ plainByteCount: Int) throws -> [UInt8] {
    try frame.withUnsafeBytes {
      try GroupCodec().decode($0, codec: codec, plainByteCount: plainByteCount, in: Self.pool)
    }.array
  }

  @Test("what is decoded is what was compressed, whatever the codec", arguments: Seed.several)
  func roundTrip(seed: Seed) throws {
    var random = seed.generator
    let coder = GroupCodec()
    for _ in 0..<40 {
      let contents = (0..<Int(random.next() % 6) + 1).map { _ in
        random.next() % 3 == 0
          ? noise(Int(random.next() % 9000) + 1, &random)
          : shrinking(Int(random.next() % 90_000) + 1, &random)
      }
      let plain = contents.flatMap { $0 }
      let group = framed(contents, Codec(rawValue: UInt8(random.next() % 4))!, coder)
      #expect(try decode(group.frame, group.codec, plain.count) == plain)
    }
  }

  @Test(
    "a frame that is damaged, cut or another than the directory says is refused, and never traps",
    arguments: Seed.several)
  func damaged(seed: Seed) throws {
    var random = seed.generator
    let coder = GroupCodec()
    for _ in 0..<200 {
      let plain = shrinking(Int(random.next() % 20_000) + 100, &random)
      let wanted = Codec(rawValue: UInt8(random.next() % 3) + 1)!
      let (frame, codec) = framed([plain], wanted, coder)
      var wrong = frame
      switch random.next() % 3 {
      case 0: wrong.removeLast(Int(random.next() % UInt64(frame.count)) + 1)
      case 1: wrong += noise(Int(random.next() % 100) + 1, &random)
      default: wrong[Int(random.next() % UInt64(frame.count))] ^= UInt8(random.next() % 255) + 1
      }
      // A payload has no checksum of its own: what comes out is compared with fingerprints.
      if let found = try? decode(wrong, codec, plain.count) { #expect(found.count == plain.count) }
      #expect(throws: GroupError.self) { try decode(frame, codec, plain.count + 1) }
      #expect(throws: GroupError.self) { try decode(frame, codec, plain.count - 1) }
      let other = Codec(rawValue: codec.rawValue % 3 + 1)!
      #expect(throws: GroupError.self) { try decode(frame, other, plain.count) }
    }
  }

  @Test("a group that claims an absurd size is refused before anything is allocated for it")
  func absurd() throws {
    let header = GroupHeader(
      codec: .zstd, chunkCount: 1, plainByteCount: 1 << 31, payloadByteCount: 20)
    let frame = header.encoded + [UInt8](repeating: 0, count: 20)
    let pool = BufferPool(retainedByteLimit: 1 << 20)
    frame.withUnsafeBytes { frame in
      for claimed in [1 << 31, StorageClass.largestGroup + 1, StorageClass.largestGroup, 0, -1] {
        #expect(throws: GroupError.self) {
          try GroupCodec().decode(frame, codec: .zstd, plainByteCount: claimed, in: pool)
        }
      }
    }
    #expect(pool.idleByteCount == 0)
    // The header says little, the zstd frame inside much.
    var random = SeededGenerator(seed: 4)
    let plain = shrinking(50_000, &random)
    var (large, codec) = framed([plain], .zstd, GroupCodec())
    large.replaceSubrange(
      0..<48,
      with: GroupHeader(
        codec: .zstd, chunkCount: 1, plainByteCount: 100, payloadByteCount: large.count - 48
      ).encoded)
    #expect(codec == .zstd)
    #expect(throws: GroupError.self) { try decode(large, .zstd, 100) }
  }

  @Test("random bytes are not tried, text and records are", arguments: Seed.several)
  func compressibility(seed: Seed) {
    var random = seed.generator
    for _ in 0..<200 {
      let count = Int(random.next() % 120_000) + 4096
      #expect(!noise(count, &random).withUnsafeBytes { Compressibility.isWorthTrying($0) })
      #expect(shrinking(count, &random).withUnsafeBytes { Compressibility.isWorthTrying($0) })
      // Every byte value, and yet half of it is zero.
      var half = noise(count, &random)
      for place in stride(from: 0, to: count, by: 2) { half[place] = 0 }
      #expect(half.withUnsafeBytes { Compressibility.isWorthTrying($0) })
    }
  }

  @Test("the cache has each group decoded by one, forgets the oldest, and knows generations apart")
  func cache() throws {
    try simulate(3) { _ in
      let cache = GroupCache(byteLimit: 4 * 4096)
      func key(_ number: Int, generation: UInt64 = 1) -> GroupCache.Key {
        GroupCache.Key(
          target: StripeTarget(
            container: .init(.data, 1),
            places: [ShardPlace](
              [DeviceID(1)], generation: generation), stripe: 0), offset: number)
      }
      func isMine(_ claim: GroupCache.Claim) -> Bool {
        if case .mine = claim { true } else { false }
      }
      #expect(isMine(cache.claim(key(0))))
      guard case .pending(let promise) = cache.claim(key(0)) else { throw Unexpected() }
      cache.fulfil(key(0), Slice(copying: [7]))
      #expect(await promise.get()?.array == [7])
      guard case .ready(let plain) = cache.claim(key(0)) else { throw Unexpected() }
      #expect(plain.array == [7])
      #expect(isMine(cache.claim(key(0, generation: 2))))
      cache.fulfil(key(0, generation: 2), nil)
      #expect(isMine(cache.claim(key(0, generation: 2))))
      for number in 1..<9 {
        #expect(isMine(cache.claim(key(number))))
        cache.fulfil(key(number), Slice(copying: [UInt8](repeating: 1, count: 4096)))
      }
      #expect(isMine(cache.claim(key(0))))
      #expect(!isMine(cache.claim(key(8))))
    }
  }

  @Test(
    "in every class an object comes back as it was, and takes no more room than its bytes",
    arguments: Seed.several)
  func classes(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "3+2", nodes: 5)
      let client = SmallClient(cluster, "client")
      for (index, name) in ["hot", "warm", "cold"].enumerated() {
        let bucket = "bucket-\(name)"
        _ = try await client.coordinator.execute(
          .createBucket(name: bucket, storageClass: name))
        let writer = ObjectWriter(client.access)
        let plain = shrinking(1_500_000, &random) + noise(300_000, &random)
        _ = try await writer.put(
          ObjectName(bucket: bucket, key: "k"), attributes: ObjectAttributes(),
          source: TestSource(plain, seed: random.next()), unlessIdentical: true)
        try await writer.finish()
        #expect(writer.newByteCount == UInt64(plain.count))
        #expect(writer.groupByteCount < UInt64(plain.count) * 2 / 3, "\(name)")
        for _ in 0..<4 {
          let first = Int(random.next() % UInt64(plain.count))
          let end = min(plain.count, first + Int(random.next() % 400_000) + 1)
          let sink = TestSink(
            UInt64(first)..<UInt64(end), isOrdered: true, driver: client.driver)
          try await ObjectReader(client.access).read(
            ObjectName(bucket: bucket, key: "k"), identity: 0, range: UInt64(first)..<UInt64(end),
            into: sink)
          #expect(sink.bytes == Array(plain[first..<end]))
        }
        let usage = try await client.coordinator.query(GetUsage(level: .strong))
        let mine = try #require(usage.classes.first { $0.storageClass.name == name })
        #expect(mine.id == ClassID(UInt16(index + 1)))
        #expect(mine.logicalBytes == UInt64(plain.count))
        #expect(mine.chunkBytes == UInt64(plain.count))
        #expect(mine.groupBytes == writer.groupByteCount)
      }
      await client.close()
    }
  }

  @Test("buckets of different classes share nothing, and a copy between them is refused")
  func apart() throws {
    try simulate(11) { world in
      var random = SeededGenerator(seed: 11)
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client")
      _ = try await client.coordinator.execute(
        .createBucket(name: "bucket-hot", storageClass: "hot"))
      let plain = shrinking(400_000, &random)
      let writer = ObjectWriter(client.access)
      for bucket in ["bucket", "bucket-hot", "bucket"] {
        let before = writer.newByteCount
        _ = try await writer.put(
          ObjectName(bucket: bucket, key: "k"), attributes: ObjectAttributes(),
          source: TestSource(plain), unlessIdentical: false)
        let isFirst = before == 0 || bucket == "bucket-hot"
        #expect(writer.newByteCount - before == (isFirst ? 400_000 : 0))
      }
      try await writer.finish()
      await #expect(throws: DataPathError.self) {
        _ = try await client.coordinator.execute(
          .copyObject(
            source: ObjectName(bucket: "bucket", key: "k"), sourceIdentity: 0,
            target: ObjectName(bucket: "bucket-hot", key: "other"), attributes: nil, move: false,
            precondition: .none, modified: 0))
      }
      await client.close()
    }
  }

  @Test("a bucket made anew with another class while an object is put gets it in that class")
  func madeAnew() throws {
    try simulate(12) { world in
      var random = SeededGenerator(seed: 12)
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client")
      let plain = shrinking(400_000, &random)
      let writer = ObjectWriter(client.access)
      let source = TestSource(plain)
      source.pause = { [unowned source] in
        source.pause = nil
        _ = try? await client.coordinator.execute(.removeBucket(name: "bucket"))
        _ = try? await client.coordinator.execute(
          .createBucket(name: "bucket", storageClass: "cold"))
      }
      let result = await client.put(writer, "k", source)
      #expect(throws: Never.self) { try result.get() }
      #expect(await client.get("k", 0..<400_000) == .success(plain))
      try await writer.finish()
      let usage = try await client.coordinator.query(GetUsage(level: .strong))
      #expect(usage.classes.first { $0.storageClass.name == "cold" }?.logicalBytes == 400_000)
      await client.close()
    }
  }
}
