package import Messages
import Ring

/// Where a cluster's master keys are. It wraps and unwraps, so that a master key need never be in this process.
package protocol KeyProvider: AnyObject, Sendable {
  /// The name of the key that wraps now.
  func currentKey() async throws(KeyProviderError) -> String
  /// Wraps under the current key.
  ///
  /// - Parameter binding: what the secret belongs to; unwrapping takes the same.
  func wrap(_ secret: [UInt8], binding: [UInt8]) async throws(KeyProviderError) -> MasterWrap
  func unwrap(_ wrap: MasterWrap, binding: [UInt8]) async throws(KeyProviderError) -> [UInt8]
  /// Whether wrapping the secret anew would change nothing that matters: it opens, under the key that wraps now.
  func isCurrent(_ wrap: MasterWrap, binding: [UInt8]) async throws(KeyProviderError) -> Bool
}

extension KeyProvider {
  /// The name alone says little: a file that was made anew may have another key under it.
  package func isCurrent(_ wrap: MasterWrap, binding: [UInt8]) async throws(KeyProviderError)
    -> Bool
  {
    guard try await currentKey().utf8.elementsEqual(wrap.masterKey.utf8) else { return false }
    do throws(KeyProviderError) {
      _ = try await unwrap(wrap, binding: binding)
      return true
    } catch {
      return false
    }
  }
}

package enum KeyProviderError: Error, Equatable, CustomStringConvertible {
  /// It cannot be asked, or what it keeps cannot be read: why, for people.
  case unavailable(String)
  case noSuchKey(String)
  /// The key of that name is not the one that wrapped it, or the wrapped bytes were changed.
  case notAuthentic(String)

  package var description: String {
    switch self {
    case .unavailable(let why): why
    case .noSuchKey(let name): "master key '\(name)' is not there"
    case .notAuthentic(let name):
      "master key '\(name)' is not the one that wrapped this, or the wrapped key was changed"
    }
  }
}

/// What a coordinator is told of its master keys.
package indirect enum KeyProviderChoice: Sendable {
  case none
  /// A file on its disk, by path; see ``KeyFile``.
  case file(String)
  /// A PKCS#11 token; see ``TokenKeys``.
  case token(TokenSettings)
  /// A key service over HTTPS; see ``TransitKeys``.
  case transit(TransitSettings)
  /// The second wraps; the first opens what it wrapped before. See ``MovingKeys``.
  case moving(from: KeyProviderChoice, to: KeyProviderChoice)
  case made(any KeyProvider)

  func provider(on driver: any Driver) -> (any KeyProvider)? {
    provider(TokenModules(), on: driver)
  }

  private func provider(_ modules: TokenModules, on driver: any Driver) -> (any KeyProvider)? {
    switch self {
    case .none: return nil
    case .file(let path): return KeyFile(path, on: driver)
    case .token(let settings): return TokenKeys(settings, modules, on: driver)
    case .transit(let settings): return TransitKeys(settings, on: driver)
    case .moving(let former, let current):
      let providers = [former, current].map { $0.provider(modules, on: driver) }
      guard let former = providers[0], let current = providers[1] else {
        return providers[0] ?? providers[1]
      }
      return MovingKeys(from: former, to: current)
    case .made(let made): return made
    }
  }
}
