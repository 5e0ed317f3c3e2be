import Ring

/// A call from its start to its one answer, wherever it waits: for a connection, for room on it, to be
/// sent, to be answered. Its caller suspends once.
final class PendingCall: @unchecked Sendable {
  // Loop-confined.
  let method: UInt16
  /// Emptied when the call is over.
  private(set) var packet: Packet
  let bodyByteCount: Int
  /// A time of `driver.now`.
  let deadline: Duration
  /// Set while the call belongs to a connection.
  var link: ClientLink?
  /// Of the request on its connection; 0 before.
  var id: UInt64 = 0
  /// Some of it may have reached the peer.
  var hasLeft = false
  private(set) var isOver = false
  private var early: Result<Packet, WireError>?
  private var caller: UnsafeContinuation<Result<Packet, WireError>, Never>?

  init(method: UInt16, packet: Packet, deadline: Duration) {
    self.method = method
    self.packet = packet
    self.deadline = deadline
    bodyByteCount = packet.bodyByteCount
  }

  /// The first result counts.
  func finish(_ result: Result<Packet, WireError>) {
    if isOver { return }
    isOver = true
    packet = Packet()
    if let caller {
      self.caller = nil
      caller.resume(returning: result)
    } else {
      early = result
    }
  }

  func wait(_ caller: UnsafeContinuation<Result<Packet, WireError>, Never>) {
    if let early { caller.resume(returning: early) } else { self.caller = caller }
  }
}
