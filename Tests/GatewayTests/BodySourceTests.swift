import HTTP
import Ring
import Simulation
import TestSupport
import Testing

@testable import Gateway

/// Reads the body it gets as that of an object, and answers with what came of it.
private final class Taker: HTTPHandler, @unchecked Sendable {
  // Loop-confined.
  private let payload: Payload
  private let claims: BodyClaims
  private let room: Int

  init(_ payload: Payload, _ claims: BodyClaims, room: Int) {
    self.payload = payload
    self.claims = claims
    self.room = room
  }
  func answer(_ exchange: HTTPExchange) async {
    let pool = exchange.driver.buffers
    let source = BodySource(exchange.body, claims, payload, pool: pool, lanes: DigestLanes())
    var count = 0
    var status = 200
    do {
      let piece = pool.slice(room)
      while true {
        let found = try await source.read(into: piece)
        if found == 0 { break }
        count += found
        // As a writer does that was told how much comes.
        if let wanted = source.byteCount, count >= wanted { break }
      }
      try await source.check()
    } catch {
      status = 400
    }
    try? await exchange.answer(status, HTTPFields(), Array("\(count)".utf8))
  }
  func refusal(status: Int, reason: String) -> (fields: HTTPFields, body: [UInt8]) {
    (HTTPFields(), Array(reason.utf8))
  }
}

@Suite("the bytes of an object")
struct BodySourceTests {
  private static let signing = PieceSigning(key: [1], previous: "", date: "", scope: "")

  /// - Returns: the first line of the answer.
  private func put(
    _ payload: Payload, claimed: UInt64, _ body: String, room: Int = 4096
  ) throws -> String {
    try SimulatedWorld.run(seed: 1) { world in
      var claims = BodyClaims()
      claims.decodedByteCount = claimed
      let address = SocketAddress(host: "server", port: 80)
      let server = HTTPServer(
        driver: world.process("server"), handler: Taker(payload, claims, room: room))
      _ = try await server.start(on: address)
      let process = world.process("client")
      let connection = try await Connection.connect(to: address, on: process)
      let head = "PUT /b/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
      let framed = "\(String(body.utf8.count, radix: 16))\r\n\(body)\r\n0\r\n\r\n"
      try await connection.send([Slice(copying: Array((head + framed).utf8), pool: process.buffers)]
      )
      let slice = process.buffers.slice(4096)
      let count = try await connection.receive(into: slice)
      let status = String(String(decoding: slice[0..<count].array, as: UTF8.self).prefix(12))
      await connection.close()
      await server.stop()
      return status
    }
  }

  @Test("as many bytes as were declared are taken")
  func whole() throws {
    #expect(try put(.unsigned, claimed: 10, "0123456789") == "HTTP/1.1 200")
    #expect(
      try put(.pieces(signing: nil, hasTrailer: true), claimed: 10, "a\r\n0123456789\r\n0\r\n\r\n")
        == "HTTP/1.1 200")
  }

  @Test(
    "more bytes than were declared are refused, signed or not, however they come",
    arguments: [3, 16, 4096])
  func longer(room: Int) throws {
    let bytes = "01234567890123456789"
    let pieces = "14\r\n\(bytes)\r\n0\r\n\r\n"
    let signed = "14;chunk-signature=00\r\n\(bytes)\r\n0;chunk-signature=00\r\n\r\n"
    #expect(try put(.unsigned, claimed: 10, bytes, room: room) == "HTTP/1.1 400")
    #expect(
      try put(.digest([UInt8](repeating: 0, count: 32)), claimed: 10, bytes, room: room)
        == "HTTP/1.1 400")
    #expect(
      try put(.pieces(signing: nil, hasTrailer: true), claimed: 10, pieces, room: room)
        == "HTTP/1.1 400")
    #expect(
      try put(.pieces(signing: Self.signing, hasTrailer: false), claimed: 10, signed, room: room)
        == "HTTP/1.1 400")
  }
}
