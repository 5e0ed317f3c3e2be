import Ring
import Simulation
import TestSupport
import Testing

@testable import Wire

/// A server on a machine "server", port 7000, and a driver on a machine "client".
private func inWorld<Value: Sendable>(
  _ seed: Seed, limits: ServerLimits = .init(), security: TransportSecurity = .never,
  _ body:
    @escaping @Sendable (SimulatedWorld, SimulatedProcess, Service, SocketAddress, WireServer)
    async throws -> Value
) throws -> Value {
  try SimulatedWorld.run(seed: seed.value) { world in
    let service = Service(world.process("server"))
    let (server, address) = try await service.start(
      at: SocketAddress(host: "server", port: 7000), security: security, limits: limits)
    return try await body(world, world.process("client"), service, address, server)
  }
}

private func client(
  _ driver: any Driver, key: ClusterKey = key, security: TransportSecurity = .never,
  connections: Int = 1
) -> WireClient {
  WireClient(
    driver: driver, key: key, name: "client", security: security,
    connectionsPerAddress: connections)
}

private func randomAsk(_ token: UInt64, _ random: inout SeededGenerator) -> (Ask, body: Int) {
  func size(_ limit: Int) -> Int {
    let sizes = [
      0, 1, 39, 100, 4056, 4096, Int.random(in: 0..<10_000, using: &random),
      Int.random(in: 0..<100_000, using: &random),
    ]
    let pick = Int.random(in: 0..<100, using: &random)
    return pick == 0 ? limit : sizes[pick % 8]
  }
  var ask = Ask(token: token)
  ask.delay = Bool.random(using: &random) ? 0 : UInt64.random(in: 0..<20_000, using: &random)
  ask.answerMessage = UInt64(size(WireLimits.messageByteCount))
  ask.answerBody = UInt64(size(WireLimits.bodyByteCount))
  if Int.random(in: 0..<10, using: &random) == 0 { ask.refusal = 17 }
  return (ask, size(WireLimits.bodyByteCount))
}

@Test("any mix of concurrent calls gets exactly its own answers", arguments: Seed.several)
func ownAnswers(seed: Seed) throws {
  try inWorld(seed) { world, driver, service, address, server in
    world.network.shortSendsPerThousand = 200
    var random = seed.generator
    let client = client(driver, connections: 1 + Int(seed.value % 3))
    await withTaskGroup(of: Void.self) { group in
      for token in 0..<150 {
        let (ask, body) = randomAsk(UInt64(token), &random)
        let start = Duration.microseconds(Int64.random(in: 0..<50_000, using: &random))
        group.addTask {
          await driver.sleep(start)
          let result = await client.ask(ask, body: body, at: address)
          if ask.refusal == 0 {
            #expect(result.isSuccess, "\(result.error!)")
          } else {
            #expect(result.error == .refused(code: 17, reason: "token \(token)"))
          }
        }
      }
    }
    #expect(service.started.count == 150 && service.damaged == 0 && service.running == 0)
    #expect(service.names == ["client"])
    #expect(service.connections.count <= 1 + Int(seed.value % 3))
    await client.close()
    await server.stop()
    #expect(world.network.connectionCount == 0)
  }
}

@Test(
  "whatever breaks, no call gets a wrong answer, and what is called unreachable was not carried out",
  arguments: Seed.several)
func faults(seed: Seed) throws {
  try SimulatedWorld.run(seed: seed.value) { world in
    var random = seed.generator
    let machine = world.machine("server")
    let address = SocketAddress(host: "server", port: 7000)
    var process = world.process("server", .init(machine: machine))
    var services = [Service(process)]
    var server = try await services[0].start(at: address).server
    let driver = world.process("client")
    let client = client(driver, connections: 2)

    let outcomes = Outcomes()
    let calls = driver.spawn("calls") {
      var random = Seed(seed.value &+ 1).generator
      await withTaskGroup(of: Void.self) { group in
        for token in 0..<300 {
          let (ask, body) = randomAsk(UInt64(token), &random)
          let start = Duration.milliseconds(Int64.random(in: 0..<4000, using: &random))
          let deadline = Duration.milliseconds(Int64.random(in: 1..<3000, using: &random))
          group.addTask {
            await driver.sleep(start)
            let begun = driver.now
            let result = await client.ask(ask, body: body, at: address, deadline: deadline)
            #expect(driver.now - begun <= deadline + .milliseconds(1))
            outcomes.set(token, result)
          }
        }
      }
    }
    for _ in 0..<25 {
      await world.sleep(.milliseconds(Int64.random(in: 10..<250, using: &random)))
      switch Int.random(in: 0..<5, using: &random) {
      case 0: world.network.resetConnections("client", "server")
      case 1:
        world.network.cut("client", "server", oneWay: Bool.random(using: &random))
        await world.sleep(.milliseconds(Int64.random(in: 1..<400, using: &random)))
        world.network.heal("client", "server")
      case 2:
        process = process.restart()
        services.append(Service(process))
        server = try await services.last!.start(at: address).server
      case 3:
        await server.stop()
        services.append(Service(process))
        server = try await services.last!.start(at: address).server
      default: world.network.shortSendsPerThousand = Int.random(in: 0..<500, using: &random)
      }
    }
    world.network.healAll()
    await calls.wait()
    let started = services.reduce(into: Set<UInt64>()) { $0.formUnion($1.started) }
    #expect(services.allSatisfy { $0.damaged == 0 })
    var successes = 0
    for token in 0..<300 {
      guard let result = outcomes.get(token) else {
        Issue.record("no outcome for \(token)")
        continue
      }
      switch result.error {
      case nil: successes += 1
      case .unreachable: #expect(!started.contains(UInt64(token)), "\(token) was carried out")
      case .disconnected, .deadline, .refused: break
      case let other: Issue.record("\(token): \(other!)")
      }
    }
    #expect(successes > 20)
    // And after all that it works, once a connection that broke unseen has been given up.
    await world.sleep(.seconds(31))
    let result = await client.ask(Ask(token: 1000), at: address)
    #expect(result.isSuccess)
    await client.close()
    await server.stop()
  }
}

/// Results by token; loop-confined.
private final class Outcomes: @unchecked Sendable {
  private var results: [Int: Result<Packet, WireError>] = [:]
  func set(_ token: Int, _ result: Result<Packet, WireError>) { results[token] = result }
  func get(_ token: Int) -> Result<Packet, WireError>? { results[token] }
}

@Test("at its deadline a call ends, its handler is cancelled, and the late answer hurts nobody")
func deadline() throws {
  try inWorld(Seed(5)) { world, driver, service, address, server in
    let client = client(driver)
    _ = await client.ask(Ask(token: 0), at: address)
    var slow = Ask(token: 1)
    slow.delay = 10_000_000
    slow.answerBody = 100_000
    let begun = driver.now
    let result = await client.ask(slow, at: address, deadline: .milliseconds(200))
    #expect(result.error == .deadline)
    let took = driver.now - begun
    #expect(took >= .milliseconds(200) && took < .milliseconds(202))
    await driver.sleep(.milliseconds(5))
    let cancelled = try #require(service.cancelled[1])
    #expect(cancelled - begun < .milliseconds(205))
    let next = await client.ask(Ask(token: 2), at: address)
    #expect(next.isSuccess && service.connections.count == 1)
    await client.close()
  }
}

@Test("a cancelled caller returns at once, and its handler is cancelled")
func cancellation() throws {
  try inWorld(Seed(6)) { world, driver, service, address, server in
    let client = client(driver)
    var slow = Ask(token: 1)
    slow.delay = 60_000_000
    let outcomes = Outcomes()
    let ask = slow
    let caller = driver.spawn("caller") {
      outcomes.set(1, await client.ask(ask, body: 100, at: address, deadline: .seconds(60)))
    }
    await driver.sleep(.milliseconds(50))
    let begun = driver.now
    caller.cancel()
    await caller.wait()
    #expect(driver.now - begun < .milliseconds(1))
    #expect(outcomes.get(1)?.error == .cancelled)
    await driver.sleep(.milliseconds(5))
    #expect(service.cancelled[1] != nil && service.running == 0)
    // One that is cancelled before it starts never leaves.
    let late = driver.spawn("late") {
      await driver.sleep(.seconds(100))
      outcomes.set(2, await client.ask(Ask(token: 2), at: address))
    }
    late.cancel()
    await late.wait()
    #expect(outcomes.get(2)?.error == .cancelled && !service.started.contains(2))
    await client.close()
  }
}

@Test("a caller that gave up frees its place only when the server has", arguments: Seed.several)
func abandoned(seed: Seed) throws {
  var limits = ServerLimits()
  limits.requestsPerConnection = 3
  try inWorld(seed, limits: limits) { world, driver, service, address, server in
    let client = client(driver)
    await withTaskGroup(of: Void.self) { group in
      for token in 0..<60 {
        group.addTask {
          var ask = Ask(token: UInt64(token))
          ask.delay = UInt64(token % 7) * 5000
          let result = await client.ask(ask, at: address, deadline: .milliseconds(12 + token))
          #expect(!result.isMalformed && !result.isDisconnected)
        }
      }
    }
    #expect(service.mostRunning <= 3 && service.connections.count == 1)
    await client.close()
  }
}

@Test("the client waits rather than exceed the server's limits", arguments: Seed.several)
func flowControl(seed: Seed) throws {
  var limits = ServerLimits()
  limits.requestsPerConnection = 4
  limits.bodyBytesPerConnection = 2 << 20
  try inWorld(seed, limits: limits) { world, driver, service, address, server in
    let client = client(driver)
    await withTaskGroup(of: Void.self) { group in
      for token in 0..<40 {
        group.addTask {
          var ask = Ask(token: UInt64(token))
          ask.delay = 1000
          let body = token % 2 == 0 ? 0 : token % 3 == 0 ? 2 << 20 : 700_000
          let result = await client.ask(ask, body: body, at: address)
          #expect(result.isSuccess)
        }
      }
    }
    #expect(service.mostRunning <= 4 && service.mostBodyBytes <= 2 << 20)
    #expect(service.mostRunning > 1 && service.connections.count == 1)
    await client.close()
  }
}

@Test("the server's own budgets hold over all connections", arguments: Seed.several)
func serverBudget(seed: Seed) throws {
  var limits = ServerLimits()
  limits.requestCount = 5
  limits.bodyByteCount = 3 << 20
  try inWorld(seed, limits: limits) { world, driver, service, address, server in
    let clients = (0..<4).map { _ in client(driver) }
    await withTaskGroup(of: Void.self) { group in
      for token in 0..<60 {
        group.addTask {
          var ask = Ask(token: UInt64(token))
          ask.delay = 2000
          let result = await clients[token % 4].ask(
            ask, body: token % 5 == 0 ? 1 << 20 : 0, at: address)
          #expect(result.isSuccess)
        }
      }
    }
    #expect(service.mostRunning <= 5 && service.mostBodyBytes <= 3 << 20)
    #expect(service.mostRunning > 1)
    for client in clients { await client.close() }
  }
}

@Test("a peer that exceeds its limits is cut off")
func violation() throws {
  var limits = ServerLimits()
  limits.requestsPerConnection = 2
  try inWorld(Seed(7), limits: limits) { world, driver, service, address, server in
    let raw = try await RawPeer(address, driver)
    try await raw.shakeHands()
    var ask = Ask(token: 1)
    ask.delay = 1_000_000
    for id in 1...3 {
      _ = await raw.send(raw.request(id: UInt64(id), Packet(message: ask.encoded)))
    }
    #expect(await raw.isCutOff(within: .milliseconds(100)))
    await driver.sleep(.milliseconds(10))
    #expect(service.running == 0 && service.cancelled.count == 1)
    await raw.connection.close()
  }
}

@Test(
  "another cluster's key is told from ours at once, and nothing is carried out",
  arguments: [TransportSecurity.never, .always])
func wrongKey(security: TransportSecurity) throws {
  try inWorld(Seed(8), security: security) { world, driver, service, address, server in
    let stranger = client(driver, key: otherKey, security: security)
    let begun = driver.now
    for token in 0..<3 {
      let result = await stranger.ask(Ask(token: UInt64(token)), at: address)
      #expect(result.error == .wrongKey)
    }
    #expect(driver.now - begun < .milliseconds(100))
    #expect(service.started.isEmpty)
    let friend = client(driver, security: security)
    #expect(await friend.ask(Ask(token: 9), at: address).isSuccess)
    await stranger.close()
    await friend.close()
  }
}

@Test("versions are negotiated, and none in common is told")
func versions() throws {
  try inWorld(Seed(9)) { world, driver, service, address, server in
    server.versions = 1...3
    let newer = client(driver)
    newer.versions = 2...7
    #expect(await newer.ask(Ask(token: 1), at: address).isSuccess)
    let newest = client(driver)
    newest.versions = 4...7
    #expect(
      await newest.ask(Ask(token: 2), at: address).error
        == .version("the peer speaks versions 1 to 3, we 4 to 7"))
    #expect(service.started == [1])
    await newer.close()
    await newest.close()
  }
}

@Test("plain frames from another machine are refused unless the operator allows them")
func plainRefused() throws {
  try inWorld(Seed(10), security: .automatic) { world, driver, service, address, server in
    let plain = client(driver, security: .never)
    #expect(await plain.ask(Ask(token: 1), at: address).isUnreachable)
    let automatic = client(driver, security: .automatic)
    #expect(await automatic.ask(Ask(token: 2), body: 100_000, at: address).isSuccess)
    #expect(service.started == [2])
    for client in [plain, automatic] { await client.close() }
  }
}

@Test("a proof sent back to its maker proves nothing")
func reflection() throws {
  try inWorld(Seed(11)) { world, driver, service, address, server in
    let raw = try await RawPeer(address, driver)
    var hello = ByteWriter()
    hello.fixed(UInt16(1))
    hello.fixed(UInt16(1))
    hello.raw(driver.randomBytes(32))
    hello.fixed(UInt32(10))
    hello.fixed(UInt64(4 << 20))
    hello.fixed(UInt8(0))
    func message(_ step: UInt8, _ payload: [UInt8]) -> [UInt8] {
      Handshake.magic + [step, 0, UInt8(payload.count), 0] + payload
    }
    #expect(await raw.send(message(1, hello.bytes)))
    let head = try await raw.reader.read(8)
    #expect(head[4] == 2)
    let answer = try await raw.reader.read(Int(head[6]))
    let request = raw.request(id: 1, Packet(message: Ask(token: 1).encoded))
    _ = await raw.send(message(3, Array(answer.suffix(32))) + request)
    #expect(await raw.isCutOff(within: .milliseconds(100)))
    #expect(service.started.isEmpty)
    await raw.connection.close()
  }
}

@Test("garbage at any stage costs only its own connection", arguments: Seed.several)
func garbageOnPort(seed: Seed) throws {
  try inWorld(seed) { world, driver, service, address, server in
    var random = seed.generator
    let client = client(driver)
    for round in 0..<60 {
      let raw = try await RawPeer(address, driver)
      var bytes: [UInt8]
      switch round % 4 {
      case 0: bytes = random.bytes(Int.random(in: 1..<2000, using: &random))
      case 1:
        bytes = Handshake.magic + random.bytes(Int.random(in: 1..<300, using: &random))
      case 2: bytes = [0x16, 3, 1] + random.bytes(Int.random(in: 1..<600, using: &random))
      default:
        try await raw.shakeHands()
        bytes = []
        for id in 1...3 {
          let body = Slice(copying: pattern(7, Int.random(in: 0..<5000, using: &random)))
          bytes += raw.request(
            id: UInt64(id), Packet(message: Ask(token: 7).encoded, body: [body]))
        }
        bytes[Int.random(in: 0..<bytes.count, using: &random)] ^=
          1
          << UInt8.random(
            in: 0..<8, using: &random)
      }
      _ = await raw.send(bytes)
      let ask = Ask(token: UInt64(1000 + round))
      #expect(await client.ask(ask, at: address).isSuccess)
      #expect(await raw.isCutOff(within: .seconds(6)), "round \(round)")
      await raw.connection.close()
    }
    #expect(service.damaged == 0 && service.running == 0)
    await client.close()
    await server.stop()
    #expect(world.network.connectionCount == 0)
  }
}

@Test("those who connect and say nothing are closed, and do not keep others out")
func slowPeers() throws {
  var limits = ServerLimits()
  limits.unprovenConnectionCount = 20
  try inWorld(Seed(12), limits: limits) { world, driver, service, address, server in
    var silent: [RawPeer] = []
    for index in 0..<50 {
      silent.append(try await RawPeer(address, driver))
      // Some say a little.
      if index % 2 == 0 { _ = await silent[index].send(Array("CR".utf8)) }
    }
    let client = client(driver)
    #expect(await client.ask(Ask(token: 1), at: address).isSuccess)
    await driver.sleep(.seconds(6))
    #expect(server.currentStatistics.openConnections == 1)
    for peer in silent {
      #expect(await peer.isCutOff(within: .milliseconds(10)))
      await peer.connection.close()
    }
    #expect(await client.ask(Ask(token: 2), at: address).isSuccess)
    await client.close()
  }
}

@Test("what is too large is refused at its source")
func oversize() throws {
  try inWorld(Seed(13)) { world, driver, service, address, server in
    let client = client(driver)
    let large = Packet(message: [UInt8](repeating: 0, count: WireLimits.messageByteCount + 1))
    await #expect(throws: WireError.self) {
      _ = try await client.call(address, method: 1, large, deadline: .seconds(1))
    }
    let wide = Packet(body: [
      driver.buffers.slice(WireLimits.bodyByteCount), driver.buffers.slice(1),
    ])
    await #expect(throws: WireError.self) {
      _ = try await client.call(address, method: 1, wide, deadline: .seconds(1))
    }
    var ask = Ask(token: 1)
    ask.answerBody = UInt64(WireLimits.bodyByteCount + 1)
    do throws(WireError) {
      _ = try await client.call(
        address, method: 1, Packet(message: ask.encoded), deadline: .seconds(10))
      Issue.record("answered")
    } catch {
      guard case .refused(code: 3, _) = error else {
        Issue.record("\(error)")
        return
      }
    }
    #expect(service.started == [1])
    await client.close()
  }
}

@Test("a server that is gone is refused at once, and one that is back is reached")
func restart() throws {
  try SimulatedWorld.run(seed: 14) { world in
    let driver = world.process("client")
    let client = client(driver)
    let address = SocketAddress(host: "server", port: 7000)
    var process = world.process("server")
    let begun = driver.now
    #expect(await client.ask(Ask(token: 1), at: address).isUnreachable)
    #expect(driver.now - begun < .milliseconds(2))
    let service = Service(process)
    _ = try await service.start(at: address)
    #expect(await client.ask(Ask(token: 2), at: address).isSuccess)
    process = process.restart()
    await driver.sleep(.milliseconds(5))
    #expect(await client.ask(Ask(token: 3), at: address).isUnreachable)
    _ = try await Service(process).start(at: address)
    // Unasked, within the longest back-off.
    await driver.sleep(.milliseconds(1100))
    #expect(client.currentStatistics.openConnections == 1)
    #expect(await client.ask(Ask(token: 4), at: address).isSuccess)
    await client.close()
    #expect(await client.ask(Ask(token: 5), at: address).isUnreachable)
  }
}

@Test("callers share one attempt to connect")
func sharedAttempt() throws {
  try inWorld(Seed(15)) { world, driver, service, address, server in
    let client = client(driver)
    await withTaskGroup(of: Void.self) { group in
      for token in 0..<50 {
        group.addTask {
          #expect(await client.ask(Ask(token: UInt64(token)), at: address).isSuccess)
        }
      }
    }
    #expect(service.connections.count == 1)
    await client.close()
  }
}

@Test("an idle connection stays, for a few operations a minute")
func idle() throws {
  try inWorld(Seed(16)) { world, driver, service, address, server in
    let client = client(driver)
    _ = await client.ask(Ask(token: 1), at: address)
    let before = world.operationTotal
    await driver.sleep(.seconds(600))
    #expect(world.operationTotal - before < 1000)
    _ = await client.ask(Ask(token: 2), at: address)
    #expect(service.connections.count == 1)
    await client.close()
  }
}

@Test("a peer that has vanished is noticed within half a minute, on both ends")
func halfOpen() throws {
  try inWorld(Seed(17)) { world, driver, service, address, server in
    let client = client(driver)
    var slow = Ask(token: 1)
    slow.delay = 3_600_000_000
    let ask = slow
    let outcomes = Outcomes()
    let caller = driver.spawn("caller") {
      outcomes.set(1, await client.ask(ask, at: address, deadline: .seconds(3600)))
    }
    await driver.sleep(.seconds(100))
    #expect(service.running == 1 && outcomes.get(1) == nil)
    world.network.cut("client", "server")
    await driver.sleep(.seconds(31))
    #expect(outcomes.get(1)?.isDisconnected == true)
    #expect(service.running == 0)
    #expect(server.currentStatistics.openConnections == 0)
    await caller.wait()
    world.network.healAll()
    #expect(await client.ask(Ask(token: 2), at: address).isSuccess)
    await client.close()
  }
}

@Test("connections that nobody uses wait without tasks, and are there when they are needed")
func withoutTasks() throws {
  try inWorld(Seed(18)) { world, driver, service, address, server in
    let clients = (0..<100).map { _ in client(driver) }
    func tasks() -> [String] {
      world.livingProcesses.flatMap(\.taskNames).filter { $0 == "wire read" || $0 == "wire send" }
    }
    for round in 0..<3 {
      for client in clients {
        #expect(await client.ask(Ask(token: UInt64(round)), at: address).isSuccess)
      }
      // One call does not make it worth while to keep them.
      await driver.sleep(.milliseconds(10))
      #expect(tasks().isEmpty)
      for client in clients {
        for _ in 0..<4 {
          #expect(await client.ask(Ask(token: UInt64(round)), at: address).isSuccess)
        }
      }
      #expect(tasks().count >= 200)
      // Long enough for many signs of life.
      await driver.sleep(.seconds(122))
      #expect(tasks().isEmpty)
      #expect(server.currentStatistics.openConnections == 100)
    }
    #expect(service.connections.count == 100)
    for client in clients { await client.close() }
  }
}

@Test("a server that stops answers what it has taken up", arguments: Seed.several)
func graceful(seed: Seed) throws {
  try inWorld(seed) { world, driver, service, address, server in
    let client = client(driver)
    _ = await client.ask(Ask(token: 1000), at: address)
    let outcomes = Outcomes()
    let calls = driver.spawn("calls") {
      await withTaskGroup(of: Void.self) { group in
        for token in 0..<100 {
          group.addTask {
            await driver.sleep(.milliseconds(token))
            var ask = Ask(token: UInt64(token))
            ask.delay = 30_000
            ask.answerBody = 10_000
            outcomes.set(token, await client.ask(ask, at: address))
          }
        }
      }
    }
    await driver.sleep(.milliseconds(50))
    await server.stop()
    await calls.wait()
    for token in 0..<100 {
      let result = try #require(outcomes.get(token))
      #expect(result.isSuccess == service.started.contains(UInt64(token)))
      #expect(result.isSuccess || result.isUnreachable, "\(token): \(result.error!)")
    }
    #expect(service.started.count > 20 && service.started.count < 90)
    #expect(service.cancelled.isEmpty)
    await client.close()
    #expect(world.network.connectionCount == 0)
  }
}

@Test("a server that stops waits no longer than its grace")
func impatient() throws {
  var limits = ServerLimits()
  limits.grace = .seconds(1)
  try inWorld(Seed(18), limits: limits) { world, driver, service, address, server in
    let client = client(driver)
    var slow = Ask(token: 1)
    slow.delay = 3_600_000_000
    let ask = slow
    let outcomes = Outcomes()
    let caller = driver.spawn("caller") {
      outcomes.set(1, await client.ask(ask, at: address, deadline: .seconds(3600)))
    }
    await driver.sleep(.milliseconds(100))
    let begun = driver.now
    await server.stop()
    #expect(driver.now - begun < .milliseconds(1100))
    await caller.wait()
    #expect(outcomes.get(1)?.isDisconnected == true)
    await client.close()
  }
}

@Test("the same seed gives the same run", arguments: Seed.several)
func deterministic(seed: Seed) throws {
  func hash() throws -> UInt64 {
    try inWorld(seed) { world, driver, service, address, server in
      var random = seed.generator
      let client = client(driver, connections: 2)
      await withTaskGroup(of: Void.self) { group in
        for token in 0..<60 {
          let (ask, body) = randomAsk(UInt64(token), &random)
          let limit = Duration.milliseconds(Int64.random(in: 1..<40, using: &random))
          group.addTask {
            _ = await client.ask(ask, body: min(body, 300_000), at: address, deadline: limit)
          }
        }
      }
      world.network.resetConnections("client", "server")
      await driver.sleep(.seconds(2))
      await client.close()
      return world.eventHash
    }
  }
  #expect(try hash() == hash())
}
