import Ring

/// One proven connection, the server's end: reads requests, runs a handler task for each, sends the
/// answers as they come.
final class ServerLink: LinkOwner, @unchecked Sendable {
  // Loop-confined.
  private let server: WireServer
  private let driver: any Driver
  private let core: Link
  let peer: Peer

  private struct Running {
    var task: SpawnedTask?
    var deadline: Duration
    var bodyByteCount: Int
    /// The caller no longer wants the answer, or its time is over.
    var isGivenUp = false
  }
  private var running: [UInt64: Running] = [:]
  private var bodyBytesInFlight = 0
  private var lastID: UInt64 = 0
  private var isStopping = false
  private let allEnded = WaitQueue()
  /// Where it stands among the server's links.
  var place = 0
  /// Among those whose deadlines the server watches.
  private(set) var isWatched = false

  init(server: WireServer, core: Link, peer: Peer) {
    self.server = server
    driver = server.driver
    self.core = core
    self.peer = peer
  }

  var sentByteCount: UInt64 { core.sentByteCount }
  var receivedByteCount: UInt64 { core.receivedByteCount }

  func end(_ reason: WireError) { core.end(reason) }

  /// Serves until the connection has ended, its handlers too, and it is closed; then tells the server.
  func start() { core.start(for: self) }

  func broke() {
    // Nobody will read the answers.
    for id in running.keys.sorted() { giveUp(id) }
  }

  func ended(_ reason: WireError) async {
    while !running.isEmpty { await allEnded.wait() }
    await core.connection.close()
    server.ended(self, reason)
  }

  func take(_ header: FrameHeader) async throws(WireError) {
    switch header.kind {
    case .request:
      try await takeRequest(header)
    case .cancel:
      giveUp(header.id)
    case .ping:
      core.writer.push(OutgoingFrame(kind: .pong, id: header.id))
    case .pong:
      break
    case .response, .refusal, .goingAway:
      throw .malformed("frame of kind \(header.kind) from a client")
    }
  }

  private func takeRequest(_ header: FrameHeader) async throws(WireError) {
    guard header.id > lastID else { throw .malformed("request id \(header.id) again") }
    if isStopping {
      // Sent before the peer knew; it was told that nothing above `lastID` is carried out.
      _ = try await core.reader.content(of: header)
      return
    }
    guard running.count < core.requestLimit else {
      throw .malformed("more than \(core.requestLimit) requests at once")
    }
    guard bodyBytesInFlight + header.bodyByteCount <= core.bodyLimit else {
      throw .malformed("more than \(core.bodyLimit) bytes of bodies at once")
    }
    lastID = header.id
    // A peer that asks but does not read gets no more memory for answers.
    await core.writer.waitUntilBelow(server.limits.answerByteCount)
    // From here on this connection is not read until there is room for the request.
    await server.requests.acquire()
    if header.bodyByteCount > 0 { await server.bodies.acquire(header.bodyByteCount) }
    let content: Packet
    do throws(WireError) {
      content = try await core.reader.content(of: header)
      if core.isBroken { throw .disconnected("closed") }
    } catch {
      release(header.bodyByteCount)
      throw error
    }
    serve(header, content)
  }

  private func release(_ bodyByteCount: Int) {
    server.requests.release()
    if bodyByteCount > 0 { server.bodies.release(bodyByteCount) }
  }

  private func serve(_ header: FrameHeader, _ content: Packet) {
    let id = header.id
    let method = header.method
    let deadline = driver.now + .milliseconds(Int(header.deadlineMilliseconds))
    bodyBytesInFlight += content.bodyByteCount
    server.statistics.calls += 1
    running[id] = Running(deadline: deadline, bodyByteCount: content.bodyByteCount)
    let task = driver.spawn("wire request") { [self] in
      let result: Result<Packet, Refusal>
      do throws(Refusal) {
        result = .success(try await server.handler(method, content, peer))
      } catch {
        result = .failure(error)
      }
      ended(id, result)
    }
    running[id]?.task = task
    if !isWatched {
      isWatched = true
      server.watched.append(self)
    }
    server.deadlines.note(deadline)
  }

  private func ended(_ id: UInt64, _ result: Result<Packet, Refusal>) {
    guard let request = running.removeValue(forKey: id) else { return }
    bodyBytesInFlight -= request.bodyByteCount
    release(request.bodyByteCount)
    if core.isBroken {
      server.statistics.failures += 1
      if running.isEmpty { allEnded.wakeAll() }
      return
    }
    var frame = OutgoingFrame(kind: .response, id: id)
    switch result {
    case .success where request.isGivenUp:
      frame.kind = .refusal
    case .success(let answer)
    where answer.message.count > WireLimits.messageByteCount
      || answer.bodyByteCount > WireLimits.bodyByteCount:
      frame = refusal(
        id,
        Refusal(
          code: Self.failed,
          reason: "an answer of \(answer.message.count) and \(answer.bodyByteCount) bytes"))
    case .success(let answer):
      frame.packet = answer
    case .failure(let reason):
      frame = refusal(id, reason)
    }
    if frame.kind == .refusal { server.statistics.failures += 1 }
    core.writer.push(frame)
    if running.isEmpty { allEnded.wakeAll() }
  }

  /// Messages' `RefusalCode.failed`.
  private static let failed: UInt16 = 3
  private static let reasonByteCount = 1024

  private func refusal(_ id: UInt64, _ refusal: Refusal) -> OutgoingFrame {
    OutgoingFrame(
      kind: .refusal, method: refusal.code, id: id,
      packet: Packet(message: Array(refusal.reason.utf8.prefix(Self.reasonByteCount))))
  }

  private func giveUp(_ id: UInt64) {
    guard let task = running[id]?.task else { return }
    running[id]?.isGivenUp = true
    task.cancel()
  }

  /// Cancels what is due, oldest first; returns the earliest deadline left.
  func expire(_ now: Duration) -> Duration? {
    if running.isEmpty {
      isWatched = false
      return nil
    }
    var earliest: Duration?
    var due: [UInt64] = []
    for (id, request) in running where !request.isGivenUp {
      if request.deadline <= now {
        due.append(id)
      } else if earliest.map({ request.deadline < $0 }) ?? true {
        earliest = request.deadline
      }
    }
    for id in due.sorted() { giveUp(id) }
    return earliest
  }

  /// Takes up no more requests, and tells the peer.
  func goAway() {
    isStopping = true
    core.writer.push(OutgoingFrame(kind: .goingAway, id: lastID))
  }

  /// Waits until every request taken up is answered and sent.
  func finish() async {
    while !running.isEmpty { await allEnded.wait() }
    await core.writer.waitUntilIdle()
  }

  func tick() { core.tick() }
}
