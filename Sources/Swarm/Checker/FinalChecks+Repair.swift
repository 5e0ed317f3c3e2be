internal import Cluster
internal import Coding
internal import Messages
internal import Metadata
internal import ShardStore
internal import Simulation

/// What faults took or changed comes back by itself, as far as there is anywhere to put it.
extension FinalChecks {
  /// Waits until every shard is on a device that is there, and every block of it reads right. Devices that faults damaged read
  /// all they have first, as they do now and then.
  func heal() async throws {
    guard isHealable else { return }
    for held in holders().sorted(by: { $0.key < $1.key }).map(\.value)
    where held.isDamaged && held.store.state == .healthy {
      do { _ = try held.store.scrubNow() } catch {
        throw failure("what is damaged is mended", "\(held.slot.name) \(held.store.path): \(error)")
      }
    }
    let end = world.now + Self.healLimit
    while let ill = try await firstIll() {
      if let failure = cluster.failure { throw failure }
      if world.now > end {
        throw failure("what is damaged is mended", "after \(Self.healLimit): \(ill)")
      }
      await world.sleep(.seconds(2))
    }
  }

  /// The container as it is now; nil when it is forgotten.
  func current(_ id: ContainerID) throws -> (record: ContainerRecord, stripes: [StripeRecord])? {
    try StateAudit.containers(in: leadingStore()).first { $0.record.id == id }
  }

  /// Whether the container is elsewhere by now, is forgotten, or has left dead stripes behind since it was looked at.
  func isMoving(
    _ shard: ShardKey, _ containers: [(record: ContainerRecord, stripes: [StripeRecord])]
  ) throws -> Bool {
    guard let known = containers.first(where: { $0.record.id == shard.container }) else {
      return false
    }
    guard let now = try current(shard.container) else { return true }
    return now.record.places != known.record.places
      || now.stripes.map(\.stripe) != known.stripes.map(\.stripe)
  }

  private static let healLimit = Duration.seconds(240)

  /// Whether all that repair needs comes about within a minute.
  var isHealable: Bool {
    let scenario = cluster.scenario
    return scenario.coordinator.rebuildAfter < .seconds(60) && !scenario.isTight
      && scenario.coordinator.inventoryInterval < .seconds(60)
  }

  /// Whether what has another scheme than it should is written anew while it is waited for.
  private var isRepacked: Bool {
    let coordinator = cluster.scenario.coordinator
    return coordinator.repackAfter < .seconds(60) && coordinator.repairByteRate != 1 << 20
  }

  /// Whether a container has so much that is dead that it is to be packed anew while it is waited for.
  private func isSparse(
    _ record: ContainerRecord, _ stripes: [StripeRecord], _ holders: [DeviceID: HeldBy],
    in store: any OrderedStore
  ) throws -> Bool {
    let coordinator = cluster.scenario.coordinator
    guard coordinator.repairByteRate != 1 << 20,
      record.state == .sealed || record.state == .available,
      isWide(holders, record.scheme.width)
    else { return false }
    let live = try StateAudit.liveByteCount(of: record.id, stripes, in: store)
    return record.dataByteCount >= live + coordinator.leastDead
      && Double(live) < Double(record.dataByteCount) * coordinator.collectBelow
  }

  /// Whether there is a failure domain for each shard.
  private func isWide(_ holders: [DeviceID: HeldBy], _ width: Int) -> Bool {
    let healthy = holders.values.filter { $0.store.state == .healthy }
    let domains =
      cluster.nodes.count == 1 ? healthy.count : Set(healthy.map(\.slot.number)).count
    return domains >= width
  }

  /// Whether shards on these nodes share racks more than they would have to.
  private func isCrowded(_ homes: [Int], _ holders: [DeviceID: HeldBy]) -> Bool {
    let racks = cluster.scenario.racks
    guard !racks.isEmpty else { return false }
    func counts(_ nodes: some Sequence<Int>) -> [Int] {
      var counts = Array(repeating: 0, count: racks.count)
      for node in nodes { counts[racks[node]] += 1 }
      return counts
    }
    func pairs(_ counts: [Int]) -> Int { counts.reduce(0) { $0 + $1 * ($1 - 1) } }
    let healthy = holders.values.filter { $0.store.state == .healthy }
    let room = counts(Set(healthy.map(\.slot.number)))
    var best = counts([])
    for _ in homes {
      let open = best.indices.filter { best[$0] < room[$0] }
      guard let emptiest = open.min(by: { best[$0] < best[$1] }) else { return false }
      best[emptiest] += 1
    }
    return pairs(counts(homes)) > pairs(best)
  }

  /// Something that is not as it should be; nil when all is well.
  private func firstIll() async throws -> String? {
    let holders = holders()
    let store = try leadingStore()
    let wanted = try StateAudit.scheme(in: store)
    for (record, stripes) in try StateAudit.containers(in: store)
    where record.state != .condemned && !stripes.isEmpty {
      if isRepacked, let wanted, record.scheme != wanted, isWide(holders, wanted.width) {
        return "\(record.id) is \(record.scheme) and is to be \(wanted)"
      }
      if try isSparse(record, stripes, holders, in: store) {
        return "\(record.id) holds \(record.dataByteCount) bytes of which too few are alive"
      }
      let homes = record.devices.compactMap { holders[$0]?.slot.number }
      if cluster.nodes.count > 1, Set(homes).count < homes.count,
        isWide(holders, record.scheme.width)
      {
        return "\(record.id) has two shards on one node"
      }
      if isRepacked, homes.count == record.devices.count, isWide(holders, record.scheme.width),
        isCrowded(homes, holders)
      {
        return "\(record.id) is on nodes \(homes.sorted()), which share racks more than they need"
      }
      for (index, shard) in record.places.shards(of: record.id).enumerated() {
        let device = record.places[index].device
        let held = holders[device]
        guard let held, held.store.state == .healthy else {
          guard isWide(holders, record.scheme.width) else { continue }
          return "shard \(index) of \(record.id) is on \(device), which is gone"
        }
        guard held.isDamaged else { continue }
        for stripe in stripes where stripe.layout.isStored(index) {
          do {
            _ = try await held.store.read(
              BlockKey(shard: shard, stripe: stripe.stripe), offset: 0,
              byteCount: stripe.layout.blockByteCount)
          } catch {
            return
              "\(held.slot.name) \(held.store.path): stripe \(stripe.stripe) of \(record.id): \(error)"
          }
        }
      }
    }
    return nil
  }
}
