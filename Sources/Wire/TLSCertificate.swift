internal import CCrypto

/// The server's end of TLS 1.2 and 1.3 towards clients that are not ours, which believe its certificate. It asks them for none.
package final class TLSCertificate: TLSSessions, @unchecked Sendable {
  // Sound: set up once, then OpenSSL only counts references in it.
  private let context: OpaquePointer

  /// `SSL_OP_NO_RENEGOTIATION`, a macro that Swift does not see.
  private static let noRenegotiation = UInt64(1) << 30

  /// - Parameters:
  ///   - chain: PEM of the certificate and those up to its authority.
  ///   - key: PEM of its key, not encrypted.
  package init(chain: [UInt8], key: [UInt8]) throws(TLSTrust.Failure) {
    guard let fresh = SSL_CTX_new(TLS_server_method()) else {
      preconditionFailure("OpenSSL has no memory for a context")
    }
    context = fresh
    ERR_clear_error()
    SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, Int(TLS1_2_VERSION), nil)
    SSL_CTX_ctrl(context, SSL_CTRL_MODE, Int(SSL_MODE_RELEASE_BUFFERS), nil)
    // Of 1.2 what has forward secrecy and authenticates what it encrypts.
    precondition(SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1)
    // What a client resumes is in its ticket; nothing of it is kept here.
    SSL_CTX_ctrl(context, SSL_CTRL_SET_SESS_CACHE_MODE, Int(SSL_SESS_CACHE_OFF), nil)
    SSL_CTX_set_num_tickets(context, 1)
    // A client could have the server do handshakes over and over.
    SSL_CTX_set_options(context, Self.noRenegotiation)
    try PEM.use(chain, key: key, in: context)
  }

  deinit { SSL_CTX_free(context) }

  package func makeSession() -> OpaquePointer {
    guard let ssl = SSL_new(context) else {
      preconditionFailure("OpenSSL has no memory for a connection")
    }
    SSL_set_accept_state(ssl)
    return ssl
  }

  package func explain(_ session: OpaquePointer, reason: Int32) -> WireError? { nil }
}
