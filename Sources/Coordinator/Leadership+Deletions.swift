import Cluster
import Messages
import Metadata
import Ring
import Service
import Wire

extension Leadership {
  /// Returns the edges of what was deleted, a bounded number of steps at a time, while there is any.
  func returnTrash() async {
    let stepLimit: UInt32 = 2048
    while !isOver {
      var left = await look { (machine) throws(StoreError) in machine.trashCount } ?? 0
      while left > 0 && isLeading() {
        do throws(Refusal) {
          let (_, outcome) = try await submit(.returnEdges(limit: stepLimit))
          guard case .number(let rest) = outcome else { break }
          left = rest
        } catch {
          break
        }
      }
      // Woken by commands that make trash; a look now and then costs next to nothing.
      guard await pause(.seconds(1)) else { return }
    }
  }

  /// Containers, or ended grants, looked at in one turn: one page after the other, from the first again after the
  /// last, so that those whose devices are down do not hide the others.
  private static let pageLimit = 256

  /// What one turn of ``deleteContainers()`` remembers for the next.
  private struct Deletions {
    var cursor: ContainerID?
    /// When this leader saw that they are condemned; those that are forgotten leave.
    var condemnedAt: [ContainerID: Duration] = [:]
    /// Devices that have deleted their shards.
    var deleted: [ContainerID: Set<DeviceID>] = [:]
  }

  /// Deletes the shards of condemned containers from their devices after the grace, then has them
  /// forgotten. A device that is down is asked again; one that is retired or not listed counts as done.
  func deleteContainers() async {
    var deletions = Deletions()
    while await pause(.seconds(1)) {
      guard isLeading() else { continue }
      await deleteContainers(&deletions)
    }
  }

  private func deleteContainers(_ deletions: inout Deletions) async {
    let after = deletions.cursor
    let page = await look { (machine) throws(StoreError) in
      try machine.containersToDrop(limit: Self.pageLimit, after: after)
    }
    guard let page else { return }
    deletions.cursor = page.count < Self.pageLimit ? nil : page.last?.id
    let now = driver.now
    var shards: [DeviceID: [ShardKey]] = [:]
    var due: [ContainerRecord] = []
    for container in page {
      let since = deletions.condemnedAt[container.id] ?? now
      deletions.condemnedAt[container.id] = since
      guard now - since >= configuration.deletionGrace else { continue }
      due.append(container)
      for (index, device) in container.devices.enumerated()
      where deletions.deleted[container.id]?.contains(device) != true && isListed(device) {
        shards[device, default: []].append(
          ShardKey(
            container: container.id, generation: container.generation,
            shardIndex: UInt8(index)))
      }
    }
    guard !due.isEmpty else { return }
    for device in shards.keys.sorted() where !server.nodes.isDown(device) {
      guard isLeading() else { return }
      if await delete(shards[device]!, from: device) {
        for shard in shards[device]! {
          deletions.deleted[shard.container, default: []].insert(device)
        }
      }
    }
    let done = due.filter { container in
      container.devices.allSatisfy {
        deletions.deleted[container.id]?.contains($0) == true || !isListed($0)
      }
    }.map(\.id)
    guard !done.isEmpty else { return }
    do throws(Refusal) {
      _ = try await submit(.forgetContainers(done))
      log.info("containers deleted", ["count": done.count])
    } catch {
      // They are deleted again in a later turn, by us or by the next leader: it does no harm.
      return
    }
    for id in done {
      deletions.condemnedAt[id] = nil
      deletions.deleted[id] = nil
    }
  }

  /// Whether the device may still hold something of ours: it is in the map and not retired.
  private func isListed(_ device: DeviceID) -> Bool {
    guard let node = keeper.map.node(holding: device) else { return false }
    return node.devices.contains { $0.id == device && $0.state != .retired }
  }

  private func delete(_ shards: [ShardKey], from device: DeviceID) async -> Bool {
    guard let address = server.nodes.address(of: device) else { return false }
    do throws(WireError) {
      _ = try await server.client.call(
        DeleteShards(device: device, epoch: epoch, shards: shards), at: address,
        deadline: .seconds(10))
      return true
    } catch {
      return note(error, from: device)
    }
  }

  /// - Returns: whether the device has nothing of ours for sure.
  private func note(_ error: WireError, from device: DeviceID) -> Bool {
    switch error.refusalCode {
    case .staleEpoch?:
      arbiter.lose(.deposed(epoch: error.staleEpoch ?? epoch))
      return false
    case .noSuchDevice?:
      // Another incarnation answers there: this one is gone.
      return true
    default: return false
    }
  }

  /// Has nodes drop the stripes that writers left unregistered, then forgets the grants.
  func clearGrants() async {
    var cursor: UInt64 = 0
    while await pause(.seconds(2)) {
      guard isLeading() else { continue }
      let after = cursor
      let page = await look { (machine) throws(StoreError) in
        try machine.endedGrants(limit: Self.pageLimit, after: after)
      }
      guard let page else { continue }
      cursor = page.count < Self.pageLimit ? 0 : page.last?.id ?? 0
      var cleared: [UInt64] = []
      for grant in page {
        guard isLeading() else { break }
        // Not before all its devices answer: it would be looked at again and again in vain.
        guard grant.devices.allSatisfy({ !isListed($0) || !server.nodes.isDown($0) }) else {
          continue
        }
        let results = await withTaskGroup(of: Bool.self) { group in
          for (index, device) in grant.devices.enumerated() {
            group.addTask { [self] in
              await clear(grant, shard: index, on: device)
            }
          }
          return await group.reduce(true) { $0 && $1 }
        }
        if results { cleared.append(grant.id) }
      }
      guard !cleared.isEmpty else { continue }
      do throws(Refusal) {
        _ = try await submit(.clearEndedGrants(cleared))
      } catch {
        // They are looked at again in a later turn, by us or by the next leader.
      }
    }
  }

  /// - Returns: whether the device surely holds nothing unregistered of the grant.
  private func clear(_ grant: EndedGrant, shard index: Int, on device: DeviceID) async -> Bool {
    if !isListed(device) { return true }
    guard !server.nodes.isDown(device), let address = server.nodes.address(of: device) else {
      return false
    }
    let shard = ShardKey(
      container: grant.container, generation: grant.generation, shardIndex: UInt8(index))
    let unregistered = grant.unregistered
    do throws(WireError) {
      let listing = try await server.client.call(
        ListShard(device: device, shard: shard), at: address, deadline: .seconds(5)
      ).answer
      var next = 0
      var stray: [UInt64] = []
      // Both ascend.
      for block in listing.blocks {
        while next < unregistered.count, unregistered[next].upperBound <= block.stripe { next += 1 }
        if next == unregistered.count { break }
        if unregistered[next].contains(block.stripe) { stray.append(block.stripe) }
      }
      guard !stray.isEmpty else { return true }
      _ = try await server.client.call(
        DeleteStripes(device: device, epoch: epoch, shard: shard, stripes: stray), at: address,
        deadline: .seconds(10))
      return true
    } catch {
      if error.refusalCode == .noSuchBlock { return true }
      return note(error, from: device)
    }
  }

  /// Compares what devices hold with what is known, and deletes what nothing names.
  ///
  /// Links and checkpoints: those that the root does not name any more, which take-overs and failed attempts left behind
  /// or a checkpoint made superfluous. Data: shards of containers that are forgotten, from devices that were not listed
  /// then or of writers that went on under a grant that had ended.
  func deleteStrays() async {
    var comparedAt = driver.now
    var isFirst = true
    /// Devices to look at; whether also at their data.
    var unclean: [DeviceID: Bool] = [:]
    while await pause(.seconds(5)) {
      guard isLeading() else { continue }
      let withData = isFirst || driver.now - comparedAt > configuration.inventoryInterval
      if withData || hasOldLinks {
        for device in keeper.map.nodes.flatMap(\.devices) {
          unclean[device.id] = withData || unclean[device.id] == true
        }
        if withData { comparedAt = driver.now }
        hasOldLinks = false
        isFirst = false
      }
      // One that is away is seen to when it is back.
      for device in unclean.keys.sorted() {
        guard isLeading() else { break }
        if !isListed(device) {
          unclean[device] = nil
        } else if !server.nodes.isDown(device),
          await deleteStrays(on: device, withData: unclean[device]!)
        {
          unclean[device] = nil
        }
      }
    }
  }

  /// - Returns: whether the device surely has none that is not named.
  private func deleteStrays(on device: DeviceID, withData: Bool) async -> Bool {
    guard let address = server.nodes.address(of: device) else { return false }
    // Data containers sort before links.
    var after =
      withData
      ? nil
      : ShardKey(
        container: ContainerID(.data, 1 << 56 - 1), generation: .max, shardIndex: .max)
    while true {
      let page: Inventory.Answer
      do throws(WireError) {
        page = try await server.client.call(
          Inventory(device: device, after: after), at: address, deadline: .seconds(10)
        ).answer
      } catch {
        // Asked again after a while.
        return false
      }
      // What is known now: the inventory is older, so nothing newer can be in it by mistake.
      let shards = page.shards.map(\.shard)
      guard let forgotten = await forgotten(shards), let stray = strayLinks(shards) else {
        return false
      }
      let doomed = forgotten + stray
      if !doomed.isEmpty {
        guard isLeading(), await delete(doomed, from: device) else { return false }
        log.info(
          "stray shards deleted",
          ["device": device, "data": forgotten.count, "links": stray.count])
      }
      guard !page.isComplete, let lastKey = shards.last else { return true }
      after = lastKey
    }
  }

  /// Those of data containers that were granted once and are forgotten: a container is numbered by the position that
  /// granted it, so one at or below the applied position that is not known will never be again.
  private func forgotten(_ shards: [ShardKey]) async -> [ShardKey]? {
    let data = shards.filter { $0.container.kind == .data }
    if data.isEmpty { return [] }
    return await look { (machine) throws(StoreError) in
      var forgotten: [ShardKey] = []
      for shard in data where shard.container.number <= machine.appliedPosition {
        if try machine.container(shard.container) == nil { forgotten.append(shard) }
      }
      return forgotten
    }
  }

  /// Those of links and checkpoints that the root does not name. It alone decides; those of later epochs, and those
  /// this leader may be writing, are left alone.
  private func strayLinks(_ shards: [ShardKey]) -> [ShardKey]? {
    guard isLeading(), let root = arbiter.root, let last = root.links.last else { return nil }
    let named = Set(
      root.links.map { [$0.container.raw, $0.generation] }
        + (root.checkpoint?.containers ?? []).map { [$0.container.raw, $0.generation] })
    return shards.filter { shard in
      if shard.container.kind == .data { return false }
      if named.contains([shard.container.raw, shard.generation]) { return false }
      if shard.generation != epoch { return shard.generation < epoch }
      switch shard.container.kind {
      case .data: return false
      case .link: return shard.container.number < last.number
      case .checkpoint: return shard.container.number < checkpointUnderWay ?? .max
      }
    }
  }
}
