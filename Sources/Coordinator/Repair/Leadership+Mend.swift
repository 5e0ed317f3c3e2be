import Cluster
import Coding
import Messages
import Metadata
import Ring
import Service
import Wire

/// Blocks that are wrong or gone on devices that are otherwise well are made anew in place: the same key, the same bytes.
///
/// Nothing of the state changes, so there is no lease; whoever mends a block twice writes the same twice. What is wrong nodes
/// tell in their hellos until it is not; what is gone comes out when devices are compared with directories.
extension Leadership {
  /// Blocks of one shard that are to be written anew.
  struct Mend: Sendable {
    var job: UInt64
    var device: DeviceID
    var worker: NodeID
    var stripes: Set<UInt64>
    var heardAt: Duration
  }

  /// Stripes of one job.
  private static let stripeLimit = 1024

  func mendBlocks() async {
    while await pause(.seconds(1)) {
      guard isLeading() else { continue }
      await followMends()
      await beginMends()
    }
  }

  // MARK: Under way

  private func followMends() async {
    await withTaskGroup(of: Void.self) { group in
      for shard in repairs.mends.keys.sorted() {
        let mend = repairs.mends[shard]!
        group.addTask { [self] in await follow(mend, of: shard) }
      }
    }
  }

  private func follow(_ mend: Mend, of shard: ShardKey) async {
    guard let address = server.nodes.address(of: mend.worker) else { return }
    do throws(WireError) {
      let answer = try await server.client.call(
        RewriteStatus(jobs: [mend.job]), at: address, deadline: .seconds(3)
      ).answer
      guard repairs.mends[shard]?.job == mend.job, let job = answer.jobs.first else { return }
      switch job.state {
      case .running:
        repairs.mends[shard]!.heardAt = driver.now
        return
      case .unknown: break
      case .failed, .unreadable:
        log.warning(
          "blocks could not be mended",
          ["container": shard.container, "device": mend.device, "reason": job.reason])
      case .done:
        log.info(
          "blocks mended",
          ["container": shard.container, "device": mend.device, "count": mend.stripes.count])
        repairs.missing[shard]?.stripes.subtract(mend.stripes)
        if repairs.missing[shard]?.stripes.isEmpty == true { repairs.missing[shard] = nil }
      }
      // What is still wrong is told again; until then the node may not have noticed itself.
      repairs.mends[shard] = nil
      repairs.mendRestUntil[shard] = driver.now + .seconds(job.state == .done ? 3 : 15)
    } catch {
      if driver.now - mend.heardAt > configuration.nodeSilence * 2 { repairs.mends[shard] = nil }
    }
  }

  // MARK: New ones

  private func beginMends() async {
    let now = driver.now
    repairs.mendRestUntil = repairs.mendRestUntil.filter { $0.value > now }
    let suspected = server.nodes.suspectedBlocks
    var wrong: [ShardKey: (device: DeviceID, stripes: Set<UInt64>)] = [:]
    for (device, key) in server.nodes.damagedBlocks + suspected
    where key.shard.container.kind == .data {
      wrong[key.shard, default: (device, [])].stripes.insert(key.stripe)
    }
    // Elsewhere by now, or soon.
    repairs.missing = repairs.missing.filter {
      isListed($0.value.device) && !repairs.isLost($0.value.device)
    }
    for (shard, missing) in repairs.missing {
      wrong[shard, default: (missing.device, [])].stripes.formUnion(missing.stripes)
    }
    for shard in wrong.keys.sorted() {
      guard isLeading() else { return }
      let (device, stripes) = wrong[shard]!
      guard repairs.mends[shard] == nil, repairs.mendRestUntil[shard] == nil,
        !server.nodes.isDown(device), let worker = server.nodes.holder(of: device),
        repairs.mends.values.count(where: { $0.worker == worker })
          < configuration.rewritesPerNode
      else { continue }
      await begin(shard, stripes, on: device, by: worker)
    }
  }

  private func begin(
    _ shard: ShardKey, _ stripes: Set<UInt64>, on device: DeviceID, by worker: NodeID
  ) async {
    let content = await look { (machine) throws(StoreError) in
      try Self.content(of: shard.container, machine)
    }
    guard let content else { return }
    let index = Int(shard.shardIndex)
    // Old shards and what was never registered are deleted, not mended.
    guard let (record, all) = content, index < record.places.count,
      record.places[index] == ShardPlace(device: device, generation: shard.generation)
    else {
      repairs.missing[shard] = nil
      repairs.mendRestUntil[shard] = driver.now + .seconds(15)
      return
    }
    let wanted = all.filter { stripes.contains($0.stripe) && $0.layout.isStored(index) }
      .prefix(Self.stripeLimit)
    guard !wanted.isEmpty, let address = server.nodes.address(of: worker) else {
      repairs.missing[shard] = nil
      repairs.mendRestUntil[shard] = driver.now + .seconds(15)
      return
    }
    let job = driver.random() | 1 << 63
    let request = RewriteShards(
      job: job, epoch: epoch, sources: sources(of: record, mended: shard),
      targets: [
        RewriteShards.Target(
          shardIndex: shard.shardIndex, place: record.places[index], address: address)
      ],
      stripes: Array(wanted),
      right: right(
        to: record.id, generation: shard.generation, scheme: record.scheme,
        devices: record.devices, endStripe: record.nextStripe),
      byteRate: configuration.repairByteRate)
    do throws(WireError) {
      _ = try await server.client.call(request, at: address, deadline: .seconds(10))
      repairs.mends[shard] = Mend(
        job: job, device: device, worker: worker, stripes: Set(wanted.map(\.stripe)),
        heardAt: driver.now)
    } catch {
      if error.refusalCode == .staleEpoch {
        arbiter.lose(.deposed(epoch: error.staleEpoch ?? epoch))
      }
      repairs.mendRestUntil[shard] = driver.now + .seconds(5)
    }
  }
}
