import Cluster
import Coding
import Messages
import Ring
import TestSupport
import Testing
import Wire

@testable import Metadata

/// One session on one machine; each command is a batch.
final class Desk {
  let store = MemoryStore()
  let machine: StateMachine
  var session: UInt64 = 0
  var sequence: UInt64 = 0
  static let devices = [10, 20, 30].map { DeviceID($0) }

  init() throws {
    machine = try StateMachine(store: store)
    for command in Workload.opening { #expect(try log(command) == .done) }
    session = try number(log(.openSession(client: "desk")))
  }
  @discardableResult func log(_ command: Command) throws -> CommandOutcome {
    try machine.apply(batch([command], after: machine.appliedPosition))[0]
  }
  @discardableResult func ask(_ command: ClientCommand) throws -> CommandOutcome {
    sequence += 1
    return try log(
      .client(
        session: session, sequence: sequence, lowestUnanswered: sequence, command: command))
  }
  func number(_ outcome: CommandOutcome) -> UInt64 {
    if case .number(let number) = outcome { return number }
    Issue.record("not a number: \(outcome)")
    return 0
  }
  func code(_ outcome: CommandOutcome) -> RefusalCode? {
    if case .refused(let code, _) = outcome { RefusalCode(rawValue: code) } else { nil }
  }
  func openUpload() throws -> UInt64 { number(try ask(.openUpload)) }
  func grant(_ upload: UInt64, devices: [DeviceID] = Desk.devices) throws -> Grant {
    let outcome = try ask(
      .requestGrant(
        upload: upload, avoid: [],
        placement: ClientCommand.Placement(scheme: Workload.scheme, devices: devices)))
    guard case .grant(let bytes) = outcome else {
      Issue.record("no grant: \(outcome)")
      throw ValueError.truncated
    }
    return try Grant(decoding: bytes)
  }
  /// One stripe with one chunk of each content.
  func stripe(_ number: UInt64, ordinal: UInt64, _ contents: [Int]) -> StripeRecord {
    let chunks = contents.map {
      StripeRecord.Chunk(
        fingerprint: Workload.fingerprint($0), byteCount: Workload.byteCount($0))
    }
    let stored = 48 + chunks.reduce(0) { $0 + $1.byteCount }
    return StripeRecord(
      stripe: number, layout: .smallest(for: Int(stored), scheme: Workload.scheme),
      firstOrdinal: ordinal,
      groups: [.init(offset: 0, storedByteCount: stored, codec: .raw, chunks: chunks)])
  }
  func register(_ upload: UInt64, _ grant: Grant, _ stripes: [StripeRecord]) throws
    -> CommandOutcome
  {
    try ask(
      .registerStripes(
        upload: upload, grant: grant.id, container: grant.container, stripes: stripes))
  }
  func run(_ grant: Grant, _ ordinal: UInt64, _ contents: [Int]) -> Run {
    Run(
      container: grant.container, firstOrdinal: ordinal, count: UInt32(contents.count), skip: 0,
      byteCount: contents.reduce(0) { $0 + UInt64(Workload.byteCount($1)) })
  }
  func commit(
    _ key: String, _ content: ObjectContent, _ byteCount: UInt64, upload: UInt64 = 0,
    precondition: Precondition = .none, attributes: ObjectAttributes = ObjectAttributes(),
    unlessIdentical: Bool = false
  ) throws -> CommandOutcome {
    try ask(
      .commitObject(
        upload: upload, name: ObjectName(bucket: "bucket", key: key), content: content,
        byteCount: byteCount, contentHash: Fingerprint(of: Array(key.utf8)),
        attributes: attributes, precondition: precondition, unlessIdentical: unlessIdentical,
        modified: 9))
  }
  func list(prefix: String = "", after: String = "", delimiter: String = "", limit: UInt32 = 1000)
    throws -> ListObjects.Answer
  {
    try machine.list(
      ListObjects(
        level: .strong, bucket: "bucket", prefix: prefix, after: after, delimiter: delimiter,
        limit: limit))
  }
}

@Suite("Sessions")
struct SessionTests {
  @Test("a command sent again has no second effect and the same answer")
  func retry() throws {
    let desk = try Desk()
    let create = Command.client(
      session: desk.session, sequence: 1, lowestUnanswered: 1, command: .createBucket(name: "abc"))
    #expect(try desk.log(create) == .done)
    #expect(try desk.log(create) == .done)
    let both = try desk.machine.apply(
      batch(
        [2, 2].map {
          .client(session: desk.session, sequence: $0, lowestUnanswered: 1, command: .openUpload)
        }, after: desk.machine.appliedPosition))
    #expect(both[0] == both[1])
    #expect(try desk.machine.outcome(session: desk.session, sequence: 2) == both[0])
  }

  @Test("answers below the lowest unanswered one are gone, and at most 1,024 are kept")
  func window() throws {
    let desk = try Desk()
    func send(_ sequence: UInt64, lowest: UInt64) throws -> CommandOutcome {
      try desk.log(
        .client(
          session: desk.session, sequence: sequence, lowestUnanswered: lowest, command: .openUpload)
      )
    }
    for sequence: UInt64 in 1...1024 { _ = desk.number(try send(sequence, lowest: 1)) }
    #expect(desk.code(try send(1025, lowest: 1)) == .malformed)
    _ = desk.number(try send(1025, lowest: 2))
    #expect(desk.code(try send(1, lowest: 1)) == .outcomeUnknown)
    #expect(desk.code(try send(7, lowest: 1 << 60)) == .outcomeUnknown)
    let left = try desk.store.scan(KeyRange(prefix: Key.family(.outcome)))
    #expect(left.isEmpty)
    #expect(desk.code(try send(.max, lowest: .max)) == nil)
  }

  @Test("an expired session is unknown, and its grants and uploads are ended")
  func expiry() throws {
    let desk = try Desk()
    let upload = try desk.openUpload()
    let grant = try desk.grant(upload)
    #expect(try desk.register(upload, grant, [desk.stripe(0, ordinal: 0, [1, 2])]) == .done)
    try desk.log(.expireSessions([desk.session]))
    #expect(desk.code(try desk.ask(.openUpload)) == .noSuchSession)
    #expect(try desk.machine.openGrants() == [])
    let ended = try desk.machine.endedGrants(limit: 10)
    #expect(ended.map(\.id) == [grant.id])
    #expect(ended[0].registered == [NumberRun(first: 0, count: 1)])
    #expect(ended[0].unregistered == [1..<4096])
    #expect(try desk.machine.container(grant.container)?.state == .available)
    try desk.log(.returnEdges(limit: 1000))
    #expect(try desk.machine.container(grant.container)?.state == .condemned)
    #expect(try desk.machine.containersToDrop(limit: 10).map(\.id) == [grant.container])
    #expect(desk.machine.usage == UsageCounters())
    try desk.log(.forgetContainers([grant.container]))
    try desk.log(.clearEndedGrants([grant.id]))
    #expect(try desk.machine.container(grant.container) == nil)
    #expect(try violations(in: desk.store) == [])
  }

  @Test("before the founding everything but the founding is refused, and after it a second one is")
  func founding() throws {
    let machine = try StateMachine(store: MemoryStore())
    let outcomes = try machine.apply(
      batch(
        [
          .openSession(client: "early"), .found(clusterID: 3, scheme: Workload.scheme, created: 8),
          .found(clusterID: 4, scheme: Workload.scheme, created: 8), .openSession(client: "x"),
        ], after: 0))
    #expect(outcomes[1] == .done && outcomes[3] == .number(4))
    #expect(outcomes[0].bare == .refused(code: RefusalCode.unavailable.rawValue, reason: ""))
    #expect(outcomes[2].bare == .refused(code: RefusalCode.failed.rawValue, reason: ""))
    #expect(machine.clusterID == 3 && machine.scheme == Workload.scheme && machine.created == 8)
  }

  @Test("a batch that leaves a gap is refused and changes nothing")
  func gap() throws {
    let desk = try Desk()
    let position = desk.machine.appliedPosition
    #expect(throws: StoreError.gap(expected: position + 1, found: position + 2)) {
      try desk.machine.apply(batch([.openSession(client: "")], after: position + 1))
    }
    #expect(try desk.machine.apply(batch([], after: position + 7)) == [])
    #expect(desk.machine.appliedPosition == position)
  }
}

@Suite("Containers")
struct ContainerTests {
  @Test("a released container is granted again with fresh stripes and ordinals")
  func regrant() throws {
    let desk = try Desk()
    let upload = try desk.openUpload()
    let first = try desk.grant(upload)
    #expect(first.firstStripe == 0 && first.firstOrdinal == 0 && first.byteLimit == 1 << 30)
    #expect(try desk.register(upload, first, [desk.stripe(5, ordinal: 7, [1, 2, 3])]) == .done)
    #expect(
      try desk.ask(.releaseGrant(grant: first.id, container: first.container)) == .done)
    #expect(try desk.machine.availableContainers(limit: 9).map(\.id) == [first.container])
    #expect(try desk.machine.availableContainers(limit: 9) { _ in false }.isEmpty)
    let second = try desk.grant(upload)
    #expect(second.container == first.container && second.generation == first.generation)
    #expect(second.firstStripe == 4096 && second.firstOrdinal == 10)
    let size = UInt64(desk.stripe(5, ordinal: 7, [1, 2, 3]).layout.byteCount)
    #expect(second.byteLimit == 1 << 30 - size)
    // The old grant is dead, whatever it says.
    #expect(
      desk.code(try desk.register(upload, first, [desk.stripe(6, ordinal: 20, [1])]))
        == .grantEnded)
    #expect(
      desk.code(try desk.register(upload, second, [desk.stripe(6, ordinal: 20, [1])]))
        == .malformed)
    #expect(
      desk.code(try desk.register(upload, second, [desk.stripe(4096, ordinal: 8, [1])]))
        == .malformed)
    // Other devices, or the same in another order: another container.
    let third = try desk.grant(upload, devices: [20, 10, 30].map { DeviceID($0) })
    #expect(third.container != first.container)
    #expect(try violations(in: desk.store) == [])
  }

  @Test("stripes may be registered in any order of ordinals, but never one twice")
  func order() throws {
    let desk = try Desk()
    let upload = try desk.openUpload()
    let grant = try desk.grant(upload)
    #expect(try desk.register(upload, grant, [desk.stripe(1, ordinal: 10, [1, 2, 3])]) == .done)
    #expect(try desk.register(upload, grant, [desk.stripe(0, ordinal: 5, [4, 5])]) == .done)
    for (ordinal, contents) in [(8, [1, 2, 3]), (12, [6]), (3, [1, 2, 3]), (5, [1])] {
      #expect(
        desk.code(
          try desk.register(
            upload, grant, [desk.stripe(9, ordinal: UInt64(ordinal), contents)])) == .malformed)
    }
    #expect(
      desk.code(try desk.register(upload, grant, [desk.stripe(0, ordinal: 30, [1])])) == .malformed)
    let two = [desk.stripe(3, ordinal: 40, [1, 2]), desk.stripe(4, ordinal: 41, [3])]
    #expect(desk.code(try desk.register(upload, grant, two)) == .malformed)
    #expect(try desk.register(upload, grant, [desk.stripe(2, ordinal: 7, [7, 8, 9])]) == .done)
    #expect(
      try desk.machine.stripes(of: grant.container, from: 0, limit: 9).map(\.stripe) == [0, 2, 1])
    #expect(try violations(in: desk.store) == [])
  }

  @Test("a container with a gigabyte in it is sealed when it is released")
  func full() throws {
    let desk = try Desk()
    let upload = try desk.openUpload()
    let grant = try desk.grant(upload)
    let layout = StripeLayout(
      scheme: Workload.scheme, blockByteCount: StripeLayout.largestBlockByteCount,
      byteCount: 2 * StripeLayout.largestBlockByteCount)
    let chunk = UInt32(layout.byteCount - 48)
    for number in UInt64(0)..<514 {
      let stripe = StripeRecord(
        stripe: number, layout: layout, firstOrdinal: number,
        groups: [
          .init(
            offset: 0, storedByteCount: chunk + 48, codec: .raw,
            chunks: [
              .init(fingerprint: Workload.fingerprint(Int(number)), byteCount: chunk)
            ])
        ])
      #expect(try desk.register(upload, grant, [stripe]) == .done)
    }
    // A stream has one edge, however many stripes it registers.
    #expect(try desk.machine.container(grant.container)?.edgeCount == 1)
    try desk.ask(.releaseGrant(grant: grant.id, container: grant.container))
    #expect(try desk.machine.container(grant.container)?.state == .sealed)
    #expect(try desk.grant(upload).container != grant.container)
    #expect(desk.machine.usage.uniqueBytes == 514 * UInt64(chunk))
    #expect(desk.machine.usage.compressedBytes == 514 * UInt64(chunk + 48))
  }

  @Test("containers with a lost shard are shared no more, but serve what they hold")
  func lost() throws {
    let desk = try Desk()
    try desk.ask(.createBucket(name: "bucket"))
    let upload = try desk.openUpload()
    let grant = try desk.grant(upload)
    #expect(try desk.register(upload, grant, [desk.stripe(0, ordinal: 0, [1, 2])]) == .done)
    let page = Page.runs([desk.run(grant, 0, [1, 2])])
    let first = desk.number(try desk.ask(.putPage(upload: upload, page: page)))
    #expect(desk.number(try desk.ask(.putPage(upload: upload, page: page))) == first)
    #expect(try desk.machine.findChunks([Workload.fingerprint(1)]).found[0].byteCount > 0)

    #expect(try desk.log(.setDeviceState(DeviceID(20), .retired)) == .done)
    #expect(try desk.machine.findChunks([Workload.fingerprint(1)]).found[0].byteCount == 0)
    let run = desk.run(grant, 0, [1])
    #expect(
      try desk.ask(.holdChunks(upload: upload, runs: [run])) == .missing(runs: [run], pages: []))
    #expect(try desk.commit("a", .embedded([run]), run.byteCount, upload: upload) != .done)
    let stat = try desk.machine.stat(ObjectName(bucket: "bucket", key: "a"))
    #expect(stat.containers.map(\.missing) == [1])
    // The same chunks written anew take over the hint, and an equal page the name.
    let other = try desk.grant(upload, devices: [40, 50, 60].map { DeviceID($0) })
    #expect(try desk.register(upload, other, [desk.stripe(0, ordinal: 0, [1, 2])]) == .done)
    let found = try desk.machine.findChunks([Workload.fingerprint(1), Workload.fingerprint(7)])
    #expect(found.found.map(\.container.number) == [other.container.number, 0])
    #expect(found.neighbours.map(\.fingerprint) == [Workload.fingerprint(2)])
    let again = Page.runs([desk.run(other, 0, [1, 2])])
    let second = desk.number(try desk.ask(.putPage(upload: upload, page: again)))
    #expect(second != first)
    #expect(desk.number(try desk.ask(.putPage(upload: upload, page: again))) == second)
    // A device that is only not listed for a while counts as lost while it is.
    try desk.log(.setNode(Workload.node(5, devices: [])))
    #expect(try desk.machine.findChunks([Workload.fingerprint(1)]).found[0].byteCount == 0)
    try desk.log(.setNode(Workload.node(5, devices: [50])))
    #expect(try desk.machine.findChunks([Workload.fingerprint(1)]).found[0].byteCount > 0)
    #expect(try desk.machine.containers(on: DeviceID(20), after: nil, limit: 9).count == 1)
    #expect(try desk.machine.containers(after: grant.container, limit: 9).count == 1)
    #expect(try violations(in: desk.store) == [])
  }

  @Test("a duplicate held before its object is deleted stays; one asked for after is missing")
  func race() throws {
    for holdsFirst in [true, false] {
      let desk = try Desk()
      try desk.ask(.createBucket(name: "bucket"))
      let upload = try desk.openUpload()
      let grant = try desk.grant(upload)
      #expect(try desk.register(upload, grant, [desk.stripe(0, ordinal: 0, [1, 2])]) == .done)
      let run = desk.run(grant, 0, [1, 2])
      _ = desk.number(try desk.commit("a", .embedded([run]), run.byteCount, upload: upload))
      try desk.ask(.releaseGrant(grant: grant.id, container: grant.container))
      try desk.ask(.endUpload(upload: upload))
      let other = try desk.openUpload()
      func hold() throws -> CommandOutcome {
        try desk.ask(.holdChunks(upload: other, runs: [run]))
      }
      if holdsFirst { #expect(try hold() == .missing(runs: [], pages: [])) }
      try desk.ask(
        .deleteObject(name: ObjectName(bucket: "bucket", key: "a"), precondition: .none))
      try desk.log(.returnEdges(limit: 100))
      if !holdsFirst { #expect(try hold() == .missing(runs: [run], pages: [])) }
      let commit = try desk.commit("b", .embedded([run]), run.byteCount, upload: other)
      if holdsFirst {
        _ = desk.number(commit)
      } else {
        #expect(commit == .missing(runs: [run], pages: []))
        #expect(try desk.machine.findChunks([Workload.fingerprint(1)]).found[0].byteCount == 0)
        #expect(desk.machine.usage.containerCount == 0)
      }
      #expect(try violations(in: desk.store) == [])
    }
  }

  @Test("one device twice, an unknown or failing one, or none at all is no placement")
  func placement() throws {
    let desk = try Desk()
    let upload = try desk.openUpload()
    try desk.log(.setDeviceState(DeviceID(30), .draining))
    func ask(_ devices: [UInt64]?) throws -> RefusalCode? {
      desk.code(
        try desk.ask(
          .requestGrant(
            upload: upload, avoid: [],
            placement: devices.map {
              ClientCommand.Placement(
                scheme: Workload.scheme, devices: $0.map { DeviceID($0) })
            })))
    }
    #expect(try ask(nil) == .tooFewDomains)
    #expect(try ask([10, 10, 20]) == .malformed)
    #expect(try ask([10, 20, 30]) == .unavailable)
    #expect(try ask([10, 20, 999]) == .unavailable)
    #expect(try ask([10, 20, 40]) == nil)
  }
}

@Suite("Buckets, keys and listing")
struct ObjectTests {
  @Test(
    "bucket names are those of S3",
    arguments: [
      ("abc", true), ("a.b-c9", true), ("ab", false), ("Abc", false), ("a..b", false),
      ("-abc", false), ("abc.", false), ("10.0.0.1", false), ("10.0.0.1x", true), ("a_b", false),
      ("xn--abc", false), ("abc-s3alias", false), ("äbc", false), ("abc\u{301}", false),
    ])
  func bucketNames(name: String, isGood: Bool) throws {
    #expect(StateMachine.isBucketName(name) == isGood)
    #expect(StateMachine.isBucketName(String(repeating: "a", count: 63)))
    #expect(!StateMachine.isBucketName(String(repeating: "a", count: 64)))
  }

  @Test("keys have 1 to 1,024 bytes and are kept byte for byte")
  func keys() throws {
    let desk = try Desk()
    try desk.ask(.createBucket(name: "bucket"))
    #expect(desk.code(try desk.commit("", .inline([]), 0)) == .invalidName)
    let longest = String(repeating: "é", count: 512)
    _ = desk.number(try desk.commit(longest, .inline([]), 0))
    #expect(desk.code(try desk.commit(longest + "x", .inline([]), 0)) == .invalidName)
    // Equal as text, different as bytes: two keys.
    _ = desk.number(try desk.commit("\u{E9}", .inline([1]), 1))
    _ = desk.number(try desk.commit("e\u{301}", .inline([2, 3]), 2))
    let name = { ObjectName(bucket: "bucket", key: $0) }
    #expect(try desk.machine.stat(name("\u{E9}")).record.byteCount == 1)
    #expect(try desk.machine.stat(name("e\u{301}")).record.byteCount == 2)
    try desk.ask(
      .copyObject(
        source: name("\u{E9}"), target: name("e\u{301}"), attributes: nil, move: true,
        precondition: .none, modified: 0))
    #expect(try desk.list().entries.map(\.byteCount) == [1, 0])
    #expect(desk.code(try desk.commit("k", .inline([1]), 2)) == .malformed)
  }

  @Test("a copy onto itself changes attributes, and moving onto itself loses nothing")
  func ontoItself() throws {
    let desk = try Desk()
    try desk.ask(.createBucket(name: "bucket"))
    let upload = try desk.openUpload()
    let grant = try desk.grant(upload)
    #expect(try desk.register(upload, grant, [desk.stripe(0, ordinal: 0, [1])]) == .done)
    let run = desk.run(grant, 0, [1])
    _ = desk.number(try desk.commit("a", .embedded([run]), run.byteCount, upload: upload))
    let name = ObjectName(bucket: "bucket", key: "a")
    for move in [false, true] {
      let identity = desk.number(
        try desk.ask(
          .copyObject(
            source: name, target: name, attributes: ObjectAttributes(mode: 0o600), move: move,
            precondition: .none, modified: 44)))
      let record = try desk.machine.stat(name).record
      #expect(record.identity == identity && record.attributes.mode == 0o600)
      #expect(record.modified == 44 && record.content == .embedded([run]))
      try desk.log(.returnEdges(limit: 100))
      #expect(try violations(in: desk.store) == [])
    }
    #expect(desk.machine.usage.objectCount == 1)
  }

  @Test("preconditions and unlessIdentical are judged in the same step as the commit")
  func preconditions() throws {
    let desk = try Desk()
    try desk.ask(.createBucket(name: "bucket"))
    let first = desk.number(try desk.commit("k", .inline([1]), 1, precondition: .absent))
    #expect(
      desk.code(try desk.commit("k", .inline([1]), 1, precondition: .absent))
        == .preconditionFailed)
    #expect(
      desk.code(try desk.commit("k", .inline([1]), 1, precondition: .identity(first + 1)))
        == .preconditionFailed)
    #expect(desk.number(try desk.commit("k", .inline([1]), 1, unlessIdentical: true)) == first)
    let name = ObjectName(bucket: "bucket", key: "k")
    let hash = Fingerprint(of: Array("k".utf8))
    func identical(_ size: UInt64, _ attributes: ObjectAttributes) throws -> UInt64? {
      try desk.machine.isIdentical(
        name, contentHash: hash, byteCount: size, attributes: attributes)
    }
    #expect(try identical(1, ObjectAttributes()) == first)
    #expect(try identical(2, ObjectAttributes()) == nil)
    #expect(try identical(1, ObjectAttributes(mode: 3)) == nil)
    let second = desk.number(
      try desk.commit(
        "k", .inline([1]), 1, precondition: .identity(first),
        attributes: ObjectAttributes(mode: 3), unlessIdentical: true))
    #expect(second != first)
    #expect(
      desk.code(try desk.ask(.deleteObject(name: name, precondition: .identity(first))))
        == .preconditionFailed)
    #expect(try desk.ask(.deleteObject(name: name, precondition: .identity(second))) == .done)
    #expect(
      desk.code(try desk.commit("k", .inline([1]), 1, precondition: .identity(first)))
        == .preconditionFailed)
    #expect(desk.machine.usage == UsageCounters())
  }

  @Test(
    "listing pages through keys and groups as a plain sort and split does", arguments: Seed.several)
  func listing(seed: Seed) throws {
    var random = seed.generator
    let desk = try Desk()
    try desk.ask(.createBucket(name: "bucket"))
    var keys: Set<[UInt8]> = []
    for _ in 0..<150 {
      let key = (0..<Int.random(in: 1..<6, using: &random)).map { _ in
        ["a", "b", "/", "é", "\u{10FFFF}", "--"].randomElement(using: &random)!
      }.joined()
      keys.insert(Array(key.utf8))
      _ = desk.number(try desk.commit(key, .inline([]), 0))
    }
    let sorted = keys.sorted { $0.lexicographicallyPrecedes($1) }
    for _ in 0..<60 {
      let prefix = ["", "a", "a/", "b", "/", "é", "zz"].randomElement(using: &random)!
      let delimiter = ["", "/", "--", "a"].randomElement(using: &random)!
      let start = ["", "", "a/b", "b", "é"].randomElement(using: &random)!
      let limit = [1, 2, 3, 7, 1000].randomElement(using: &random)!
      var wantedKeys: [[UInt8]] = []
      var wantedGroups: [[UInt8]] = []
      for key in sorted
      where key.starts(with: prefix.utf8) && Array(start.utf8).lexicographicallyPrecedes(key) {
        let rest = Array(key.dropFirst(prefix.utf8.count))
        let end = rest.indices.first {
          !delimiter.isEmpty && rest[$0...].starts(with: delimiter.utf8)
        }
        if let end {
          let group = Array(key.prefix(prefix.utf8.count + end + delimiter.utf8.count))
          if wantedGroups.last != group { wantedGroups.append(group) }
        } else {
          wantedKeys.append(key)
        }
      }
      var foundKeys: [[UInt8]] = []
      var foundGroups: [[UInt8]] = []
      var after = start
      var rounds = 0
      while rounds < 400 {
        rounds += 1
        let answer = try desk.list(
          prefix: prefix, after: after, delimiter: delimiter, limit: UInt32(limit))
        foundKeys += answer.entries.map { Array($0.key.utf8) }
        foundGroups += answer.prefixes.map { Array($0.utf8) }
        #expect(answer.entries.count + answer.prefixes.count <= limit)
        guard let next = answer.next else { break }
        #expect(answer.entries.count + answer.prefixes.count == limit)
        after = next
      }
      #expect(foundKeys == wantedKeys)
      #expect(foundGroups == wantedGroups)
    }
    #expect(try desk.list(limit: 0).entries.isEmpty)
  }

  @Test("a range is resolved in bounded answers that together cover it")
  func longRanges() throws {
    let desk = try Desk()
    try desk.ask(.createBucket(name: "bucket"))
    let upload = try desk.openUpload()
    let grant = try desk.grant(upload)
    var children: [Page.Child] = []
    var ordinal: UInt64 = 0
    for stripe in UInt64(0)..<5 {
      let contents = (0..<1000).map { Int(stripe) * 1000 + $0 }
      #expect(
        try desk.register(upload, grant, [desk.stripe(stripe, ordinal: ordinal, contents)])
          == .done)
      let run = desk.run(grant, ordinal, contents)
      let page = desk.number(try desk.ask(.putPage(upload: upload, page: .runs([run]))))
      children.append(Page.Child(page: page, byteCount: run.byteCount))
      ordinal += 1000
    }
    let size = children.reduce(0) { $0 + $1.byteCount }
    let root = desk.number(try desk.ask(.putPage(upload: upload, page: .children(children))))
    #expect(desk.code(try desk.commit("big", .root(root), size - 1, upload: upload)) == .malformed)
    _ = desk.number(try desk.commit("big", .root(root), size, upload: upload))
    let name = ObjectName(bucket: "bucket", key: "big")
    var first: UInt64 = 12_345
    var rounds = 0
    while true {
      let answer = try desk.machine.resolve(
        ResolveRange(
          level: .strong, name: name, identity: 0, first: first, byteCount: size - 12_345 - 77))
      #expect(answer.pieces.count <= StateMachine.pieceLimit)
      #expect(answer.containers.count == 1 && answer.stripes.count <= 5)
      first += answer.pieces.reduce(0) { $0 + UInt64($1.take) }
      rounds += 1
      // From the second answer on the wanted end lies past the object's.
      if answer.isLast { break }
    }
    #expect(first == (rounds == 1 ? size - 77 : size) && rounds == 3)
    #expect(throws: StoreError.self) {
      try desk.machine.resolve(
        ResolveRange(
          level: .strong, name: name, identity: 0, first: size + 1, byteCount: 1))
    }
    #expect(throws: StoreError.self) {
      try desk.machine.resolve(
        ResolveRange(level: .strong, name: name, identity: 1, first: 0, byteCount: 1))
    }
  }

  @Test("pages nest only so deep, and have at most 1,024 chunks")
  func pageLimits() throws {
    let desk = try Desk()
    let upload = try desk.openUpload()
    let grant = try desk.grant(upload)
    let contents = (0..<1025).map { $0 }
    #expect(try desk.register(upload, grant, [desk.stripe(0, ordinal: 0, contents)]) == .done)
    #expect(
      desk.code(
        try desk.ask(.putPage(upload: upload, page: .runs([desk.run(grant, 0, contents)]))))
        == .malformed)
    let run = desk.run(grant, 0, [0])
    var page = desk.number(try desk.ask(.putPage(upload: upload, page: .runs([run]))))
    for _ in 0..<6 {
      page = desk.number(
        try desk.ask(
          .putPage(
            upload: upload,
            page: .children([Page.Child(page: page, byteCount: run.byteCount)]))))
    }
    #expect(
      desk.code(
        try desk.ask(
          .putPage(
            upload: upload,
            page: .children([Page.Child(page: page, byteCount: run.byteCount)])))) == .malformed)
  }
}

@Suite("Bytes from outside")
struct FormatTests {
  @Test("garbage is refused and never traps", arguments: Seed.several)
  func garbage(seed: Seed) throws {
    var random = seed.generator
    var workload = Workload(seed: seed)
    for command in Workload.opening { _ = workload.model.apply(command) }
    let machine = try StateMachine(store: MemoryStore())
    _ = try machine.apply(batch(Workload.opening, after: 0))
    for _ in 0..<400 {
      let command = workload.next()
      _ = workload.model.apply(command)
      _ = try machine.apply(batch([command], after: machine.appliedPosition))
      var bytes = command.encoded
      for _ in 0..<3 {
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes.removeLast(Int.random(in: 0...min(5, bytes.count), using: &random))
        case 1: bytes += random.bytes(3)
        default:
          if !bytes.isEmpty {
            bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(
              in: 0...255, using: &random)
          }
        }
      }
      // What can still be read is applied, and must not trap either.
      if let changed = try? Command(decoding: bytes), case .client = changed {
        let fork = MemoryStore()
        var copy = WriteBatch()
        for entry in try machine.view.store.scan(KeyRange()) { copy.put(entry.key, entry.value) }
        try fork.apply(copy)
        let other = try StateMachine(store: fork)
        _ = try other.apply(batch([changed], after: other.appliedPosition))
        #expect(try violations(in: fork) == [])
      }
      _ = try? Command(decoding: random.bytes(Int.random(in: 0..<40, using: &random)))
      _ = try? LogBatch(framed: random.bytes(60))
      _ = try? RootRecord(decoding: random.bytes(60))
    }
  }

  @Test(
    "damaged records of the store are reported, whatever a command meets", arguments: Seed.several)
  func damagedRecords(seed: Seed) throws {
    var workload = Workload(seed: seed)
    for command in Workload.opening { _ = workload.model.apply(command) }
    let store = MemoryStore()
    let machine = try StateMachine(store: store)
    _ = try machine.apply(batch(Workload.opening, after: 0))
    for _ in 0..<250 {
      let command = workload.next()
      _ = workload.model.apply(command)
      _ = try machine.apply(batch([command], after: machine.appliedPosition))
    }
    let entries = try store.scan(KeyRange())
    for _ in 0..<60 {
      var harmed = entries
      for _ in 0..<10 {
        let index = workload.number(0..<harmed.count)
        if workload.chance(30) {
          harmed.remove(at: index)
        } else if !harmed[index].value.isEmpty {
          harmed[index].value[workload.number(0..<harmed[index].value.count)] ^= UInt8(
            workload.number(1..<256))
        }
      }
      let fork = MemoryStore()
      var copy = WriteBatch()
      for entry in harmed { copy.put(entry.key, entry.value) }
      try fork.apply(copy)
      guard let other = try? StateMachine(store: fork) else { continue }
      for _ in 0..<5 {
        let command = workload.next()
        guard other.appliedPosition < 1 << 55 else { break }
        // Outcomes may be wrong, as no one can tell; the process must live.
        _ = try? other.apply(batch([command], after: other.appliedPosition))
      }
      _ = try? other.apply(
        batch([.returnEdges(limit: 65536)], after: other.appliedPosition))
      _ = try? other.findChunks((0..<40).map(Workload.fingerprint))
      for bucket in (try? other.listBuckets().buckets) ?? [] {
        _ = try? other.list(
          ListObjects(
            level: .strong, bucket: bucket.name, prefix: "", after: "", delimiter: "/", limit: 9))
      }
    }
  }

  @Test("a root record survives coding, and every flipped bit of it is noticed")
  func root() throws {
    let record = RootRecord(
      version: 4, clusterID: 0xABCD, epoch: 9, scheme: Workload.scheme,
      domains: [
        .init(
          node: NodeID(1), name: "n1", address: SocketAddress(host: "127.0.0.1", port: 7),
          devices: [DeviceID(10), DeviceID(11)])
      ],
      links: [
        .init(
          number: 1, generation: 2, scheme: Scheme(k: 1, m: 1)!,
          devices: [DeviceID(10), DeviceID(20)], firstPosition: 1, sealedStripes: 40),
        .init(
          number: 2, generation: 9, scheme: Scheme(k: 1, m: 1)!,
          devices: [DeviceID(10), DeviceID(30)], firstPosition: 400, sealedStripes: nil),
      ],
      checkpoint: .init(
        position: 30,
        containers: [
          .init(
            container: ContainerID(.checkpoint, 3), generation: 8, scheme: Workload.scheme,
            devices: Desk.devices, stripeCount: 2)
        ]))
    let bytes = record.encoded
    #expect(try RootRecord(decoding: bytes) == record)
    #expect(record.links[0].container == ContainerID(.link, 1))
    for bit in 0..<bytes.count * 8 {
      var harmed = bytes
      harmed[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(throws: ValueError.self) { try RootRecord(decoding: harmed) }
    }
    for count in 0..<bytes.count {
      #expect(throws: ValueError.self) { try RootRecord(decoding: Array(bytes[..<count])) }
    }
  }

  @Test("a batch is read from its frame whatever padding follows")
  func frames() throws {
    let log = batch([.openSession(client: "x"), .advanceTime(milliseconds: 5)], after: 99)
    #expect(log.lastPosition == 101)
    let framed = log.framed
    #expect(try LogBatch(framed: framed + [UInt8](repeating: 0, count: 4096)) == log)
    for count in 0..<framed.count {
      #expect(throws: ValueError.self) { try LogBatch(framed: Array(framed[..<count])) }
    }
    #expect(batch([], after: 4).lastPosition == 4)
  }
}
