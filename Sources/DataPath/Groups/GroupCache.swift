import Messages
import Ring
import Stripes

/// Groups that were decoded lately, and those that are being decoded: readers of ranges in the same group share the work.
/// Loop-confined.
final class GroupCache: @unchecked Sendable {
  // Loop-confined.
  /// Where a group's frame is. The stripe's places carry their generation: when a container is packed anew the same stripe number
  /// and offset are another group's.
  struct Key: Hashable {
    var target: StripeTarget
    var offset: Int
  }
  typealias Pending = Promise<Slice?>

  enum Claim {
    case ready(Slice)
    /// Somebody decodes it; nil comes when that failed.
    case pending(Pending)
    /// It is the caller's to decode, and to ``fulfil(_:_:)`` in any case.
    case mine
  }

  private enum Entry {
    case ready(Slice, use: UInt64)
    case pending(Pending)
  }
  private var entries: [Key: Entry] = [:]
  private var byteCount = 0
  private var useCount: UInt64 = 0
  private let byteLimit: Int

  /// - Parameter byteLimit: of plain bytes that are kept.
  init(byteLimit: Int = 32 << 20) { self.byteLimit = byteLimit }

  func claim(_ key: Key) -> Claim {
    switch entries[key] {
    case .ready(let plain, _):
      useCount += 1
      entries[key] = .ready(plain, use: useCount)
      return .ready(plain)
    case .pending(let promise): return .pending(promise)
    case nil:
      entries[key] = .pending(Pending())
      return .mine
    }
  }

  /// - Parameter plain: nil when it could not be had.
  func fulfil(_ key: Key, _ plain: Slice?) {
    guard case .pending(let promise) = entries[key] else { return }
    entries[key] = nil
    if let plain, plain.count <= byteLimit {
      useCount += 1
      entries[key] = .ready(plain, use: useCount)
      byteCount += plain.count
      if byteCount > byteLimit { evict() }
    }
    promise.fulfil(plain)
  }

  /// Lets go of the older half.
  private func evict() {
    let ready = entries.compactMap { key, entry -> (key: Key, use: UInt64, byteCount: Int)? in
      guard case .ready(let plain, let use) = entry else { return nil }
      return (key, use, plain.count)
    }
    for one in ready.sorted(by: { $0.use < $1.use }) where byteCount > byteLimit / 2 {
      entries[one.key] = nil
      byteCount -= one.byteCount
    }
  }
}
