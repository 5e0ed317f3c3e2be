internal import CCrypto

/// AES-256-SIV (RFC 5297): what is encrypted twice under one key and one context is the same twice, and nothing else is told. For what
/// has to be found again by its ciphertext, such as names.
package enum AES256SIV {
  /// Two keys of AES-256.
  package static let keyByteCount = 64
  /// By how much the sealed bytes are longer: the synthetic initialisation vector, which comes first.
  package static let overhead = 16

  // Written once, before anyone can see it, and constant from then on.
  nonisolated(unsafe) private static let cipher: OpaquePointer? =
    EVP_CIPHER_fetch(nil, "AES-256-SIV", nil)

  /// - Parameters:
  ///   - plain: not empty.
  ///   - context: what it belongs to, not empty: opening takes the same. Not stored.
  package static func seal(_ plain: [UInt8], key: [UInt8], context: [UInt8]) -> [UInt8] {
    precondition(key.count == keyByteCount && !plain.isEmpty && !context.isEmpty)
    var vector = [UInt8](repeating: 0, count: overhead)
    var body = [UInt8](repeating: 0, count: plain.count)
    var count: Int32 = 0
    guard let state = EVP_CIPHER_CTX_new() else { fatalError("no memory for AES-256-SIV") }
    defer { EVP_CIPHER_CTX_free(state) }
    let isDone =
      EVP_EncryptInit_ex2(state, cipher, key, nil, nil) == 1
      && EVP_EncryptUpdate(state, nil, &count, context, Int32(context.count)) == 1
      && EVP_EncryptUpdate(state, &body, &count, plain, Int32(plain.count)) == 1
      && EVP_CIPHER_CTX_ctrl(state, EVP_CTRL_AEAD_GET_TAG, Int32(overhead), &vector) == 1
    precondition(isDone, "AES-256-SIV failed")
    return vector + body
  }

  /// Nil when it was not sealed under this key in this context.
  package static func open(_ sealed: [UInt8], key: [UInt8], context: [UInt8]) -> [UInt8]? {
    precondition(key.count == keyByteCount && !context.isEmpty)
    guard sealed.count > overhead else { return nil }
    var vector = Array(sealed[..<overhead])
    let body = Array(sealed[overhead...])
    var plain = [UInt8](repeating: 0, count: body.count)
    var count: Int32 = 0
    guard let state = EVP_CIPHER_CTX_new() else { fatalError("no memory for AES-256-SIV") }
    defer { EVP_CIPHER_CTX_free(state) }
    let isReady =
      EVP_DecryptInit_ex2(state, cipher, key, nil, nil) == 1
      && EVP_CIPHER_CTX_ctrl(state, EVP_CTRL_AEAD_SET_TAG, Int32(overhead), &vector) == 1
      && EVP_DecryptUpdate(state, nil, &count, context, Int32(context.count)) == 1
    precondition(isReady, "AES-256-SIV failed")
    guard EVP_DecryptUpdate(state, &plain, &count, body, Int32(body.count)) == 1 else {
      ERR_clear_error()
      return nil
    }
    return plain
  }
}
