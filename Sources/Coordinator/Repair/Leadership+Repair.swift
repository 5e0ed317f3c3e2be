import Cluster
import Coding
import Messages
import Metadata
import Ring
import Service
import Wire

/// Shards of devices that are gone, or are to be emptied, are written anew elsewhere: the leader hands out a lease for each
/// container, a node rebuilds or copies, the leader looks at what it wrote and swaps the places.
///
/// Nothing of it need be remembered but the leases, which are in the log: a new leader asks their workers how far they are.
extension Leadership {
  func repairShards() async {
    while await pause(.seconds(1)) {
      guard isLeading() else { continue }
      await findLeavingDevices()
      await adoptLeases()
      await followLeases()
      await beginLeases()
    }
  }

  // MARK: Who is gone

  private func findLeavingDevices() async {
    let inUse = await look { (machine) throws(StoreError) in try machine.devicesInUse() }
    guard let inUse else { return }
    let now = driver.now
    var leaving: [DeviceID: Bool] = [:]
    var silent: [DeviceID: Duration] = [:]
    let named = arbiter.root?.logDevices ?? []
    for device in Set(inUse).union(named) {
      let record = keeper.map.node(holding: device)?.devices.first { $0.id == device }
      if record?.state == .retired {
        leaving[device] = true
        continue
      }
      if record == nil || server.nodes.isDown(device) {
        let since = repairs.silentSince[device] ?? now
        silent[device] = since
        if now - since >= patience(for: device) { leaving[device] = true }
      }
      if record?.state == .draining, leaving[device] == nil { leaving[device] = false }
    }
    repairs.silentSince = silent
    for device in leaving.keys.sorted() where repairs.leaving[device] != leaving[device] {
      log.warning(
        leaving[device]! ? "device lost" : "device to be emptied",
        ["device": device, "node": server.nodes.nodeName(of: device)])
    }
    // A device that is back took its containers' losses with it: what still waits is found again.
    if !repairs.leaving.keys.allSatisfy({ leaving[$0] != nil }) { repairs.waiting = [] }
    repairs.leaving = leaving
  }

  private func patience(for device: DeviceID) -> Duration {
    guard let node = keeper.map.node(holding: device), let rack = node.domain.first else {
      return configuration.rebuildAfter
    }
    let beside = keeper.map.nodes.filter { $0.domain.first == rack }
    let isWhole = beside.count > 1 && beside.allSatisfy { !server.nodes.isUp($0.id) }
    // Where all there is lies in one rack, that it is silent says nothing of it.
    let isOne = beside.count == keeper.map.nodes.count
    return isWhole && !isOne ? configuration.rackRebuildAfter : configuration.rebuildAfter
  }

  /// Whether copies of the log are on devices that are gone: a checkpoint and a new link then replace them.
  func hasLostLogCopies(_ root: RootRecord) -> Bool {
    root.logDevices.contains { repairs.isLost($0) } || root.logContainers.contains { isDamaged($0) }
  }

  /// Whether a copy of it has blocks that are wrong. Nothing of the log is mended in place.
  func isDamaged(_ place: LogContainer) -> Bool {
    server.nodes.damagedBlocks.contains { _, key in
      key.shard.container == place.container && key.shard.generation == place.generation
    }
  }

  // MARK: Leases under way

  /// Takes over those that an earlier leader handed out.
  private func adoptLeases() async {
    let leases = await look { (machine) throws(StoreError) in try machine.rewrites() }
    guard let leases else { return }
    let alive = Set(leases.map(\.id))
    for (id, active) in repairs.active where !alive.contains(active.lease.id) {
      repairs.active[id] = nil
    }
    for lease in leases where repairs.active[lease.container] == nil {
      guard let worker = worker(of: lease) else {
        await giveUp(lease, "its worker is not known")
        continue
      }
      repairs.active[lease.container] = RepairState.Active(
        lease: lease, worker: worker, heardAt: driver.now)
    }
  }

  /// The node that works on a lease: one that gets a shard of it.
  func worker(of lease: RewriteRecord) -> NodeID? {
    let targets = lease.targets
    guard !targets.isEmpty else { return nil }
    let turn = Int(lease.container.number % UInt64(targets.count))
    switch lease.work {
    case .moves: return server.nodes.holder(of: targets[0].device)
    case .repack: return server.nodes.holder(of: targets[turn].device)
    }
  }

  private func followLeases() async {
    var jobs: [NodeID: [RewriteRecord]] = [:]
    for id in repairs.active.keys.sorted() {
      let active = repairs.active[id]!
      jobs[active.worker, default: []].append(active.lease)
    }
    await withTaskGroup(of: Void.self) { group in
      for worker in jobs.keys.sorted() {
        let leases = jobs[worker]!
        group.addTask { [self] in await follow(leases, of: worker) }
      }
    }
  }

  private func follow(_ leases: [RewriteRecord], of worker: NodeID) async {
    guard let address = server.nodes.address(of: worker) else { return }
    let answers: [RewriteStatus.Job]
    do throws(WireError) {
      answers = try await server.client.call(
        RewriteStatus(jobs: leases.map(\.id)), at: address, deadline: .seconds(3)
      ).answer.jobs
    } catch {
      for lease in leases {
        guard let active = repairs.active[lease.container],
          driver.now - active.heardAt > configuration.nodeSilence * 2
        else { continue }
        await giveUp(lease, "\(server.nodes.name(of: worker)): \(error)")
      }
      return
    }
    guard answers.count == leases.count else { return }
    for (lease, answer) in zip(leases, answers) {
      guard isLeading(), repairs.active[lease.container]?.lease.id == lease.id else { continue }
      repairs.active[lease.container]!.heardAt = driver.now
      let before = repairs.active[lease.container]!.progress.bytesWritten
      if answer.bytesWritten > before {
        repairs.written.add(answer.bytesWritten - before, at: driver.now)
      }
      // One that has not begun, or was forgotten, does not say how much there is to do.
      if answer.state != .unknown { repairs.active[lease.container]!.progress = answer }
      switch answer.state {
      case .running: break
      case .unknown: await send(lease, to: address)
      case .failed: await giveUp(lease, answer.reason)
      case .unreadable: await giveUp(lease, answer.reason, isTargetsFault: false)
      case .done:
        if repairs.active[lease.container]!.doneAt == nil {
          repairs.active[lease.container]!.doneAt = driver.now
        }
        await finish(lease)
      }
    }
  }

  /// Has the lease's worker do it.
  private func send(_ lease: RewriteRecord, to address: SocketAddress) async {
    guard let active = repairs.active[lease.container] else { return }
    guard active.requestCount < 8 else {
      return await giveUp(lease, "\(server.nodes.name(of: active.worker)) forgets it")
    }
    repairs.active[lease.container]!.requestCount += 1
    let addresses = lease.targets.compactMap { server.nodes.address(of: $0.device) }
    guard addresses.count == lease.targets.count else {
      return await giveUp(lease, "a device it goes to is not known")
    }
    switch lease.work {
    case .moves(let moves): await send(lease, moves, addresses, to: address)
    case .repack(let scheme, let devices):
      await send(lease, scheme, devices, addresses, to: address)
    }
  }

  private func send(
    _ lease: RewriteRecord, _ moves: [ShardMove], _ addresses: [SocketAddress],
    to address: SocketAddress
  ) async {
    let content = await look { (machine) throws(StoreError) in
      try Self.content(of: lease.container, machine)
    }
    guard let content else { return }
    guard let (record, stripes) = content else { return await giveUp(lease, "it is gone") }
    var devices = record.devices
    for move in moves { devices[Int(move.shardIndex)] = move.to }
    let targets = zip(moves, addresses).map { move, address in
      RewriteShards.Target(
        shardIndex: move.shardIndex, place: ShardPlace(device: move.to, generation: lease.id),
        address: address)
    }
    await send(
      RewriteShards(
        job: lease.id, epoch: epoch, sources: sources(of: record), targets: targets,
        stripes: stripes,
        right: right(
          to: record.id, generation: lease.id, scheme: record.scheme, devices: devices,
          endStripe: record.nextStripe),
        byteRate: configuration.repairByteRate), of: lease, to: address)
  }

  private func send(
    _ lease: RewriteRecord, _ scheme: Scheme, _ devices: [DeviceID], _ addresses: [SocketAddress],
    to address: SocketAddress
  ) async {
    let found = await look { (machine) throws(StoreError) in
      (
        try Self.content(of: lease.container, machine),
        try machine.repacking(lease.container, scheme: scheme)
      )
    }
    guard let found else { return }
    guard let (record, stripes) = found.0, let repacking = found.1 else {
      return await giveUp(lease, "it is gone")
    }
    await send(
      RepackContainer(
        job: lease.id, epoch: epoch, sources: sources(of: record), stripes: stripes,
        targets: addresses, repacked: repacking.stripes,
        right: right(
          to: record.id, generation: lease.id, scheme: scheme, devices: devices,
          endStripe: UInt64(repacking.stripes.count)),
        byteRate: configuration.repairByteRate), of: lease, to: address)
  }

  private func send<Request: Call>(
    _ request: Request, of lease: RewriteRecord, to address: SocketAddress
  ) async {
    do throws(WireError) {
      _ = try await server.client.call(request, at: address, deadline: .seconds(10))
    } catch {
      if error.refusalCode == .staleEpoch {
        arbiter.lose(.deposed(epoch: error.staleEpoch ?? epoch))
      } else if error.refusalCode != nil {
        await giveUp(lease, "\(error)")
      }
    }
  }

  /// Where blocks of a container are read from.
  ///
  /// - Parameter mended: the shard that is written in place: it is asked for nothing in any case.
  func sources(of record: ContainerRecord, mended: ShardKey? = nil) -> [RewriteShards.Source] {
    let doubtful = Set(server.nodes.suspectedBlocks.map(\.1.shard))
    let degraded = server.nodes.degraded
    return zip(record.places, record.places.shards(of: record.id)).map { place, shard in
      RewriteShards.Source(
        place: place,
        address: server.nodes.address(of: place.device) ?? SocketAddress(host: "", port: 0),
        // What may be wrong under right checksums is read only when there is no other way.
        isDown: server.nodes.isDown(place.device) || repairs.isLost(place.device)
          || shard != mended && doubtful.contains(shard),
        isSlow: degraded.contains(place.device))
    }
  }

  /// What lets a node write blocks of a container that is sealed.
  func right(
    to container: ContainerID, generation: UInt64, scheme: Scheme, devices: [DeviceID],
    endStripe: UInt64
  ) -> SignedGrant {
    SignedGrant(
      signing: Grant(
        id: generation, container: container, generation: generation, scheme: scheme,
        devices: devices, firstStripe: 0, endStripe: endStripe, firstOrdinal: 0, byteLimit: 0,
        epoch: keeper.map.epoch), key: server.grantKey)
  }

  /// A container and what its directory says is stored, ascending by stripe; nil when it is gone or condemned.
  static func content(of id: ContainerID, _ machine: StateMachine) throws(StoreError) -> (
    record: ContainerRecord, stripes: [RewriteShards.Stripe]
  )? {
    guard let record = try machine.container(id), record.state != .condemned else { return nil }
    return (record, try machine.storedStripes(of: id))
  }

  /// Looks whether all is there, and then swaps the places.
  private func finish(_ lease: RewriteRecord) async {
    let found = await look { (machine) throws(StoreError) -> [RewriteShards.Stripe]? in
      switch lease.work {
      case .moves: try Self.content(of: lease.container, machine)?.stripes
      case .repack(let scheme, _):
        try machine.repacking(lease.container, scheme: scheme)?.stripes.map {
          RewriteShards.Stripe(stripe: $0.stripe, layout: $0.layout)
        }
      }
    }
    guard let found else { return }
    guard let stripes = found else { return await giveUp(lease, "it is gone") }
    for target in lease.targets {
      guard let address = server.nodes.address(of: target.device) else {
        // A leader that has just begun may not have heard of it yet; else it is gone for good.
        if isOverdue(lease) { await giveUp(lease, "device \(target.device) is not known") }
        return
      }
      do throws(WireError) {
        let listing = try await server.client.call(
          ListShard(device: target.device, shard: target.shard), at: address,
          deadline: .seconds(5)
        ).answer
        if let missing = Self.missing(target.shard, listing, stripes) {
          return await giveUp(
            lease, "device \(target.device) lacks stripe \(missing.stripe) after all")
        }
      } catch {
        // Most likely it is down, and may come back.
        if error.refusalCode != nil || isOverdue(lease) {
          await giveUp(lease, "device \(target.device): \(error)")
        }
        return
      }
    }
    guard isLeading() else { return }
    do throws(Refusal) {
      let (_, outcome) = try await submit(
        .commitRewrite(lease.container, lease: lease.id))
      if case .refused(_, let reason) = outcome { return await giveUp(lease, reason) }
      repairs.active[lease.container] = nil
      repairs.failures[lease.container] = nil
      switch lease.work {
      case .moves(let moves):
        log.info("shards rewritten", ["container": lease.container, "count": moves.count])
      case .repack(let scheme, _):
        log.info("container packed anew", ["container": lease.container, "scheme": scheme])
      }
    } catch {
      // Tried again, by us or by the next leader.
    }
  }

  /// Whether what is done could not be looked at for so long that whoever should answer will not.
  private func isOverdue(_ lease: RewriteRecord) -> Bool {
    let doneAt = repairs.active[lease.container]?.doneAt ?? driver.now
    return driver.now - doneAt > configuration.nodeSilence * 2
  }

  /// The first stripe that the shard should have and has not as the directory says.
  static func missing(
    _ shard: ShardKey, _ listing: ShardListing, _ stripes: [RewriteShards.Stripe]
  ) -> RewriteShards.Stripe? {
    let layouts = Dictionary(
      listing.blocks.map { ($0.stripe, $0.layout) }, uniquingKeysWith: { first, _ in first })
    return stripes.first {
      $0.layout.isStored(Int(shard.shardIndex)) && layouts[$0.stripe] != $0.layout
    }
  }

  /// Ends a lease; the container has another after a while, on other devices.
  private func giveUp(_ lease: RewriteRecord, _ reason: String, isTargetsFault: Bool = true) async {
    guard isLeading() else { return }
    log.warning("a rewrite failed", ["container": lease.container, "reason": reason])
    do throws(Refusal) {
      _ = try await submit(.endRewrite(lease.container, lease: lease.id))
    } catch {
      // Tried again, by us or by the next leader.
      return
    }
    let worker = repairs.active[lease.container]?.worker
    repairs.active[lease.container] = nil
    rest(lease.container)
    // Of all the devices of a whole container it is not known which it was.
    if isTargetsFault, case .moves(let moves) = lease.work {
      for move in moves { repairs.refusedUntil[move.to] = driver.now + .seconds(30) }
    }
    if let worker, server.nodes.isUp(worker), let address = server.nodes.address(of: worker) {
      do throws(WireError) {
        _ = try await server.client.call(
          EndRewrites(epoch: epoch, jobs: [lease.id]), at: address, deadline: .seconds(2))
      } catch {
        // It writes on in vain; what it wrote is deleted.
      }
    }
    if case .repack = lease.work { await deleteThinned(lease.container) }
  }

  /// Leaves a container alone for a while, for longer each time.
  private func rest(_ container: ContainerID) {
    let failures = repairs.failures[container, default: 0]
    repairs.failures[container] = failures + 1
    repairs.restUntil[container] = driver.now + .seconds(5 << min(failures, 7))
  }

  // MARK: New leases

  private static let pageLimit = 256

  private func beginLeases() async {
    let now = driver.now
    noteDomains()
    repairs.restUntil = repairs.restUntil.filter { $0.value > now }
    repairs.refusedUntil = repairs.refusedUntil.filter { $0.value > now }
    let devices = repairs.leaving.keys.sorted()
    guard !devices.isEmpty else {
      repairs.waiting = []
      repairs.cursors = [:]
      await beginRepacks()
      return await beginPlannedMoves()
    }
    let cursors = repairs.cursors
    let pages = await look { (machine) throws(StoreError) in
      var pages: [[ContainerRecord]] = []
      for device in devices {
        pages.append(
          try machine.containers(on: device, after: cursors[device], limit: Self.pageLimit))
      }
      return pages
    }
    guard let pages else { return }
    for (device, page) in zip(devices, pages) {
      repairs.cursors[device] = page.count < Self.pageLimit ? nil : page.last?.id
    }
    var seen = Set<ContainerID>()
    let waiting = pages.joined().filter { record in
      guard seen.insert(record.id).inserted, repairs.active[record.id] == nil,
        repairs.restUntil[record.id] == nil
      else { return false }
      switch record.state {
      case .available, .sealed: return true
      // Its writer gives it up, or its session expires.
      case .open, .condemned: return false
      }
    }
    // Those that survive the fewest further losses first; last those that have too few shards, as long as that is so.
    let urgent = waiting.map { record in
      let margin = record.scheme.m - record.places.count { repairs.isLost($0.device) }
      return (record, margin < 0 ? Int.max : margin)
    }.sorted { ($0.1, $0.0.id) < ($1.1, $1.0.id) }
    for (record, _) in urgent {
      guard isLeading() else { return }
      await begin(record)
    }
    // What has nowhere to go does not hold up the rest.
    if urgent.allSatisfy({ repairs.waiting.contains($0.0.id) }) { await beginRepacks() }
  }

  /// Those of a round of balancing, as far as their workers have time.
  private func beginPlannedMoves() async {
    var rest: [(container: ContainerID, move: ShardMove)] = []
    let moves = repairs.plannedMoves
    for (container, move) in moves {
      guard isLeading(), let worker = server.nodes.holder(of: move.to) else { continue }
      guard repairs.count(on: worker) < configuration.rewritesPerNode else {
        rest.append((container, move))
        continue
      }
      let record = await look { (machine) throws(StoreError) in try machine.container(container) }
      // Written again, rewritten or gone since: the next round looks anew.
      guard let record, let record, record.state == .sealed || record.state == .available,
        repairs.active[container] == nil
      else { continue }
      await begin(record, [move])
    }
    repairs.plannedMoves = rest
  }

  private func begin(_ record: ContainerRecord) async {
    let leaving = record.places.indices.filter { repairs.isLeaving(record.places[$0].device) }
      .sorted {
        (repairs.isLost(record.places[$0].device) ? 0 : 1, $0)
          < (repairs.isLost(record.places[$1].device) ? 0 : 1, $1)
      }
    let byteCount = Self.shardByteCount(record, record.scheme)
    let free = freeForRewrites()
    let avoided = Set(repairs.refusedUntil.keys).union(repairs.silentSince.keys)
      .union(busyDevices(free))
    let placement = Placement(map: keeper.map, free: free, leastFree: configuration.leastFree)
    var chosen = placement.replacements(
      of: record.devices, leaving: leaving, byteCount: byteCount,
      avoiding: avoided.union(server.nodes.degraded), turn: record.id.number)
    if chosen.isEmpty {
      chosen = placement.replacements(
        of: record.devices, leaving: leaving, byteCount: byteCount, avoiding: avoided,
        turn: record.id.number)
    }
    guard !chosen.isEmpty else {
      // Others may only be busy.
      let isHopeless = placement.replacements(
        of: record.devices, leaving: leaving, byteCount: byteCount, turn: 0
      ).isEmpty
      if isHopeless { repairs.waiting.insert(record.id) }
      return
    }
    repairs.waiting.remove(record.id)
    let moves = chosen.map {
      ShardMove(shardIndex: UInt8($0.shard), from: record.devices[$0.shard], to: $0.device)
    }.sorted { $0.shardIndex < $1.shardIndex }
    await begin(record, moves)
  }

  /// What devices have room for beside the leases under way.
  func freeForRewrites() -> [DeviceID: UInt64] {
    var free = server.nodes.free
    for active in repairs.active.values {
      for device in active.lease.targets.map(\.device) {
        free[device] = (free[device] ?? 0) - min(free[device] ?? 0, active.shardByteCount)
      }
    }
    return free
  }

  /// Those of nodes that have as many leases to work on as they may.
  func busyDevices(_ free: [DeviceID: UInt64]) -> [DeviceID] {
    free.keys.filter { device in
      guard let node = server.nodes.holder(of: device) else { return false }
      return repairs.count(on: node) >= configuration.rewritesPerNode
    }
  }

  func begin(_ record: ContainerRecord, _ moves: [ShardMove]) async {
    await begin(
      record, .beginRewrite(record.id, moves: moves), .moves(moves),
      shardByteCount: Self.shardByteCount(record, record.scheme))
  }

  /// Has the log hand out a lease, and its worker begin.
  func begin(
    _ record: ContainerRecord, _ command: Command, _ work: RewriteRecord.Work,
    shardByteCount: UInt64
  ) async {
    do throws(Refusal) {
      let (_, outcome) = try await submit(command)
      guard case .number(let id) = outcome else {
        rest(record.id)
        return
      }
      let lease = RewriteRecord(id: id, container: record.id, work: work)
      guard let worker = worker(of: lease), let address = server.nodes.address(of: worker) else {
        return
      }
      repairs.active[record.id] = RepairState.Active(
        lease: lease, worker: worker, heardAt: driver.now,
        progress: RewriteStatus.Job(state: .unknown, stripeCount: record.stripeCount),
        shardByteCount: shardByteCount)
      await send(lease, to: address)
    } catch {
      // Looked at again with the next turn, by us or by the next leader.
    }
  }

  // MARK: What is left behind

  /// Has devices drop shards whose places others took, after the grace that readers get, and those that were not finished.
  func deleteDoomedShards() async {
    var cursor: DoomedShard?
    var seenAt: [DoomedShard: Duration] = [:]
    while await pause(.seconds(1)) {
      guard isLeading() else { continue }
      let after = cursor
      let page = await look { (machine) throws(StoreError) in
        try machine.doomedShards(limit: Self.pageLimit, after: after)
      }
      guard let page else { continue }
      cursor = page.count < Self.pageLimit ? nil : page.last
      if cursor == nil && after == nil { seenAt = seenAt.filter { page.contains($0.key) } }
      let now = driver.now
      var due: [DeviceID: [DoomedShard]] = [:]
      var done: [DoomedShard] = []
      for shard in page {
        let since = seenAt[shard] ?? now
        seenAt[shard] = since
        guard isListed(shard.device) else {
          done.append(shard)
          continue
        }
        if now - since >= configuration.deletionGrace, !server.nodes.isDown(shard.device) {
          due[shard.device, default: []].append(shard)
        }
      }
      for device in due.keys.sorted() {
        guard isLeading() else { break }
        if await delete(due[device]!.map(\.shard), from: device) { done += due[device]! }
      }
      guard !done.isEmpty, isLeading() else { continue }
      do throws(Refusal) {
        _ = try await submit(.clearDoomedShards(done))
        for shard in done { seenAt[shard] = nil }
      } catch {
        // They are deleted again in a later turn, by us or by the next leader: it does no harm.
      }
    }
  }
}
