internal import Coding
internal import Coordinator
internal import Messages
package import Ring
internal import Service
internal import ShardStore
internal import Simulation
internal import Wire

/// What daemons and clients are told of a scenario.
extension Scenario {
  package var coordinatorAddresses: [SocketAddress] {
    (0..<coordinatorCount + (hasStrayCoordinator ? 1 : 0)).map {
      SocketAddress(host: "c\($0)", port: 7400)
    }
  }

  var storeSettings: StoreSettings {
    var settings = StoreSettings(
      capacity: store.capacity, volumeByteCount: store.volumeByteCount, reserveByteCount: 64 << 20)
    settings.concurrentWrites = store.concurrentWrites
    settings.indexEntryLimit = store.indexEntryLimit
    settings.unindexedByteLimit = store.unindexedByteLimit
    settings.compactionPercent = store.compactionPercent
    settings.openFileLimit = store.openFileLimit
    settings.isRotational = store.isRotational
    return settings
  }

  func coordinatorConfiguration(_ number: Int) -> CoordinatorConfiguration {
    var configuration = CoordinatorConfiguration(
      name: "c\(number)", address: coordinatorAddresses[number],
      dataDirectory: CoordinatorSlot.directory, key: SimulatedCluster.key, scheme: scheme,
      expectedNodes: nodeCount)
    configuration.security = .never
    configuration.leastFree = 0
    configuration.sessionLifetime = coordinator.sessionLifetime
    configuration.deletionGrace = coordinator.deletionGrace
    configuration.multipartLifetime = coordinator.multipartLifetime
    configuration.multipartInterval = .seconds(2)
    configuration.flushInterval = coordinator.flushInterval
    configuration.linkByteLimit = coordinator.linkByteLimit
    configuration.linkStripeLimit = coordinator.linkStripeLimit
    configuration.checkpointLogBytes = coordinator.checkpointLogBytes
    configuration.checkpointLinkCount = coordinator.checkpointLinkCount
    configuration.logWindow = coordinator.logWindow
    configuration.inventoryInterval = coordinator.inventoryInterval
    configuration.rebuildAfter = coordinator.rebuildAfter
    configuration.rackRebuildAfter = coordinator.rackRebuildAfter
    configuration.repairByteRate = coordinator.repairByteRate
    configuration.repackAfter = coordinator.repackAfter
    configuration.collectBelow = coordinator.collectBelow
    configuration.leastDead = coordinator.leastDead
    configuration.rewritesPerNode = coordinator.rewritesPerNode
    configuration.balances = coordinator.balances
    configuration.placement = coordinator.placement
    configuration.leastImbalance = 1 << 20
    return configuration
  }

  func domain(of node: Int) -> [String] { racks.isEmpty ? [] : ["rack\(racks[node])"] }

  var logLevel: LogLevel { .warning }

  /// How the clocks of a machine go wrong.
  ///
  /// - Parameter areWild: whether coordinators' may run as they like.
  func clock(
    _ name: String, _ world: SimulatedWorld, on machine: SimulatedMachine? = nil,
    areWild: Bool = false
  ) -> SimulatedProcess.Options {
    var random = world.random(named: "clock/" + name)
    var options = SimulatedProcess.Options(machine: machine)
    options.clockOffset = .seconds(random.below(1_000_000))
    options.clockDriftPartsPerMillion =
      random.below(2 * driftPartsPerMillion + 1) - driftPartsPerMillion
    if areWild, coordinatorAddresses.contains(where: { $0.host == name }) {
      options.clockDriftPartsPerMillion = random.pick([-500_000, -500_000, -300_000, 0, 500_000])
    }
    options.wallClockOffset = .nanoseconds(
      random.within((.zero - wallClockError)...wallClockError))
    return options
  }

  /// For people.
  package var lines: [String] {
    [
      "\(nodeCount) nodes, \(devicesPerNode) devices each, scheme \(scheme), "
        + (racks.isEmpty ? "" : "in racks \(racks.map { "\($0)" }.joined()), ")
        + "\(coordinatorCount) coordinators with \(arbiter == .file ? "a file" : "a register")"
        + (hasStrayCoordinator ? " and a stray one" : "")
        + (hasWildClocks ? ", wild clocks" : "") + (isTight ? ", tight" : "")
        + (isFoundedUnderFaults ? ", founded under faults" : "")
        + (emphasis == .none ? "" : ", about \(emphasis.rawValue)")
        + (schemeChange.map { ", \($0.scheme) from \($0.time) on" } ?? "")
        + (checkInterval.map { ", checked every \($0)" } ?? ""),
      "\(workload.clientCount) clients for \(workload.duration), "
        + "\(workload.operationsPerSecond) operations a second up to \(workload.largestByteCount) bytes"
        + workload.largeByteCounts.map { ", one of \($0)" }.joined(),
      "classes "
        + classes.map { "\($0.name) \($0.codec) \($0.groupByteCount >> 10) KiB" }
        .joined(separator: ", ")
        + (keyDomains.isEmpty ? "" : "; key domains \(keyDomains)")
        + (rotationInterval.map { ", wrapped anew every \($0)" } ?? ""),
      "reads \(readPolicy)",
      faults.description,
    ]
  }
}
