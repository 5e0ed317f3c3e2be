package import Cluster
package import Coding
package import Messages
internal import Ring
package import Simulation

/// What one seed draws: the cluster, what is done with it, and what may be done to it.
package struct Scenario: Sendable {
  package enum ArbiterKind: Sendable {
    /// The real ``FileArbiter``: one coordinator.
    case file
    /// ``SimulatedArbiter``.
    case register
  }

  /// What takes several things at once that seldom come together is what a few trials are about.
  package enum Emphasis: String, Sendable {
    case none
    /// Coordinators take the lead from each other, also while nobody asks for a change.
    case leads
    /// The log's copies have holes, and one that has is all that answers.
    case holes
    /// What is deleted goes slowly, and others store the same meanwhile.
    case churn
    /// Several shards of a container are lost at once, with room for all of them elsewhere.
    case repair
    /// Racks are away for so long that the others go on without them.
    case racks
  }

  package struct Network: Sendable {
    package var link = LinkOptions.localNetwork
    package var shortSendsPerThousand = 0
  }

  package var seed: UInt64
  package var nodeCount = 3
  package var devicesPerNode = 1
  /// The rack of each node, by number; empty: nobody says where nodes are.
  package var racks: [Int] = []
  package var scheme = Scheme("2+1")!
  package var coordinatorCount = 1
  package var arbiter = ArbiterKind.file
  /// Beside the one coordinator and its file, a second may be started by mistake, with a directory of its own.
  package var hasStrayCoordinator = false
  package var workload = WorkloadShape()
  package var network = Network()
  package var diskSpeed = DiskSpeed.nvme
  package var shortTransfersPerThousand = 10
  /// Coordinators' monotonic clocks run at rates that no lease allows for: two may believe that they lead, and answer
  /// questions from an old state. What is acknowledged must hold all the same: for the log, nodes are the fence.
  package var hasWildClocks = false
  /// Devices are so small that they fill up.
  package var isTight = false
  /// What the trial is about, beside all else that it draws.
  package var emphasis = Emphasis.none
  /// Monotonic clocks run faster or slower by at most so much.
  package var driftPartsPerMillion = 0
  /// Wall clocks are wrong by at most so much.
  package var wallClockError: Duration = .zero
  package var readBudgetByteCount = 8 << 20
  package var readPolicy = ReadPolicy.dataFirst
  package var faults = FaultShape()
  /// Storage classes that buckets have, in turn: those that are not built in are defined before the first.
  package var classes: [StorageClass] = []
  /// Key domains that buckets have, in turn; "" is none. They are made before the first bucket.
  package var keyDomains: [String] = []
  /// How often keys are wrapped anew.
  var rotationInterval: Duration?
  /// What the operator has it be meanwhile, and when.
  package var schemeChange: (scheme: Scheme, time: Duration)?
  /// How often the operator has all of it checked meanwhile.
  package var checkInterval: Duration?
  /// Whether at the end everything loses its power and coordinators their disks, and all is checked once more.
  package var endsInDarkness = false
  /// Whether faults come while the cluster is founded.
  package var isFoundedUnderFaults = false
  var store = StoreShape()
  var coordinator = CoordinatorShape()
  var injections: [(point: InjectionPoint, perMillion: Int)] = []

  struct StoreShape: Sendable {
    var capacity: UInt64 = 16 << 30
    var volumeByteCount: UInt64 = 64 << 20
    var concurrentWrites = 8
    var indexEntryLimit = 32_768
    var unindexedByteLimit: UInt64 = 4 << 30
    var compactionPercent: UInt64 = 25
    var openFileLimit = 128
    var isRotational = false
  }

  struct CoordinatorShape: Sendable {
    var sessionLifetime: Duration = .seconds(30)
    var deletionGrace: Duration = .seconds(30)
    var multipartLifetime: Duration = .seconds(30)
    var flushInterval: Duration = .seconds(60)
    var linkByteLimit = 64 << 20
    var linkStripeLimit: UInt64 = 4096
    var checkpointLogBytes = 256 << 20
    var checkpointLinkCount = 64
    var logWindow = 2
    var inventoryInterval: Duration = .seconds(3600)
    /// A device that is silent for so long is rebuilt elsewhere.
    var rebuildAfter: Duration = .seconds(600)
    /// The same where a whole rack is silent.
    var rackRebuildAfter: Duration = .seconds(3600)
    var repairByteRate: UInt64 = 64 << 20
    /// Containers that could be better are made so when there was room for it so long.
    var repackAfter: Duration = .seconds(600)
    /// Containers of which less is alive are packed anew without the rest, unless less than so many bytes are dead.
    var collectBelow = 0.8
    var leastDead: UInt64 = 1 << 20
    var placement = PlacementPolicy.emptiest
    var rewritesPerNode = 2
    var balances = true
  }

  /// - Parameter seconds: of workload, in place of the draw.
  package init(seed: UInt64, seconds: Duration? = nil) {
    self.seed = seed
    drawCluster()
    drawEnvironment()
    drawWorkload()
    drawExtremes()
    drawEmphasis()
    drawRacks()
    drawLarge()
    if let seconds { workload.duration = seconds }
    drawFaults()
    drawRepair()
    drawRepack()
    drawClasses()
    drawChecks()
    drawPlacement()
    drawKeys()
  }

  // MARK: drawing

  private mutating func drawKeys() {
    var random = stream("keys")
    guard random.chance(1, in: 4) else { return }
    keyDomains = random.pick([
      ["drawn-a"], ["", "drawn-a"], ["drawn-a", "drawn-b"], ["drawn-b", "", "drawn-a"],
    ])
    if random.chance(2, in: 3) { rotationInterval = .seconds(random.pick([1, 4, 15])) }
    if random.chance(1, in: 2) {
      injections.append((.dataKeyFull, random.pick([20_000, 300_000])))
    }
  }

  /// Whether buckets may share nothing.
  var hasSeveralDomains: Bool { classes.count > 1 || keyDomains.count > 1 }

  /// The key domain of a bucket that is made as the `turn`th; empty: none.
  func keyDomainName(_ turn: Int) -> String {
    keyDomains.isEmpty ? "" : keyDomains[turn % keyDomains.count]
  }

  private mutating func drawClasses() {
    var random = stream("classes")
    let count = random.pick([1, 1, 1, 2, 3])
    for number in 0..<count {
      let codec = random.pick([Codec.raw, .lz4, .zstd, .zstd, .zstd, .xz])
      // Small groups: simulated objects are, too, and xz takes its time.
      let group = random.pick([4096, 64 << 10, 200 << 10, codec == .xz ? 100 << 10 : 1 << 20])
      classes.append(
        StorageClass(
          name: "drawn-\(number)", codec: codec, level: codec == .raw || codec == .xz ? 0 : 1,
          groupByteCount: group))
    }
    // The standard one, so that what nobody says a class for is there too.
    if random.chance(1, in: 3) { classes[0] = StorageClass.builtIn[1] }
  }

  /// The class of a bucket that is made as the `turn`th.
  func className(_ turn: Int) -> String { classes[turn % classes.count].name }

  private mutating func drawRepair() {
    var random = stream("repair")
    coordinator.rebuildAfter = .seconds(random.pick([2, 5, 12, 600]))
    coordinator.repairByteRate = random.pick([0, 1 << 20, 64 << 20, 64 << 20])
    // Of large objects a container takes minutes at a MiB a second.
    if !workload.largeByteCounts.isEmpty, coordinator.repairByteRate > 0 {
      coordinator.repairByteRate = 64 << 20
    }
    coordinator.rewritesPerNode = random.pick([1, 2, 2, 8])
    coordinator.balances = random.chance(1, in: 2)
    if random.chance(1, in: 2), !faults.isCalm { injections.append((.rewriteStalls, 100_000)) }
    guard emphasis == .repair || emphasis == .racks else { return }
    coordinator.rebuildAfter = .seconds(random.pick([2, 5]))
    coordinator.inventoryInterval = .seconds(random.pick([2, 5, 20]))
  }

  private mutating func drawRepack() {
    var random = stream("repack")
    coordinator.repackAfter = .seconds(random.pick([1, 2, 5, 12, 600]))
    coordinator.collectBelow = random.pick([0, 0.5, 0.8, 0.95])
    coordinator.leastDead = random.pick([1, 1, 64 << 10, 1 << 20])
    if emphasis == .racks {
      coordinator.repackAfter = .seconds(random.pick([1, 2, 5]))
      coordinator.repairByteRate = 64 << 20
    }
    guard random.chance(1, in: 3), !isTight else { return }
    let domains = nodeCount == 1 ? devicesPerNode : nodeCount
    // What faults may take is what the old scheme bears, and what leaves the new one enough to write to.
    let victims = faults.victims.count
    var schemes: [Scheme] = []
    for m in max(victims, min(1, scheme.m))...3 where domains > m + victims {
      for k in 1...8 where k + m <= domains { schemes.append(Scheme(k: k, m: m)!) }
    }
    schemes.removeAll { $0 == scheme }
    if schemes.isEmpty { return }
    let time = random.within(.zero...workload.duration)
    schemeChange = (random.pick(schemes), .nanoseconds(time))
  }

  private mutating func drawPlacement() {
    var random = stream("placement")
    coordinator.placement = random.pick(PlacementPolicy.allCases)
    readPolicy = ReadPolicy(
      named: random.pick(ReadPolicy.names), location: ["rack\(random.below(3))"])!
  }

  private mutating func drawChecks() {
    var random = stream("checks")
    if random.chance(1, in: 3) { checkInterval = .seconds(random.pick([2, 5, 15])) }
  }

  private mutating func drawRacks() {
    var random = stream("racks")
    guard nodeCount >= 3, random.chance(1, in: 3) || emphasis == .racks else { return }
    let count = random.pick([2, 3, 3, 4])
    racks = (0..<nodeCount).map { $0 < count ? $0 : random.below(count) }
    coordinator.rackRebuildAfter = .seconds(random.pick([2, 12, 3600]))
  }

  private func stream(_ name: String) -> SimulationRandom {
    SimulationRandom(seed: seed, name: "scenario/" + name)
  }

  private mutating func drawCluster() {
    var random = stream("cluster")
    // Small ones more often: they run faster and are harder to keep alive.
    nodeCount = random.pick([1, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8, 9, 9, 10, 12])
    devicesPerNode = random.pick([1, 1, 1, 2, 3])
    if nodeCount == 1 { devicesPerNode = random.pick([1, 2, 3, 4, 6]) }
    let domains = nodeCount == 1 ? devicesPerNode : nodeCount
    var schemes: [Scheme] = []
    for m in 0...3 where domains > m {
      for k in 1...6 {
        // Wider than the cluster is legal: k shrinks.
        if k + m <= domains || (k + m <= domains + 2 && random.chance(1, in: 12)) {
          schemes.append(Scheme(k: k, m: m)!)
        }
      }
    }
    let protected = schemes.filter { $0.m > 0 }
    scheme = random.pick(
      protected.isEmpty || random.chance(1, in: 12) ? schemes : protected)
    coordinatorCount = random.pick([1, 1, 1, 1, 1, 2, 2, 3])
    arbiter = coordinatorCount > 1 || random.chance(1, in: 4) ? .register : .file

    hasStrayCoordinator = arbiter == .file && random.chance(1, in: 4)

    store.volumeByteCount = UInt64(random.pick([1, 2, 4, 8, 16, 64])) << 20
    store.concurrentWrites = random.pick([1, 2, 8, 8])
    store.indexEntryLimit = random.pick([32, 200, 2000, 32_768])
    store.unindexedByteLimit = UInt64(random.pick([1, 16, 4096])) << 20
    store.compactionPercent = UInt64(random.pick([10, 25, 25, 60]))
    store.openFileLimit = random.pick([4, 16, 128])
    // Not drawn, so that what follows is what it was.
    store.isRotational = seed % 4 == 1

    coordinator.sessionLifetime = .seconds(random.pick([8, 15, 30, 30]))
    coordinator.deletionGrace = .seconds(random.pick([1, 3, 10, 30]))
    // Not drawn, as above.
    coordinator.multipartLifetime = .seconds([5, 20, 60][Int(seed % 3)])
    coordinator.flushInterval = .seconds(random.pick([1, 5, 20, 60]))
    coordinator.linkByteLimit = random.pick([64 << 10, 1 << 20, 64 << 20])
    coordinator.linkStripeLimit = UInt64(random.pick([8, 40, 200, 4096]))
    coordinator.checkpointLogBytes = random.pick([128 << 10, 4 << 20, 256 << 20])
    coordinator.checkpointLinkCount = random.pick([3, 8, 64])
    coordinator.logWindow = random.pick([1, 2, 2, 4])
    coordinator.inventoryInterval = .seconds(random.pick([2, 5, 20, 3600]))
  }

  private mutating func drawEnvironment() {
    var random = stream("environment")
    switch random.below(8) {
    case 0: network.link = .loopback
    case 1:
      network.link = LinkOptions(
        latency: .milliseconds(1)...(.milliseconds(30)), bytesPerSecond: 20_000_000)
    default: network.link = .localNetwork
    }
    network.shortSendsPerThousand = random.pick([0, 0, 5, 50])
    diskSpeed = random.chance(1, in: 4) ? .hdd : .nvme
    shortTransfersPerThousand = random.pick([0, 10, 10, 100])
    driftPartsPerMillion = random.pick([0, 50, 300, 5000])
    wallClockError = .seconds(random.pick([0, 1, 3600, 1_000_000]))
    readBudgetByteCount = random.pick([1, 8, 64]) << 20
  }

  private mutating func drawWorkload() {
    var random = stream("workload")
    workload.clientCount = random.pick([1, 2, 2, 3, 4])
    workload.duration = .seconds(random.pick([20, 30, 40, 60, 90]))
    workload.operationsPerSecond = random.pick([5, 10, 20, 50])
    workload.bucketCount = random.pick([1, 2, 3])
    workload.keyCount = random.pick([5, 20, 60, 200])
    // About 2 MB a second at most, for all of it is kept in memory.
    let largest = random.pick([16 << 10, 300 << 10, 2 << 20, 8 << 20, 32 << 20])
    workload.largestByteCount = UInt64(largest)
    workload.duplicatePercent = random.pick([0, 20, 60])
  }

  /// What few clusters ever meet.
  private mutating func drawExtremes() {
    var random = stream("extremes")
    hasWildClocks = coordinatorCount > 1 && random.chance(1, in: 2)
    isTight = random.chance(1, in: 10)
    guard isTight else { return }
    store.capacity = UInt64(random.pick([32, 48, 96])) << 20
    store.volumeByteCount = UInt64(random.pick([1, 2])) << 20
    store.unindexedByteLimit = UInt64(random.pick([1, 4])) << 20
    // Else the log alone fills them.
    coordinator.linkByteLimit = random.pick([64 << 10, 512 << 10])
    coordinator.checkpointLogBytes = random.pick([128 << 10, 1 << 20])
    coordinator.checkpointLinkCount = random.pick([3, 8])
    coordinator.inventoryInterval = .seconds(random.pick([2, 5, 20]))
    workload.largestByteCount = max(workload.largestByteCount, 2 << 20)
  }

  /// A few objects far larger than all others, for clients that do little else.
  private mutating func drawLarge() {
    var random = stream("large")
    // Over slow links, with the small windows that connections draw, one takes minutes by itself and looks stuck.
    guard random.chance(1, in: 40), emphasis == .none, !isTight,
      network.link.bytesPerSecond > 100_000_000
    else { return }
    workload.largeByteCounts = (0..<random.pick([1, 1, 2])).map { _ in
      UInt64(random.within(64...300)) << 20 + UInt64(random.below(1 << 20))
    }
    // Simulated disks keep in memory what is stored.
    workload.distinctByteCount = UInt64(192 << 20) / UInt64(scheme.width) * UInt64(scheme.k)
    workload.operationsPerSecond = min(workload.operationsPerSecond, 5)
    workload.largestByteCount = min(workload.largestByteCount, 2 << 20)
  }

  /// See ``Emphasis``.
  private mutating func drawEmphasis() {
    var random = stream("emphasis")
    emphasis = random.pick([.none, .none, .none, .none, .leads, .leads, .holes, .churn])
    var other = stream("emphasis/repair")
    if emphasis == .none, !isTight, other.chance(1, in: 4) { emphasis = .repair }
    var third = stream("emphasis/racks")
    if emphasis == .none, !isTight, third.chance(1, in: 4) { emphasis = .racks }
    switch emphasis {
    case .none: break
    case .leads:
      hasStrayCoordinator = random.chance(1, in: 2)
      if hasStrayCoordinator {
        coordinatorCount = 1
        arbiter = .file
        hasWildClocks = false
        // Long enough for one that was started by mistake to lead: the nodes' hello, a lease, a take-over.
        workload.lull = WorkloadShape.Lull(
          interval: .seconds(random.pick([16, 20, 24])), length: .seconds(random.pick([10, 12])))
      } else {
        coordinatorCount = max(coordinatorCount, 2)
        arbiter = .register
        hasWildClocks = random.chance(3, in: 4)
      }
    case .holes:
      // One may lose blocks, and so many are left that the log goes on without it.
      if nodeCount == 1 { nodeCount = random.pick([3, 4, 5]) }
      if scheme.m == 0 || nodeCount < scheme.m + 2 { scheme = Scheme("2+1")! }
      nodeCount = max(nodeCount, 3)
    case .repair:
      nodeCount = random.pick([7, 8, 9])
      devicesPerNode = random.pick([1, 1, 2])
      scheme = Scheme(random.pick(["2+2", "3+2", "3+3"]))!
    case .racks:
      nodeCount = random.pick([6, 7, 8, 9])
      devicesPerNode = 1
      scheme = Scheme(random.pick(["2+1", "3+1", "2+2", "1+2"]))!
    case .churn:
      workload.clientCount = max(workload.clientCount, 2)
      workload.keyCount = random.pick([2, 4, 8])
      workload.duplicatePercent = random.pick([60, 85])
      workload.churns = true
      coordinator.deletionGrace = .seconds(random.pick([1, 3]))
      workload.largestByteCount = min(workload.largestByteCount, 2 << 20)
    }
  }

  private mutating func drawFaults() {
    var random = stream("faults")
    faults = FaultShape(drawing: &random, for: self)
    endsInDarkness = !faults.isCalm && faults.damage != .silent && random.chance(1, in: 3)
    guard !faults.isCalm else { return }
    isFoundedUnderFaults = random.chance(1, in: 6)
    // Per pass of each point; see the notes beside InjectionPoint's cases.
    let usual: [(InjectionPoint, Int)] = [
      (.containerFullEarly, 20_000), (.containerGivenUp, 20_000), (.stripeNotAcknowledged, 20_000),
      (.stripeShort, 20_000), (.groupShort, 20_000), (.hintMissed, 50_000),
      (.commandAnswerLost, 30_000),
      (.readWindowSmall, 330_000), (.bytesWrong, 5_000), (.hedgeEarly, 50_000),
      (.appendAlone, 50_000),
      (.commitOfOne, 100_000), (.indexFlushedEarly, 20_000), (.runsMergedEarly, 50_000),
      (.volumeFullEarly, 20_000), (.volumeCompactedEarly, 300_000), (.volumeClosedEarly, 50_000),
      (.logBatchOfOne, 200_000), (.linkFullEarly, 10_000), (.checkpointEarly, 200_000),
      (.edgesReturnedSlowly, 330_000), (.checkpointPieceLate, 300_000),
      (.takeOverLate, 100_000),
      (.sessionExpiredEarly, 30_000), (.leaseLostEarly, 5_000), (.leadLostAtAnswer, 5_000),
      (.connectionDropped, 5_000), (.receiveSmall, 5_000),
    ]
    for (point, rate) in usual where random.chance(1, in: 3) {
      // A dropped connection may keep a node from being heard at a take-over (see FaultShape.Damage).
      if point == .connectionDropped && faults.damage == .silent { continue }
      injections.append((point, rate * random.pick([1, 1, 3]) / random.pick([1, 1, 10])))
    }
    var small = stream("small objects")
    for (point, rate) in [(InjectionPoint.smallInGroup, 500_000), (.commandsGathered, 200_000)]
    where small.chance(1, in: 2) {
      injections.append((point, rate))
    }
    // What shows only when several things come together.
    if injections.contains(where: { $0.point == .commandAnswerLost }) {
      injections.append((.answerMissedLate, 300_000))
      injections.removeAll { $0.point == .sessionExpiredEarly }
      injections.append((.sessionExpiredEarly, 30_000))
    }
    if injections.contains(where: { $0.point == .volumeCompactedEarly }) {
      faults.kinds.append((.cutNodePowerInSync, 6))
    }
    switch emphasis {
    case .none: break
    case .leads:
      faults.emphasize([(.strayCoordinator, 2), (.cutLeaderOff, 2), (.pauseLeader, 1)], self)
    case .holes: faults.emphasize([(.holeInLog, 1)], self)
    case .repair:
      faults.emphasize(
        faults.damage == .loss
          ? [(.wipeNode, 2), (.wipeDevice, 2), (.killNode, 1)]
          : [(.lostWrites, 2), (.flipBits, 1), (.killNode, 2)], self, mostPerMinute: 20)
      // Both victims within seconds.
      faults.burstCount = random.pick([1, 2])
    case .racks:
      faults.emphasize([(.cutRackOff, 2), (.cutRackPower, 1)], self, mostPerMinute: 30)
      faults.leastAbsence = .seconds(random.pick([0, 7]))
    case .churn:
      // Nodes are away when containers are deleted.
      faults.emphasize(
        [(.killNode, 1), (.cutNodePower, 1), (.isolate, 1)], self, mostPerMinute: 15)
      faults.leastAbsence = .seconds(random.pick([0, 7]))
      let rates: [(InjectionPoint, Int)] = [
        (.edgesReturnedSlowly, 850_000), (.containerFullEarly, 200_000), (.stripeShort, 100_000),
      ]
      for (point, rate) in rates {
        injections.removeAll { $0.point == point }
        injections.append((point, rate))
      }
    }
    if hasWildClocks {
      injections.removeAll { $0.point == .takeOverLate }
      injections.append((.takeOverLate, 700_000))
    }
    if hasWildClocks || hasStrayCoordinator { faults.kinds.append((.cutLeaderOff, 6)) }
    guard !racks.isEmpty, faults.damage != .silent else { return }
    faults.kinds += [(.cutRackPower, 3), (.cutRackOff, 3)]
  }
}
