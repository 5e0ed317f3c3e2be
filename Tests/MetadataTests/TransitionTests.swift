import Cluster
import Coding
import Messages
import TestSupport
import Testing
import Wire

@testable import Metadata

@Suite("Versions that go to another storage class") struct TransitionTests {
  private static let cold = ChunkDomain(ClassID(3))

  /// A bucket of the class warm with one object of two chunks, and the same chunks in the class cold.
  private struct Scene {
    let desk: Desk
    let upload: UInt64
    let warm: Grant
    let cold: Grant
    let identity: UInt64
    let byteCount: UInt64
    let name = ObjectName(bucket: "bucket", key: "k")

    init() throws {
      desk = try Desk()
      try desk.ask(.createBucket(name: "bucket"))
      upload = try desk.openUpload()
      warm = try desk.grant(upload)
      #expect(try desk.register(upload, warm, [desk.stripe(0, ordinal: 0, [1, 2])]) == .done)
      guard
        case .grant(let bytes) = try desk.ask(
          .requestGrant(
            upload: upload, avoid: [],
            placement: ClientCommand.Placement(scheme: Workload.scheme, devices: Desk.devices),
            domain: TransitionTests.cold))
      else { throw ValueError.truncated }
      cold = try Grant(decoding: bytes)
      #expect(try desk.register(upload, cold, [desk.stripe(0, ordinal: 0, [1, 2])]) == .done)
      let run = desk.run(warm, 0, [1, 2])
      byteCount = run.byteCount
      identity = try desk.number(
        desk.commit(
          "k", .embedded([run]), run.byteCount, upload: upload,
          attributes: ObjectAttributes(user: [.init(name: "a", value: "b")])))
    }
    var coldRun: Run { desk.run(cold, 0, [1, 2]) }

    @discardableResult func move(
      _ content: ObjectContent?, to domain: ChunkDomain = TransitionTests.cold,
      _ tier: ObjectTier = .glacierIR, identity: UInt64? = nil
    ) throws -> CommandOutcome {
      try desk.ask(
        .moveVersion(
          upload: upload, name: name, identity: identity ?? self.identity, domain: domain,
          content: content, tier: tier))
    }
    func container() throws -> ContainerID? {
      try desk.machine.resolve(
        ResolveRange(
          level: .strong, name: name, identity: identity, first: 0, byteCount: byteCount)
      ).containers.first?.container
    }
    func objects(_ id: Int) throws -> UInt64 {
      try desk.machine.classUsage().first { Int($0.id.raw) == id }!.objectCount
    }
  }

  @Test("the version stays what it is, is read from its new place, and its old chunks are dead")
  func swap() throws {
    let scene = try Scene()
    let desk = scene.desk
    let before = try desk.list().entries[0]
    #expect(try scene.container() == scene.warm.container)
    #expect(try scene.move(.embedded([scene.coldRun])) == .done)
    var after = try desk.list().entries[0]
    #expect(ObjectTier(of: after.attributes) == .glacierIR)
    after.attributes = after.attributes.withoutTier
    #expect(after == before)
    #expect(try scene.container() == scene.cold.container)
    #expect(try scene.objects(2) == 0)
    #expect(try scene.objects(3) == 1)
    #expect(try violations(in: desk.store) == [])
    try desk.ask(.endUpload(upload: scene.upload))
    try desk.log(.returnEdges(limit: 1000))
    try desk.ask(.releaseGrant(grant: scene.warm.id, container: scene.warm.container))
    try desk.ask(.releaseGrant(grant: scene.cold.id, container: scene.cold.container))
    try desk.log(.dropContainers([scene.warm.container, scene.cold.container]))
    try desk.log(.returnEdges(limit: 1000))
    try desk.log(.forgetContainers([scene.warm.container, scene.cold.container]))
    #expect(try scene.container() == scene.cold.container)
    #expect(try desk.machine.classUsage()[1].containerCount == 0)
    #expect(try desk.machine.classUsage()[2].containerCount == 1)
    #expect(try violations(in: desk.store) == [])
  }

  @Test("what was there and comes again keeps its edges while those from before are in the trash")
  func again() throws {
    let scene = try Scene()
    let desk = scene.desk
    #expect(try scene.move(.embedded([scene.coldRun]), .standardIA) == .done)
    // Back to where the first edges, not returned yet, lead.
    let warmRun = desk.run(scene.warm, 0, [1, 2])
    #expect(try scene.move(.embedded([warmRun]), to: .standard, .glacierIR) == .done)
    #expect(try violations(in: desk.store) == [])
    try desk.ask(.endUpload(upload: scene.upload))
    try desk.log(.returnEdges(limit: 1000))
    #expect(try violations(in: desk.store) == [])
    #expect(try scene.container() == scene.warm.container)
    #expect(try desk.ask(.deleteObject(name: scene.name, precondition: .none)) == .done)
    try desk.log(.returnEdges(limit: 1000))
    #expect(try violations(in: desk.store) == [])
  }

  @Test("it never goes back, and who comes second changes nothing")
  func order() throws {
    let scene = try Scene()
    try scene.move(.embedded([scene.coldRun]), .glacierIR)
    let before = try scene.desk.list().entries[0]
    #expect(try scene.move(.embedded([scene.coldRun]), .glacierIR) == .done)
    #expect(
      try scene.move(
        .embedded([scene.desk.run(scene.warm, 0, [1, 2])]), to: .standard, .standardIA)
        == .done)
    #expect(try scene.desk.list().entries[0] == before)
    #expect(try scene.container() == scene.cold.container)
    // Further on, in the class that it has: nothing is stored anew.
    #expect(try scene.move(nil, .deepArchive) == .done)
    #expect(ObjectTier(of: try scene.desk.list().entries[0].attributes) == .deepArchive)
    #expect(try violations(in: scene.desk.store) == [])
  }

  @Test("other bytes, other classes and versions that are gone are refused, and nothing is changed")
  func refused() throws {
    let scene = try Scene()
    let desk = scene.desk
    let before = try desk.list().entries
    var short = scene.coldRun
    short.byteCount -= 1
    func code(_ outcome: CommandOutcome) -> RefusalCode? { desk.code(outcome) }
    #expect(code(try scene.move(nil)) == .malformed)
    #expect(code(try scene.move(.embedded([short]))) == .malformed)
    #expect(code(try scene.move(.inline([1, 2]))) == .malformed)
    #expect(code(try scene.move(.embedded([scene.coldRun]), to: .standard)) == .otherClass)
    #expect(
      code(try scene.move(.embedded([scene.coldRun]), to: ChunkDomain(ClassID(9)))) == .noSuchClass)
    #expect(
      code(
        try scene.move(
          .embedded([scene.coldRun]), to: ChunkDomain(ClassID(3), in: KeyDomainID(4))))
        == .otherClass)
    #expect(
      code(try scene.move(.embedded([scene.coldRun]), identity: scene.identity + 1))
        == .noSuchVersion)
    #expect(try desk.list().entries == before)
    try desk.ask(.endUpload(upload: scene.upload))
    #expect(code(try scene.move(.embedded([scene.coldRun]))) == .noSuchUpload)
    #expect(try desk.list().entries == before)
    #expect(try violations(in: desk.store) == [])
  }

  @Test(
    "a copy is refused, so that it is written anew; what is written over it is as it was before")
  func copies() throws {
    let scene = try Scene()
    let desk = scene.desk
    try scene.move(.embedded([scene.coldRun]))
    let copy = try desk.ask(
      .copyObject(
        source: scene.name, sourceIdentity: 0, target: ObjectName(bucket: "bucket", key: "c"),
        attributes: nil, move: false, precondition: .none, modified: 3))
    #expect(desk.code(copy) == .otherClass)
    // What clients took over from it does not make it another class.
    let attributes = try desk.list().entries[0].attributes
    _ = try desk.commit("k", .inline([1]), 1, attributes: attributes)
    #expect(ObjectTier(of: try desk.list().entries[0].attributes) == nil)
    #expect(try scene.objects(2) == 1)
    #expect(try scene.objects(3) == 0)
    #expect(try violations(in: desk.store) == [])
  }

  @Test("an older version moves by itself, and one that is inlined with its record")
  func older() throws {
    let scene = try Scene()
    let desk = scene.desk
    try desk.ask(.setVersioning(bucket: "bucket", .enabled))
    _ = try desk.commit("k", .inline([7]), 1)
    #expect(try scene.move(.embedded([scene.coldRun])) == .done)
    #expect(try scene.container() == scene.cold.container)
    let inlined = try desk.list().entries[0].identity
    #expect(try scene.move(nil, identity: inlined) == .done)
    #expect(try scene.objects(3) == 1)
    #expect(try violations(in: desk.store) == [])
    #expect(try desk.ask(.deleteVersion(name: scene.name, version: .identity(inlined))) == .done)
    #expect(ObjectTier(of: try desk.list().entries[0].attributes) == .glacierIR)
    #expect(try violations(in: desk.store) == [])
  }

  @Test("records of versions that did not move are what they were before there were moves")
  func encoding() throws {
    var record = ObjectRecord(
      identity: 3, byteCount: 1, contentHash: Fingerprint(of: [1]),
      attributes: ObjectAttributes(), modified: 7, content: .inline([1]))
    #expect(record.encoded.first == 1)
    let plain = record.encoded
    record.moved = .init(domain: Self.cold, source: 9)
    #expect(Array(record.encoded.dropFirst().prefix(plain.count - 1)) == Array(plain.dropFirst()))
    #expect(try ObjectRecord(decoding: record.encoded) == record)
    record.isNull = false
    #expect(try ObjectRecord(decoding: record.encoded) == record)
  }
}
