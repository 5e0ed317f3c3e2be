import Coding
package import Wire

/// Secrets of access keys as they are kept: sealed with AES-256-GCM under a subkey of the cluster's key (HKDF), and bound to
/// the key and the user that they belong to. Whoever has the metadata without the cluster's key file has no secret.
///
/// Sealed: the nonce (12 bytes), the secret's bytes encrypted, the tag (16). Nonces are random: no two are the same as long as
/// fewer than some 2^32 secrets are sealed under one cluster's key.
package struct SecretBox: Sendable {
  private let key: [UInt8]

  package init(_ key: ClusterKey) { self.key = key.subkey("access key secrets") }

  /// - Parameter nonce: 12 random bytes, used for nothing else.
  package func seal(_ secret: String, of accessKey: String, user: String, nonce: [UInt8]) -> [UInt8]
  {
    guard let number = AES256GCM.Nonce(nonce) else { preconditionFailure("a nonce has 12 bytes") }
    var cipher = AES256GCM(key: key)
    var sealed = [UInt8](repeating: 0, count: secret.utf8.count + AES256GCM.tagByteCount)
    Array(secret.utf8).withUnsafeBytes { plain in
      Self.binding(accessKey, user).withUnsafeBytes { additional in
        sealed.withUnsafeMutableBytes {
          cipher.seal(plain, into: $0, nonce: number, additional: additional)
        }
      }
    }
    return nonce + sealed
  }

  /// Nil when it was not sealed for this key of this user under this cluster's key.
  package func open(_ sealed: [UInt8], of accessKey: String, user: String) -> String? {
    guard sealed.count >= AES256GCM.nonceByteCount + AES256GCM.tagByteCount,
      let nonce = AES256GCM.Nonce(sealed[..<AES256GCM.nonceByteCount])
    else { return nil }
    var cipher = AES256GCM(key: key)
    let body = Array(sealed[AES256GCM.nonceByteCount...])
    var plain = [UInt8](repeating: 0, count: body.count - AES256GCM.tagByteCount)
    let isAuthentic = body.withUnsafeBytes { body in
      Self.binding(accessKey, user).withUnsafeBytes { additional in
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
    guard isAuthentic else { return nil }
    return String(validating: plain, as: UTF8.self)
  }

  /// Neither holds a byte 0.
  private static func binding(_ accessKey: String, _ user: String) -> [UInt8] {
    Array("\(accessKey)\0\(user)".utf8)
  }
}
