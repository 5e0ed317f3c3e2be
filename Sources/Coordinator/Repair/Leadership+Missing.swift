import Cluster
import Messages
import Metadata
import Ring
import Service
import Wire

/// What devices lack without knowing it, as a comparison with directories finds: it is then mended.
extension Leadership {
  /// Notes shards that the device should have and has nothing of.
  ///
  /// - Parameter seen: all that it has of data.
  /// - Returns: whether it could be done.
  func findMissing(
    on device: DeviceID, _ address: SocketAddress, beside seen: Set<ShardKey>,
    for check: CheckRun? = nil
  ) async -> Bool {
    var after: ContainerID?
    while true {
      let start = after
      let page = await look { (machine) throws(StoreError) in
        try machine.containers(on: device, after: start, limit: 256)
      }
      guard let page else { return false }
      for record in page {
        // What is written now may be newer than the inventory; it is looked at once it is done.
        guard record.state == .sealed || record.state == .available,
          let index = record.devices.firstIndex(of: device)
        else { continue }
        let shard = record.places.shards(of: record.id)[index]
        guard !seen.contains(shard) else { continue }
        guard await noteMissing(shard, on: device, address, for: check) else { return false }
      }
      guard page.count == 256, let last = page.last else { return true }
      after = last.id
    }
  }

  /// Notes the registered stripes of a shard that its device lacks.
  ///
  /// - Returns: whether it could be done.
  func noteMissing(
    _ shard: ShardKey, on device: DeviceID, _ address: SocketAddress, for check: CheckRun? = nil
  ) async -> Bool {
    // Looked up before the listing: what is registered by then is in it.
    let content = await look { (machine) throws(StoreError) in
      try Self.content(of: shard.container, machine)
    }
    guard let content else { return false }
    guard let (record, stripes) = content, Self.isCurrent(shard, in: record) else { return true }
    var present = Set<UInt64>()
    do throws(WireError) {
      present = Set(
        try await server.client.call(
          ListShard(device: device, shard: shard), at: address, deadline: .seconds(10)
        ).answer.blocks.map(\.stripe))
    } catch {
      guard error.refusalCode == .noSuchBlock else { return note(error, from: device) }
    }
    let missing = stripes.filter {
      $0.layout.isStored(Int(shard.shardIndex)) && !present.contains($0.stripe)
    }
    guard !missing.isEmpty else { return true }
    check?.add(
      .missing, subject(device),
      "\(counted(missing.count, "block")) of shard \(shard.shardIndex) of \(shard.container) gone",
      isRepaired: check?.repairs == true)
    if check?.repairs == false { return true }
    log.warning(
      "blocks are missing",
      ["device": device, "container": shard.container, "count": missing.count])
    repairs.missing[shard] = (device, Set(missing.map(\.stripe)))
    // A mend that is under way may have written them before they went: its end says nothing of them.
    repairs.mends[shard]?.stripes.subtract(missing.map(\.stripe))
    return true
  }
}
