import Ring

/// What both ends of a proven connection have in common: one task reads and one writes, the first that fails ends both,
/// and a peer that falls silent is asked for a sign of life and then given up.
final class Link: @unchecked Sendable {
  // Loop-confined.
  let connection: Connection
  let reader: FrameReader
  let writer: FrameWriter
  let requestLimit: Int
  let bodyLimit: Int
  private let broken = Promise<WireError>()
  private var silentTicks = 0

  init(
    driver: any Driver, connection: Connection, reader: FrameReader, agreement: Agreement
  ) {
    self.connection = connection
    self.reader = reader
    requestLimit = agreement.requestLimit
    bodyLimit = agreement.bodyLimit
    reader.version = UInt8(truncatingIfNeeded: agreement.version)
    writer = FrameWriter(driver: driver, stream: reader.stream, version: reader.version)
  }

  var isBroken: Bool { broken.isFulfilled }
  var sentByteCount: UInt64 { writer.sentByteCount }
  var receivedByteCount: UInt64 { reader.receivedByteCount }

  /// Ends the connection; the first reason counts.
  func end(_ reason: WireError) {
    broken.fulfil(reason)
    writer.close()
  }

  /// Reads with `readAll` and writes what is pushed until the connection has ended. Does not close it.
  ///
  /// - Parameter whenBroken: called once, before anything that may wait.
  /// - Returns: why it ended.
  func run(
    readAll: @escaping @Sendable () async throws(WireError) -> Void,
    whenBroken: () -> Void = {}
  ) async -> WireError {
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
      let reason = await broken.get()
      whenBroken()
      await connection.shutdown()
      tasks.cancelAll()
      return reason
    }
  }

  /// Called every ``Silence/tick``: a silent peer is asked for a sign of life, then given up.
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

/// When a connection without a byte from the peer is pinged, and when it is given up: 10 and 20 s.
enum Silence {
  static let tick = Duration.seconds(5)
  static let ticksUntilPing = 2
  static let ticksUntilDead = 4
}
