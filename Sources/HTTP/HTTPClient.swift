package import Ring
package import Service
package import Wire

/// Where a server is, from "http://HOST:PORT" or "https://HOST:PORT".
package struct HTTPEndpoint: Hashable, Sendable, CustomStringConvertible {
  package var address: SocketAddress
  package var isSecure: Bool

  package init(address: SocketAddress, isSecure: Bool) {
    self.address = address
    self.isSecure = isSecure
  }

  /// Nil for anything else, a path or a user included.
  package init?(_ text: String) {
    let isSecure = text.hasPrefix("https://")
    guard isSecure || text.hasPrefix("http://"),
      let address = SocketAddress(String(text.dropFirst(isSecure ? 8 : 7))),
      address.host.utf8.allSatisfy({
        isDigit($0) || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0 | 0x20)
          || ".-_:%".utf8.contains($0)
      })
    else { return nil }
    self.init(address: address, isSecure: isSecure)
  }

  package var description: String { "\(isSecure ? "https" : "http")://\(address)" }
}

extension HTTPEndpoint: ConfigurationValue {
  package init(from source: ConfigurationSource) throws(ConfigurationError) {
    guard let endpoint = HTTPEndpoint(try source.string()) else {
      throw source.error("must be an address such as \"http://10.0.0.1:2379\"")
    }
    self = endpoint
  }
}

package struct HTTPRequest: Sendable {
  package var method: String
  package var target: String
  /// Beside Host and Content-Length.
  package var fields: HTTPFields
  package var body: [UInt8]
  /// What follows ``body``: sent as it is, without a copy.
  package var pieces: [Slice] = []
  /// Carried out twice it does no more than once: it is sent again when a kept connection turns out to be closed.
  package var isRepeatable: Bool

  package init(
    _ method: String, _ target: String, fields: HTTPFields = .init(), body: [UInt8] = [],
    isRepeatable: Bool
  ) {
    self.method = method
    self.target = target
    self.fields = fields
    self.body = body
    self.isRepeatable = isRepeatable
  }
}

package struct HTTPResponse: Sendable {
  package var head: HTTPResponseHead
  package var body: [UInt8]
  package var status: Int { head.status }
}

/// Requests to one server, each on a connection of its own while it lasts; some are kept for the next. Loop-confined.
package final class HTTPClient: @unchecked Sendable {
  package struct Limits: Sendable {
    package var head = HTTPHeadParser.Limits()
    package var bodyByteCount = 8 << 20
    /// Connections kept.
    package var idle = 4
    package init() {}
  }

  private final class Line: @unchecked Sendable {
    // Loop-confined.
    let connection: Connection
    let stream: any ByteStream
    let reader: HTTPReader
    init(_ connection: Connection, _ stream: any ByteStream, _ limits: HTTPHeadParser.Limits) {
      self.connection = connection
      self.stream = stream
      reader = HTTPReader(stream, limits: limits)
    }
  }

  package let endpoint: HTTPEndpoint
  private let driver: any Driver
  private let trust: TLSTrust?
  private let limits: Limits
  private var idle: [Line] = []
  private var isClosed = false

  /// - Parameter trust: for an endpoint that is secure.
  package init(
    driver: any Driver, endpoint: HTTPEndpoint, trust: TLSTrust?, limits: Limits = Limits()
  ) {
    precondition(!endpoint.isSecure || trust != nil)
    self.driver = driver
    self.endpoint = endpoint
    self.trust = trust
    self.limits = limits
  }

  /// - Parameter deadline: for the whole of it, connecting included.
  package func send(_ request: HTTPRequest, deadline: Duration) async throws(HTTPError)
    -> HTTPResponse
  {
    guard deadline > .zero else { throw .unreachable("no time left") }
    let progress = Progress()
    let outcome = await driver.withDeadline(deadline) {
      [self] () async -> Result<HTTPResponse, HTTPError> in
      do throws(HTTPError) {
        return .success(try await attempt(request, progress))
      } catch {
        return .failure(error)
      }
    }
    if Task.isCancelled { throw .cancelled }
    guard let outcome else {
      throw progress.hasLeft
        ? .lost("no answer in time: \(endpoint)")
        : .unreachable("no connection in time: \(endpoint)")
    }
    return try outcome.get()
  }

  private final class Progress: @unchecked Sendable {
    // Loop-confined.
    var hasLeft = false
  }

  private func attempt(_ request: HTTPRequest, _ progress: Progress) async throws(HTTPError)
    -> HTTPResponse
  {
    while let line = idle.popLast() {
      progress.hasLeft = true
      do throws(HTTPError) {
        return try await exchange(request, on: line)
      } catch {
        // Closed by the server while nobody looked, most likely.
        guard case .lost = error, request.isRepeatable, !line.reader.hasBegun, !Task.isCancelled
        else { throw error }
      }
    }
    let line = try await newLine()
    progress.hasLeft = true
    return try await exchange(request, on: line)
  }

  private func newLine() async throws(HTTPError) -> Line {
    let connection: Connection
    do throws(RingError) {
      connection = try await Connection.connect(to: endpoint.address, on: driver)
    } catch {
      throw .unreachable("\(error.reason): \(endpoint)")
    }
    let plain = PlainStream(connection)
    guard let trust, endpoint.isSecure else { return Line(connection, plain, limits.head) }
    let secure = TLSStream(
      plain, context: trust.sessions(with: endpoint.address.host), pool: driver.buffers)
    do throws(WireError) {
      try await secure.handshake()
    } catch {
      await connection.close()
      throw .unreachable("\(HTTPError(error)): \(endpoint)")
    }
    return Line(connection, secure, limits.head)
  }

  private func exchange(_ request: HTTPRequest, on line: Line) async throws(HTTPError)
    -> HTTPResponse
  {
    do throws(HTTPError) {
      var fields = request.fields
      fields.lines.insert(.init("Host", endpoint.address.description), at: 0)
      let byteCount = request.pieces.reduce(request.body.count) { $0 + $1.count }
      fields.add("Content-Length", String(byteCount))
      let head = HTTPRequestHead(method: request.method, target: request.target, fields: fields)
      do throws(WireError) {
        try await line.stream.send(
          [Slice(copying: head.encoded + request.body, pool: driver.buffers)] + request.pieces)
      } catch {
        throw HTTPError(error)
      }
      guard let answer = try await line.reader.responseHead() else {
        throw .lost("the server closed the connection: \(endpoint)")
      }
      let framing = try HTTPBodyFraming(response: answer, isHead: request.method == "HEAD")
      let body = try await line.reader.body(framing, limit: limits.bodyByteCount)
      let mayGoOn =
        framing != .untilClosed && answer.minorVersion == 1 && !line.reader.hasMore
        && !answer.fields.list("Connection", has: "close")
      if mayGoOn && !isClosed && idle.count < limits.idle && !Task.isCancelled {
        idle.append(line)
      } else {
        await line.connection.close()
      }
      return HTTPResponse(head: answer, body: body)
    } catch {
      await line.connection.close()
      throw error
    }
  }

  /// Closes what is kept; requests under way go on to their end.
  package func close() async {
    isClosed = true
    let kept = idle
    idle = []
    for line in kept { await line.connection.close() }
  }
}
