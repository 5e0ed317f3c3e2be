import Ring

/// One timer for many deadlines. Noting a deadline costs a comparison unless it is earlier than the one
/// the timer is set for; when the timer fires, the owner looks through what it has under way. Calls
/// that end in time never touch the timer.
final class DeadlineWatch: @unchecked Sendable {
  // Loop-confined.
  private let driver: any Driver
  private var target: Duration?
  private var sleeper: SpawnedTask?
  private var isStopped = false
  /// Ends what is due at the time given, and returns the earliest deadline that is left.
  var expire: ((Duration) -> Duration?)?

  init(_ driver: any Driver) { self.driver = driver }

  /// - Parameter deadline: a time of `driver.now`.
  func note(_ deadline: Duration) {
    if isStopped { return }
    if let target, target <= deadline { return }
    sleeper?.cancel()
    target = deadline
    sleeper = driver.spawn("deadlines") { [self, driver] in
      while true {
        let left = deadline - driver.now
        if left <= .zero { break }
        guard await driver.sleep(left) else { return }
      }
      fire(deadline)
    }
  }

  private func fire(_ deadline: Duration) {
    guard !isStopped, target == deadline else { return }
    target = nil
    sleeper = nil
    if let next = expire?(driver.now) { note(next) }
  }

  func stop() {
    isStopped = true
    expire = nil
    sleeper?.cancel()
    sleeper = nil
  }
}

/// Tasks on the loop that someone will wait for.
final class TaskSet: @unchecked Sendable {
  // Loop-confined.
  private let driver: any Driver
  private var tasks: [UInt64: SpawnedTask] = [:]
  private var next: UInt64 = 0
  private let ended = WaitQueue()

  init(_ driver: any Driver) { self.driver = driver }

  var count: Int { tasks.count }

  func spawn(_ name: String, _ body: @escaping @Sendable () async -> Void) {
    next += 1
    let id = next
    tasks[id] = driver.spawn(name) { [self] in
      await body()
      tasks[id] = nil
      if tasks.isEmpty { ended.wakeAll() }
    }
  }

  func cancelAll() {
    for id in tasks.keys.sorted() { tasks[id]?.cancel() }
  }

  func waitUntilEmpty() async {
    while !tasks.isEmpty { await ended.wait() }
  }
}
