import Cluster
import Coding
import Messages
import Ring
import TestSupport
import Wire

@testable import Metadata

/// Draws commands that make sense in the model's state, and some that do not.
struct Workload {
  var random: SeededGenerator
  var model = Model()
  /// Next sequence number of each session.
  var sequences: [UInt64: UInt64] = [:]
  /// Commands sent, to be sent again.
  var sent: [Command] = []
  /// Whether `returnEdges` gets limits that leave work undone; the model cannot follow then.
  var smallSteps = false
  /// Whether versions get locks; some of them stay for good then.
  var drawsLocks = true

  static let scheme = Scheme(k: 2, m: 1)!

  init(seed: Seed) { random = seed.generator }

  mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }
  mutating func pick<Element>(_ elements: some Collection<Element>) -> Element? {
    elements.randomElement(using: &random)
  }
  mutating func number(_ range: Range<Int>) -> Int { Int.random(in: range, using: &random) }

  static func fingerprint(_ content: Int) -> Fingerprint {
    var writer = ByteWriter()
    writer.varint(content)
    var print = Fingerprint(of: writer.bytes)
    print.w3 = UInt64(content)  // Readable in the model's signatures.
    return print
  }
  static func byteCount(_ content: Int) -> UInt32 { UInt32(100 + content % 500 * 3) }

  /// Founding and six nodes with a device each.
  static var opening: [Command] {
    [.found(clusterID: 7, scheme: scheme, created: 5)]
      + (1...6).map { .setNode(node(UInt64($0), devices: [UInt64($0) * 10])) }
  }
  static func node(_ id: UInt64, devices: [UInt64]) -> NodeRecord {
    NodeRecord(
      id: NodeID(id), name: "n\(id)", address: SocketAddress(host: "127.0.0.1", port: UInt16(id)),
      domain: [],
      devices: devices.map {
        DeviceRecord(id: DeviceID($0), capacity: 1 << 40, tier: "ssd", state: .healthy)
      })
  }

  mutating func next() -> Command {
    guard let session = pick(model.sessions.keys.sorted()),
      model.sessions.count > 2 || !chance(10)
    else { return .openSession(client: "test") }
    if chance(14), let command = internalCommand() { return command }
    if chance(10), !sent.isEmpty,
      case .client(let id, let sequence, _, let command)? = pick(sent.suffix(40))
    {
      let lowest = chance(50) ? 1 : max(1, model.sessions[id]?.lowest ?? 1)
      return .client(session: id, sequence: sequence, lowestUnanswered: lowest, command: command)
    }
    let command = clientCommand(session)
    let sequence = sequences[session, default: 1]
    sequences[session] = sequence + 1
    let low = UInt64(max(1, Int(sequence) - number(0..<6)))
    let sending = Command.client(
      session: chance(1) ? 999_999 : session, sequence: sequence, lowestUnanswered: low,
      command: command)
    sent.append(sending)
    return sending
  }

  private mutating func internalCommand() -> Command? {
    if chance(12) { return keyCommand() }
    switch number(0..<27) {
    case 25, 26:
      guard
        let (name, bucket) = pick(
          model.buckets.sorted { $0.value.identity < $1.value.identity }),
        let (key, stack) = pick(
          bucket.stacks.sorted { $0.key.lexicographicallyPrecedes($1.key) }),
        let version = pick(stack)
      else { return nil }
      return .expireVersions([
        ExpiredVersion(
          bucket: String(decoding: name, as: UTF8.self),
          bucketIdentity: chance(95) ? bucket.identity : 3,
          key: String(decoding: key, as: UTF8.self),
          identity: chance(95) ? version.identity : 9,
          action: ExpiredVersion.Action(rawValue: UInt8(number(0..<3)))!)
      ])
    case 24:
      guard let multipart = multipart() else { return nil }
      let bucket = model.buckets[Array(multipart.name.bucket.utf8)]?.identity ?? 0
      return .expireMultiparts([
        MultipartRow(
          bucket: chance(90) ? bucket : 1 << 40, key: multipart.name.key, number: multipart.number)
      ])
    case 11, 12, 15, 16: return beginRewrite()
    case 13, 14, 18: return endRewrite()
    case 19, 20: return beginRepack()
    case 0:
      guard chance(25) else { return nil }
      return .closeSession(session: chance(10) ? 3 : pick(model.sessions.keys.sorted()) ?? 3)
    case 1:
      return chance(10) ? .expireSessions([pick(model.sessions.keys.sorted()) ?? 3, 77]) : nil
    case 2:
      let node = number(1..<7)
      return .setNode(
        Self.node(UInt64(node), devices: [UInt64(chance(90) ? node : number(1..<9)) * 10]))
    case 3:
      // Often the first that is not as it should be is mended.
      let ill = model.nodes.values.flatMap(\.devices).filter { $0.state != .healthy }.map(\.id)
      if let device = ill.min(), chance(70) { return .setDeviceState(device, .healthy) }
      let state: DeviceState = chance(40) ? .retired : chance(30) ? .draining : .healthy
      return .setDeviceState(DeviceID(UInt64(number(1..<8)) * 10), state)
    case 4, 5, 6, 7: return .returnEdges(limit: smallSteps ? UInt32(number(0..<7)) : 65536)
    case 8: return .dropContainers(model.containers.keys.sorted())
    case 9:
      guard !smallSteps else { return nil }
      return .forgetContainers(model.containers.keys.sorted())
    case 10: return .clearEndedGrants([UInt64(number(1..<50))])
    case 17: return .setScheme(chance(50) ? Scheme(k: 2, m: 2)! : Self.scheme)
    case 21:
      return .setBucketClass(bucket: "bucket-\(number(0..<3))", storageClass: className())
    case 22:
      return .defineClass(
        StorageClass(
          name: chance(90) ? "own" : chance(50) ? "hot" : "Not so", codec: .zstd,
          level: number(0..<25),
          groupByteCount: 4096 << number(0..<9), scheme: chance(50) ? Self.scheme : nil))
    default: return .advanceTime(milliseconds: UInt64(number(0..<100)))
    }
  }

  private mutating func beginRewrite() -> Command? {
    let living = model.containers.filter { !$0.value.isCondemned && $0.value.grant == nil }
    guard let id = pick(chance(90) ? living.keys.sorted() : model.containers.keys.sorted()),
      let container = model.containers[id]
    else { return nil }
    let shards = container.places.indices.filter { _ in chance(50) }
    var free = (1...6).map { DeviceID($0 * 10) }.filter {
      model.deviceState($0) == .healthy && !container.devices.contains($0)
    }
    let moves = shards.map { shard in
      ShardMove(
        shardIndex: UInt8(chance(97) ? shard : number(0..<5)),
        from: chance(97) ? container.devices[shard] : DeviceID(UInt64(number(1..<8)) * 10),
        to: chance(95) ? free.popLast() ?? DeviceID(70) : DeviceID(UInt64(number(1..<8)) * 10))
    }
    return .beginRewrite(id, moves: moves)
  }

  private mutating func beginRepack() -> Command? {
    let living = model.containers.filter { !$0.value.isCondemned && $0.value.grant == nil }
    guard let id = pick(chance(90) ? living.keys.sorted() : model.containers.keys.sorted()) else {
      return nil
    }
    let scheme = pick([(1, 1), (1, 2), (2, 1), (2, 1), (2, 1), (2, 2), (4, 2)]) ?? (2, 1)
    var devices = (1...6).map { DeviceID($0 * 10) }
    devices.shuffle(using: &random)
    // Those that new containers have, so that writers go on in it.
    if chance(50) { devices.sort() }
    devices.sort {
      (model.deviceState($0) == .healthy ? 0 : 1) < (model.deviceState($1) == .healthy ? 0 : 1)
    }
    devices = Array(devices.prefix(scheme.0 + scheme.1))
    if chance(3) { devices[0] = devices[devices.count - 1] }
    if chance(3) { devices.removeLast() }
    return .beginRepack(
      id, scheme: Scheme(k: scheme.0, m: scheme.1)!, devices: devices, isThinned: chance(50))
  }

  private mutating func endRewrite() -> Command? {
    let leases = model.containers.values.compactMap(\.rewrite).sorted { $0.id < $1.id }
    guard let lease = pick(leases) else { return nil }
    let id = chance(80) ? lease.id : UInt64(number(1..<50))
    return chance(60)
      ? .commitRewrite(lease.container, lease: id) : .endRewrite(lease.container, lease: id)
  }

  private mutating func name() -> ObjectName {
    ObjectName(
      bucket: chance(3) ? "nowhere" : "bucket-\(number(0..<2))",
      key: chance(2) ? "" : "k/\(number(0..<8))")
  }
  /// What is current in buckets without versions.
  private func unversioned() -> [(ObjectName, VersionName)] {
    versions { bucket, version in
      bucket.versioning == .off && version.record != nil ? .unnamed : nil
    }
  }
  private func markers() -> [(ObjectName, VersionName)] {
    versions { _, version in version.record == nil ? .identity(version.identity) : nil }
  }
  /// What there is in buckets with versions.
  private func kept() -> [(ObjectName, VersionName)] {
    versions { bucket, version in
      bucket.versioning == .off || version.record == nil ? nil : .identity(version.identity)
    }
  }
  private func versions(
    _ choose: (Model.Bucket, Model.Version) -> VersionName?
  ) -> [(ObjectName, VersionName)] {
    var found: [(ObjectName, VersionName)] = []
    for (name, bucket) in model.buckets.sorted(by: { $0.value.identity < $1.value.identity }) {
      for (key, stack) in bucket.stacks.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
        let object = ObjectName(
          bucket: String(decoding: name, as: UTF8.self), key: String(decoding: key, as: UTF8.self))
        for version in stack {
          if let choice = choose(bucket, version) { found.append((object, choice)) }
        }
      }
    }
    return found
  }
  private mutating func precondition(_ name: ObjectName) -> Precondition {
    if chance(80) { return .none }
    if chance(50) { return .absent }
    let current = model.buckets[Array(name.bucket.utf8)]?.objects[Array(name.key.utf8)]
    return .identity(current?.identity ?? 4)
  }

  /// A run of registered ordinals, or nearly.
  private mutating func run() -> Run {
    guard let id = pick(model.containers.keys.sorted()), let container = model.containers[id],
      let first = pick(container.chunks.keys.sorted())
    else {
      return Run(
        container: ContainerID(.data, 1), firstOrdinal: 0, count: 1, skip: 0, byteCount: 1)
    }
    var bytes: UInt64 = 0
    var count: UInt32 = 0
    let wanted = number(1..<5)
    while count < wanted, let chunk = container.chunks[first + UInt64(count)] {
      bytes += UInt64(chunk.byteCount)
      count += 1
    }
    var run = Run(container: id, firstOrdinal: first, count: count, skip: 0, byteCount: bytes)
    if chance(20) {
      run.skip = UInt32(number(0..<120))
      run.byteCount -= min(UInt64(run.skip), run.byteCount - 1)
    }
    if chance(20) { run.byteCount -= UInt64(number(0..<Int(min(run.byteCount, 200)))) }
    if chance(3) { run.count += 1 }
    if chance(2) { run.byteCount += 5 }
    return run
  }
  private mutating func className() -> String {
    chance(75) ? "" : pick(["warm", "hot", "hot", "own", "none"])!
  }
  /// Mostly one that buckets have, too.
  private mutating func domain() -> ChunkDomain {
    if chance(2) { return ChunkDomain(raw: chance(50) ? 9 : 9 << 16 | 2) }
    if chance(15), let id = pick(model.keyDomains.keys.sorted()) {
      return ChunkDomain(StorageClass.standard, in: id)
    }
    return chance(80) ? .standard : ChunkDomain(ClassID(UInt16(number(1..<4))))
  }

  private mutating func retention() -> ObjectLock.Retention? {
    if chance(20) { return nil }
    return ObjectLock.Retention(
      mode: chance(70) ? .governance : .compliance,
      until: UInt64(number(0..<3)) + (chance(50) ? 0 : 1 << 40))
  }

  private mutating func runs() -> [Run] {
    (0..<number(chance(3) ? 0..<2 : 1..<4)).map { _ in run() }
  }

  private mutating func stripes(_ grant: Model.OpenGrant) -> [StripeRecord] {
    let container = model.containers[grant.container]!
    var stripe = max(grant.firstStripe, (container.stripes.max() ?? 0) + 1)
    var ordinal = max(grant.firstOrdinal, container.nextOrdinal)
    if chance(10) { ordinal += UInt64(number(0..<4)) }
    if chance(4) { ordinal = grant.firstOrdinal + UInt64(number(0..<6)) }
    if chance(3) { stripe = grant.firstStripe + UInt64(number(0..<4)) }
    if chance(1) { stripe += 9999 }
    return (0..<number(1..<3)).map { _ in
      var offset: UInt32 = 0
      var groups: [StripeRecord.Group] = []
      for _ in 0..<number(1..<4) {
        let chunks = (0..<number(1..<4)).map { _ in
          let content = number(0..<40)
          return StripeRecord.Chunk(
            fingerprint: Self.fingerprint(content), byteCount: Self.byteCount(content))
        }
        let plain = chunks.reduce(0) { $0 + $1.byteCount }
        let codec = Codec(rawValue: UInt8(chance(50) ? 0 : number(1..<4)))!
        var stored = (container.domain.isSealed != chance(1) ? 64 : 48) + plain
        if codec != .raw { stored -= UInt32(number(chance(3) ? 0..<1 : 1..<Int(plain))) }
        groups.append(
          StripeRecord.Group(
            offset: offset, storedByteCount: stored, codec: codec, chunks: chunks))
        offset += stored
      }
      let record = StripeRecord(
        stripe: stripe,
        layout: StripeLayout.smallest(for: Int(offset), scheme: container.scheme),
        firstOrdinal: ordinal, groups: groups)
      stripe += 1
      ordinal += UInt64(record.chunkCount)
      return record
    }
  }

  /// One under way, if there is any.
  private mutating func multipart() -> MultipartName? {
    let all = model.buckets.flatMap { bucket, content in
      content.multiparts.map {
        MultipartName(
          ObjectName(
            bucket: String(decoding: bucket, as: UTF8.self),
            key: String(decoding: $0.value.key, as: UTF8.self)), number: $0.key)
      }
    }
    return pick(all.sorted { $0.number < $1.number })
  }

  /// Their parts are put often, so that some are complete, in pages that fit, before they end.
  private mutating func multipartCommand(_ session: UInt64) -> ClientCommand {
    let uploads = model.uploads.filter { $0.value.session == session }.keys.sorted()
    let upload = chance(2) ? 3 : pick(uploads) ?? 0
    guard var multipart = multipart(), !chance(20) else {
      return .createMultipart(
        name: name(), attributes: ObjectAttributes(mode: UInt32(number(0..<9))), owner: "o",
        modified: UInt64(number(0..<99)))
    }
    if chance(8) { multipart.number += 1 }
    if chance(3) { multipart.name.key += "x" }
    if chance(2) { multipart.name.bucket = "nowhere" }
    let known = model.buckets[Array(multipart.name.bucket.utf8)]?.multiparts[multipart.number]
    switch number(0..<10) {
    case 0..<5:
      let page = chance(15) ? 0 : pick(model.pages.keys.sorted()) ?? 0
      var size = page == 0 ? 0 : model.pages[page]?.byteCount ?? 0
      if chance(3) { size += 1 }
      return .putPart(
        upload: upload, multipart: multipart,
        part: NewPart(
          number: chance(2) ? 10_001 : UInt32(number(1..<4)), page: chance(10) ? 77 : page,
          byteCount: size, digest: random.bytes(number(0..<17)), checksum: []),
        modified: UInt64(number(0..<99)))
    case 5..<9:
      var parts = (known?.parts.values.map { $0 } ?? []).sorted { $0.part.number < $1.part.number }
      if chance(20), !parts.isEmpty { parts.remove(at: number(0..<parts.count)) }
      if chance(5), parts.count > 1 { parts.swapAt(0, 1) }
      let children = parts.filter { $0.part.page != 0 }.map {
        Page.Child(page: $0.part.page, byteCount: $0.part.byteCount)
      }
      // The page that completes it is put first, as its writer does.
      let root = model.pages.first { $0.value.page == .children(children) }?.key
      if root == nil, !children.isEmpty, !chance(25) {
        return .putPage(upload: upload, page: .children(children))
      }
      return .completeMultipart(
        upload: upload, multipart: multipart,
        parts: parts.map {
          PartChoice(number: $0.part.number, identity: chance(25) ? 9 : $0.identity)
        },
        root: chance(2) ? 1 : root ?? 0, attributes: ObjectAttributes(),
        precondition: precondition(multipart.name), modified: UInt64(number(0..<99)))
    default: return .abortMultipart(multipart)
    }
  }

  /// A version that there is, nearly always, and as many bytes as it has.
  private mutating func moveVersion(_ upload: UInt64) -> ClientCommand {
    var all: [(ObjectName, Model.Bucket, ObjectRecord)] = []
    for (name, bucket) in model.buckets.sorted(by: { $0.value.identity < $1.value.identity }) {
      for (key, stack) in bucket.stacks.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
        let object = ObjectName(
          bucket: String(decoding: name, as: UTF8.self), key: String(decoding: key, as: UTF8.self))
        for version in stack {
          if let record = version.record { all.append((object, bucket, record)) }
        }
      }
    }
    let tier = pick(ObjectTier.allCases)!
    guard let (name, bucket, record) = pick(all) else {
      return .moveVersion(
        upload: upload, name: self.name(), identity: 3, domain: domain(), content: nil, tier: tier)
    }
    let there = model.containers.values.map(\.domain).filter {
      $0.keyDomain == bucket.domain.keyDomain
    }
    let domain = chance(5) ? domain() : pick(there.sorted()) ?? bucket.domain
    var content: ObjectContent?
    switch number(0..<8) {
    case 0: break
    case 1: content = .inline(random.bytes(Int(min(record.byteCount, 9))))
    case 2, 3:
      let fitting = model.pages.filter {
        $0.value.byteCount == record.byteCount && ($0.value.domain == domain || chance(3))
      }
      content = pick(fitting.keys.sorted()).map { .root($0) }
    default: content = runs(of: record.byteCount, in: domain).map { .embedded($0) }
    }
    return .moveVersion(
      upload: upload, name: name, identity: chance(3) ? record.identity + 1 : record.identity,
      domain: domain, content: content, tier: tier)
  }
  /// Chunks of one container, one after the other, until they have so many bytes.
  private mutating func runs(of byteCount: UInt64, in domain: ChunkDomain) -> [Run]? {
    let fitting = model.containers.filter { $0.value.domain == domain && !$0.value.chunks.isEmpty }
    guard byteCount > 0, let id = pick(fitting.keys.sorted()) else { return nil }
    let ordinals = fitting[id]!.chunks.keys.sorted()
    var runs: [Run] = []
    var left = byteCount + (chance(2) ? 1 : 0)
    while left > 0, runs.count < ObjectContent.embeddedRunLimit {
      let ordinal = pick(ordinals)!
      let size = min(left, UInt64(fitting[id]!.chunks[ordinal]!.byteCount))
      runs.append(Run(container: id, firstOrdinal: ordinal, count: 1, skip: 0, byteCount: size))
      left -= size
    }
    return left == 0 ? runs : nil
  }

  private mutating func clientCommand(_ session: UInt64) -> ClientCommand {
    if chance(14) { return multipartCommand(session) }
    if chance(4) { return accessCommand() }
    // Buckets that never had versions get rare, and so are versions that are there and have no attributes.
    if chance(3), let (name, version) = pick([unversioned(), markers(), kept()][number(0..<3)]) {
      return .setAttributes(
        name: name, version: version, prefix: "t:", attributes: [.init(name: "t:a", value: "x")])
    }
    let uploads = model.uploads.filter { $0.value.session == session }.keys.sorted()
    let grants = model.grants.filter { $0.value.session == session }.keys.sorted()
    let upload = chance(2) ? 3 : pick(uploads) ?? 0
    if chance(6) { return moveVersion(upload) }
    switch number(0..<100) {
    case 0..<6:
      return .createBucket(
        name: chance(10) ? "B" : "bucket-\(number(0..<2))", storageClass: className(),
        keyDomain: keyDomainName())
    case 6..<8: return .removeBucket(name: "bucket-\(number(0..<3))")
    case 8 where chance(50):
      return .setBucketSetting(
        bucket: "bucket-\(number(0..<3))",
        BucketSetting(SettingKind(UInt8(number(1..<4))), random.bytes(number(0..<5))))
    case 8..<14 where uploads.count < 3 || chance(5): return .openUpload
    case 8..<14: return .createBucket(name: "bucket-\(number(0..<2))")
    case 14..<17: return .endUpload(upload: upload)
    case 17..<25:
      let first = UInt64(number(1..<4))
      return .requestGrant(
        upload: upload, avoid: [],
        placement: chance(3)
          ? nil
          : ClientCommand.Placement(
            scheme: Self.scheme,
            devices: [first, first + 1, first + 2].map { DeviceID($0 * 10) }), domain: domain())
    case 25..<29:
      guard let grant = pick(grants) else { return .openUpload }
      return .releaseGrant(
        grant: grant,
        container: chance(5) ? ContainerID(.data, 2) : model.grants[grant]!.container)
    case 29..<50:
      guard let grant = pick(grants) else {
        let first = UInt64(number(1..<4))
        return .requestGrant(
          upload: upload, avoid: [],
          placement: ClientCommand.Placement(
            scheme: Self.scheme,
            devices: [first, first + 1, first + 2].map { DeviceID($0 * 10) }), domain: domain())
      }
      let record = model.grants[grant]!
      let domain = model.containers[record.container]!.domain.keyDomain
      let keys = dataKeys(of: upload, in: domain)
      if domain != .plain, keys.isEmpty, chance(80) { return makeDataKey(upload, domain) }
      return .registerStripes(
        upload: upload, grant: chance(2) ? 2 : grant, container: record.container,
        stripes: stripes(record), dataKeys: keys)
    case 50..<58: return .holdChunks(upload: upload, runs: runs())
    case 58..<66: return .putPage(upload: upload, page: .runs(runs()))
    case 66..<70:
      let children = (0..<number(1..<4)).map { _ -> Page.Child in
        let page = pick(model.pages.keys.sorted()) ?? 1
        let size = model.pages[page]?.byteCount ?? 3
        return Page.Child(page: chance(3) ? 4 : page, byteCount: chance(3) ? size + 1 : size)
      }
      return .putPage(upload: upload, page: .children(children))
    case 70..<80:
      let name = name()
      var content = ObjectContent.inline(random.bytes(number(0..<9)))
      var size: UInt64 = 0
      switch number(0..<3) {
      case 0: if case .inline(let bytes) = content { size = UInt64(bytes.count) }
      case 1:
        let runs = runs()
        content = .embedded(runs)
        size = runs.reduce(0) { $0 + $1.byteCount }
      default:
        let page = pick(model.pages.keys.sorted()) ?? 1
        content = .root(page)
        size = model.pages[page]?.byteCount ?? 3
      }
      if chance(3) { size += 1 }
      return .commitObject(
        upload: upload, name: name, content: content, byteCount: size,
        contentHash: Self.fingerprint(number(0..<3)),
        attributes: ObjectAttributes(
          lock: drawsLocks && chance(5) ? ObjectLock(retention: retention()) : nil),
        precondition: precondition(name), unlessIdentical: chance(20), modified: 17)
    case 80..<83 where drawsLocks:
      if chance(25) {
        return .setBucketLock(
          bucket: "bucket-\(chance(90) ? 1 : 2)",
          BucketLock(mode: chance(50) ? .governance : .compliance, days: chance(50) ? 0 : 1),
          enablesVersioning: chance(50))
      }
      let name = name()
      let stack = model.buckets[Array(name.bucket.utf8)]?.stacks[Array(name.key.utf8)] ?? []
      return .setLock(
        name: name, version: chance(40) ? .unnamed : .identity(pick(stack)?.identity ?? 5),
        change: chance(40) ? .legalHold(chance(40)) : .retention(retention()),
        bypassesGovernance: chance(50))
    case 83:
      let name = name()
      let stack = model.buckets[Array(name.bucket.utf8)]?.stacks[Array(name.key.utf8)] ?? []
      let names = ["t:a", "t:b", "u:c"].filter { _ in chance(60) }
      return .setAttributes(
        name: name, version: chance(40) ? .unnamed : .identity(pick(stack)?.identity ?? 5),
        prefix: chance(3) ? "" : "t:", attributes: names.map { .init(name: $0, value: "x") })
    case 84:
      return .setVersioning(
        bucket: "bucket-\(chance(80) ? 1 : number(1..<3))",
        chance(60) ? .enabled : chance(80) ? .suspended : .off)
    case 85..<89:
      let name = name()
      let stack = model.buckets[Array(name.bucket.utf8)]?.stacks[Array(name.key.utf8)] ?? []
      let version: VersionName =
        chance(25) ? .null : chance(10) ? .unnamed : .identity(pick(stack)?.identity ?? 5)
      return .deleteVersion(name: name, version: version, bypassesGovernance: chance(50))
    case 89..<93:
      let name = name()
      return .deleteObject(name: name, precondition: precondition(name))
    default:
      let target = name()
      let source = name()
      var sourceIdentity: UInt64 = 0
      if chance(60) {
        let known = model.buckets[Array(source.bucket.utf8)]?.objects[Array(source.key.utf8)]
        sourceIdentity = chance(70) ? known?.identity ?? 0 : 3
        let stack = model.buckets[Array(source.bucket.utf8)]?.stacks[Array(source.key.utf8)]
        if chance(40), let version = pick(stack ?? []) { sourceIdentity = version.identity }
      }
      return .copyObject(
        source: source, sourceIdentity: sourceIdentity, target: target,
        attributes: chance(50) ? nil : ObjectAttributes(mode: 7),
        move: chance(50), precondition: precondition(target), modified: 23)
    }
  }
}

extension CommandOutcome {
  /// Without the text meant for people.
  var bare: CommandOutcome {
    if case .refused(let code, _) = self { .refused(code: code, reason: "") } else { self }
  }
}

func batch(_ commands: [Command], after position: UInt64) -> LogBatch {
  LogBatch(
    epoch: 1, firstPosition: position + 1, acknowledged: 0, wallMilliseconds: 1000 + position,
    commands: commands)
}
