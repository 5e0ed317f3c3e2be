import Cluster
import Coding
import Messages
import Node
import Ring
import ShardStore
import Simulation
import TestSupport
import Testing
import Wire

@testable import DataPath
@testable import Stripes

/// A stripe whose blocks went out right or wrong, each under a true CRC of the bytes it has, and an object of its chunks.
final class ForgedObject: @unchecked Sendable {
  // Loop-confined.
  let bytes: [UInt8]
  let layout: StripeLayout
  let target: StripeTarget
  private(set) var reported: [(DeviceID, BlockKey)] = []

  /// - Parameter wrong: indices of blocks that are stored with other bytes.
  /// - Parameter watches: what readers report is kept here and not told to the nodes.
  /// - Parameter codec: with another than raw two chunks are a group each time.
  /// - Parameter domain: the bucket's.
  init(
    _ client: SmallClient, key: String, chunkByteCounts: [Int], wrong: Set<Int>,
    _ random: inout SeededGenerator, watches: Bool = true, codec: Codec = .raw,
    bucket: String = "bucket", domain: ChunkDomain = .standard
  ) async throws {
    guard
      case .number(let upload) = try await client.coordinator.execute(.openUpload),
      case .grant(let granted) = try await client.coordinator.execute(
        .requestGrant(upload: upload, avoid: [], placement: nil, domain: domain))
    else { throw Unexpected() }
    var dataKey: DataKey?
    if domain.isSealed {
      guard
        case .number(let id) = try await client.coordinator.execute(
          .makeDataKey(upload: upload, domain: domain.keyDomain, key: nil))
      else { throw Unexpected() }
      dataKey = try await client.access.keys.dataKey(id)
    }
    let keyDomain = try await client.access.keys.domain(domain.keyDomain)
    func fingerprint(_ bytes: [UInt8]) -> Fingerprint {
      keyDomain?.keyed(Fingerprint(of: bytes)) ?? Fingerprint(of: bytes)
    }
    let signed = try SignedGrant(decoding: granted)
    let grant = signed.grant
    try await client.access.map.prepare(epoch: grant.epoch, devices: grant.devices)
    var plain: [UInt8] = []
    var data: [UInt8] = []
    var groups: [StripeRecord.Group] = []
    let coder = GroupCodec()
    var counts = chunkByteCounts[...]
    while !counts.isEmpty {
      let chunks = counts.prefix(codec == .raw ? 1 : 2).map { count in
        codec == .raw ? noise(count, &random) : shrinking(count, &random)
      }
      counts = counts.dropFirst(chunks.count)
      for chunk in chunks { plain += chunk }
      let group = framed(chunks, codec, coder, dataKey, nonce: UInt64(groups.count))
      groups.append(
        StripeRecord.Group(
          offset: UInt32(data.count), storedByteCount: UInt32(group.frame.count),
          codec: group.codec,
          chunks: chunks.map {
            StripeRecord.Chunk(fingerprint: fingerprint($0), byteCount: UInt32($0.count))
          }))
      data += group.frame
    }
    bytes = plain
    let layout = StripeLayout.smallest(for: data.count, scheme: grant.scheme)
    self.layout = layout
    let size = layout.blockByteCount
    data += [UInt8](repeating: 0, count: layout.dataBlockCount * size - data.count)
    var blocks: [[UInt8]] = (0..<grant.scheme.k).map {
      $0 < layout.dataBlockCount ? Array(data[$0 * size..<($0 + 1) * size]) : []
    }
    let parity = (0..<grant.scheme.m).map { _ in client.driver.buffers.slice(size) }
    let sources = (0..<layout.dataBlockCount).map { Slice(copying: blocks[$0]) }
    StripeCoder.shared(grant.scheme).encode(
      data: sources.map { $0.withBytes { $0.baseAddress! } },
      parity: parity.map { $0.withMutableBytes { $0.baseAddress! } }, byteCount: size)
    blocks += parity.map(\.array)
    target = StripeTarget(
      container: grant.container, places: [ShardPlace](grant.devices, generation: grant.generation),
      stripe: grant.firstStripe)
    for index in layout.storedBlocks {
      if wrong.contains(index) {
        // A wrong byte in each unit, so that no chunk is spared.
        for place in stride(from: 7, to: size, by: 100) { blocks[index][place] ^= 0x55 }
      }
      let payload = Slice(copying: blocks[index])
      _ = try await client.wire.call(
        WriteBlock(
          device: grant.devices[index], right: .grant(signed),
          block: BlockDescription(
            key: target.block(index), layout: layout, acknowledged: 0, epoch: grant.epoch),
          checksums: UnitChecksums(payload.withBytes { CRC32C.checksums(of: $0) })),
        body: [payload], at: client.access.map.address(of: grant.devices[index])!,
        deadline: .seconds(5))
    }
    let record = StripeRecord(
      stripe: grant.firstStripe, layout: layout, firstOrdinal: grant.firstOrdinal, groups: groups)
    _ = try await client.coordinator.execute(
      .registerStripes(
        upload: upload, grant: grant.id, container: grant.container, stripes: [record],
        dataKeys: dataKey.map { [$0.id] } ?? []))
    let hash = ContentHash()
    for chunk in groups.flatMap(\.chunks) {
      hash.add(chunk.fingerprint, byteCount: Int(chunk.byteCount))
    }
    let run = Run(
      container: grant.container, firstOrdinal: grant.firstOrdinal,
      count: UInt32(record.chunkCount),
      skip: 0, byteCount: UInt64(plain.count))
    _ = try await client.coordinator.execute(
      .commitObject(
        upload: upload, name: ObjectName(bucket: bucket, key: key), content: .embedded([run]),
        byteCount: UInt64(plain.count), contentHash: hash.finish(),
        attributes: ObjectAttributes(), precondition: .none, unlessIdentical: false, modified: 0))
    if watches {
      client.access.stripes.onCorruption = { [unowned self] in reported.append(($0, $1)) }
    }
  }

  /// The blocks named as wrong, each once, ascending.
  var reportedBlocks: [Int] {
    Set(reported.map { report in layout.storedBlocks.first { target.block($0) == report.1 }! })
      .sorted()
  }
}

@Suite struct WrongBlockTests {
  @Test(
    "blocks with a true CRC over wrong bytes, up to m of them and at most two, cost a rebuild and are reported",
    arguments: Seed.several)
  func rebuilt(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "3+2", nodes: 5)
      for round in 0..<6 {
        let client = SmallClient(cluster, "client \(round)")
        let codec = Codec(rawValue: UInt8(random.next() % 4))!
        let lengths = (0..<Int(random.next() % 5) + 1).map { _ in
          Int(random.next() % (codec == .raw ? 60_000 : 180_000)) + 1
        }
        let wrong = Set((0..<5).shuffled(using: &random).prefix(round % 3))
        let object = try await ForgedObject(
          client, key: "k\(round)", chunkByteCounts: lengths, wrong: wrong, &random, codec: codec)
        let stored = Set(object.layout.storedBlocks)
        for _ in 0..<2 {
          let all = await client.get("k\(round)", 0..<UInt64(object.bytes.count))
          #expect(all == .success(object.bytes), "\(object.layout), wrong \(wrong.sorted())")
        }
        let data = Set(0..<object.layout.dataBlockCount)
        #expect(Set(object.reportedBlocks).isSubset(of: wrong))
        #expect(Set(object.reportedBlocks).isSuperset(of: wrong.intersection(data)))
        for _ in 0..<3 {
          let first = Int(random.next() % UInt64(object.bytes.count))
          let end = first + Int(random.next() % UInt64(object.bytes.count - first)) + 1
          #expect(
            await client.get("k\(round)", UInt64(first)..<UInt64(end))
              == .success(Array(object.bytes[first..<end])), "\(stored)")
        }
        await client.close()
      }
    }
  }

  @Test(
    "with one node down a wrong block among those that rebuild its share is found too",
    arguments: Seed.several)
  func wrongSource(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "3+2", nodes: 5)
      let client = SmallClient(cluster, "client")
      let wrong = Int(random.next() % 5)
      let object = try await ForgedObject(
        client, key: "k", chunkByteCounts: [100_000, 80_000, 70_000], wrong: [wrong], &random)
      let lost = (wrong + 1 + Int(random.next() % 4)) % 5
      let name = client.access.map.nodeName(of: object.target.places.devices[lost])
      cluster.killNode(Int(name.dropFirst())!)
      for _ in 0..<2 {
        #expect(await client.get("k", 0..<250_000) == .success(object.bytes))
      }
      #expect(object.reportedBlocks == [wrong] || object.reportedBlocks.isEmpty)
      if wrong < 3 { #expect(object.reportedBlocks == [wrong]) }
      await client.close()
    }
  }

  @Test("a block that was read wrong is known to its node, by who is to blame, and told once")
  func told() throws {
    try simulate(7) { world in
      var random = SeededGenerator(seed: 7)
      let cluster = try await SmallCluster(world, scheme: "3+2", nodes: 5)
      let client = SmallClient(cluster, "client")
      let object = try await ForgedObject(
        client, key: "k", chunkByteCounts: [100_000, 80_000, 70_000], wrong: [1], &random,
        watches: false)
      func known(_ part: (StorageNode) -> [BlockKey]) -> [BlockKey] {
        (0..<5).flatMap { part(cluster.nodes[$0]!) }
      }
      // One is wrong under a true checksum; another rots.
      let rotten = object.target.device(0)
      let number = try #require(
        (0..<5).first { cluster.nodes[$0]!.devices.contains(rotten) })
      let store = try #require(cluster.nodes[number]!.store(of: rotten))
      let place = try #require(try await store.location(of: object.target.block(0)))
      try world.disk("n\(number)").flipBit(
        store.path + "/" + place.path, bit: Int(place.offset + 9000) * 8)
      for _ in 0..<3 { #expect(await client.get("k", 0..<250_000) == .success(object.bytes)) }
      await client.close()
      let damaged = known { node in
        node.devices.flatMap { node.store(of: $0)!.damagedBlocks(after: nil, limit: 9) }
      }
      let suspected = known { node in
        node.devices.flatMap { node.store(of: $0)!.suspectedBlocks(after: nil, limit: 9) }
      }
      #expect(damaged == [object.target.block(0)])
      #expect(suspected == [object.target.block(1)])
    }
  }

  @Test("more wrong blocks than can be told apart end the read as corrupt, without a wrong byte")
  func tooMany() throws {
    try simulate(77) { world in
      var random = SeededGenerator(seed: 77)
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client")
      _ = try await ForgedObject(
        client, key: "k", chunkByteCounts: [100_000], wrong: [0, 1], &random)
      guard case .failure(.corrupt) = await client.get("k", 0..<100_000) else {
        throw Unexpected()
      }
      await client.close()
    }
  }
}
