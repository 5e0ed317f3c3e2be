import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import HTTP

/// Answers with the body it got, behind the method and target.
final class Echo: HTTPHandler, @unchecked Sendable {
  // Loop-confined.
  private(set) var targets: [String] = []
  var readsBody = true
  /// Whether a body that cannot be read is answered, and not just left.
  var answersErrors = false
  func answer(_ exchange: HTTPExchange) async {
    targets.append(exchange.head.target)
    do {
      var bytes = Array("\(exchange.head.method) \(exchange.head.target) ".utf8)
      if readsBody {
        bytes += try await exchange.body.all(limit: 1 << 20, pool: exchange.driver.buffers)
      }
      try await exchange.answer(200, HTTPFields(), bytes)
    } catch {
      if answersErrors { try? await exchange.answer(400, HTTPFields(), Array("bad".utf8)) }
    }
  }
  func refusal(status: Int, reason: String) -> (fields: HTTPFields, body: [UInt8]) {
    (HTTPFields(), Array(reason.utf8))
  }
}

@Suite("The HTTP server")
struct HTTPServerTests {
  /// Sends `bytes` in pieces of any size and gives all that comes back until the end.
  static func talk(
    _ world: SimulatedWorld, _ bytes: [UInt8], random: inout some RandomNumberGenerator
  )
    async throws -> String
  {
    let process = world.process("client")
    let connection = try await Connection.connect(
      to: SocketAddress(host: "server", port: 80), on: process)
    var rest = bytes[...]
    while !rest.isEmpty {
      let piece = rest.prefix(Int.random(in: 1...60, using: &random))
      rest = rest.dropFirst(piece.count)
      do {
        try await connection.send([Slice(copying: Array(piece), pool: process.buffers)])
      } catch { break }
    }
    var answer: [UInt8] = []
    let slice = process.buffers.slice(4096)
    while let count = await process.withDeadline(
      .seconds(5),
      {
        (try? await connection.receive(into: slice)) ?? 0
      }), count > 0
    {
      answer += slice[0..<count].array
    }
    await connection.close()
    return String(decoding: answer, as: UTF8.self)
  }
  static func start(_ world: SimulatedWorld, _ handler: Echo) async throws -> HTTPServer {
    let server = HTTPServer(driver: world.process("server"), handler: handler)
    _ = try await server.start(on: SocketAddress(host: "server", port: 80))
    return server
  }

  @Test(
    "requests sent at once are answered in order, each with its own body", arguments: Seed.several)
  func pipelined(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let handler = Echo()
      let server = try await Self.start(world, handler)
      var random = seed.generator
      let answer = try await Self.talk(
        world,
        Array(
          """
          GET /1 HTTP/1.1\r\nHost: h\r\n\r\nPUT /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello\
          PUT /3 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n3\r\ncde\r\n0\r\nx-t: 1\r\n\r\n\
          HEAD /4 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n
          """.utf8), random: &random)
      #expect(handler.targets == ["/1", "/2", "/3", "/4"])
      let places = ["GET /1 ", "PUT /2 hello", "PUT /3 abcde"].map {
        answer.firstRange(of: $0)?.lowerBound
      }
      #expect(places.allSatisfy { $0 != nil })
      #expect(places.compactMap { $0 } == places.compactMap { $0 }.sorted())
      #expect(!answer.contains("HEAD /4"))
      #expect(answer.contains("Connection: close"))
      await server.stop()
      #expect(server.connectionCount == 0)
    }
  }

  /// What two parsers could understand in two ways. Each is refused, and what comes behind it is never looked at.
  static let smuggling: [String] = [
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4, 4\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: +4\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0x4\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length : 4\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\n Content-Length: 4\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nX: 1\r\n\tContent-Length: 4\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \u{B}chunked\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nX: a\nContent-Length: 4\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nX: a\rContent-Length: 4\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nX: a\u{0}b\r\n\r\n", "POST /a HTTP/1.1\r\nHost h\r\n\r\n",
    "POST /a HTTP/1.1\r\n\r\n", "POST /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "POST  /a HTTP/1.1\r\nHost: h\r\n\r\n", "POST /a b HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST http://other/a HTTP/1.1\r\nHost: h\r\n\r\n", "POST /a HTTP/2.0\r\nHost: h\r\n\r\n",
    "POST /a\r\n\r\n", "\r\n\r\nPOST /a HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc",
  ]

  /// The same with more spellings, by what they play with.
  static let spellings: [String] = [
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4 4\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4;\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4.0\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4e0\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: \u{664}\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551620\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\ncontent-length: 0\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: \"4\"\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\u{0}\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\n\u{0}Content-Length: 4\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length\u{0}: 4\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length\t: 4\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\n\"Content-Length\": 4\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n 0\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\nContent-Length: 4\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \r\nContent-Length: 4\r\n\r\nabcd",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\u{A0}\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \u{212A}\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\nHost: h\n\n",
    "POST /a HTTP/1.1\rHost: h\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\n\n",
    "POST /a HTTP/1.1\r\nHost: h\n\r\n",
    "POST /a HTTP/1.1\r\n\u{85}Host: h\r\n\r\n",
    "POST\t/a\tHTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /a\u{B}HTTP/1.1\r\nHost: h\r\n\r\n",
    " POST /a HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /a HTTP/1.1\t\r\nHost: h\r\n\r\n",
    "POST /a http/1.1\r\nHost: h\r\n\r\n",
    "POST /a HTTP/1.10\r\nHost: h\r\n\r\n",
    "POST /a HTTP/01.1\r\nHost: h\r\n\r\n",
    "POST /a HTTP/1.2\r\nHost: h\r\n\r\n",
    "POST /a\u{0} HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /\u{E9} HTTP/1.1\r\nHost: h\r\n\r\n",
    "PO\u{0}ST /a HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST * HTTP/1.1\r\nHost: h\r\n\r\n",
    "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST //other HTTP/1.1\r\n host: h\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nX\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nX(: 1\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nX: \u{7F}\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a, b\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nExpect: 200-ok\r\nContent-Length: 0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"\n\"\r\nabc\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabc\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3 3\r\nabc\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3_0\r\nabc\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\u{0}\r\nabc\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nabc\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n\r\nabc0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n X: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX : a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\rb\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\u{663}\r\nabc\r\n0\r\n\r\n",
  ]

  @Test(
    "a request that two parsers could read differently is refused, and the connection ends",
    arguments: smuggling + spellings)
  func refused(text: String) throws {
    try SimulatedWorld.run(seed: 1) { world in
      let handler = Echo()
      let server = try await Self.start(world, handler)
      var random = Seed(1).generator
      let answer = try await Self.talk(
        world, Array((text + "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n").utf8), random: &random)
      #expect(!answer.contains("200 OK"))
      #expect(!handler.targets.contains("/smuggled"))
      await server.stop()
    }
  }

  @Test(
    "a body whose framing is wrong ends the connection, though its request is answered",
    arguments: ["ZZ", " 3", "00000000000000003"])
  func wrongFraming(size: String) throws {
    try SimulatedWorld.run(seed: 1) { world in
      let handler = Echo()
      handler.answersErrors = true
      let server = try await Self.start(world, handler)
      var random = Seed(1).generator
      let answer = try await Self.talk(
        world,
        Array(
          ("PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + size
            + "\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n").utf8), random: &random)
      #expect(answer.hasPrefix("HTTP/1.1 400"))
      #expect(answer.contains("Connection: close"))
      #expect(handler.targets == ["/a"])
      await server.stop()
    }
  }

  @Test("who asks whether to send is told when the body is wanted, and not when it is not")
  func expectation() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let handler = Echo()
      let server = try await Self.start(world, handler)
      for reads in [true, false] {
        handler.readsBody = reads
        let process = world.process("client \(reads)")
        let connection = try await Connection.connect(
          to: SocketAddress(host: "server", port: 80), on: process)
        try await connection.send([
          Slice(
            copying: Array(
              "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n".utf8
            ))
        ])
        let slice = process.buffers.slice(4096)
        let count = try await connection.receive(into: slice)
        let first = String(decoding: slice[0..<count].array, as: UTF8.self)
        if reads {
          #expect(first == "HTTP/1.1 100 Continue\r\n\r\n")
          try await connection.send([Slice(copying: Array("abc".utf8))])
          var answer = ""
          while !answer.hasSuffix("PUT /a abc") {
            let count = try await connection.receive(into: slice)
            guard count > 0 else { break }
            answer += String(decoding: slice[0..<count].array, as: UTF8.self)
          }
          #expect(answer.hasSuffix("PUT /a abc"))
        } else {
          var answer = first
          while true {
            let count = (try? await connection.receive(into: slice)) ?? 0
            guard count > 0 else { break }
            answer += String(decoding: slice[0..<count].array, as: UTF8.self)
          }
          #expect(answer.hasPrefix("HTTP/1.1 200"))
          #expect(answer.contains("Connection: close"))
        }
        await connection.close()
      }
      await server.stop()
    }
  }

  @Test("who asks is told also when the body has no bytes, and the connection goes on")
  func emptyExpectation() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let handler = Echo()
      let server = try await Self.start(world, handler)
      let process = world.process("client")
      let connection = try await Connection.connect(
        to: SocketAddress(host: "server", port: 80), on: process)
      let slice = process.buffers.slice(4096)
      for turn in 0..<2 {
        try await connection.send([
          Slice(
            copying: Array(
              "PUT /\(turn) HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n"
                .utf8))
        ])
        var answer = ""
        while !answer.contains("PUT /\(turn) ") {
          let count = try await connection.receive(into: slice)
          guard count > 0 else { break }
          answer += String(decoding: slice[0..<count].array, as: UTF8.self)
        }
        #expect(answer.hasPrefix("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"))
        #expect(!answer.contains("Connection: close"))
      }
      await connection.close()
      await server.stop()
    }
  }

  @Test("who says nothing, or half a head, or half a body, is ended; nobody else is")
  func deadlines() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let handler = Echo()
      let server = try await Self.start(world, handler)
      for (number, text) in [
        "", "GET /a HT", "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc",
      ]
      .enumerated() {
        let process = world.process("slow \(number)")
        let connection = try await Connection.connect(
          to: SocketAddress(host: "server", port: 80), on: process)
        if !text.isEmpty { try await connection.send([Slice(copying: Array(text.utf8))]) }
        let begun = world.now
        let slice = process.buffers.slice(4096)
        let count = (try? await connection.receive(into: slice)) ?? 0
        #expect(count == 0)
        #expect(world.now - begun > .seconds(15))
        #expect(world.now - begun < .seconds(95))
        await connection.close()
      }
      #expect(server.connectionCount == 0)
      await server.stop()
    }
  }
}
