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
  /// When a session was last heard of.
  private(set) var sessions: [UInt64: Duration] = [:]
  private var duties: [SpawnedTask] = []
  private(set) var isOver = false
  /// What nodes said and the state machine refused, so as not to ask again and again.
  var refusedRecords: [NodeID: NodeRecord] = [:]
  /// Set when the root stopped naming something.
  var hasOldLinks = true
  /// Of the first container of the checkpoint being written.
  var checkpointUnderWay: UInt64?
  var lastCheckpointNumber: UInt64 = 0

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
    do throws(ArbiterError) {
      if term.root == nil { try await found() }
    } catch {
      throw .lost(error)
    }
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
    if keeper.appliedPosition == 0 {
      let command = Command.found(
        clusterID: root.clusterID, scheme: root.scheme,
        created: driver.wallClock.wholeMilliseconds)
      do throws(Refusal) {
        _ = try await pipeline.submit(command)
      } catch {
        throw .lost(await lossReason())
      }
    }
    // A command that follows at once finds a map to place containers on.
    await registerMembers()
    do throws(StoreError) {
      let known = try await keeper.read { (machine) throws(StoreError) in
        try machine.allSessions().map(\.id)
      }
      // Whoever was heard by an earlier leader gets a full lifetime from now.
      for session in known { sessions[session] = driver.now }
    } catch {
      storeFailed(error)
      throw .lost(await lossReason())
    }
  }

  private func lossReason() async -> ArbiterError {
    if !arbiter.isHeld { arbiter.lose(.expired) }
    return await arbiter.waitForLoss()
  }

  /// The first root of a new cluster: its nodes are those that said hello.
  private func found() async throws(ArbiterError) {
    let clusterID = max(1, driver.random())
    let domains = server.nodes.all.filter { server.nodes.isUp($0.record.id) }.map(Self.domain)
    let scheme = configuration.scheme
    log.info("founding a cluster", ["id": clusterID, "nodes": domains.count, "scheme": scheme])
    try await arbiter.swap { _ in
      RootRecord(
        version: 1, clusterID: clusterID, epoch: 0, scheme: scheme, domains: domains, links: [])
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
          try await restore(checkpoint, reader)
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
    keeper.wake()
    await pipeline?.stop()
    for duty in duties { await duty.wait() }
  }

  // MARK: running

  func isLeading() -> Bool { !isOver && arbiter.isHeld }

  func submit(_ command: Command) async throws(Refusal) -> (
    position: UInt64, outcome: CommandOutcome
  ) {
    guard let pipeline, isLeading() else { throw CommandPipeline.lost }
    return try await pipeline.submit(command)
  }

  func heard(_ session: UInt64) { if sessions[session] != nil { sessions[session] = driver.now } }
  func opened(_ session: UInt64) { sessions[session] = driver.now }
  func closed(_ session: UInt64) { sessions[session] = nil }

  /// Starts a duty: a task that ends with the term.
  private func duty(_ name: String, _ body: @escaping @Sendable () async -> Void) {
    duties.append(driver.spawn(name, body))
  }

  func startDuties() {
    duty("members") { [self] in await watchMembers() }
    duty("sessions") { [self] in await expireSessions() }
    duty("trash") { [self] in await returnTrash() }
    duty("deletions") { [self] in await deleteContainers() }
    duty("ended grants") { [self] in await clearGrants() }
    duty("old links") { [self] in await deleteLinks() }
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
      let silent = sessions.keys.sorted().filter {
        driver.now - sessions[$0]! > configuration.sessionLifetime
          || driver.meets(.sessionExpiredEarly)
      }
      guard !silent.isEmpty, isLeading() else { continue }
      for session in silent { sessions[session] = nil }
      do throws(Refusal) {
        _ = try await submit(.expireSessions(silent))
        log.info("sessions expired", ["count": silent.count])
      } catch {
        // Tried again, by us or by the next leader.
        for session in silent where sessions[session] == nil {
          sessions[session] = driver.now - configuration.sessionLifetime
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
