package import Messages
package import Ring
package import Wire

/// The client's end of the coordinator: finds who leads, asks and changes, each change exactly once. Loop-confined.
///
/// Changes carry a session and a sequence number and are sent again, to whoever leads, until they are answered
/// or `patience` is over; the state machine sees to it that a second arrival has no second effect.
package final class CoordinatorClient: @unchecked Sendable {
  // Loop-confined.
  package struct Options: Sendable {
    /// How long a question or change is tried again while nobody leads.
    package var patience: Duration
    /// Unanswered changes; the protocol allows 1,024.
    package var outstandingLimit: Int
    /// When somebody is told that nobody leads; it is tried on.
    package var noticeAfter = Duration.seconds(3)
    package init(patience: Duration = .seconds(30), outstandingLimit: Int = 512) {
      self.patience = patience
      self.outstandingLimit = outstandingLimit
    }
  }

  package let driver: any Driver
  let wire: WireClient
  private let addresses: [SocketAddress]
  private let name: String
  private let options: Options
  /// For buckets whose names the cluster must not know; nil: there are none.
  package var names: SealedNames?
  /// Index of the address that led when we last knew.
  private var leader = 0
  /// Called with the reason when something has waited for a leader for a while; see ``Options/noticeAfter``. One call for all
  /// that wait, until somebody has led again.
  package var onWait: (@Sendable (String) -> Void)?
  private var hasToldWait = false
  /// Something has waited for a leader for ``Options/noticeAfter``, or in vain, and nobody has answered since. Then whoever brings a
  /// patience of their own is told after one look.
  package private(set) var isCutOff = false

  private(set) var session: UInt64?
  private let tasks: OwnedTasks
  private let opening: SharedWork<UInt64>
  private var isClosed = false
  private var nextSequence: UInt64 = 1
  /// Commands that wait for their answers, by sequence number.
  private(set) var unanswered: [UInt64: ClientCommand] = [:]
  /// Of those.
  private var lowestUnanswered: UInt64 = 1
  private lazy var gatherer = CommandGatherer(driver, tasks) { [wire, unowned self] request in
    do throws(WireError) {
      return .success(
        try await wire.call(request, at: addresses[leader], deadline: Self.callDeadline).answer)
    } catch {
      return .failure(error)
    }
  }
  private let answered = WaitQueue()
  /// The protocol's bound on the distance between the lowest unanswered sequence number and a new one, less some room.
  private static let sequenceWindow: UInt64 = 1000
  private static let callDeadline = Duration.seconds(10)
  private static let lookTime = Duration.milliseconds(300)
  /// Whether any coordinator ever answered: then its absence is waited out.
  private var hasMetCluster = false
  private let slots: Semaphore
  private var keeper: SpawnedTask?
  /// The log position after which everything this client changed is seen.
  package private(set) var position: UInt64 = 0

  /// - Parameter addresses: of the coordinators, at least one.
  package init(
    driver: any Driver, wire: WireClient, addresses: [SocketAddress], name: String,
    options: Options = Options()
  ) {
    precondition(!addresses.isEmpty)
    self.driver = driver
    self.wire = wire
    self.addresses = addresses
    self.name = name
    self.options = options
    slots = Semaphore(options.outstandingLimit)
    tasks = OwnedTasks(driver)
    opening = SharedWork(tasks, "open session")
  }

  /// Asks a question; sent again while nobody leads.
  ///
  /// - Parameter patience: for how long; nil: as the options say.
  package func query<Request: Call>(_ request: Request, patience: Duration? = nil)
    async throws(DataPathError) -> Request.Answer
  {
    guard let names else { return try await send(request, patience: patience) }
    let sealed = try await names.sealed(request)
    return try names.opened(try await send(sealed, patience: patience), to: request)
  }

  /// Asks a question whose level allows any coordinator to answer: one after the other, beginning with one that did not
  /// lead when we last knew, and the leader in the end. ``position`` is what sees all that this client changed.
  package func queryAnyone<Request: Call>(_ request: Request) async throws(DataPathError)
    -> Request.Answer
  {
    guard let names else { return try await sendAnyone(request) }
    let sealed = try await names.sealed(request)
    return try names.opened(try await sendAnyone(sealed), to: request)
  }

  private func sendAnyone<Request: Call>(_ request: Request) async throws(DataPathError)
    -> Request.Answer
  {
    let start = Int(driver.random() % UInt64(max(1, addresses.count - 1)))
    for turn in 0..<addresses.count - 1 where !isClosed {
      let index = (leader + 1 + (start + turn) % (addresses.count - 1)) % addresses.count
      do throws(WireError) {
        return try await wire.call(request, at: addresses[index], deadline: .seconds(3)).answer
      } catch {
        if Task.isCancelled { throw .cancelled }
        switch error.refusalCode {
        case nil, .notLeader, .unavailable: continue
        default: throw DataPathError(error)
        }
      }
    }
    return try await send(request)
  }

  /// Asks a question of that level, of whoever may answer it.
  package func query<Request: Call>(_ request: Request, at level: ReadLevel)
    async throws(DataPathError) -> Request.Answer
  {
    level == .strong ? try await query(request) : try await queryAnyone(request)
  }

  /// Makes a change, exactly once.
  ///
  /// A session that expired before the change can have been carried out is renewed. What belongs to it, as uploads do, went
  /// with it, so such a change is then refused: noSuchUpload.
  ///
  /// - Parameter patience: as of a question.
  /// - Throws: ``DataPathError/refused(code:reason:)`` when the state machine refused it; then nothing was changed.
  ///   ``DataPathError/outcomeUnknown`` when the session expired while the answer was waited for.
  package func execute(_ command: ClientCommand, patience: Duration? = nil)
    async throws(DataPathError) -> CommandOutcome
  {
    let command = try await names?.sealed(command) ?? command
    await slots.acquire()
    defer { slots.release() }
    while true {
      let session = try await openSession(patience)
      if let outcome = try await execute(command, session, patience) { return outcome }
      if Task.isCancelled { throw .cancelled }
    }
  }

  /// The outcome in this session; nil when the session had expired and the command surely was not carried out.
  private func execute(_ command: ClientCommand, _ session: UInt64, _ patience: Duration?)
    async throws(DataPathError) -> CommandOutcome?
  {
    while nextSequence - lowestUnanswered >= Self.sequenceWindow { await answered.wait() }
    let sequence = nextSequence
    nextSequence += 1
    unanswered[sequence] = command
    defer {
      unanswered[sequence] = nil
      while lowestUnanswered < nextSequence && unanswered[lowestUnanswered] == nil {
        lowestUnanswered += 1
      }
      answered.wakeAll()
    }
    var mayHaveArrived = false
    let answer: Execute.Answer
    do throws(DataPathError) {
      // `lowestUnanswered` may be old when the request is sent again, which only keeps outcomes longer.
      let request = Execute(
        session: session, sequence: sequence, lowestUnanswered: lowestUnanswered,
        command: command)
      if driver.meets(.commandAnswerLost) {
        _ = try await send(request, patience: patience, mayHaveArrived: &mayHaveArrived)
        mayHaveArrived = true
        if driver.meets(.answerMissedLate) { await driver.sleep(Self.callDeadline) }
      }
      if patience == nil,
        let early = try await sendAmongOthers(request, mayHaveArrived: &mayHaveArrived)
      {
        answer = early
      } else {
        answer = try await send(request, patience: patience, mayHaveArrived: &mayHaveArrived)
      }
    } catch {
      return try afterRefusal(error, session, mayHaveArrived)
    }
    position = max(position, answer.position)
    if case .refused(let code, let reason) = answer.outcome {
      return try afterRefusal(.refused(code: code, reason: reason), session, mayHaveArrived)
    }
    return answer.outcome
  }

  /// Sends a small command with others, to whom we take for the leader.
  ///
  /// - Returns: nil when it is to be sent by itself, perhaps elsewhere, perhaps again.
  private func sendAmongOthers(_ request: Execute, mayHaveArrived: inout Bool)
    async throws(DataPathError) -> Execute.Answer?
  {
    guard !isClosed, CommandGatherer.takes(request.command) else { return nil }
    switch await gatherer.execute(request) {
    case .success(let answer):
      hasMetCluster = true
      hasToldWait = false
      isCutOff = false
      return answer
    case .failure(let error):
      if Task.isCancelled || isClosed { throw .cancelled }
      if case .unreachable = error { return nil }
      switch error.refusalCode {
      case nil, .notLeader, .unavailable, .unknownMethod:
        mayHaveArrived = true
        return nil
      default: throw DataPathError(error)
      }
    }
  }

  /// Nil when the session had expired and the command surely was not carried out; otherwise throws what became of it.
  private func afterRefusal(_ error: DataPathError, _ session: UInt64, _ mayHaveArrived: Bool)
    throws(DataPathError) -> CommandOutcome?
  {
    switch error.refusalCode {
    case .noSuchSession:
      forget(session)
      if !mayHaveArrived { return nil }
      throw .outcomeUnknown
    case .outcomeUnknown:
      forget(session)
      throw .outcomeUnknown
    default: throw error
    }
  }

  /// The session is gone: the next change opens another.
  private func forget(_ gone: UInt64) {
    guard session == gone else { return }
    session = nil
    keeper?.cancel()
    keeper = nil
  }

  /// Ends the session; what it held is returned. Nothing can be asked or changed any more.
  ///
  /// Also when the calling task is cancelled: what a client that is interrupted held goes back at once.
  package func close() async {
    isClosed = true
    tasks.cancelAll()
    await driver.spawn("close session") { [self] in
      await tasks.wait()
      keeper?.cancel()
      await keeper?.wait()
      keeper = nil
      guard let session else { return }
      self.session = nil
      do throws(WireError) {
        _ = try await wire.call(
          CloseSession(session: session), at: addresses[leader], deadline: .seconds(2))
      } catch {
        // The leader expires it by itself.
      }
    }.wait()
  }

  private func openSession(_ patience: Duration?) async throws(DataPathError) -> UInt64 {
    if let session { return session }
    return try await opening.run { [self] () async throws(DataPathError) in
      if let session { return session }
      let answer = try await send(OpenSession(client: name), patience: patience)
      session = answer.session
      keep(answer.session, every: .milliseconds(Int64(answer.lifetimeMilliseconds) / 3))
      return answer.session
    }
  }

  private func keep(_ session: UInt64, every interval: Duration) {
    keeper = driver.spawn("keep session") { [weak self, driver] in
      while await driver.sleep(interval) {
        guard let self else { return }
        do throws(DataPathError) {
          _ = try await self.send(KeepSession(session: session))
        } catch {
          // It may be kept the next time; one that has expired never.
          if error.refusalCode == .noSuchSession { return self.forget(session) }
        }
      }
    }
  }

  private func send<Request: Call>(_ request: Request, patience: Duration? = nil)
    async throws(DataPathError) -> Request.Answer
  {
    var mayHaveArrived = false
    return try await send(request, patience: patience, mayHaveArrived: &mayHaveArrived)
  }

  /// Sends to the leader, looking for it among the addresses until one answers or patience is over.
  ///
  /// - Parameter mayHaveArrived: set when an earlier attempt may have been carried out.
  private func send<Request: Call>(
    _ request: Request, patience: Duration?, mayHaveArrived: inout Bool
  ) async throws(DataPathError) -> Request.Answer {
    let start = driver.now
    let patience = patience.map { isCutOff ? min($0, Self.lookTime) : $0 }
    let callDeadline = min(Self.callDeadline, patience ?? Self.callDeadline)
    var end = start + (patience ?? options.patience)
    var pause = Duration.milliseconds(20)
    var misses = 0
    while true {
      if isClosed { throw .cancelled }
      let begun = driver.now
      do throws(WireError) {
        let answer = try await wire.call(
          request, at: addresses[leader], deadline: callDeadline
        ).answer
        hasMetCluster = true
        hasToldWait = false
        isCutOff = false
        return answer
      } catch {
        if Task.isCancelled || isClosed { throw .cancelled }
        switch error {
        case .refused(let code, let reason):
          hasMetCluster = true
          switch RefusalCode(rawValue: code) {
          case .notLeader:
            // It may have led when the request came.
            mayHaveArrived = true
            if let address = SocketAddress(reason), let index = addresses.firstIndex(of: address) {
              leader = index
            } else {
              leader = (leader + 1) % addresses.count
            }
          case .unavailable: mayHaveArrived = true
          default:
            isCutOff = false
            throw DataPathError(error)
          }
        case .unreachable: leader = (leader + 1) % addresses.count
        case .disconnected, .deadline:
          mayHaveArrived = true
          leader = (leader + 1) % addresses.count
        case .wrongKey, .version, .malformed, .cancelled: throw DataPathError(error)
        }
        misses += 1
        // A process that was stopped has not been waiting.
        let stopped = driver.now - begun - callDeadline
        if stopped > .seconds(2) { end += stopped }
        // A cluster that was never there is told at once; one that was is waited for.
        if driver.now >= end
          || (!hasMetCluster && misses >= 3 * addresses.count && isUnreachable(error))
        {
          isCutOff = true
          throw describe(error)
        }
        if driver.now - start >= options.noticeAfter { isCutOff = true }
        if let onWait, !hasToldWait, driver.now - start >= options.noticeAfter {
          hasToldWait = true
          onWait("\(describe(error))")
        }
        // Once round, where there are several: one of them is to lead soon.
        guard misses.isMultiple(of: addresses.count) else { continue }
        await driver.sleep(pause)
        pause = min(pause * 2, addresses.count > 1 ? .milliseconds(200) : .milliseconds(500))
      }
    }
  }

  private func isUnreachable(_ error: WireError) -> Bool {
    if case .unreachable = error { true } else { false }
  }

  private func describe(_ error: WireError) -> DataPathError {
    let list = addresses.map(\.description).joined(separator: ", ")
    switch error {
    case .refused(_, let reason):
      // An address is whom it took for the leader.
      return .noCoordinator(
        reason.isEmpty || SocketAddress(reason) != nil ? "none of \(list) leads" : reason)
    case .unreachable(let reason), .disconnected(let reason):
      return .noCoordinator("\(reason) (tried \(list))")
    case .deadline: return .noCoordinator("no answer in time (tried \(list))")
    default: return DataPathError(error)
    }
  }
}
