import Ring

/// How many bytes may be on their way to this process at once: as many as arrive in time. Loop-confined.
///
/// What is asked for together comes over the same links, and each block has a deadline from the moment it is asked for. So
/// the limit starts low, doubles with each round of quick answers, and is halved by one that took a good part of the
/// deadline, as TCP finds its congestion window (RFC 5681, section 3.1).
final class ReadPace: @unchecked Sendable {
  // Loop-confined.
  private let driver: any Driver
  private let most: Int
  /// Of a block's deadline, an eighth is quick and a fourth is slow.
  private let quick: Duration
  private let slow: Duration
  private(set) var limit: Int
  private var underWay = 0
  private var waiting = Queue<(Int, UnsafeContinuation<Void, Never>)>()
  /// What was asked for before says nothing about the limit since.
  private var lastCut: Duration = .zero

  static let least = 1 << 20
  private static let first = 4 << 20

  init(driver: any Driver, deadline: Duration, most: Int) {
    self.driver = driver
    self.most = most
    quick = deadline / 8
    slow = deadline / 4
    limit = min(most, Self.first)
  }

  /// Runs `fetch` when its bytes are within the limit, or nothing else is under way.
  func paced<Value, Failure: Error>(
    _ byteCount: Int, _ fetch: () async throws(Failure) -> Value
  ) async throws(Failure) -> Value {
    if !waiting.isEmpty || !hasRoom(byteCount) {
      await withUnsafeContinuation { waiting.append((byteCount, $0)) }
    } else {
      underWay += byteCount
    }
    let begun = driver.now
    var isAnswered = false
    defer { ended(byteCount, begun, isAnswered) }
    let value = try await fetch()
    isAnswered = true
    return value
  }

  private func hasRoom(_ byteCount: Int) -> Bool { underWay == 0 || underWay + byteCount <= limit }

  private func ended(_ byteCount: Int, _ begun: Duration, _ isAnswered: Bool) {
    underWay -= byteCount
    let now = driver.now
    if now - begun <= quick {
      if isAnswered { limit = min(most, limit + byteCount) }
    } else if now - begun > slow, begun >= lastCut {
      limit = max(min(most, Self.least), limit / 2)
      lastCut = now
    }
    while let (next, waiter) = waiting.first, hasRoom(next) {
      _ = waiting.popFirst()
      underWay += next
      waiter.resume()
    }
  }
}
