package import Messages

/// Where a cluster's master keys are. It wraps and unwraps, so that a master key need never be in this process.
package protocol KeyProvider: AnyObject, Sendable {
  /// The name of the key that wraps now.
  func currentKey() async throws(KeyProviderError) -> String
  /// Wraps under the current key.
  ///
  /// - Parameter binding: what the secret belongs to; unwrapping takes the same.
  func wrap(_ secret: [UInt8], binding: [UInt8]) async throws(KeyProviderError) -> MasterWrap
  func unwrap(_ wrap: MasterWrap, binding: [UInt8]) async throws(KeyProviderError) -> [UInt8]
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
package enum KeyProviderChoice: Sendable {
  case none
  /// A file on its disk, by path; see ``KeyFile``.
  case file(String)
  case made(any KeyProvider)
}
