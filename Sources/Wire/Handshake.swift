import Coding
import Ring

/// What one end says of itself in the handshake.
struct Greeting: Equatable {
  /// "node n3", "client": at most ``nameByteCount`` bytes.
  var name: String
  /// Requests that may be unanswered on this connection.
  var requestLimit: Int
  /// Bytes of their bodies together.
  var bodyLimit: Int

  static let nameByteCount = 200
}

/// What both ends have agreed on.
struct Agreement: Equatable {
  var version: UInt16
  var peerName: String
  /// The smaller of both ends' limits.
  var requestLimit: Int
  var bodyLimit: Int
}

/// The start of every connection: versions, names, limits, and proof on both sides that the other
/// holds the cluster's key. Nothing else is answered before.
///
/// Four messages at most, each `magic "CRNH" · step u8 · 0 u8 · payload length u16 · payload`
/// (little-endian, payload at most 1,024 bytes):
///
/// | step | from | payload |
/// |---|---|---|
/// | 1 hello | client | lowest version u16, highest version u16, nonce 32, request limit u32, body limit u64, name (u8 length, UTF-8) |
/// | 2 hello | server | chosen version u16, nonce 32, request limit u32, body limit u64, name, proof 32 |
/// | 3 proof | client | proof 32 |
/// | 4 refusal | server, in place of 2 | reason u8 (1 no common version, 2 TLS demanded, 3 too many connections), lowest version u16, highest version u16 |
///
/// A proof is HMAC-SHA-256 under the key's subkey "wire handshake" over: the prover's role ("server" or
/// "client", so that a proof cannot be sent back to its maker), the transport (u8: 0 plain, 1 TLS), and
/// the payloads of step 1 and of step 2 without its proof, each after its u16 length. So neither the
/// versions nor the limits can be changed on the way. The client may send frames right after step 3.
enum Handshake {
  static let magic = Array("CRNH".utf8)
  static let deadline = Duration.seconds(5)
  private static let headByteCount = 8
  private static let payloadByteCount = 1024
  private static let nonceByteCount = 32

  enum Step: UInt8 {
    case clientHello = 1
    case serverHello = 2
    case clientProof = 3
    case refusal = 4
  }
  enum Reason: UInt8 {
    case version = 1
    case demandsTLS = 2
    case tooMany = 3
  }

  static func proofKey(_ key: ClusterKey) -> [UInt8] { key.subkey("wire handshake") }

  private static func proved(
    _ role: String, _ transport: UInt8, _ clientHello: [UInt8], _ serverHello: [UInt8]
  ) -> [UInt8] {
    var writer = ByteWriter(reserving: 512)
    writer.string(role)
    writer.fixed(transport)
    writer.fixed(UInt16(clientHello.count))
    writer.raw(clientHello)
    writer.fixed(UInt16(serverHello.count))
    writer.raw(serverHello)
    return writer.bytes
  }

  /// - Throws: ``WireError/wrongKey``, ``WireError/version(_:)``, ``WireError/malformed(_:)``,
  ///   ``WireError/disconnected(_:)``.
  static func client(
    _ reader: FrameReader, greeting: Greeting, versions: ClosedRange<UInt16>, proofKey: [UInt8],
    driver: any Driver
  ) async throws(WireError) -> Agreement {
    let stream = reader.stream
    var hello = ByteWriter(reserving: 128)
    hello.fixed(versions.lowerBound)
    hello.fixed(versions.upperBound)
    hello.raw(driver.randomBytes(nonceByteCount))
    write(greeting, to: &hello)
    try await send(.clientHello, hello.bytes, stream, driver)

    let (step, payload) = try await receive(reader)
    if step == .refusal { throw refusal(payload, versions: versions) }
    guard step == .serverHello, payload.count > 32 else { throw .malformed("handshake") }
    let answer = Array(payload.dropLast(32))
    let proof = Array(payload.suffix(32))
    guard
      HMACSHA256.isValid(
        proof, for: proved("server", stream.transportCode, hello.bytes, answer), key: proofKey)
    else { throw .wrongKey }
    do {
      var fields = ByteReader(answer)
      let version: UInt16 = try fields.fixed()
      guard versions.contains(version) else { throw ValueError.invalid("version") }
      _ = try fields.raw(nonceByteCount)
      let peer = try readGreeting(&fields)
      try fields.finish()
      let mine = HMACSHA256.authenticate(
        proved("client", stream.transportCode, hello.bytes, answer), key: proofKey)
      try await send(.clientProof, mine, stream, driver)
      return agreement(version, greeting, peer)
    } catch let error as WireError {
      throw error
    } catch {
      throw .malformed("handshake: \(error)")
    }
  }

  /// - Throws: as ``client(_:greeting:versions:proofKey:driver:)``.
  static func server(
    _ reader: FrameReader, greeting: Greeting, versions: ClosedRange<UInt16>, proofKey: [UInt8],
    refuse reason: Reason?, driver: any Driver
  ) async throws(WireError) -> Agreement {
    let stream = reader.stream
    let (step, hello) = try await receive(reader)
    guard step == .clientHello else { throw .malformed("handshake") }
    let lowest: UInt16
    let highest: UInt16
    let peer: Greeting
    do {
      var fields = ByteReader(hello)
      lowest = try fields.fixed()
      highest = try fields.fixed()
      _ = try fields.raw(nonceByteCount)
      peer = try readGreeting(&fields)
      try fields.finish()
    } catch {
      throw .malformed("handshake: \(error)")
    }
    let version = min(highest, versions.upperBound)
    let hasVersion = version >= max(lowest, versions.lowerBound)
    if let reason = hasVersion ? reason : .version {
      var refusal = ByteWriter()
      refusal.fixed(reason.rawValue)
      refusal.fixed(versions.lowerBound)
      refusal.fixed(versions.upperBound)
      try await send(.refusal, refusal.bytes, stream, driver)
      switch reason {
      case .version: throw .version("the peer speaks versions \(lowest) to \(highest)")
      case .demandsTLS: throw .unreachable("plain frames are refused")
      case .tooMany: throw .unreachable("too many connections")
      }
    }
    var answer = ByteWriter(reserving: 160)
    answer.fixed(version)
    answer.raw(driver.randomBytes(nonceByteCount))
    write(greeting, to: &answer)
    let described = answer.bytes
    answer.raw(
      HMACSHA256.authenticate(
        proved("server", stream.transportCode, hello, described), key: proofKey))
    try await send(.serverHello, answer.bytes, stream, driver)

    let last: Step
    let proof: [UInt8]
    do throws(WireError) {
      (last, proof) = try await receive(reader)
    } catch {
      // So does a client that holds another key: our proof told it.
      guard case .disconnected = error else { throw error }
      throw .disconnected("the peer left without proving the key")
    }
    guard last == .clientProof,
      HMACSHA256.isValid(
        proof, for: proved("client", stream.transportCode, hello, described), key: proofKey)
    else { throw .wrongKey }
    return agreement(version, greeting, peer)
  }

  private static func agreement(_ version: UInt16, _ mine: Greeting, _ peer: Greeting) -> Agreement
  {
    Agreement(
      version: version, peerName: peer.name,
      requestLimit: min(mine.requestLimit, peer.requestLimit),
      bodyLimit: min(mine.bodyLimit, peer.bodyLimit))
  }

  private static func refusal(_ payload: [UInt8], versions: ClosedRange<UInt16>) -> WireError {
    do {
      var fields = ByteReader(payload)
      let code: UInt8 = try fields.fixed()
      let lowest: UInt16 = try fields.fixed()
      let highest: UInt16 = try fields.fixed()
      switch Reason(rawValue: code) {
      case .version:
        return .version(
          "the peer speaks versions \(lowest) to \(highest), we \(versions.lowerBound) to "
            + "\(versions.upperBound)")
      case .demandsTLS: return .unreachable("the peer demands TLS")
      case .tooMany: return .unreachable("the peer has too many connections")
      case nil: return .malformed("handshake refused for reason \(code)")
      }
    } catch {
      return .malformed("handshake: \(error)")
    }
  }

  private static func write(_ greeting: Greeting, to writer: inout ByteWriter) {
    writer.fixed(UInt32(clamping: greeting.requestLimit))
    writer.fixed(UInt64(greeting.bodyLimit))
    let name = Array(greeting.name.utf8.prefix(Greeting.nameByteCount))
    writer.fixed(UInt8(name.count))
    writer.raw(name)
  }

  private static func readGreeting(_ reader: inout ByteReader) throws(ValueError) -> Greeting {
    let requests: UInt32 = try reader.fixed()
    let bodies: UInt64 = try reader.fixed()
    let count: UInt8 = try reader.fixed()
    guard requests > 0, bodies >= UInt64(WireLimits.bodyByteCount) else { throw .invalid("limits") }
    guard count <= Greeting.nameByteCount else { throw .invalid("name") }
    let name = try reader.raw(Int(count))
    // A name ends up in logs: nothing that could forge a line.
    guard let text = String(validating: name, as: UTF8.self),
      name.allSatisfy({ $0 >= 32 && $0 != 127 })
    else { throw .invalid("name") }
    return Greeting(
      name: text, requestLimit: Int(requests), bodyLimit: Int(min(bodies, UInt64(Int.max))))
  }

  private static func send(
    _ step: Step, _ payload: [UInt8], _ stream: any ByteStream, _ driver: any Driver
  ) async throws(WireError) {
    var writer = ByteWriter(reserving: headByteCount + payload.count)
    writer.raw(magic)
    writer.fixed(step.rawValue)
    writer.fixed(UInt8(0))
    writer.fixed(UInt16(payload.count))
    writer.raw(payload)
    try await stream.send([Slice(copying: writer.bytes, pool: driver.buffers)])
  }

  private static func receive(_ reader: FrameReader) async throws(WireError) -> (Step, [UInt8]) {
    let head = try await reader.read(headByteCount)
    let count = Int(head[6]) | Int(head[7]) << 8
    guard Array(head[0..<4]) == magic, let step = Step(rawValue: head[4]), head[5] == 0,
      count <= payloadByteCount
    else { throw .malformed("no handshake") }
    return (step, count == 0 ? [] : try await reader.read(count))
  }
}

/// Runs `body`, and cancels it when it takes longer than `limit`. Its value is returned in any case: a
/// success at the last moment may hold a connection that somebody must close.
func within<Value: Sendable>(
  _ limit: Duration, _ driver: any Driver,
  _ body: @escaping @Sendable () async -> Value
) async -> (value: Value, inTime: Bool) {
  await withTaskGroup(of: Value?.self) { race in
    race.addTask { await body() }
    race.addTask {
      await driver.sleep(limit)
      return nil
    }
    var inTime = true
    var value: Value?
    while let next = await race.next() {
      if let next { value = next } else if value == nil { inTime = false }
      race.cancelAll()
    }
    return (value!, inTime)
  }
}
