import Messages
import Metadata
import Ring
import Service
import Wire

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
    let isOver = repairs.active.isEmpty && !repairs.liveness.values.contains(where: isWorthIt)
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

  func isWorthIt(_ liveness: Liveness) -> Bool {
    let least = repairs.collectBelow == nil ? configuration.leastDead : 0
    let share = max(configuration.collectBelow, repairs.collectBelow ?? 0)
    return liveness.deadByteCount >= max(1, least)
      && Double(liveness.liveByteCount) < Double(liveness.dataByteCount) * share
  }
}

extension CoordinatorServer {
  func collectGarbage(_ request: CollectGarbage) async throws(Refusal) -> CollectGarbage.Answer {
    let leadership = try leading()
    let repairs = leadership.repairs
    if let below = request.below {
      repairs.collectBelow = Double(below) / 100
      log.info("dead bytes are collected", ["below": "\(below) %"])
    }
    var answer = CollectGarbage.Answer()
    try await eachContainer { (record) throws(Refusal) in
      guard record.dataByteCount > 0, record.state == .sealed || record.state == .available
      else { return }
      answer.containers += 1
      guard let liveness = repairs.liveness[record.id],
        liveness.dataByteCount == record.dataByteCount, liveness.edgeCount <= record.edgeCount
      else { return }
      answer.lookedAt += 1
      answer.dataBytes += liveness.dataByteCount
      answer.deadBytes += liveness.deadByteCount
      if leadership.isWorthIt(liveness) {
        answer.collectContainers += 1
        answer.collectBytes += liveness.deadByteCount
      }
    }
    answer.trashCount = try await query(.strong) { (machine) throws(StoreError) in
      machine.trashCount
    }
    return answer
  }
}
