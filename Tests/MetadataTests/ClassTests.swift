import Cluster
import Coding
import Messages
import TestSupport
import Testing
import Wire

@testable import Metadata

@Suite("Storage classes") struct ClassTests {
  @Test("a cluster has hot, warm and cold from its founding, and warm is what nobody says")
  func builtIn() throws {
    let desk = try Desk()
    #expect(
      try desk.machine.classUsage().map(\.storageClass) == StorageClass.builtIn)
    try desk.ask(.createBucket(name: "bucket"))
    #expect(try desk.machine.bucket("bucket").storageClass.name == "warm")
    #expect(try desk.machine.bucket("bucket").domain == .standard)
    #expect(
      try desk.code(desk.ask(.createBucket(name: "other", storageClass: "lukewarm")))
        == .noSuchClass)
    try desk.ask(.createBucket(name: "other", storageClass: "cold"))
    #expect(try desk.machine.bucket("other").storageClass.codec == .xz)
  }

  @Test("a class is defined once and changed after, keeps its number, and breaks no rule")
  func define() throws {
    let desk = try Desk()
    var own = StorageClass(name: "own", codec: .zstd, level: 9, groupByteCount: 64 << 10)
    #expect(try desk.log(.defineClass(own)) == .number(16))
    own.level = 12
    own.scheme = Scheme(k: 2, m: 2)
    #expect(try desk.log(.defineClass(own)) == .number(16))
    #expect(try desk.machine.policies()[ClassID(16)] == own)
    var wrong = own
    for change: (inout StorageClass) -> Void in [
      { $0.name = "" }, { $0.name = "Large" }, { $0.level = 20 }, { $0.groupByteCount = 100 },
      { $0.groupByteCount = 2 << 20 }, { $0.codec = .raw },
    ] {
      wrong = own
      change(&wrong)
      #expect(try desk.code(desk.log(.defineClass(wrong))) == .malformed, "\(wrong)")
    }
    for number in 0..<80 {
      own.name = "c\(number)"
      _ = try desk.log(.defineClass(own))
    }
    #expect(try desk.machine.policies().count == StorageClass.countLimit)
  }

  @Test("chunks of one class are unknown in another, and no page or object joins two")
  func apart() throws {
    let desk = try Desk()
    try desk.ask(.createBucket(name: "bucket"))
    try desk.ask(.createBucket(name: "hot-one", storageClass: "hot"))
    let upload = try desk.openUpload()
    let warm = try desk.grant(upload)
    #expect(try desk.register(upload, warm, [desk.stripe(0, ordinal: 0, [1, 2])]) == .done)
    guard
      case .grant(let bytes) = try desk.ask(
        .requestGrant(
          upload: upload, avoid: [],
          placement: ClientCommand.Placement(scheme: Workload.scheme, devices: Desk.devices),
          domain: ChunkDomain(ClassID(1))))
    else { throw ValueError.truncated }
    let hot = try Grant(decoding: bytes)
    #expect(hot.container != warm.container)
    #expect(try desk.register(upload, hot, [desk.stripe(0, ordinal: 0, [1])]) == .done)
    let inHot = try desk.machine.findChunks(
      [Workload.fingerprint(1), Workload.fingerprint(2)], in: ChunkDomain(ClassID(1)))
    #expect(inHot.found[0].container == hot.container)
    #expect(inHot.found[1].byteCount == 0)
    #expect(
      try desk.machine.findChunks([Workload.fingerprint(1)]).found[0].container == warm.container)
    let (first, second) = (desk.run(warm, 0, [1]), desk.run(hot, 0, [1]))
    #expect(
      try desk.code(desk.ask(.putPage(upload: upload, page: .runs([first, second]))))
        == .malformed)
    #expect(
      try desk.code(desk.commit("k", .embedded([second]), second.byteCount, upload: upload))
        == .otherClass)
    let pages = [
      desk.number(try desk.ask(.putPage(upload: upload, page: .runs([first])))),
      desk.number(try desk.ask(.putPage(upload: upload, page: .runs([second])))),
    ]
    #expect(pages[0] != pages[1])
    #expect(
      try desk.code(
        desk.ask(
          .putPage(
            upload: upload,
            page: .children(pages.map { Page.Child(page: $0, byteCount: first.byteCount) }))))
        == .malformed)
    #expect(
      try desk.code(desk.commit("k", .root(pages[1]), first.byteCount, upload: upload))
        == .otherClass)
    #expect(
      desk.number(try desk.commit("k", .root(pages[0]), first.byteCount, upload: upload)) > 0)
    let copy = ClientCommand.copyObject(
      source: ObjectName(bucket: "bucket", key: "k"), sourceIdentity: 0,
      target: ObjectName(bucket: "hot-one", key: "k"), attributes: nil, move: false,
      precondition: .none, modified: 0)
    #expect(try desk.code(desk.ask(copy)) == .otherClass)
    // Bytes in the record are of no domain.
    _ = try desk.commit("k", .inline([1, 2]), 2)
    #expect(desk.number(try desk.ask(copy)) > 0)
    let usage = try desk.machine.classUsage()
    #expect(usage[0].logicalBytes == 2)
    #expect(usage[1].logicalBytes == 2)
    #expect(usage[0].chunkBytes == UInt64(Workload.byteCount(1)))
    #expect(try violations(in: desk.store) == [])
  }

  @Test("a bucket changes its class while it is empty, and not after")
  func change() throws {
    let desk = try Desk()
    try desk.ask(.createBucket(name: "bucket"))
    func set(_ name: String, _ bucket: String = "bucket") throws -> CommandOutcome {
      try desk.log(.setBucketClass(bucket: bucket, storageClass: name))
    }
    #expect(try set("cold") == .done)
    #expect(try desk.machine.bucket("bucket").storageClass.name == "cold")
    #expect(try desk.code(set("none")) == .noSuchClass)
    #expect(try desk.code(set("hot", "nowhere")) == .noSuchBucket)
    _ = try desk.commit("k", .inline([1]), 1)
    #expect(try desk.code(set("hot")) == .bucketNotEmpty)
    #expect(try set("cold") == .done)
    _ = try desk.ask(
      .deleteObject(name: ObjectName(bucket: "bucket", key: "k"), precondition: .none))
    #expect(try set("hot") == .done)
    #expect(try violations(in: desk.store) == [])
  }

  @Test("a group is no larger than it may be, and smaller than its chunks unless it is raw")
  func groupSizes() throws {
    let desk = try Desk()
    let upload = try desk.openUpload()
    let grant = try desk.grant(upload)
    let plain = Workload.byteCount(1)
    let cases: [(Codec, UInt32, Bool)] = [
      (.raw, plain + 48, true), (.raw, plain + 47, false), (.raw, plain + 49, false),
      (.zstd, plain + 47, true), (.zstd, plain + 48, false), (.xz, 49, true), (.lz4, 48, false),
    ]
    for (index, (codec, stored, isRight)) in cases.enumerated() {
      var stripe = desk.stripe(UInt64(index), ordinal: UInt64(index), [1])
      stripe.groups[0].codec = codec
      stripe.groups[0].storedByteCount = stored
      let outcome = try desk.register(upload, grant, [stripe])
      #expect(isRight ? outcome == .done : desk.code(outcome) == .malformed, "\(codec) \(stored)")
    }
    var huge = desk.stripe(90, ordinal: 90, [1])
    huge.groups[0].codec = .zstd
    huge.groups[0].chunks[0].byteCount = 1 << 30
    #expect(try desk.code(desk.register(upload, grant, [huge])) == .malformed)
    #expect(try violations(in: desk.store) == [])
  }
}
