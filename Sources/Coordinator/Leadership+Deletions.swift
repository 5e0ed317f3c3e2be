import Cluster
import Messages
import Metadata
import Ring
import Service
import Wire

extension Leadership {
  /// Returns the edges of what was deleted, a bounded number of steps at a time, while there is any.
  func returnTrash() async {
    while !isOver {
      var left = await look { (machine) throws(StoreError) in machine.trashCount } ?? 0
      while left > 0 && isLeading() {
        let isSlow = driver.meets(.edgesReturnedSlowly)
        // Fewer than what is due at a time as a rule, so that what comes of it waits for a later turn.
        let stepLimit: UInt32 = isSlow ? UInt32(1 + driver.random() % 64) : 2048
        do throws(Refusal) {
          let (_, outcome) = try await submit(.returnEdges(limit: stepLimit))
          guard case .number(let rest) = outcome else { break }
          left = rest
          if isSlow { break }
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
      for (device, shard) in zip(container.devices, container.places.shards(of: container.id))
      where deletions.deleted[container.id]?.contains(device) != true && isListed(device) {
        shards[device, default: []].append(shard)
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
  func isListed(_ device: DeviceID) -> Bool {
    guard let node = keeper.map.node(holding: device) else { return false }
    return node.devices.contains { $0.id == device && $0.state != .retired }
  }

  func delete(_ shards: [ShardKey], from device: DeviceID) async -> Bool {
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
  func note(_ error: WireError, from device: DeviceID) -> Bool {
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
          let shards = grant.places.shards(of: grant.container)
          for (device, shard) in zip(grant.devices, shards) {
            group.addTask { [self] in
              await clear(grant, shard, on: device)
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
  private func clear(_ grant: EndedGrant, _ shard: ShardKey, on device: DeviceID) async -> Bool {
    if !isListed(device) { return true }
    guard !server.nodes.isDown(device), let address = server.nodes.address(of: device) else {
      return false
    }
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
}
