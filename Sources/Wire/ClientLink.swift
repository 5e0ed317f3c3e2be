import Ring

/// One proven connection, the caller's end.
final class ClientLink: LinkOwner, @unchecked Sendable {
  // Loop-confined.
  private let core: Link
  /// Called when there is room again, or when calls come back unsent.
  var roomChanged: (() -> Void)?

  private var pending: [UInt64: PendingCall] = [:]
  /// Requests whose caller gave up, with the bytes of their bodies. The peer answers them all the
  /// same, and until then they count against its limits.
  private var abandoned: [UInt64: Int] = [:]
  private var nextID: UInt64 = 1
  private var requestsInFlight = 0
  private var bodyBytesInFlight = 0
  /// The peer takes no more.
  private(set) var isGoingAway = false
  private let over = Promise<WireError>()

  init(_ core: Link) { self.core = core }

  var isOpen: Bool { !isGoingAway && !core.isBroken }
  /// Requests not yet answered.
  var load: Int { requestsInFlight }
  var sentByteCount: UInt64 { core.sentByteCount }
  var receivedByteCount: UInt64 { core.receivedByteCount }

  func hasRoom(for call: PendingCall) -> Bool {
    isOpen && requestsInFlight < core.requestLimit
      && bodyBytesInFlight + call.bodyByteCount <= core.bodyLimit
  }

  func dispatch(_ call: PendingCall) {
    call.id = nextID
    call.link = self
    nextID += 1
    requestsInFlight += 1
    bodyBytesInFlight += call.bodyByteCount
    pending[call.id] = call
    core.writer.push(
      OutgoingFrame(
        kind: .request, method: call.method, id: call.id, packet: call.packet, call: call,
        link: self))
  }

  private func release(_ bodyByteCount: Int) {
    requestsInFlight -= 1
    bodyBytesInFlight -= bodyByteCount
    if isGoingAway && requestsInFlight == 0 { end(.disconnected("the peer has stopped")) }
    roomChanged?()
  }

  /// The caller has given up; called once, with the call already over.
  func abandon(_ call: PendingCall) {
    guard pending[call.id] === call else { return }
    // One that has not left is forgotten when its turn to be sent comes.
    guard call.hasLeft else { return }
    pending[call.id] = nil
    abandoned[call.id] = call.bodyByteCount
    core.writer.push(OutgoingFrame(kind: .cancel, id: call.id))
  }

  /// A request that is over and will not be sent.
  func forget(_ call: PendingCall) {
    guard pending.removeValue(forKey: call.id) != nil else { return }
    release(call.bodyByteCount)
  }

  /// Ends the connection; the first reason counts.
  func end(_ reason: WireError) { core.end(reason) }

  /// Runs until the connection has ended and is closed.
  ///
  /// - Returns: the calls that surely never left, oldest first; all others are finished.
  func run() async -> [PendingCall] {
    core.start(for: self)
    let reason = await over.get()
    await core.connection.close()
    roomChanged = nil
    var unsent: [PendingCall] = []
    for id in pending.keys.sorted() {
      guard let call = pending[id] else { continue }
      call.link = nil
      if call.isOver { continue }
      if call.hasLeft {
        call.finish(.failure(Self.afterLeaving(reason)))
      } else {
        unsent.append(call)
      }
    }
    pending.removeAll()
    abandoned.removeAll()
    return unsent
  }

  /// What the end of the connection means for a request that was sent.
  private static func afterLeaving(_ reason: WireError) -> WireError {
    switch reason {
    case .disconnected, .malformed: reason
    case .unreachable(let text): .disconnected(text)
    default: .disconnected("the connection ended")
    }
  }

  func broke() {}
  func ended(_ reason: WireError) { over.fulfil(reason) }

  func take(_ header: FrameHeader) async throws(WireError) {
    let content = try await core.reader.content(of: header)
    switch header.kind {
    case .response, .refusal:
      try answer(header, content)
    case .ping:
      core.writer.push(OutgoingFrame(kind: .pong, id: header.id))
    case .pong:
      break
    case .goingAway:
      peerGoesAway(after: header.id)
    case .request, .cancel:
      throw .malformed("frame of kind \(header.kind) from a server")
    }
  }

  private func answer(_ header: FrameHeader, _ content: Packet) throws(WireError) {
    if let call = pending[header.id], call.hasLeft {
      pending[header.id] = nil
      call.link = nil
      if header.kind == .response {
        call.finish(.success(content))
      } else if header.method == 0 {
        call.finish(.failure(.deadline))
      } else {
        call.finish(
          .failure(
            .refused(
              code: header.method, reason: String(decoding: content.message, as: UTF8.self))))
      }
      release(call.bodyByteCount)
      if core.connection.driver.meets(.connectionDropped) {
        end(.disconnected("dropped by this client"))
      }
    } else if let bodyByteCount = abandoned.removeValue(forKey: header.id) {
      release(bodyByteCount)
    } else {
      throw .malformed("answer to request \(header.id), which is not open")
    }
  }

  private func peerGoesAway(after last: UInt64) {
    isGoingAway = true
    var back: [PendingCall] = []
    for id in pending.keys.sorted() where id > last {
      guard let call = pending.removeValue(forKey: id) else { continue }
      requestsInFlight -= 1
      bodyBytesInFlight -= call.bodyByteCount
      call.link = nil
      call.hasLeft = false
      if !call.isOver { back.append(call) }
    }
    for id in abandoned.keys.sorted() where id > last {
      bodyBytesInFlight -= abandoned.removeValue(forKey: id) ?? 0
      requestsInFlight -= 1
    }
    returned.append(contentsOf: back)
    if requestsInFlight == 0 { end(.disconnected("the peer has stopped")) }
    roomChanged?()
  }

  /// Calls that the peer has not taken up; whoever owns the link sends them elsewhere.
  private(set) var returned: [PendingCall] = []
  func takeReturned() -> [PendingCall] {
    defer { returned.removeAll() }
    return returned
  }

  func tick() { core.tick() }

  /// Adds what is due, oldest first; returns the earliest deadline left.
  func expire(_ now: Duration, _ due: inout [PendingCall]) -> Duration? {
    var earliest: Duration?
    var mine: [PendingCall] = []
    for call in pending.values where !call.isOver {
      if call.deadline <= now {
        mine.append(call)
      } else if earliest.map({ call.deadline < $0 }) ?? true {
        earliest = call.deadline
      }
    }
    due += mine.sorted { $0.id < $1.id }
    return earliest
  }
}
