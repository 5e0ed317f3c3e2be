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
    let found = Self.certificates(authorities)
    defer { for one in found { X509_free(one) } }
    guard !found.isEmpty else { throw Failure(reason: "no certificate in the authorities' file") }
    let store = SSL_CTX_get_cert_store(context)
    for one in found where X509_STORE_add_cert(store, one) != 1 {
      throw Failure(reason: Self.lastError("a certificate cannot be used"))
    }
    if let certificate { try use(certificate, key) }
  }

  deinit { SSL_CTX_free(context) }

  private func use(_ certificate: [UInt8], _ key: [UInt8]?) throws(Failure) {
    let chain = Self.certificates(certificate)
    defer { for one in chain { X509_free(one) } }
    guard let first = chain.first else {
      throw Failure(reason: "no certificate in the certificate's file")
    }
    guard SSL_CTX_use_certificate(context, first) == 1 else {
      throw Failure(reason: Self.lastError("the certificate cannot be used"))
    }
    for one in chain.dropFirst() {
      // Takes the reference over.
      X509_up_ref(one)
      guard
        SSL_CTX_ctrl(context, SSL_CTRL_EXTRA_CHAIN_CERT, 0, UnsafeMutableRawPointer(one)) == 1
      else {
        X509_free(one)
        throw Failure(reason: Self.lastError("the certificate's chain cannot be used"))
      }
    }
    guard let key else { throw Failure(reason: "a certificate needs its key") }
    let secret = Self.reading(key) { PEM_read_bio_PrivateKey($0, nil, noPassphrase, nil) }
    guard let secret else { throw Failure(reason: "no key in the key's file, or an encrypted one") }
    defer { EVP_PKEY_free(secret) }
    guard SSL_CTX_use_PrivateKey(context, secret) == 1, SSL_CTX_check_private_key(context) == 1
    else { throw Failure(reason: Self.lastError("the key does not belong to the certificate")) }
  }

  private static func reading<Value>(_ bytes: [UInt8], _ body: (OpaquePointer) -> Value?) -> Value?
  {
    bytes.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress, let bio = BIO_new_mem_buf(base, Int32(bytes.count))
      else { return nil }
      defer { BIO_free(bio) }
      return body(bio)
    }
  }

  private static func certificates(_ pem: [UInt8]) -> [OpaquePointer] {
    var found: [OpaquePointer] = []
    _ = reading(pem) { bio -> Bool? in
      while found.count < 1024, let one = PEM_read_bio_X509(bio, nil, noPassphrase, nil) {
        found.append(one)
      }
      return nil
    }
    // The end of the file is an error to OpenSSL.
    ERR_clear_error()
    return found
  }

  private static func lastError(_ what: String) -> String {
    let code = ERR_peek_last_error()
    ERR_clear_error()
    guard let reason = ERR_reason_error_string(code) else { return what }
    return "\(what): \(String(cString: reason))"
  }

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

/// Nobody is asked at a terminal.
private func noPassphrase(
  _: UnsafeMutablePointer<CChar>?, _: Int32, _: Int32, _: UnsafeMutableRawPointer?
) -> Int32 { -1 }
