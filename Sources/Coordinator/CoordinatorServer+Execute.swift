import Cluster
import Coding
import Messages
import Metadata
import Ring
import Service
import Wire

/// Clients' commands, one or many in a request: what can be answered without the log is, the others enter it together.
extension CoordinatorServer {
  func execute(_ request: Execute) async throws(Refusal) -> Execute.Answer {
    let leadership = try await leading(session: request.session)
    return try await execute([request], leadership)[0].get()
  }

  func execute(_ request: ExecuteAll) async throws(Refusal) -> ExecuteAll.Answer {
    let leadership = try await leading(session: request.session)
    return ExecuteAll.Answer(
      outcomes: await execute(request.each, leadership).map {
        switch $0 {
        case .success(let answer): .answered(answer)
        case .failure(let refusal): .refused(code: refusal.code, reason: refusal.reason)
        }
      })
  }

  private enum Begun {
    case answered(Execute.Answer)
    case underWay(CommandPipeline.Pending)
  }

  private func execute(_ requests: [Execute], _ leadership: Leadership) async
    -> [Result<Execute.Answer, Refusal>]
  {
    leadership.commandsUnderWay += requests.count
    defer { leadership.commandsUnderWay -= requests.count }
    let found: [CommandOutcome?]
    do throws(Refusal) {
      found = try await look(requests, leadership)
    } catch {
      return requests.map { _ in .failure(error) }
    }
    var begun: [Result<Begun, Refusal>] = []
    begun.reserveCapacity(requests.count)
    for (request, found) in zip(requests, found) {
      do throws(Refusal) {
        begun.append(.success(try await begin(request, found, leadership)))
      } catch {
        begun.append(.failure(error))
      }
    }
    var answers: [Result<Execute.Answer, Refusal>] = []
    answers.reserveCapacity(requests.count)
    for one in begun {
      do throws(Refusal) {
        switch try one.get() {
        case .answered(let answer): answers.append(.success(answer))
        case .underWay(let pending):
          let (position, outcome) = try await pending.get().get()
          answers.append(
            .success(Execute.Answer(position: position, outcome: try signed(outcome))))
        }
      } catch {
        answers.append(.failure(error))
      }
    }
    return answers
  }

  /// What is known of commits that may change nothing: one look at the state for all of them.
  private func look(_ requests: [Execute], _ leadership: Leadership)
    async throws(Refusal) -> [CommandOutcome?]
  {
    var outcomes = [CommandOutcome?](repeating: nil, count: requests.count)
    let asked = requests.indices.filter {
      requests[$0].command.mayChangeNothing && !leadership.sessions.isLogged(requests[$0])
    }
    if asked.isEmpty { return outcomes }
    let found = try await query(.strong) { (machine) throws(StoreError) -> [CommandOutcome?] in
      var found: [CommandOutcome?] = []
      found.reserveCapacity(asked.count)
      for index in asked {
        let request = requests[index]
        // A retry of one that was carried out in an earlier term must have its answer.
        if let outcome = try machine.outcome(
          session: request.session, sequence: request.sequence)
        {
          found.append(outcome)
        } else if case .commitObject(
          _, let name, _, let byteCount, let contentHash, let attributes, _, _, _) = request.command
        {
          found.append(
            try machine.isIdentical(
              name, contentHash: contentHash, byteCount: byteCount, attributes: attributes
            ).map { .number($0) })
        } else {
          found.append(nil)
        }
      }
      return found
    }
    for (index, outcome) in zip(asked, found) { outcomes[index] = outcome }
    return outcomes
  }

  /// Answers the command without the log, or has it logged.
  ///
  /// - Parameter found: by ``look(_:_:)``.
  private func begin(_ request: Execute, _ found: CommandOutcome?, _ leadership: Leadership)
    async throws(Refusal) -> Begun
  {
    func answer(_ outcome: CommandOutcome) -> Begun {
      .answered(Execute.Answer(position: keeper.appliedPosition, outcome: outcome))
    }
    /// For commands that change nothing.
    func answerUnlogged(_ outcome: CommandOutcome) -> Begun {
      leadership.sessions.note(outcome, for: request)
      return answer(outcome)
    }
    if let outcome = leadership.sessions.answer(request) { return answer(outcome) }
    if let shortage = leadership.logShortage, request.command.makesStateGrow {
      // As below for one that asks for a grant.
      if let known = try await known(request) { return answer(known) }
      if leadership.sessions.isLogged(request) { throw Refusal(.unavailable, shortage) }
      return answerUnlogged(.refused(code: RefusalCode.deviceFull.rawValue, reason: shortage))
    }
    var command = request.command.stamped(driver.wallClock.wholeMilliseconds)
    if command.mayChangeNothing, let found, !leadership.sessions.isLogged(request) {
      return answerUnlogged(found)
    }
    if case .requestGrant(let upload, let avoid, _, let domain) = command {
      let wanted = scheme(of: domain)
      guard let placement = place(wanted, avoiding: avoid) else {
        // A retry of one that was granted must have its answer.
        if let known = try await known(request) { return answer(try signed(known)) }
        let reason = DomainShortage(placement, nodes, m: wanted.m, avoiding: avoid).description
        // Who leads at once after its start has not heard of the nodes yet: no reason to end a put. And another copy of
        // the request that is on its way through the log may be granted.
        if nodes.isNew || leadership.sessions.isLogged(request) {
          throw Refusal(.unavailable, reason)
        }
        return answerUnlogged(.refused(code: RefusalCode.tooFewDomains.rawValue, reason: reason))
      }
      command = .requestGrant(
        upload: upload, avoid: avoid, placement: placement, domain: domain)
    }
    if case .makeDataKey(let upload, let domain, let offered) = command {
      do throws(Refusal) {
        command = .makeDataKey(
          upload: upload, domain: domain, key: try await newDataKey(of: domain, offered: offered))
      } catch {
        if let known = try await known(request) { return answer(known) }
        // As with grants.
        guard [.keyUnavailable, .keyIsClients, .noSuchKeyDomain].contains(error.known),
          !leadership.sessions.isLogged(request)
        else { throw error }
        return answerUnlogged(.refused(code: error.code, reason: error.reason))
      }
    }
    // Another copy may have been answered while this one looked at the state.
    if let outcome = leadership.sessions.answer(request) { return answer(outcome) }
    leadership.sessions.noteLogged(request)
    return .underWay(
      try await leadership.begin(
        .client(
          session: request.session, sequence: request.sequence,
          lowestUnanswered: request.lowestUnanswered, command: command)))
  }

  /// The outcome of a command that was carried out before.
  private func known(_ request: Execute) async throws(Refusal) -> CommandOutcome? {
    try await query(.strong) { (machine) throws(StoreError) in
      try machine.outcome(session: request.session, sequence: request.sequence)
    }
  }

  /// Signs a grant on its way out, so that nodes can check it.
  private func signed(_ outcome: CommandOutcome) throws(Refusal) -> CommandOutcome {
    guard case .grant(let bytes) = outcome else { return outcome }
    guard let grant = try? Grant(decoding: bytes) else {
      throw Refusal(.failed, "a grant cannot be read")
    }
    return .grant(SignedGrant(signing: grant, key: grantKey).encoded)
  }
}

extension ClientCommand {
  /// What stays in the state when all uploads have ended is more after it.
  fileprivate var makesStateGrow: Bool {
    switch self {
    case .createBucket, .openUpload, .commitObject, .createMultipart, .putPart, .setAttributes,
      .moveVersion:
      true
    case .setBucketSetting(_, let setting): !setting.bytes.isEmpty
    case .copyObject(_, _, _, _, let moves, _, _): !moves
    // To take something away is always possible.
    case .changeUser(_, let change):
      switch change {
      case .create, .setPolicy: true
      case .delete, .setEnabled, .deletePolicy: false
      }
    case .changeAccessKey(_, let change):
      switch change {
      case .create, .rotate: true
      case .setEnabled, .delete: false
      }
    case .changeBucketAccess(_, let change):
      switch change {
      case .policy(.some): true
      case .policy, .acl, .publicAccessBlock, .ownerEnforced: false
      }
    // Completing leaves less: the parts' records go.
    case .removeBucket, .endUpload, .requestGrant, .releaseGrant, .registerStripes, .holdChunks,
      .putPage, .makeDataKey, .deleteObject, .completeMultipart, .abortMultipart, .setVersioning,
      .deleteVersion, .setBucketLock, .setLock:
      false
    }
  }

  /// A commit that is to leave an equal version as it is.
  fileprivate var mayChangeNothing: Bool {
    guard case .commitObject(_, _, _, _, _, _, let precondition, let unlessIdentical, _) = self
    else { return false }
    return unlessIdentical && precondition == .none
  }

  /// With the leader's time, where it has one.
  fileprivate func stamped(_ modified: UInt64) -> ClientCommand {
    switch self {
    case .commitObject(
      let upload, let name, let content, let byteCount, let contentHash, let attributes,
      let precondition, let unlessIdentical, _):
      .commitObject(
        upload: upload, name: name, content: content, byteCount: byteCount,
        contentHash: contentHash, attributes: attributes, precondition: precondition,
        unlessIdentical: unlessIdentical, modified: modified)
    case .copyObject(
      let source, let sourceIdentity, let target, let attributes, let move, let precondition, _):
      .copyObject(
        source: source, sourceIdentity: sourceIdentity, target: target, attributes: attributes,
        move: move, precondition: precondition, modified: modified)
    case .createMultipart(let name, let attributes, let owner, _):
      .createMultipart(name: name, attributes: attributes, owner: owner, modified: modified)
    case .putPart(let upload, let multipart, let part, _):
      .putPart(upload: upload, multipart: multipart, part: part, modified: modified)
    case .completeMultipart(
      let upload, let multipart, let parts, let root, let attributes, let precondition, _):
      .completeMultipart(
        upload: upload, multipart: multipart, parts: parts, root: root, attributes: attributes,
        precondition: precondition, modified: modified)
    default: self
    }
  }
}
