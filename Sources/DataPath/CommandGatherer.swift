import Messages
import Ring
import Wire

/// Sends small commands, many in one call. Loop-confined.
///
/// A command leaves at once while fewer than two calls are under way; those that come meanwhile gather for the next. So one alone waits for
/// nobody, and the more there are the less each costs.
final class CommandGatherer: @unchecked Sendable {
  // Loop-confined.
  typealias Answer = Result<Execute.Answer, WireError>

  private struct Waiting {
    var request: Execute
    var promise: Promise<Answer>
  }

  private let driver: any Driver
  private let tasks: OwnedTasks
  private let send: @Sendable (ExecuteAll) async -> Result<ExecuteAll.Answer, WireError>
  private var waiting: [Waiting] = []
  private var underWayCount = 0

  private static let underWayLimit = 2
  /// Commands in one call. With the largest that are taken it is a quarter of the largest message.
  private static let batchLimit = 128

  /// - Parameter send: one call to the leader.
  init(
    _ driver: any Driver, _ tasks: OwnedTasks,
    send: @escaping @Sendable (ExecuteAll) async -> Result<ExecuteAll.Answer, WireError>
  ) {
    self.driver = driver
    self.tasks = tasks
    self.send = send
  }

  /// Whether a command is small and common enough.
  static func takes(_ command: ClientCommand) -> Bool {
    switch command {
    case .commitObject(_, _, _, _, _, let attributes, _, _, _): attributes.user.isEmpty
    case .deleteObject: true
    default: false
    }
  }

  func execute(_ request: Execute) async -> Answer {
    let promise = Promise<Answer>()
    waiting.append(Waiting(request: request, promise: promise))
    if underWayCount < Self.underWayLimit {
      underWayCount += 1
      tasks.spawn("send commands") { [self] in
        while !waiting.isEmpty { await sendNext() }
        underWayCount -= 1
      }
    }
    return await withTaskCancellationHandler {
      await promise.get()
    } onCancel: {
      promise.fulfil(.failure(.cancelled))
    }
  }

  private func sendNext() async {
    if driver.meets(.commandsGathered) {
      await driver.sleep(.milliseconds(Int64(driver.random() % 1000)))
    }
    // Some may have been cancelled, or sent meanwhile.
    waiting.removeAll { $0.promise.isFulfilled }
    guard !waiting.isEmpty else { return }
    let session = waiting[0].request.session
    let end = waiting.firstIndex { $0.request.session != session } ?? waiting.count
    let batch = Array(waiting.prefix(min(end, Self.batchLimit)))
    waiting.removeFirst(batch.count)
    let result = await send(
      ExecuteAll(
        session: session,
        // The first has waited longest and knows least; that only keeps outcomes longer.
        lowestUnanswered: batch[0].request.lowestUnanswered,
        commands: batch.map {
          ExecuteAll.Numbered(sequence: $0.request.sequence, command: $0.request.command)
        }))
    switch result {
    case .success(let answer) where answer.outcomes.count == batch.count:
      for (one, outcome) in zip(batch, answer.outcomes) {
        switch outcome {
        case .answered(let answer): one.promise.fulfil(.success(answer))
        case .refused(let code, let reason):
          one.promise.fulfil(.failure(.refused(code: code, reason: reason)))
        }
      }
    case .success:
      for one in batch { one.promise.fulfil(.failure(.malformed("answers to commands"))) }
    case .failure(let error):
      for one in batch { one.promise.fulfil(.failure(error)) }
      // Whoever leads now, those that wait need not wait for it as long.
      let unsent = waiting
      waiting = []
      for one in unsent { one.promise.fulfil(.failure(.unreachable("not sent"))) }
    }
  }
}
