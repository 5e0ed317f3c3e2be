/// Short secrets as they are kept: the nonce (12 bytes), the secret encrypted with AES-256-GCM, the tag (16).
///
/// Nonces are random: no two are the same as long as fewer than some 2^32 secrets are sealed under one key.
package enum SealedSecret {
  /// By how much a sealed secret is longer than a plain one.
  package static let overhead = AES256GCM.nonceByteCount + AES256GCM.tagByteCount

  /// - Parameters:
  ///   - key: 32 bytes.
  ///   - nonce: 12 random bytes, used for nothing else.
  ///   - binding: what the secret belongs to: opening takes the same. Not stored.
  package static func seal(
    _ secret: [UInt8], key: [UInt8], nonce: [UInt8], binding: [UInt8]
  ) -> [UInt8] {
    guard let number = AES256GCM.Nonce(nonce) else { preconditionFailure("a nonce has 12 bytes") }
    var cipher = AES256GCM(key: key)
    var sealed = [UInt8](repeating: 0, count: secret.count + AES256GCM.tagByteCount)
    secret.withUnsafeBytes { plain in
      binding.withUnsafeBytes { additional in
        sealed.withUnsafeMutableBytes {
          cipher.seal(plain, into: $0, nonce: number, additional: additional)
        }
      }
    }
    return nonce + sealed
  }

  /// Nil when it was not sealed under this key with this binding.
  package static func open(_ sealed: [UInt8], key: [UInt8], binding: [UInt8]) -> [UInt8]? {
    guard sealed.count >= overhead,
      let nonce = AES256GCM.Nonce(sealed[..<AES256GCM.nonceByteCount])
    else { return nil }
    var cipher = AES256GCM(key: key)
    let body = Array(sealed[AES256GCM.nonceByteCount...])
    var plain = [UInt8](repeating: 0, count: body.count - AES256GCM.tagByteCount)
    let isAuthentic = body.withUnsafeBytes { body in
      binding.withUnsafeBytes { additional in
        plain.withUnsafeMutableBytes { plain in
          do throws(CodingError) {
            try cipher.open(body, into: plain, nonce: nonce, additional: additional)
            return true
          } catch {
            return false
          }
        }
      }
    }
    return isAuthentic ? plain : nil
  }
}
