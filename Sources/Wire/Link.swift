import Ring

/// What both ends of a proven connection have in common. One task reads and one writes, which end when nothing has been
/// asked or answered for a while: a hundred thousand connections wait with none. The first failure ends the link, and a
/// peer that falls silent is asked for a sign of life and then given up.
final class Link: ArrivalOwner, @unchecked Sendable {
  // Loop-confined.
  let connection: Connection
  let reader: FrameReader
  let writer: FrameWriter
  let requestLimit: Int
  let bodyLimit: Int
  private let driver: any Driver
  private let arrival: Arrival
  /// From the start to the end.
  private var owner: (any LinkOwner)?
  private var reading: SpawnedTask?
  /// The task that reads, while nothing has come.
  private var resting: UnsafeContinuation<Bool, Never>?
  /// Questions and answers since the peer was last silent.
  private var exchangeCount = 0
  /// Why it ended.
  private var reason: WireError?
  /// The end waits for the last arrival.
  private let lastArrival = Gate()
  private var silentTicks = 0

  init(
    driver: any Driver, connection: Connection, reader: FrameReader, agreement: Agreement
  ) {
    self.driver = driver
    self.connection = connection
    self.reader = reader
    requestLimit = agreement.requestLimit
    bodyLimit = agreement.bodyLimit
    arrival = Arrival(at: connection)
    reader.version = UInt8(truncatingIfNeeded: agreement.version)
    writer = FrameWriter(driver: driver, stream: reader.stream, version: reader.version)
    writer.link = self
  }

  /// The tasks stay, for starting one costs more than waking it.
  var isBusy: Bool { exchangeCount >= 4 }
  var isBroken: Bool { reason != nil }
  var sentByteCount: UInt64 { writer.sentByteCount }
  var receivedByteCount: UInt64 { reader.receivedByteCount }

  /// Reads and writes for `owner` until the connection has ended. Does not close it.
  func start(for owner: any LinkOwner) {
    self.owner = owner
    if let reason {
      finish(reason)
    } else if reader.isAtRest {
      arrival.wait(for: self)
    } else {
      read()
    }
  }

  /// Ends the connection; the first reason counts.
  func end(_ reason: WireError) {
    guard self.reason == nil else { return }
    self.reason = reason
    writer.close()
    if owner != nil { finish(reason) }
  }

  private func finish(_ reason: WireError) {
    driver.spawn("wire end") { [self] in
      owner?.broke()
      await connection.shutdown()
      let reading = reading
      reading?.cancel()
      dismiss()
      await reading?.wait()
      await writer.end()
      if arrival.isUnderWay { await lastArrival.wait() }
      let owner = owner
      self.owner = nil
      await owner?.ended(reason)
    }
  }

  // MARK: Reading

  func arrived(_ event: Arrival.Event) {
    if isBroken { return lastArrival.open() }
    switch event {
    case .bytes(let slice) where slice.count == 0: return endOfStream()
    case .bytes(let slice): reader.stream.give(slice)
    case .something: break
    case .failure(let error): return end(.disconnected("\(error): \(connection.peer)"))
    }
    if let resting {
      self.resting = nil
      resting.resume(returning: true)
    } else {
      read()
    }
  }

  private func endOfStream() { end(.disconnected("\(connection.peer) closed the connection")) }

  private func read() {
    reading = driver.spawn("wire read") { [self] in
      do throws(WireError) {
        repeat {
          repeat {
            guard let header = try await reader.header() else { return endOfStream() }
            if header.kind != .ping && header.kind != .pong { exchangeCount &+= 1 }
            try await owner?.take(header)
            if isBroken { return }
          } while !reader.isAtRest
        } while await rest()
      } catch {
        end(error)
      }
    }
  }

  /// Waits for the peer; while the connection is not busy, without a task.
  ///
  /// - Returns: false when the task is to end.
  private func rest() async -> Bool {
    reader.rest()
    arrival.wait(for: self)
    guard isBusy else {
      reading = nil
      return false
    }
    return await withUnsafeContinuation { resting = $0 }
  }

  /// Ends the task that reads, if it waits.
  private func dismiss() {
    guard let resting else { return }
    self.resting = nil
    reading = nil
    resting.resume(returning: false)
  }

  /// Called every ``Silence/tick``: a silent peer is asked for a sign of life, then given up.
  func tick() {
    if reader.heard {
      reader.heard = false
      silentTicks = 0
      return
    }
    silentTicks += 1
    exchangeCount = 0
    dismiss()
    writer.dismiss()
    if silentTicks == Silence.ticksUntilPing {
      writer.push(OutgoingFrame(kind: .ping))
    } else if silentTicks >= Silence.ticksUntilDead {
      end(.disconnected("\(connection.peer) has been silent"))
    }
  }
}

/// Whose link it is.
protocol LinkOwner: AnyObject, Sendable {
  /// Reads the content that belongs to the header, and deals with the frame.
  func take(_ header: FrameHeader) async throws(WireError)
  /// The connection has failed; what was under way may still touch it.
  func broke()
  /// Nothing touches the connection any more.
  func ended(_ reason: WireError) async
}

/// When a connection without a byte from the peer is pinged, and when it is given up: 10 and 20 s.
enum Silence {
  static let tick = Duration.seconds(5)
  static let ticksUntilPing = 2
  static let ticksUntilDead = 4
}
