import Cluster
import Coding
import Messages
import Metadata
import Ring
import Service
import Wire

/// Containers that are not as they would be made now are made so, when nothing has to be repaired: those with another scheme
/// than they are to have, with many short stripes or with much that is dead are packed anew, and shards that lie closer
/// together than they need go elsewhere.
///
/// Nothing of it need be remembered: all containers are looked through, a page at a time, again and again.
extension Leadership {
  /// Containers looked at in one turn.
  private static let pageLimit = 256

  /// The scheme that a container is to have.
  func wantedScheme(of record: ContainerRecord) -> Scheme { server.scheme(of: record.domain) }

  /// Notes for how long there have been so many failure domains with room: what is there for a moment only is no reason to
  /// write everything anew.
  func noteDomains() {
    let live = server.placement.liveDomains().count
    repairs.domainsSince.removeLast(max(0, repairs.domainsSince.count - live))
    while repairs.domainsSince.count < live { repairs.domainsSince.append(driver.now) }
  }

  /// Whether there have been failure domains for the scheme long enough.
  func isPlaceable(_ scheme: Scheme) -> Bool {
    guard repairs.domainsSince.count >= scheme.width else { return false }
    return driver.now - repairs.domainsSince[scheme.width - 1] >= configuration.repackAfter
  }

  /// Begins what there is time for on a page of containers; the next turn goes on behind it.
  func beginRepacks() async {
    beginLooking()
    let after = repairs.repackCursor
    let page = await look { (machine) throws(StoreError) in
      try machine.containers(after: after, limit: Self.pageLimit)
    }
    guard let page, isLeading() else { return }
    for record in page {
      guard isLeading() else { return }
      switch await improve(record) {
      case .nothing: repairs.repackCursor = record.id
      case .begun: repairs.repackCursor = record.id
      // Looked at again with the next turn.
      case .busy: return
      }
    }
    if page.count < Self.pageLimit {
      repairs.repackCursor = nil
      endRound()
    }
  }

  private enum Improvement {
    case nothing
    case begun
    /// It would be, had a node the time, or it was not looked at.
    case busy
  }

  private func improve(_ record: ContainerRecord) async -> Improvement {
    guard record.state == .sealed || record.state == .available, record.stripeCount > 0,
      repairs.active[record.id] == nil, repairs.restUntil[record.id] == nil
    else { return .nothing }
    let wanted = wantedScheme(of: record)
    // What has losses is repaired first. Where that cannot be, for want of failure domains, fewer may be enough for what it is to
    // become.
    if repairs.waiting.contains(record.id) {
      guard record.scheme != wanted, isPlaceable(wanted) else { return .nothing }
      return await repack(record, wanted)
    }
    guard
      record.devices.allSatisfy({ !repairs.isLeaving($0) && repairs.silentSince[$0] == nil })
    else { return .nothing }
    if record.scheme != wanted || Self.isLoose(record), isPlaceable(wanted) {
      return await repack(record, wanted)
    }
    switch await worth(of: record) {
    case .unknown: return .busy
    case .keeping: return await spread(record)
    case .collecting: return await repack(record, isPlaceable(wanted) ? wanted : record.scheme)
    }
  }

  private func repack(_ record: ContainerRecord, _ scheme: Scheme) async -> Improvement {
    let byteCount = Self.shardByteCount(record, scheme)
    let placement = Placement(
      map: keeper.map, free: freeForRewrites(), leastFree: configuration.leastFree + byteCount,
      groupCache: server.placementGroups)
    let avoided = Set(repairs.refusedUntil.keys).union(repairs.silentSince.keys)
    repairs.repackTurn &+= 1
    let turn = repairs.repackTurn
    func devices(avoiding avoided: Set<DeviceID>) -> [DeviceID]? {
      let chosen = placement.choose(class: scheme, avoiding: avoided.sorted(), turn: turn)
      return chosen?.scheme == scheme ? chosen?.devices : nil
    }
    guard
      let devices = devices(avoiding: avoided.union(server.nodes.degraded))
        ?? devices(avoiding: avoided)
    else { return .nothing }
    let work = RewriteRecord.Work.repack(scheme, devices: devices)
    guard let worker = worker(of: RewriteRecord(id: 0, container: record.id, work: work)),
      repairs.count(on: worker) < configuration.rewritesPerNode
    else { return .busy }
    repairs.waiting.remove(record.id)
    await begin(
      record,
      .beginRepack(
        record.id, scheme: scheme, devices: devices,
        // What is dead is not written again.
        isThinned: record.edgeCount <= StateMachine.thinningLimit), work,
      shardByteCount: byteCount)
    return .begun
  }

  /// Moves a shard of a container that shares a failure domain, or more of its path than it need, with others: after the map
  /// has changed.
  private func spread(_ record: ContainerRecord) async -> Improvement {
    guard isPlaceable(record.scheme) else { return .nothing }
    let byteCount = Self.shardByteCount(record, record.scheme)
    var avoided = Set(repairs.refusedUntil.keys).union(repairs.silentSince.keys)
    let free = freeForRewrites()
    let placement = Placement(map: keeper.map, free: free, leastFree: configuration.leastFree)
    guard
      placement.closestShard(of: record.devices, byteCount: byteCount, avoiding: avoided) != nil
    else { return .nothing }
    avoided.formUnion(busyDevices(free))
    guard
      let (shard, device) = placement.closestShard(
        of: record.devices, byteCount: byteCount, avoiding: avoided)
    else { return .busy }
    await begin(
      record,
      [ShardMove(shardIndex: UInt8(shard), from: record.devices[shard], to: device)])
    return .begun
  }

  /// Whether a container is full of stripes that are not half full themselves. One that is packed is not: of two stripes next to
  /// each other the second did not fit into the first.
  static func isLoose(_ record: ContainerRecord) -> Bool {
    let capacity = UInt64(StripeLayout.capacity(of: record.scheme))
    return record.state == .sealed && record.stripeCount >= looseStripes
      && record.stripeCount > 2 * (record.dataByteCount / capacity + 1)
  }

  /// Fewer stripes are not worth it.
  private static let looseStripes: UInt64 = 16

  /// About what each shard of a container would occupy on its device under `scheme`.
  static func shardByteCount(_ record: ContainerRecord, _ scheme: Scheme) -> UInt64 {
    record.dataByteCount / UInt64(scheme.k) + record.stripeCount * 2 * UInt64(StripeLayout.unit)
  }

  /// What containers that are not as they are to be would be written with: how many, and bytes.
  func repackWork(_ record: ContainerRecord) -> UInt64? {
    let scheme = wantedScheme(of: record)
    guard record.scheme != scheme || Self.isLoose(record), record.stripeCount > 0 else {
      return nil
    }
    return record.dataByteCount / UInt64(scheme.k) * UInt64(scheme.width)
  }
}
