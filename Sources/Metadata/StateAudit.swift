internal import Cluster
internal import Coding
internal import Messages
internal import Wire

/// Reads a whole store and recomputes every derived entry from objects, pages, uploads and directories: edges by mark
/// and sweep, counters by counting, indexes from what they index.
///
/// In slices: each reads everything and keeps only what concerns some of the containers and pages, so that its memory is bounded
/// however large the store is. What is checked once (counts, sessions) is checked in the first slice.
package struct StateAudit {
  private struct Directory {
    var chunks: [UInt64: StripeRecord.Chunk] = [:]
    var layouts: [UInt64: StripeLayout] = [:]
    /// By stripe, where its groups are.
    var places: [UInt64: [Range<Int>]] = [:]
    var groupBytes = 0
    var blockBytes: Int { layouts.values.reduce(0) { $0 + $1.storedByteCount } }
    var stripeCount: Int { layouts.count }
    var dataBytes: Int { layouts.values.reduce(0) { $0 + $1.byteCount } }
  }
  private final class Problems {
    var found: [String] = []
  }
  /// Which containers and pages.
  struct Slice {
    var index: UInt64
    var count: UInt64
    func has(_ id: UInt64) -> Bool { count == 1 || id % count == index }
    func has(_ id: ContainerID) -> Bool { has(id.raw) }
    var isFirst: Bool { index == 0 }
  }

  let slice: Slice
  let source: AuditSource
  private var state = MachineState()
  /// Apart from the rest, which is read while a problem is described.
  private let problems = Problems()
  private var directories: [ContainerID: Directory] = [:]
  private var dyingPages: [UInt64: Int] = [:]
  private var endedUploads: Set<UInt64> = []
  private var endedMultiparts: Set<UInt64> = []
  private var endedBuckets: Set<UInt64> = []
  private var emptied: [ContainerID: UInt64] = [:]
  private var expectedContainerEdges: [[UInt8]: OrdinalSet?] = [:]
  private var expectedPageEdges: Set<[UInt8]> = []
  private var usedContainers: Set<ContainerID> = []
  private var infos: [UInt64: PageInfo] = [:]
  private(set) var liveUploads: Set<UInt64> = []
  private var uploadsOfSession: [UInt64: UInt64] = [:]
  private var grantsOfSession: [UInt64: UInt64] = [:]
  private var holders: Set<[UInt8]> = []
  private var edgesOfContainer: [ContainerID: UInt64] = [:]
  /// Of every container, whatever the slice: what refers to it must be of the same.
  private(set) var domainOfContainer: [ContainerID: ChunkDomain] = [:]
  var domainOfBucket: [UInt64: ChunkDomain] = [:]
  private var domainOfPage: [UInt64: ChunkDomain] = [:]
  private var doomed: Set<[UInt8]> = []
  /// Of containers, added up over the slices, by class.
  var usage: [ClassID: UsageCounters]

  private init(_ source: AuditSource, slice: Slice, usage: [ClassID: UsageCounters]) {
    self.source = source
    self.slice = slice
    self.usage = usage
  }

  /// What does not fit, at most twenty lines; empty when all is well.
  package static func violations(in store: any OrderedStore) throws -> [String] {
    try violations(in: AuditSource(store), sliceCount: 1)
  }

  /// The same of a store that others change meanwhile, read as it was at one moment.
  ///
  /// - Parameter sliceCount: into how many parts it is cut; each reads the store once.
  /// - Throws: `corrupt` where it cannot be decoded; what `source` throws.
  package static func violations(in source: AuditSource, sliceCount: Int) throws(StoreError)
    -> [String]
  {
    guard let row = try source.first(.state) else {
      return try source.scan(KeyRange(), 1).isEmpty ? [] : ["no state"]
    }
    let state = try MachineState(stored: row.value)
    var found: [String] = []
    var usage: [ClassID: UsageCounters] = [:]
    for index in 0..<max(1, sliceCount) {
      var audit = StateAudit(
        source, slice: Slice(index: UInt64(index), count: UInt64(max(1, sliceCount))), usage: usage)
      audit.state = state
      found += try audit.run()
      usage = audit.usage
    }
    return try found + countersHold(source, state, usage) + AccessAudit.violations(in: source)
  }

  /// Compares what was counted with what classes, and the state for all of them, say.
  private static func countersHold(
    _ source: AuditSource, _ state: MachineState, _ usage: [ClassID: UsageCounters]
  ) throws(StoreError) -> [String] {
    var found: [String] = []
    var unknown = usage
    var sum = UsageCounters()
    var classRows = source.rows(.storageClass)
    while let row = try classRows.next() {
      let id = try Key.classID(in: row.key)
      let kept = try ClassRecord(stored: row.value).usage
      let counted = unknown.removeValue(forKey: id) ?? UsageCounters()
      if kept != counted { found.append("\(id) is kept as \(kept) and counted as \(counted)") }
      sum.add(counted)
    }
    for id in unknown.keys.sorted() { found.append("\(id) is used but not there") }
    sum.trashCount = state.usage.trashCount
    if sum != state.usage { found.append("\(state.usage) are kept and \(sum) counted") }
    return found
  }

  /// Into how many slices a store of that much is to be cut, so that one takes some tens of megabytes.
  package static func sliceCount(_ usage: UsageCounters) -> Int {
    // A chunk has 32 KiB at least but at the end of an object; edges and pages are fewer than those.
    let items = usage.chunkBytes >> 15 + usage.objectCount
    return 1 + Int(clamping: items >> 17)
  }

  private mutating func run() throws(StoreError) -> [String] {
    try readDomains()
    try directoriesHold()
    try trashHolds()
    try objectsHold()
    try versionsHold()
    try pagesHold()
    try uploadsHold()
    try multipartsHold()
    try edgesHold()
    try containersHold()
    if slice.isFirst {
      try settingsHold()
      try sessionsHold()
      try keysHold()
    }
    return problems.found
  }

  private mutating func readDomains() throws(StoreError) {
    var containerRows = source.rows(.container)
    while let row = try containerRows.next() {
      let record = try ContainerRecord(stored: row.value)
      domainOfContainer[record.id] = record.domain
    }
    var bucketRows = source.rows(.bucket)
    while let row = try bucketRows.next() {
      let record = try BucketRecord(stored: row.value)
      domainOfBucket[record.identity] = record.domain
    }
    var pageRows = source.rows(.pageInfo)
    while let row = try pageRows.next() {
      let id = try Key.number(in: row.key, at: 1)
      domainOfPage[id] = try PageInfo(stored: row.value).domain
    }
  }

  private static let lineLimit = 20

  func check(_ condition: Bool, _ text: @autoclosure () -> String) {
    if !condition && problems.found.count < Self.lineLimit { problems.found.append(text()) }
  }

  private static func ordinals(_ runs: [Run]) -> [ContainerID: OrdinalSet] {
    var sets: [ContainerID: [NumberRun]] = [:]
    for run in runs {
      sets[run.container, default: []].append(
        NumberRun(first: run.firstOrdinal, count: UInt64(run.count)))
    }
    return sets.mapValues { OrdinalSet(runs: NumberRun.normalized($0)) }
  }

  private mutating func directoriesHold() throws(StoreError) {
    var directoryRows = source.rows(.directory)
    while let row = try directoryRows.next() {
      let id = try Key.container(in: row.key, at: 1)
      guard slice.has(id) else { continue }
      let stripe = try StripeRecord(stored: row.value)
      check(stripe.firstOrdinal == (try? Key.number(in: row.key, at: 9)), "directory key")
      let known = directories[id, default: Directory()].layouts.updateValue(
        stripe.layout, forKey: stripe.stripe)
      check(known ?? stripe.layout == stripe.layout, "stripe \(stripe.stripe) of \(id) twice")
      var number = stripe.firstOrdinal
      for group in stripe.groups {
        check(
          group.plainByteCount <= StorageClass.largestGroup
            && GroupHeader.isFrame(
              UInt64(group.storedByteCount), of: UInt64(group.plainByteCount), codec: group.codec,
              isSealed: domainOfContainer[id]?.isSealed ?? false),
          "sizes of a group of stripe \(stripe.stripe) of \(id)")
        directories[id]!.groupBytes += Int(group.storedByteCount)
        directories[id]!.places[stripe.stripe, default: []].append(
          Int(group.offset)..<Int(group.offset) + Int(group.storedByteCount))
        for chunk in group.chunks {
          check(directories[id]!.chunks[number] == nil, "ordinal \(number) of \(id) twice")
          directories[id]!.chunks[number] = chunk
          number += 1
        }
      }
    }
    for (id, directory) in directories {
      for (stripe, places) in directory.places {
        let sorted = places.sorted { $0.lowerBound < $1.lowerBound }
        check(
          zip(sorted, sorted.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound },
          "groups of stripe \(stripe) of \(id) overlap")
      }
    }
  }

  private mutating func trashHolds() throws(StoreError) {
    var trashCount: UInt64 = 0
    var trashRows = source.rows(.trash)
    while let row = try trashRows.next() {
      trashCount += 1
      let position = try Key.number(in: row.key, at: 1)
      check(position >= state.trashHead, "trash before its head")
      switch try TrashEntry(stored: row.value).content {
      case .embedded(let identity, let containers):
        for id in containers where slice.has(id) {
          expectedContainerEdges[
            Key.edge(.containerEdge, target: id.raw, source: .object(identity))] = .some(nil)
        }
      case .root(let identity, let page) where slice.has(page):
        expectedPageEdges.insert(Key.edge(.pageEdge, target: page, source: .object(identity)))
      case .upload(let upload): endedUploads.insert(upload)
      case .page(let page, let returned): dyingPages[page] = Int(clamping: returned)
      case .container(let id, let ordinal) where slice.has(id): emptied[id] = ordinal
      case .part(let identity, let page) where slice.has(page):
        expectedPageEdges.insert(Key.edge(.pageEdge, target: page, source: .part(identity)))
      case .multipart(let number): endedMultiparts.insert(number)
      case .bucket(let identity): endedBuckets.insert(identity)
      case .root, .container, .part: break
      }
    }
    check(state.usage.trashCount == trashCount, "trash count")
  }

  private mutating func objectsHold() throws(StoreError) {
    var objectsOfBucket: [UInt64: UInt64] = [:]
    var counted: [ClassID: UsageCounters] = [:]
    var objectRows = source.rows(.object)
    while let row = try objectRows.next() {
      let record = try ObjectRecord(stored: row.value)
      let bucket = try Key.number(in: row.key, at: 1)
      objectsOfBucket[bucket, default: 0] += 1
      let domain = domain(of: record, in: bucket)
      counted[domain?.storageClass ?? ClassID(0), default: UsageCounters()].add(record)
      expectEdges(of: record, domain)
    }
    guard slice.isFirst else { return }
    for (id, objects) in counted { usage[id, default: UsageCounters()].add(objects) }
    var bucketRows = source.rows(.bucket)
    while let row = try bucketRows.next() {
      let bucket = try BucketRecord(stored: row.value)
      check(bucket.objectCount == objectsOfBucket[bucket.identity] ?? 0, "objects of a bucket")
      objectsOfBucket[bucket.identity] = nil
    }
    check(objectsOfBucket.isEmpty, "objects without a bucket")
  }

  /// What a version's content is to be of: the bucket's domain, or that which it was moved to.
  mutating func domain(of record: ObjectRecord, in bucket: UInt64) -> ChunkDomain? {
    guard let moved = record.moved else { return domainOfBucket[bucket] }
    check(
      moved.domain.keyDomain == domainOfBucket[bucket]?.keyDomain,
      "version \(record.identity) is of another key domain than its bucket")
    check(
      moved.source > record.identity,
      "version \(record.identity) was moved before it was made")
    return moved.domain
  }

  /// - Parameter domain: its content's.
  mutating func expectEdges(of record: ObjectRecord, _ domain: ChunkDomain?) {
    switch record.content {
    case .inline: break
    case .embedded(let runs):
      check(
        runs.allSatisfy { domainOfContainer[$0.container] == domain },
        "version \(record.identity) has bytes of another domain than its own")
      for (id, set) in Self.ordinals(runs) where slice.has(id) {
        expectedContainerEdges[
          Key.edge(.containerEdge, target: id.raw, source: .object(record.source))] = set
        use(id, set)
      }
    case .root(let page) where slice.has(page):
      check(
        domainOfPage[page] == domain,
        "version \(record.identity) has pages of another domain than its own")
      expectedPageEdges.insert(
        Key.edge(.pageEdge, target: page, source: .object(record.source)))
    case .root: break
    }
  }

  /// The container is used, with these ordinals.
  private mutating func use(_ id: ContainerID, _ set: OrdinalSet) {
    usedContainers.insert(id)
    let chunks = directories[id]?.chunks ?? [:]
    for run in set.runs {
      for number in run.first..<run.end where chunks[number] == nil {
        check(false, "chunk \(number) of \(id) is used but not there")
        if problems.found.count >= Self.lineLimit { return }
      }
    }
  }

  private mutating func pagesHold() throws(StoreError) {
    var pageInfoRows = source.rows(.pageInfo)
    while let row = try pageInfoRows.next() {
      let id = try Key.number(in: row.key, at: 1)
      if slice.has(id) { infos[id] = try PageInfo(stored: row.value) }
    }
    var pageCount = 0
    var pageRows = source.rows(.page)
    while let row = try pageRows.next() {
      let id = try Key.number(in: row.key, at: 1)
      if slice.has(id) {
        pageCount += 1
        check(
          (infos[id] == nil) == (dyingPages[id] != nil), "page \(id) neither alive nor in the trash"
        )
      }
      let returned = dyingPages[id] ?? 0
      let content = try PageRecord(stored: row.value).page
      if slice.has(id), let domain = domainOfPage[id] {
        let isOfOne =
          switch content {
          case .runs(let runs): runs.allSatisfy { domainOfContainer[$0.container] == domain }
          case .children(let children): children.allSatisfy { domainOfPage[$0.page] == domain }
          }
        check(isOfOne, "page \(id) leads out of its domain")
      }
      switch content {
      case .runs(let runs):
        for (id2, set) in Self.ordinals(runs).sorted(by: { $0.key < $1.key }).dropFirst(returned)
        where slice.has(id2) {
          expectedContainerEdges[Key.edge(.containerEdge, target: id2.raw, source: .page(id))] = set
          use(id2, set)
        }
      case .children(let children):
        for child in Set(children.map(\.page)).sorted().dropFirst(returned)
        where slice.has(child) {
          expectedPageEdges.insert(Key.edge(.pageEdge, target: child, source: .page(id)))
        }
      }
    }
    let dyingCount = dyingPages.keys.count { slice.has($0) }
    check(
      pageCount == infos.count + dyingCount,
      "\(pageCount) pages, \(infos.count) alive, \(dyingCount) dying")
    var pageNameRows = source.rows(.pageName)
    while let row = try pageNameRows.next() {
      let page = try Key.number(in: row.value, at: 0)
      guard slice.has(page) else { continue }
      check(
        infos[page].map { Key.pageName($0.name, in: $0.domain) } == row.key, "name of page \(page)")
    }
  }

  private mutating func uploadsHold() throws(StoreError) {
    var uploadRows = source.rows(.upload)
    while let row = try uploadRows.next() {
      let (session, upload) = (
        try Key.number(in: row.key, at: 1), try Key.number(in: row.key, at: 9)
      )
      liveUploads.insert(upload)
      uploadsOfSession[session, default: 0] += 1
    }
    var heldRows = source.rows(.held)
    while let row = try heldRows.next() {
      let upload = try Key.number(in: row.key, at: 1)
      let target = try Key.number(in: row.key, at: 10)
      guard slice.has(target) else { continue }
      check(liveUploads.contains(upload) || endedUploads.contains(upload), "held by nobody")
      if row.key[9] == 1 {
        expectedPageEdges.insert(Key.edge(.pageEdge, target: target, source: .upload(upload)))
      } else {
        holders.insert(Key.edge(.containerEdge, target: target, source: .upload(upload)))
      }
    }
  }

  private mutating func multipartsHold() throws(StoreError) {
    var buckets = endedBuckets
    var bucketRows = source.rows(.bucket)
    while let row = try bucketRows.next() {
      buckets.insert(try BucketRecord(stored: row.value).identity)
    }
    var multiparts = endedMultiparts
    var multipartRows = source.rows(.multipart)
    while let row = try multipartRows.next() {
      let found = try Key.multipart(in: row.key)
      _ = try MultipartRecord(stored: row.value)
      check(Key.multipart(found) == row.key, "key of multipart upload \(found.number)")
      check(buckets.contains(found.bucket), "multipart upload \(found.number) without a bucket")
      check(multiparts.insert(found.number).inserted, "multipart upload \(found.number) twice")
    }
    var partRows = source.rows(.part)
    while let row = try partRows.next() {
      let (multipart, number) = (
        try Key.number(in: row.key, at: 1), try Key.partNumber(in: row.key)
      )
      let part = try PartRecord(stored: row.value)
      check(multiparts.contains(multipart), "part \(number) of no multipart upload")
      check(part.part.number == number, "key of part \(number) of \(multipart)")
      guard part.part.page != 0, slice.has(part.part.page) else { continue }
      check(
        infos[part.part.page]?.byteCount == part.part.byteCount,
        "bytes of part \(number) of \(multipart)")
      expectedPageEdges.insert(
        Key.edge(.pageEdge, target: part.part.page, source: .part(part.identity)))
    }
  }

  private mutating func edgesHold() throws(StoreError) {
    var containerEdgeRows = source.rows(.containerEdge)
    while let row = try containerEdgeRows.next() {
      let id = try Key.container(in: row.key, at: 1)
      guard slice.has(id) else { continue }
      guard row.key.count >= 18 else { throw .corrupt("container edge") }
      edgesOfContainer[id, default: 0] += 1
      let set = try OrdinalSet(stored: row.value)
      if row.key[9] == 2 {
        check(holders.contains(Array(row.key[..<18])), "an upload's edge without its holder")
        check(set.runs.first?.first == (try? Key.number(in: row.key, at: 18)), "an upload's edge")
      } else if let expected = expectedContainerEdges.removeValue(forKey: row.key) {
        check(expected == nil || expected == set, "ordinals of an edge to \(id)")
      } else {
        check(false, "an edge to \(id) from nothing: \(row.key)")
      }
      use(id, set)
    }
    check(
      expectedContainerEdges.isEmpty, "edges to containers are missing: \(expectedContainerEdges)")
    var edgesOfPage: [UInt64: UInt64] = [:]
    var pageEdgeRows = source.rows(.pageEdge)
    while let row = try pageEdgeRows.next() {
      let page = try Key.number(in: row.key, at: 1)
      guard slice.has(page) else { continue }
      edgesOfPage[page, default: 0] += 1
      check(expectedPageEdges.remove(row.key) != nil, "an edge to a page from nothing: \(row.key)")
    }
    check(expectedPageEdges.isEmpty, "edges to pages are missing: \(expectedPageEdges)")
    for (id, info) in infos {
      check(info.edgeCount > 0 && info.edgeCount == edgesOfPage[id], "edge count of page \(id)")
      edgesOfPage[id] = nil
    }
    check(edgesOfPage.isEmpty, "edges to dead pages")
  }

  private mutating func containersHold() throws(StoreError) {
    var grantOfContainer: [ContainerID: UInt64] = [:]
    var grantRows = source.rows(.grant)
    while let row = try grantRows.next() {
      let grant = try OpenGrant(stored: row.value)
      if slice.has(grant.container) { grantOfContainer[grant.container] = grant.id }
      grantsOfSession[grant.session, default: 0] += 1
    }
    var available = try keys(.availableContainer) { $0.count - 8 }
    var onDevices = try keys(.deviceContainer) { _ in 9 }
    var condemned = try keys(.condemned) { _ in 1 }
    doomed = try keys(.doomedShard) { _ in 9 }
    var containers: [ContainerID: ContainerRecord] = [:]
    var containerRows = source.rows(.container)
    while let row = try containerRows.next() {
      let record = try ContainerRecord(stored: row.value)
      let id = record.id
      guard slice.has(id) else { continue }
      containers[id] = record
      let directory = directories[id] ?? Directory()
      check(record.edgeCount == edgesOfContainer[id] ?? 0, "edge count of \(id)")
      let isCondemned = record.state == .condemned
      if case .open(let grant) = record.state {
        check(grantOfContainer.removeValue(forKey: id) == grant, "grant of \(id)")
      } else {
        check(isCondemned == (record.edgeCount == 0), "\(id) without edges is \(record.state)")
      }
      let key = Key.available(record)
      check((available.remove(key) != nil) == (record.state == .available), "\(id) available")
      check(
        Set(record.devices).count == record.scheme.width, "\(id) has two shards on one device")
      for (device, shard) in zip(record.devices, record.places.shards(of: id)) {
        check(
          onDevices.remove(Key.of(.deviceContainer, device.raw, id.raw)) != nil, "device of \(id)")
        let doomed = Key.doomed(DoomedShard(device: device, shard: shard))
        check(!self.doomed.contains(doomed), "shard \(shard.shardIndex) of \(id) is doomed")
      }
      let isEmptied = condemned.remove(Key.of(.condemned, id.raw)) != nil
      check(
        isCondemned == (isEmptied || emptied[id] != nil), "\(id) is condemned but not in the trash")
      if isEmptied { check(directories[id] == nil, "directory of \(id)") }
      if isCondemned {
        check(directory.chunks.keys.allSatisfy { $0 >= emptied[id] ?? 0 }, "directory of \(id)")
        continue
      }
      let plain = directory.chunks.values.reduce(UInt64(0)) { $0 + UInt64($1.byteCount) }
      var counted = UsageCounters()
      counted.containerCount = 1
      counted.chunkBytes = plain
      counted.groupBytes = UInt64(directory.groupBytes)
      counted.blockBytes = UInt64(directory.blockBytes)
      usage[record.domain.storageClass, default: UsageCounters()].add(counted)
      check(record.blockByteCount == counted.blockBytes, "block bytes of \(id)")
      check(record.chunkByteCount == plain, "chunk bytes of \(id)")
      check(record.chunkCount == UInt64(directory.chunks.count), "chunks of \(id)")
      check(record.stripeCount == UInt64(directory.stripeCount), "stripes of \(id)")
      check(record.dataByteCount == UInt64(directory.dataBytes), "bytes of \(id)")
      check(record.groupByteCount == UInt64(directory.groupBytes), "groups of \(id)")
      check(
        record.nextOrdinal >= (directory.chunks.keys.max().map { $0 + 1 } ?? 0), "ordinals of \(id)"
      )
      check(
        record.nextStripe > directory.layouts.keys.max() ?? 0 || directory.layouts.isEmpty,
        "stripe numbers of \(id)")
    }
    var rewriteRows = source.rows(.rewrite)
    while let row = try rewriteRows.next() {
      let rewrite = try RewriteRecord(stored: row.value)
      guard slice.has(rewrite.container) else { continue }
      let record = containers[rewrite.container]
      check(row.key == Key.of(.rewrite, rewrite.container.raw), "key of lease \(rewrite.id)")
      check(record?.state == .sealed, "lease \(rewrite.id) of a container that is not sealed")
      if case .moves(let moves) = rewrite.work {
        for move in moves {
          check(
            record?.places[Int(move.shardIndex)].device == move.from
              && record?.devices.contains(move.to) == false, "a move of lease \(rewrite.id)")
        }
      }
      check(
        record?.places.allSatisfy { $0.generation < rewrite.id } == true,
        "generation of lease \(rewrite.id)")
      for target in rewrite.targets {
        check(!doomed.contains(Key.doomed(target)), "a target of lease \(rewrite.id) is doomed")
      }
    }
    check(available.isEmpty && onDevices.isEmpty && condemned.isEmpty, "indexes of no container")
    check(grantOfContainer.isEmpty, "grants of no container")
    check(directories.keys.allSatisfy { containers[$0] != nil }, "directory of no container")
    for id in usedContainers {
      check(containers[id]?.state != .condemned, "\(id) is used but dead")
    }
    var fingerprintRows = source.rows(.fingerprint)
    while let row = try fingerprintRows.next() {
      let hint = try FingerprintHint(stored: row.value)
      guard slice.has(hint.container) else { continue }
      let chunk = directories[hint.container]?.chunks[hint.ordinal]
      check(
        chunk.map {
          Key.fingerprint(
            $0.fingerprint, in: domainOfContainer[hint.container] ?? ChunkDomain(raw: .max))
        } == row.key
          && chunk?.byteCount == hint.byteCount,
        "hint to \(hint)")
    }
  }

  /// The family's keys that name a container of this slice.
  ///
  /// - Parameter place: where in the key.
  private func keys(_ family: Key.Family, _ place: ([UInt8]) -> Int) throws(StoreError) -> Set<
    [UInt8]
  > {
    var keys: Set<[UInt8]> = []
    var rows = source.rows(family)
    while let row = try rows.next() {
      if slice.has(try Key.container(in: row.key, at: max(1, place(row.key)))) {
        keys.insert(row.key)
      }
    }
    return keys
  }

  private mutating func sessionsHold() throws(StoreError) {
    var sessions: [UInt64: SessionRecord] = [:]
    var sessionRows = source.rows(.session)
    while let row = try sessionRows.next() {
      let id = try Key.number(in: row.key, at: 1)
      let record = try SessionRecord(stored: row.value)
      sessions[id] = record
      check(record.uploadCount == uploadsOfSession.removeValue(forKey: id) ?? 0, "upload count")
      check(record.grantCount == grantsOfSession.removeValue(forKey: id) ?? 0, "grant count")
    }
    check(uploadsOfSession.isEmpty && grantsOfSession.isEmpty, "remains of a session")
    var outcomeRows = source.rows(.outcome)
    while let row = try outcomeRows.next() {
      let sequence = try Key.number(in: row.key, at: 9)
      let floor = sessions[try Key.number(in: row.key, at: 1)]?.lowestUnanswered
      check(floor.map { sequence >= $0 && sequence < $0 + 1024 } ?? false, "an outcome is left")
    }
  }
}

extension UsageCounters {
  mutating func add(_ other: UsageCounters) {
    objectCount &+= other.objectCount
    logicalBytes &+= other.logicalBytes
    inlineBytes &+= other.inlineBytes
    chunkBytes &+= other.chunkBytes
    groupBytes &+= other.groupBytes
    blockBytes &+= other.blockBytes
    containerCount &+= other.containerCount
  }
  fileprivate mutating func add(_ object: ObjectRecord) {
    objectCount &+= 1
    logicalBytes &+= object.byteCount
    inlineBytes &+= object.content.inlineByteCount
  }
}
