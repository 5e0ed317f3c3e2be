import Cluster
import Coding
import Messages
import TestSupport
import Testing
import Wire

@testable import Metadata

/// How often each kind of command had each kind of outcome.
struct Tally {
  var counts: [String: Int] = [:]
  mutating func note(_ command: Command, _ outcome: CommandOutcome) {
    var kind = "\(command)"
    if case .client(_, _, _, let inner) = command { kind = "\(inner)" }
    kind = String(kind.prefix { $0 != "(" })
    switch outcome {
    case .refused(let code, _): kind += " refused \(RefusalCode(rawValue: code)!)"
    case .missing(let runs, let pages): kind += runs.isEmpty && pages.isEmpty ? " all" : " missing"
    case .done, .number, .grant: kind += " done"
    case .version: kind += " version"
    }
    counts[kind, default: 0] += 1
  }
}

/// Fails one call in fifty.
final class FlakyStore: OrderedStore, @unchecked Sendable {
  private let store = MemoryStore()
  private var random: SeededGenerator
  var isSteady = true

  init(seed: Seed) { random = SeededGenerator(seed: seed.value &+ 77) }
  private func flake() throws(StoreError) {
    if !isSteady && Int.random(in: 0..<50, using: &random) == 0 { throw .device("flaky") }
  }
  func get(_ key: [UInt8]) throws(StoreError) -> [UInt8]? {
    try flake()
    return try store.get(key)
  }
  func scan(_ range: KeyRange, limit: Int, backward: Bool) throws(StoreError) -> [StoreEntry] {
    try flake()
    return try store.scan(range, limit: limit, backward: backward)
  }
  func apply(_ batch: WriteBatch) throws(StoreError) {
    try flake()
    try store.apply(batch)
  }
  func flush() throws(StoreError) { try store.flush() }
}

@Suite("The state machine against a plain model")
struct ModelTests {
  /// A workload that only ever meets refusals would prove nothing: it goes on until each of these has come.
  private static let kinds = [
    "registerStripes done", "requestGrant done", "releaseGrant done", "holdChunks all",
    "holdChunks missing", "putPage done", "putPage missing", "commitObject done",
    "commitObject missing", "copyObject done", "deleteObject done", "endUpload done",
    "returnEdges done", "commitObject refused outcomeUnknown", "beginRewrite done",
    "commitRewrite done", "endRewrite done", "beginRepack done", "createMultipart done",
    "putPart done", "putPart missing", "completeMultipart done", "abortMultipart done",
    "completeMultipart refused noSuchPart", "completeMultipart refused noSuchMultipart",
    "expireMultiparts done", "copyObject refused sourceChanged", "setBucketSetting done",
    "setBucketLock done", "setLock version", "setLock refused objectLocked",
    "deleteVersion refused objectLocked", "commitObject refused noLocks", "expireVersions done",
    "setAttributes done", "setAttributes version", "setAttributes refused isDeleteMarker",
    "setVersioning done", "commitObject version", "deleteObject version", "deleteVersion done",
    "deleteVersion version", "deleteVersion refused noSuchVersion", "copyObject version",
    "copyObject refused isDeleteMarker", "completeMultipart version", "changeUser done",
    "changeAccessKey done", "changeBucketAccess done", "changeKeys done", "makeDataKey done",
    "moveVersion done", "moveVersion refused noSuchVersion", "moveVersion refused malformed",
    "makeDataKey refused unavailable", "changeKeys refused preconditionFailed",
  ]

  @Test(
    "every outcome is the model's, and edges are what marking from the roots finds",
    arguments: Seed.several)
  func outcomes(seed: Seed) throws {
    var workload = Workload(seed: seed)
    let store = MemoryStore()
    let machine = try StateMachine(store: store)
    try run(&workload, machine, Workload.opening)
    var tally = Tally()
    var step = -1
    while step < 400 || step < 4000 && Self.kinds.contains(where: { tally.counts[$0] == nil }) {
      step += 1
      var commands: [Command] = []
      var expected: [CommandOutcome] = []
      let first = workload.model.position
      for _ in 0..<workload.number(1..<6) {
        let command = workload.next()
        commands.append(command)
        expected.append(workload.model.apply(command).bare)
      }
      let outcomes = try machine.apply(batch(commands, after: first)).map(\.bare)
      for (index, command) in commands.enumerated() where outcomes[index] != expected[index] {
        Issue.record(
          "step \(step): \(command): \(outcomes[index]), the model says \(expected[index])")
        return
      }
      for (command, outcome) in zip(commands, outcomes) { tally.note(command, outcome) }
      // Looking through all of it takes longer than all else: beyond these only now and then.
      guard step < 200 || step % 8 == 0 else { continue }
      let problems = try violations(in: store)
      guard problems.isEmpty else {
        Issue.record("step \(step), after \(commands): \(problems)")
        return
      }
      if step % 8 == 0 {
        try compareQueries(machine, workload.model, &workload.random)
        try compareLiveness(machine, workload.model)
        try compareUploads(store, workload.model)
      }
    }
    for kind in Self.kinds { #expect(tally.counts[kind, default: 0] > 0, "\(kind)") }
  }

  @Test("trash taken apart in steps of any size ends where one sweep does", arguments: Seed.several)
  func smallSteps(seed: Seed) throws {
    var workload = Workload(seed: seed)
    workload.smallSteps = true
    let store = MemoryStore()
    let machine = try StateMachine(store: store)
    try run(&workload, machine, Workload.opening)
    for step in 0..<250 {
      var commands: [Command] = []
      let first = machine.appliedPosition
      for _ in 0..<workload.number(1..<6) {
        let command = workload.next()
        commands.append(command)
        // The model's liveness may differ while trash is half returned; it only guides the choice.
        if case .returnEdges = command, workload.chance(90) {
          workload.model.position += 1
        } else {
          _ = workload.model.apply(command)
        }
      }
      _ = try machine.apply(batch(commands, after: first))
      let problems = try violations(in: store)
      guard problems.isEmpty else {
        Issue.record("step \(step), after \(commands): \(problems)")
        return
      }
    }
    let sessions = try machine.allSessions().map(\.id)
    _ = try machine.apply(batch([.expireSessions(sessions)], after: machine.appliedPosition))
    // The smallest step makes progress each time.
    var rounds = 0
    while machine.trashCount > 0 && rounds < 100_000 {
      let limit: UInt32 = rounds % 3 == 0 ? 0 : 2
      _ = try machine.apply(batch([.returnEdges(limit: limit)], after: machine.appliedPosition))
      rounds += 1
    }
    #expect(machine.trashCount == 0)
    #expect(try violations(in: store) == [])
  }

  @Test("when all is deleted and expired, nothing is left but the cluster", arguments: Seed.several)
  func empties(seed: Seed) throws {
    var workload = Workload(seed: seed)
    workload.drawsLocks = false
    let store = MemoryStore()
    let machine = try StateMachine(store: store)
    try run(&workload, machine, Workload.opening)
    var step = 0
    while step < 300 || workload.model.keyDomains.isEmpty {
      step += 1
      let command = workload.next()
      _ = workload.model.apply(command)
      _ = try machine.apply(batch([command], after: machine.appliedPosition))
    }
    for bucket in try machine.listBuckets().buckets {
      let session = try machine.apply(
        batch([.openSession(client: "")], after: machine.appliedPosition))
      guard case .number(let id) = session[0] else { return }
      let list = try machine.list(
        ListObjects(
          level: .strong, bucket: bucket.name, prefix: "", after: "", delimiter: "", limit: 1000))
      var commands: [ClientCommand] = []
      if workload.model.buckets[Array(bucket.name.utf8)]!.versioning == .off {
        commands = list.entries.map {
          .deleteObject(
            name: ObjectName(bucket: bucket.name, key: $0.key), precondition: .none)
        }
      } else {
        let versions = try machine.listVersions(
          ListVersions(
            level: .strong, bucket: bucket.name, prefix: "", delimiter: "", afterKey: "",
            after: .unnamed, limit: 1000))
        commands = versions.entries.map {
          .deleteVersion(
            name: ObjectName(bucket: bucket.name, key: $0.key), version: .identity($0.identity))
        }
      }
      commands.append(.removeBucket(name: bucket.name))
      for (index, command) in commands.enumerated() {
        let outcome = try machine.apply(
          batch(
            [
              .client(
                session: id, sequence: UInt64(index) + 1, lowestUnanswered: 1, command: command)
            ], after: machine.appliedPosition))
        if case .version(_, _)? = outcome.first { continue }
        #expect(outcome == [.done])
      }
    }
    try deleteUsers(machine)
    let sessions = try machine.allSessions().map(\.id)
    _ = try machine.apply(batch([.expireSessions(sessions)], after: machine.appliedPosition))
    _ = try machine.apply(batch([.returnEdges(limit: 65536)], after: machine.appliedPosition))
    let ended = try machine.endedGrants(limit: .max).map(\.id)
    _ = try machine.apply(
      batch(
        [
          .forgetContainers(try machine.containersToDrop(limit: .max).map(\.id)),
          .clearEndedGrants(ended),
          .clearDoomedShards(try machine.doomedShards(limit: .max)),
        ], after: machine.appliedPosition))
    #expect(try violations(in: store) == [])
    let left = Set(try store.scan(KeyRange()).map { $0.key[0] })
    #expect(
      left == [
        Key.Family.state.rawValue, Key.Family.node.rawValue, Key.Family.storageClass.rawValue,
        Key.Family.key.rawValue,
      ])
    // Of keys those of domains alone.
    let keys = try store.scan(KeyRange(prefix: Key.family(.key))).map { $0.key[1] }
    #expect(!keys.isEmpty && keys.allSatisfy { $0 == Key.KeyRow.domain.rawValue })
    #expect(machine.usage == UsageCounters())
  }

  @Test(
    "a crash loses whole batches, and the log played again gives the same bytes",
    arguments: Seed.several)
  func crash(seed: Seed) throws {
    var workload = Workload(seed: seed)
    var log: [LogBatch] = [batch(Workload.opening, after: 0)]
    for command in Workload.opening { _ = workload.model.apply(command) }
    for _ in 0..<200 {
      let first = workload.model.position
      var commands: [Command] = []
      for _ in 0..<workload.number(1..<4) {
        commands.append(workload.next())
        _ = workload.model.apply(commands.last!)
      }
      log.append(batch(commands, after: first))
    }
    let whole = MemoryStore()
    let machine = try StateMachine(store: whole)
    var outcomes: [[CommandOutcome]] = []
    for batch in log { outcomes.append(try machine.apply(batch)) }
    let wanted = try digest(of: whole)

    let store = MemoryStore()
    var crashing = try StateMachine(store: store)
    var next = 0
    while next < log.count {
      #expect(try crashing.apply(log[next]) == outcomes[next])
      next += 1
      if workload.chance(10) { try store.flush() }
      if workload.chance(10) {
        store.crash(keeping: workload.number(0..<store.unflushedBatchCount + 1))
        crashing = try StateMachine(store: store)
        #expect(try store.appliedPosition() == crashing.appliedPosition)
        // Batches from before are passed over, those lost are taken again.
        let start = workload.number(0..<next + 1)
        for index in start..<next where log[index].lastPosition <= crashing.appliedPosition {
          #expect(try crashing.apply(log[index]) == [])
        }
        next = log.firstIndex { $0.firstPosition > crashing.appliedPosition } ?? log.count
      }
    }
    #expect(try digest(of: store) == wanted)
  }

  @Test(
    "a store that fails now and then leaves the machine as it was, ready to try again",
    arguments: Seed.several)
  func failures(seed: Seed) throws {
    var workload = Workload(seed: seed)
    let steadyStore = MemoryStore()
    let steady = try StateMachine(store: steadyStore)
    let flakyStore = FlakyStore(seed: seed)
    let flaky = try StateMachine(store: flakyStore)
    var failures = 0
    var commands = Workload.opening
    for command in commands { _ = workload.model.apply(command) }
    for _ in 0..<200 {
      let next = batch(commands, after: steady.appliedPosition)
      let wanted = try steady.apply(next)
      flakyStore.isSteady = false
      for attempt in 0..<50 {
        flakyStore.isSteady = attempt == 49
        do throws(StoreError) {
          #expect(try flaky.apply(next) == wanted)
          break
        } catch {
          #expect(error == .device("flaky"))
          #expect(flaky.appliedPosition == next.firstPosition - 1)
          failures += 1
        }
      }
      flakyStore.isSteady = true
      #expect(flaky.usage == steady.usage && flaky.map == steady.map)
      commands = []
      for _ in 0..<workload.number(1..<5) {
        commands.append(workload.next())
        _ = workload.model.apply(commands.last!)
      }
    }
    #expect(failures > 20)
    #expect(try digest(of: flakyStore) == digest(of: steadyStore))
  }

  @Test("commands are coded and decoded without loss", arguments: Seed.several)
  func coding(seed: Seed) throws {
    var workload = Workload(seed: seed)
    for command in Workload.opening { _ = workload.model.apply(command) }
    var commands: [Command] = Workload.opening
    for _ in 0..<300 {
      let command = workload.next()
      _ = workload.model.apply(command)
      #expect(try Command(decoding: command.encoded) == command)
      commands.append(command)
    }
    let log = batch(commands, after: 41)
    #expect(try LogBatch(decoding: log.encoded) == log)
    #expect(try LogBatch(framed: log.framed + [0, 0, 0]) == log)
  }

  // MARK: Helpers

  private func run(_ workload: inout Workload, _ machine: StateMachine, _ commands: [Command])
    throws
  {
    let first = workload.model.position
    let expected = commands.map { workload.model.apply($0).bare }
    #expect(try machine.apply(batch(commands, after: first)).map(\.bare) == expected)
  }

  private func compareLiveness(_ machine: StateMachine, _ model: Model) throws {
    let alive = model.marks().ordinals
    for (id, container) in model.containers where !container.isCondemned {
      let live = container.groups.filter { first, known in
        known.group.chunks.indices.contains {
          alive.contains(Ordinal(container: id, number: first + UInt64($0)))
        }
      }
      let byteCount = live.values.reduce(UInt64(0)) { $0 + UInt64($1.group.storedByteCount) }
      #expect(try machine.liveByteCount(of: id) == byteCount)
    }
  }

  /// Listings of versions in pages of one, whatever the delimiter, and each version by its name.
  private func compareVersions(
    _ machine: StateMachine, _ model: Model, _ bucket: String, _ content: Model.Bucket,
    _ random: inout SeededGenerator
  ) throws {
    var wanted: [(key: [UInt8], version: Model.Version, isCurrent: Bool)] = []
    for (key, stack) in content.stacks.sorted(by: {
      $0.key.lexicographicallyPrecedes($1.key)
    }) {
      for (index, version) in stack.reversed().enumerated() {
        wanted.append((key, version, index == 0))
      }
    }
    var request = ListVersions(
      level: .strong, bucket: bucket, prefix: "", delimiter: "", afterKey: "", after: .unnamed,
      limit: UInt32.random(in: 1...3, using: &random))
    var found: [VersionEntry] = []
    while true {
      let page = try machine.listVersions(request)
      #expect(page.entries.count <= Int(request.limit))
      found += page.entries
      guard let next = page.next else { break }
      (request.afterKey, request.after) = next
      // The null version can be named so, too.
      if page.entries.last?.isNull == true, Bool.random(using: &random) { request.after = .null }
    }
    #expect(found.map(\.identity) == wanted.map(\.version.identity))
    #expect(found.map(\.key) == wanted.map { String(decoding: $0.key, as: UTF8.self) })
    #expect(found.map(\.isCurrent) == wanted.map(\.isCurrent))
    #expect(found.map(\.isNull) == wanted.map(\.version.isNull))
    #expect(found.map(\.isMarker) == wanted.map { $0.version.record == nil })
    request.delimiter = "/"
    request.afterKey = ""
    request.after = .unnamed
    let groups = try machine.listVersions(request)
    #expect(groups.prefixes == (wanted.isEmpty ? [] : ["k/"]) && groups.entries.isEmpty)
    for (entry, (_, version, _)) in zip(found, wanted) {
      let name = ObjectName(bucket: bucket, key: entry.key)
      let answer = try machine.find(
        FindVersion(level: .strong, name: name, version: entry.name)
      ).entry
      #expect(answer == entry)
      guard let record = version.record else { continue }
      try compareCover(machine, model, name, record, &random)
      let range = try machine.resolve(
        ResolveRange(
          level: .strong, name: name, identity: entry.identity, first: 0, byteCount: .max))
      #expect(Self.chunks(range) == Self.chunks(record.content, model))
    }
  }

  private func compareMultiparts(
    _ machine: StateMachine, _ bucket: String, _ content: Model.Bucket
  ) throws {
    let listed = try machine.listMultiparts(
      ListMultiparts(
        level: .strong, bucket: bucket, prefix: "", delimiter: "", afterKey: "", afterNumber: 0,
        limit: 1000))
    #expect(listed.isLast)
    let wanted = content.multiparts.sorted {
      if $0.value.key == $1.value.key { return $0.key < $1.key }
      return $0.value.key.lexicographicallyPrecedes($1.value.key)
    }
    #expect(listed.entries.map(\.number) == wanted.map(\.key))
    for entry in listed.entries {
      guard let multipart = content.multiparts[entry.number] else { continue }
      #expect(entry.description == multipart.description)
      var found: [ListParts.Part] = []
      var isLast = false
      while !isLast {
        let answer = try machine.listParts(
          ListParts(
            level: .strong,
            multipart: MultipartName(
              ObjectName(bucket: bucket, key: entry.key), number: entry.number),
            after: found.last?.part.number ?? 0, limit: 1))
        found += answer.parts
        isLast = answer.isLast
      }
      #expect(found == multipart.parts.values.sorted { $0.part.number < $1.part.number })
    }
  }

  /// A range put together anew, from what the state machine says it is made of, holds the same bytes.
  private func compareCover(
    _ machine: StateMachine, _ model: Model, _ name: ObjectName, _ record: ObjectRecord,
    _ random: inout SeededGenerator
  ) throws {
    guard record.byteCount > 0 else { return }
    let first = UInt64.random(in: 0..<record.byteCount, using: &random)
    let count = UInt64.random(in: 1...record.byteCount - first, using: &random)
    let cover = try machine.cover(
      CoverRange(
        level: .strong, name: name, identity: record.identity, first: first, byteCount: count))
    #expect(cover.byteCount == count)
    var pieces: [String] = cover.inline.map { "\($0)" }
    for piece in cover.pieces {
      switch piece {
      case .runs(let runs): pieces += Self.chunks(runs, model)
      case .children(let children):
        for child in children {
          #expect(model.pages[child.page]?.byteCount == child.byteCount)
          pieces += Self.chunks(child.page, model)
        }
      }
    }
    let plan = try machine.resolve(
      ResolveRange(
        level: .strong, name: name, identity: record.identity, first: first, byteCount: count))
    #expect(pieces == Self.chunks(plan))
  }

  private func compareQueries(
    _ machine: StateMachine, _ model: Model, _ random: inout SeededGenerator
  ) throws {
    #expect(machine.appliedPosition == model.position)
    #expect(machine.map.nodes == model.nodes.values.sorted { $0.id < $1.id })
    #expect(machine.map.epoch == model.mapEpoch)
    try model.compareAccess(machine)
    try model.compareKeys(machine)
    for (id, container) in model.containers where !container.isCondemned {
      #expect(try machine.container(id)?.places == container.places)
      #expect(try machine.rewrite(of: id) == container.rewrite)
      #expect(
        try Set(machine.storedStripes(of: id).map(\.layout)) == Set(container.layouts.values))
      let record = try machine.container(id)
      #expect(record?.stripeCount == UInt64(container.stripes.count))
    }
    let prints = (0..<40).map(Workload.fingerprint)
    #expect(try machine.policies() == model.classes)
    let keyDomains = [.plain] + model.keyDomains.keys.sorted()
    for domain in model.classes.keys.sorted().flatMap({ id in
      keyDomains.map { ChunkDomain(id, in: $0) }
    }) {
      let found = try machine.findChunks(prints, in: domain)
      for (index, print) in prints.enumerated() {
        let hint = model.hints[Model.Hint(fingerprint: print, domain: domain)].flatMap {
          model.isTarget($0.container) ? $0 : nil
        }
        let location = found.found[index]
        let place =
          location.byteCount == 0
          ? nil : Ordinal(container: location.container, number: location.ordinal)
        #expect(place == hint)
      }
      for neighbour in found.neighbours {
        let container = model.containers[neighbour.location.container]
        #expect(container?.domain == domain)
        #expect(
          container?.chunks[neighbour.location.ordinal]?.fingerprint == neighbour.fingerprint)
      }
    }
    var names: [Fingerprint: Fingerprint] = [:]
    for (bucket, content) in model.buckets {
      let name = String(decoding: bucket, as: UTF8.self)
      try compareMultiparts(machine, name, content)
      let settings = try machine.settings(
        GetBucketSettings(level: .strong, bucket: name, kinds: [])
      ).settings
      #expect(
        settings
          == content.settings.sorted { $0.key < $1.key }.map { BucketSetting($0.key, $0.value) })
      try compareVersions(machine, model, name, content, &random)
      for (key, record) in content.objects {
        let object = ObjectName(bucket: name, key: String(decoding: key, as: UTF8.self))
        let answer = try machine.stat(object)
        let stored = answer.record
        var wanted = record
        wanted.moved = nil
        let domain = record.moved?.domain ?? content.domain
        #expect(answer.storageClass == model.classes[domain.storageClass]?.name)
        if model.completedHashes.contains(record.contentHash) {
          // A page's name: the model has another for each.
          let known = names.updateValue(stored.contentHash, forKey: record.contentHash)
          #expect(known ?? stored.contentHash == stored.contentHash)
          wanted.contentHash = stored.contentHash
        }
        #expect(stored == wanted)
        try compareCover(machine, model, object, record, &random)
        let range = try machine.resolve(
          ResolveRange(
            level: .strong, name: object, identity: 0, first: 0, byteCount: .max))
        #expect(Self.chunks(range) == Self.chunks(record.content, model))
        // A part of it, from anywhere.
        let first = record.byteCount / 3
        let part = try machine.resolve(
          ResolveRange(level: .strong, name: object, identity: 0, first: first, byteCount: 150))
        let taken =
          UInt64(part.inline.count) + part.pieces.reduce(0) { $0 + UInt64($1.take) }
        #expect(taken == min(150, record.byteCount - first))
      }
    }
  }

  /// What live uploads hold, chunk by chunk and page by page.
  private func compareUploads(_ store: MemoryStore, _ model: Model) throws {
    var ordinals: [UInt64: Set<Ordinal>] = [:]
    var pages: [UInt64: Set<UInt64>] = [:]
    for row in try store.scan(KeyRange(prefix: Key.family(.containerEdge))) where row.key[9] == 2 {
      let container = try Key.container(in: row.key, at: 1)
      for run in try OrdinalSet(stored: row.value).runs {
        ordinals[try Key.number(in: row.key, at: 10), default: []].formUnion(
          (run.first..<run.end).map { Ordinal(container: container, number: $0) })
      }
    }
    for row in try store.scan(KeyRange(prefix: Key.family(.pageEdge))) where row.key[9] == 2 {
      pages[try Key.number(in: row.key, at: 10), default: []].insert(
        try Key.number(in: row.key, at: 1))
    }
    for (id, upload) in model.uploads {
      #expect(ordinals[id, default: []] == upload.ordinals)
      #expect(pages[id, default: []] == upload.pages)
    }
  }

  /// What a resolved range reads: "content:skip:take" for each piece.
  private static func chunks(_ answer: ResolveRange.Answer) -> [String] {
    answer.pieces.map { "\($0.fingerprint.w3):\($0.skip):\($0.take)" }
      + answer.inline.map { "\($0)" }
  }
  private static func chunks(_ content: ObjectContent, _ model: Model) -> [String] {
    switch content {
    case .inline(let bytes): return bytes.map { "\($0)" }
    case .embedded(let runs): return chunks(runs, model)
    case .root(let page): return chunks(page, model)
    }
  }
  private static func chunks(_ page: UInt64, _ model: Model) -> [String] {
    switch model.pages[page]!.page {
    case .runs(let runs): return chunks(runs, model)
    case .children(let children): return children.flatMap { chunks($0.page, model) }
    }
  }
  private static func chunks(_ runs: [Run], _ model: Model) -> [String] {
    runs.flatMap { run in
      var rest = run.byteCount
      var skip = run.skip
      return (0..<UInt64(run.count)).map { index in
        let chunk = model.containers[run.container]!.chunks[run.firstOrdinal + index]!
        let take = min(rest, UInt64(chunk.byteCount - skip))
        defer {
          rest -= take
          skip = 0
        }
        return "\(chunk.fingerprint.w3):\(skip):\(take)"
      }
    }
  }
}
