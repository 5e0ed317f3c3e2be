import Messages

/// Master keys on their way from one provider to another: the new one wraps, and what it does not open the former does.
final class MovingKeys: KeyProvider {
  private let current: any KeyProvider
  private let former: any KeyProvider

  init(from former: any KeyProvider, to current: any KeyProvider) {
    self.former = former
    self.current = current
  }

  func currentKey() async throws(KeyProviderError) -> String { try await current.currentKey() }

  func wrap(_ secret: [UInt8], binding: [UInt8]) async throws(KeyProviderError) -> MasterWrap {
    try await current.wrap(secret, binding: binding)
  }

  /// Both may have a key of that name.
  func isCurrent(_ wrap: MasterWrap, binding: [UInt8]) async throws(KeyProviderError) -> Bool {
    try await current.isCurrent(wrap, binding: binding)
  }

  func unwrap(_ wrap: MasterWrap, binding: [UInt8]) async throws(KeyProviderError) -> [UInt8] {
    let newsOfCurrent: KeyProviderError
    do throws(KeyProviderError) {
      return try await current.unwrap(wrap, binding: binding)
    } catch {
      newsOfCurrent = error
    }
    do throws(KeyProviderError) {
      return try await former.unwrap(wrap, binding: binding)
    } catch {
      // Who does not know the key has the least to say.
      if case .noSuchKey = newsOfCurrent { throw error }
      throw newsOfCurrent
    }
  }
}
