package import Ring

/// The body of one request, read as it comes. Loop-confined.
package final class HTTPRequestBody: BytePull, @unchecked Sendable {
  // Loop-confined.
  private enum State {
    /// Of a body with a length, or of a chunk.
    case data(left: UInt64, isChunk: Bool)
    case chunkSize(isFirst: Bool)
    case trailers
    case done
    /// Where the next request would begin nobody knows.
    case failed(HTTPError)
  }

  private let reader: HTTPReader
  private var state: State
  /// Asks the peer for the body, if it waits to be asked; also for one without bytes: botocore (1.43) takes an answer without "100
  /// Continue" before it for that of its next request, too.
  private var invite: (@Sendable () async throws(HTTPError) -> Void)?
  /// Nil when only its end will tell.
  package let byteCount: UInt64?
  /// Those behind a chunked body, once it is read.
  package private(set) var trailers = HTTPFields()

  init(
    _ reader: HTTPReader, _ framing: HTTPBodyFraming,
    invite: (@Sendable () async throws(HTTPError) -> Void)?
  ) {
    self.reader = reader
    self.invite = invite
    switch framing {
    case .length(let length):
      byteCount = length
      state = length == 0 ? .done : .data(left: length, isChunk: false)
    case .chunked, .untilClosed:
      byteCount = nil
      state = .chunkSize(isFirst: true)
    }
  }

  package var isDone: Bool { if case .done = state { true } else { false } }
  var hasFailed: Bool { if case .failed = state { true } else { false } }
  /// The peer waits to be asked and was not: it may send the body all the same, or never.
  var isUninvited: Bool { invite != nil && !isDone }

  /// - Throws: ``HTTPError/lost(_:)`` when the peer ended within the body.
  package func read(into slice: Slice) async throws(HTTPError) -> Int {
    if let invite {
      self.invite = nil
      try await invite()
    }
    do throws(HTTPError) {
      return try await advance(into: slice)
    } catch {
      state = .failed(error)
      throw error
    }
  }

  private func advance(into slice: Slice) async throws(HTTPError) -> Int {
    while true {
      switch state {
      case .done: return 0
      case .failed(let error): throw error
      case .data(let left, let isChunk):
        let wanted = Int(min(UInt64(slice.count), left))
        let count = try await reader.read(into: slice[0..<wanted])
        if count == 0 { throw .lost("the stream ended within a body") }
        let rest = left - UInt64(count)
        if rest > 0 {
          state = .data(left: rest, isChunk: isChunk)
        } else {
          state = isChunk ? .chunkSize(isFirst: false) : .done
        }
        return count
      case .chunkSize(let isFirst):
        if !isFirst {
          guard try await reader.line(limit: 2).isEmpty else {
            throw .malformed("a chunk longer than its size")
          }
        }
        let size = try ChunkedDecoder.size(
          try await reader.line(limit: ChunkedDecoder.lineLimit))
        state = size == 0 ? .trailers : .data(left: size, isChunk: true)
      case .trailers:
        let line = try await reader.line(limit: ChunkedDecoder.lineLimit)
        if line.isEmpty {
          state = .done
        } else {
          guard trailers.lines.count < ChunkedDecoder.trailerLimit else {
            throw .malformed("too many trailers")
          }
          trailers.lines.append(try HTTPHeadParser.field(line))
        }
      }
    }
  }

  /// All of it.
  ///
  /// - Throws: ``HTTPError/malformed(_:)`` when there are more than `limit` bytes.
  package func all(limit: Int, pool: BufferPool) async throws(HTTPError) -> [UInt8] {
    var bytes: [UInt8] = []
    let piece = pool.slice(min(limit, 64 << 10) + 1)
    while true {
      let count = try await read(into: piece)
      if count == 0 { return bytes }
      bytes += piece[0..<count].array
      if bytes.count > limit { throw .malformed("a body of more than \(limit) bytes") }
    }
  }

  /// Reads over what is left.
  ///
  /// - Returns: whether its end was reached within `limit` bytes.
  func discard(limit: Int, pool: BufferPool) async -> Bool {
    if isUninvited { return false }
    var left = limit
    let piece = pool.slice(16 << 10)
    while !isDone {
      guard left > 0 else { return false }
      do throws(HTTPError) {
        left -= try await read(into: piece)
      } catch {
        return false
      }
    }
    return true
  }
}
