import Ring
import Simulation
import TestSupport
import Testing

@testable import Wire

/// A server written by hand: proves the key, reads one request, and does what the test says.
private func withBadServer(
  seed: UInt64, _ misbehave: @escaping @Sendable (BadServer) async throws -> Void,
  _ body: @escaping @Sendable (WireClient, SocketAddress) async throws -> Void
) throws {
  try SimulatedWorld.run(seed: seed) { world in
    let process = world.process("server")
    let listener = try await Listener.listen(
      on: SocketAddress(host: "server", port: 7000), driver: process)
    process.spawn("bad server") {
      while let connection = try? await listener.accept() {
        let reader = FrameReader(PlainStream(connection), pool: process.buffers)
        let greeting = Greeting(name: "bad", requestLimit: 100, bodyLimit: 1 << 30)
        if let agreement = try? await Handshake.server(
          reader, greeting: greeting, versions: 1...1, proofKey: Handshake.proofKey(key),
          refuse: nil, driver: process)
        {
          reader.version = UInt8(agreement.version)
          if let header = try? await reader.header(),
            let packet = try? await reader.content(of: header)
          {
            try? await misbehave(BadServer(connection: connection, header: header, packet: packet))
          }
        }
        await connection.shutdown()
        await connection.close()
      }
    }
    let client = WireClient(
      driver: world.process("client"), key: key, name: "client", security: .never)
    try await body(client, listener.address)
    await client.close()
  }
}

private struct BadServer: Sendable {
  let connection: Connection
  let header: FrameHeader
  let packet: Packet

  /// The right answer to the request, with the header changed before its checksum is made.
  func answer(_ change: (inout FrameHeader) -> Void = { _ in }) -> [UInt8] {
    let ask = try! Ask(decoding: packet.message)
    let message = pattern(ask.token ^ 1, Int(ask.answerMessage))
    var answer = FrameHeader(version: header.version, kind: .response)
    answer.id = header.id
    answer.messageByteCount = message.count
    answer.contentChecksum = checksum(message)
    change(&answer)
    return answer.bytes + message
  }

  func send(_ bytes: [UInt8]) async throws { try await connection.send([Slice(copying: bytes)]) }
}

private let ask: Ask = {
  var ask = Ask(token: 5)
  ask.answerMessage = 500
  return ask
}()

@Test("an answer with any byte changed is never taken for an answer", arguments: Seed.several)
func changedAnswer(seed: Seed) throws {
  var random = seed.generator
  for _ in 0..<20 {
    let place = random.next()
    try withBadServer(seed: seed.value) { server in
      var bytes = server.answer()
      bytes[Int(place % UInt64(bytes.count))] ^= UInt8(1 << (place >> 60 & 7))
      try await server.send(bytes)
      await server.connection.driver.sleep(.seconds(1))
    } _: { client, address in
      let result = await client.ask(ask, at: address, deadline: .seconds(10))
      #expect(result.isMalformed, "\(result)")
    }
  }
}

@Test(
  "an answer that breaks the protocol ends the connection",
  arguments: [
    { $0.id = 77 }, { $0.id = 0 }, { $0.version = 2 },
    { $0.messageByteCount = WireLimits.messageByteCount + 1 }, { $0.contentChecksum ^= 1 },
  ] as [@Sendable (inout FrameHeader) -> Void])
func badAnswer(change: @escaping @Sendable (inout FrameHeader) -> Void) throws {
  try withBadServer(seed: 1) { server in
    try await server.send(server.answer(change))
    await server.connection.driver.sleep(.seconds(1))
  } _: { client, address in
    let result = await client.ask(ask, at: address, deadline: .seconds(10))
    #expect(result.isMalformed, "\(result)")
  }
}

@Test("a second answer to the same request ends the connection, after the first has counted")
func twice() throws {
  try withBadServer(seed: 2) { server in
    try await server.send(server.answer() + server.answer())
    await server.connection.driver.sleep(.seconds(1))
  } _: { client, address in
    #expect(await client.ask(ask, at: address).isSuccess)
    await client.driver.sleep(.milliseconds(5))
    #expect(client.currentStatistics.openConnections == 0)
  }
}

@Test("an answer cut short is no answer, wherever it is cut", arguments: Seed.several)
func cutShort(seed: Seed) throws {
  var random = seed.generator
  for _ in 0..<10 {
    let place = random.next()
    try withBadServer(seed: seed.value) { server in
      let bytes = server.answer()
      try await server.send(Array(bytes[..<Int(place % UInt64(bytes.count))]))
    } _: { client, address in
      let result = await client.ask(ask, at: address, deadline: .seconds(10))
      #expect(result.isDisconnected, "\(result)")
    }
  }
}

@Test("a server that goes away before it took a request up leaves it to be sent again")
func goingAway() throws {
  let requests = Requests()
  try withBadServer(seed: 3) { server in
    requests.count += 1
    if requests.count == 1 {
      var header = FrameHeader(version: server.header.version, kind: .goingAway)
      header.id = server.header.id - 1
      try await server.send(header.bytes)
    } else {
      try await server.send(server.answer())
    }
    await server.connection.driver.sleep(.seconds(1))
  } _: { client, address in
    let result = await client.ask(ask, at: address, deadline: .seconds(10))
    #expect(result.isSuccess, "\(result)")
  }
  #expect(requests.count == 2)
}

private final class Requests: @unchecked Sendable {
  // Loop-confined.
  var count = 0
}

@Test("a peer that says nothing in the handshake is given up in time")
func mute() throws {
  try SimulatedWorld.run(seed: 4) { world in
    let process = world.process("server")
    let listener = try await Listener.listen(
      on: SocketAddress(host: "server", port: 7000), driver: process)
    process.spawn("mute") { while (try? await listener.accept()) != nil {} }
    let driver = world.process("client")
    for security in [TransportSecurity.never, .always] {
      let client = WireClient(driver: driver, key: key, name: "client", security: security)
      let begun = driver.now
      #expect(await client.ask(ask, at: listener.address).isUnreachable)
      #expect(driver.now - begun < .milliseconds(5100))
      await client.close()
    }
  }
}
