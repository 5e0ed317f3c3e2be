package import Ring
package import Wire

/// What a server answers with.
package protocol HTTPHandler: AnyObject, Sendable {
  /// Answers one request. When it returns without a whole answer the connection ends.
  func answer(_ exchange: HTTPExchange) async
  /// What is said, with `status`, to who sent something that is no request; for people.
  func refusal(status: Int, reason: String) -> (fields: HTTPFields, body: [UInt8])
}

/// What a server lets its peers take up.
package struct HTTPServerLimits: Sendable {
  package var head = HTTPHeadParser.Limits(byteCount: 16 << 10, fieldCount: 128)
  package var connectionCount = 16_384
  /// From a request's first byte to the end of its head.
  package var headDeadline = Duration.seconds(20)
  /// Between two requests.
  package var idleDeadline = Duration.seconds(90)
  /// Without a byte of a body or an answer moving.
  package var stallDeadline = Duration.seconds(60)
  /// Of a body that nobody wanted, read over to keep the connection.
  package var discardByteCount = 256 << 10
  /// How long ``HTTPServer/stop()`` waits for answers under way.
  package var grace = Duration.seconds(10)
  package init() {}
}

/// HTTP/1.1: connections kept, requests of one connection answered in order, bodies streamed both ways.
///
/// A connection that waits for its next request has neither a task nor a buffer. Deadlines are looked at once a second,
/// a share of the connections at a time.
package final class HTTPServer: @unchecked Sendable {
  // Loop-confined.
  let driver: any Driver
  let limits: HTTPServerLimits
  let handler: any HTTPHandler
  private var listener: Listener?
  private var acceptLoop: SpawnedTask?
  private var watch: SpawnedTask?
  private(set) var isStopping = false
  /// In no order that means anything.
  private var connections: [HTTPConnection] = []
  private var cursor = 0
  private let noneLeft = WaitQueue()
  /// Makes a stream of a fresh connection; TLS does its handshake in it.
  private let secure: (@Sendable (Connection) -> any ByteStream)?
  package private(set) var requestCount: UInt64 = 0

  /// - Parameter secure: for TLS; nil for plain connections.
  package init(
    driver: any Driver, limits: HTTPServerLimits = HTTPServerLimits(), handler: any HTTPHandler,
    secure: (@Sendable (Connection) -> any ByteStream)? = nil
  ) {
    self.driver = driver
    self.limits = limits
    self.handler = handler
    self.secure = secure
  }

  package var connectionCount: Int { connections.count }

  /// - Returns: the address with its real port, where `address` says 0.
  package func start(on address: SocketAddress) async throws(RingError) -> SocketAddress {
    precondition(listener == nil)
    let listener = try await Listener.listen(on: address, backlog: 4096, driver: driver)
    self.listener = listener
    acceptLoop = driver.spawn("http accept") { [self] in
      while !isStopping && !Task.isCancelled {
        do throws(RingError) {
          take(try await listener.accept())
        } catch {
          // Too many open files, or a peer that was gone before we looked: neither is the end.
          if isStopping || Task.isCancelled { break }
          guard await driver.sleep(.milliseconds(20)) else { break }
        }
      }
      await listener.close()
    }
    watch = driver.spawn("http deadlines") { [self] in
      while await driver.sleep(Duration.seconds(1) / steps) {
        let now = driver.now
        for _ in 0..<(connections.count + steps - 1) / steps {
          if cursor >= connections.count { cursor = 0 }
          connections[cursor].check(now)
          cursor += 1
        }
      }
      // The loop stops, without us being told.
      if !isStopping { for connection in connections { connection.end() } }
    }
    return listener.address
  }

  /// In how many steps all connections are looked at, some hundred in each.
  private var steps: Int { max(1, (connections.count + 255) / 256) }

  private func take(_ connection: Connection) {
    if isStopping || connections.count >= limits.connectionCount {
      driver.spawn("http refusal") { await connection.close() }
      return
    }
    let fresh = HTTPConnection(
      server: self, connection: connection,
      stream: secure?(connection) ?? PlainStream(connection))
    fresh.place = connections.count
    connections.append(fresh)
    fresh.rest()
  }

  func counted() { requestCount &+= 1 }

  /// Told by the connection when it is closed.
  func ended(_ connection: HTTPConnection) {
    connections.swapAt(connection.place, connections.count - 1)
    connections[connection.place].place = connection.place
    connections.removeLast()
    if connections.isEmpty { noneLeft.wakeAll() }
  }

  /// Accepts no more, ends connections that wait, lets requests that came be answered within the limits' `grace`.
  package func stop() async {
    if isStopping { return }
    isStopping = true
    acceptLoop?.cancel()
    await acceptLoop?.wait()
    watch?.cancel()
    for connection in connections where connection.isResting { connection.end() }
    let impatience = driver.spawn("http grace") { [self] in
      if await driver.sleep(limits.grace) {
        for connection in connections { connection.end() }
      }
    }
    while !connections.isEmpty { await noneLeft.wait() }
    impatience.cancel()
  }
}
