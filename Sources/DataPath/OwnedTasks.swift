import Ring

/// Tasks that one owner started, so that it can end them. Loop-confined.
final class OwnedTasks: @unchecked Sendable {
  // Loop-confined.
  private let driver: any Driver
  private var running: [UInt64: SpawnedTask] = [:]
  private var startedCount: UInt64 = 0
  private let ended = WaitQueue()
  private var areUnwanted = false

  init(_ driver: any Driver) { self.driver = driver }

  func spawn(_ name: String, _ body: @escaping @Sendable () async -> Void) {
    let number = startedCount
    startedCount += 1
    let task = driver.spawn(name) { [self] in
      await body()
      running[number] = nil
      if running.isEmpty { ended.wakeAll() }
    }
    running[number] = task
    if areUnwanted { task.cancel() }
  }

  /// Cancels those that run, the oldest first, and those that are yet to be started.
  func cancelAll() {
    areUnwanted = true
    for (_, task) in running.sorted(by: { $0.key < $1.key }) { task.cancel() }
  }

  /// Returns when none runs. Not to be called from one of them.
  func wait() async { while !running.isEmpty { await ended.wait() } }
}
