internal import Coding
internal import Coordinator
internal import Messages
internal import Ring

/// Master keys that all coordinators of a simulated cluster have, whatever becomes of their disks. Loop-confined.
final class SimulatedMasterKeys: KeyProvider, @unchecked Sendable {
  // Loop-confined.
  /// Which of them wraps.
  var current = 0
  /// Those with a lower number are gone.
  var oldest = 0
  private var nonceCount: UInt64 = 0

  func currentKey() async throws(KeyProviderError) -> String { "master-\(current)" }

  private func key(_ name: String) throws(KeyProviderError) -> [UInt8] {
    guard let number = Int(name.dropFirst("master-".count)), number >= oldest else {
      throw .noSuchKey(name)
    }
    return Fingerprint(of: Array(name.utf8)).bytes
  }

  func wrap(_ secret: [UInt8], binding: [UInt8]) async throws(KeyProviderError) -> MasterWrap {
    let name = try await currentKey()
    nonceCount += 1
    return MasterWrap(
      masterKey: name,
      bytes: SealedSecret.seal(
        secret, key: try key(name), nonce: AES256GCM.Nonce(high: 0, low: nonceCount).bytes,
        binding: binding))
  }

  func unwrap(_ wrap: MasterWrap, binding: [UInt8]) async throws(KeyProviderError) -> [UInt8] {
    guard
      let secret = SealedSecret.open(
        wrap.bytes, key: try key(wrap.masterKey), binding: binding)
    else { throw .notAuthentic(wrap.masterKey) }
    return secret
  }
}
