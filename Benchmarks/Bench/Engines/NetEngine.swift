import Ring
import Wire

/// Loopback connections with nothing behind them: what moving bytes between two loops costs. A read asks for its bytes
/// and gets them, a write sends them and gets a short answer; each is one round trip.
enum NetServer {
  struct Reach: Sendable {
    var address: SocketAddress
    var key: ClusterKey
  }

  static let messageByteCount = 16
  static let readMethod: UInt16 = 1
  static let writeMethod: UInt16 = 2

  static func start(_ how: JobOptions.NetProtocol, largest: Int, on driver: any Driver)
    async throws(BenchError) -> Beside<Reach>
  {
    let key = ClusterKey.make(driver)
    return try await Beside.start("bench net", on: driver) {
      (driver, ready) async throws(BenchError) in
      let anywhere = SocketAddress(host: "127.0.0.1", port: 0)
      let noise = driver.buffers.slice(largest)
      var random = BenchRandom(seed: 1)
      noise.withMutableBytes { random.fill($0) }
      do throws(RingError) {
        switch how {
        case .tcp:
          let listener = try await Listener.listen(on: anywhere, driver: driver)
          ready(Reach(address: listener.address, key: key))
          await serveAll(listener, noise, on: driver)
          await listener.close()
        case .wire:
          let server = WireServer(driver: driver, key: key, name: "bench") {
            (method, request, _) async throws(Refusal) in
            guard method == readMethod else { return Packet() }
            let count = min(count(in: request.message), noise.count)
            return Packet(body: count > 0 ? [noise[0..<count]] : [])
          }
          ready(Reach(address: try await server.start(on: anywhere), key: key))
          await driver.waitForCancellation()
          await driver.uncancelled { await server.stop() }
        }
      } catch {
        throw .system(error)
      }
    }
  }

  /// A connection's task each, until this one is cancelled.
  private static func serveAll(_ listener: Listener, _ noise: Slice, on driver: any Driver) async {
    await withDiscardingTaskGroup { group in
      while !Task.isCancelled {
        guard let connection = try? await listener.accept() else { break }
        group.addTask {
          try? await serve(connection, noise)
          await connection.close()
        }
      }
      group.cancelAll()
    }
  }

  /// Requests of 16 bytes: the method, and how many bytes go which way.
  private static func serve(_ connection: Connection, _ noise: Slice) async throws(RingError) {
    let head = connection.driver.buffers.slice(messageByteCount)
    let sink = connection.driver.buffers.slice(noise.count)
    let short = noise[0..<messageByteCount]
    while try await connection.receive(into: head, waitForAll: true) == head.count {
      let count = min(NetServer.count(in: head.array), noise.count)
      if head.withBytes({ $0[8] }) == UInt8(readMethod) {
        try await connection.send([noise[0..<count]])
      } else {
        guard try await connection.receive(into: sink[0..<count], waitForAll: true) == count
        else { return }
        try await connection.send([short])
      }
    }
  }

  static func message(_ method: UInt16, _ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: messageByteCount)
    bytes.withUnsafeMutableBytes {
      $0.storeBytes(of: UInt64(count).littleEndian, toByteOffset: 0, as: UInt64.self)
      $0[8] = UInt8(method)
    }
    return bytes
  }

  static func count(in message: [UInt8]) -> Int {
    guard message.count == messageByteCount else { return 0 }
    let raw = message.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
    return Int(min(UInt64(littleEndian: raw), 1 << 30))
  }
}

/// Ring alone: a connection for each worker.
final class TCPEngine: Engine, @unchecked Sendable {
  // Loop-confined.
  let spaceByteCount: UInt64
  private let connections: [Connection]
  private let answers: [Slice]

  static func open(_ reach: NetServer.Reach, _ options: JobOptions, on driver: any Driver)
    async throws(BenchError) -> TCPEngine
  {
    var connections: [Connection] = []
    do throws(RingError) {
      for _ in 0..<options.depth {
        connections.append(try await Connection.connect(to: reach.address, on: driver))
      }
    } catch {
      for connection in connections { await connection.close() }
      throw .system(error)
    }
    return TCPEngine(connections, options, on: driver)
  }

  private init(_ connections: [Connection], _ options: JobOptions, on driver: any Driver) {
    self.connections = connections
    answers = connections.map { _ in driver.buffers.slice(NetServer.messageByteCount) }
    spaceByteCount = options.byteCount ?? 1 << 60
  }

  func perform(_ access: Access, _ worker: Worker) async throws(BenchError) -> Int {
    let connection = connections[worker.index]
    let answer = answers[worker.index]
    let isRead = access.direction == .read
    let bytes = worker.buffer[0..<access.count]
    do throws(RingError) {
      // The answer's memory carries the request: it is not used before.
      answer.withMutableBytes {
        $0.copyBytes(
          from: NetServer.message(
            isRead ? NetServer.readMethod : NetServer.writeMethod, access.count))
      }
      try await connection.send(isRead ? [answer] : [answer, bytes])
      let target = isRead ? bytes : answer
      guard try await connection.receive(into: target, waitForAll: true) == target.count else {
        throw RingError(errno: Errno.brokenPipe, operation: "receive", subject: "loopback")
      }
    } catch {
      throw .system(error)
    }
    return access.count
  }

  func close() async { for connection in connections { await connection.close() } }
}

/// Calls of Wire, on the connection that a client shares between them.
final class WireEngine: Engine, @unchecked Sendable {
  // Loop-confined.
  let spaceByteCount: UInt64
  private let client: WireClient
  private let address: SocketAddress

  init(_ reach: NetServer.Reach, _ options: JobOptions, on driver: any Driver) {
    client = WireClient(driver: driver, key: reach.key, name: "bench")
    address = reach.address
    spaceByteCount = options.byteCount ?? 1 << 60
  }

  func perform(_ access: Access, _ worker: Worker) async throws(BenchError) -> Int {
    let isRead = access.direction == .read
    let method = isRead ? NetServer.readMethod : NetServer.writeMethod
    do throws(WireError) {
      let answer = try await client.call(
        address, method: method,
        Packet(
          message: NetServer.message(method, access.count),
          body: isRead ? [] : [worker.buffer[0..<access.count]]), deadline: .seconds(60))
      guard answer.bodyByteCount == (isRead ? access.count : 0) else {
        throw WireError.malformed("another count of bytes")
      }
    } catch {
      throw .failed("call: \(error)")
    }
    return access.count
  }

  func close() async { await client.close() }
}
