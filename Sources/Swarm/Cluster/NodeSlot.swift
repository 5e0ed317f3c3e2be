internal import Cluster
internal import Node
internal import Ring
internal import Service
internal import ShardStore
internal import Simulation
internal import Wire

/// A storage node's machine: the root disk with the node's own directory, and a disk for each device.
final class NodeSlot: DaemonSlot, @unchecked Sendable {
  private(set) var node: StorageNode?
  /// Every node that ever ran here: tasks of a killed process run on until they notice, and need theirs.
  private var past: [StorageNode] = []
  let disks: [SimulatedDisk]
  let troubles: [DiskTroubles]
  /// Devices whose stored bytes a fault has damaged: what they lack or refuse is excused.
  var damaged: Set<Int> = []

  /// Devices that were open once.
  private var everOpen: Set<Int> = []
  /// Devices that the operator gives up, by place: a new one may stand there.
  private var replaced: [Int: DeviceID] = [:]

  static let directory = "/data"
  static func devicePath(_ device: Int) -> String { "/devices/\(device)" }

  init(_ world: SimulatedWorld, _ scenario: Scenario, number: Int) {
    let name = "n\(number)"
    let machine = world.machine(name)
    machine.disk.speed = .nvme
    disks = (0..<scenario.devicesPerNode).map { world.disk("\(name).\($0)") }
    troubles = disks.map { DiskTroubles(world, $0) }
    super.init(world, scenario, number: number, name: name)
    for (device, disk) in disks.enumerated() {
      disk.speed = scenario.diskSpeed
      disk.shortTransfersPerThousand = scenario.shortTransfersPerThousand
      machine.mount(Self.devicePath(device), disk)
      troubles[device].isServing = { [weak self] in self?.isUp == true }
    }
  }

  override func launch(_ process: SimulatedProcess) {
    let configuration = NodeConfiguration(
      name: name, listen: SocketAddress(host: name, port: 7000),
      coordinators: scenario.coordinatorAddresses, key: SimulatedCluster.key, security: .never,
      directory: Self.directory, domain: scenario.domain(of: number),
      devices: disks.indices.map { device in
        NodeConfiguration.Device(
          path: Self.devicePath(device), tier: "nvme", settings: scenario.storeSettings,
          replaces: replaced[device])
      })
    let node = StorageNode(
      configuration, driver: process, log: Log(driver: process, level: scenario.logLevel))
    past.append(node)
    process.spawn("start") { [self] in
      do throws(NodeError) {
        try await node.start()
      } catch {
        guard self.process === process, process.isAlive else { return }
        let reason = "\(error)"
        if !isExcused {
          cluster?.fail("every daemon reopens", "\(name): \(reason)")
        }
        _ = replaceMissing(node)
        return failed(process, reason)
      }
      guard self.process === process, process.isAlive else { return }
      if replaceMissing(node) { return failed(process, "devices were replaced", rest: .zero) }
      self.node = node
      started(process)
      checkRecovery(node)
      await readNewest(node, process)
    }
  }

  /// As its operator does who has replaced a disk and reads that the old device is missed: the configuration gives it
  /// up by the id that the message names.
  ///
  /// - Returns: whether there is something new to start with.
  private func replaceMissing(_ node: StorageNode) -> Bool {
    var isNew = false
    for device in damaged.sorted() {
      guard let reason = reasonForLeavingOut(device, node),
        let id = DeviceID(in: reason, after: "replaces = \""), replaced[device] != id
      else { continue }
      replaced[device] = id
      isNew = true
    }
    return isNew
  }

  /// A damaged disk, or one in trouble right now, may refuse.
  private var isExcused: Bool {
    disks.indices.contains { damaged.contains($0) || troubles[$0].areActive }
  }

  private func isExcused(_ device: Int) -> Bool {
    damaged.contains(device) || troubles[device].areActive
  }

  /// Whether a fault may have taken or changed what the device holds.
  func isDamaged(_ store: ShardStore) -> Bool {
    damaged.count == disks.count || damaged.contains { Self.devicePath($0) == store.path }
  }

  /// What undamaged devices hold must all be found again.
  private func checkRecovery(_ node: StorageNode) {
    let stores = node.devices.compactMap { node.store(of: $0) }
    for device in disks.indices where !isExcused(device) {
      guard let store = stores.first(where: { $0.path == Self.devicePath(device) }) else {
        // A full file system has no room for a device yet; one that is there opens all the same.
        if !everOpen.contains(device), isWithoutSpace(device, node) { continue }
        cluster?.fail("every daemon reopens", "\(name): device \(device) was not opened")
        continue
      }
      everOpen.insert(device)
      let found = store.recovery
      if found.lostRecordCount > 0 || found.missingVolumeCount > 0 || found.readErrorCount > 0 {
        cluster?.fail(
          "recovery loses nothing",
          "\(name) device \(device): lost \(found.lostRecordCount) records, "
            + "\(found.missingVolumeCount) volumes, \(found.readErrorCount) read errors; "
            + found.findings.prefix(3).map(\.description).joined(separator: "; "))
      }
    }
  }

  private func isWithoutSpace(_ device: Int, _ node: StorageNode) -> Bool {
    guard let reason = reasonForLeavingOut(device, node) else { return false }
    // A simulated disk is filled by making it small.
    return reason.contains("No space left") || reason.contains("too small")
  }

  /// With the device's path in front.
  private func reasonForLeavingOut(_ device: Int, _ node: StorageNode) -> String? {
    let prefix = "\(Self.devicePath(device)): "
    return node.unopened.first { $0.hasPrefix(prefix) }
  }

  /// Of every shard the newest block is read: what recovery believed on undamaged devices is whole.
  private func readNewest(_ node: StorageNode, _ process: SimulatedProcess) async {
    for id in node.devices {
      guard let store = node.store(of: id),
        let device = disks.indices.first(where: { Self.devicePath($0) == store.path }),
        !isExcused(device)
      else { continue }
      var after: ShardKey?
      while let page = try? await store.inventory(after: after, limit: 500) {
        for summary in page.shards {
          guard let newest = (try? await store.list(summary.shard))?.last else { continue }
          let key = BlockKey(shard: summary.shard, stripe: newest.stripe)
          var tries = 0
          while true {
            // Not what a trouble of the moment shows, be it over when the answer comes.
            let wasWell = troubles[device].isWell
            guard await isTorn(store, key, newest.layout) else { break }
            guard self.process === process, process.isAlive, !isExcused(device) else { return }
            if wasWell && troubles[device].isWell { tries += 1 }
            if tries > 1 {
              cluster?.fail(
                "recovery believes nothing torn",
                "\(name) device \(device): stripe \(newest.stripe) of \(summary.shard)")
              return
            }
            guard await process.sleep(.milliseconds(200)) else { return }
          }
        }
        guard !page.isComplete, let last = page.shards.last else { break }
        after = last.shard
      }
    }
  }

  private func isTorn(_ store: ShardStore, _ key: BlockKey, _ layout: StripeLayout) async -> Bool {
    do throws(StoreError) {
      _ = try await store.read(key, offset: 0, byteCount: layout.blockByteCount)
      return false
    } catch {
      if case .corrupt = error { return true }
      return false
    }
  }

  /// What its node does not have open although nothing damaged it, and why.
  var missingDevices: [String] {
    guard isUp, let node else { return [] }
    let opened = Set(node.devices.compactMap { node.store(of: $0)?.path })
    return disks.indices.filter {
      !opened.contains(Self.devicePath($0)) && !damaged.contains($0)
    }.map { device in
      let reason = reasonForLeavingOut(device, node)
      return "\(name) device \(reason ?? "\(Self.devicePath(device)): unknown")"
    }
  }

  /// No device is given up without a reason.
  func checkDevices() {
    guard isUp, let node else { return }
    for id in node.devices {
      guard let store = node.store(of: id), case .retired(let reason) = store.state else {
        continue
      }
      let device = disks.indices.first { Self.devicePath($0) == store.path }
      if let device, !isExcused(device) {
        cluster?.fail("healthy devices serve", "\(name) device \(device) is retired: \(reason)")
      }
    }
  }

  override func supervise() {
    super.supervise()
    checkDevices()
  }

  override func ended(_ end: DaemonEnd) { node = nil }

  override func stopGracefully() async { await node?.stop() }

  /// The disk of one device is replaced by an empty one.
  func wipe(device: Int, rest: Duration) {
    end(.kill, rest: rest)
    damaged.insert(device)
    disks[device].wipe()
  }

  /// Everything is replaced: it comes back as a node that nobody knows.
  func wipe(rest: Duration) {
    end(.kill, rest: rest)
    for (device, disk) in disks.enumerated() {
      damaged.insert(device)
      disk.wipe()
    }
    try? machine.disk.erase(Self.directory)
  }
}

extension DeviceID {
  /// The id that is written in a message.
  fileprivate init?(in message: String, after mark: String) {
    guard let start = message.firstRange(of: mark)?.upperBound else { return nil }
    let text = message[start...].prefix { $0 != "\"" }
    self.init(String(text))
  }
}
