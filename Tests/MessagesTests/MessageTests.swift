import Cluster
import Coding
import Messages
import Ring
import TestSupport
import Testing
import Wire

/// Values of every kind that crosses a wire or lies in the log, drawn from a seed.
struct Samples {
  var random: SeededGenerator

  mutating func number() -> UInt64 { random.next() >> (random.next() % 64) }
  mutating func small(_ bound: UInt64) -> UInt64 { random.next() % bound }
  mutating func fingerprint() -> Fingerprint { Fingerprint(random.bytes(32))! }
  mutating func text() -> String {
    String((0..<small(20)).map { _ in "aé/日\u{10FE80}".randomElement(using: &random)! })
  }
  mutating func container() -> ContainerID { ContainerID(.data, number() >> 8) }
  mutating func layout() -> StripeLayout {
    let scheme = Scheme(k: 1 + Int(small(12)), m: Int(small(5)))!
    return .smallest(for: 1 + Int(small(UInt64(StripeLayout.capacity(of: scheme)))), scheme: scheme)
  }
  mutating func run() -> Run {
    Run(
      container: container(), firstOrdinal: number() >> 2, count: 1 + UInt32(small(1 << 20)),
      skip: UInt32(small(1 << 17)), byteCount: number() >> 3)
  }
  mutating func wrapped() -> WrappedKey { WrappedKey(random.bytes(WrappedKey.byteCount))! }
  mutating func attributes() -> ObjectAttributes {
    ObjectAttributes(
      kind: .symbolicLink, mode: small(2) == 0 ? nil : UInt32(small(4096)),
      sourceModified: small(2) == 0 ? nil : Int64(bitPattern: number()), contentType: text(),
      user: [.init(name: text(), value: text())],
      lock: small(2) == 0 ? nil : ObjectLock(hasLegalHold: small(2) == 0))
  }
  mutating func stripe() -> StripeRecord {
    let layout = layout()
    let size = UInt32(1 + small(UInt64(layout.byteCount)))
    return StripeRecord(
      stripe: number(), layout: layout, firstOrdinal: number() >> 3,
      groups: [
        .init(
          offset: UInt32(layout.byteCount) - size, storedByteCount: size, codec: .zstd,
          chunks: [.init(fingerprint: fingerprint(), byteCount: 1 + UInt32(small(1 << 17)))])
      ])
  }
  mutating func grant() -> Grant {
    Grant(
      id: number(), container: container(), generation: number(), scheme: Scheme(k: 2, m: 1)!,
      devices: [DeviceID(number()), DeviceID(number()), DeviceID(number())], firstStripe: 4,
      endStripe: 4 + number() / 2, firstOrdinal: number(), byteLimit: number(), epoch: number())
  }
  mutating func name() -> ObjectName { ObjectName(bucket: text(), key: text()) }

  mutating func commands() -> [ClientCommand] {
    [
      .createBucket(name: text(), storageClass: text()), .removeBucket(name: text()), .openUpload,
      .endUpload(upload: number()),
      .requestGrant(
        upload: number(), avoid: [DeviceID(number())],
        placement: .init(scheme: Scheme(k: 1, m: 1)!, devices: [DeviceID(1), DeviceID(2)]),
        domain: ChunkDomain(raw: UInt32(small(1 << 20)))),
      .releaseGrant(grant: number(), container: container()),
      .registerStripes(
        upload: number(), grant: number(), container: container(), stripes: [stripe(), stripe()]),
      .createBucket(name: text(), storageClass: text(), keyDomain: "k" + text()),
      .registerStripes(
        upload: number(), grant: number(), container: container(), stripes: [stripe()],
        dataKeys: [number(), number()]),
      .makeDataKey(upload: number(), domain: KeyDomainID(UInt16(small(1 << 16))), key: nil),
      .makeDataKey(
        upload: number(), domain: KeyDomainID(UInt16(small(1 << 16))),
        key: NewDataKey(version: UInt32(small(1 << 30)), wrapped: wrapped())),
      .holdChunks(upload: number(), runs: [run(), run()]),
      .putPage(upload: number(), page: .runs([run()])),
      .putPage(
        upload: number(), page: .children([.init(page: number(), byteCount: number() >> 3)])),
      .commitObject(
        upload: number(), name: name(), content: .embedded([run()]), byteCount: number(),
        contentHash: fingerprint(), attributes: attributes(), precondition: .identity(number()),
        unlessIdentical: true, modified: number()),
      .deleteObject(name: name(), precondition: .absent),
      .setVersioning(bucket: text(), .suspended),
      .setBucketLock(
        bucket: text(), BucketLock(mode: .compliance, days: 7), enablesVersioning: true),
      .setLock(
        name: name(), version: .unnamed,
        change: .retention(.init(mode: .governance, until: number())), bypassesGovernance: true),
      .setLock(
        name: name(), version: .null, change: .legalHold(true), bypassesGovernance: false),
      .setAttributes(
        name: name(), version: .null, prefix: text(), attributes: attributes().user),
      .deleteVersion(name: name(), version: .identity(number()), bypassesGovernance: true),
      .moveVersion(
        upload: number(), name: name(), identity: number(),
        domain: ChunkDomain(ClassID(3), in: KeyDomainID(7)), content: .root(number()),
        tier: .glacierIR),
      .moveVersion(
        upload: 0, name: name(), identity: number(), domain: .standard, content: nil,
        tier: .deepArchive),
      .setBucketSetting(bucket: text(), BucketSetting(.cors, random.bytes(Int(small(50))))),
      .copyObject(
        source: name(), sourceIdentity: number(), target: name(), attributes: attributes(),
        move: true,
        precondition: .none, modified: number()),
      .createMultipart(
        name: name(), attributes: attributes(), owner: "o", modified: number()),
      .putPart(
        upload: number(), multipart: MultipartName(name(), number: number()),
        part: NewPart(
          number: 7, page: number(), byteCount: 9, digest: [1, 2], checksum: [3]),
        modified: number()),
      .completeMultipart(
        upload: number(), multipart: MultipartName(name(), number: number()),
        parts: [PartChoice(number: 7, identity: number())], root: number(),
        attributes: attributes(), precondition: .absent, modified: number()),
      .abortMultipart(MultipartName(name(), number: number())),
      .changeUser(name: "u", .create), .changeUser(name: "u", .delete),
      .changeUser(name: "u", .setEnabled(true)), .changeUser(name: "u", .deletePolicy("p")),
      .changeUser(name: "u", .setPolicy(NamedPolicy(name: "p", document: "{}"))),
      .changeAccessKey(name: "k", .create(user: "u", sealedSecret: [1, 2])),
      .changeAccessKey(name: "k", .rotate(to: "l", sealedSecret: [3])),
      .changeAccessKey(name: "k", .setEnabled(false)), .changeAccessKey(name: "k", .delete),
      .changeBucketAccess(bucket: "b", .policy("{}")),
      .changeBucketAccess(bucket: "b", .policy(nil)),
      .changeBucketAccess(bucket: "b", .acl(.authenticatedRead)),
      .changeBucketAccess(
        bucket: "b",
        .publicAccessBlock(
          PublicAccessBlock(
            blocksACLs: true, ignoresACLs: false, blocksPolicy: true, restrictsBucket: false))),
      .changeBucketAccess(bucket: "b", .ownerEnforced(true)),
    ]
  }
}

@Suite("messages")
struct MessageTests {
  @Test("every client command reads back as it was written", arguments: Seed.several)
  func commands(seed: Seed) throws {
    var samples = Samples(random: seed.generator)
    for _ in 0..<50 {
      for command in samples.commands() {
        #expect(try ClientCommand(decoding: command.encoded) == command)
      }
    }
  }

  @Test("objects, stripes and grants read back as they were written", arguments: Seed.several)
  func values(seed: Seed) throws {
    var samples = Samples(random: seed.generator)
    for _ in 0..<100 {
      let record = ObjectRecord(
        identity: samples.number(), byteCount: samples.number(), contentHash: samples.fingerprint(),
        attributes: samples.attributes(), modified: samples.number(),
        content: .root(samples.number()), isNull: samples.small(2) == 0)
      #expect(try ObjectRecord(decoding: record.encoded) == record)
      let stripe = samples.stripe()
      #expect(try StripeRecord(decoding: stripe.encoded) == stripe)
      let grant = samples.grant()
      #expect(try Grant(decoding: grant.encoded) == grant)
    }
  }

  @Test(
    "cut and flipped bytes are refused or read as something, and never trap",
    arguments: Seed.several)
  func damage(seed: Seed) throws {
    var samples = Samples(random: seed.generator)
    for command in samples.commands() {
      let bytes = command.encoded
      for end in 0..<bytes.count {
        #expect(throws: ValueError.self) { try ClientCommand(decoding: Array(bytes[..<end])) }
      }
      for _ in 0..<200 {
        var damaged = bytes
        damaged[Int(samples.small(UInt64(bytes.count)))] ^= UInt8(1 << samples.small(8))
        _ = try? ClientCommand(decoding: damaged)
      }
    }
    for _ in 0..<2000 {
      _ = try? ClientCommand(decoding: samples.random.bytes(Int(samples.small(60))))
    }
  }

  @Test("a version id is read back, and no other text of its length", arguments: Seed.several)
  func versionIDs(seed: Seed) throws {
    var samples = Samples(random: seed.generator)
    var seen: Set<String> = []
    for identity in (1...200).map(UInt64.init) + (0..<200).map({ _ in samples.number() >> 9 }) {
      let text = try #require(VersionName.identity(identity).text)
      #expect(text.utf8.count == 32)
      #expect(VersionName(text: text) == .identity(identity))
      seen.insert(text)
      var bytes = Array(text.utf8)
      let place = Int(samples.small(32))
      bytes[place] = Array("0123456789abcdef".utf8).first { $0 != bytes[place] }!
      #expect(VersionName(text: String(decoding: bytes, as: UTF8.self)) == nil)
    }
    #expect(seen.count >= 200)
    #expect(VersionName(text: "null") == .null)
    for text in ["", "Null", "0", String(repeating: "f", count: 32), "\u{1F600}"] {
      #expect(VersionName(text: text) == nil)
    }
    let reason = DeleteMarkerReason(marker: .identity(77))
    #expect(DeleteMarkerReason(reason.text) == reason)
    #expect(DeleteMarkerReason("k") == nil)
  }

  @Test("a hello with damage, and what nodes are asked of it, read back", arguments: Seed.several)
  func damageCalls(seed: Seed) throws {
    var samples = Samples(random: seed.generator)
    for _ in 0..<50 {
      var scrub = ScrubReport()
      scrub.round = samples.number()
      scrub.finishedRound = samples.number()
      scrub.beganMilliseconds = samples.number()
      scrub.finishedMilliseconds = samples.number()
      scrub.doneByteCount = samples.number()
      scrub.totalByteCount = samples.number()
      scrub.foundInRound = samples.number()
      scrub.foundInAll = samples.number()
      let keys = (0..<samples.small(65)).map { _ in
        BlockKey(
          shard: ShardKey(
            container: samples.container(), generation: samples.number(),
            shardIndex: UInt8(samples.small(256))), stripe: samples.number())
      }
      let hello = Hello(
        clusterID: samples.number(), node: NodeID(samples.number()), name: samples.text(),
        host: samples.text(), port: 7, domain: [samples.text()],
        devices: [
          DeviceReport(
            id: DeviceID(3), capacity: samples.number(), used: samples.number(),
            linkBytes: samples.number(), free: samples.number(), logFree: samples.number(),
            tier: samples.text(), isFailed: false, isRetired: false,
            damagedCount: samples.number(), lostCount: samples.number(), scrub: scrub)
        ], highestEpoch: samples.number() >> 2, corruptBlocks: samples.number(),
        damage: [DeviceDamage(device: DeviceID(3), damaged: keys, suspected: keys.reversed())])
      let bytes = hello.encoded
      let same = try Hello(decoding: bytes)
      #expect(same.devices == hello.devices && same.damage == hello.damage)
      #expect(same.encoded == bytes)
      for end in 0..<bytes.count {
        #expect(throws: ValueError.self) { try Hello(decoding: Array(bytes[..<end])) }
      }
      let report = ReportDamage(device: DeviceID(samples.number()), keys: keys)
      #expect(try ReportDamage(decoding: report.encoded).keys == keys)
      let now = ScrubNow(device: DeviceID(9), byteRate: samples.number())
      #expect(try ScrubNow(decoding: now.encoded).byteRate == now.byteRate)
      #expect(try GetScrub(decoding: GetScrub(device: nil).encoded).device == nil)
      let standing = ScrubStanding([
        .init(device: DeviceID(1), report: scrub, damagedCount: samples.number(), isFailed: true)
      ])
      #expect(try ScrubStanding(decoding: standing.encoded).devices == standing.devices)
    }
    // More than are agreed upon are refused.
    let many = Array(
      repeating: BlockKey(
        shard: ShardKey(
          container: samples.container(), generation: 1, shardIndex: 0), stripe: 1), count: 65)
    #expect(throws: ValueError.self) {
      try ReportDamage(decoding: ReportDamage(device: DeviceID(1), keys: many).encoded)
    }
    #expect(throws: ValueError.self) {
      try DeviceDamage(
        decoding: DeviceDamage(device: DeviceID(1), damaged: [], suspected: many).encoded)
    }
  }

  @Test(
    "epochs and versions that could not be counted up from are refused",
    arguments: [1 << 62, 1 << 63, UInt64.max])
  func numbers(tooHigh: UInt64) throws {
    func hello(_ epoch: UInt64) -> [UInt8] {
      Hello(
        clusterID: 1, node: NodeID(1), name: "n", host: "n", port: 7, domain: [], devices: [],
        highestEpoch: epoch, corruptBlocks: 0
      ).encoded
    }
    func held(_ epoch: UInt64, _ version: UInt64) -> [UInt8] {
      HoldLease.Answer(clusterID: 1, highestEpoch: epoch, rootVersion: version, root: []).encoded
    }
    let highest: UInt64 = 1 << 62 - 1
    #expect(try Hello(decoding: hello(highest)).highestEpoch == highest)
    #expect(try HoldLease.Answer(decoding: held(highest, highest)).rootVersion == highest)
    #expect(throws: ValueError.self) { try Hello(decoding: hello(tooHigh)) }
    #expect(throws: ValueError.self) { try HoldLease.Answer(decoding: held(tooHigh, 1)) }
    #expect(throws: ValueError.self) { try HoldLease.Answer(decoding: held(1, tooHigh)) }
  }

  @Test("a grant's signature covers every byte of it and needs the key")
  func signature() throws {
    var samples = Samples(random: Seed(5).generator)
    let key = samples.random.bytes(32)
    let signed = SignedGrant(signing: samples.grant(), key: key)
    #expect(signed.isValid(key: key))
    #expect(!signed.isValid(key: samples.random.bytes(32)))
    var other = signed
    other.grant.endStripe += 1
    #expect(!other.isValid(key: key))
  }

  @Test("a group header reads back, and any flipped bit in it is noticed")
  func groupHeader() throws {
    let header = GroupHeader(
      codec: .raw, chunkCount: 1, plainByteCount: 65_000, payloadByteCount: 65_000)
    let bytes = header.encoded
    #expect(bytes.count == GroupHeader.byteCount)
    #expect(try GroupHeader(decoding: bytes) == header)
    for bit in 0..<bytes.count * 8 {
      var damaged = bytes
      damaged[bit / 8] ^= 1 << (bit % 8)
      #expect(throws: ValueError.self) { try GroupHeader(decoding: damaged) }
    }
  }

  @Test(
    "a stripe's smallest layout holds its bytes and wastes less than one unit a block",
    arguments: Seed.several)
  func layouts(seed: Seed) {
    var samples = Samples(random: seed.generator)
    for _ in 0..<300 {
      let layout = samples.layout()
      #expect(layout.dataBlockCount * layout.blockByteCount >= layout.byteCount)
      #expect(layout.dataBlockCount <= layout.scheme.k)
      #expect(layout.storedBlocks.count == layout.dataBlockCount + layout.scheme.m)
      for blocks in 1...layout.scheme.k {
        let size = (layout.byteCount + blocks * 4096 - 1) / (blocks * 4096) * 4096
        guard size <= StripeLayout.largestBlockByteCount else { continue }
        let other = StripeLayout(
          scheme: layout.scheme, blockByteCount: size, byteCount: layout.byteCount)
        #expect(layout.storedByteCount <= other.storedByteCount)
      }
    }
  }
}
