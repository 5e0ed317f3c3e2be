import Cluster
import Coding
import Messages
import Metadata
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import Coordinator

@Suite("What a leader does for sessions")
struct SessionDutyTests {
  /// Of a small object, unless it is there already.
  private static func put(_ name: ObjectName, _ text: String) -> ClientCommand {
    .commitObject(
      upload: 0, name: name, content: .inline(Array(text.utf8)),
      byteCount: UInt64(text.utf8.count), contentHash: Fingerprint(of: Array(text.utf8)),
      attributes: ObjectAttributes(), precondition: .none, unlessIdentical: true, modified: 0)
  }

  @Test("a silent session ends with what it held; one that is kept lives on across a restart")
  func sessions() throws {
    try SimulatedWorld.run(seed: 7) { world in
      let (cluster, client, server) = try await DutyTests.scene(world, "1+1", 2) {
        $0.sessionLifetime = .seconds(10)
      }
      _ = try await client.execute(.openUpload)
      let kept = try await client.ask(OpenSession(client: "kept")).session
      for round in 0..<8 {
        await world.sleep(.seconds(3))
        _ = try await client.ask(KeepSession(session: kept))
        if round == 4 {
          cluster.killCoordinator()
          try await cluster.startCoordinator()
          _ = try await cluster.waitForLeader(client)
        }
      }
      await world.sleep(.seconds(4))
      await #expect(throws: WireError.self) { try await client.execute(.openUpload) }
      _ = try await client.ask(
        Execute(session: kept, sequence: 1, lowestUnanswered: 1, command: .openUpload))
      let status = try await cluster.waitForLeader(client)
      #expect(status.role == "leader")
      _ = server
    }
  }

  @Test("a copy of an answered command that comes late changes nothing, logged or not")
  func lateCopies() throws {
    try SimulatedWorld.run(seed: 15) { world in
      let (_, client, _) = try await DutyTests.scene(world, "1+1", 2)
      let session = try await client.ask(OpenSession(client: "test")).session
      let other = ModelClient(world, "other", addresses: client.addresses)
      #expect(try await client.execute(.createBucket(name: "bucket")) == .done)
      let name = ObjectName(bucket: "bucket", key: "key")
      @Sendable func put(_ text: String) -> ClientCommand { Self.put(name, text) }
      @Sendable func execute(_ sequence: UInt64, _ text: String, lowest: UInt64) -> Execute {
        Execute(
          session: session, sequence: sequence, lowestUnanswered: lowest, command: put(text))
      }
      func hash() async throws -> Fingerprint {
        try await client.ask(StatObject(level: .strong, name: name)).record.contentHash
      }
      let first = try await client.ask(execute(1, "old", lowest: 1)).outcome
      // The same again is answered from the state.
      #expect(try await client.ask(execute(2, "old", lowest: 2)).outcome == first)
      #expect(try await DutyTests.number(other.execute(put("new"))) > DutyTests.number(first))
      let wanted = try await hash()
      #expect(try await client.ask(execute(2, "old", lowest: 2)).outcome == first)
      #expect(try await hash() == wanted)
      // One that the client has gone on from, without anything being logged for it since.
      #expect(try await DutyTests.number(client.ask(execute(3, "new", lowest: 3)).outcome) > 0)
      #expect(try await DutyTests.number(other.execute(put("newer"))) > 0)
      let newer = try await hash()
      guard case .refused(let code, _) = try await client.ask(execute(2, "old", lowest: 2)).outcome
      else { throw TestFailure("carried out") }
      #expect(code == RefusalCode.outcomeUnknown.rawValue)
      #expect(try await hash() == newer)
    }
  }

  @Test(
    "a put that was carried out in an earlier term has its own answer, not that of another like it")
  func identicalLater() throws {
    try SimulatedWorld.run(seed: 16) { world in
      let (cluster, client, _) = try await DutyTests.scene(world, "1+1", 2)
      let session = try await client.ask(OpenSession(client: "test")).session
      let other = ModelClient(world, "other", addresses: client.addresses)
      #expect(try await client.execute(.createBucket(name: "bucket")) == .done)
      let name = ObjectName(bucket: "bucket", key: "key")
      let put = Execute(
        session: session, sequence: 1, lowestUnanswered: 1, command: Self.put(name, "bytes"))
      // The answer to this one never came.
      let first = try await DutyTests.number(client.ask(put).outcome)
      cluster.killCoordinator()
      try await cluster.startCoordinator()
      _ = try await cluster.waitForLeader(client)
      let later = try await DutyTests.number(
        other.execute(
          .copyObject(
            source: name, sourceIdentity: 0, target: name, attributes: nil, move: false,
            precondition: .none,
            modified: 0)))
      #expect(later > first)
      #expect(try await DutyTests.number(client.ask(put).outcome) == first)
    }
  }

  @Test("a session is told to be gone only when its end is in the log")
  func endOnItsWay() throws {
    try SimulatedWorld.run(seed: 17) { world in
      let (cluster, client, _) = try await DutyTests.scene(world, "2+1", 3) {
        $0.sessionLifetime = .seconds(10)
      }
      let session = try await client.ask(OpenSession(client: "test")).session
      let request = Execute(
        session: session, sequence: 1, lowestUnanswered: 1, command: .createBucket(name: "bucket"))
      await world.sleep(.seconds(9))
      for node in cluster.nodes { node?.writeDelay = .seconds(3600) }
      await world.sleep(.milliseconds(2500))
      // Its end is on the way, and never gets there.
      var told: [RefusalCode?] = []
      do throws(WireError) {
        _ = try await client.wire.call(
          KeepSession(session: session), at: client.addresses[0], deadline: .seconds(1))
        Issue.record("kept")
      } catch {
        told.append(error.refusalCode)
      }
      do throws(WireError) {
        _ = try await client.wire.call(request, at: client.addresses[0], deadline: .seconds(1))
        Issue.record("carried out without a log")
      } catch {
        told.append(error.refusalCode)
      }
      cluster.killCoordinator()
      for node in cluster.nodes { node?.writeDelay = .milliseconds(1) }
      try await cluster.startCoordinator()
      #expect(try await client.ask(request).outcome == .done)
      #expect(!told.contains(.noSuchSession))
      // Once it is, the session is gone.
      await world.sleep(.seconds(12))
      do throws(WireError) {
        _ = try await client.wire.call(request, at: client.addresses[0], deadline: .seconds(5))
        Issue.record("a session without an end")
      } catch {
        #expect(error.refusalCode == .noSuchSession)
      }
    }
  }

  @Test("simulation can end sessions that were heard of lately")
  func earlyEnd() throws {
    try SimulatedWorld.run(seed: 19) { world in
      let (_, client, _) = try await DutyTests.scene(world, "1+1", 2)
      let session = try await client.ask(OpenSession(client: "test")).session
      world.injections[.sessionExpiredEarly] = 1 << 16
      await world.sleep(.seconds(2))
      do throws(WireError) {
        _ = try await client.wire.call(
          KeepSession(session: session), at: client.addresses[0], deadline: .seconds(5))
        Issue.record("kept")
      } catch {
        #expect(error.refusalCode == .noSuchSession)
      }
    }
  }

  @Test("a grant on its way through the log is not refused to a copy of the request")
  func grantOnItsWay() throws {
    try SimulatedWorld.run(seed: 18) { world in
      let (cluster, client, _) = try await DutyTests.scene(world, "2+1", 3)
      let session = try await client.ask(OpenSession(client: "test")).session
      let upload = try await DutyTests.number(
        client.ask(
          Execute(session: session, sequence: 1, lowestUnanswered: 1, command: .openUpload)
        ).outcome)
      @Sendable func request(avoiding avoid: [DeviceID]) -> Execute {
        Execute(
          session: session, sequence: 2, lowestUnanswered: 2,
          command: .requestGrant(upload: upload, avoid: avoid, placement: nil))
      }
      for node in cluster.nodes { node?.writeDelay = .seconds(2) }
      client.driver.spawn("under way") { _ = try? await client.ask(request(avoiding: [])) }
      await world.sleep(.milliseconds(100))
      // As if all devices had failed meanwhile.
      do throws(WireError) {
        _ = try await client.wire.call(
          request(avoiding: cluster.disks.map(\.device)), at: client.addresses[0],
          deadline: .seconds(1))
        Issue.record("granted without a log")
      } catch {
        #expect(error.refusalCode == .unavailable)
      }
      for node in cluster.nodes { node?.writeDelay = .milliseconds(1) }
      guard case .grant = try await client.ask(request(avoiding: [])).outcome else {
        throw TestFailure("no grant")
      }
    }
  }

  @Test("what is remembered of a session is bounded, whatever numbers its client sends")
  func sessionBound() {
    var table = SessionTable()
    table.open(7, at: .zero)
    func answer(_ sequence: UInt64, lowest: UInt64) -> UInt16? {
      let request = Execute(
        session: 7, sequence: sequence, lowestUnanswered: lowest, command: .openUpload)
      let outcome = table.answer(request)
      if outcome == nil { table.noteLogged(request) }
      guard case .refused(let code, _) = outcome else { return nil }
      return code
    }
    #expect(answer(1024, lowest: 1) == nil)
    #expect(answer(1025, lowest: 1) == RefusalCode.malformed.rawValue)
    #expect(answer(.max, lowest: 0) == RefusalCode.malformed.rawValue)
    #expect(answer(1025, lowest: 2) == nil)
    #expect(answer(1, lowest: 0) == RefusalCode.outcomeUnknown.rawValue)
    #expect(answer(.max, lowest: .max) == nil)
  }
}
