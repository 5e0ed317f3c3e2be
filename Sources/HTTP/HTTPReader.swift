package import Ring
package import Wire

/// Bytes that come when they are asked for.
package protocol BytePull: AnyObject, Sendable {
  /// Fills the front of `slice`, which is not empty; 0 at the end.
  func read(into slice: Slice) async throws(HTTPError) -> Int
}

/// Messages off a stream, one after the other. Loop-confined.
package final class HTTPReader: @unchecked Sendable {
  private let stream: any ByteStream
  private let limits: HTTPHeadParser.Limits
  private var buffer: [UInt8] = []
  private var isAtEnd = false
  /// Whether anything has come since the last whole message.
  package private(set) var hasBegun = false

  package init(_ stream: any ByteStream, limits: HTTPHeadParser.Limits = .init()) {
    self.stream = stream
    self.limits = limits
  }

  /// False at the end of the stream.
  private func fill() async throws(HTTPError) -> Bool {
    if isAtEnd { return false }
    do throws(WireError) {
      let slice = try await stream.receive()
      if slice.count == 0 {
        isAtEnd = true
        return false
      }
      hasBegun = true
      buffer.append(contentsOf: slice.array)
      return true
    } catch {
      throw HTTPError(error)
    }
  }

  /// Takes the first `count` bytes off the buffer; an empty one holds no memory.
  private func drop(_ count: Int) {
    if count == buffer.count { buffer = [] } else { buffer.removeFirst(count) }
  }

  /// The next head's bytes; nil at the end of the stream between two messages.
  private func head() async throws(HTTPError) -> ArraySlice<UInt8>? {
    var searched = 0
    while true {
      if let end = HTTPHeadParser.end(of: buffer[...], searched: searched) {
        let head = buffer[..<end]
        drop(end)
        return head
      }
      searched = buffer.count
      if searched > limits.byteCount { throw .malformed("a head that is too long") }
      if try await !fill() {
        if buffer.isEmpty { return nil }
        throw .lost("the stream ended within a head")
      }
    }
  }

  package func requestHead() async throws(HTTPError) -> HTTPRequestHead? {
    hasBegun = !buffer.isEmpty
    guard let head = try await head() else { return nil }
    return try HTTPHeadParser.request(head, limits: limits)
  }

  /// Whether bytes have come that belong to no message yet.
  package var hasMore: Bool { !buffer.isEmpty }

  /// Up to `slice.count` bytes of what comes next, straight into `slice` when nothing waits; 0 at the end of the stream.
  package func read(into slice: Slice) async throws(HTTPError) -> Int {
    if buffer.isEmpty {
      if isAtEnd { return 0 }
      // What came while nobody received is not in the kernel any more.
      guard stream.isHolding else {
        do throws(WireError) {
          let count = try await stream.receive(into: slice, waitForAll: false)
          if count == 0 { isAtEnd = true }
          return count
        } catch {
          throw HTTPError(error)
        }
      }
      guard try await fill() else { return 0 }
    }
    let count = min(slice.count, buffer.count)
    slice.withMutableBytes { $0.copyBytes(from: buffer[..<count]) }
    drop(count)
    return count
  }

  /// The next line without its CR LF, which must be its end.
  package func line(limit: Int) async throws(HTTPError) -> ArraySlice<UInt8> {
    var searched = 0
    while true {
      if let end = buffer[searched...].firstIndex(of: newline) {
        guard end > 0, buffer[end - 1] == carriageReturn else {
          throw .malformed("a line without an end")
        }
        let line = buffer[..<(end - 1)]
        drop(end + 1)
        return line
      }
      searched = buffer.count
      if searched > limit { throw .malformed("a line that is too long") }
      guard try await fill() else { throw .lost("the stream ended within a body") }
    }
  }

  /// Interim answers (1xx) are read over.
  package func responseHead() async throws(HTTPError) -> HTTPResponseHead? {
    hasBegun = !buffer.isEmpty
    for _ in 0..<16 {
      guard let bytes = try await head() else { return nil }
      let head = try HTTPHeadParser.response(bytes, limits: limits)
      guard (100..<200).contains(head.status) else { return head }
      if head.status == 101 { break }
    }
    throw .malformed("an answer that does not come to its point")
  }

  /// - Throws: ``HTTPError/malformed(_:)`` also for a body of more than `limit` bytes.
  package func body(_ framing: HTTPBodyFraming, limit: Int) async throws(HTTPError) -> [UInt8] {
    switch framing {
    case .length(let length):
      guard length <= UInt64(limit) else { throw .malformed("a body of more than \(limit) bytes") }
      while buffer.count < Int(length) {
        guard try await fill() else { throw .lost("the stream ended within a body") }
      }
      let body = Array(buffer[..<Int(length)])
      drop(Int(length))
      return body
    case .chunked:
      var decoder = ChunkedDecoder()
      var body: [UInt8] = []
      while true {
        let used = try decoder.feed(buffer[...], into: &body)
        drop(used)
        if body.count > limit { throw .malformed("a body of more than \(limit) bytes") }
        if decoder.isDone { return body }
        guard try await fill() else { throw .lost("the stream ended within a body") }
      }
    case .untilClosed:
      while try await fill() {
        if buffer.count > limit { throw .malformed("a body of more than \(limit) bytes") }
      }
      defer { buffer = [] }
      return buffer
    }
  }
}

extension HTTPError {
  init(_ error: WireError) {
    switch error {
    case .unreachable(let reason): self = .unreachable(reason)
    case .disconnected(let reason): self = .lost(reason)
    case .malformed(let reason): self = .malformed(reason)
    case .cancelled: self = .cancelled
    case .deadline: self = .lost("no answer in time")
    case .wrongKey, .version, .refused: self = .malformed("\(error)")
    }
  }
}
