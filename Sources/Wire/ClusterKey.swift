import Coding
package import Ring

/// The secret that every daemon and client of one cluster holds. It is never sent and never logged;
/// each use gets a subkey of its own.
package struct ClusterKey: Sendable, Equatable, CustomStringConvertible, CustomReflectable {
  package static let byteCount = 32
  private let secret: [UInt8]

  /// - Parameter secret: 32 bytes.
  package init(secret: [UInt8]) {
    precondition(secret.count == Self.byteCount)
    self.secret = secret
  }

  /// A fresh key from the driver's generator.
  package static func make(_ driver: any Driver) -> ClusterKey {
    ClusterKey(secret: driver.randomBytes(byteCount))
  }

  /// Reads 64 hexadecimal digits; nil when `hex` is anything else.
  package init?(hex: String) {
    guard let secret = hexBytes(hex), secret.count == Self.byteCount else { return nil }
    self.secret = secret
  }

  /// 64 lower-case digits: the form in which the key is kept in its file.
  package var hex: String { hexText(secret) }

  /// 32 bytes for one purpose (HKDF-SHA-256, the purpose as `info`). Knowing one subkey tells nothing
  /// about the key or another subkey.
  package func subkey(_ purpose: String) -> [UInt8] {
    KeyDerivation.hkdf(
      key: secret, salt: Array("cairn cluster key".utf8), info: Array(purpose.utf8), byteCount: 32)
  }

  /// Says nothing about the secret.
  package var description: String { "ClusterKey" }
  package var customMirror: Mirror { Mirror(self, children: []) }
}

/// When connections are encrypted.
package enum TransportSecurity: String, Sendable {
  /// TLS 1.3 unless both ends are on loopback.
  case automatic
  /// TLS 1.3 everywhere.
  case always
  /// Authenticated plain frames everywhere: for a network that the operator trusts.
  case never
}
