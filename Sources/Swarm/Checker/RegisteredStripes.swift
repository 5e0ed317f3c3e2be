internal import Cluster
internal import Messages
internal import Metadata
internal import ShardStore
internal import Simulation

/// What was ever seen registered, container by container, looked up now and then while the workload runs: of a
/// container that is forgotten the state has nothing any more. Loop-confined.
///
/// A container is forgotten once every device has dropped its shard, so none has a stripe of it afterwards that was
/// registered: not those either that were away meanwhile, from the moment when they are back. Shards that a rewrite left
/// behind outlive their container, though, until their device drops them.
final class RegisteredStripes: @unchecked Sendable {
  private struct Container {
    var places: [ShardPlace]
    var stripes: Set<UInt64> = []
  }
  private var living: [ContainerID: Container] = [:]
  /// Shards of forgotten containers that are still to be looked for on their devices.
  private var unseen: [(shard: DoomedShard, stripes: Set<UInt64>)] = []
  /// What devices have still to drop by the state last looked at.
  private var doomed: Set<DoomedShard> = []

  /// Takes in what the state of the coordinator that leads has now.
  func look(_ cluster: SimulatedCluster) {
    // While it leads nothing is half made anew.
    guard let leader = cluster.coordinators.first(where: { $0.mayLead && $0.isLeading }),
      let store = leader.storage.opened.last, let position = try? store.appliedPosition(),
      let containers = try? StateAudit.containers(in: store),
      let doomed = try? StateAudit.doomedShards(in: store)
    else { return }
    checkState(of: leader, store, position, cluster)
    self.doomed = Set(doomed)
    for (record, registered) in containers where !registered.isEmpty {
      living[record.id, default: Container(places: record.places)].places = record.places
      living[record.id]!.stripes.formUnion(registered.map(\.stripe))
    }
    let known = Set(containers.map(\.0.id))
    // A leader's state may have been made anew, and not have come so far yet.
    for id in living.keys.sorted() where !known.contains(id) && id.number <= position {
      let container = living.removeValue(forKey: id)!
      for (place, shard) in zip(container.places, container.places.shards(of: id)) {
        unseen.append((DoomedShard(device: place.device, shard: shard), container.stripes))
      }
    }
  }

  /// A state fits together at every position, whatever is under way.
  private func checkState(
    of leader: CoordinatorSlot, _ store: MemoryStore, _ position: UInt64,
    _ cluster: SimulatedCluster
  ) {
    let problem: String?
    do { problem = try StateAudit.violations(in: store).first } catch { problem = "\(error)" }
    guard let problem else { return }
    cluster.fail(
      "the state fits together", "\(leader.name) at position \(position): \(problem)")
  }

  /// Looks at the devices that are there for shards of forgotten containers.
  func check(_ cluster: SimulatedCluster) async {
    var left: [(shard: DoomedShard, stripes: Set<UInt64>)] = []
    let looked = unseen
    unseen = []
    for (lost, stripes) in looked {
      guard !doomed.contains(lost), let (slot, store) = cluster.holder(of: lost.device) else {
        left.append((lost, stripes))
        continue
      }
      // What a damaged device forgets to have deleted comes back.
      if slot.isDamaged(store) { continue }
      do {
        let stripe = try await store.list(lost.shard).map(\.stripe).first { stripes.contains($0) }
        guard let stripe, !slot.isDamaged(store), cluster.holder(of: lost.device)?.store === store
        else { continue }
        cluster.fail(
          "what is deleted is returned",
          "\(slot.name) \(store.path): \(lost.shard.container) is forgotten, its stripe \(stripe) is there"
        )
      } catch {
        left.append((lost, stripes))
      }
    }
    unseen += left
  }
}
