import Cluster
import Coding
import Coordinator
import Messages
import Ring
import Simulation
import Stripes
import TestSupport
import Testing
import Wire

@testable import DataPath

@Suite struct EncryptionTests {
  private static let pool = BufferPool(retainedByteLimit: 1 << 20)

  private func decode(_ frame: [UInt8], _ codec: Codec, _ plainByteCount: Int, _ key: DataKey?)
    throws -> [UInt8]
  {
    try frame.withUnsafeBytes {
      try GroupCodec().decode(
        $0, codec: codec, plainByteCount: plainByteCount, key: key, in: Self.pool)
    }.array
  }

  @Test(
    "a sealed frame opens with its key alone; whatever byte of it is changed, it does not open",
    arguments: Seed.several)
  func frames(seed: Seed) throws {
    var random = seed.generator
    let coder = GroupCodec()
    for _ in 0..<60 {
      let key = DataKey(id: random.next() | 1, domain: KeyDomainID(1), key: random.bytes(32))
      let contents = (0..<Int(random.next() % 4) + 1).map { _ in
        random.next() % 3 == 0
          ? noise(Int(random.next() % 9000) + 1, &random)
          : shrinking(Int(random.next() % 30_000) + 1, &random)
      }
      let plain = contents.flatMap { $0 }
      let wanted = Codec(rawValue: UInt8(random.next() % 4))!
      let (frame, codec) = framed(contents, wanted, coder, key, nonce: random.next())
      #expect(try decode(frame, codec, plain.count, key) == plain)
      for _ in 0..<30 {
        var wrong = frame
        switch random.next() % 4 {
        case 0: wrong.removeLast(Int(random.next() % UInt64(frame.count)) + 1)
        case 1: wrong += noise(Int(random.next() % 100) + 1, &random)
        default:
          let place = Int(random.next() % UInt64(random.next() % 2 == 0 ? 48 : frame.count))
          wrong[place] ^= UInt8(random.next() % 255) + 1
          // As one would who means harm: the header's checksum is right again.
          if place < 44 { GroupCodecForgery.mend(&wrong) }
        }
        #expect(throws: GroupError.self) { try decode(wrong, codec, plain.count, key) }
      }
      var other = key
      other.key[Int(random.next() % 32)] ^= 1
      #expect(throws: GroupError.notAuthentic) { try decode(frame, codec, plain.count, other) }
      other = key
      other.id += 2
      #expect(throws: GroupError.self) { try decode(frame, codec, plain.count, other) }
      // Neither passes for the other.
      #expect(throws: GroupError.self) { try decode(frame, codec, plain.count, nil) }
      let bare = framed(contents, wanted, coder)
      #expect(throws: GroupError.self) { try decode(bare.frame, bare.codec, plain.count, key) }
      #expect(throws: GroupError.self) { try decode(frame, codec, plain.count + 1, key) }
      #expect(throws: GroupError.self) { try decode(frame, codec, plain.count - 1, key) }
    }
  }

  @Test(
    "in a key domain objects come back as they were, from sealed groups, whose nonces are never the same under one key",
    arguments: Seed.several)
  func objects(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(
        world, scheme: "3+2", nodes: 5, masterKeys: ["first"])
      let client = SmallClient(cluster, "client")
      try await client.makeDomain("secret")
      var seals: [GroupHeader.Seal: String] = [:]
      var keys: Set<UInt64> = []
      for (round, name) in ["hot", "warm", "cold", "warm"].enumerated() {
        let bucket = "bucket-\(round)"
        _ = try await client.coordinator.execute(
          .createBucket(name: bucket, storageClass: name, keyDomain: "secret"))
        let writer = ObjectWriter(client.access)
        for (key, plain) in [
          ("large", shrinking(900_000, &random) + noise(300_000, &random)),
          ("small", noise(Int(random.next() % 3000) + 1, &random)), ("none", []),
        ] {
          let name = ObjectName(bucket: bucket, key: key)
          let put = try await writer.put(
            name, attributes: ObjectAttributes(),
            source: TestSource(plain, seed: random.next()), unlessIdentical: true)
          // Nothing tells what it is to who has no key.
          if !plain.isEmpty { #expect(put.contentHash != Fingerprint(of: plain)) }
          let reader = SmallClient(cluster, "reader \(round) \(key)")
          for range in [0..<plain.count, plain.count / 3..<plain.count - plain.count / 4] {
            let sink = TestSink(
              UInt64(range.lowerBound)..<UInt64(range.upperBound), isOrdered: true,
              driver: reader.driver)
            try await ObjectReader(reader.access).read(
              name, identity: 0, range: UInt64(range.lowerBound)..<UInt64(range.upperBound),
              into: sink)
            #expect(sink.bytes == Array(plain[range]))
          }
          for (place, seal) in try await reader.seals(of: name) {
            keys.insert(seal.keyID)
            #expect(seals[seal] ?? place == place, "\(seal) twice")
            seals[seal] = place
          }
          await reader.close()
        }
        try await writer.finish()
      }
      // Each writer has its own.
      #expect(keys.count >= 4 && seals.count > 10)
      let domains = try await client.coordinator.query(ListKeyDomains(level: .strong)).domains
      #expect(domains.map(\.keys).map { $0.map(\.dataKeyCount) } == [[UInt64(keys.count)]])
      await client.close()
    }
  }

  @Test("key domains share nothing with others, and everything within")
  func apart() throws {
    try simulate(11) { world in
      var random = SeededGenerator(seed: 11)
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3, masterKeys: ["first"])
      let client = SmallClient(cluster, "client")
      for domain in ["one", "two"] {
        try await client.makeDomain(domain)
        for number in 0..<2 {
          _ = try await client.coordinator.execute(
            .createBucket(name: "\(domain)-\(number)", keyDomain: domain))
        }
      }
      let plain = shrinking(400_000, &random)
      let writer = ObjectWriter(client.access)
      for (bucket, isNew) in [
        ("bucket", true), ("one-0", true), ("one-1", false), ("two-0", true), ("one-0", false),
      ] {
        let before = writer.newByteCount
        _ = try await writer.put(
          ObjectName(bucket: bucket, key: "k"), attributes: ObjectAttributes(),
          source: TestSource(plain), unlessIdentical: false)
        #expect(writer.newByteCount - before == (isNew ? 400_000 : 0), "\(bucket)")
      }
      try await writer.finish()
      func copy(_ source: String, _ key: String, _ target: String) async -> RefusalCode? {
        do throws(DataPathError) {
          _ = try await client.coordinator.execute(
            .copyObject(
              source: ObjectName(bucket: source, key: key), sourceIdentity: 0,
              target: ObjectName(bucket: target, key: "copy"), attributes: nil, move: false,
              precondition: .none, modified: 0))
          return nil
        } catch {
          return error.refusalCode
        }
      }
      #expect(await copy("one-0", "k", "one-1") == nil)
      #expect(await copy("one-0", "k", "two-0") == .otherClass)
      #expect(await copy("one-0", "k", "bucket") == .otherClass)
      #expect(await copy("bucket", "k", "one-0") == .otherClass)
      // A small one is inlined where that is not secret.
      let other = ObjectWriter(client.access)
      _ = await client.put(other, "small", TestSource([1, 2, 3]))
      try await other.finish()
      #expect(await copy("bucket", "small", "one-0") == .otherClass)
      // A bucket keeps its keys while it has objects.
      func set(_ bucket: String, _ domain: String) async -> RefusalCode? {
        do throws(DataPathError) {
          _ = try await client.coordinator.query(
            SetBucketKeyDomain(bucket: bucket, keyDomain: domain))
          return nil
        } catch {
          return error.refusalCode
        }
      }
      #expect(await set("one-0", "two") == .bucketNotEmpty)
      #expect(await set("one-0", "") == .bucketNotEmpty)
      #expect(await set("bucket", "one") == .bucketNotEmpty)
      #expect(await set("two-1", "nix") == .noSuchKeyDomain)
      #expect(await set("two-1", "one") == nil)
      await client.close()
    }
  }

  @Test("keys are wrapped anew while objects are written, and not a byte of these is")
  func rotation() throws {
    try simulate(13) { world in
      var random = SeededGenerator(seed: 13)
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3, masterKeys: ["first"])
      let client = SmallClient(cluster, "client")
      try await client.makeDomain("secret")
      _ = try await client.coordinator.execute(.createBucket(name: "sealed", keyDomain: "secret"))
      let plain = shrinking(1_500_000, &random)
      let writer = ObjectWriter(
        client.access, options: .init(memoryByteCount: 1 << 20, pieceByteCount: 1 << 18))
      let source = TestSource(plain)
      let turns = Turns()
      source.pause = {
        turns.count += 1
        guard turns.count % 3 == 0 else { return }
        _ = try? await client.coordinator.query(RotateKeys(domain: "secret"))
        try? await cluster.writeMasterKeys(["first", "second"])
        _ = try? await client.coordinator.query(RotateKeys(domain: nil))
      }
      let name = ObjectName(bucket: "sealed", key: "k")
      _ = try await writer.put(
        name, attributes: ObjectAttributes(), source: source, unlessIdentical: false)
      #expect(turns.count > 5)
      let domain = try #require(
        try await client.coordinator.query(ListKeyDomains(level: .strong)).domains.first)
      #expect(domain.keys.count == 1 && domain.keys[0].version > 2)
      #expect(domain.keys[0].masterKey == "second" && domain.keys[0].dataKeyCount >= 1)
      let seals = try await client.seals(of: name)
      // The old one is not needed any more, the new one is.
      try await cluster.writeMasterKeys(["second"])
      try await cluster.restartCoordinator()
      #expect(await client.read(name, plain.count, cluster) == .success(plain))
      #expect(try await client.seals(of: name) == seals)
      try await cluster.writeMasterKeys(["first"])
      try await cluster.restartCoordinator()
      guard case .failure(let error) = await client.read(name, plain.count, cluster) else {
        throw Unexpected()
      }
      #expect(error.refusalCode == .keyUnavailable && "\(error)".contains("'second'"))
      // The same name for another key.
      try await cluster.writeMasterKeys(["second"], salt: 1)
      try await cluster.restartCoordinator()
      #expect(
        await client.read(name, plain.count, cluster).error?.refusalCode == .keyUnavailable)
      // Objects of plain buckets go on.
      let other = ObjectWriter(client.access)
      #expect(await client.put(other, "plain", TestSource(plain)).error == nil)
      #expect(await client.get("plain", 0..<UInt64(plain.count)) == .success(plain))
      try await other.finish()
      await writer.abandon()
      await client.close()
    }
  }

  @Test("without a master key no domain is made, and the line that is missing is named")
  func noProvider() throws {
    try simulate(14) { world in
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client")
      do throws(DataPathError) {
        _ = try await client.coordinator.query(CreateKeyDomain(name: "secret"))
        throw .corrupt("it was made")
      } catch {
        #expect(error.refusalCode == .keyUnavailable && "\(error)".contains("master_keys"))
      }
      await client.close()
    }
  }

  @Test(
    "a sealed block with a true CRC over wrong bytes costs a rebuild and is reported",
    arguments: Seed.several)
  func tampered(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(
        world, scheme: "3+2", nodes: 5, masterKeys: ["first"])
      let client = SmallClient(cluster, "client")
      try await client.makeDomain("secret")
      _ = try await client.coordinator.execute(.createBucket(name: "sealed", keyDomain: "secret"))
      let bucket = try await client.coordinator.query(GetBucket(level: .strong, name: "sealed"))
      for round in 0..<6 {
        let writer = SmallClient(cluster, "writer \(round)")
        let codec = Codec(rawValue: UInt8(random.next() % 4))!
        let lengths = (0..<Int(random.next() % 5) + 1).map { _ in
          Int(random.next() % 60_000) + 1
        }
        let wrong = Set((0..<5).shuffled(using: &random).prefix(round % 3))
        let object = try await ForgedObject(
          writer, key: "k\(round)", chunkByteCounts: lengths, wrong: wrong, &random, codec: codec,
          bucket: "sealed", domain: bucket.domain)
        // One that was never told the key, and one that was.
        let name = ObjectName(bucket: "sealed", key: "k\(round)")
        #expect(
          await client.read(name, object.bytes.count, cluster) == .success(object.bytes),
          "\(object.layout), wrong \(wrong.sorted())")
        #expect(await writer.read(name, object.bytes.count, nil) == .success(object.bytes))
        #expect(Set(object.reportedBlocks).isSubset(of: wrong))
        let data = Set(0..<object.layout.dataBlockCount)
        #expect(Set(object.reportedBlocks).isSuperset(of: wrong.intersection(data)))
        await writer.close()
      }
      await client.close()
    }
  }
}

private final class Turns: @unchecked Sendable {
  // Loop-confined.
  var count = 0
}

extension Result {
  var error: Failure? { if case .failure(let error) = self { error } else { nil } }
}

/// What one who means harm does to a frame.
enum GroupCodecForgery {
  /// Makes the checksum of a frame's header right.
  static func mend(_ frame: inout [UInt8]) {
    let checksum = CRC32C.checksum(Array(frame[..<44]))
    for index in 0..<4 { frame[44 + index] = UInt8(truncatingIfNeeded: checksum >> (8 * index)) }
  }
}
