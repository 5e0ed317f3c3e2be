import Cluster
import Coding
import Messages
import Ring
import TestSupport
import Testing
import Wire

@testable import Metadata

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
