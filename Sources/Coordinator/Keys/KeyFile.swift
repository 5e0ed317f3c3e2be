import Coding
package import Messages
package import Ring
import Service

/// Master keys in a file that not everybody may read: a line each, a name, a space and 64 hexadecimal digits; the last one
/// wraps. Lines that begin with `#` are passed over.
///
/// It is read again whenever something is wrapped, or a key is wanted that it did not have: a new key needs no restart.
/// Loop-confined.
package final class KeyFile: KeyProvider, @unchecked Sendable {
  package static let byteLimit = 1 << 20

  // Loop-confined.
  private let path: String
  private let driver: any Driver
  private var keys: [MasterKey] = []

  package struct MasterKey: Sendable {
    package var name: String
    package var secret: [UInt8]
    package init(name: String, secret: [UInt8]) {
      self.name = name
      self.secret = secret
    }
  }

  package init(_ path: String, on driver: any Driver) {
    self.path = path
    self.driver = driver
  }

  package func currentKey() async throws(KeyProviderError) -> String { try await newest().name }

  package func wrap(_ secret: [UInt8], binding: [UInt8]) async throws(KeyProviderError)
    -> MasterWrap
  {
    let key = try await newest()
    return MasterWrap(
      masterKey: key.name,
      bytes: SealedSecret.seal(
        secret, key: key.secret, nonce: driver.randomBytes(AES256GCM.nonceByteCount),
        binding: binding))
  }

  package func unwrap(_ wrap: MasterWrap, binding: [UInt8]) async throws(KeyProviderError)
    -> [UInt8]
  {
    if key(named: wrap.masterKey) == nil {
      do throws(KeyProviderError) {
        try await load()
      } catch {
        throw .unavailable("master key '\(wrap.masterKey)' cannot be had: \(error)")
      }
    }
    func opened() throws(KeyProviderError) -> [UInt8]? {
      guard let key = key(named: wrap.masterKey) else { throw .noSuchKey(wrap.masterKey) }
      return SealedSecret.open(wrap.bytes, key: key.secret, binding: binding)
    }
    if let secret = try opened() { return secret }
    // The file may have been mended since.
    try await load()
    guard let secret = try opened() else { throw .notAuthentic(wrap.masterKey) }
    return secret
  }

  private func key(named name: String) -> MasterKey? {
    keys.first { $0.name.utf8.elementsEqual(name.utf8) }
  }

  private func newest() async throws(KeyProviderError) -> MasterKey {
    try await load()
    return keys[keys.count - 1]
  }

  /// Reads the file.
  package func load() async throws(KeyProviderError) {
    let bytes: [UInt8]
    do throws(SecretFileError) {
      bytes = try await driver.readSecret(path, limit: Self.byteLimit)
    } catch {
      throw .unavailable("\(error.reason("the master keys")): \(path)")
    }
    keys = try Self.parse(bytes, path)
  }

  /// - Parameter path: for people.
  package static func parse(_ bytes: [UInt8], _ path: String) throws(KeyProviderError)
    -> [MasterKey]
  {
    var keys: [MasterKey] = []
    for (index, line) in bytes.split(separator: 10, omittingEmptySubsequences: false).enumerated() {
      let words = line.split { $0 == 32 || $0 == 9 || $0 == 13 }
      if words.isEmpty || words[0].first == UInt8(ascii: "#") { continue }
      let texts = words.map { String(decoding: $0, as: UTF8.self) }
      guard texts.count == 2, isName(texts[0]), let secret = hexBytes(String(texts[1])),
        secret.count == AES256GCM.keyByteCount
      else {
        throw .unavailable(
          "\(path), line \(index + 1): a name, a space and 64 hexadecimal digits are wanted")
      }
      guard !keys.contains(where: { $0.name == texts[0] }) else {
        throw .unavailable("\(path), line \(index + 1): two keys are called '\(texts[0])'")
      }
      keys.append(MasterKey(name: texts[0], secret: secret))
    }
    guard !keys.isEmpty else { throw .unavailable("\(path): no master key in it") }
    return keys
  }

  /// 1 to 64 letters, digits, dots, hyphens and underscores.
  package static func isName(_ text: String) -> Bool {
    (1...64).contains(text.utf8.count)
      && text.utf8.allSatisfy {
        switch $0 {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
          UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "."), UInt8(ascii: "-"),
          UInt8(ascii: "_"):
          true
        default: false
        }
      }
  }

  /// The line of a new key.
  package static func line(_ name: String, _ secret: [UInt8]) -> String {
    "\(name) \(hexText(secret))\n"
  }
}
