import Cluster
import Messages
import Metadata
import Ring
import Service
import Wire

extension Leadership {
  /// Compares what devices hold with what is known, and deletes what nothing names.
  ///
  /// Links and checkpoints: those that the root does not name any more, which take-overs and failed attempts left behind
  /// or a checkpoint made superfluous. Data: shards of containers that are forgotten, from devices that were not listed
  /// then, and blocks of writers that went on under a grant that had ended. What devices lack is noted on the way
  /// (`Repair/Leadership+Missing.swift`).
  func deleteStrays() async {
    var comparedAt = driver.now
    var comparisons = 0
    var tallies: [ContainerID: Tallies] = [:]
    /// Records that devices said opening had lost.
    var lostCounts: [DeviceID: UInt64] = [:]
    var turn = 0
    while await pause(.seconds(1)) {
      turn += 1
      guard isLeading(), turn.isMultiple(of: 5) || isShortOfRoom && hasOldLinks else { continue }
      let withData = comparisons == 0 || driver.now - comparedAt > configuration.inventoryInterval
      if withData || hasOldLinks {
        for device in keeper.map.nodes.flatMap(\.devices) {
          unclean[device.id] = withData || unclean[device.id] == true
        }
        if withData {
          comparedAt = driver.now
          comparisons += 1
        }
        hasOldLinks = false
        isShortOfRoom = false
      }
      for report in server.nodes.all.flatMap(\.reports)
      where report.lostCount > lostCounts[report.id, default: 0] {
        lostCounts[report.id] = report.lostCount
        unclean[report.id] = true
        comparisons = max(comparisons, 2)
      }
      // One that is away is seen to when it is back.
      for device in unclean.keys.sorted() {
        guard isLeading() else { break }
        if !isListed(device) {
          unclean[device] = nil
        } else if !server.nodes.isDown(device) {
          // Directories are read through, which a new leader has no time for at first.
          let isDone = await deleteStrays(
            on: device, withData: unclean[device]!, withStripes: comparisons > 1, &tallies)
          if isDone { unclean[device] = nil }
        }
      }
    }
  }

  /// Compares all of a device for a check, which is told what disagrees and says whether anything is done about it.
  ///
  /// - Returns: whether it could be done.
  func compareAll(_ device: DeviceID, for check: CheckRun) async -> Bool {
    var tallies: [ContainerID: Tallies] = [:]
    return await deleteStrays(on: device, withData: true, withStripes: true, &tallies, for: check)
  }

  /// - Parameter check: told of each disagreement; nil: all is acted on.
  /// - Returns: whether the device surely has none that is not named.
  private func deleteStrays(
    on device: DeviceID, withData: Bool, withStripes: Bool,
    _ tallies: inout [ContainerID: Tallies], for check: CheckRun? = nil
  ) async -> Bool {
    guard let address = server.nodes.address(of: device) else { return false }
    // Data containers sort before links.
    var seen = Set<ShardKey>()
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
      guard let forgotten = await forgotten(shards, on: device), var stray = strayLinks(shards)
      else {
        return false
      }
      // What a checkpoint has just made superfluous goes within seconds: no disagreement.
      if check != nil, hasOldLinks || unclean[device] != nil { stray = [] }
      for shard in forgotten { tallies[shard.container] = nil }
      var doomed = forgotten + stray
      if check != nil {
        guard let held = await held(doomed, by: device, address) else { return false }
        doomed = held
      }
      for shard in doomed {
        check?.add(
          .stray, subject(device),
          "shard \(shard.shardIndex) of \(shard.container), generation \(shard.generation), is named by nothing",
          isRepaired: check?.repairs == true)
      }
      if !doomed.isEmpty, check?.repairs != false {
        guard isLeading(), await delete(doomed, from: device) else { return false }
        log.info(
          "stray shards deleted",
          ["device": device, "data": forgotten.count, "links": stray.count])
      }
      if withStripes {
        guard await compareStripes(page.shards, on: device, address, &tallies, for: check)
        else { return false }
        seen.formUnion(shards)
      }
      guard !page.isComplete, let lastKey = shards.last else { break }
      after = lastKey
    }
    return withData && withStripes
      ? await findMissing(on: device, address, beside: seen, for: check) : true
  }

  /// Those of data containers that were granted once and are forgotten, or that were written anew elsewhere: containers
  /// and generations are numbered by positions, so one at or below the applied position that is not known will never be
  /// again.
  private func forgotten(_ shards: [ShardKey], on device: DeviceID) async -> [ShardKey]? {
    let data = shards.filter { $0.container.kind == .data }
    if data.isEmpty { return [] }
    return await look { (machine) throws(StoreError) in
      var forgotten: [ShardKey] = []
      for shard in data
      where shard.container.number <= machine.appliedPosition
        && shard.generation <= machine.appliedPosition
      {
        // It goes by itself, after the grace that readers get; also when its container is forgotten before.
        if try machine.isDoomed(DoomedShard(device: device, shard: shard)) { continue }
        guard let record = try machine.container(shard.container) else {
          forgotten.append(shard)
          continue
        }
        let index = Int(shard.shardIndex)
        if index < record.places.count, record.places[index].generation == shard.generation {
          continue
        }
        if try machine.rewrite(of: shard.container)?.id == shard.generation { continue }
        forgotten.append(shard)
      }
      return forgotten
    }
  }

  /// Those that a device still holds. One that was named when the device told of it may have been deleted since, and its name
  /// with it: that is no disagreement.
  private func held(_ shards: [ShardKey], by device: DeviceID, _ address: SocketAddress) async
    -> [ShardKey]?
  {
    var held: [ShardKey] = []
    for shard in shards {
      do throws(WireError) {
        let listing = try await server.client.call(
          ListShard(device: device, shard: shard), at: address, deadline: .seconds(5)
        ).answer
        if !listing.blocks.isEmpty { held.append(shard) }
      } catch {
        guard error.refusalCode == .noSuchBlock || note(error, from: device) else { return nil }
      }
    }
    return held
  }

  /// Which blocks each shard of a container has by its directory: looked up once for each number of stripes and each
  /// directory, for it is long.
  private struct Tallies {
    var stripeCount: UInt64
    var places: [ShardPlace]
    var ofShards: [StripeTally]
  }

  /// Deletes the blocks that no directory names and none can name any more. Clearing an ended grant sees to them once;
  /// these came later, from a writer that was cut off, or stopped, while its session expired. Notes those that are missing.
  ///
  /// - Returns: whether it could be done.
  private func compareStripes(
    _ entries: [Inventory.Entry], on device: DeviceID, _ address: SocketAddress,
    _ tallies: inout [ContainerID: Tallies], for check: CheckRun?
  ) async -> Bool {
    let entries = entries.filter { $0.shard.container.kind == .data }
    if entries.isEmpty { return true }
    let records = await look { (machine) throws(StoreError) in
      var records: [ContainerRecord?] = []
      for entry in entries { records.append(try machine.container(entry.shard.container)) }
      return records
    }
    guard let records else { return false }
    for (entry, record) in zip(entries, records) {
      let shard = entry.shard
      guard let record, Self.isCurrent(shard, in: record) else { continue }
      let known = tallies[record.id]
      if known?.stripeCount != record.stripeCount || known?.places != record.places {
        guard let fresh = await tally(record.id) else { return false }
        tallies[record.id] = fresh
      }
      // Forgotten meanwhile: none to compare with.
      guard let known = tallies[record.id], known.ofShards.count > shard.shardIndex else {
        continue
      }
      if entry.stripes == known.ofShards[Int(shard.shardIndex)] { continue }
      guard await noteMissing(shard, on: device, address, for: check) else { return false }
      guard isLeading(), await deleteUnregistered(shard, from: device, address, for: check)
      else {
        return false
      }
    }
    return true
  }

  static func isCurrent(_ shard: ShardKey, in record: ContainerRecord) -> Bool {
    record.state != .condemned && Int(shard.shardIndex) < record.places.count
      && record.places[Int(shard.shardIndex)].generation == shard.generation
  }

  private func tally(_ id: ContainerID) async -> Tallies? {
    await look { (machine) throws(StoreError) in
      guard let record = try machine.container(id) else {
        return Tallies(stripeCount: 0, places: [], ofShards: [])
      }
      var tallies = Tallies(
        stripeCount: record.stripeCount, places: record.places,
        ofShards: record.devices.map { _ in StripeTally() })
      for stripe in try machine.storedStripes(of: id) {
        for index in stripe.layout.storedBlocks where index < tallies.ofShards.count {
          tallies.ofShards[index].add(stripe.stripe)
        }
      }
      return tallies
    }
  }

  func deleteUnregistered(
    _ shard: ShardKey, from device: DeviceID, _ address: SocketAddress, for check: CheckRun?
  ) async -> Bool {
    do throws(WireError) {
      let listing = try await server.client.call(
        ListShard(device: device, shard: shard), at: address, deadline: .seconds(5)
      ).answer
      // Looked up after the listing: what is in it was granted before, and what of it is not registered now, and not
      // of a live grant, never will be.
      let isAsked = check != nil
      let stray = await look { (machine) throws(StoreError) -> [UInt64] in
        guard let record = try machine.container(shard.container), Self.isCurrent(shard, in: record)
        else { return [] }
        // What is packed anew has left its dead groups behind already, and drops them with the rest.
        if isAsked, case .repack? = try machine.rewrite(of: shard.container)?.work { return [] }
        let registered = Set(try machine.storedStripes(of: shard.container).map(\.stripe))
        // Those of a grant that has just ended are being seen to: no disagreement. But grants are cleared on all devices or
        // on none, so where one is away they are deleted here.
        let ended =
          isAsked
          ? try machine.endedGrants(limit: .max).filter {
            $0.places.shards(of: $0.container).contains(shard)
          } : []
        return listing.blocks.map(\.stripe).filter { stripe in
          stripe < record.firstLiveStripe && !registered.contains(stripe)
            && !ended.contains { $0.firstStripe <= stripe && stripe < $0.endStripe }
        }
      }
      guard let stray else { return false }
      if stray.isEmpty { return true }
      check?.add(
        .unregistered, subject(device),
        "\(counted(stray.count, "block")) of shard \(shard.shardIndex) of \(shard.container) in no directory",
        isRepaired: check?.repairs == true)
      if check?.repairs == false { return true }
      guard isLeading() else { return false }
      _ = try await server.client.call(
        DeleteStripes(device: device, epoch: epoch, shard: shard, stripes: stray), at: address,
        deadline: .seconds(10))
      log.info(
        "blocks of an ended grant deleted",
        ["device": device, "container": shard.container, "count": stray.count])
      return true
    } catch {
      if error.refusalCode == .noSuchBlock { return true }
      return note(error, from: device)
    }
  }

  /// Those of links and checkpoints that the root does not name. It alone decides; those of later epochs, and those
  /// this leader may be writing, are left alone.
  private func strayLinks(_ shards: [ShardKey]) -> [ShardKey]? {
    guard isLeading(), let root = arbiter.root, let last = root.links.last else { return nil }
    let named = Set(root.logContainers.map { [$0.container.raw, $0.generation] })
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
