internal import CCrypto

/// HMAC with SHA-256, RFC 2104.
///
/// Built here from two SHA-256 states: OpenSSL's own costs 1.8 us a message for the objects it
/// allocates and looks up, this about a quarter of that.
package enum HMACSHA256 {
  package static let byteCount = 32
  /// SHA-256 takes its input in blocks of this size; a longer key is hashed first.
  private static let blockByteCount = 64

  /// The 32-byte code of `bytes` under `key`, which may have any length.
  package static func authenticate(_ bytes: [UInt8], key: [UInt8]) -> [UInt8] {
    bytes.withUnsafeBytes { authenticate($0, key: key) }
  }

  /// The 32-byte code of `bytes` under `key`, which may have any length.
  package static func authenticate(_ bytes: UnsafeRawBufferPointer, key: [UInt8]) -> [UInt8] {
    if key.count > blockByteCount {
      return authenticate(bytes, key: Fingerprint(of: key).bytes)
    }
    return withUnsafeTemporaryAllocation(byteCount: blockByteCount, alignment: 8) { block in
      block.initializeMemory(as: UInt8.self, repeating: 0)
      block.copyBytes(from: key)
      // The key is secret, and the stack will be used by others.
      defer { OPENSSL_cleanse(block.baseAddress, blockByteCount) }

      var hasher = SHA256Hasher()
      for place in 0..<blockByteCount { block[place] ^= 0x36 }
      hasher.update(UnsafeRawBufferPointer(block))
      hasher.update(bytes)
      let inner = hasher.finish().bytes

      for place in 0..<blockByteCount { block[place] ^= 0x36 ^ 0x5c }
      hasher.update(UnsafeRawBufferPointer(block))
      hasher.update(inner)
      return hasher.finish().bytes
    }
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
    precondition(!key.isEmpty && (1...255 * HMACSHA256.byteCount).contains(byteCount))
    // An absent salt is a block of zeros by the standard, and so is an empty one as a key of HMAC.
    let secret = HMACSHA256.authenticate(key, key: salt)
    var result: [UInt8] = []
    var last: [UInt8] = []
    for counter in UInt8(1)...255 where result.count < byteCount {
      last = HMACSHA256.authenticate(last + info + [counter], key: secret)
      result += last
    }
    return Array(result.prefix(byteCount))
  }
}
