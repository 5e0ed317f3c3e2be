import Messages
import TestSupport
import Testing
import Wire

@testable import Metadata

@Suite("Users and what buckets grant") struct AccessTests {
  private static let key = "AAAAAAAAAAAAAAAAAAAA"
  private static func create(_ user: String) -> AccessKeyChange {
    .create(user: user, sealedSecret: [1, 2, 3])
  }

  @Test("users are made, changed and deleted with their keys")
  func users() throws {
    let desk = try Desk()
    func user(_ name: String, _ change: UserChange) throws -> RefusalCode? {
      try desk.code(desk.ask(.changeUser(name: name, change)))
    }
    func key(_ name: String, _ change: AccessKeyChange) throws -> RefusalCode? {
      try desk.code(desk.ask(.changeAccessKey(name: name, change)))
    }
    for wrong in ["", "a b", "a/b", String(repeating: "a", count: 65), "é"] {
      #expect(try user(wrong, .create) == .invalidName)
    }
    #expect(try user("alice", .delete) == .noSuchUser)
    #expect(try key(Self.key, Self.create("alice")) == .noSuchUser)
    #expect(try user("alice", .create) == nil)
    #expect(try user("alice", .create) == .userExists)
    #expect(try key("short", Self.create("alice")) == .invalidName)
    #expect(try key(Self.key, Self.create("alice")) == nil)
    #expect(try key(Self.key, Self.create("alice")) == .malformed)
    #expect(
      try desk.machine.accessKey(FindAccessKey(level: .strong, name: Self.key)).user == "alice")
    for off: UserChange in [.setEnabled(false), .setEnabled(true)] {
      #expect(try user("alice", off) == nil)
      let found = try? desk.machine.accessKey(FindAccessKey(level: .strong, name: Self.key))
      #expect((found != nil) == (off == .setEnabled(true)))
    }
    let other = String(Self.key.dropLast()) + "B"
    #expect(try key(Self.key, .rotate(to: other, sealedSecret: [4])) == nil)
    let shown = try desk.machine.user(GetUser(level: .strong, name: "alice"))
    #expect(shown.accessKeys.map(\.name) == [Self.key, other])
    #expect(shown.accessKeys.map(\.isEnabled) == [false, true])
    #expect(try key(Self.key, .delete) == nil)
    #expect(try key(Self.key, .delete) == .noSuchAccessKey)
    for number in 0..<7 { #expect(try key("\(number)" + Self.key, Self.create("alice")) == nil) }
    #expect(try key("9" + Self.key, Self.create("alice")) == .malformed)
    // A user with as many as may be can still change over.
    for number in 0..<8 {
      let next = AccessKeyChange.rotate(to: "R\(number)" + Self.key, sealedSecret: [5])
      #expect(try key("\(number % 7)" + Self.key, next) == nil)
    }
    #expect(try key("R1" + Self.key, .rotate(to: "R8" + Self.key, sealedSecret: [5])) == .malformed)
    #expect(try desk.machine.user(GetUser(level: .strong, name: "alice")).accessKeys.count == 16)
    let listed = try desk.machine.users(ListUsers(level: .strong, after: "", limit: 1))
    #expect(try ListUsers.Answer(decoding: listed.encoded) == listed)
    #expect(try StateAudit.violations(in: desk.store) == [])
    #expect(try user("alice", .delete) == nil)
    #expect(try key(other, .delete) == .noSuchAccessKey)
    #expect(try StateAudit.violations(in: desk.store) == [])
  }

  @Test("policies have names and a bound, all of a user's together")
  func policies() throws {
    let desk = try Desk()
    try desk.ask(.changeUser(name: "alice", .create))
    func set(_ name: String, _ byteCount: Int) throws -> RefusalCode? {
      try desk.code(
        desk.ask(
          .changeUser(
            name: "alice",
            .setPolicy(
              NamedPolicy(name: name, document: String(repeating: "x", count: byteCount))))))
    }
    #expect(try set("a b", 1) == .invalidName)
    #expect(try set("one", 20_480) == nil)
    #expect(try set("two", 1) == .malformed)
    #expect(try set("one", 10) == nil)
    for number in 0..<9 { #expect(try set("p\(number)", 100) == nil) }
    #expect(try set("more", 1) == .malformed)
    let names = try desk.machine.user(GetUser(level: .strong, name: "alice")).policies.map(\.name)
    #expect(names == names.sorted() && names.count == 10)
    #expect(try desk.ask(.changeUser(name: "alice", .deletePolicy("one"))) == .done)
    #expect(
      try desk.code(desk.ask(.changeUser(name: "alice", .deletePolicy("one")))) == .noSuchPolicy)
  }

  @Test("users are listed page by page")
  func list() throws {
    let desk = try Desk()
    for number in 0..<5 { try desk.ask(.changeUser(name: "user\(number)", .create)) }
    var found: [String] = []
    while true {
      let page = try desk.machine.users(
        ListUsers(level: .strong, after: found.last ?? "", limit: 2))
      found += page.users.map(\.name)
      if page.isLast { break }
    }
    #expect(found == (0..<5).map { "user\($0)" })
  }

  @Test("what a bucket grants goes with it")
  func buckets() throws {
    let desk = try Desk()
    func change(_ change: BucketAccessChange) throws -> CommandOutcome {
      try desk.ask(.changeBucketAccess(bucket: "bucket", change))
    }
    #expect(try desk.code(change(.acl(.publicRead))) == .noSuchBucket)
    try desk.ask(.createBucket(name: "bucket"))
    #expect(try desk.machine.bucketAccess("bucket") == BucketAccess())
    #expect(try change(.acl(.publicRead)) == .done)
    #expect(try change(.policy("{}")) == .done)
    var wanted = BucketAccess()
    wanted.acl = .publicRead
    wanted.policy = "{}"
    #expect(try desk.machine.bucketAccess("bucket") == wanted)
    #expect(try StateAudit.violations(in: desk.store) == [])
    try desk.ask(.removeBucket(name: "bucket"))
    try desk.ask(.createBucket(name: "bucket"))
    #expect(try desk.machine.bucketAccess("bucket") == BucketAccess())
    #expect(try StateAudit.violations(in: desk.store) == [])
  }

  @Test("a check finds keys that nobody lists and grants of no bucket")
  func audit() throws {
    let desk = try Desk()
    try desk.ask(.changeUser(name: "alice", .create))
    try desk.ask(.changeAccessKey(name: Self.key, Self.create("alice")))
    var batch = WriteBatch()
    batch.delete(Key.user("alice"))
    batch.put(Key.bucketAccess(99), BucketAccessRecord(BucketAccess()).encoded)
    try desk.store.apply(batch)
    #expect(try StateAudit.violations(in: desk.store).count == 3)
  }
}
