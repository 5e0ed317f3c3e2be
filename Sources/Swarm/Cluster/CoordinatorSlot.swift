internal import Coordinator
internal import Metadata
internal import Ring
internal import Service
internal import Simulation

/// A coordinator's machine; its state is in a store that loses what was not flushed.
final class CoordinatorSlot: DaemonSlot, @unchecked Sendable {
  private(set) var server: CoordinatorServer?
  /// As with nodes.
  private var past: [CoordinatorServer] = []
  /// Who it is to the register.
  private var holder: () -> UInt64? = { nil }
  let storage = LossyStorage()
  let troubles: DiskTroubles
  private var chance: SimulationRandom

  static let directory = "/data"

  init(_ world: SimulatedWorld, _ scenario: Scenario, number: Int) {
    let name = "c\(number)"
    troubles = DiskTroubles(world, world.machine(name).disk)
    chance = world.random(named: "store/\(name)")
    super.init(world, scenario, number: number, name: name)
    troubles.isServing = { [weak self] in self?.isUp == true }
  }

  override func launch(_ process: SimulatedProcess) {
    let choice: ArbiterChoice
    if let register = cluster?.register {
      let host = name
      let arbiter = ArbiterBox()
      choice = .made { site in
        let made = SimulatedArbiter(register, site, host: host)
        arbiter.arbiter = made
        return made
      }
      holder = { arbiter.arbiter?.holder }
    } else {
      choice = .file
    }
    var configuration = scenario.coordinatorConfiguration(number)
    if let keys = cluster?.masterKeys { configuration.masterKeys = .made(keys) }
    let server = CoordinatorServer(
      driver: process, configuration: configuration, storage: storage,
      arbiter: choice, log: Log(driver: process, level: scenario.logLevel))
    self.server = server
    past.append(server)
    process.spawn("start") { [self] in
      do throws(RingError) {
        // As `cairn coordinator` does before it starts.
        try await process.makeDirectories(Self.directory, mode: 0o700)
        _ = try await server.start()
      } catch {
        guard self.process === process, process.isAlive else { return }
        let reason = "\(error)"
        if !troubles.wereActiveLately {
          cluster?.fail("every daemon reopens", "\(name): \(reason)")
        }
        return failed(process, reason)
      }
      guard self.process === process, process.isAlive else { return }
      started(process)
      let end = await server.waitForEnd()
      guard self.process === process, process.isAlive else { return }
      switch end {
      case .stopped: failed(process, "stopped")
      case .failed(let reason):
        if !troubles.wereActiveLately {
          cluster?.fail("coordinators go on", "\(name): \(reason)")
        }
        failed(process, reason)
      }
    }
  }

  var isLeading: Bool { process?.isAlive == true && server?.isLeading == true }

  /// Whether the lease is its own; always, where there is one coordinator.
  var mayLead: Bool {
    guard let register = cluster?.register else { return true }
    return holder() != nil && holder() == register.currentHolder
  }

  override func ended(_ end: DaemonEnd) {
    server = nil
    // A killed process loses what its store had in memory, like one whose power went.
    storage.crash(&chance)
  }

  override func stopGracefully() async { await server?.stop() }

  /// `rm -r` of the data directory.
  func wipe(rest: Duration) {
    end(.kill, rest: rest)
    storage.wipe()
    try? machine.disk.erase(Self.directory)
  }

  /// The next open finds the store damaged.
  func damageStore(rest: Duration) {
    end(.kill, rest: rest)
    storage.isDamaged = true
  }
}

private final class ArbiterBox: @unchecked Sendable {
  // Loop-confined.
  weak var arbiter: SimulatedArbiter?
}
