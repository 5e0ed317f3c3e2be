import Messages
import Metadata

/// What a leader remembers of clients' sessions beside the state: when each was last heard of, and what it was told
/// without the log.
///
/// Some commands are answered and not logged, because they would change nothing as things stand. A copy of one may
/// come late, from a connection that hung, when things stand otherwise; it must not be carried out after its
/// client has gone on. So such answers are kept until the client says that it has them.
struct SessionTable {
  private struct Session {
    var heardAt: Duration
    /// The highest `lowestUnanswered` that a request carried: nobody waits for answers below it.
    var floor: UInt64 = 0
    /// By sequence number.
    var unlogged: [UInt64: CommandOutcome] = [:]
    /// Sequence numbers of commands that went to the log: they have their answers from there and nowhere else.
    var logged: Set<UInt64> = []
    /// Its end is on the way to the log.
    var isEnding = false
  }
  private var sessions: [UInt64: Session] = [:]

  func contains(_ session: UInt64) -> Bool { sessions[session] != nil }

  /// A session is new, or an earlier leader's: it has a full lifetime from now.
  mutating func open(_ session: UInt64, at now: Duration) {
    sessions[session] = Session(heardAt: now)
  }
  mutating func close(_ session: UInt64) { sessions[session] = nil }
  mutating func hear(_ session: UInt64, at now: Duration) { sessions[session]?.heardAt = now }

  /// Whether the session's end is on its way to the log: it is then neither there nor gone.
  func isEnding(_ session: UInt64) -> Bool { sessions[session]?.isEnding == true }
  mutating func beginEnd(_ session: UInt64) { sessions[session]?.isEnding = true }
  /// Its end did not come to the log: it goes on with all that is remembered of it.
  mutating func takeBackEnd(_ session: UInt64) { sessions[session]?.isEnding = false }

  /// Sessions that were last heard of before `moment`, ascending, but not those that are ending.
  ///
  /// - Parameter isEarly: asked for each of the others, in their order.
  func silent(since moment: Duration, orIf isEarly: () -> Bool) -> [UInt64] {
    sessions.keys.sorted().filter {
      !sessions[$0]!.isEnding && (sessions[$0]!.heardAt < moment || isEarly())
    }
  }

  /// Notes which answers the client has.
  ///
  /// - Returns: the answer that the command had without the log; `outcomeUnknown` when nobody waits for one any more;
  ///   `malformed` when too many before it have no answer; nil when the command is to be carried out.
  mutating func answer(_ request: Execute) -> CommandOutcome? {
    guard var session = sessions.removeValue(forKey: request.session) else { return nil }
    defer { sessions[request.session] = session }
    if request.lowestUnanswered > session.floor {
      if request.lowestUnanswered - session.floor <= StateMachine.outstandingLimit {
        for answered in session.floor..<request.lowestUnanswered {
          session.unlogged[answered] = nil
          session.logged.remove(answered)
        }
      } else {
        session.unlogged = session.unlogged.filter { $0.key >= request.lowestUnanswered }
        session.logged = session.logged.filter { $0 >= request.lowestUnanswered }
      }
      session.floor = request.lowestUnanswered
    }
    guard request.sequence >= session.floor else {
      return .refused(
        code: RefusalCode.outcomeUnknown.rawValue,
        reason: "the answer to command \(request.sequence) was dropped")
    }
    // The state machine would refuse it too; here it bounds what is remembered.
    guard request.sequence - session.floor < StateMachine.outstandingLimit else {
      return .refused(
        code: RefusalCode.malformed.rawValue,
        reason: "more than \(StateMachine.outstandingLimit) commands of a session are unanswered")
    }
    return session.unlogged[request.sequence]
  }

  /// Whether the command went to the log before, under this leader.
  func isLogged(_ request: Execute) -> Bool {
    sessions[request.session]?.logged.contains(request.sequence) == true
  }
  mutating func noteLogged(_ request: Execute) {
    sessions[request.session]?.logged.insert(request.sequence)
  }

  /// Keeps an answer that is given without the log.
  mutating func note(_ outcome: CommandOutcome, for request: Execute) {
    sessions[request.session]?.unlogged[request.sequence] = outcome
  }
}
