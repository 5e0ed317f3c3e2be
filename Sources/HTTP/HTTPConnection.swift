import Ring
import Wire

/// One connection of a server. It waits without a task; each time something comes, a task serves until nothing more is
/// there. Loop-confined.
final class HTTPConnection: ArrivalOwner, @unchecked Sendable {
  // Loop-confined.
  private enum Phase { case resting, head, busy }

  private unowned let server: HTTPServer
  private let driver: any Driver
  private let connection: Connection
  private let stream: ProgressStream
  private let reader: HTTPReader
  private lazy var arrival = Arrival(at: connection)
  private var phase = Phase.resting
  /// When the phase began, or when bytes moved last.
  private var since: Duration
  private var isEnded = false
  /// Among the server's connections.
  var place = 0

  init(server: HTTPServer, connection: Connection, stream: any ByteStream) {
    self.server = server
    self.connection = connection
    driver = server.driver
    self.stream = ProgressStream(stream, driver)
    reader = HTTPReader(self.stream, limits: server.limits.head)
    since = server.driver.now
  }

  var isResting: Bool { phase == .resting }

  /// Waits for the next request.
  func rest() {
    phase = .resting
    since = driver.now
    stream.rest()
    arrival.wait(for: self)
  }

  func arrived(_ event: Arrival.Event) {
    switch event {
    case .bytes(let slice) where slice.count > 0: stream.give(slice)
    case .something: break
    case .bytes, .failure:
      driver.spawn("http close") { [self] in await close() }
      return
    }
    begin(.head)
    driver.spawn("http requests") { [self] in await serve() }
  }

  private func begin(_ phase: Phase) {
    self.phase = phase
    since = driver.now
    stream.lastProgress = since
  }

  /// Ends what has waited too long.
  func check(_ now: Duration) {
    let isLate =
      switch phase {
      case .resting: now - since > server.limits.idleDeadline
      case .head: now - since > server.limits.headDeadline
      case .busy: stream.isMoving && now - stream.lastProgress > server.limits.stallDeadline
      }
    if isLate { end() }
  }

  /// Whoever waits on the connection finds its end.
  func end() {
    guard !isEnded else { return }
    isEnded = true
    driver.spawn("http end") { [connection] in await connection.shutdown() }
  }

  private func close() async {
    // A shutdown that is under way must not meet another connection under this number.
    isEnded = true
    server.ended(self)
    await connection.close()
  }

  private func serve() async {
    while true {
      do throws(HTTPError) {
        guard let head = try await reader.requestHead() else { break }
        guard try await answer(head) else { break }
      } catch {
        if case .malformed(let reason) = error { await refuse(reason) }
        break
      }
      if server.isStopping { break }
      if !reader.hasMore && !stream.isHolding { return rest() }
      begin(.head)
    }
    await close()
  }

  /// - Returns: whether another request may follow.
  private func answer(_ head: HTTPRequestHead) async throws(HTTPError) -> Bool {
    server.counted()
    begin(.busy)
    let framing = try HTTPBodyFraming(request: head)
    guard head.target.utf8.first == UInt8(ascii: "/") else {
      throw .malformed("a target that is no path")
    }
    let hosts = head.fields.values("Host")
    guard hosts.count == 1 || (hosts.isEmpty && head.minorVersion == 0) else {
      throw .malformed("not one Host")
    }
    let mayKeep =
      head.minorVersion == 1
      ? !head.fields.list("Connection", has: "close")
      : head.fields.list("Connection", has: "keep-alive")
    var invite: (@Sendable () async throws(HTTPError) -> Void)?
    let expectations = head.fields.values("Expect")
    if !expectations.isEmpty {
      guard expectations.count == 1, expectations[0].lowercased() == "100-continue" else {
        return try await refuse(417, "an expectation that cannot be met")
      }
      if head.minorVersion == 1 && !reader.hasMore {
        invite = { [stream, driver] () async throws(HTTPError) in
          do throws(WireError) {
            try await stream.send([
              Slice(copying: Array("HTTP/1.1 100 Continue\r\n\r\n".utf8), pool: driver.buffers)
            ])
          } catch {
            throw HTTPError(error)
          }
        }
      }
    }
    let exchange = HTTPExchange(
      head: head, body: HTTPRequestBody(reader, framing, invite: invite), peer: connection.peer,
      driver: driver, stream: stream, keepsConnection: mayKeep && !server.isStopping)
    await server.handler.answer(exchange)
    guard await exchange.finish() else { return false }
    if exchange.keepsConnection,
      await exchange.body.discard(limit: server.limits.discardByteCount, pool: driver.buffers)
    {
      return true
    }
    if !exchange.body.isDone { await linger(exchange.body.isUninvited) }
    return false
  }

  private func refuse(_ reason: String) async {
    do throws(HTTPError) {
      _ = try await refuse(400, reason)
      await linger(false)
    } catch {
      // It is gone.
    }
  }

  private func refuse(_ status: Int, _ reason: String) async throws(HTTPError) -> Bool {
    var (fields, body) = server.handler.refusal(status: status, reason: reason)
    fields.add("Content-Length", String(body.count))
    fields.add("Connection", "close")
    let head = HTTPResponseHead(
      status: status, reason: status == 417 ? "Expectation Failed" : "Bad Request", fields: fields)
    do throws(WireError) {
      try await stream.send([Slice(copying: head.encoded + body, pool: driver.buffers)])
    } catch {
      throw HTTPError(error)
    }
    return false
  }

  /// Reads over what still comes, for a while: closing with bytes unread would reset the connection, and the peer might
  /// never see our answer.
  private func linger(_ isBrief: Bool) async {
    let end = driver.now + (isBrief ? .milliseconds(200) : .seconds(2))
    let piece = driver.buffers.slice(16 << 10)
    var left = 64 << 20
    while left > 0, driver.now < end {
      let count = await driver.withDeadline(end - driver.now) { [reader] () async -> Int in
        do throws(HTTPError) { return try await reader.read(into: piece) } catch { return 0 }
      }
      guard let count, count > 0 else { break }
      left -= count
    }
  }
}

/// Remembers when bytes moved last. Loop-confined.
private final class ProgressStream: ByteStream, @unchecked Sendable {
  // Loop-confined.
  private let stream: any ByteStream
  private let driver: any Driver
  var lastProgress = Duration.zero
  /// Somebody waits for the peer now.
  private var waiting = 0
  var isMoving: Bool { waiting > 0 }

  init(_ stream: any ByteStream, _ driver: any Driver) {
    self.stream = stream
    self.driver = driver
  }

  private func begin() {
    waiting += 1
    lastProgress = driver.now
  }
  private func end() {
    waiting -= 1
    lastProgress = driver.now
  }

  func receive(into slice: Slice, waitForAll: Bool) async throws(WireError) -> Int {
    begin()
    defer { end() }
    return try await stream.receive(into: slice, waitForAll: waitForAll)
  }
  func receive() async throws(WireError) -> Slice {
    begin()
    defer { end() }
    return try await stream.receive()
  }
  func send(_ slices: [Slice]) async throws(WireError) {
    begin()
    defer { end() }
    try await stream.send(slices)
  }
  func give(_ slice: Slice) { stream.give(slice) }
  var isHolding: Bool { stream.isHolding }
  func rest() { stream.rest() }
  var transportCode: UInt8 { stream.transportCode }
}
