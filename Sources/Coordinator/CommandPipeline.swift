import Cluster
import Messages
import Metadata
import Ring
import Service
import Wire

/// Commands on their way: gathered into batches, appended to the log, applied in order, answered.
///
/// While batches are under way the next one gathers, so the more there is to do the larger batches become.
final class CommandPipeline: @unchecked Sendable {
  // Loop-confined.
  /// A command's position and outcome, once it is acknowledged and applied. `unavailable` when this coordinator lost the lead; it
  /// may count or not.
  typealias Pending = Promise<Result<(position: UInt64, outcome: CommandOutcome), Refusal>>

  private struct Entry: Sendable {
    var command: Command
    var byteCount: Int
    var promise: Pending
  }
  private struct Appended: Sendable {
    var acknowledged: Promise<Result<LogBatch, LogError>>
    /// Empty for the batch's leading command of our own.
    var waiting: [Entry?]
  }

  private let driver: any Driver
  private let keeper: StateKeeper
  private let writer: LogWriter
  private let arbiter: any Arbiter
  private var pending: [Entry] = []
  private let arrived = WaitQueue()
  private let appended = Channel<Appended>()
  private var timeAt: Duration
  private var isOver = false
  private var runningTasks = 0
  private let ended = WaitQueue()
  /// Told when the state cannot be changed any more.
  private let onStoreFailure: @Sendable (StoreError) -> Void

  private let commandLimit = 512
  private let pendingLimit = 16_384

  init(
    driver: any Driver, keeper: StateKeeper, writer: LogWriter, arbiter: any Arbiter,
    onStoreFailure: @escaping @Sendable (StoreError) -> Void
  ) {
    self.driver = driver
    self.keeper = keeper
    self.writer = writer
    self.arbiter = arbiter
    self.onStoreFailure = onStoreFailure
    timeAt = driver.now
  }

  func start() {
    runningTasks = 2
    driver.spawn("log batches") { [self] in
      await gather()
      taskEnded()
    }
    driver.spawn("log apply") { [self] in
      await applyAll()
      taskEnded()
    }
  }

  private func taskEnded() {
    runningTasks -= 1
    ended.wakeAll()
  }

  /// Carries a command out: returns when it is acknowledged and applied.
  func submit(_ command: Command) async throws(Refusal) -> (
    position: UInt64, outcome: CommandOutcome
  ) {
    try await begin(command).get().get()
  }

  /// Has a command carried out. Waits only while nothing can be logged.
  func begin(_ command: Command) async throws(Refusal) -> Pending {
    if isOver { throw Self.lost }
    let promise = Pending()
    if let reason = writer.blocked {
      promise.fulfil(.success(try await answerBlocked(command, reason)))
      return promise
    }
    let byteCount = command.encoded.count
    guard byteCount <= LogWriter.batchByteLimit / 2 else {
      throw Refusal(.malformed, "a command of \(byteCount) bytes is too large")
    }
    guard pending.count < pendingLimit else {
      throw Refusal(.unavailable, "too many commands are waiting")
    }
    pending.append(Entry(command: command, byteCount: byteCount, promise: promise))
    arrived.wakeOne()
    return promise
  }

  /// What can be said of a command while nothing can be logged.
  ///
  /// A client's command may have been carried out long ago, under this leader or one before; then it has its answer. If
  /// not, a copy of it may be on its way to this log or still to come from a connection that hung, so it is never
  /// refused for good. Anything else has no effect that anybody waits for, and is.
  private func answerBlocked(_ command: Command, _ reason: String) async throws(Refusal) -> (
    position: UInt64, outcome: CommandOutcome
  ) {
    guard case .client(let session, let sequence, _, _) = command else {
      throw Refusal(.tooFewDomains, reason)
    }
    let known: CommandOutcome?
    do throws(StoreError) {
      known = try await keeper.read { (machine) throws(StoreError) in
        try machine.outcome(session: session, sequence: sequence)
      }
    } catch {
      onStoreFailure(error)
      throw Self.lost
    }
    // A paused process must find its lease expired before it answers.
    guard arbiter.isHeld else { throw Self.lost }
    guard let known else { throw Refusal(.unavailable, reason) }
    return (keeper.appliedPosition, known)
  }

  static let lost = Refusal(.notLeader, "")

  private func gather() async {
    while !isOver {
      while pending.isEmpty && !isOver { await arrived.wait() }
      do throws(LogError) {
        try await writer.waitForRoom()
      } catch {
        break
      }
      if isOver { break }
      guard !pending.isEmpty else { continue }
      var commands: [Command] = []
      var waiting: [Entry?] = []
      var byteCount = 0
      // The cluster's time moves with the log; an idle cluster has none to tell.
      let elapsed = driver.now - timeAt
      if elapsed >= .seconds(1) {
        timeAt = driver.now
        commands.append(.advanceTime(milliseconds: elapsed.wholeMilliseconds))
        waiting.append(nil)
        byteCount += 16
      }
      var taken = 0
      while taken < pending.count, commands.count < commandLimit {
        let next = pending[taken]
        if byteCount + next.byteCount > LogWriter.batchByteLimit { break }
        byteCount += next.byteCount
        commands.append(next.command)
        waiting.append(next)
        taken += 1
        if driver.meets(.logBatchOfOne) { break }
      }
      pending.removeFirst(taken)
      let promise = writer.append(
        commands, wallMilliseconds: driver.wallClock.wholeMilliseconds)
      appended.send(Appended(acknowledged: promise, waiting: waiting))
    }
    appended.close()
  }

  private func applyAll() async {
    while let next = await appended.receive() {
      switch await next.acknowledged.get() {
      case .failure:
        for pending in next.waiting { pending?.promise.fulfil(.failure(Self.lost)) }
      case .success(let batch):
        do throws(StoreError) {
          let outcomes = try await keeper.apply(batch)
          if driver.meets(.leadLostAtAnswer) { arbiter.lose(.expired) }
          // A paused process must find its lease expired before it answers.
          let isHeld = arbiter.isHeld
          for (index, pending) in next.waiting.enumerated() {
            guard let pending else { continue }
            let position = batch.firstPosition + UInt64(index)
            pending.promise.fulfil(
              isHeld && index < outcomes.count
                ? .success((position, outcomes[index])) : .failure(Self.lost))
          }
        } catch {
          onStoreFailure(error)
          for pending in next.waiting { pending?.promise.fulfil(.failure(Self.lost)) }
        }
      }
    }
  }

  /// Ends: what is not acknowledged fails. Returns when nothing is applied any more.
  func stop() async {
    isOver = true
    arrived.wakeAll()
    for one in pending { one.promise.fulfil(.failure(Self.lost)) }
    pending = []
    while runningTasks > 0 { await ended.wait() }
  }
}
