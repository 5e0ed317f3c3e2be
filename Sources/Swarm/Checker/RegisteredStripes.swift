internal import Cluster
internal import Messages
internal import Metadata
internal import ShardStore
internal import Simulation

/// What was ever seen registered, container by container, looked up now and then while the workload runs: of a
/// container that is forgotten the state has nothing any more, and of a shard that was rewritten only its new place.
/// Loop-confined.
///
/// A container is forgotten once every device has dropped its shard, so none has a stripe of it afterwards that was
/// registered: not those either that were away meanwhile, from the moment when they are back. Shards that a rewrite left
/// behind outlive their container, though, until their device drops them: so long the state names them. The new ones are
/// whole from the moment when they are in their place.
final class RegisteredStripes: @unchecked Sendable {
  private struct Container {
    var places: [ShardPlace]
    var stripes: [StripeRecord]

    init(_ places: [ShardPlace], _ stripes: [StripeRecord]) {
      self.places = places
      self.stripes = stripes
    }

    func shards(of id: ContainerID) -> [Shard] {
      places.shards(of: id).enumerated().map { index, key in
        Shard(
          name: DoomedShard(device: places[index].device, shard: key),
          stripes: Set(stripes.filter { $0.layout.isStored(index) }.map(\.stripe)))
      }
    }
  }
  private struct Shard {
    var name: DoomedShard
    /// What it must have had.
    var stripes: Set<UInt64>
    var key: ShardKey { name.shard }
  }
  private var living: [ContainerID: Container] = [:]
  /// Shards of forgotten containers that are still to be looked for on their devices.
  private var forgotten: [Shard] = []
  /// Shards that others took the place of, likewise.
  private var replaced: [Shard] = []
  /// Those that took it, and were not judged yet.
  private var new: [Shard] = []
  /// Containers that devices are dropping, one after the other; the state has no stripes of theirs any more.
  private var condemned: Set<ContainerID> = []
  /// What devices have still to drop by the state last looked at.
  private var doomed: Set<DoomedShard> = []
  /// How far that state was.
  private var position: UInt64 = 0

  /// Takes in what the state of the coordinator that leads has now.
  func look(_ cluster: SimulatedCluster) {
    // While it leads nothing is half made anew.
    guard let leader = cluster.coordinators.first(where: { $0.mayLead && $0.isLeading }),
      let store = leader.storage.opened.last
    else { return }
    do {
      try look(at: store, of: leader, cluster)
    } catch {
      cluster.fail("the state fits together", "\(leader.name): \(error)")
    }
  }

  private func look(at store: MemoryStore, of leader: CoordinatorSlot, _ cluster: SimulatedCluster)
    throws
  {
    let position = try store.appliedPosition()
    if let problem = try StateAudit.violations(in: store).first {
      cluster.fail(
        "the state fits together", "\(leader.name) at position \(position): \(problem)")
    }
    let containers = try StateAudit.containers(in: store)
    let doomed = try StateAudit.doomedShards(in: store)
    // One who believes that it leads may know less than was seen already.
    guard position >= self.position else { return }
    self.position = position
    self.doomed = Set(doomed)
    condemned = Set(containers.filter { $0.record.state == .condemned }.map(\.record.id))
    for (record, registered) in containers where !registered.isEmpty {
      checkDomains(of: record, cluster)
      let container = Container(record.places, registered)
      if let before = living.updateValue(container, forKey: record.id),
        before.places != container.places
      {
        let (old, now) = (before.shards(of: record.id), container.shards(of: record.id))
        let (left, taken) = (Set(old.map(\.name)), Set(now.map(\.name)))
        replaced += old.filter { !taken.contains($0.name) && !$0.stripes.isEmpty }
        new += now.filter { !left.contains($0.name) }
      }
    }
    let known = Set(containers.map(\.0.id))
    for id in living.keys.sorted() where !known.contains(id) {
      forgotten += living.removeValue(forKey: id)!.shards(of: id)
    }
  }

  /// No node has two shards of a container, where there are several nodes. One on a device that was retired is lost, and may
  /// have its new place after another that was: that may be on the same node, on another device.
  private func checkDomains(of record: ContainerRecord, _ cluster: SimulatedCluster) {
    guard cluster.nodes.count > 1 else { return }
    let slots = record.devices.compactMap { device -> Int? in
      guard let held = cluster.holder(of: device) else { return nil }
      if case .retired = held.store.state { return nil }
      return held.slot.number
    }
    guard Set(slots).count < slots.count else { return }
    cluster.fail(
      "shards lie in failure domains of their own", "\(record.id) is on nodes \(slots.sorted())")
  }

  /// Looks at the devices that are there.
  func check(_ cluster: SimulatedCluster) async {
    let written = new
    new = []
    _ = await settle(written, cluster) { shard, held, place in
      guard let missing = shard.stripes.subtracting(held).min() else { return }
      // Asking took time: what was condemned or left meanwhile may be dropped already.
      look(cluster)
      let id = shard.key.container
      guard !condemned.contains(id),
        living[id]?.shards(of: id).contains(where: { $0.name == shard.name }) == true
      else { return }
      cluster.fail(
        "a shard is whole before it takes its place",
        "\(place): \(shard.key) lacks stripe \(missing)")
    }
    let gone = forgotten.filter { !doomed.contains($0.name) }
    forgotten.removeAll { !doomed.contains($0.name) }
    forgotten += await settle(gone, cluster) { shard, held, place in
      guard let stripe = shard.stripes.intersection(held).min() else { return }
      cluster.fail(
        "what is deleted is returned",
        "\(place): \(shard.key.container) is forgotten, its stripe \(stripe) is there")
    }
    let left = replaced.filter { !doomed.contains($0.name) }
    replaced.removeAll { !doomed.contains($0.name) }
    replaced += await settle(left, cluster) { shard, held, place in
      // A block that was being mended may come after the others went.
      guard shard.stripes.isSubset(of: held) else { return }
      cluster.fail(
        "what is deleted is returned",
        "\(place): another took the place of \(shard.key), it is there")
    }
  }

  /// Has each shard judged by the stripes that its device has of it.
  ///
  /// - Returns: those whose device is not there, or does not say.
  private func settle(
    _ shards: [Shard], _ cluster: SimulatedCluster,
    judge: (Shard, _ held: Set<UInt64>, _ place: String) -> Void
  ) async -> [Shard] {
    var unseen: [Shard] = []
    for shard in shards {
      let device = shard.name.device
      guard let (slot, store) = cluster.holder(of: device) else {
        unseen.append(shard)
        continue
      }
      // What a damaged device forgets to have deleted comes back, and what it forgets to have is missing.
      if slot.isDamaged(store) { continue }
      do {
        let held = Set(try await store.list(shard.key).map(\.stripe))
        guard !slot.isDamaged(store), cluster.holder(of: device)?.store === store else { continue }
        judge(shard, held, "\(slot.name) \(store.path)")
      } catch {
        unseen.append(shard)
      }
    }
    return unseen
  }
}
