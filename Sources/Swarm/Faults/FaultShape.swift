internal import Coding
internal import Simulation

/// Which faults a scenario has, and what they may damage.
///
/// # The damage budget
///
/// Repair takes its time, and other faults keep it from ending; the guarantees promise to survive damage on `m` failure
/// domains at a time. The victims are chosen up front: at most `m` nodes (devices, where there is one node).
///
/// - **Loss** (a device wiped, retired after a failed write or sync, or read-only) is noticed by the cluster: a
///   retired or replaced device is no witness of where the log ends. So loss goes with all else that may happen to
///   any node. Writing needs 1+m domains, and so does a new leader, so the rest must have so many: at most
///   `domains - m - 1` victims.
/// - **A hole** in the open link's copy on one device is noticed too, as long as a later stripe is left that tells of
///   more: such a device is no witness of the end, though no other may answer for a while.
/// - **Silent damage** (flips, unreadable sectors, lost or misdirected writes, lying syncs) makes a device a false
///   witness: at a take-over one device of the open link is enough when the others do not answer in time, and if that
///   one has silently lost acknowledged stripes, they are gone. That is two failures of 1+m copies at once, one more
///   than m allows when m is 1. So in a trial with silent damage all nodes but the victims are always heard.
package struct FaultShape: Sendable {
  package enum Damage: Sendable {
    case none
    case loss
    case silent
  }

  package var damage = Damage.none
  /// Numbers of nodes, or of devices where there is one node.
  package var victims: [Int] = []
  /// Whether victims may lose devices; with silent damage alone they keep them.
  package var mayLose = false
  package var perMinute = 0
  /// Kinds with their weights.
  package var kinds: [(kind: PlannedFaultKind, weight: Int)] = []
  /// Faults come in bursts around so many moments; 0: evenly.
  package var burstCount = 0

  /// Nodes that are away are away for so long at least: when it is longer than a silence that makes them down, things are
  /// decided without them.
  package var leastAbsence: Duration = .zero

  package var isCalm: Bool { perMinute == 0 }

  init() {}

  init(drawing random: inout SimulationRandom, for scenario: Scenario) {
    let m = scheme(scenario)
    let domainCount = scenario.nodeCount == 1 ? scenario.devicesPerNode : scenario.nodeCount
    let mostLost = min(m, domainCount - m - 1)
    let lot =
      switch scenario.emphasis {
      // A hole in the log is a loss.
      case .holes: 3
      case .repair: random.pick([3, 3, 9])
      // Nobody may be away where there is silent damage.
      case .racks: random.pick([0, 3])
      default: random.below(10)
      }
    switch lot {
    case 0..<3: damage = .none
    case 3..<7: damage = mostLost > 0 ? .loss : m > 0 ? .silent : .none
    default: damage = m > 0 ? .silent : .none
    }
    if damage != .none {
      let most = damage == .loss ? mostLost : m
      let count = scenario.emphasis == .repair ? most : 1 + random.below(most)
      var left = Array(0..<domainCount)
      for _ in 0..<count { victims.append(left.remove(at: random.below(left.count))) }
      if !scenario.racks.isEmpty, random.chance(1, in: 2) {
        // What one rack takes with it, as far as that goes.
        let rack = scenario.racks[victims[0]]
        let beside = (0..<domainCount).filter { scenario.racks[$0] == rack }
        victims = Array((beside + victims.filter { !beside.contains($0) }).prefix(count))
      }
      victims.sort()
      mayLose = count <= mostLost
    }
    if random.chance(1, in: 14) { return }
    perMinute = random.pick([60, 60, 60, 90, 120, 120, 240])
    burstCount = random.pick([0, 0, 0, 2, 5])
    let density = random.pick([2, 3, 5])
    for kind in PlannedFaultKind.allCases where !kind.isOfRacks {
      let isChosen = random.chance(density, in: 6)
      let weight = 1 + random.below(6)
      if isChosen && isPossible(kind, scenario) { kinds.append((kind, weight)) }
    }
    if kinds.isEmpty { kinds = [(.killNode, 1), (.killCoordinator, 1)] }
    if kinds.allSatisfy({ $0.kind == .jumpClock }) { kinds.append((.killCoordinator, 1)) }
  }

  /// Half of the faults are of these kinds, as far as they are possible, and few are all together: each takes a while
  /// until all has come of it that may.
  mutating func emphasize(
    _ added: [(kind: PlannedFaultKind, weight: Int)], _ scenario: Scenario,
    mostPerMinute: Int = 60
  ) {
    let possible = added.filter { isPossible($0.kind, scenario) }
    let weights = possible.reduce(0) { $0 + $1.weight }
    guard weights > 0 else { return }
    let share = max(1, kinds.reduce(0) { $0 + $1.weight } / weights)
    for (kind, weight) in possible { kinds.append((kind, weight * share)) }
    perMinute = min(perMinute, mostPerMinute)
    burstCount = 0
  }

  private func scheme(_ scenario: Scenario) -> Int { scenario.scheme.m }

  private func isPossible(_ kind: PlannedFaultKind, _ scenario: Scenario) -> Bool {
    if kind.isSilentDamage { return damage == .silent }
    if kind.isLoss {
      // A single node's victims are devices: it cannot be wiped as a whole.
      if kind == .wipeNode && scenario.nodeCount == 1 { return false }
      return damage != .none && mayLose
    }
    switch kind {
    case .slowArbiter, .unreachableArbiter, .failingArbiter: return scenario.arbiter == .register
    case .cutAllPower, .partition: return damage != .silent
    case .strayCoordinator: return scenario.hasStrayCoordinator
    case .driftClock: return scenario.driftPartsPerMillion > 0
    default: break
    }
    // With one node there is none that may be absent.
    if damage == .silent && kind.makesNodesAbsent && scenario.nodeCount == 1 { return false }
    return true
  }

  package var description: String {
    if isCalm { return "calm" }
    let harm =
      switch damage {
      case .none: "no damage"
      case .loss: "losses on \(victims)"
      case .silent: "silent damage\(mayLose ? " and losses" : "") on \(victims)"
      }
    return "\(perMinute) faults a minute, \(harm): "
      + kinds.map(\.kind.rawValue).joined(separator: ", ")
  }

  /// What happens while the cluster is founded: a few faults, numbered from `first` on. Of what damages for good there are
  /// only nodes that are lost as a whole: a founding goes on without them.
  func foundingPlan(seed: UInt64, first: Int) -> [PlannedFault] {
    var shape = self
    shape.kinds = kinds.filter {
      $0.kind == .wipeNode || !($0.kind.isLoss || $0.kind.isSilentDamage)
    }
    guard !shape.kinds.isEmpty else { return [] }
    shape.perMinute = max(perMinute, 60)
    shape.burstCount = 0
    return shape.plan(seed: ~seed, duration: .seconds(10)).map { fault in
      var fault = fault
      fault.index += first
      return fault
    }
  }

  /// The faults of a run.
  package func plan(seed: UInt64, duration: Duration) -> [PlannedFault] {
    guard !isCalm, duration > .seconds(1) else { return [] }
    let count = max(1, Int(duration.saturatedNanoseconds / 1_000_000) * perMinute / 60_000)
    var shared = SimulationRandom(seed: seed, name: "faults")
    let bursts = (0..<max(1, burstCount)).map { _ in shared.within(.seconds(1)...(duration * 4 / 5))
    }
    let weights = kinds.reduce(0) { $0 + $1.weight }
    var faults: [PlannedFault] = []
    for index in 0..<count {
      var random = SimulationRandom(seed: seed, name: "fault/\(index)")
      var pick = random.below(weights)
      var kind = kinds[0].kind
      for candidate in kinds {
        if pick < candidate.weight {
          kind = candidate.kind
          break
        }
        pick -= candidate.weight
      }
      var time = random.within(.milliseconds(500)...(duration * 9 / 10))
      if burstCount > 0 && random.chance(4, in: 5) {
        time = random.pick(bursts) + random.within(.zero...(.seconds(2)))
      }
      let start = min(Duration.nanoseconds(time), duration * 9 / 10)
      var length = random.spread(kind.durations)
      if kind.makesNodesAbsent && leastAbsence > .zero { length += leastAbsence }
      length = min(length, duration - start)
      faults.append(
        PlannedFault(
          index: index, kind: kind, time: start, duration: length, lot: random.next()))
    }
    return faults
  }
}

extension PlannedFaultKind {
  /// How long it lasts, or how long what it ended stays down.
  var durations: ClosedRange<Duration> {
    switch self {
    case .killNode, .killNodeAtOperation, .killNodeAtStart, .cutNodePower,
      .cutNodePowerAtOperation, .cutNodePowerInSync, .stopNode:
      .milliseconds(10)...(.seconds(12))
    case .cutAllPower, .cutRackPower: .milliseconds(10)...(.seconds(4))
    case .killCoordinator, .killLeader, .killCoordinatorAtOperation, .cutCoordinatorPower,
      .stopCoordinator,
      .wipeCoordinator, .damageCoordinatorStore:
      .milliseconds(10)...(.seconds(6))
    // About as long as a lease, and longer.
    case .pauseLeader: .seconds(1)...(.seconds(8))
    case .cutLeaderOff: .seconds(1)...(.seconds(14))
    case .pauseNode, .pauseCoordinator, .pauseClient: .milliseconds(20)...(.seconds(12))
    case .strayCoordinator: .seconds(2)...(.seconds(32))
    case .killClient: .milliseconds(10)...(.seconds(5))
    case .resetConnections, .forgetConnections, .flipBits, .badSectors, .jumpClock:
      .milliseconds(1)...(.milliseconds(2))
    case .cutLink, .cutOneWay, .isolate, .partition, .cutRackOff, .refuseConnections:
      .milliseconds(50)...(.seconds(20))
    case .driftClock: .seconds(1)...(.seconds(20))
    case .slowLink, .slowDisk, .slowArbiter: .milliseconds(100)...(.seconds(20))
    case .fullDisk: .milliseconds(200)...(.seconds(20))
    case .readErrors, .coordinatorDiskErrors, .writeErrors, .synchronizeErrors, .lostWrites,
      .misdirectedWrites, .lyingSynchronizes:
      .milliseconds(50)...(.seconds(5))
    case .readOnlyDisk: .milliseconds(200)...(.seconds(10))
    case .wipeDevice, .wipeNode: .milliseconds(10)...(.seconds(8))
    // Longer than it takes a new leader to ask for the log: a start, a lease, and its patience with those that are away.
    case .holeInLog: .seconds(4)...(.seconds(12))
    case .unreachableArbiter, .failingArbiter: .milliseconds(100)...(.seconds(15))
    }
  }
}
