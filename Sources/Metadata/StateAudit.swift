package import Cluster
package import Coding
package import Messages
internal import Wire

/// Reads a whole store and recomputes every derived entry from objects, pages, uploads and directories: edges by mark
/// and sweep, counters by counting, indexes from what they index. For tests and simulation; its memory follows the store's size.
package struct StateAudit {
  private struct Directory {
    var chunks: [UInt64: StripeRecord.Chunk] = [:]
    var layouts: [UInt64: StripeLayout] = [:]
    /// By stripe, where its groups are.
    var places: [UInt64: [Range<Int>]] = [:]
    var groupBytes = 0
    var stripeCount: Int { layouts.count }
    var dataBytes: Int { layouts.values.reduce(0) { $0 + $1.byteCount } }
  }
  private final class Problems {
    var found: [String] = []
  }
  private struct Ordinal: Hashable {
    var container: ContainerID
    var number: UInt64
  }

  private var rows: [UInt8: [StoreEntry]] = [:]
  private var state = MachineState()
  /// Apart from the rest, which is read while a problem is described.
  private let problems = Problems()
  private var directories: [ContainerID: Directory] = [:]
  private var dyingPages: [UInt64: Int] = [:]
  private var endedUploads: Set<UInt64> = []
  private var emptied: [ContainerID: UInt64] = [:]
  private var expectedContainerEdges: [[UInt8]: OrdinalSet?] = [:]
  private var expectedPageEdges: Set<[UInt8]> = []
  private var usedContainers: Set<ContainerID> = []
  private var usedOrdinals: [Ordinal] = []
  private var infos: [UInt64: PageInfo] = [:]
  private var liveUploads: Set<UInt64> = []
  private var uploadsOfSession: [UInt64: UInt64] = [:]
  private var grantsOfSession: [UInt64: UInt64] = [:]
  private var holders: Set<[UInt8]> = []
  private var edgesOfContainer: [ContainerID: UInt64] = [:]
  private var doomed: Set<[UInt8]> = []

  /// What does not fit, at most twenty lines; empty when all is well.
  package static func violations(in store: any OrderedStore) throws -> [String] {
    var audit = StateAudit()
    return try audit.run(store)
  }

  /// One digest of every key and value.
  package static func digest(of store: any OrderedStore) throws -> Fingerprint {
    var writer = ByteWriter()
    for entry in try store.scan(KeyRange()) {
      writer.blob(entry.key)
      writer.blob(entry.value)
    }
    return Fingerprint(of: writer.bytes)
  }

  /// What clients made and what follows from it, without what only their sessions and the leader's duties need: it stays the
  /// same while nobody writes, wherever the state was made from the log.
  package static func lastingDigest(of store: any OrderedStore) throws -> Fingerprint {
    let lasting: [Key.Family] = [
      .bucket, .object, .page, .pageInfo, .pageName, .pageEdge, .container, .containerEdge,
      .directory, .fingerprint, .deviceContainer, .availableContainer,
    ]
    var writer = ByteWriter()
    for family in lasting {
      for entry in try store.scan(KeyRange(prefix: Key.family(family))) {
        writer.blob(entry.key)
        writer.blob(entry.value)
      }
    }
    return Fingerprint(of: writer.bytes)
  }

  /// What is to go away by itself when no client is left: sessions with what they hold, trash, containers and grants
  /// that nodes have still to be told of. By what it is, none that are zero.
  ///
  /// - Parameter isGone: devices that can never be told; what waits for one of them is left out.
  package static func leftovers(
    in store: any OrderedStore, isGone: (DeviceID) -> Bool
  ) throws -> [(what: String, count: Int)] {
    func rows(_ family: Key.Family) throws -> [StoreEntry] {
      try store.scan(KeyRange(prefix: Key.family(family)))
    }
    var counts: [(what: String, count: Int)] = [
      ("sessions \(try sessions(in: store))", try rows(.session).count),
      ("uploads", try rows(.upload).count),
      ("held things", try rows(.held).count), ("grants", try rows(.grant).count),
      ("trash", try rows(.trash).count),
    ]
    let condemned = try containers(in: store).filter { container, _ in
      container.state == .condemned && !container.devices.contains(where: isGone)
    }
    counts.append(("condemned containers", condemned.count))
    let ended = try rows(.endedGrant).filter { row in
      try !EndedGrant(stored: row.value).devices.contains(where: isGone)
    }
    counts.append(("ended grants", ended.count))
    counts.append(("rewrites", try rows(.rewrite).count))
    let doomed = try doomedShards(in: store).filter { !isGone($0.device) }
    counts.append(("doomed shards", doomed.count))
    return counts.filter { $0.count > 0 }
  }

  private static func sessions(in store: any OrderedStore) throws -> [String] {
    try store.scan(KeyRange(prefix: Key.family(.session)), limit: 4).map { row in
      "\(try Key.number(in: row.key, at: 1)) of \(try SessionRecord(stored: row.value).client)"
    }
  }

  /// Every shard that its device has still to drop, though its container may be forgotten.
  package static func doomedShards(in store: any OrderedStore) throws -> [DoomedShard] {
    try store.scan(KeyRange(prefix: Key.family(.doomedShard))).map { try Key.doomed(in: $0.key) }
  }

  /// Of the default class.
  package static func scheme(in store: any OrderedStore) throws -> Scheme? {
    try store.get(Key.state).map { try MachineState(stored: $0).scheme }
  }

  /// Every container with its registered stripes, ascending.
  package static func containers(in store: any OrderedStore) throws -> [(
    record: ContainerRecord, stripes: [StripeRecord]
  )] {
    var stripes: [ContainerID: [StripeRecord]] = [:]
    for row in try store.scan(KeyRange(prefix: Key.family(.directory))) {
      stripes[try Key.container(in: row.key, at: 1), default: []].append(
        try StripeRecord(stored: row.value))
    }
    return try store.scan(KeyRange(prefix: Key.family(.container))).map { row in
      let record = try ContainerRecord(stored: row.value)
      return (record, stripes[record.id] ?? [])
    }
  }

  private mutating func run(_ store: any OrderedStore) throws -> [String] {
    for entry in try store.scan(KeyRange()) { rows[entry.key[0], default: []].append(entry) }
    guard let stateRow = family(.state).first else { return rows.isEmpty ? [] : ["no state"] }
    state = try MachineState(stored: stateRow.value)
    try directoriesHold()
    try trashHolds()
    try objectsHold()
    try pagesHold()
    try uploadsHold()
    try edgesHold()
    try containersHold()
    try sessionsHold()
    return problems.found
  }

  private func check(_ condition: Bool, _ text: @autoclosure () -> String) {
    if !condition && problems.found.count < 20 { problems.found.append(text()) }
  }

  private func family(_ family: Key.Family) -> [StoreEntry] { rows[family.rawValue] ?? [] }

  private static func ordinals(_ runs: [Run]) -> [ContainerID: OrdinalSet] {
    var sets: [ContainerID: [NumberRun]] = [:]
    for run in runs {
      sets[run.container, default: []].append(
        NumberRun(first: run.firstOrdinal, count: UInt64(run.count)))
    }
    return sets.mapValues { OrdinalSet(runs: NumberRun.normalized($0)) }
  }

  private mutating func directoriesHold() throws {
    for row in family(.directory) {
      let id = try Key.container(in: row.key, at: 1)
      let stripe = try StripeRecord(stored: row.value)
      check(stripe.firstOrdinal == (try? Key.number(in: row.key, at: 9)), "directory key")
      let known = directories[id, default: Directory()].layouts.updateValue(
        stripe.layout, forKey: stripe.stripe)
      check(known ?? stripe.layout == stripe.layout, "stripe \(stripe.stripe) of \(id) twice")
      var number = stripe.firstOrdinal
      for group in stripe.groups {
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

  private mutating func trashHolds() throws {
    for row in family(.trash) {
      check(try Key.number(in: row.key, at: 1) >= state.trashHead, "trash before its head")
      switch try TrashEntry(stored: row.value).content {
      case .embedded(let identity, let containers):
        for id in containers {
          expectedContainerEdges[
            Key.edge(.containerEdge, target: id.raw, source: .object(identity))] = .some(nil)
        }
      case .root(let identity, let page):
        expectedPageEdges.insert(Key.edge(.pageEdge, target: page, source: .object(identity)))
      case .upload(let upload): endedUploads.insert(upload)
      case .page(let page, let returned): dyingPages[page] = Int(returned)
      case .container(let id, let ordinal): emptied[id] = ordinal
      }
    }
    check(state.usage.trashCount == UInt64(family(.trash).count), "trash count")
  }

  private mutating func objectsHold() throws {
    var objectsOfBucket: [UInt64: UInt64] = [:]
    var logical: UInt64 = 0
    var inline: UInt64 = 0
    for row in family(.object) {
      let record = try ObjectRecord(stored: row.value)
      objectsOfBucket[try Key.number(in: row.key, at: 1), default: 0] += 1
      logical += record.byteCount
      switch record.content {
      case .inline(let bytes): inline += UInt64(bytes.count)
      case .embedded(let runs):
        for (id, set) in Self.ordinals(runs) {
          expectedContainerEdges[
            Key.edge(.containerEdge, target: id.raw, source: .object(record.identity))] = set
          usedContainers.insert(id)
          for run in set.runs {
            usedOrdinals += (run.first..<run.end).map { Ordinal(container: id, number: $0) }
          }
        }
      case .root(let page):
        expectedPageEdges.insert(
          Key.edge(.pageEdge, target: page, source: .object(record.identity)))
      }
    }
    check(state.usage.objectCount == UInt64(family(.object).count), "object count")
    check(state.usage.logicalBytes == logical, "logical bytes")
    check(state.usage.inlineBytes == inline, "inline bytes")
    for row in family(.bucket) {
      let bucket = try BucketRecord(stored: row.value)
      check(bucket.objectCount == objectsOfBucket[bucket.identity] ?? 0, "objects of a bucket")
      objectsOfBucket[bucket.identity] = nil
    }
    check(objectsOfBucket.isEmpty, "objects without a bucket")
  }

  private mutating func pagesHold() throws {
    for row in family(.pageInfo) {
      infos[try Key.number(in: row.key, at: 1)] = try PageInfo(stored: row.value)
    }
    for row in family(.page) {
      let id = try Key.number(in: row.key, at: 1)
      let isDying = infos[id] == nil
      check(isDying == (dyingPages[id] != nil), "page \(id) neither alive nor in the trash")
      let returned = dyingPages[id] ?? 0
      switch try PageRecord(stored: row.value).page {
      case .runs(let runs):
        for (id2, set) in Self.ordinals(runs).sorted(by: { $0.key < $1.key }).dropFirst(returned) {
          expectedContainerEdges[Key.edge(.containerEdge, target: id2.raw, source: .page(id))] = set
          usedContainers.insert(id2)
          for run in set.runs {
            usedOrdinals += (run.first..<run.end).map { Ordinal(container: id2, number: $0) }
          }
        }
      case .children(let children):
        for child in Set(children.map(\.page)).sorted().dropFirst(returned) {
          expectedPageEdges.insert(Key.edge(.pageEdge, target: child, source: .page(id)))
        }
      }
    }
    check(
      family(.page).count == infos.count + dyingPages.count,
      "\(family(.page).count) pages, \(infos.count) alive, \(dyingPages.count) dying")
    for row in family(.pageName) {
      let page = try Key.number(in: row.value, at: 0)
      check(infos[page].map { Key.pageName($0.name) } == row.key, "name of page \(page)")
    }
  }

  private mutating func uploadsHold() throws {
    for row in family(.upload) {
      liveUploads.insert(try Key.number(in: row.key, at: 9))
      uploadsOfSession[try Key.number(in: row.key, at: 1), default: 0] += 1
    }
    for row in family(.held) {
      let upload = try Key.number(in: row.key, at: 1)
      let target = try Key.number(in: row.key, at: 10)
      check(liveUploads.contains(upload) || endedUploads.contains(upload), "held by nobody")
      if row.key[9] == 1 {
        expectedPageEdges.insert(Key.edge(.pageEdge, target: target, source: .upload(upload)))
      } else {
        holders.insert(Key.edge(.containerEdge, target: target, source: .upload(upload)))
      }
    }
  }

  private mutating func edgesHold() throws {
    for row in family(.containerEdge) {
      let id = try Key.container(in: row.key, at: 1)
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
      usedContainers.insert(id)
      for run in set.runs {
        usedOrdinals += (run.first..<run.end).map { Ordinal(container: id, number: $0) }
      }
    }
    check(
      expectedContainerEdges.isEmpty, "edges to containers are missing: \(expectedContainerEdges)")
    var edgesOfPage: [UInt64: UInt64] = [:]
    for row in family(.pageEdge) {
      edgesOfPage[try Key.number(in: row.key, at: 1), default: 0] += 1
      check(expectedPageEdges.remove(row.key) != nil, "an edge to a page from nothing: \(row.key)")
    }
    check(expectedPageEdges.isEmpty, "edges to pages are missing: \(expectedPageEdges)")
    for (id, info) in infos {
      check(info.edgeCount > 0 && info.edgeCount == edgesOfPage[id], "edge count of page \(id)")
      edgesOfPage[id] = nil
    }
    check(edgesOfPage.isEmpty, "edges to dead pages")
  }

  private mutating func containersHold() throws {
    var grantOfContainer: [ContainerID: UInt64] = [:]
    for row in family(.grant) {
      let grant = try OpenGrant(stored: row.value)
      grantOfContainer[grant.container] = grant.id
      grantsOfSession[grant.session, default: 0] += 1
    }
    var available: Set<[UInt8]> = Set(family(.availableContainer).map(\.key))
    var onDevices: Set<[UInt8]> = Set(family(.deviceContainer).map(\.key))
    var condemned: Set<[UInt8]> = Set(family(.condemned).map(\.key))
    doomed = Set(family(.doomedShard).map(\.key))
    var usage = UsageCounters()
    var containers: [ContainerID: ContainerRecord] = [:]
    for row in family(.container) {
      let record = try ContainerRecord(stored: row.value)
      let id = record.id
      containers[id] = record
      let directory = directories[id] ?? Directory()
      check(record.edgeCount == edgesOfContainer[id] ?? 0, "edge count of \(id)")
      let isCondemned = record.state == .condemned
      if case .open(let grant) = record.state {
        check(grantOfContainer.removeValue(forKey: id) == grant, "grant of \(id)")
      } else {
        check(isCondemned == (record.edgeCount == 0), "\(id) without edges is \(record.state)")
      }
      let key = Key.available(id, scheme: record.scheme, devices: record.devices)
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
      usage.containerCount += 1
      let plain = directory.chunks.values.reduce(UInt64(0)) { $0 + UInt64($1.byteCount) }
      usage.chunkBytes += plain
      usage.groupBytes += UInt64(directory.groupBytes)
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
    for row in family(.rewrite) {
      let rewrite = try RewriteRecord(stored: row.value)
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
    check(state.usage.containerCount == usage.containerCount, "container count")
    check(state.usage.chunkBytes == usage.chunkBytes, "chunk bytes")
    check(state.usage.groupBytes == usage.groupBytes, "group bytes")
    for id in usedContainers {
      check(containers[id]?.state != .condemned, "\(id) is used but dead")
    }
    for ordinal in Set(usedOrdinals) {
      check(
        directories[ordinal.container]?.chunks[ordinal.number] != nil, "\(ordinal) is used but dead"
      )
    }
    for row in family(.fingerprint) {
      let hint = try FingerprintHint(stored: row.value)
      let chunk = directories[hint.container]?.chunks[hint.ordinal]
      check(
        chunk.map { Key.fingerprint($0.fingerprint) } == row.key
          && chunk?.byteCount == hint.byteCount,
        "hint to \(hint)")
    }
  }

  private mutating func sessionsHold() throws {
    var sessions: [UInt64: SessionRecord] = [:]
    for row in family(.session) {
      let id = try Key.number(in: row.key, at: 1)
      let record = try SessionRecord(stored: row.value)
      sessions[id] = record
      check(record.uploadCount == uploadsOfSession.removeValue(forKey: id) ?? 0, "upload count")
      check(record.grantCount == grantsOfSession.removeValue(forKey: id) ?? 0, "grant count")
    }
    check(uploadsOfSession.isEmpty && grantsOfSession.isEmpty, "remains of a session")
    for row in family(.outcome) {
      let sequence = try Key.number(in: row.key, at: 9)
      let floor = sessions[try Key.number(in: row.key, at: 1)]?.lowestUnanswered
      check(floor.map { sequence >= $0 && sequence < $0 + 1024 } ?? false, "an outcome is left")
    }
  }
}
