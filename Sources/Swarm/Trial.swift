internal import DataPath
internal import Messages
internal import Simulation

/// What a trial may be told beside its seed.
package struct TrialOptions: Sendable {
  /// Of workload; nil: the scenario's own draw.
  package var seconds: Duration?
  /// Indices into the planned faults; nil: all.
  package var keptFaults: Set<Int>?
  /// Global indices of planned operations; nil: all.
  package var keptOperations: Set<Int>?
  /// Told how many faults and operations are planned, before any of them: also of a trial that then traps.
  package var onPlan: (@Sendable (_ faults: Int, _ operations: Int) -> Void)?
  /// Called with a readable line for every event.
  package var trace: (@Sendable (String) -> Void)?
  /// The bound in real time: asked now and then; true ends the trial with the failure "real time".
  package var isOver: (@Sendable () -> Bool)?

  package init() {}
}

/// The first property that did not hold.
package struct TrialFailure: Error, Sendable, Equatable {
  /// A short name, the same for the same kind of failure: the shrinker goes by it.
  package var property: String
  package var detail: String
  /// Simulated time.
  package var at: Duration

  package init(property: String, detail: String, at: Duration) {
    self.property = property
    self.detail = detail
    self.at = at
  }
}

/// How often operations of one kind ended in which way.
package struct OperationCounts: Sendable, Equatable {
  package var ok = 0
  /// Whether it happened was not learnt.
  package var inDoubt = 0
  package var refused = 0
  package init() {}
}

/// What came of one seed.
package struct TrialReport: Sendable {
  package var seed: UInt64
  /// Short lines for people.
  package var scenario: [String] = []
  package var eventHash: UInt64 = 0
  /// By kind.
  package var operations: [String: OperationCounts] = [:]
  package var operationCount = 0
  /// Written and read by clients.
  package var byteCount: UInt64 = 0
  /// Planned ones that were carried out, by kind.
  package var faults: [String: Int] = [:]
  package var faultCount = 0
  /// What really hit: each crash, cut, pause, failed or slow operation and changed byte is one.
  package var hitCount = 0
  /// Injection points met, by name.
  package var injections: [String: Int] = [:]
  package var plannedFaultCount = 0
  package var plannedOperationCount = 0
  package var simulated: Duration = .zero
  package var failure: TrialFailure?
  /// With a failure: what went before it, oldest first, each line with its simulated time; short enough to be shown
  /// whole.
  package var ledTo: [String] = []

  package init(seed: UInt64) { self.seed = seed }
}

/// One seed from start to verdict.
///
/// Map of this module: ``Scenario`` is what the seed draws; `Cluster/` the daemons and clients on simulated
/// machines; `Faults/` what is done to them; `Workload/` what clients do; `Checker/` what must hold.
package enum Trial {
  /// Blocks the calling thread. The same seed and options give the same report.
  package static func run(seed: UInt64, options: TrialOptions = TrialOptions()) -> TrialReport {
    let state = TrialState(seed)
    var worldOptions = SimulatedWorld.Options()
    worldOptions.trace = options.trace
    worldOptions.maximumTime = .seconds(3600)
    worldOptions.maximumSteps = .max
    worldOptions.isOver = options.isOver
    do {
      try SimulatedWorld.run(seed: seed, options: worldOptions) { world in
        state.world = world
        try await state.run(world, options)
      }
    } catch let failure as TrialFailure {
      state.fail(failure)
    } catch let error as SimulationError {
      if case .outOfTime = error {
        state.fail("real time", "\(error)")
      } else {
        state.fail("simulation", "\(error)")
      }
    } catch {
      state.fail("simulation", "\(error)")
    }
    return state.finish()
  }
}

/// What a trial gathers on its way. Loop-confined.
final class TrialState: @unchecked Sendable {
  private var report: TrialReport
  var world: SimulatedWorld?
  private var executor: FaultExecutor?
  private var workload: WorkloadRun?

  init(_ seed: UInt64) { report = TrialReport(seed: seed) }

  func fail(_ failure: TrialFailure) {
    if report.failure == nil { report.failure = failure }
  }
  func fail(_ property: String, _ detail: String) {
    fail(TrialFailure(property: property, detail: detail, at: world?.now ?? .zero))
  }

  func run(_ world: SimulatedWorld, _ options: TrialOptions) async throws {
    let scenario = Scenario(seed: report.seed, seconds: options.seconds)
    report.scenario = scenario.lines
    for line in scenario.lines { options.trace?(line) }
    let planned = scenario.faults.plan(seed: scenario.seed, duration: scenario.workload.duration)
    let founding =
      scenario.isFoundedUnderFaults
      ? scenario.faults.foundingPlan(seed: scenario.seed, first: planned.count) : []
    report.plannedFaultCount = planned.count + founding.count
    func kept(_ plan: [PlannedFault]) -> [PlannedFault] {
      plan.filter { options.keptFaults?.contains($0.index) ?? true }
    }

    let cluster = SimulatedCluster(world, scenario)
    let executor = FaultExecutor(cluster, trace: options.trace)
    self.executor = executor
    let workload = WorkloadRun(cluster, kept: options.keptOperations)
    self.workload = workload
    report.plannedOperationCount = workload.plannedOperationCount
    options.onPlan?(planned.count, workload.plannedOperationCount)
    /// Lets time pass, and looks whether something has failed.
    func wait(_ duration: Duration) async throws {
      let end = world.now + duration
      while world.now < end {
        await world.sleep(min(.milliseconds(50), end - world.now))
        if let failure = cluster.failure ?? workload.failure { throw failure }
      }
    }
    cluster.launch()
    if !founding.isEmpty {
      executor.start(kept(founding))
      try await wait(.seconds(10))
      executor.stop()
    }
    try await cluster.waitUntilFounded()
    try await workload.start()
    for (point, rate) in scenario.injections { world.injections[point] = rate }
    executor.killClient = { workload.killClient($0, for: $1) }
    executor.start(kept(planned))
    cluster.caretaker.start()
    try await wait(scenario.workload.duration)
    executor.stop()
    world.injections.stop()
    try await cluster.settle()
    try await cluster.caretaker.stop(within: .seconds(120))
    try await workload.stop()
    try await workload.check()
    if scenario.endsInDarkness {
      await cluster.darken()
      try await cluster.settle()
      try await workload.check()
    }
    cluster.stopSupervising()
    let unknown = world.unsupportedOperations
    if !unknown.isEmpty {
      fail("simulation", "unknown operations: " + Set(unknown).sorted().joined(separator: ", "))
    }
  }

  func finish() -> TrialReport {
    if let world {
      report.eventHash = world.eventHash
      report.simulated = world.now
      report.hitCount = world.faults.total
      for (point, count) in world.injections.met { report.injections["\(point)"] = count }
    }
    if let workload {
      report.operations = workload.operations
      report.operationCount = workload.operations.values.reduce(0) {
        $0 + $1.ok + $1.inDoubt + $1.refused
      }
      report.byteCount = workload.byteCount
    }
    if let executor {
      for (kind, count) in executor.counts { report.faults[kind.rawValue] = count }
      report.faultCount = executor.counts.values.reduce(0, +)
      if report.failure != nil { report.ledTo = executor.lately }
    }
    return report
  }
}
