import Cluster
import Coding
import Messages
import Metadata
import Ring
import Service
import Wire

/// What operators ask of repair.
extension CoordinatorServer {
  /// Shows all containers that are not condemned, some at a time.
  func eachContainer(_ body: (ContainerRecord) throws(Refusal) -> Void) async throws(Refusal) {
    let limit = 1024
    var after: ContainerID?
    while true {
      let start = after
      let page = try await query(.strong) { (machine) throws(StoreError) in
        try machine.containers(after: start, limit: limit)
      }
      for record in page where record.state != .condemned { try body(record) }
      guard page.count == limit, let last = page.last else { return }
      after = last.id
    }
  }

  func repairStatus() async throws(Refusal) -> GetRepairStatus.Answer {
    let leadership = try leading()
    let repairs = leadership.repairs
    let margins = self.margins
    var answer = GetRepairStatus.Answer()
    var counts: [DeviceID: UInt64] = [:]
    var histogram: [Int: UInt64] = [:]
    try await eachContainer { (record) throws(Refusal) in
      if let work = leadership.repackWork(record) {
        answer.repackContainers += 1
        answer.repackBytes += work
      }
      let shardBytes = Leadership.shardByteCount(record, record.scheme)
      for place in record.places {
        counts[place.device, default: 0] += 1
        if repairs.isLost(place.device) {
          answer.lostShards += 1
          answer.bytesLeft += shardBytes
        } else if margins.isMissing(place.device) {
          answer.silentShards += 1
        } else if repairs.isLeaving(place.device) {
          answer.drainedShards += 1
          answer.bytesLeft += shardBytes
        }
      }
      // What a lease under way has written counts no more, though the old shard has still its place.
      if let active = repairs.active[record.id], active.progress.stripeCount > 0,
        case .moves(let moves) = active.lease.work
      {
        let written = moves.count { repairs.isLeaving($0.from) }
        let done = Double(active.progress.stripesDone) / Double(active.progress.stripeCount)
        let byteCount = UInt64(Double(shardBytes) * Double(written) * min(1, done))
        answer.bytesLeft -= min(answer.bytesLeft, byteCount)
      }
      histogram[margins.margin(of: record), default: 0] += 1
    }
    for liveness in repairs.liveness.values {
      answer.deadBytes += liveness.deadByteCount
      if leadership.isWorthIt(liveness) { answer.collectContainers += 1 }
    }
    answer.byteRate = repairs.written.byteRate(at: driver.now)
    answer.margins = histogram.sorted { $0.key < $1.key }.map {
      GetRepairStatus.Margin(losses: $0.key, containerCount: $0.value)
    }
    answer.waitingContainers = UInt64(repairs.waiting.count)
    answer.damagedBlocks =
      nodes.all.filter { nodes.isUp($0.record.id) }.flatMap(\.reports)
      .reduce(0) { $0 + $1.damagedCount }
      + UInt64(repairs.missing.values.reduce(0) { $0 + $1.stripes.count })
    answer.isLogHurt = arbiter.root.map(leadership.hasLostLogCopies) ?? false
    let late = counts.keys.filter { nodes.isLate($0) }
    for device in Set(repairs.leaving.keys).union(repairs.silentSince.keys).union(late).sorted() {
      let state: GetRepairStatus.Device.State =
        switch repairs.leaving[device] {
        case nil: .silent
        case true?: .lost
        case false?: .draining
        }
      // What is gone and empty is past mending, and past telling.
      guard state != .lost || counts[device] != nil else { continue }
      answer.devices.append(
        GetRepairStatus.Device(
          id: device, node: nodes.nodeName(of: device), state: state,
          silentMilliseconds: silence(of: device, repairs), containerCount: counts[device] ?? 0))
    }
    for id in repairs.active.keys.sorted() {
      let active = repairs.active[id]!
      answer.rewrites.append(
        GetRepairStatus.Rewrite(
          container: id, worker: nodes.name(of: active.worker),
          targets: active.lease.targets.map(\.device),
          progress: active.progress))
    }
    return answer
  }

  /// For how many milliseconds it has not been heard of, at least; 0 when it answers.
  private func silence(of device: DeviceID, _ repairs: RepairState) -> UInt64 {
    let since = repairs.silentSince[device].map { driver.now - $0 } ?? .zero
    let heard = nodes.isLate(device) ? nodes.silence(of: device) ?? .zero : .zero
    return UInt64(max(0, max(since, heard).wholeMilliseconds))
  }

  /// Drains devices, takes that back, or gives them up.
  func setDevices(_ request: SetDevices) async throws(Refusal) -> Done {
    let leadership = try leading()
    let map = keeper.map
    for device in request.devices {
      guard let record = map.node(holding: device)?.devices.first(where: { $0.id == device }) else {
        throw Refusal(.noSuchDevice, "no such device: \(device)")
      }
      // Shards on it were given up.
      guard record.state != .retired || request.state == .retired else {
        throw Refusal(.tooLittleLeft, "device \(device) is retired, which is for good")
      }
    }
    if request.state != .healthy && !request.isForced {
      try await checkLeaving(Set(request.devices), state: request.state)
    }
    for device in request.devices {
      let (_, outcome) = try await leadership.submit(.setDeviceState(device, request.state))
      if case .refused(let code, let reason) = outcome {
        throw Refusal(code: code, reason: reason)
      }
    }
    return Done()
  }

  /// - Throws: when the cluster could not do without these devices.
  private func checkLeaving(_ leaving: Set<DeviceID>, state: DeviceState) async throws(Refusal) {
    var left = keeper.map
    // What is drained already has to find room too.
    let draining = left.nodes.flatMap(\.devices).filter { $0.state == .draining }.map(\.id)
    let emptied = leaving.union(draining)
    var held: UInt64 = 0
    for report in nodes.all.flatMap(\.reports) where emptied.contains(report.id) {
      held += report.used - min(report.used, report.linkBytes)
    }
    for node in left.nodes.indices {
      for device in left.nodes[node].devices.indices
      where leaving.contains(left.nodes[node].devices[device].id) {
        left.nodes[node].devices[device].state = state
      }
    }
    let room = nodes.free.filter { !emptied.contains($0.key) }.values.reduce(UInt64(0)) {
      $0 + ($1 - min($1, configuration.leastFree))
    }
    if held > room {
      throw Refusal(
        .tooLittleLeft,
        "they hold \(ByteSize(held)), and the other devices have room for \(ByteSize(room)): add devices first"
      )
    }
    let domains = left.failureDomains.count
    if domains < scheme.width {
      throw Refusal(
        .tooLittleLeft,
        "\(domains) failure domains would be left, and \(scheme) needs \(scheme.width): add nodes first"
      )
    }
    guard state == .retired else { return }
    if let root = arbiter.root {
      let repairs = try leading().repairs
      let isLost = root.logContainers.contains { container in
        container.devices.allSatisfy {
          leaving.contains($0) || repairs.isLost($0) || nodes.isDown($0)
        }
      }
      if isLost {
        throw Refusal(
          .tooLittleLeft,
          "no copy of a part of the metadata log would be left: drain them, or wait for a checkpoint"
        )
      }
    }
    // Given up at once, each is a loss; what has lost as many already has nothing to be rebuilt from.
    let repairs = try leading().repairs
    try await eachContainer { (record) throws(Refusal) in
      guard record.stripeCount > 0 else { return }
      let missing = record.devices.count {
        leaving.contains($0) || repairs.isLost($0) || repairs.silentSince[$0] != nil
      }
      if missing > record.scheme.m, record.devices.contains(where: { leaving.contains($0) }) {
        throw Refusal(
          .tooLittleLeft,
          "\(record.id) would have lost \(missing) of its \(record.scheme.width) shards, more than its code can bear: wait for repair, or drain them"
        )
      }
    }
  }

  /// How much is dead; unless it is asked for that alone, it is collected from now on.
  func collectGarbage(_ request: CollectGarbage) async throws(Refusal) -> CollectGarbage.Answer {
    let leadership = try leading()
    let repairs = leadership.repairs
    let share = Double(request.below) / 100
    if !request.isDryRun {
      repairs.collectBelow = share
      log.info("dead bytes are collected", ["below": "\(request.below) %"])
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
      if leadership.isWorthIt(liveness, below: share) {
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
