internal import Ring
internal import Simulation

/// How a daemon is ended.
enum DaemonEnd: Sendable {
  /// SIGKILL.
  case kill
  case powerCut
}

/// A place where a daemon runs, is ended and started again. Loop-confined.
class DaemonSlot: @unchecked Sendable {
  let world: SimulatedWorld
  let scenario: Scenario
  let number: Int
  let name: String
  let machine: SimulatedMachine
  weak var cluster: SimulatedCluster?
  fileprivate(set) var process: SimulatedProcess?
  /// The daemon said that it has started.
  fileprivate(set) var isStarted = false
  private(set) var startedAt: Duration = .zero
  /// Not before this does the supervisor start it again.
  private(set) var heldUntil: Duration = .zero
  /// The next start ends at this operation.
  var endAtStart: (operation: Int, end: DaemonEnd, rest: Duration)?
  /// Why the last start failed.
  fileprivate(set) var trouble = ""
  /// Called when it was ended by a hook.
  var onHookedEnd: (() -> Void)?

  init(_ world: SimulatedWorld, _ scenario: Scenario, number: Int, name: String) {
    self.world = world
    self.scenario = scenario
    self.number = number
    self.name = name
    machine = world.machine(name)
  }

  /// Begins to start the daemon in `process`.
  func launch(_ process: SimulatedProcess) {}
  /// Its process has ended, by whatever.
  func ended(_ end: DaemonEnd) {}
  /// Asks it to stop, and returns when it has.
  func stopGracefully() async {}

  var isUp: Bool { process?.isAlive == true && isStarted }

  var description: String {
    if isUp { return "" }
    let state = process?.isAlive == true ? "starting since \(startedAt)" : "down"
    return "\(name) is \(state)" + (trouble.isEmpty ? "" : " (\(trouble))")
  }

  func supervise() {
    if process?.isAlive == true { return }
    if process != nil {
      // Ended by itself, or by somebody else's hand.
      process = nil
      isStarted = false
    }
    guard world.now >= heldUntil else { return }
    let fresh = world.process(
      name,
      scenario.clock(
        name, world, on: machine, areWild: cluster?.areClocksWild == true))
    process = fresh
    isStarted = false
    startedAt = world.now
    if let plan = endAtStart {
      endAtStart = nil
      hook(after: plan.operation, plan.end, rest: plan.rest)
    }
    launch(fresh)
  }

  /// Ends the daemon now, if it runs; it stays down for `rest` at least.
  func end(_ end: DaemonEnd, rest: Duration) {
    hold(rest)
    guard let process, process.isAlive else { return }
    switch end {
    case .kill: process.kill()
    case .powerCut: machine.powerCut()
    }
    self.process = nil
    isStarted = false
    ended(end)
  }

  func hold(_ rest: Duration) { heldUntil = max(heldUntil, world.now + rest) }

  /// Lets the supervisor start it at once.
  func unhold() { heldUntil = world.now }

  /// Ends the daemon when it submits its `count`-th operation from now: any suspension point may be hit.
  func hook(after count: Int, _ how: DaemonEnd, rest: Duration) {
    guard let process, process.isAlive else { return }
    let last = process.operationCount + count
    process.beforeOperation = { [weak self] index, _ in
      guard let self, index >= last else { return }
      self.process?.beforeOperation = nil
      self.onHookedEnd?()
      self.end(how, rest: rest)
    }
  }

  func unhook() { process?.beforeOperation = nil }

  /// SIGTERM; killed when it takes longer than `patience`.
  func stop(rest: Duration, patience: Duration) {
    guard isUp, let process else { return }
    hold(rest)
    isStarted = false
    process.spawn("stop") { [self] in
      await stopGracefully()
      if self.process === process { end(.kill, rest: .zero) }
    }
    world.harness.spawn("patience") { [self] in
      guard await world.harness.sleep(patience), self.process === process else { return }
      end(.kill, rest: .zero)
    }
  }

  func started(_ process: SimulatedProcess) {
    guard self.process === process, process.isAlive else { return }
    isStarted = true
    trouble = ""
  }

  /// A start failed, or the daemon ended of its own accord.
  func failed(_ process: SimulatedProcess, _ reason: String, rest: Duration = .seconds(1)) {
    guard self.process === process, process.isAlive else { return }
    trouble = reason
    end(.kill, rest: rest)
  }
}
