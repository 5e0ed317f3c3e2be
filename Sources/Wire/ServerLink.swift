import Ring

/// One proven connection, the server's end: reads requests, runs a handler task for each, sends the
/// answers as they come.
final class ServerLink: @unchecked Sendable {
  // Loop-confined.
  private unowned let server: WireServer
  private let driver: any Driver
  private let connection: Connection
  private let reader: FrameReader
  private let writer: FrameWriter
  private let peer: Peer
  private let requestLimit: Int
  private let bodyLimit: Int

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
  private let broken = Promise<WireError>()
  private let allEnded = WaitQueue()
  private var silentTicks = 0

  init(
    server: WireServer, connection: Connection, reader: FrameReader, agreement: Agreement,
    peer: Peer
  ) {
    self.server = server
    driver = server.driver
    self.connection = connection
    self.reader = reader
    self.peer = peer
    requestLimit = agreement.requestLimit
    bodyLimit = agreement.bodyLimit
    reader.version = UInt8(truncatingIfNeeded: agreement.version)
    writer = FrameWriter(driver: driver, stream: reader.stream, version: reader.version)
  }

  var sentByteCount: UInt64 { writer.sentByteCount }
  var receivedByteCount: UInt64 { reader.receivedByteCount }

  func end(_ reason: WireError) {
    broken.fulfil(reason)
    writer.close()
  }

  /// Runs until the connection has ended, its handlers too, and it is closed.
  ///
  /// - Returns: why it ended.
  func run() async -> WireError {
    await withTaskGroup(of: Void.self) { tasks in
      tasks.addTask { [self] in
        do throws(WireError) {
          try await readAll()
          end(.disconnected("\(connection.peer) closed the connection"))
        } catch {
          end(error)
        }
      }
      tasks.addTask { [self] in
        do throws(WireError) { try await writer.run() } catch { end(error) }
      }
      _ = await broken.get()
      // Nobody will read the answers.
      for id in running.keys.sorted() { giveUp(id) }
      await connection.shutdown()
      tasks.cancelAll()
    }
    while !running.isEmpty { await allEnded.wait() }
    await connection.close()
    return await broken.get()
  }

  private func readAll() async throws(WireError) {
    while let header = try await reader.header() {
      switch header.kind {
      case .request:
        try await take(header)
      case .cancel:
        giveUp(header.id)
      case .ping:
        writer.push(OutgoingFrame(kind: .pong, id: header.id))
      case .pong:
        break
      case .response, .refusal, .goingAway:
        throw .malformed("frame of kind \(header.kind) from a client")
      }
    }
  }

  private func take(_ header: FrameHeader) async throws(WireError) {
    guard header.id > lastID else { throw .malformed("request id \(header.id) again") }
    if isStopping {
      // Sent before the peer knew; it was told that nothing above `lastID` is carried out.
      _ = try await reader.content(of: header)
      return
    }
    guard running.count < requestLimit else {
      throw .malformed("more than \(requestLimit) requests at once")
    }
    guard bodyBytesInFlight + header.bodyByteCount <= bodyLimit else {
      throw .malformed("more than \(bodyLimit) bytes of bodies at once")
    }
    lastID = header.id
    // A peer that asks but does not read gets no more memory for answers.
    await writer.waitUntilBelow(server.limits.answerByteCount)
    // From here on this connection is not read until there is room for the request.
    await server.requests.acquire()
    if header.bodyByteCount > 0 { await server.bodies.acquire(header.bodyByteCount) }
    let content: Packet
    do throws(WireError) {
      content = try await reader.content(of: header)
      if broken.isFulfilled { throw .disconnected("closed") }
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
    server.deadlines.note(deadline)
  }

  private func ended(_ id: UInt64, _ result: Result<Packet, Refusal>) {
    guard let request = running.removeValue(forKey: id) else { return }
    bodyBytesInFlight -= request.bodyByteCount
    release(request.bodyByteCount)
    if broken.isFulfilled {
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
    writer.push(frame)
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
    writer.push(OutgoingFrame(kind: .goingAway, id: lastID))
  }

  /// Waits until every request taken up is answered and sent.
  func finish() async {
    while !running.isEmpty { await allEnded.wait() }
    await writer.waitUntilIdle()
  }

  /// As ``ClientLink/tick()``.
  func tick() {
    if reader.heard {
      reader.heard = false
      silentTicks = 0
      return
    }
    silentTicks += 1
    writer.trim()
    if silentTicks == Silence.ticksUntilPing {
      writer.push(OutgoingFrame(kind: .ping))
    } else if silentTicks >= Silence.ticksUntilDead {
      end(.disconnected("\(connection.peer) has been silent"))
    }
  }
}
