package import Ring

/// Bytes in order, both ways: a plain connection, or TLS over one. Loop-confined; at most one task
/// receives and one sends.
package protocol ByteStream: AnyObject, Sendable {
  /// Up to `slice.count` bytes, or all of them when `waitForAll`; fewer only at the stream's end.
  ///
  /// - Throws: ``WireError/disconnected(_:)`` or ``WireError/malformed(_:)``.
  func receive(into slice: Slice, waitForAll: Bool) async throws(WireError) -> Int
  /// What has come, at most 4 KiB, in memory that is taken only once something has; empty at the stream's end.
  ///
  /// - Throws: ``WireError/disconnected(_:)`` or ``WireError/malformed(_:)``.
  func receive() async throws(WireError) -> Slice
  /// Takes in what came while nobody received: the next ``receive()`` begins with it.
  func give(_ slice: Slice)
  /// There may be bytes that a receive would give without waiting for the peer.
  var isHolding: Bool { get }
  /// Lets go of memory that holds nothing unread: the stream may wait long now.
  func rest()
  /// All of `slices`, in order. Their memory may be read until the last reference to it goes.
  ///
  /// - Throws: ``WireError/disconnected(_:)``.
  func send(_ slices: [Slice]) async throws(WireError)
  /// Part of what is proved in the handshake, so that both ends agree on it.
  var transportCode: UInt8 { get }
}

/// No encryption.
package final class PlainStream: ByteStream, @unchecked Sendable {
  // Loop-confined.
  let connection: Connection
  private var given: Slice?

  package init(_ connection: Connection) { self.connection = connection }

  package var transportCode: UInt8 { 0 }

  package func receive(into slice: Slice, waitForAll: Bool) async throws(WireError) -> Int {
    do throws(RingError) {
      let isSmall = !waitForAll && slice.count > 1 && connection.driver.meets(.receiveSmall)
      return try await connection.receive(
        into: isSmall ? slice[0..<1] : slice, waitForAll: waitForAll)
    } catch {
      throw .disconnected(error.description)
    }
  }

  package func give(_ slice: Slice) { given = slice }
  package var isHolding: Bool { given != nil }
  package func rest() {}

  package func receive() async throws(WireError) -> Slice {
    if let given {
      self.given = nil
      return given
    }
    do throws(RingError) {
      if connection.driver.meets(.receiveSmall) {
        let slice = connection.driver.buffers.slice(1)
        return slice[0..<(try await connection.receive(into: slice))]
      }
      return try await connection.receive()
    } catch {
      throw .disconnected(error.description)
    }
  }

  package func send(_ slices: [Slice]) async throws(WireError) {
    do throws(RingError) {
      var piece: [Slice] = []
      var byteCount = 0
      for slice in slices {
        var rest = slice
        while byteCount + rest.count > Self.piece {
          let cut = Self.piece - byteCount
          piece.append(rest[0..<cut])
          try await connection.send(piece)
          piece.removeAll(keepingCapacity: true)
          byteCount = 0
          rest = rest[cut..<rest.count]
        }
        piece.append(rest)
        byteCount += rest.count
      }
      try await connection.send(piece)
    } catch {
      throw .disconnected(error.description)
    }
  }

  /// What is handed to the kernel at once. More would push what the receiver is about to read, and
  /// what we are about to send, out of the processor's cache.
  private static let piece = 256 << 10
}
