import Ring

/// Answers of a backend for a while, so that not every request asks. Bounded in number and in the bytes that they were made of;
/// those that say that there is nothing do not displace the others. Loop-confined.
final class AccessCache<Value: Sendable>: @unchecked Sendable {
  // Loop-confined.
  private typealias Answer = Result<Value?, BackendError>
  private struct Entry {
    var value: Value?
    var until: Duration
    var byteCount: Int
  }
  private let driver: any Driver
  private let lifetime: Duration
  private var found: [String: Entry] = [:]
  private var foundByteCount = 0
  private var missing: [String: Entry] = [:]
  private var asking: [String: Promise<Answer>] = [:]
  /// Names that nobody knows cost the backend something, and anybody can make them up.
  private let slots = Semaphore(32)

  private static var countLimit: Int { 4096 }
  private static var byteLimit: Int { 8 << 20 }

  init(_ driver: any Driver, lifetime: Duration) {
    self.driver = driver
    self.lifetime = lifetime
  }

  /// - Parameters:
  ///   - name: ASCII.
  ///   - load: asks the backend; nil when there is nothing of that name, and about how many bytes the value takes.
  func value(
    _ name: String, _ load: () async throws(BackendError) -> (value: Value, byteCount: Int)?
  ) async throws(BackendError) -> Value? {
    let now = driver.now
    if let entry = found[name] ?? missing[name], now < entry.until { return entry.value }
    if let promise = asking[name] { return try await promise.get().get() }
    let promise = Promise<Answer>()
    asking[name] = promise
    await slots.acquire()
    let answer: Answer
    do throws(BackendError) {
      let loaded = try await load()
      // As of when it was asked: it may have changed since.
      if asking[name] === promise {
        keep(
          name,
          Entry(value: loaded?.value, until: now + lifetime, byteCount: loaded?.byteCount ?? 0))
      }
      answer = .success(loaded?.value)
    } catch {
      answer = .failure(error)
    }
    slots.release()
    if asking[name] === promise { asking[name] = nil }
    promise.fulfil(answer)
    return try answer.get()
  }

  private func keep(_ name: String, _ entry: Entry) {
    forget(name)
    guard entry.value != nil else {
      if missing.count >= Self.countLimit { missing = [:] }
      missing[name] = entry
      return
    }
    if found.count >= Self.countLimit || foundByteCount + entry.byteCount > Self.byteLimit {
      found = [:]
      foundByteCount = 0
    }
    found[name] = entry
    foundByteCount += entry.byteCount
  }

  /// The next that asks is told what is true then; an answer that is under way is not kept.
  func forget(_ name: String) {
    if let entry = found.removeValue(forKey: name) { foundByteCount -= entry.byteCount }
    missing[name] = nil
    asking[name] = nil
  }
}
