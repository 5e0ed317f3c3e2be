internal import CCrypto

/// Certificates and keys as files hold them, into what OpenSSL makes sessions of.
enum PEM {
  /// Takes a certificate, those up to its authority that follow it, and its key.
  ///
  /// - Parameter key: not encrypted.
  static func use(_ certificate: [UInt8], key: [UInt8]?, in context: OpaquePointer)
    throws(TLSTrust.Failure)
  {
    let chain = certificates(certificate)
    defer { for one in chain { X509_free(one) } }
    guard let first = chain.first else {
      throw TLSTrust.Failure(reason: "no certificate in the certificate's file")
    }
    guard SSL_CTX_use_certificate(context, first) == 1 else {
      throw TLSTrust.Failure(reason: lastError("the certificate cannot be used"))
    }
    for one in chain.dropFirst() {
      // Takes the reference over.
      X509_up_ref(one)
      guard
        SSL_CTX_ctrl(context, SSL_CTRL_EXTRA_CHAIN_CERT, 0, UnsafeMutableRawPointer(one)) == 1
      else {
        X509_free(one)
        throw TLSTrust.Failure(reason: lastError("the certificate's chain cannot be used"))
      }
    }
    guard let key else { throw TLSTrust.Failure(reason: "a certificate needs its key") }
    let secret = reading(key) { PEM_read_bio_PrivateKey($0, nil, noPassphrase, nil) }
    guard let secret else {
      throw TLSTrust.Failure(reason: "no key in the key's file, or an encrypted one")
    }
    defer { EVP_PKEY_free(secret) }
    guard SSL_CTX_use_PrivateKey(context, secret) == 1, SSL_CTX_check_private_key(context) == 1
    else { throw TLSTrust.Failure(reason: lastError("the key does not belong to the certificate")) }
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

  /// The caller's to free.
  static func certificates(_ pem: [UInt8]) -> [OpaquePointer] {
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

  static func lastError(_ what: String) -> String {
    let code = ERR_peek_last_error()
    ERR_clear_error()
    guard let reason = ERR_reason_error_string(code) else { return what }
    return "\(what): \(String(cString: reason))"
  }
}

/// Nobody is asked at a terminal.
private func noPassphrase(
  _: UnsafeMutablePointer<CChar>?, _: Int32, _: Int32, _: UnsafeMutableRawPointer?
) -> Int32 { -1 }
