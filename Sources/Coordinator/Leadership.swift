import Cluster
import Coding
import Messages
import Metadata
import Ring
import Service
import Wire

/// One term as leader: the log's writer, the commands under way, the sessions' last words, and the duties.
final class Leadership: @unchecked Sendable {
  // Loop-confined.
  let server: CoordinatorServer
  let epoch: UInt64
  let driver: any Driver
  private(set) var writer: LogWriter?
  private(set) var pipeline: CommandPipeline?
  var sessions = SessionTable()
  /// Woken when it is decided whether sessions end.
  let sessionsDecided = WaitQueue()
  private var duties: [SpawnedTask] = []
  private(set) var isOver = false
  /// Set when the lead was given up because too few nodes were heard of.
  private(set) var isCutOff = false
  /// No commands are taken any more: another coordinator is to lead.
  var isHandingOver = false
  /// Commands that were taken and not answered yet.
  var commandsUnderWay = 0
  /// What nodes said and the state machine refused, so as not to ask again and again.
  var refusedRecords: [NodeID: NodeRecord] = [:]
  /// Set when the root stopped naming something.
  var hasOldLinks = true
  /// Devices that are compared with what is known, as soon as they are there; whether also their data.
  var unclean: [DeviceID: Bool] = [:]
  /// What devices keep for the log was nearly used up: what can go has to go soon.
  var isShortOfRoom = false
  /// Why nothing that makes the state grow is taken now: devices are full, and hardly a checkpoint would find room in
  /// what they keep for the log. Nil when there is room.
  var logShortage: String?
  /// Of the first container of the checkpoint being written.
  var checkpointUnderWay: UInt64?
  var lastCheckpointNumber: UInt64 = 0
  /// Devices that did not take a piece of one, and when: others are tried first.
  var refusedCheckpoint: [DeviceID: Duration] = [:]
  let repairs = RepairState()
  let transitions = TransitionWalks()
  /// The last one that an operator asked for.
  var check: CheckRun?

  init(server: CoordinatorServer, epoch: UInt64) {
    self.server = server
    self.epoch = epoch
    driver = server.driver
  }

  var arbiter: any Arbiter { server.arbiter }
  var keeper: StateKeeper { server.keeper }
  var configuration: CoordinatorConfiguration { server.configuration }
  var log: Log { server.log }

  // MARK: beginning

  /// Everything before the first answer: the root of a new cluster, the end of the log, the state.
  func takeOver(_ term: Term, report: @escaping @Sendable (String) -> Void) async throws(LogError) {
    if term.root == nil { try await found(report) }
    guard let root = arbiter.root else { throw .unreadable("no root record") }
    server.nodes.note(root)
    let opener = LinkOpener(
      driver: driver, port: server.port, nodes: server.nodes, arbiter: arbiter, epoch: epoch,
      slow: configuration.slowLogDevice)
    let reader = LogReader(driver: driver, port: server.port, nodes: server.nodes)
    let takeOver = TakeOver(
      driver: driver, port: server.port, nodes: server.nodes, arbiter: arbiter, opener: opener,
      reader: reader, epoch: epoch, fenceBound: configuration.fenceBound, report: report)
    let outcome = try await takeOver.run(root)
    var options = LogWriter.Options()
    options.linkByteLimit = configuration.linkByteLimit
    options.linkStripeLimit = configuration.linkStripeLimit
    options.slow = configuration.slowLogDevice
    options.window = configuration.logWindow
    let writer = LogWriter(
      driver: driver, port: server.port, arbiter: arbiter, opener: opener, epoch: epoch,
      options: options, opened: outcome.opened, nextPosition: outcome.nextPosition)
    self.writer = writer
    report("applying the log")
    try await replay(reader, outcome)
    server.nodes.note(keeper.map)
    let pipeline = CommandPipeline(
      driver: driver, keeper: keeper, writer: writer, arbiter: arbiter
    ) { [weak self] in self?.storeFailed($0) }
    self.pipeline = pipeline
    pipeline.start()
    while keeper.appliedPosition == 0 {
      let command = Command.found(
        clusterID: root.clusterID, scheme: root.scheme,
        created: driver.wallClock.wholeMilliseconds)
      do throws(Refusal) {
        _ = try await pipeline.submit(command)
      } catch {
        guard arbiter.isHeld else { throw .lost(await lossReason()) }
        // The log is stuck, and may go on later. A second founding is refused by the state machine.
        report(error.reason)
        guard await driver.sleep(.milliseconds(200)) else { throw .stopped }
      }
    }
    // A command that follows at once finds a map to place containers on.
    await registerMembers()
    do throws(StoreError) {
      let known = try await keeper.read { (machine) throws(StoreError) in
        try machine.allSessions().map(\.id)
      }
      // Whoever was heard by an earlier leader gets a full lifetime from now.
      for session in known { sessions.open(session, at: driver.now) }
    } catch {
      storeFailed(error)
      throw .lost(await lossReason())
    }
  }

  private func lossReason() async -> ArbiterError {
    if !arbiter.isHeld { arbiter.lose(.expired) }
    return await arbiter.waitForLoss()
  }

  /// The first root of a new cluster: its nodes are those that said hello, once there are enough.
  private func found(_ report: (String) -> Void) async throws(LogError) {
    let scheme = configuration.scheme
    while true {
      guard arbiter.isHeld else { throw .lost(await lossReason()) }
      let heard = server.nodes.all.filter { server.nodes.isUp($0.record.id) }
      let devices = heard.flatMap(\.reports).count { !$0.isFailed }
      if let member = heard.first(where: { $0.clusterID != 0 }) {
        // It belongs to a cluster, so there is a root record somewhere. Another one must not come to be.
        report("the arbiter has no root record, but \(member.record.name) belongs to a cluster")
        if arbiter.asksNodesForRoot {
          // It asks the nodes for the root, and has to ask again.
          arbiter.lose(.expired)
          throw .lost(.expired)
        }
      } else if heard.count < configuration.expectedNodes
        || (heard.count == 1 ? devices : heard.count) <= scheme.m
      {
        report(
          "a new cluster waits for its nodes: \(heard.count) of \(configuration.expectedNodes) have said hello"
        )
      } else {
        let clusterID = max(1, driver.random())
        log.info("founding a cluster", ["id": clusterID, "nodes": heard.count, "scheme": scheme])
        do throws(ArbiterError) {
          try await arbiter.swap(in: epoch) { _ in
            RootRecord(
              version: 1, clusterID: clusterID, epoch: 0, scheme: scheme,
              domains: heard.map(Self.domain), links: [])
          }
          return
        } catch {
          // Nothing was changed: the lease still holds.
          guard error == .unanswered else { throw .lost(error) }
        }
      }
      guard await driver.sleep(.milliseconds(100)) else { throw .stopped }
    }
  }

  static func domain(_ entry: NodeTable.Entry) -> RootRecord.Domain {
    RootRecord.Domain(
      node: entry.record.id, name: entry.record.name, address: entry.record.address,
      devices: entry.record.devices.map(\.id))
  }

  /// Brings the state to the end of the log. A state that is ahead of it, or cannot be read, is thrown away.
  private func replay(_ reader: LogReader, _ outcome: TakeOver.Outcome) async throws(LogError) {
    guard let root = arbiter.root else { throw .unreadable("no root record") }
    var links = root.links
    links[links.count - 1].sealedStripes = outcome.opened.stripeCount
    let first = links[0].firstPosition
    do throws(StoreError) {
      try await keeper.open(root.clusterID)
      if keeper.appliedPosition >= outcome.nextPosition {
        log.warning(
          "the state is not part of the log and is rebuilt",
          ["position": keeper.appliedPosition, "end": outcome.nextPosition - 1])
        try await keeper.discard()
      }
    } catch {
      storeFailed(error)
      throw .lost(await lossReason())
    }
    var isRebuilt = keeper.appliedPosition == 0
    while true {
      guard arbiter.isHeld else { throw .lost(await lossReason()) }
      do throws(LogError) {
        if keeper.appliedPosition + 1 < first {
          guard let checkpoint = root.checkpoint else {
            throw .unreadable("the log begins at \(first), and there is no checkpoint")
          }
          isRebuilt = true
          log.info("restoring the checkpoint", ["position": checkpoint.position])
          try await reader.restore(checkpoint, into: keeper) { arbiter.isHeld }
        }
        var broken: StoreError?
        try await reader.replay(links, after: keeper.appliedPosition) { batch in
          guard arbiter.isHeld else { return .stopped }
          do throws(StoreError) {
            _ = try await keeper.apply(batch)
            return nil
          } catch {
            broken = error
            return .stopped
          }
        }
        if let broken { throw .unreadable("\(broken)") }
        guard keeper.appliedPosition == outcome.nextPosition - 1 else {
          throw .unreadable(
            "the log ends at \(outcome.nextPosition - 1), the state at \(keeper.appliedPosition)")
        }
        return
      } catch {
        guard arbiter.isHeld else { throw .lost(await lossReason()) }
        log.warning("the log cannot be applied yet", ["reason": "\(error)"])
        if !isRebuilt {
          // The state may be at fault; the log has everything.
          isRebuilt = true
          do throws(StoreError) { try await keeper.discard() } catch {
            storeFailed(error)
            throw .lost(await lossReason())
          }
        } else {
          guard await driver.sleep(.seconds(1)) else { throw .stopped }
        }
      }
    }
  }

  // MARK: ending

  /// A query found the state wrong.
  func stateIsWrong(_ error: StoreError) { storeFailed(error) }

  private func storeFailed(_ error: StoreError) {
    log.error("the state cannot be kept", ["reason": "\(error)"])
    switch error {
    case .device(let why): arbiter.lose(.directory(why))
    case .corrupt, .gap, .refused:
      // Thrown away at the next take-over, which may be our own.
      keeper.isBroken = true
      arbiter.lose(.expired)
    }
  }

  /// Ends every duty and fails what is under way; returns when nothing of this term runs any more.
  func end(_ reason: ArbiterError) async {
    isOver = true
    writer?.fail(.lost(reason))
    for duty in duties { duty.cancel() }
    sessionsDecided.wakeAll()
    keeper.wake()
    await pipeline?.stop()
    for duty in duties { await duty.wait() }
  }

  // MARK: running

  func isLeading() -> Bool { !isOver && arbiter.isHeld }

  func submit(_ command: Command) async throws(Refusal) -> (
    position: UInt64, outcome: CommandOutcome
  ) {
    commandsUnderWay += 1
    defer { commandsUnderWay -= 1 }
    return try await begin(command).get().get()
  }

  /// Has a command logged; who waits for what it promises counts in ``commandsUnderWay``.
  func begin(_ command: Command) async throws(Refusal) -> CommandPipeline.Pending {
    guard let pipeline, isLeading(), !isHandingOver else { throw CommandPipeline.lost }
    return try await pipeline.begin(command)
  }

  /// Reads the state for a duty. Nil when it cannot be read; the term then ends.
  func look<Value: Sendable>(
    _ body: @escaping @Sendable (StateMachine) throws(StoreError) -> Value
  ) async -> Value? {
    do throws(StoreError) {
      return try await keeper.read(body)
    } catch {
      if !isOver { storeFailed(error) }
      return nil
    }
  }

  /// Starts a duty: a task that ends with the term.
  func duty(_ name: String, _ body: @escaping @Sendable () async -> Void) {
    duties.append(driver.spawn(name, body))
  }

  /// Gives the lead up when too few nodes have been heard of for a while, so that a coordinator that they do reach
  /// may have it. Begins with the term.
  func watchReach() {
    guard !arbiter.leaseNeedsNodes else { return }
    duty("reach") { [self] in
      var reachedAt = driver.now
      while await pause(.seconds(1)) {
        if hearsEnough { reachedAt = driver.now }
        if driver.now - reachedAt > configuration.nodeSilence * 2 {
          log.warning("too few nodes are heard of to lead")
          isCutOff = true
          arbiter.lose(.expired)
          return
        }
      }
    }
  }

  /// Whether all but m of the root's nodes say hello here.
  var hearsEnough: Bool {
    guard let root = arbiter.root else {
      let heard = server.nodes.all.filter { server.nodes.isUp($0.record.id) }
      return heard.count >= configuration.expectedNodes
    }
    return root.domainNodes.count { server.nodes.isUp($0) } >= root.renewQuorum
  }

  func startDuties() {
    duty("members") { [self] in await watchMembers() }
    duty("sessions") { [self] in await expireSessions() }
    duty("multipart uploads") { [self] in await expireMultiparts() }
    duty("lifecycles") { [self] in await carryOutLifecycles() }
    duty("trash") { [self] in await returnTrash() }
    duty("deletions") { [self] in await deleteContainers() }
    duty("ended grants") { [self] in await clearGrants() }
    duty("repair") { [self] in await repairShards() }
    duty("balance") { [self] in await balanceDevices() }
    duty("mend") { [self] in await mendBlocks() }
    duty("doomed shards") { [self] in await deleteDoomedShards() }
    duty("strays") { [self] in await deleteStrays() }
    duty("checkpoints") { [self] in await writeCheckpoints() }
    duty("flush") { [self] in await flush() }
  }

  /// Sleeps; false when the term is over.
  func pause(_ duration: Duration) async -> Bool {
    guard await driver.sleep(duration) else { return false }
    return !isOver
  }

  private func expireSessions() async {
    while await pause(.seconds(1)) {
      let silent = sessions.silent(since: driver.now - configuration.sessionLifetime) {
        driver.meets(.sessionExpiredEarly)
      }
      // Each takes its outcomes, uploads and grants along: not too many in one batch.
      var next = silent[...]
      while !next.isEmpty && isLeading() {
        let some = Array(next.prefix(64))
        next = next.dropFirst(64)
        // Nobody is told that they are gone before the log has it: should it never get there, they live on under the
        // next leader, and so do copies of their commands.
        for session in some { sessions.beginEnd(session) }
        defer { sessionsDecided.wakeAll() }
        do throws(Refusal) {
          _ = try await submit(.expireSessions(some))
          for session in some { sessions.close(session) }
          log.info("sessions expired", ["count": some.count])
        } catch {
          // Tried again, by us or by the next leader.
          for session in some { sessions.takeBackEnd(session) }
          break
        }
      }
    }
  }

  private func flush() async {
    while await pause(configuration.flushInterval) {
      do throws(StoreError) { try await keeper.flush() } catch { storeFailed(error) }
    }
  }
}
