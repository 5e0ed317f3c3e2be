internal import Cluster
internal import Coordinator
internal import Metadata
internal import Node
internal import Ring
internal import ShardStore
internal import Simulation

/// Carries a plan out. Loop-confined.
final class FaultExecutor: @unchecked Sendable {
  private let cluster: SimulatedCluster
  private let world: SimulatedWorld
  private let shape: FaultShape
  private let trace: ((String) -> Void)?
  private var task: SpawnedTask?
  /// What ends a fault that is under way, by its index.
  private var endings: [Int: () -> Void] = [:]
  /// How long nodes stay down whose power is to be cut in a sync, by fault.
  private var rests: [Int: Duration] = [:]
  /// How many faults cut each way.
  private var cuts: [Way: Int] = [:]
  private var slowed: [Way: Int] = [:]
  private(set) var counts: [PlannedFaultKind: Int] = [:]
  /// The last ones, for people.
  private(set) var lately: [String] = []
  /// Kills a client of the workload; it is made again after the time given.
  var killClient: (Int, Duration) -> Void = { _, _ in }

  struct Way: Hashable {
    var from: String
    var to: String
  }

  init(_ cluster: SimulatedCluster, trace: ((String) -> Void)?) {
    self.cluster = cluster
    self.trace = trace
    world = cluster.world
    shape = cluster.scenario.faults
    for slot in cluster.nodes {
      for troubles in slot.troubles {
        troubles.onHit = { [weak self] in self?.count($0) }
        troubles.onStall = { [weak self, weak troubles] fault, stall in
          troubles?.end(fault)
          self?.cutPower(of: slot, in: stall, fault)
        }
      }
    }
    for slot in cluster.coordinators { slot.troubles.onHit = { [weak self] in self?.count($0) } }
  }

  private func count(_ kind: PlannedFaultKind) { counts[kind, default: 0] += 1 }

  private func tell(_ fault: PlannedFault, _ what: String) {
    let line = "\(world.now) fault \(fault.index): \(what)"
    lately.append(line)
    if lately.count > 40 { lately.removeFirst() }
    trace?(line)
  }

  /// Begins; the plan's times count from now.
  func start(_ plan: [PlannedFault]) {
    var steps: [(time: Duration, order: Int, fault: PlannedFault, isEnd: Bool)] = []
    for fault in plan {
      steps.append((fault.time, steps.count, fault, false))
      steps.append((fault.time + fault.duration, steps.count, fault, true))
    }
    steps.sort { ($0.time, $0.order) < ($1.time, $1.order) }
    let ordered = steps
    let begun = world.now
    task = world.harness.spawn("faults") { [self] in
      for step in ordered {
        let rest = begun + step.time - world.now
        if rest > .zero { guard await world.harness.sleep(rest) else { return } }
        if Task.isCancelled { return }
        if step.isEnd {
          if let ending = endings.removeValue(forKey: step.fault.index) { ending() }
        } else {
          begin(step.fault)
        }
      }
    }
  }

  /// No further fault; all that lasts is ended and everything may start again.
  func stop() {
    task?.cancel()
    for index in endings.keys.sorted() { endings.removeValue(forKey: index)!() }
    rests = [:]
    for slot in cluster.nodes as [DaemonSlot] + cluster.coordinators {
      slot.unhook()
      slot.endAtStart = nil
      slot.unhold()
    }
    world.network.healAll()
    trace?("\(world.now) the faults are over")
  }

  // MARK: choosing

  private var isQuiet: Bool { shape.damage == .silent }

  /// A node that may be absent for a while.
  private func absentNode(_ random: inout SimulationRandom) -> NodeSlot? {
    if !isQuiet { return cluster.nodes[random.below(cluster.nodes.count)] }
    guard cluster.nodes.count > 1 else { return nil }
    return cluster.nodes[random.pick(shape.victims)]
  }

  private func victim(_ random: inout SimulationRandom) -> (slot: NodeSlot, device: Int)? {
    guard !shape.victims.isEmpty else { return nil }
    if cluster.nodes.count == 1 { return (cluster.nodes[0], random.pick(shape.victims)) }
    let slot = cluster.nodes[random.pick(shape.victims)]
    return (slot, random.below(slot.disks.count))
  }

  /// A victim's device that has a copy of the open link.
  private func victimWithLog(_ random: inout SimulationRandom) -> (slot: NodeSlot, device: Int)? {
    guard cluster.nodes.count > 1, let link = leader?.server?.root?.links.last else { return nil }
    var found: [(slot: NodeSlot, device: Int)] = []
    for slot in shape.victims.map({ cluster.nodes[$0] }) where slot.isUp {
      for device in slot.disks.indices {
        let store = slot.node?.devices.compactMap { slot.node?.store(of: $0) }.first {
          $0.path == NodeSlot.devicePath(device)
        }
        if let store, link.devices.contains(store.device) { found.append((slot, device)) }
      }
    }
    return found.isEmpty ? nil : random.pick(found)
  }

  private func anyDevice(_ random: inout SimulationRandom) -> (slot: NodeSlot, device: Int) {
    let slot = cluster.nodes[random.below(cluster.nodes.count)]
    return (slot, random.below(slot.disks.count))
  }

  /// All nodes of one rack.
  private func rack(_ random: inout SimulationRandom) -> [NodeSlot]? {
    let racks = cluster.scenario.racks
    guard !racks.isEmpty else { return nil }
    let rack = random.pick(Set(racks).sorted())
    return cluster.nodes.filter { racks[$0.number] == rack }
  }

  private func coordinator(_ random: inout SimulationRandom) -> CoordinatorSlot {
    cluster.coordinators[random.below(cluster.coordinators.count)]
  }

  private var leader: CoordinatorSlot? { cluster.coordinators.first { $0.isUp && $0.mayLead } }

  private func clientName(_ random: inout SimulationRandom) -> String {
    SimulatedCluster.clientName(random.below(cluster.scenario.workload.clientCount))
  }

  private var machineNames: [String] {
    cluster.nodes.map(\.name) + cluster.coordinators.map(\.name)
      + (cluster.stray.map { [$0.name] } ?? [])
      + (0..<cluster.scenario.workload.clientCount).map(SimulatedCluster.clientName)
      + (cluster.register == nil ? [] : [ArbiterRegister.machineName])
  }

  /// Two machines between which the network may fail, in an order by chance.
  private func pair(_ random: inout SimulationRandom) -> (String, String)? {
    let names = machineNames
    for _ in 0..<20 {
      let (a, b) = (random.pick(names), random.pick(names))
      if a != b && mayPart(a, b) { return (a, b) }
    }
    return nil
  }

  /// In quiet trials coordinators and nodes that are no victims always hear each other.
  private func mayPart(_ a: String, _ b: String) -> Bool {
    guard isQuiet else { return true }
    func isCoordinator(_ name: String) -> Bool { cluster.coordinatorNames.contains(name) }
    func mustBeHeard(_ name: String) -> Bool {
      cluster.nodes.contains {
        $0.name == name && (cluster.nodes.count == 1 || !shape.victims.contains($0.number))
      }
    }
    return !(isCoordinator(a) && mustBeHeard(b)) && !(isCoordinator(b) && mustBeHeard(a))
  }

  // MARK: doing

  private func begin(_ fault: PlannedFault) {
    var random = SimulationRandom(seed: fault.lot, name: "fault")
    guard let what = perform(fault, &random) else { return }
    tell(fault, "\(fault.kind.rawValue): \(what)")
  }

  /// - Returns: what was done, for people; nil when there was nothing to do it to.
  private func perform(_ fault: PlannedFault, _ random: inout SimulationRandom) -> String? {
    let length = fault.duration
    switch fault.kind {
    case .killNode, .cutNodePower:
      guard let slot = absentNode(&random), slot.process?.isAlive == true else { return nil }
      count(fault.kind)
      slot.end(fault.kind == .killNode ? .kill : .powerCut, rest: length)
      return "\(slot.name) for \(length)"
    case .killNodeAtOperation, .cutNodePowerAtOperation:
      guard let slot = absentNode(&random) else { return nil }
      return hook(fault, slot, fault.kind == .killNodeAtOperation ? .kill : .powerCut, &random)
    case .killNodeAtStart:
      guard let slot = absentNode(&random) else { return nil }
      count(fault.kind)
      let operation = random.pick([10, 40, 100, 400])
      slot.endAtStart = (
        1 + random.below(operation), random.chance(1, in: 2) ? .kill : .powerCut,
        .milliseconds(Int64(10 + random.below(500)))
      )
      slot.end(random.chance(1, in: 2) ? .kill : .powerCut, rest: length / 4)
      return slot.name
    case .cutNodePowerInSync:
      guard let slot = absentNode(&random), slot.process?.isAlive == true else { return nil }
      let device = random.below(slot.disks.count)
      let longest = random.spread(.milliseconds(1)...(.seconds(1)))
      rests[fault.index] = min(fault.duration, .seconds(5))
      slot.troubles[device].begin(
        fault.index,
        DiskTroubles.Trouble(
          kind: fault.kind, percent: random.pick([10, 100]),
          delay: 0...longest.saturatedNanoseconds,
          random: SimulationRandom(seed: fault.lot, name: "judge"), left: 1))
      endings[fault.index] = { slot.troubles[device].end(fault.index) }
      return "\(slot.name) device \(device), in one of up to \(longest)"
    case .cutAllPower:
      count(fault.kind)
      for slot in cluster.nodes { slot.end(.powerCut, rest: length) }
      for slot in cluster.coordinators { slot.end(.powerCut, rest: length) }
      return "for \(length)"
    case .cutRackPower:
      guard let rack = rack(&random) else { return nil }
      count(fault.kind)
      for slot in rack { slot.end(.powerCut, rest: length) }
      return rack.map(\.name).joined(separator: " ") + " for \(length)"
    case .stopNode:
      guard let slot = absentNode(&random), slot.isUp else { return nil }
      count(fault.kind)
      slot.stop(rest: length, patience: .seconds(10))
      return slot.name
    case .pauseNode:
      guard let slot = absentNode(&random) else { return nil }
      return pause(fault, slot.process, length)
    case .killCoordinator, .cutCoordinatorPower:
      let slot = coordinator(&random)
      guard slot.process?.isAlive == true else { return nil }
      count(fault.kind)
      slot.end(fault.kind == .killCoordinator ? .kill : .powerCut, rest: length)
      return "\(slot.name) for \(length)"
    case .killLeader:
      guard let slot = leader else { return nil }
      count(fault.kind)
      slot.end(random.chance(1, in: 2) ? .kill : .powerCut, rest: length)
      return "\(slot.name) for \(length)"
    case .pauseLeader:
      return pause(fault, leader?.process, isQuiet ? min(length, .seconds(1)) : length)
    case .killCoordinatorAtOperation:
      return hook(
        fault, coordinator(&random), random.chance(1, in: 2) ? .kill : .powerCut, &random)
    case .stopCoordinator:
      let slot = coordinator(&random)
      guard slot.isUp else { return nil }
      count(fault.kind)
      slot.stop(rest: length, patience: .seconds(10))
      return slot.name
    case .pauseCoordinator:
      // A take-over that wakes up finds its deadlines over.
      return pause(fault, coordinator(&random).process, isQuiet ? min(length, .seconds(1)) : length)
    case .wipeCoordinator:
      let slot = coordinator(&random)
      count(fault.kind)
      slot.wipe(rest: length)
      return slot.name
    case .damageCoordinatorStore:
      let slot = coordinator(&random)
      count(fault.kind)
      slot.damageStore(rest: length)
      return slot.name
    case .strayCoordinator:
      guard let stray = cluster.stray, !cluster.isStrayWanted else { return nil }
      count(fault.kind)
      cluster.isStrayWanted = true
      endings[fault.index] = { [self] in
        cluster.isStrayWanted = false
        stray.end(.kill, rest: .zero)
      }
      return "\(stray.name) for \(length)"
    case .killClient:
      let index = random.below(cluster.scenario.workload.clientCount)
      count(fault.kind)
      killClient(index, length)
      return "\(SimulatedCluster.clientName(index)) for \(length)"
    case .pauseClient: return pause(fault, world.living(clientName(&random)), length)
    case .resetConnections, .cutLink, .cutOneWay, .isolate, .partition, .cutRackOff, .cutLeaderOff,
      .slowLink, .refuseConnections, .forgetConnections:
      return disturbNetwork(fault, &random)
    case .slowDisk, .fullDisk, .readErrors, .coordinatorDiskErrors, .writeErrors,
      .synchronizeErrors, .readOnlyDisk, .wipeDevice, .wipeNode, .holeInLog, .flipBits,
      .badSectors, .lostWrites, .misdirectedWrites, .lyingSynchronizes:
      return disturbDisk(fault, &random)
    case .jumpClock:
      guard let process = world.living(random.pick(machineNames)) else { return nil }
      count(fault.kind)
      let limit = random.pick([2, 1000, 100_000])
      let jump = Duration.seconds(random.below(2 * limit + 1) - limit)
      process.jumpWallClock(by: jump)
      return "\(process.name) by \(jump)"
    case .driftClock:
      guard let process = world.living(random.pick(machineNames)) else { return nil }
      count(fault.kind)
      let limit = cluster.scenario.driftPartsPerMillion
      let rate = random.below(2 * limit + 1) - limit
      process.setClockDrift(partsPerMillion: rate)
      return "\(process.name) to \(rate) parts in a million"
    case .slowArbiter:
      guard let register = cluster.register else { return nil }
      count(fault.kind)
      let slowness = random.spread(.milliseconds(10)...(.seconds(2)))
      register.slowness += slowness
      endings[fault.index] = { register.slowness -= slowness }
      return "by \(slowness) for \(length)"
    case .unreachableArbiter:
      guard let register = cluster.register, !register.isUnreachable else { return nil }
      count(fault.kind)
      register.isUnreachable = true
      endings[fault.index] = { register.isUnreachable = false }
      return "for \(length)"
    case .failingArbiter:
      guard let register = cluster.register, register.failurePercent == 0 else { return nil }
      count(fault.kind)
      register.failurePercent = 10 + random.below(50)
      endings[fault.index] = { register.failurePercent = 0 }
      return "for \(length)"
    }
  }

  private func hook(
    _ fault: PlannedFault, _ slot: DaemonSlot, _ end: DaemonEnd, _ random: inout SimulationRandom
  ) -> String? {
    guard let process = slot.process, process.isAlive, process.beforeOperation == nil else {
      return nil
    }
    let operation = 1 + random.below(random.pick([3, 30, 300, 3000]))
    slot.onHookedEnd = { [weak self] in
      self?.count(fault.kind)
      self?.tell(fault, "\(slot.name) has reached it")
    }
    slot.hook(after: operation, end, rest: min(fault.duration, .seconds(5)))
    return "\(slot.name), \(operation) from now"
  }

  /// A sync takes so long, and during it the power goes: what was written counts as unsynced, whatever anybody was told.
  private func cutPower(of slot: NodeSlot, in stall: Duration, _ fault: Int) {
    guard let process = slot.process else { return }
    var random = SimulationRandom(seed: UInt64(fault), name: "stall/\(world.now)")
    let wait = Duration.nanoseconds(random.within(.zero...stall))
    world.harness.spawn("stall") { [self] in
      guard await world.harness.sleep(wait), slot.process === process, process.isAlive,
        let rest = rests.removeValue(forKey: fault)
      else { return }
      count(.cutNodePowerInSync)
      trace?("\(world.now) fault \(fault): \(slot.name) loses its power in a sync")
      slot.end(.powerCut, rest: rest)
    }
  }

  private func pause(_ fault: PlannedFault, _ process: SimulatedProcess?, _ length: Duration)
    -> String?
  {
    guard let process, process.isAlive, !process.isPaused else { return nil }
    count(fault.kind)
    process.pause()
    // The timeline ends it, or, when it is to be shorter, a task of its own.
    if length < fault.duration {
      world.harness.spawn("resume") { [self] in
        if await world.harness.sleep(length) { process.resume() }
      }
    }
    endings[fault.index] = { process.resume() }
    return "\(process.name) for \(length)"
  }

  // MARK: the network

  private func disturbNetwork(_ fault: PlannedFault, _ random: inout SimulationRandom) -> String? {
    let length = fault.duration
    let pending = random.chance(1, in: 2) ? SimulatedNetwork.PendingBytes.held : .lost
    let connections = random.chance(1, in: 4) ? SimulatedNetwork.Connections.reset : .hang
    switch fault.kind {
    case .resetConnections:
      guard let (a, b) = pair(&random) else { return nil }
      count(fault.kind)
      world.network.resetConnections(a, b)
      return "\(a) and \(b)"
    case .forgetConnections:
      guard let (a, b) = pair(&random) else { return nil }
      count(fault.kind)
      world.network.forgetConnections(a, b)
      return "\(a) and \(b)"
    case .refuseConnections:
      guard let (a, b) = pair(&random) else { return nil }
      count(fault.kind)
      world.network.refuse(a, b)
      endings[fault.index] = { [self] in heal([Way(from: a, to: b)]) }
      return "\(a) to \(b) for \(length)"
    case .cutLink, .cutOneWay:
      guard let (a, b) = pair(&random) else { return nil }
      let ways =
        fault.kind == .cutLink
        ? [Way(from: a, to: b), Way(from: b, to: a)] : [Way(from: a, to: b)]
      count(fault.kind)
      cut(fault, ways, pending, connections)
      return "\(a) \(fault.kind == .cutLink ? "and" : "to") \(b) for \(length)"
    case .isolate:
      let names = machineNames
      let name = random.pick(names)
      let ways = names.filter { $0 != name && mayPart(name, $0) }.flatMap {
        [Way(from: name, to: $0), Way(from: $0, to: name)]
      }
      guard !ways.isEmpty else { return nil }
      count(fault.kind)
      cut(fault, ways, pending, connections)
      return "\(name) for \(length)"
    case .partition, .cutRackOff:
      let names = machineNames
      let side =
        fault.kind == .partition
        ? Set(names.filter { _ in random.chance(1, in: 2) })
        : Set(rack(&random)?.map(\.name) ?? [])
      var ways: [Way] = []
      for a in names where side.contains(a) {
        for b in names where !side.contains(b) {
          ways += [Way(from: a, to: b), Way(from: b, to: a)]
        }
      }
      guard !ways.isEmpty else { return nil }
      count(fault.kind)
      cut(fault, ways, pending, connections)
      return "\(side.sorted().joined(separator: " ")) for \(length)"
    case .cutLeaderOff:
      guard let slot = leader ?? cluster.coordinators.first(where: \.isUp) else { return nil }
      // Who decides, who would lead in its place, and some of the others; the rest still talk to it.
      let decides = Set(
        cluster.coordinatorNames + (cluster.register == nil ? [] : [ArbiterRegister.machineName]))
      let withClients = random.chance(1, in: 4)
      let withNodes = cluster.register != nil && random.chance(1, in: 3)
      let nodes = Set(cluster.nodes.map(\.name))
      let ways = machineNames.filter { name in
        if name == slot.name || !mayPart(slot.name, name) { return false }
        if decides.contains(name) { return true }
        return nodes.contains(name) ? withNodes : withClients || random.chance(1, in: 2)
      }.flatMap { [Way(from: slot.name, to: $0), Way(from: $0, to: slot.name)] }
      guard !ways.isEmpty else { return nil }
      count(fault.kind)
      cut(fault, ways, pending, connections)
      if let stray = cluster.stray, !cluster.isStrayWanted {
        cluster.isStrayWanted = true
        let heal = endings[fault.index]
        endings[fault.index] = { [self] in
          heal?()
          cluster.isStrayWanted = false
          stray.end(.kill, rest: .zero)
        }
      }
      return
        "\(slot.name) from \(Set(ways.map(\.to)).subtracting([slot.name]).sorted().joined(separator: " ")) for \(length)"
    case .slowLink:
      let names = machineNames
      let (a, b) = (random.pick(names), random.pick(names))
      guard a != b else { return nil }
      count(fault.kind)
      let worst = mayPart(a, b) ? Duration.seconds(2) : .milliseconds(60)
      let latency = random.spread(.milliseconds(2)...worst)
      let ways = random.chance(1, in: 2) ? [(a, b), (b, a)] : [(a, b)]
      let options = LinkOptions(
        latency: latency / 4...latency, bytesPerSecond: random.pick([200_000, 2_000_000]))
      for (from, to) in ways {
        world.network.setLink(from, to, options, oneWay: true)
        slowed[Way(from: from, to: to), default: 0] += 1
      }
      endings[fault.index] = { [self] in
        for (from, to) in ways {
          let way = Way(from: from, to: to)
          slowed[way]! -= 1
          if slowed[way] == 0 {
            world.network.setLink(from, to, world.network.defaultLink, oneWay: true)
          }
        }
      }
      return "\(a) and \(b) to \(latency) for \(length)"
    default: return nil
    }
  }

  private func cut(
    _ fault: PlannedFault, _ ways: [Way], _ pending: SimulatedNetwork.PendingBytes,
    _ connections: SimulatedNetwork.Connections
  ) {
    for way in ways {
      cuts[way, default: 0] += 1
      world.network.cut(
        way.from, way.to, oneWay: true, pending: pending, connections: connections)
    }
    endings[fault.index] = { [self] in
      for way in ways { cuts[way]! -= 1 }
      heal(ways)
    }
  }

  /// Mends ways, but for what other faults still cut.
  private func heal(_ ways: [Way]) {
    for way in ways where cuts[way, default: 0] == 0 {
      world.network.heal(way.from, way.to)
      // That was for both directions.
      if cuts[Way(from: way.to, to: way.from), default: 0] > 0 {
        world.network.cut(way.to, way.from, oneWay: true)
      }
    }
  }

  // MARK: disks

  private func disturbDisk(_ fault: PlannedFault, _ random: inout SimulationRandom) -> String? {
    let length = fault.duration
    func trouble(
      _ troubles: DiskTroubles, percent: Int = 100, left: Int? = nil,
      delay: ClosedRange<Int64> = 0...0
    ) {
      troubles.begin(
        fault.index,
        DiskTroubles.Trouble(
          kind: fault.kind, percent: percent, delay: delay,
          random: SimulationRandom(seed: fault.lot, name: "judge"), left: left))
      endings[fault.index] = { troubles.end(fault.index) }
    }
    switch fault.kind {
    case .slowDisk:
      let (slot, device) = anyDevice(&random)
      count(fault.kind)
      let worst: Duration =
        isQuiet && !shape.victims.contains(slot.number) || isQuiet && cluster.nodes.count == 1
        ? .milliseconds(30) : random.pick([.milliseconds(30), .milliseconds(300), .seconds(3)])
      trouble(
        slot.troubles[device], percent: random.pick([5, 30, 100]),
        delay: 0...worst.saturatedNanoseconds)
      return "\(slot.name) device \(device) by up to \(worst) for \(length)"
    case .fullDisk:
      let (slot, device) = anyDevice(&random)
      let disk = slot.disks[device]
      guard disk.capacityByteCount == 1 << 40 else { return nil }
      count(fault.kind)
      disk.capacityByteCount = disk.usedByteCount + random.pick([0, 40_000, 3_000_000])
      endings[fault.index] = { disk.capacityByteCount = 1 << 40 }
      return "\(slot.name) device \(device) for \(length)"
    case .readErrors:
      let (slot, device) = anyDevice(&random)
      trouble(slot.troubles[device], percent: random.pick([5, 50, 100]))
      return "\(slot.name) device \(device) for \(length)"
    case .coordinatorDiskErrors:
      let slot = coordinator(&random)
      trouble(slot.troubles, percent: random.pick([5, 50, 100]))
      return "\(slot.name) for \(length)"
    case .readOnlyDisk:
      guard let (slot, device) = victim(&random), !slot.disks[device].isReadOnly else { return nil }
      count(fault.kind)
      slot.damaged.insert(device)
      slot.disks[device].isReadOnly = true
      endings[fault.index] = { slot.disks[device].isReadOnly = false }
      return "\(slot.name) device \(device) for \(length)"
    case .wipeDevice:
      guard let (slot, device) = victim(&random) else { return nil }
      count(fault.kind)
      slot.wipe(device: device, rest: length)
      return "\(slot.name) device \(device)"
    case .wipeNode:
      guard let (slot, _) = victim(&random) else { return nil }
      count(fault.kind)
      slot.wipe(rest: length)
      return slot.name
    case .holeInLog:
      guard shape.damage == .loss, let (slot, device) = victimWithLog(&random) else { return nil }
      let lot = random.next()
      world.harness.spawn("hole") { [self] in
        try? await tearHole(fault, slot, device, SimulationRandom(seed: lot, name: "hole"))
      }
      return "\(slot.name) device \(device)"
    case .writeErrors, .synchronizeErrors, .lostWrites, .misdirectedWrites, .lyingSynchronizes:
      guard let (slot, device) = victim(&random) else { return nil }
      slot.damaged.insert(device)
      trouble(
        slot.troubles[device], percent: random.pick([5, 50, 100]), left: 1 + random.below(20))
      return "\(slot.name) device \(device) for \(length)"
    case .flipBits, .badSectors:
      guard let (slot, device) = victim(&random) else { return nil }
      return decay(fault, slot, device, &random)
    default: return nil
    }
  }

  /// One copy of the open link loses some stripes that were acknowledged, but not its last; whoever leads and all who
  /// have the other copies lose their power, and come back later.
  private func tearHole(
    _ fault: PlannedFault, _ slot: NodeSlot, _ device: Int, _ chance: SimulationRandom
  ) async throws {
    var random = chance
    let path = NodeSlot.devicePath(device)
    guard let link = leader?.server?.root?.links.last, link.sealedStripes == nil,
      let store = slot.node?.devices.compactMap({ slot.node?.store(of: $0) }).first(where: {
        $0.path == path
      }), let index = link.devices.firstIndex(of: store.device)
    else { return }
    let shard = ShardKey(
      container: link.container, generation: link.generation, shardIndex: UInt8(index))
    let blocks = try await store.list(shard)
    // The last one stays, for it tells that what is missing before it was acknowledged.
    guard let last = blocks.last, last.stripe + 1 == UInt64(blocks.count), last.acknowledged > 2
    else { return }
    let first = 1 + random.below(Int(last.acknowledged) - 1)
    let width = 1 + random.below(min(4, Int(last.acknowledged) - first))
    var places: [(path: String, offset: UInt64)] = []
    for stripe in first..<first + width {
      let key = BlockKey(shard: shard, stripe: UInt64(stripe))
      if let place = try await store.location(of: key) { places.append(place) }
    }
    guard slot.isUp, slot.node?.store(of: store.device) === store, places.count == width else {
      return
    }
    count(fault.kind)
    slot.damaged.insert(device)
    slot.end(.powerCut, rest: .milliseconds(10))
    for coordinator in cluster.coordinators {
      coordinator.end(.powerCut, rest: .milliseconds(10))
    }
    for other in cluster.nodes where other !== slot {
      let holds = other.node?.devices.contains { link.devices.contains($0) }
      if holds == true { other.end(.powerCut, rest: fault.duration) }
    }
    for place in places {
      try slot.disks[device].overwrite(
        "/" + place.path, at: Int(place.offset), with: [UInt8](repeating: 0, count: 4096))
    }
    tell(fault, "stripes \(first)..<\(first + width) of \(link.container)")
  }

  /// Bits turn over, or sectors cannot be read any more, in files of blocks or of the index.
  private func decay(
    _ fault: PlannedFault, _ slot: NodeSlot, _ device: Int, _ random: inout SimulationRandom
  ) -> String? {
    let disk = slot.disks[device]
    var places: [String] = []
    for _ in 0..<(1 + random.below(random.pick([1, 8]))) {
      let folder = random.chance(1, in: 5) ? "/index" : "/volumes"
      let found = try? disk.decay(
        fault.kind == .flipBits ? .bitFlip : .latentError, under: folder, &random)
      guard let (path, offset) = found else { continue }
      slot.damaged.insert(device)
      count(fault.kind)
      places.append("\(path) at \(offset)")
    }
    guard !places.isEmpty else { return nil }
    return "\(slot.name) device \(device): " + places.prefix(3).joined(separator: ", ")
  }
}
