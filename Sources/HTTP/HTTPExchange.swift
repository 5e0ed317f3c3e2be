package import Ring
import Service
import Wire

/// One request and the way to answer it. Loop-confined; one answer.
package final class HTTPExchange: @unchecked Sendable {
  // Loop-confined.
  package let head: HTTPRequestHead
  package let body: HTTPRequestBody
  package let peer: SocketAddress
  package let driver: any Driver
  private let stream: any ByteStream
  /// It came over TLS.
  package var isSecure: Bool { stream.transportCode != 0 }
  /// The peer may send another request afterwards.
  private(set) var keepsConnection: Bool
  /// The head of the answer, until its first bytes go.
  private var pendingHead: [UInt8] = []
  private var left: UInt64 = 0
  /// A body of unknown length has not ended yet.
  private var isOpenEnded = false
  private var isChunked = false
  /// An answer was begun: nothing else can be said any more.
  package private(set) var hasBegun = false
  /// Of the answer.
  package private(set) var status = 0
  package private(set) var sentByteCount: UInt64 = 0

  init(
    head: HTTPRequestHead, body: HTTPRequestBody, peer: SocketAddress, driver: any Driver,
    stream: any ByteStream, keepsConnection: Bool
  ) {
    self.head = head
    self.body = body
    self.peer = peer
    self.driver = driver
    self.stream = stream
    self.keepsConnection = keepsConnection
  }

  /// Begins an answer whose body has `byteCount` bytes. They follow by ``send(_:)``; for HEAD, 204 and 304 none do.
  ///
  /// - Parameter fields: without Content-Length, Connection and Date.
  package func begin(_ status: Int, _ fields: HTTPFields, byteCount: UInt64) {
    var fields = fields
    if status != 204 && status != 304 { fields.add("Content-Length", String(byteCount)) }
    prepareHead(status, fields)
    left = head.method == "HEAD" || status == 204 || status == 304 ? 0 : byteCount
  }

  private func prepareHead(_ status: Int, _ fields: HTTPFields) {
    precondition(!hasBegun)
    hasBegun = true
    self.status = status
    var fields = fields
    fields.add("Date", CivilTime(driver.wallClock).http)
    // Whoever waits to be asked for a body may or may not send it now: only a new connection is clear.
    if body.isUninvited || body.hasFailed { keepsConnection = false }
    if !keepsConnection { fields.add("Connection", "close") }
    pendingHead =
      HTTPResponseHead(status: status, reason: Self.reason(status), fields: fields)
      .encoded
  }

  /// Sends bytes of the body; together they are as many as were promised.
  package func send(_ slices: [Slice]) async throws(HTTPError) {
    let count = slices.reduce(0) { $0 + UInt64($1.count) }
    precondition(count <= left)
    left -= count
    sentByteCount += count
    try await push(slices)
  }

  private func push(_ slices: [Slice]) async throws(HTTPError) {
    var slices = slices
    if !pendingHead.isEmpty {
      slices.insert(Slice(copying: pendingHead, pool: driver.buffers), at: 0)
      pendingHead = []
    }
    do throws(WireError) {
      try await stream.send(slices)
    } catch {
      throw HTTPError(error)
    }
  }

  /// Begins an answer of unknown length: in chunks, or to the connection's end for a peer of HTTP/1.0.
  /// The body follows by ``sendStream(_:)`` and ends by ``endStream()``.
  package func beginStream(_ status: Int, _ fields: HTTPFields) {
    var fields = fields
    isChunked = head.minorVersion == 1
    if isChunked { fields.add("Transfer-Encoding", "chunked") } else { keepsConnection = false }
    prepareHead(status, fields)
    isOpenEnded = true
  }

  package func sendStream(_ slices: [Slice]) async throws(HTTPError) {
    precondition(isOpenEnded)
    let count = slices.reduce(0) { $0 + $1.count }
    // One of no bytes would end the body.
    guard count > 0 else { return }
    sentByteCount += UInt64(count)
    guard isChunked else { return try await push(slices) }
    let size = String(count, radix: 16) + "\r\n"
    try await push(
      [Slice(copying: Array(size.utf8), pool: driver.buffers)] + slices
        + [Slice(copying: [13, 10], pool: driver.buffers)])
  }

  package func endStream() async throws(HTTPError) {
    precondition(isOpenEnded)
    try await push(
      isChunked ? [Slice(copying: Array("0\r\n\r\n".utf8), pool: driver.buffers)] : [])
    isOpenEnded = false
  }

  /// An answer as a whole.
  package func answer(_ status: Int, _ fields: HTTPFields, _ bytes: [UInt8] = [])
    async throws(HTTPError)
  {
    begin(status, fields, byteCount: UInt64(bytes.count))
    if left > 0 {
      try await send([Slice(copying: bytes, pool: driver.buffers)])
    } else {
      try await push([])
    }
  }

  /// The connection ends after this answer.
  package func endConnection() { keepsConnection = false }

  /// Sends what was not sent; false when the answer is not whole, so that the connection must end.
  func finish() async -> Bool {
    guard hasBegun, left == 0, !isOpenEnded else { return false }
    guard !pendingHead.isEmpty else { return true }
    do throws(HTTPError) {
      try await push([])
      return true
    } catch {
      return false
    }
  }

  private static func reason(_ status: Int) -> String {
    switch status {
    case 200: "OK"
    case 201: "Created"
    case 204: "No Content"
    case 206: "Partial Content"
    case 301: "Moved Permanently"
    case 303: "See Other"
    case 304: "Not Modified"
    case 307: "Temporary Redirect"
    case 400: "Bad Request"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 408: "Request Timeout"
    case 409: "Conflict"
    case 411: "Length Required"
    case 412: "Precondition Failed"
    case 413: "Content Too Large"
    case 416: "Range Not Satisfiable"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 503: "Service Unavailable"
    default: "Status"
    }
  }
}
