internal import CCrypto

/// HMAC with SHA-256, RFC 2104.
///
/// Built here from two SHA-256 states: OpenSSL's own costs 1.8 us a message for the objects it
/// allocates and looks up, this about a fifth of that.
package enum HMACSHA256 {
  package static let byteCount = 32

  /// The 32-byte code of `bytes` under `key`, which may have any length.
  package static func authenticate(_ bytes: [UInt8], key: [UInt8]) -> [UInt8] {
    bytes.withUnsafeBytes { authenticate($0, key: key) }
  }

  /// The 32-byte code of `bytes` under `key`, which may have any length.
  package static func authenticate(_ bytes: UnsafeRawBufferPointer, key: [UInt8]) -> [UInt8] {
    var block = [UInt8](repeating: 0, count: 64)
    let short = key.count <= 64 ? key : Fingerprint(of: key).bytes
    for index in short.indices { block[index] = short[index] ^ 0x36 }
    for index in short.count..<64 { block[index] = 0x36 }

    var hasher = SHA256Hasher()
    hasher.update(block)
    hasher.update(bytes)
    let inner = hasher.finish()

    for index in block.indices { block[index] ^= 0x36 ^ 0x5c }
    hasher.update(block)
    hasher.update(inner.bytes)
    return hasher.finish().bytes
  }

  /// Whether `mac` is the whole code of `bytes` under `key`. The time taken does not depend on where
  /// it differs.
  package static func isValid(_ mac: [UInt8], for bytes: [UInt8], key: [UInt8]) -> Bool {
    bytes.withUnsafeBytes { isValid(mac, for: $0, key: key) }
  }

  /// Whether `mac` is the whole code of `bytes` under `key`. The time taken does not depend on where
  /// it differs.
  package static func isValid(
    _ mac: [UInt8], for bytes: UnsafeRawBufferPointer, key: [UInt8]
  ) -> Bool {
    guard mac.count == byteCount else { return false }
    return CRYPTO_memcmp(mac, authenticate(bytes, key: key), byteCount) == 0
  }
}

/// Keys made from a key.
package enum KeyDerivation {
  /// HKDF with SHA-256, RFC 5869: extract, then expand.
  ///
  /// - Parameters:
  ///   - key: secret input, not empty.
  ///   - salt: not secret; may be empty.
  ///   - info: what the result is for, taken as UTF-8; different texts give unrelated keys.
  ///   - byteCount: 1 to 8,160 (the standard's limit: 255 digests).
  package static func hkdf(
    key: [UInt8], salt: [UInt8], info: String, byteCount: Int
  ) -> [UInt8] {
    hkdf(key: key, salt: salt, info: Array(info.utf8), byteCount: byteCount)
  }

  /// The same with `info` as bytes.
  package static func hkdf(
    key: [UInt8], salt: [UInt8], info: [UInt8], byteCount: Int
  ) -> [UInt8] {
    precondition(!key.isEmpty && (1...255 * 32).contains(byteCount))
    guard let kdf = EVP_KDF_fetch(nil, "HKDF", nil) else {
      preconditionFailure("OpenSSL has no HKDF")
    }
    defer { EVP_KDF_free(kdf) }
    guard let context = EVP_KDF_CTX_new(kdf) else {
      preconditionFailure("OpenSSL has no memory for a key derivation")
    }
    defer { EVP_KDF_CTX_free(context) }

    // The parameters only point at their values, which therefore outlive the call below.
    var digest = Array("SHA256\0".utf8)
    var key = key
    var salt = salt
    var info = info
    var result = [UInt8](repeating: 0, count: byteCount)
    let status = digest.withUnsafeMutableBufferPointer { digest in
      key.withUnsafeMutableBytes { key in
        salt.withUnsafeMutableBytes { salt in
          info.withUnsafeMutableBytes { info in
            var parameters = [
              digest.withMemoryRebound(to: CChar.self) {
                OSSL_PARAM_construct_utf8_string("digest", $0.baseAddress, 0)
              },
              OSSL_PARAM_construct_octet_string("key", key.baseAddress, key.count),
            ]
            // An absent salt means 32 zeros and an absent info means nothing, as when empty; empty
            // ones have no address, which OpenSSL refuses.
            if !salt.isEmpty {
              parameters.append(
                OSSL_PARAM_construct_octet_string("salt", salt.baseAddress, salt.count))
            }
            if !info.isEmpty {
              parameters.append(
                OSSL_PARAM_construct_octet_string("info", info.baseAddress, info.count))
            }
            parameters.append(OSSL_PARAM_construct_end())
            return EVP_KDF_derive(context, &result, result.count, parameters)
          }
        }
      }
    }
    precondition(status == 1, "OpenSSL refused to derive a key")
    return result
  }
}
