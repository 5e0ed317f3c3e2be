import Cluster
import Coding
import Messages
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import DataPath

/// Stands between a client and the coordinator and changes answers.
private final class Meddler: @unchecked Sendable {
  // Loop-confined.
  let address = SocketAddress(host: "meddler", port: 1)
  /// Gives what the client sees in place of the answer, when not nil.
  var change: ((_ method: UInt16, _ request: [UInt8], _ answer: [UInt8]) throws -> [UInt8]?)?
  private(set) var changeCount = 0

  init(_ world: SimulatedWorld, _ cluster: SmallCluster) async throws {
    let process = world.process("meddler")
    let wire = WireClient(driver: process, key: clusterKey, name: "meddler", security: .never)
    let coordinator = cluster.addresses[0]
    let server = WireServer(driver: process, key: clusterKey, name: "meddler", security: .never) {
      [unowned self] (method, request, _) async throws(Refusal) in
      do throws(WireError) {
        let answer = try await wire.call(
          coordinator, method: method, request, deadline: .seconds(8))
        if let changed = try? change?(method, request.message, answer.message) {
          changeCount += 1
          return Packet(message: changed, body: answer.body)
        }
        return answer
      } catch {
        if case .refused(let code, let reason) = error { throw Refusal(code: code, reason: reason) }
        throw Refusal(.unavailable, "\(error)")
      }
    }
    _ = try await server.start(on: address)
  }
}

/// Answers that are rare, or should never be.
@Suite struct MeddlingTests {
  @Test(
    "blocks that are where they were no more are asked for where they are now, whatever else is missing",
    arguments: [(lost: 0, window: 0), (2, 0), (0, 1_000_000), (2, 1_000_000)])
  func moved(lost: Int, window: Int) throws {
    try simulate(41) { world in
      var random = SeededGenerator(seed: 41)
      let cluster = try await SmallCluster(world, scheme: "2+2", nodes: 4)
      let meddler = try await Meddler(world, cluster)
      let client = SmallClient(cluster, "client", coordinators: [meddler.address])
      let bytes = noise(700_000, &random)
      let writer = ObjectWriter(client.access)
      _ = try await client.put(writer, "k", TestSource(bytes)).get()
      try await writer.finish()
      for number in 0..<lost { cluster.killNode(number) }
      var staleCount = 1
      meddler.change = { method, _, answer in
        guard method == ResolveRange.method, staleCount > 0 else { return nil }
        staleCount -= 1
        // Only what is resolved again is resolved in small parts.
        if staleCount == 0 { world.injections[.readWindowSmall] = window }
        var plan = try ResolveRange.Answer(decoding: answer)
        for index in plan.containers.indices {
          for shard in plan.containers[index].places.indices {
            plan.containers[index].places[shard].generation += 1
          }
        }
        return plan.encoded
      }
      let range = UInt64(0)..<UInt64(bytes.count)
      let sink = TestSink(range, isOrdered: true, driver: client.driver)
      try await ObjectReader(client.access).read(
        ObjectName(bucket: "bucket", key: "k"), identity: 0, range: range, into: sink)
      #expect(sink.isComplete && sink.bytes == bytes)
      #expect(meddler.changeCount == 1)
      // When the second answer is the first, what is missing is told.
      staleCount = .max
      world.injections[.readWindowSmall] = 0
      guard case .failure(let error) = await client.get("k", range) else { throw Unexpected() }
      if lost == 0 {
        #expect(error == .corrupt("blocks are gone"))
      } else {
        guard case .unreadable = error else { throw error }
      }
      await client.close()
    }
  }

  @Test("inlined bytes that are not the object's are not given out")
  func inlined() throws {
    try simulate(42) { world in
      let cluster = try await SmallCluster(world, scheme: "1+1", nodes: 2)
      let meddler = try await Meddler(world, cluster)
      let client = SmallClient(cluster, "client", coordinators: [meddler.address])
      let writer = ObjectWriter(client.access)
      for (key, bytes) in [("k", Array("a few bytes".utf8)), ("empty", [])] {
        _ = try await client.put(writer, key, TestSource(bytes)).get()
        #expect(await client.get(key, 0..<UInt64(bytes.count)) == .success(bytes))
      }
      meddler.change = { method, _, answer in
        guard method == ResolveRange.method else { return nil }
        var plan = try ResolveRange.Answer(decoding: answer)
        plan.inline[3] ^= 1
        return plan.encoded
      }
      #expect(await client.get("k", 0..<11) == .failure(.corrupt("inlined bytes")))
      await client.close()
    }
  }

  @Test(
    "an object whose chunks are found dead when its page is put, or when it is committed, is stored again",
    arguments: [ClientCommand.Kind.putPage, .commitObject])
  func missing(kind: ClientCommand.Kind) throws {
    try simulate(43) { world in
      var random = SeededGenerator(seed: 43)
      let cluster = try await SmallCluster(world, scheme: "1+1", nodes: 2)
      let meddler = try await Meddler(world, cluster)
      let client = SmallClient(cluster, "client", coordinators: [meddler.address])
      // Many runs, so that there is a page: other objects' chunks lie between.
      var bytes: [UInt8] = []
      let writer = ObjectWriter(client.access)
      for number in 0..<20 {
        let part = noise(300_000, &random)
        _ = try await client.put(writer, "part \(number)", TestSource(part)).get()
        bytes += part.prefix(250_000)
      }
      var left = 2
      meddler.change = { method, request, answer in
        guard left > 0 else { return nil }
        switch method {
        case Execute.method:
          guard ClientCommand.Kind(try Execute(decoding: request).command) == kind else {
            return nil
          }
          left -= 1
          var answer = try Execute.Answer(decoding: answer)
          answer.outcome = .missing(runs: [], pages: [])
          return answer.encoded
        case ExecuteAll.method:
          let commands = try ExecuteAll(decoding: request).commands
          var answer = try ExecuteAll.Answer(decoding: answer)
          guard let index = commands.firstIndex(where: { ClientCommand.Kind($0.command) == kind }),
            case .answered(var one) = answer.outcomes[index]
          else { return nil }
          left -= 1
          one.outcome = .missing(runs: [], pages: [])
          answer.outcomes[index] = .answered(one)
          return answer.encoded
        default: return nil
        }
      }
      let result = try await client.put(
        writer, "k", TestSource(bytes, isSized: false), unlessIdentical: false
      ).get()
      #expect(left == 0 && result.byteCount == 5_000_000)
      try await writer.finish()
      #expect(await client.get("k", 0..<5_000_000) == .success(bytes))
      await client.close()
    }
  }
}

extension ClientCommand {
  enum Kind: Sendable {
    case putPage, commitObject, other
    init(_ command: ClientCommand) {
      switch command {
      case .putPage: self = .putPage
      case .commitObject: self = .commitObject
      default: self = .other
      }
    }
  }
}
