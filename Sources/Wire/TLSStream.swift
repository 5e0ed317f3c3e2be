internal import CCrypto
package import Ring

/// What a ``TLSStream`` makes its session from, and how it tells failures.
package protocol TLSSessions: AnyObject, Sendable {
  /// A session of OpenSSL's in its role.
  func makeSession() -> OpaquePointer
  /// Why a handshake or record failed; nil when OpenSSL's own words are all there is.
  ///
  /// - Parameter reason: OpenSSL's reason code (`SSL_R_…`).
  func explain(_ session: OpaquePointer, reason: Int32) -> WireError?
}

/// TLS 1.3 with one external pre-shared key and no certificates. One for each key and role.
///
/// The suite is TLS_AES_128_GCM_SHA256, the key exchange psk_dhe_ke: a key that leaks later opens no
/// recorded connection.
final class TLSContext: TLSSessions, @unchecked Sendable {
  // Sound: set up once, then OpenSSL only counts references in it.
  fileprivate let context: OpaquePointer
  fileprivate let key: [UInt8]
  private let isServer: Bool

  /// Not secret, the same everywhere.
  fileprivate nonisolated(unsafe) static let identity: UnsafePointer<UInt8> = {
    let text = Array("cairn".utf8)
    let bytes = UnsafeMutablePointer<UInt8>.allocate(capacity: text.count)
    bytes.initialize(from: text, count: text.count)
    return UnsafePointer(bytes)
  }()
  fileprivate static let identityByteCount = 5

  /// - Parameter key: 32 bytes.
  init(key: [UInt8], isServer: Bool) {
    guard let fresh = SSL_CTX_new(isServer ? TLS_server_method() : TLS_client_method()) else {
      preconditionFailure("OpenSSL has no memory for a context")
    }
    context = fresh
    self.key = key
    self.isServer = isServer
    let version = Int(TLS1_3_VERSION)
    SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, version, nil)
    SSL_CTX_ctrl(context, SSL_CTRL_SET_MAX_PROTO_VERSION, version, nil)
    SSL_CTX_ctrl(context, SSL_CTRL_MODE, Int(SSL_MODE_RELEASE_BUFFERS), nil)
    precondition(SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") == 1)
    SSL_CTX_set_num_tickets(context, 0)
    // The context outlives every stream made of it, and so do the callbacks.
    SSL_CTX_set_ex_data(context, 0, Unmanaged.passUnretained(self).toOpaque())
    if isServer {
      SSL_CTX_set_psk_find_session_callback(context) { ssl, identity, count, session in
        guard let ssl, let identity, let session else { return 0 }
        session.pointee = nil
        if count == TLSContext.identityByteCount,
          CRYPTO_memcmp(identity, TLSContext.identity, count) == 0
        {
          session.pointee = TLSContext.session(for: ssl)
        }
        return 1
      }
    } else {
      SSL_CTX_set_psk_use_session_callback(context) { ssl, digest, identity, count, session in
        guard let ssl, let identity, let count, let session else { return 0 }
        identity.pointee = TLSContext.identity
        count.pointee = TLSContext.identityByteCount
        session.pointee = TLSContext.session(for: ssl)
        return session.pointee == nil ? 0 : 1
      }
    }
  }

  deinit { SSL_CTX_free(context) }

  /// The pre-shared key in the form that OpenSSL takes it.
  private static func session(for ssl: OpaquePointer) -> OpaquePointer? {
    guard let context = SSL_get_SSL_CTX(ssl), let pointer = SSL_CTX_get_ex_data(context, 0),
      let session = SSL_SESSION_new()
    else { return nil }
    let key = Unmanaged<TLSContext>.fromOpaque(pointer).takeUnretainedValue().key
    let suite: [UInt8] = [0x13, 0x01]
    guard let cipher = SSL_CIPHER_find(ssl, suite),
      SSL_SESSION_set1_master_key(session, key, key.count) == 1,
      SSL_SESSION_set_cipher(session, cipher) == 1,
      SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1
    else {
      SSL_SESSION_free(session)
      return nil
    }
    return session
  }

  package func explain(_ session: OpaquePointer, reason: Int32) -> WireError? {
    switch reason {
    case SSL_R_BINDER_DOES_NOT_VERIFY, SSL_R_TLSV1_ALERT_DECRYPT_ERROR,
      SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER, SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE,
      SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, SSL_R_NO_SHARED_CIPHER:
      .wrongKey
    default: nil
    }
  }

  package func makeSession() -> OpaquePointer {
    guard let ssl = SSL_new(context) else {
      preconditionFailure("OpenSSL has no memory for a connection")
    }
    if isServer { SSL_set_accept_state(ssl) } else { SSL_set_connect_state(ssl) }
    return ssl
  }
}

/// TLS over a plain stream. OpenSSL sees two buffers, never a socket.
package final class TLSStream: ByteStream, @unchecked Sendable {
  // Loop-confined.
  private let plain: any ByteStream
  private let sessions: any TLSSessions
  private let ssl: OpaquePointer
  private let pool: BufferPool

  /// Received, still encrypted.
  private var input: Buffer?
  private var inputStart = 0
  private var inputEnd = 0
  private var inputCapacity = TLSStream.smallestInput

  /// Encrypted, to be sent.
  private var output: [Slice] = []
  private var outputBuffer: Buffer?
  private var outputCount = 0

  private var sentSinceRekey: UInt64 = 0
  private var isEstablished = false

  private static let smallestInput = 4096
  private static let largestInput = 256 << 10
  /// Plain bytes encrypted before they are sent: enough to share system calls, and still in cache.
  private static let outputPiece = 224 << 10
  /// AES-GCM keeps its margin for 2^24.5 full records (RFC 8446, 5.5); we change keys after 2^22.
  static let rekeyByteCount: UInt64 = 1 << 36
  /// Lower in tests.
  var rekeyAfter = TLSStream.rekeyByteCount

  /// - Parameter alreadyRead: what came in before it was clear that this is TLS.
  package init(
    _ plain: any ByteStream, context sessions: any TLSSessions, pool: BufferPool,
    alreadyRead: [UInt8] = []
  ) {
    self.plain = plain
    self.sessions = sessions
    self.pool = pool
    ssl = sessions.makeSession()
    if !alreadyRead.isEmpty {
      let slice = Slice(copying: alreadyRead, pool: pool)
      input = slice.buffer
      inputEnd = alreadyRead.count
    }
    guard let bio = BIO_new(Self.method) else {
      preconditionFailure("OpenSSL has no memory for a connection")
    }
    // Unretained: `deinit` frees the session, and the BIO with it.
    BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
    SSL_set_bio(ssl, bio, bio)
  }

  deinit { SSL_free(ssl) }

  package var transportCode: UInt8 { 1 }

  // MARK: What OpenSSL calls

  private nonisolated(unsafe) static let method: OpaquePointer = {
    guard let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "cairn") else {
      preconditionFailure("OpenSSL has no memory")
    }
    BIO_meth_set_create(method) { bio in
      BIO_set_init(bio, 1)
      return 1
    }
    BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
    BIO_meth_set_write_ex(method) { bio, bytes, count, written in
      guard let pointer = BIO_get_data(bio), let bytes, let written else { return 0 }
      let stream = Unmanaged<TLSStream>.fromOpaque(pointer).takeUnretainedValue()
      stream.append(UnsafeRawBufferPointer(start: bytes, count: count))
      written.pointee = count
      return 1
    }
    BIO_meth_set_read_ex(method) { bio, bytes, count, read in
      guard let pointer = BIO_get_data(bio), let bytes, let read else { return 0 }
      let stream = Unmanaged<TLSStream>.fromOpaque(pointer).takeUnretainedValue()
      BIO_clear_flags(
        bio, BIO_FLAGS_READ | BIO_FLAGS_WRITE | BIO_FLAGS_IO_SPECIAL | BIO_FLAGS_SHOULD_RETRY)
      read.pointee = stream.consume(into: bytes, count)
      if read.pointee == 0 {
        BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
        return 0
      }
      return 1
    }
    return method
  }()

  private func append(_ bytes: UnsafeRawBufferPointer) {
    var rest = bytes
    while !rest.isEmpty {
      let buffer: Buffer
      if let outputBuffer, outputCount < outputBuffer.byteCount {
        buffer = outputBuffer
      } else {
        sealOutput()
        buffer = pool.take(rest.count)
        outputBuffer = buffer
      }
      let count = min(rest.count, buffer.byteCount - outputCount)
      (buffer.base + outputCount).copyMemory(from: rest.baseAddress!, byteCount: count)
      outputCount += count
      rest = UnsafeRawBufferPointer(rebasing: rest[count...])
    }
  }

  private func sealOutput() {
    if let outputBuffer, outputCount > 0 {
      output.append(Slice(buffer: outputBuffer, offset: 0, count: outputCount))
    }
    outputBuffer = nil
    outputCount = 0
  }

  private func consume(into target: UnsafeMutablePointer<CChar>, _ limit: Int) -> Int {
    let count = min(limit, inputEnd - inputStart)
    guard count > 0, let input else { return 0 }
    UnsafeMutableRawPointer(target).copyMemory(from: input.base + inputStart, byteCount: count)
    inputStart += count
    return count
  }

  // MARK: Both directions

  /// Sends what OpenSSL has made.
  private func flush() async throws(WireError) {
    sealOutput()
    if output.isEmpty { return }
    let slices = output
    output.removeAll()
    try await plain.send(slices)
  }

  /// Receives more encrypted bytes; false at the end of the stream.
  private func fill() async throws(WireError) -> Bool {
    // Everything has been consumed, or OpenSSL would not ask.
    inputStart = 0
    inputEnd = 0
    if inputCapacity == Self.smallestInput {
      input = nil
      let slice = try await plain.receive()
      input = slice.buffer
      inputStart = slice.offset
      inputEnd = slice.offset + slice.count
      if slice.count == Self.smallestInput { inputCapacity *= 2 }
      return slice.count > 0
    }
    if input == nil || inputCapacity != input?.byteCount { input = pool.take(inputCapacity) }
    guard let input else { return false }
    let count = try await plain.receive(into: input.slice, waitForAll: false)
    inputEnd = count
    if count == input.byteCount {
      inputCapacity = min(2 * inputCapacity, Self.largestInput)
    } else if count < input.byteCount / 4 && inputCapacity > Self.smallestInput {
      inputCapacity /= 2
    }
    return count > 0
  }

  /// Before anything is sent or received, where that did not begin with it.
  ///
  /// - Throws: ``WireError/wrongKey`` when the other end holds another key.
  package func handshake() async throws(WireError) {
    while true {
      ERR_clear_error()
      let status = SSL_do_handshake(ssl)
      let reason = status == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl, status)
      let failure = reason == SSL_ERROR_SSL ? failure() : nil
      // Also after a failure: the alert tells the other end.
      try await flush()
      if status == 1 {
        isEstablished = true
        return
      }
      if let failure { throw failure }
      guard reason == SSL_ERROR_WANT_READ else { throw .disconnected("TLS handshake") }
      guard try await fill() else { throw .disconnected("the stream ended in the TLS handshake") }
    }
  }

  private func failure() -> WireError {
    let code = ERR_peek_last_error()
    let reason = Int32(code & 0x7F_FFFF)
    ERR_clear_error()
    if let known = sessions.explain(ssl, reason: reason) { return known }
    return .malformed("TLS: \(ERR_reason_error_string(code).map { String(cString: $0) } ?? "?")")
  }

  package func give(_ slice: Slice) {
    input = slice.buffer
    inputStart = slice.offset
    inputEnd = slice.offset + slice.count
  }

  package func rest() { if inputStart == inputEnd { input = nil } }

  package var isHolding: Bool { inputStart != inputEnd || SSL_has_pending(ssl) != 0 }

  package func receive() async throws(WireError) -> Slice {
    // No memory for plain bytes before there are encrypted ones.
    if !isHolding {
      guard try await fill() else { return .none }
    }
    let slice = pool.slice(4096)
    return slice[0..<(try await receive(into: slice, waitForAll: false))]
  }

  package func receive(into slice: Slice, waitForAll: Bool) async throws(WireError) -> Int {
    if !isEstablished { try await handshake() }
    var done = 0
    while done < slice.count {
      ERR_clear_error()
      var count = 0
      let status = SSL_read_ex(
        ssl, slice.buffer.base + slice.offset + done, slice.count - done, &count)
      if status == 1 {
        done += count
        // Whole records that are here already cost no system call.
        continue
      }
      let reason = SSL_get_error(ssl, status)
      switch reason {
      case SSL_ERROR_WANT_READ:
        if done > 0 && !waitForAll { return done }
        guard try await fill() else { return done }
      case SSL_ERROR_ZERO_RETURN:
        return done
      case SSL_ERROR_SSL:
        let failure = failure()
        throw failure == .wrongKey ? .malformed("TLS record") : failure
      default:
        throw .disconnected("TLS")
      }
    }
    return done
  }

  package func send(_ slices: [Slice]) async throws(WireError) {
    if !isEstablished { try await handshake() }
    var pending = 0
    for slice in slices {
      var offset = 0
      while offset < slice.count {
        if outputBuffer == nil { reserveOutput(slices, pending) }
        let count = min(slice.count - offset, Self.outputPiece - pending)
        try encrypt(slice.buffer.base + slice.offset + offset, count)
        offset += count
        pending += count
        if pending == Self.outputPiece {
          try await flush()
          pending = 0
        }
      }
    }
    try await flush()
  }

  /// One buffer for what will be sent together, where that is known.
  private func reserveOutput(_ slices: [Slice], _ pending: Int) {
    var plainByteCount = 0
    for slice in slices {
      plainByteCount += slice.count + 64
      if plainByteCount >= Self.outputPiece { break }
    }
    let wanted = min(plainByteCount, Self.outputPiece)
    sealOutput()
    outputBuffer = pool.take(wanted + wanted / 16384 * 32 + 256)
  }

  private func encrypt(_ bytes: UnsafeMutableRawPointer, _ count: Int) throws(WireError) {
    if sentSinceRekey >= rekeyAfter {
      SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED)
      sentSinceRekey = 0
    }
    ERR_clear_error()
    var written = 0
    guard SSL_write_ex(ssl, bytes, count, &written) == 1, written == count else {
      ERR_clear_error()
      throw .disconnected("TLS write")
    }
    sentSinceRekey += UInt64(count)
  }
}
