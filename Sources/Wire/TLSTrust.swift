internal import CCrypto
package import Ring

/// The client's end of TLS 1.2 and later towards servers that are not ours: whose certificates it believes, and what it
/// shows of itself. Certificates are checked at the driver's wall clock, not at one that OpenSSL reads by itself.
package final class TLSTrust: @unchecked Sendable {
  // Sound: set up once, then OpenSSL only counts references in it.
  fileprivate let context: OpaquePointer
  fileprivate let driver: any Driver

  package struct Failure: Error, Equatable {
    package var reason: String
  }

  /// - Parameters:
  ///   - authorities: PEM of the certificates to believe.
  ///   - certificate: PEM of our own and those up to its authority, when the server asks for one.
  ///   - key: PEM of its key, not encrypted.
  package init(
    authorities: [UInt8], certificate: [UInt8]? = nil, key: [UInt8]? = nil, driver: any Driver
  ) throws(Failure) {
    guard let fresh = SSL_CTX_new(TLS_client_method()) else {
      preconditionFailure("OpenSSL has no memory for a context")
    }
    context = fresh
    self.driver = driver
    ERR_clear_error()
    SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, Int(TLS1_2_VERSION), nil)
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
    let found = PEM.certificates(authorities)
    defer { for one in found { X509_free(one) } }
    guard !found.isEmpty else { throw Failure(reason: "no certificate in the authorities' file") }
    let store = SSL_CTX_get_cert_store(context)
    for one in found where X509_STORE_add_cert(store, one) != 1 {
      throw Failure(reason: PEM.lastError("a certificate cannot be used"))
    }
    if let certificate { try PEM.use(certificate, key: key, in: context) }
  }

  deinit { SSL_CTX_free(context) }

  /// Sessions with the server of that name, which its certificate must bear.
  ///
  /// - Parameter host: a name or a numeric address.
  package func sessions(with host: String) -> any TLSSessions {
    CertifiedSessions(trust: self, host: host)
  }

  package static let errorWords = "the server's certificate is not to be trusted"
}

private final class CertifiedSessions: TLSSessions, @unchecked Sendable {
  // Sound: nothing of it changes.
  let trust: TLSTrust
  let host: String

  init(trust: TLSTrust, host: String) {
    self.trust = trust
    self.host = host
  }

  func makeSession() -> OpaquePointer {
    guard let ssl = SSL_new(trust.context), let parameters = SSL_get0_param(ssl) else {
      preconditionFailure("OpenSSL has no memory for a connection")
    }
    SSL_set_connect_state(ssl)
    X509_VERIFY_PARAM_set_time(
      parameters, time_t(trust.driver.wallClock.components.seconds))
    if X509_VERIFY_PARAM_set1_ip_asc(parameters, host) != 1 {
      // A name: the server is told which one is meant.
      ERR_clear_error()
      X509_VERIFY_PARAM_set1_host(parameters, host, 0)
      var name = Array(host.utf8CString)
      SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, Int(TLSEXT_NAMETYPE_host_name), &name)
    }
    return ssl
  }

  func explain(_ session: OpaquePointer, reason: Int32) -> WireError? {
    let result = SSL_get_verify_result(session)
    guard reason == SSL_R_CERTIFICATE_VERIFY_FAILED, result != Int(X509_V_OK) else { return nil }
    let words = X509_verify_cert_error_string(result).map { String(cString: $0) } ?? "?"
    return .malformed("\(TLSTrust.errorWords): \(words)")
  }
}
