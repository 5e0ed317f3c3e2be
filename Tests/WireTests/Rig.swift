import Ring
import Simulation
import Synchronization
import TestSupport
import Testing

@testable import Wire

let key = ClusterKey(secret: Array(0..<32))
let otherKey = ClusterKey(secret: Array(1..<33))

/// What a request to ``Service`` asks for.
struct Ask: WireValue {
  var token: UInt64
  /// How long the handler sleeps, in microseconds.
  var delay: UInt64 = 0
  var answerMessage: UInt64 = 0
  var answerBody: UInt64 = 0
  var refusal: UInt32 = 0

  init(token: UInt64) { self.token = token }

  func encode(into writer: inout ByteWriter) {
    for value in [token, delay, answerMessage, answerBody] { writer.varint(value) }
    writer.varint(refusal)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    token = try reader.varint()
    delay = try reader.varint()
    answerMessage = try reader.varint()
    answerBody = try reader.varint()
    refusal = try reader.varint32()
  }
}

/// Bytes that belong to one token, of any length.
func pattern(_ token: UInt64, _ count: Int) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: count)
  bytes.withUnsafeMutableBytes { bytes in
    var word = token &* 0x9E37_79B9_7F4A_7C15 | 1
    var offset = 0
    while offset + 8 <= count {
      bytes.storeBytes(of: word, toByteOffset: offset, as: UInt64.self)
      word = word &* 0x5851_F42D_4C95_7F2D &+ 0x1405_7B7E_F767_814F
      offset += 8
    }
    while offset < count {
      bytes[offset] = UInt8(truncatingIfNeeded: word >> UInt64(8 * (offset & 7)))
      offset += 1
    }
  }
  return bytes
}

/// A handler that checks what it gets and keeps books.
final class Service: @unchecked Sendable {
  // Loop-confined.
  let driver: any Driver
  private(set) var started: Set<UInt64> = []
  private(set) var cancelled: [UInt64: Duration] = [:]
  private(set) var running = 0
  private(set) var mostRunning = 0
  private(set) var bodyBytes = 0
  private(set) var mostBodyBytes = 0
  private(set) var names: Set<String> = []
  private(set) var connections: Set<UInt64> = []
  private(set) var damaged = 0

  init(_ driver: any Driver) { self.driver = driver }

  func handle(_ method: UInt16, _ request: Packet, _ peer: Peer) async throws(Refusal) -> Packet {
    running += 1
    mostRunning = max(running, mostRunning)
    bodyBytes += request.bodyByteCount
    mostBodyBytes = max(bodyBytes, mostBodyBytes)
    defer {
      running -= 1
      bodyBytes -= request.bodyByteCount
    }
    names.insert(peer.name)
    connections.insert(peer.connection)
    guard let ask = try? Ask(decoding: request.message) else {
      damaged += 1
      throw Refusal(code: 2, reason: "no value")
    }
    started.insert(ask.token)
    if let body = request.body.first {
      if body.offset != 4096 || body.array != pattern(ask.token, body.count) { damaged += 1 }
    }
    if ask.delay > 0, !(await driver.sleep(.microseconds(Int64(ask.delay)))) {
      cancelled[ask.token] = driver.now
    }
    if ask.refusal > 0 { throw Refusal(code: UInt16(ask.refusal), reason: "token \(ask.token)") }
    var answer = Packet(message: pattern(ask.token ^ 1, Int(ask.answerMessage)))
    if ask.answerBody > 0 {
      // In several slices, as a reader of blocks has it.
      let bytes = pattern(ask.token ^ 2, Int(ask.answerBody))
      let half = bytes.count / 3
      answer.body = [
        Slice(copying: Array(bytes[..<half]), pool: driver.buffers),
        Slice(copying: Array(bytes[half...]), pool: driver.buffers),
      ]
    }
    return answer
  }

  /// A started server for this service.
  func start(
    at address: SocketAddress, key: ClusterKey = key, security: TransportSecurity = .never,
    limits: ServerLimits = .init(), configure: (WireServer) -> Void = { _ in }
  ) async throws -> (server: WireServer, address: SocketAddress) {
    let server = WireServer(
      driver: driver, key: key, name: "server", security: security, limits: limits
    ) { [self] (method, request, peer) async throws(Refusal) in
      try await handle(method, request, peer)
    }
    configure(server)
    return (server, try await server.start(on: address))
  }
}

/// Whether `answer` is the one that `ask` must get.
func isAnswer(_ answer: Packet, to ask: Ask) -> Bool {
  answer.message == pattern(ask.token ^ 1, Int(ask.answerMessage))
    && answer.bodyByteCount == Int(ask.answerBody)
    && (answer.body.isEmpty
      || answer.body.count == 1 && answer.body[0].offset == 4096
        && answer.body[0].array == pattern(ask.token ^ 2, Int(ask.answerBody)))
}

extension WireClient {
  /// Sends `ask` with `bodyByteCount` bytes and checks the answer.
  func ask(
    _ ask: Ask, body bodyByteCount: Int = 0, at address: SocketAddress,
    deadline: Duration = .seconds(30)
  ) async -> Result<Packet, WireError> {
    var request = Packet(message: ask.encoded)
    if bodyByteCount > 0 {
      request.body = [Slice(copying: pattern(ask.token, bodyByteCount), pool: driver.buffers)]
    }
    do throws(WireError) {
      let answer = try await call(address, method: 1, request, deadline: deadline)
      #expect(isAnswer(answer, to: ask), "a wrong answer to \(ask)")
      return .success(answer)
    } catch {
      if case .refused(let code, let reason) = error {
        #expect(code == ask.refusal && reason == "token \(ask.token)")
      }
      return .failure(error)
    }
  }
}

extension Result where Failure == WireError {
  var error: WireError? { if case .failure(let error) = self { error } else { nil } }
  var isSuccess: Bool { error == nil }
  var isUnreachable: Bool { if case .unreachable = error { true } else { false } }
  var isDisconnected: Bool { if case .disconnected = error { true } else { false } }
  var isMalformed: Bool { if case .malformed = error { true } else { false } }
}

/// One who speaks the protocol by hand.
final class RawPeer: @unchecked Sendable {
  // Loop-confined.
  let driver: any Driver
  let connection: Connection
  let reader: FrameReader

  init(_ address: SocketAddress, _ driver: any Driver) async throws {
    self.driver = driver
    connection = try await Connection.connect(to: address, on: driver)
    reader = FrameReader(PlainStream(connection), pool: driver.buffers)
  }

  func shakeHands() async throws {
    let greeting = Greeting(name: "raw", requestLimit: 1000, bodyLimit: 1 << 30)
    let agreement = try await Handshake.client(
      reader, greeting: greeting, versions: WireVersion.supported,
      proofKey: Handshake.proofKey(key), driver: driver)
    reader.version = UInt8(agreement.version)
  }

  func send(_ bytes: [UInt8]) async -> Bool {
    (try? await connection.send([Slice(copying: bytes)])) != nil
  }

  /// A request's bytes.
  func request(id: UInt64, _ packet: Packet, deadline: UInt32 = 10_000) -> [UInt8] {
    var header = FrameHeader(version: reader.version, kind: .request)
    header.id = id
    header.method = 1
    header.deadlineMilliseconds = deadline
    let body = packet.body.flatMap(\.array)
    header.messageByteCount = packet.message.count
    header.bodyByteCount = body.count
    header.contentChecksum = checksum(packet.message + body)
    return header.bytes + packet.message + body
  }

  /// Waits until the other end closes; false when it has not after `limit`.
  func isCutOff(within limit: Duration) async -> Bool {
    let slice = driver.buffers.slice(4096)
    let outcome = await within(limit, driver) { [self] in
      while let count = try? await connection.receive(into: slice), count > 0 {}
      return !Task.isCancelled
    }
    return outcome.value && outcome.inTime
  }
}

extension FrameHeader {
  var bytes: [UInt8] {
    [UInt8](unsafeUninitializedCapacity: Self.byteCount) { target, count in
      encode(into: UnsafeMutableRawPointer(target.baseAddress!))
      count = Self.byteCount
    }
  }
}
