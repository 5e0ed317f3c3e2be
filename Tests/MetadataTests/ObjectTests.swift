import Cluster
import Coding
import Messages
import Ring
import TestSupport
import Testing
import Wire

@testable import Metadata

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
        source: name("\u{E9}"), sourceIdentity: 0, target: name("e\u{301}"), attributes: nil,
        move: true,
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
            source: name, sourceIdentity: 0, target: name,
            attributes: ObjectAttributes(mode: 0o600), move: move,
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
