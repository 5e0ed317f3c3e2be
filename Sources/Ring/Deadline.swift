extension Driver {
  /// Runs `body` and cancels it after `duration`.
  ///
  /// Waits in any case until `body` has returned, so it must end soon when cancelled, and let go then
  /// of what it opened. A value made before the cancellation is never dropped.
  ///
  /// - Returns: nil when the deadline cancelled `body` before it returned.
  package func withDeadline<Value: Sendable>(
    _ duration: Duration, _ body: @escaping @Sendable () async -> Value
  ) async -> Value? {
    let deadline = Deadline()
    return await withTaskGroup(of: DeadlineEvent<Value>.self) { group in
      group.addTask {
        let value = await body()
        return deadline.hasCancelled ? .cancelled : .value(value)
      }
      group.addTask { .timer(expired: await self.sleep(duration)) }
      var result: Value?
      for await event in group {
        switch event {
        case .value(let value):
          result = value
          group.cancelAll()
        case .timer(expired: true):
          // Says so first: the body may return between the timer's end and this.
          deadline.hasCancelled = true
          group.cancelAll()
        case .timer(expired: false), .cancelled: break
        }
      }
      return result
    }
  }
}

private enum DeadlineEvent<Value: Sendable>: Sendable {
  case value(Value)
  case cancelled
  case timer(expired: Bool)
}

private final class Deadline: @unchecked Sendable {
  // Loop-confined.
  var hasCancelled = false
}
