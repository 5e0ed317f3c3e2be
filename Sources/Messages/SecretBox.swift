import Coding
package import Wire

/// Secrets of access keys as they are kept: sealed under a subkey of the cluster's key (HKDF), and bound to the key and the
/// user that they belong to. Whoever has the metadata without the cluster's key file has no secret. ``SealedSecret`` says what
/// a sealed one looks like.
package struct SecretBox: Sendable {
  private let key: [UInt8]

  package init(_ key: ClusterKey) { self.key = key.subkey("access key secrets") }

  /// - Parameter nonce: 12 random bytes, used for nothing else.
  package func seal(_ secret: String, of accessKey: String, user: String, nonce: [UInt8]) -> [UInt8]
  {
    SealedSecret.seal(
      Array(secret.utf8), key: key, nonce: nonce, binding: Self.binding(accessKey, user))
  }

  /// Nil when it was not sealed for this key of this user under this cluster's key.
  package func open(_ sealed: [UInt8], of accessKey: String, user: String) -> String? {
    SealedSecret.open(sealed, key: key, binding: Self.binding(accessKey, user)).flatMap {
      String(validating: $0, as: UTF8.self)
    }
  }

  /// Neither holds a byte 0.
  private static func binding(_ accessKey: String, _ user: String) -> [UInt8] {
    Array("\(accessKey)\0\(user)".utf8)
  }
}
