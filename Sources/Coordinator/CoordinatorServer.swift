import Cluster
import Coding
import Messages
package import Metadata
package import Ring
package import Service
import Wire

/// The coordinator daemon: wins the lead from the arbiter, takes the log over, then orders commands and answers
/// questions until it loses the lead or is stopped.
///
/// - `Arbiter/`     who may lead, and the root record
/// - `Log/`         links: taking over, writing, reading back
/// - `NodeTable`    what nodes say of themselves
/// - `StateKeeper`  the state machine on its thread
/// - `CommandPipeline`, `Leadership` and what follows from a term
/// - `+Commands`, `+Queries`, `+Hello`, `+Status`: what is answered
/// - `Leadership+…`: what a leader does of its own accord
/// - `Keys/`        master keys, key domains, what is handed out to readers and writers
/// - `Repair/`      shards written anew elsewhere, blocks mended in place, full devices relieved
/// - `StandbyTail`  what a standby does: follows the log and answers reads
package final class CoordinatorServer: @unchecked Sendable {
  // Loop-confined.
  let configuration: CoordinatorConfiguration
  let driver: any Driver
  let log: Log
  package let nodes: NodeTable
  let client: WireClient
  let port: any NodePort
  let arbiter: any Arbiter
  let keeper: StateKeeper
  let grantKey: [UInt8]
  let vault: KeyVault
  /// Clients' key domains that are being given another passphrase.
  var rewrapping: Set<KeyDomainID> = []
  /// Nil while it does not lead.
  private(set) var leadership: Leadership?
  /// As far as is known here.
  package var root: RootRecord? { arbiter.root }
  package var isLeading: Bool { leadership?.isLeading() == true }
  /// What the take-over waits for, for people.
  private(set) var takeOverDetail = ""
  private(set) var isTakingOver = false
  private var server: WireServer?
  private(set) var isStopping = false
  private var mainTask: SpawnedTask?
  private var watchTask: SpawnedTask?
  private var keyWatchTask: SpawnedTask?
  private let ended = Promise<CoordinatorEnd>()
  var placementTurn: UInt64 = 0
  let placementGroups = PlacementGroupCache()

  /// - Parameters:
  ///   - storage: where the state is cached.
  ///   - arbiter: who names the leader.
  ///   - log: where it says what it does; standard error when nil.
  package init(
    driver: any Driver, configuration: CoordinatorConfiguration,
    storage: any StateStorage = RocksStorage(), arbiter: ArbiterChoice = .file, log: Log? = nil
  ) {
    self.driver = driver
    self.configuration = configuration
    self.log = log ?? Log(driver: driver)
    nodes = NodeTable(
      driver: driver, silence: configuration.nodeSilence,
      helloInterval: configuration.helloInterval)
    client = WireClient(
      driver: driver, key: configuration.key, name: "coordinator " + configuration.name,
      security: configuration.security)
    port = WireNodePort(client: client, nodes: nodes, driver: driver)
    grantKey = configuration.key.subkey("grant")
    vault = KeyVault(configuration.masterKeys, driver: driver)
    keeper = StateKeeper(
      driver: driver, storage: storage, dataDirectory: configuration.dataDirectory)
    let site = ArbiterSite(
      driver: driver, configuration: configuration, nodes: nodes, port: port)
    self.arbiter =
      switch arbiter {
      case .file: FileArbiter(site)
      case .made(let make): make(site)
      }
  }

  /// Listens and begins to seek the lead. Returns once connections are accepted.
  ///
  /// - Returns: where it really listens.
  package func start() async throws(RingError) -> SocketAddress {
    let server = WireServer(
      driver: driver, key: configuration.key, name: "coordinator " + configuration.name,
      security: configuration.security
    ) { [self] (method, packet, peer) async throws(Refusal) -> Packet in
      try await answer(method, packet, peer)
    }
    self.server = server
    let address = try await server.start(on: configuration.address)
    log.info(
      "coordinator started",
      ["name": configuration.name, "address": address, "kernel": driver.features])
    watchTask = driver.spawn("watch devices") { [self] in await watchDevices() }
    keyWatchTask = driver.spawn("watch keys") { [self] in await watchKeys() }
    mainTask = driver.spawn("coordinator") { [self] in
      let end = await run()
      ended.fulfil(end)
    }
    return address
  }

  /// Waits until the coordinator has ended, because it was stopped or because it cannot go on.
  package func waitForEnd() async -> CoordinatorEnd { await ended.get() }

  /// Hands the lead back, flushes the state and closes everything.
  package func stop() async {
    guard mainTask != nil else { return }
    guard !isStopping else {
      _ = await ended.get()
      return
    }
    isStopping = true
    await server?.stop()
    // The server's handler refers to us.
    server = nil
    await arbiter.release()
    _ = await ended.get()
    watchTask?.cancel()
    keyWatchTask?.cancel()
    await watchTask?.wait()
    await keyWatchTask?.wait()
    await client.close()
    await log.flush()
  }

  /// One term after the other.
  private func run() async -> CoordinatorEnd {
    while !isStopping {
      do throws(ArbiterError) {
        let term = try await standBy()
        log.info("the lease is won", ["epoch": term.epoch])
        let reason = await lead(term)
        log.warning("the lead is lost", ["epoch": term.epoch, "reason": describe(reason)])
        if let end = CoordinatorEnd(reason) {
          await keeper.close()
          return end
        }
      } catch {
        if let end = CoordinatorEnd(error) {
          await keeper.close()
          if case .failed(let why) = end { log.error("coordinator ends", ["reason": why]) }
          return end
        }
        guard await driver.sleep(.milliseconds(200)) else { break }
      }
    }
    await keeper.close()
    return .stopped
  }

  /// Tells slow devices from others, leading or not: whoever leads next knows them then.
  private func watchDevices() async {
    while await driver.sleep(.seconds(1)), !isStopping {
      let (degraded, recovered) = nodes.judgeDevices()
      for device in degraded {
        log.warning(
          "device degraded: much slower than others of its kind",
          ["device": device, "node": nodes.nodeName(of: device)])
      }
      for device in recovered {
        log.info(
          "device is not degraded any more",
          ["device": device, "node": nodes.nodeName(of: device)])
      }
    }
  }

  /// Waits for the lead; meanwhile follows whoever has it.
  private func standBy() async throws(ArbiterError) -> Term {
    guard arbiter.canHandOver else { return try await arbiter.acquire() }
    let tail = StandbyTail(self)
    tail.start()
    do throws(ArbiterError) {
      let term = try await arbiter.acquire()
      await tail.stop()
      return term
    } catch {
      await tail.stop()
      throw error
    }
  }

  /// Takes over, leads until the lease is gone, and cleans up.
  private func lead(_ term: Term) async -> ArbiterError {
    isTakingOver = true
    takeOverDetail = "taking over the log"
    let leadership = Leadership(server: self, epoch: term.epoch)
    leadership.watchReach()
    do throws(LogError) {
      try await leadership.takeOver(term) { [weak self] in self?.takeOverDetail = $0 }
      takeOverDetail = ""
      isTakingOver = false
      self.leadership = leadership
      leadership.startDuties()
      log.info(
        "leading", ["epoch": term.epoch, "position": keeper.appliedPosition])
    } catch {
      switch error {
      case .lost(let reason): arbiter.lose(reason)
      case .stopped: arbiter.lose(.stopped)
      case .unreadable(let why):
        log.error("the take-over failed", ["reason": why])
        arbiter.lose(.expired)
      }
    }
    let reason = await arbiter.waitForLoss()
    isTakingOver = false
    takeOverDetail = ""
    self.leadership = nil
    await leadership.end(reason)
    if leadership.isCutOff { await leaveToOthers(leadership) }
    return reason
  }

  /// Waits until enough nodes are heard of again, for as long as others may need to take the lead.
  private func leaveToOthers(_ leadership: Leadership) async {
    takeOverDetail = "too few nodes are heard of to lead"
    let end = driver.now + configuration.nodeSilence * 2
    while driver.now < end && !isStopping && !leadership.hearsEnough {
      guard await driver.sleep(.milliseconds(200)) else { break }
    }
    takeOverDetail = ""
  }
}

/// How a coordinator ended.
package enum CoordinatorEnd: Sendable, Equatable {
  case stopped
  /// It cannot go on: why, for people.
  case failed(String)

  /// Nil when the coordinator may seek the lead again.
  init?(_ error: ArbiterError) {
    switch error {
    case .stopped: self = .stopped
    case .locked, .directory, .directoryGone, .foreign: self = .failed(describe(error))
    case .deposed, .expired, .unanswered, .handedOver: return nil
    }
  }
}

func describe(_ error: ArbiterError) -> String {
  switch error {
  case .locked(let path): "another coordinator works in this directory: \(path)"
  case .directory(let why): "the directory cannot be used: \(why)"
  case .directoryGone(let path): "the directory was deleted or replaced: \(path)"
  case .deposed(let epoch): "another coordinator took over with epoch \(epoch)"
  case .expired: "the lease was not renewed in time"
  case .unanswered: "too few of the new nodes answered"
  case .foreign(let why): why
  case .handedOver: "handed over on request"
  case .stopped: "stopped"
  }
}
