package import Cluster
package import Messages
package import Metadata
package import Ring
import Stripes
import Wire

/// What nodes said of themselves lately: soft state, never a precondition for anything that must be safe.
package final class NodeTable: DeviceDirectory, @unchecked Sendable {
  // Loop-confined.
  package struct Entry: Sendable {
    package var record: NodeRecord
    package var reports: [DeviceReport]
    package var clusterID: UInt64
    package var highestEpoch: UInt64
    package var corruptBlocks: UInt64
    /// Blocks that the last hello named; the node tells the others in turn.
    package var damage: [DeviceDamage]
    package var lastHeard: Duration
  }

  private let driver: any Driver
  private let silence: Duration
  private var entries: [NodeID: Entry] = [:]
  private var holders: [DeviceID: NodeID] = [:]
  private var mapped: [NodeID: NodeRecord] = [:]
  private var mapEpoch: UInt64?
  private var mappedHolders: [DeviceID: NodeID] = [:]
  private var rootDomains: [NodeID: RootRecord.Domain] = [:]
  private var rootHolders: [DeviceID: NodeID] = [:]
  private var retired: Set<DeviceID> = []
  private let startedAt: Duration
  private let helloInterval: Duration
  private var damaged = DamageLedger()
  private var suspected = DamageLedger()
  private(set) var watch = DeviceWatch()

  /// - Parameter silence: a node not heard of for longer counts as down.
  package init(
    driver: any Driver, silence: Duration = .seconds(5), helloInterval: Duration = .seconds(1)
  ) {
    self.driver = driver
    self.helloInterval = helloInterval
    self.silence = silence
    startedAt = driver.now
  }

  /// Takes in a hello.
  ///
  /// - Parameter origin: where the connection comes from, for nodes that do not know their address.
  /// - Returns: nil, or where another node of the same id was heard of just now: a copy of its
  ///   directory, which is not taken in.
  package func note(_ hello: Hello, from origin: SocketAddress) -> SocketAddress? {
    let address = SocketAddress(
      host: hello.host.isEmpty ? origin.host : hello.host, port: hello.port)
    if let known = entries[hello.node], known.record.address != address,
      driver.now - known.lastHeard < silence / 2
    {
      return known.record.address
    }
    // A node of another id there under that name was replaced by this one, heard of lately or not: to count both as up
    // would let the root name one more that is gone for good.
    for (node, entry) in entries
    where node != hello.node && entry.record.address == address && entry.record.name == hello.name {
      entries[node] = nil
    }
    let devices = hello.devices.map {
      DeviceRecord(
        id: $0.id, capacity: $0.capacity, tier: $0.tier, state: $0.isRetired ? .retired : .healthy)
    }
    entries[hello.node] = Entry(
      record: NodeRecord(
        id: hello.node, name: hello.name, address: address, domain: hello.domain,
        devices: devices.sorted { $0.id < $1.id }),
      reports: hello.devices.sorted { $0.id < $1.id }, clusterID: hello.clusterID,
      highestEpoch: hello.highestEpoch, corruptBlocks: hello.corruptBlocks,
      damage: hello.damage.sorted { $0.device < $1.device }, lastHeard: driver.now)
    for device in hello.devices {
      holders[device.id] = hello.node
      watch.note(device.load, of: device.id, tier: device.tier, at: driver.now)
      let damage = hello.damage.first { $0.device == device.id }
      damaged.note(damage?.damaged ?? [], of: device.id, at: driver.now, every: helloInterval)
      suspected.note(damage?.suspected ?? [], of: device.id, at: driver.now, every: helloInterval)
    }
    return nil
  }

  /// Which cluster a node belongs to, learnt otherwise than by its hello; 0 says nothing.
  func note(_ node: NodeID, of clusterID: UInt64) {
    if clusterID != 0 { entries[node]?.clusterID = clusterID }
  }

  /// The committed map, from which addresses of silent nodes are known.
  package func note(_ map: ClusterMap) {
    if map.epoch == mapEpoch { return }
    mapEpoch = map.epoch
    mapped = [:]
    mappedHolders = [:]
    retired = []
    for node in map.nodes {
      mapped[node.id] = node
      for device in node.devices {
        mappedHolders[device.id] = node.id
        if device.state == .retired { retired.insert(device.id) }
      }
    }
  }

  /// The root's domains, from which addresses are known before anything else is.
  package func note(_ root: RootRecord) {
    rootDomains = [:]
    rootHolders = [:]
    for domain in root.domains {
      rootDomains[domain.node] = domain
      for device in domain.devices { rootHolders[device] = domain.node }
    }
  }

  /// Everyone who ever said hello, ascending by id.
  package var all: [Entry] {
    entries.keys.sorted().map { entries[$0]! }
  }
  package func entry(_ node: NodeID) -> Entry? { entries[node] }

  package func isUp(_ node: NodeID) -> Bool {
    guard let entry = entries[node] else { return false }
    return driver.now - entry.lastHeard <= silence
  }

  /// Whether the device's node has missed hellos, or the device takes no part: sooner than ``isDown(_:)`` says so.
  package func isLate(_ device: DeviceID) -> Bool {
    if isDown(device) { return true }
    guard let entry = holder(of: device).flatMap({ entries[$0] }) else { return false }
    return driver.now - entry.lastHeard > min(silence, helloInterval * 3)
  }

  /// What devices have had to do lately.
  var work: [DeviceID: DeviceWork] { watch.work() }

  /// Many times slower than others of their kind.
  package var degraded: Set<DeviceID> { watch.degraded }

  /// Looks which devices are slow beside others; about each second.
  ///
  /// - Returns: those that are degraded now and were not, and those that are not any more.
  func judgeDevices() -> (degraded: [DeviceID], recovered: [DeviceID]) {
    // Who is silent is not compared, and begins anew.
    watch.forget { isDown($0) }
    return watch.judge(at: driver.now)
  }

  /// Whether its node is there and says that the device takes no writes.
  package func isFailed(_ device: DeviceID) -> Bool {
    guard let node = holder(of: device), isUp(node) else { return false }
    return entries[node]?.reports.first { $0.id == device }?.isFailed ?? false
  }

  /// For how long the device's node has not been heard of; nil when it never was.
  package func silence(of device: DeviceID) -> Duration? {
    holder(of: device).flatMap { entries[$0] }.map { driver.now - $0.lastHeard }
  }

  /// Every block that its device says is wrong, or that a reader found wrong, by container.
  package var wrongBlocks: [ContainerID: [BlockKey]] {
    let isKnown = { [holders] in holders[$0] != nil }
    return damaged.blocks(of: isKnown).merging(suspected.blocks(of: isKnown)) { $0 + $1 }
  }

  /// Whether we started so lately that who is silent may be merely unheard yet.
  package var isNew: Bool { driver.now - startedAt <= silence }

  /// Nodes that are known and not up; none while this ``isNew``.
  package var down: [NodeID] {
    guard !isNew else { return [] }
    return Set(mapped.keys).union(entries.keys).filter { !isUp($0) }.sorted()
  }

  package func address(of node: NodeID) -> SocketAddress? {
    entries[node]?.record.address ?? mapped[node]?.address ?? rootDomains[node]?.address
  }
  package func name(of node: NodeID) -> String {
    entries[node]?.record.name ?? mapped[node]?.name ?? rootDomains[node]?.name
      ?? node.description
  }
  package func holder(of device: DeviceID) -> NodeID? {
    holders[device] ?? mappedHolders[device] ?? rootHolders[device]
  }

  package func address(of device: DeviceID) -> SocketAddress? {
    holder(of: device).flatMap { address(of: $0) }
  }
  package func nodeName(of device: DeviceID) -> String {
    holder(of: device).map { name(of: $0) } ?? device.description
  }
  package func isDown(_ device: DeviceID) -> Bool {
    if retired.contains(device) { return true }
    guard let node = holder(of: device) else { return true }
    guard let entry = entries[node] else { return !isNew }
    if driver.now - entry.lastHeard > silence { return true }
    return entry.reports.first { $0.id == device }?.isFailed ?? true
  }

  /// What each device of a live node can still take; failed and retired ones are left out.
  package var free: [DeviceID: UInt64] { free(\.free, heardWithin: silence) }

  /// What of the log it can take, of nodes that were heard of in the last half of the silence that makes them down: the log, which
  /// stops for a device that does not answer, had better not count on the others.
  package var freeForLog: [DeviceID: UInt64] { free(\.logFree, heardWithin: silence / 2) }

  private func free(_ part: KeyPath<DeviceReport, UInt64>, heardWithin bound: Duration)
    -> [DeviceID: UInt64]
  {
    var free: [DeviceID: UInt64] = [:]
    for entry in entries.values where driver.now - entry.lastHeard <= bound {
      for report in entry.reports where !report.isFailed && !retired.contains(report.id) {
        free[report.id] = report[keyPath: part]
      }
    }
    return free
  }

  /// Blocks that nodes that are up said are wrong, in the order of nodes, devices and keys: at most
  /// ``DeviceDamage/keyLimit`` of a device at a time, others a second later, until they are mended or deleted.
  package var damagedBlocks: [(DeviceID, BlockKey)] { named(\.damaged) }

  /// The same of blocks that a reader found wrong though they are as their checksums say.
  package var suspectedBlocks: [(DeviceID, BlockKey)] { named(\.suspected) }

  private func named(_ part: KeyPath<DeviceDamage, [BlockKey]>) -> [(DeviceID, BlockKey)] {
    entries.keys.sorted().filter { isUp($0) }.flatMap { node in
      // Only its own devices: what else it says is not its business.
      let devices = Set(entries[node]!.reports.map(\.id))
      return entries[node]!.damage.filter { devices.contains($0.device) }.flatMap { damage in
        damage[keyPath: part].sorted().map { (damage.device, $0) }
      }
    }
  }

  /// The nodes of `domains` as far as they are known: where links may go. It needs no state machine. Devices that are
  /// known to fail now count as draining.
  package func linkMap(_ domains: [RootRecord.Domain]) -> ClusterMap {
    let nodes = domains.map { domain -> NodeRecord in
      var node =
        entries[domain.node]?.record ?? mapped[domain.node]
        ?? NodeRecord(
          id: domain.node, name: domain.name, address: domain.address, domain: [],
          devices: domain.devices.map {
            DeviceRecord(id: $0, capacity: 0, tier: "", state: .healthy)
          })
      let reports = isUp(domain.node) ? entries[domain.node]?.reports ?? [] : []
      for index in node.devices.indices {
        let device = node.devices[index].id
        if retired.contains(device) {
          node.devices[index].state = .retired
        } else if node.devices[index].state == .healthy,
          reports.contains(where: { $0.id == device && $0.isFailed })
        {
          node.devices[index].state = .draining
        }
      }
      return node
    }
    return ClusterMap(nodes: nodes.sorted { $0.id < $1.id })
  }
}
