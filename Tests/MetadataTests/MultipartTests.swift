import Coding
import Messages
import TestSupport
import Testing
import Wire

@testable import Metadata

@Suite("Objects that come in parts")
struct MultipartTests {
  private let name = ObjectName(bucket: "bucket", key: "k")

  private func open(_ desk: Desk, key: String = "k") throws -> MultipartName {
    let name = ObjectName(bucket: "bucket", key: key)
    return MultipartName(
      name,
      number: desk.number(
        try desk.ask(
          .createMultipart(
            name: name, attributes: ObjectAttributes(contentType: "a/b"), owner: "o", modified: 5)
        )))
  }

  /// A page of one chunk each, so many of them.
  private func pages(_ desk: Desk, _ upload: UInt64, _ contents: [Int]) throws -> [Page.Child] {
    let grant = try desk.grant(upload)
    #expect(try desk.register(upload, grant, [desk.stripe(0, ordinal: 0, contents)]) == .done)
    return try contents.indices.map { index in
      let run = desk.run(grant, UInt64(index), [contents[index]])
      return Page.Child(
        page: desk.number(try desk.ask(.putPage(upload: upload, page: .runs([run])))),
        byteCount: run.byteCount)
    }
  }

  @discardableResult private func put(
    _ desk: Desk, _ upload: UInt64, _ multipart: MultipartName, _ number: UInt32,
    _ child: Page.Child?
  ) throws -> UInt64 {
    desk.number(
      try desk.ask(
        .putPart(
          upload: upload, multipart: multipart,
          part: NewPart(
            number: number, page: child?.page ?? 0, byteCount: child?.byteCount ?? 0,
            digest: [UInt8(number & 255)], checksum: []), modified: 6)))
  }

  private func complete(
    _ desk: Desk, _ upload: UInt64, _ multipart: MultipartName, _ parts: [PartChoice],
    root: UInt64, precondition: Precondition = .none
  ) throws -> CommandOutcome {
    try desk.ask(
      .completeMultipart(
        upload: upload, multipart: multipart, parts: parts, root: root,
        attributes: ObjectAttributes(), precondition: precondition, modified: 7))
  }

  @Test("what is completed outlives the writer, and only the last of a part counts")
  func course() throws {
    let desk = try Desk()
    #expect(try desk.ask(.createBucket(name: "bucket")) == .done)
    let upload = try desk.openUpload()
    let pages = try pages(desk, upload, [1, 2, 3])
    let multipart = try open(desk)
    let late = try put(desk, upload, multipart, 9, pages[1])
    let stale = try put(desk, upload, multipart, 2, pages[2])
    let first = try put(desk, upload, multipart, 2, pages[0])
    let root = desk.number(
      try desk.ask(.putPage(upload: upload, page: .children([pages[0], pages[1]]))))
    let parts = [PartChoice(number: 2, identity: first), PartChoice(number: 9, identity: late)]
    // What does not fit changes nothing.
    let stales = [PartChoice(number: 2, identity: stale), parts[1]]
    #expect(
      desk.code(try complete(desk, upload, multipart, stales, root: root)) == .noSuchPart)
    #expect(
      desk.code(try complete(desk, upload, multipart, parts.reversed(), root: root))
        == .partOrder)
    #expect(
      desk.code(try complete(desk, upload, multipart, [parts[0]], root: root)) == .malformed)
    #expect(desk.code(try complete(desk, upload, multipart, [], root: 0)) == .malformed)
    #expect(
      desk.code(
        try complete(desk, upload, multipart, parts, root: root, precondition: .identity(1)))
        == .preconditionFailed)
    #expect(try violations(in: desk.store) == [])
    // The session of whoever put the parts may end before they are completed, and so may the trash be emptied.
    let other = try Desk.Other(desk)
    try desk.log(.closeSession(session: desk.session))
    try desk.log(.returnEdges(limit: 65536))
    #expect(try violations(in: desk.store) == [])
    let again = try other.openUpload()
    let rootAgain = desk.number(
      try other.ask(.putPage(upload: again, page: .children([pages[0], pages[1]]))))
    let done = try other.ask(
      .completeMultipart(
        upload: again, multipart: multipart, parts: parts, root: rootAgain,
        attributes: ObjectAttributes(contentType: "c"), precondition: .absent, modified: 7))
    let identity = desk.number(done)
    // Sent again, it has the answer it had.
    #expect(try other.again() == done)
    let record = try desk.machine.stat(name).record
    #expect(record.identity == identity && record.content == .root(rootAgain))
    #expect(record.byteCount == pages[0].byteCount + pages[1].byteCount)
    #expect(
      desk.code(try other.ask(.abortMultipart(multipart))) == .noSuchMultipart)
    try desk.log(.expireSessions([other.session]))
    try desk.log(.returnEdges(limit: 65536))
    #expect(try violations(in: desk.store) == [])
    let range = try desk.machine.resolve(
      ResolveRange(level: .strong, name: name, identity: 0, first: 0, byteCount: .max))
    #expect(range.pieces.map(\.fingerprint) == [1, 2].map(Workload.fingerprint))
    for (ordinal, child) in [pages[0], pages[1]].enumerated() {
      let found = try desk.machine.findPart(
        FindPart(
          level: .strong, name: name, identity: identity, ordinal: UInt32(ordinal) + 1,
          partCount: 2))
      #expect(
        found.byteCount == child.byteCount && found.first == (ordinal == 0 ? 0 : pages[0].byteCount)
      )
    }
    #expect(throws: StoreError.self) {
      try desk.machine.findPart(
        FindPart(level: .strong, name: name, identity: identity, ordinal: 3, partCount: 2))
    }
  }

  @Test("more parts than a page holds are under two levels of pages, and each is found")
  func manyParts() throws {
    let desk = try Desk()
    #expect(try desk.ask(.createBucket(name: "bucket")) == .done)
    let upload = try desk.openUpload()
    let pages = try pages(desk, upload, [1, 2, 3])
    let multipart = try open(desk)
    var children: [Page.Child] = []
    var parts: [PartChoice] = []
    for number in 1...2500 as ClosedRange<UInt32> {
      let child = number == 2500 ? nil : pages[Int(number) % 3]
      parts.append(
        PartChoice(number: number, identity: try put(desk, upload, multipart, number, child)))
      if let child { children.append(child) }
    }
    var groups: [Page.Child] = []
    for first in stride(from: 0, to: children.count, by: 1024) {
      let some = Array(children[first..<min(first + 1024, children.count)])
      groups.append(
        Page.Child(
          page: desk.number(try desk.ask(.putPage(upload: upload, page: .children(some)))),
          byteCount: some.reduce(0) { $0 + $1.byteCount }))
    }
    let root = desk.number(try desk.ask(.putPage(upload: upload, page: .children(groups))))
    let identity = desk.number(try complete(desk, upload, multipart, parts, root: root))
    try desk.log(.returnEdges(limit: 7))
    #expect(try violations(in: desk.store) == [])
    try desk.log(.returnEdges(limit: 65536))
    #expect(try violations(in: desk.store) == [])
    var first: UInt64 = 0
    for ordinal in 1...2500 as ClosedRange<UInt32> {
      let found = try desk.machine.findPart(
        FindPart(
          level: .strong, name: name, identity: identity, ordinal: ordinal, partCount: 2500))
      let size = ordinal == 2500 ? 0 : children[Int(ordinal) - 1].byteCount
      #expect(found == FindPart.Answer(first: first, byteCount: size))
      first += size
    }
  }

  @Test("parts without bytes make an object without bytes")
  func empty() throws {
    let desk = try Desk()
    #expect(try desk.ask(.createBucket(name: "bucket")) == .done)
    let multipart = try open(desk)
    let only = try put(desk, 0, multipart, 1, nil)
    _ = desk.number(
      try complete(desk, 0, multipart, [PartChoice(number: 1, identity: only)], root: 0))
    let record = try desk.machine.stat(name).record
    #expect(record.byteCount == 0 && record.content == .inline([]))
    #expect(record.contentHash == Fingerprint(of: []))
    #expect(try violations(in: desk.store) == [])
  }

  @Test(
    "a bucket takes its multipart uploads along; what is left of them goes in steps of any size")
  func bucket() throws {
    let desk = try Desk()
    #expect(try desk.ask(.createBucket(name: "bucket")) == .done)
    let upload = try desk.openUpload()
    let pages = try pages(desk, upload, [1, 2, 3])
    for key in 0..<9 {
      let multipart = try open(desk, key: "k\(key)")
      for number in 1...5 as ClosedRange<UInt32> {
        try put(desk, upload, multipart, number, pages[Int(number) % 3])
      }
    }
    #expect(try desk.ask(.endUpload(upload: upload)) == .done)
    #expect(try desk.ask(.removeBucket(name: "bucket")) == .done)
    #expect(try desk.ask(.createBucket(name: "bucket")) == .done)
    #expect(
      try desk.machine.listMultiparts(
        ListMultiparts(
          level: .strong, bucket: "bucket", prefix: "", delimiter: "", afterKey: "",
          afterNumber: 0, limit: 9)
      ).entries.isEmpty)
    var rounds = 0
    while desk.machine.trashCount > 0, rounds < 1000 {
      try desk.log(.returnEdges(limit: 3))
      #expect(try violations(in: desk.store) == [])
      rounds += 1
    }
    #expect(rounds > 10)
    #expect(try desk.store.scan(KeyRange(prefix: Key.family(.part))).isEmpty)
    #expect(try desk.store.scan(KeyRange(prefix: Key.family(.multipart))).isEmpty)
    #expect(try desk.store.scan(KeyRange(prefix: Key.family(.page))).isEmpty)
  }

  @Test("uploads are listed by key and then by age, in pages and groups of any size")
  func listing() throws {
    let desk = try Desk()
    #expect(try desk.ask(.createBucket(name: "bucket")) == .done)
    var wanted: [(key: String, number: UInt64)] = []
    for key in ["b", "a/x", "a/y/z", "a", "a\u{0}b", "a\u{0}", "a/x", "b/\u{0}c", "ü", "a/x"] {
      wanted.append((key, try open(desk, key: key).number))
    }
    wanted.sort {
      let (one, two) = (Array($0.key.utf8), Array($1.key.utf8))
      return one == two ? $0.number < $1.number : one.lexicographicallyPrecedes(two)
    }
    func list(_ limit: UInt32, delimiter: String, prefix: String) throws -> ([String], [String]) {
      var keys: [String] = []
      var prefixes: [String] = []
      var after = ("", UInt64(0))
      while true {
        let page = try desk.machine.listMultiparts(
          ListMultiparts(
            level: .strong, bucket: "bucket", prefix: prefix, delimiter: delimiter,
            afterKey: after.0, afterNumber: after.1, limit: limit))
        #expect(page.entries.count + page.prefixes.count <= Int(limit))
        keys += page.entries.map { "\($0.key) \($0.number)" }
        prefixes += page.prefixes
        if page.isLast { return (keys, prefixes) }
        let last = page.entries.last.map { ($0.key, $0.number) }
        after = last ?? ("", 0)
        if let group = page.prefixes.last,
          last == nil || last!.0.utf8.lexicographicallyPrecedes(group.utf8)
        {
          after = (group + "\u{10FFFF}", 0)
        }
      }
    }
    for limit in [1, 2, 3, 1000] as [UInt32] {
      let (keys, none) = try list(limit, delimiter: "", prefix: "")
      #expect(keys == wanted.map { "\($0.key) \($0.number)" })
      #expect(none.isEmpty)
      let (flat, groups) = try list(limit, delimiter: "/", prefix: "")
      #expect(flat == wanted.filter { !$0.key.contains("/") }.map { "\($0.key) \($0.number)" })
      #expect(groups == ["a/", "b/"])
      let (inner, innerGroups) = try list(limit, delimiter: "/", prefix: "a/")
      #expect(inner == wanted.filter { $0.key == "a/x" }.map { "a/x \($0.number)" })
      #expect(innerGroups == ["a/y/"])
    }
  }
}

extension Desk {
  /// Another session on the same machine.
  final class Other {
    private let desk: Desk
    let session: UInt64
    private var sequence: UInt64 = 0
    private var last: Command?

    init(_ desk: Desk) throws {
      self.desk = desk
      session = desk.number(try desk.log(.openSession(client: "other")))
    }
    func ask(_ command: ClientCommand) throws -> CommandOutcome {
      sequence += 1
      last = .client(
        session: session, sequence: sequence, lowestUnanswered: sequence, command: command)
      return try desk.log(last!)
    }
    func again() throws -> CommandOutcome { try desk.log(last!) }
    func openUpload() throws -> UInt64 { desk.number(try ask(.openUpload)) }
  }
}
