import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import HTTP

/// A server that answers as its body of code says, in pieces of any size.
final class Server: @unchecked Sendable {
  // Loop-confined.
  let process: SimulatedProcess
  private(set) var requests = 0
  /// Nil closes the connection without an answer.
  var answer: @Sendable (HTTPRequestHead, [UInt8]) -> [UInt8]? = { _, body in
    HTTPResponseHead(
      status: 200, reason: "OK",
      fields: HTTPFields([.init("Content-Length", String(body.count))])
    ).encoded + body
  }
  var delay = Duration.zero
  /// Sends each answer in one piece.
  var isWhole = false
  /// Closes each connection after so many answers.
  var answersPerConnection = Int.max

  init(_ world: SimulatedWorld) { process = world.process("server") }

  func start() async throws {
    let listener = try await Listener.listen(
      on: SocketAddress(host: "server", port: 80), driver: process)
    process.spawn("accept") { [self] in
      while let connection = try? await listener.accept() {
        process.spawn("serve") { [self] in await serve(connection) }
      }
    }
  }

  private func serve(_ connection: Connection) async {
    let stream = PlainStream(connection)
    let reader = HTTPReader(stream)
    do {
      for _ in 0..<answersPerConnection {
        guard let head = try await reader.requestHead() else { break }
        let body = try await reader.body(HTTPBodyFraming(request: head), limit: 1 << 20)
        requests += 1
        if delay > .zero { await process.sleep(delay) }
        guard let bytes = answer(head, body) else { break }
        var rest = bytes[...]
        while !rest.isEmpty {
          let piece = isWhole ? rest : rest.prefix(Int(process.random() % 50) + 1)
          rest = rest.dropFirst(piece.count)
          try await stream.send([Slice(copying: Array(piece), pool: process.buffers)])
        }
      }
    } catch {}
    await connection.close()
  }
}

@Suite("The HTTP client")
struct HTTPClientTests {
  static func client(_ world: SimulatedWorld) -> HTTPClient {
    HTTPClient(
      driver: world.process("client"), endpoint: HTTPEndpoint("http://server:80")!, trust: nil)
  }
  static func post(_ body: [UInt8], isRepeatable: Bool = true) -> HTTPRequest {
    HTTPRequest("POST", "/echo", body: body, isRepeatable: isRepeatable)
  }

  @Test("answers come back whole, many at once and one after the other", arguments: Seed.several)
  func echo(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let server = Server(world)
      server.answersPerConnection = 3
      try await server.start()
      let client = Self.client(world)
      var random = seed.generator
      for _ in 0..<20 {
        let bodies = (0..<4).map { _ in random.bytes(Int.random(in: 0...5000, using: &random)) }
        let right = await withTaskGroup(of: Bool.self) { group in
          for body in bodies {
            group.addTask {
              let answer = try? await client.send(Self.post(body), deadline: .seconds(10))
              return answer?.status == 200 && answer?.body == body
            }
          }
          return await group.reduce(true) { $0 && $1 }
        }
        #expect(right)
      }
      await client.close()
    }
  }

  @Test("chunked answers and those that end with the connection")
  func framings() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let server = Server(world)
      server.answer = { head, _ in
        head.target == "/chunked"
          ? Array(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
              .utf8) : Array("HTTP/1.0 404 Not Found\r\n\r\nabc".utf8)
      }
      server.answersPerConnection = 1
      try await server.start()
      let client = Self.client(world)
      for target in ["/chunked", "/closed"] {
        let answer = try await client.send(
          HTTPRequest("GET", target, isRepeatable: true), deadline: .seconds(5))
        #expect(answer.body == Array("abc".utf8))
      }
      await client.close()
    }
  }

  @Test("a deadline ends the wait, and says whether the request may have arrived")
  func deadlines() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let server = Server(world)
      try await server.start()
      let client = Self.client(world)
      server.delay = .seconds(3)
      let began = world.now
      await #expect(throws: HTTPError.lost("no answer in time: http://server:80")) {
        try await client.send(Self.post([1]), deadline: .seconds(1))
      }
      #expect(world.now - began < .milliseconds(1100))
      server.delay = .zero
      #expect(try await client.send(Self.post([2]), deadline: .seconds(1)).body == [2])
      server.answer = { _, _ in nil }
      await #expect(throws: HTTPError.self) {
        try await client.send(Self.post([3]), deadline: .seconds(1))
      }
      server.process.kill()
      let error = await #expect(throws: HTTPError.self) {
        try await client.send(Self.post([4]), deadline: .seconds(1))
      }
      if case .unreachable = error {} else { Issue.record("\(String(describing: error))") }
    }
  }

  @Test("a kept connection that the server closed costs nothing, if the request may be repeated")
  func kept() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let server = Server(world)
      server.answersPerConnection = 1
      try await server.start()
      let client = Self.client(world)
      for count in 1...3 {
        _ = try await client.send(Self.post([1]), deadline: .seconds(1))
        #expect(server.requests == count)
        await world.sleep(.seconds(1))
      }
      let error = await #expect(throws: HTTPError.self) {
        try await client.send(Self.post([1], isRepeatable: false), deadline: .seconds(1))
      }
      if case .lost = error {} else { Issue.record("\(String(describing: error))") }
    }
  }

  @Test("answers that break the protocol or a limit are no answers")
  func malformed() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let server = Server(world)
      server.answersPerConnection = 1
      try await server.start()
      let client = Self.client(world)
      for text in [
        "nonsense\r\n\r\n", "HTTP/1.1 200\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
      ] {
        server.answer = { _, _ in Array(text.utf8) }
        await #expect(throws: HTTPError.self, "\(text)") {
          try await client.send(Self.post([1]), deadline: .seconds(2))
        }
      }
    }
  }

  @Test(
    "what comes behind an answer is not the answer to the next request", arguments: Seed.several)
  func surplus(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let server = Server(world)
      @Sendable func answer(_ body: [UInt8]) -> [UInt8] {
        HTTPResponseHead(
          status: 200, reason: "OK",
          fields: HTTPFields([.init("Content-Length", String(body.count))])
        ).encoded + body
      }
      try await server.start()
      let client = Self.client(world)
      server.answer = { _, body in answer(body) + answer(Array("forged".utf8)) }
      server.isWhole = true
      for count in UInt8(1)...5 {
        let answer = try await client.send(Self.post([count]), deadline: .seconds(1))
        #expect(answer.body == [count])
      }
      #expect(server.requests == 5)
      await client.close()
    }
  }
}
