import Cluster
import Messages
import Metadata
import Ring

/// Containers of which much is dead are packed anew without it: deletions and overwriting leave them so, as a container lives for
/// as long as anything in it does.
///
/// A container is looked through, edges and directory, when it is new to this leader, when it has lost edges since, and as often
/// as devices are compared.
extension Leadership {
  /// What of a container is alive, as of the last look through it.
  struct Liveness: Sendable {
    /// Bytes of groups with something alive in them, of `dataByteCount`.
    var liveByteCount: UInt64
    var dataByteCount: UInt64
    /// The most edges it was seen with since.
    var edgeCount: UInt64
    var lookedAt: Duration
    /// The round of looking through all containers that saw it last.
    var round: UInt64

    var deadByteCount: UInt64 { dataByteCount - min(dataByteCount, liveByteCount) }
  }

  enum Worth {
    case keeping
    case collecting
    /// Not known: enough was looked through in this turn.
    case unknown
  }

  /// Edges and chunks looked through in one turn.
  private static let lookLimit: UInt64 = 1 << 17

  /// Begins a turn of looking at containers.
  func beginLooking() { repairs.lookBudget = Self.lookLimit }

  /// Ends a round of looking at all containers: those that are gone are forgotten.
  func endRound() {
    repairs.liveness = repairs.liveness.filter { $0.value.round == repairs.round }
    repairs.round += 1
    let isOver = repairs.active.isEmpty && !repairs.liveness.values.contains { isWorthIt($0) }
    if isOver { repairs.collectBelow = nil }
  }

  /// Whether a container has so much that is dead that writing the rest anew is worth it.
  func worth(of record: ContainerRecord) async -> Worth {
    guard record.dataByteCount > 0, record.edgeCount <= StateMachine.thinningLimit else {
      return .keeping
    }
    var known = repairs.liveness[record.id]
    if let liveness = known,
      liveness.dataByteCount != record.dataByteCount || record.edgeCount < liveness.edgeCount
        || driver.now - liveness.lookedAt > configuration.inventoryInterval
    {
      known = nil
    }
    if known == nil {
      guard repairs.lookBudget > 0 else { return .unknown }
      let cost = record.edgeCount + record.chunkCount
      repairs.lookBudget -= min(repairs.lookBudget, cost)
      let live = await look { (machine) throws(StoreError) in
        try machine.liveByteCount(of: record.id)
      }
      guard let live, let live else { return .keeping }
      known = Liveness(
        liveByteCount: live, dataByteCount: record.dataByteCount, edgeCount: record.edgeCount,
        lookedAt: driver.now, round: repairs.round)
    }
    known!.edgeCount = max(known!.edgeCount, record.edgeCount)
    known!.round = repairs.round
    repairs.liveness[record.id] = known
    return isWorthIt(known!) ? .collecting : .keeping
  }

  func isWorthIt(_ liveness: Liveness) -> Bool { isWorthIt(liveness, below: repairs.collectBelow) }

  /// - Parameter asked: what an operator wants collected.
  func isWorthIt(_ liveness: Liveness, below asked: Double?) -> Bool {
    let least = asked == nil ? configuration.leastDead : 0
    let share = max(configuration.collectBelow, asked ?? 0)
    return liveness.deadByteCount >= max(1, least)
      && Double(liveness.liveByteCount) < Double(liveness.dataByteCount) * share
  }

  /// Stripes that a lease took out of a directory, when nothing came of it: its old shards stay and are not to keep them. What is
  /// away now is seen to when devices are compared.
  func deleteThinned(_ id: ContainerID) async {
    let record = await look { (machine) throws(StoreError) in try machine.container(id) }
    guard let record, let record, record.state == .sealed else { return }
    for (device, shard) in zip(record.devices, record.places.shards(of: id)) {
      guard isLeading() else { return }
      guard !server.nodes.isDown(device), let address = server.nodes.address(of: device) else {
        continue
      }
      _ = await deleteUnregistered(shard, from: device, address, for: nil)
    }
  }
}
