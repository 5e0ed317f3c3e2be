import Ring
import TestSupport
import Testing

@testable import Wire

/// The same on the kernel's sockets, where TLS is real and time is not ours.
private func onLoop<Value: Sendable>(
  _ security: TransportSecurity, limits: ServerLimits = .init(),
  _ body: @escaping @Sendable (any Driver, Service, SocketAddress, WireServer) async throws -> Value
) throws -> Value {
  let outcome = try EventLoop.run { driver -> Result<Value, any Error> in
    do {
      let service = Service(driver)
      let (server, address) = try await service.start(
        at: SocketAddress(host: "127.0.0.1", port: 0), security: security, limits: limits)
      let value = try await body(driver, service, address, server)
      await server.stop()
      return .success(value)
    } catch {
      return .failure(error)
    }
  }
  return try outcome.get()
}

private func client(
  _ driver: any Driver, _ security: TransportSecurity, key: ClusterKey = key, connections: Int = 1
) -> WireClient {
  WireClient(
    driver: driver, key: key, name: "client", security: security,
    connectionsPerAddress: connections)
}

@Test(
  "on real sockets any mix of calls gets exactly its own answers",
  arguments: [TransportSecurity.automatic, .always, .never], Seed.several.prefix(2))
func realAnswers(security: TransportSecurity, seed: Seed) throws {
  try onLoop(security) { driver, service, address, server in
    var random = seed.generator
    let client = client(driver, security, connections: 2)
    await withTaskGroup(of: Void.self) { group in
      for token in 0..<40 {
        func size() -> Int {
          let sizes = [
            0, 1, 4096, 16_384, 100_000, token == 7 ? WireLimits.bodyByteCount : 300_000,
          ]
          return sizes.randomElement(using: &random)!
        }
        var ask = Ask(token: UInt64(token))
        ask.delay = UInt64.random(in: 0..<3000, using: &random)
        ask.answerMessage = UInt64(size())
        ask.answerBody = UInt64(size())
        let body = size()
        let request = ask
        group.addTask {
          let result = await client.ask(request, body: body, at: address)
          #expect(result.isSuccess, "\(String(describing: result.error))")
        }
      }
    }
    #expect(service.started.count == 40 && service.damaged == 0)
    await client.close()
  }
}

@Test(
  "on real sockets another cluster's key is told at once",
  arguments: [TransportSecurity.always, .never])
func realWrongKey(security: TransportSecurity) throws {
  try onLoop(security) { driver, service, address, server in
    let stranger = client(driver, security, key: otherKey)
    let result = await stranger.ask(Ask(token: 1), at: address)
    #expect(result.error == .wrongKey)
    #expect(service.started.isEmpty)
    await stranger.close()
  }
}

@Test("a server that demands TLS takes no plain frames, not even from its own machine")
func demandsTLS() throws {
  try onLoop(.always) { driver, service, address, server in
    let plain = client(driver, .automatic)
    #expect(await plain.ask(Ask(token: 1), at: address).isUnreachable)
    let encrypted = client(driver, .always)
    #expect(await encrypted.ask(Ask(token: 2), at: address).isSuccess)
    #expect(service.started == [2])
    await plain.close()
    await encrypted.close()
  }
}

@Test("a closed port is unreachable")
func closedPort() throws {
  try onLoop(.automatic) { driver, service, address, server in
    await server.stop()
    let client = client(driver, .automatic)
    #expect(await client.ask(Ask(token: 1), at: address).isUnreachable)
    await client.close()
  }
}

@Test("garbage on a TLS connection costs only that connection", arguments: Seed.several)
func garbageInTLS(seed: Seed) throws {
  try onLoop(.always) { driver, service, address, server in
    var random = seed.generator
    let friend = client(driver, .always)
    for round in 0..<12 {
      let raw = try await RawPeer(address, driver)
      let tls = TLSStream(
        raw.reader.stream,
        context: TLSContext(
          key: (round % 2 == 0 ? key : otherKey).subkey("wire tls"), isServer: false),
        pool: driver.buffers)
      if round % 2 == 0 {
        try await tls.handshake()
        if round % 4 == 0 {
          // Bytes in the clear where a record is due.
          _ = await raw.send(random.bytes(500))
        } else {
          try await tls.send([Slice(copying: random.bytes(500))])
        }
      } else {
        await #expect(throws: WireError.wrongKey) { try await tls.handshake() }
      }
      #expect(await raw.isCutOff(within: .seconds(4)))
      await raw.connection.close()
      #expect(await friend.ask(Ask(token: UInt64(round)), at: address).isSuccess)
    }
    await friend.close()
  }
}

@Test("a connection changes its keys now and then without anybody noticing")
func rekey() throws {
  try onLoop(.always) { driver, service, address, server in
    let raw = try await RawPeer(address, driver)
    let tls = TLSStream(
      raw.reader.stream, context: TLSContext(key: key.subkey("wire tls"), isServer: false),
      pool: driver.buffers)
    tls.rekeyAfter = 50_000
    try await tls.handshake()
    raw.reader.stream = tls
    try await raw.shakeHands()
    for id in 1...20 {
      let body = Slice(copying: pattern(UInt64(id), 40_000))
      let request = Packet(message: Ask(token: UInt64(id)).encoded, body: [body])
      try await tls.send([Slice(copying: raw.request(id: UInt64(id), request))])
      #expect(try await raw.reader.header()?.id == UInt64(id))
    }
    #expect(service.started.count == 20 && service.damaged == 0)
    await raw.connection.close()
  }
}

@Test("several hundred idle connections take little memory")
func manyIdle() throws {
  try onLoop(.never) { driver, service, address, server in
    let clients = (0..<300).map { _ in client(driver, .never) }
    for (index, client) in clients.enumerated() {
      #expect(await client.ask(Ask(token: UInt64(index)), at: address).isSuccess)
    }
    #expect(server.currentStatistics.openConnections == 300)
    for client in clients { await client.close() }
  }
}
