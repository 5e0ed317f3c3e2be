import Cluster
import Coding
import Messages
import Metadata
import Ring
import Service
import Wire

/// Moves shards from full devices to empty ones when nothing has to be repaired: after a node or a device was added.
///
/// In rounds: all moves of a round are planned from what devices say they hold; the next is planned when these are done, and
/// what they left behind is deleted and no longer counted.
extension Leadership {
  func balanceDevices() async {
    var quietSince = driver.now
    /// What cannot be moved now is not looked at again at once.
    var nextAt = driver.now
    while await pause(.seconds(2)) {
      guard isLeading(), configuration.balances else { continue }
      let doomed = await look { (machine) throws(StoreError) in
        try machine.doomedShards(limit: Self.roundLimit)
      }
      guard let doomed else { continue }
      // What a device that is away still has to drop counts only once it is back.
      if doomed.contains(where: { !server.nodes.isDown($0.device) }) || !repairs.active.isEmpty
        || !repairs.leaving.isEmpty
        || !repairs.silentSince.isEmpty || !repairs.plannedMoves.isEmpty
      {
        if !repairs.leaving.isEmpty { repairs.plannedMoves = [] }
        quietSince = driver.now
        continue
      }
      // Until every node has said what it holds now.
      guard driver.now - quietSince > configuration.helloInterval * 4, driver.now >= nextAt else {
        continue
      }
      await planRound()
      quietSince = driver.now
      nextAt = driver.now + (repairs.plannedMoves.isEmpty ? .seconds(60) : .zero)
    }
  }

  /// Moves of a round at most.
  private static let roundLimit = 4096

  private func planRound() async {
    var fill: [DeviceID: (used: UInt64, capacity: UInt64)] = [:]
    for report in server.nodes.all.flatMap(\.reports)
    where !report.isFailed && !server.nodes.isDown(report.id) {
      // What is not in use and cannot be used for data is not room.
      fill[report.id] = (report.used, report.used + report.free)
    }
    var balance = Balance(
      map: keeper.map, fill: fill,
      width: server.scheme.width,
      leastExcess: configuration.leastImbalance)
    var cursors: [DeviceID: ContainerID] = [:]
    var exhausted = Set<DeviceID>()
    var taken = Set<ContainerID>()
    var moves: [(container: ContainerID, move: ShardMove)] = []
    while moves.count < Self.roundLimit, isLeading(),
      let source = balance.sources.first(where: { !exhausted.contains($0) })
    {
      let after = cursors[source]
      let page = await look { (machine) throws(StoreError) in
        try machine.containers(on: source, after: after, limit: 64)
      }
      guard let page else { return }
      if page.count < 64 { exhausted.insert(source) }
      cursors[source] = page.last?.id
      for record in page {
        // One that may be written again would be sealed, small as it is.
        guard record.state == .sealed, record.stripeCount > 0,
          !taken.contains(record.id), let index = record.devices.firstIndex(of: source)
        else { continue }
        guard
          let target = balance.move(
            Self.shardByteCount(record, record.scheme), from: source, of: record.devices)
        else { continue }
        taken.insert(record.id)
        moves.append((record.id, ShardMove(shardIndex: UInt8(index), from: source, to: target)))
      }
    }
    guard !moves.isEmpty else { return }
    log.info("balancing devices", ["moves": moves.count])
    repairs.plannedMoves = moves
  }
}
