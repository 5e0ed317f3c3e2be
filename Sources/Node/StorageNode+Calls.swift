internal import Cluster
internal import Messages
internal import Ring
internal import ShardStore
internal import Wire

extension StorageNode {
  /// The server's handler.
  func answer(_ method: UInt16, _ request: Packet) async throws(Refusal) -> Packet {
    switch method {
    case WriteBlock.method: try await write(request)
    case ReadBlock.method: try await read(request)
    case FenceShard.method: try await answer(request, fence)
    case ListShard.method: try await answer(request, list)
    case DeleteShards.method: try await answer(request, deleteShards)
    case DeleteStripes.method: try await answer(request, deleteStripes)
    case HoldLease.method: try await answer(request, holdLease)
    case Inventory.method: try await answer(request, inventory)
    case RewriteShards.method: try await answer(request, rewriteShards)
    case RepackContainer.method: try await answer(request, repackContainer)
    case EndRewrites.method: try await answer(request, endRewrites)
    case RewriteStatus.method: try await answer(request, rewriteStatus)
    case ReportDamage.method: try await answer(request, reportDamage)
    case ScrubNow.method: try await answer(request, scrubNow)
    case GetScrub.method: try await answer(request, getScrub)
    default: throw Refusal(.unknownMethod, "method \(method)")
    }
  }

  private func decode<Request: Call>(_ packet: Packet) throws(Refusal) -> Request {
    do throws(ValueError) { return try Request(decoding: packet.message) } catch {
      throw Refusal(.malformed, "\(error)")
    }
  }

  private func answer<Request: Call>(
    _ packet: Packet, _ body: (Request, [Slice]) async throws(Refusal) -> Request.Answer
  ) async throws(Refusal) -> Packet {
    Packet(message: try await body(try decode(packet), packet.body).encoded)
  }

  private func store(_ device: DeviceID) throws(Refusal) -> ShardStore {
    guard let store = byDevice[device] else { throw Refusal(.noSuchDevice, "\(device)") }
    return store
  }

  /// Refuses what a leader below the highest known one asks for.
  private func checkEpoch(_ epoch: UInt64) throws(Refusal) {
    let highest = highestEpoch
    guard epoch >= highest else { throw Refusal(.staleEpoch, "\(highest)") }
  }

  private func write(_ packet: Packet) async throws(Refusal) -> Packet {
    let call: WriteBlock = try decode(packet)
    let store = try store(call.device)
    try grants.check(call.right, for: call.block, on: call.device)
    if case .leader(let epoch) = call.right { try checkEpoch(epoch) }
    let payload = gather(packet.body)
    let begun = beginCall(on: call.device)
    defer { endCall(on: call.device, \.writes, begun) }
    do throws(StoreError) {
      // A body of one piece, at 4096 of its own buffer, is the wire's: what is before it is free.
      try await store.write(
        StoredBlock(call.block), checksums: call.checksums.values, payload: payload,
        found: packet.bodySums,
        hasHeadroom: packet.body.count == 1 && payload.offset == RecordLayout.headerByteCount)
    } catch {
      throw Refusal(error)
    }
    return Packet(message: Done().encoded)
  }

  private func beginCall(on device: DeviceID) -> Duration {
    loads[device, default: DeviceLoad()].underWay += 1
    return driver.now
  }

  private func endCall(
    on device: DeviceID, _ kind: WritableKeyPath<DeviceLoad, DeviceLoad.Tally>, _ begun: Duration
  ) {
    loads[device, default: DeviceLoad()].underWay -= 1
    loads[device]![keyPath: kind].count += 1
    loads[device]![keyPath: kind].microseconds += UInt64(
      max(0, (driver.now - begun) / .microseconds(1)))
  }

  private func gather(_ body: [Slice]) -> Slice {
    if body.count == 1 { return body[0] }
    let whole = driver.buffers.slice(body.reduce(0) { $0 + $1.count })
    var at = 0
    for part in body {
      whole[at..<at + part.count].withMutableBytes { target in
        part.withBytes { target.copyMemory(from: $0) }
      }
      at += part.count
    }
    return whole
  }

  private func read(_ packet: Packet) async throws(Refusal) -> Packet {
    let call: ReadBlock = try decode(packet)
    let store = try store(call.device)
    let byteCount = Int(call.byteCount)
    guard byteCount <= StripeLayout.largestBlockByteCount else {
      throw Refusal(.invalidRange, "\(byteCount) bytes are more than a block")
    }
    let room = byteCount + RecordLayout.headerByteCount
    await readRoom.acquire(room)
    defer { readRoom.release(room) }
    let begun = beginCall(on: call.device)
    defer { endCall(on: call.device, \.reads, begun) }
    do throws(StoreError) {
      let found = try await store.read(
        call.key, offset: Int(call.offset), byteCount: byteCount)
      let answer = ReadBlock.Answer(
        block: BlockDescription(found.block), checksums: UnitChecksums(found.checksums))
      return Packet(
        message: answer.encoded, body: found.bytes.count > 0 ? [found.bytes] : [],
        bodySums: found.checksums)
    } catch {
      throw Refusal(error)
    }
  }

  private func fence(_ call: FenceShard, _ body: [Slice]) async throws(Refusal) -> ShardListing {
    let store = try store(call.device)
    try checkEpoch(call.epoch)
    do throws(StoreError) {
      return ShardListing(call.shard, try await store.fence(call.shard, epoch: call.epoch))
    } catch {
      throw Refusal(error)
    }
  }

  private func list(_ call: ListShard, _ body: [Slice]) async throws(Refusal) -> ShardListing {
    let store = try store(call.device)
    do throws(StoreError) {
      return ShardListing(call.shard, try await store.list(call.shard))
    } catch {
      throw Refusal(error)
    }
  }

  private func deleteShards(_ call: DeleteShards, _ body: [Slice]) async throws(Refusal) -> Done {
    let store = try store(call.device)
    try checkEpoch(call.epoch)
    do throws(StoreError) {
      try await store.delete(call.shards, epoch: call.epoch)
    } catch {
      throw Refusal(error)
    }
    return Done()
  }

  private func deleteStripes(_ call: DeleteStripes, _ body: [Slice]) async throws(Refusal) -> Done {
    let store = try store(call.device)
    try checkEpoch(call.epoch)
    do throws(StoreError) {
      try await store.delete(stripes: call.stripes, of: call.shard, epoch: call.epoch)
    } catch {
      throw Refusal(error)
    }
    return Done()
  }

  private func holdLease(_ call: HoldLease, _ body: [Slice]) async throws(Refusal)
    -> HoldLease.Answer
  {
    guard let lease else { throw Refusal(.unavailable, "starting") }
    return try await lease.hold(
      call, floor: { highestEpoch }, cluster: { cluster },
      join: { (cluster) async throws(Refusal) in try await join(cluster) })
  }

  private func rewriteShards(_ call: RewriteShards, _ body: [Slice]) async throws(Refusal) -> Done {
    try checkEpoch(call.epoch)
    guard let rewriter else { throw Refusal(.unavailable, "starting or stopping") }
    try grants.check(call.right)
    try rewriter.begin(call)
    return Done()
  }

  private func repackContainer(_ call: RepackContainer, _ body: [Slice]) async throws(Refusal)
    -> Done
  {
    try checkEpoch(call.epoch)
    guard let rewriter else { throw Refusal(.unavailable, "starting or stopping") }
    try grants.check(call.right)
    try rewriter.begin(call)
    return Done()
  }

  private func endRewrites(_ call: EndRewrites, _ body: [Slice]) async throws(Refusal) -> Done {
    try checkEpoch(call.epoch)
    rewriter?.end(call.jobs)
    return Done()
  }

  private func rewriteStatus(_ call: RewriteStatus, _ body: [Slice]) async throws(Refusal)
    -> RewriteStatus.Answer
  {
    guard let rewriter else { throw Refusal(.unavailable, "starting or stopping") }
    return RewriteStatus.Answer(jobs: rewriter.status(of: call.jobs))
  }

  private func inventory(_ call: Inventory, _ body: [Slice]) async throws(Refusal)
    -> Inventory.Answer
  {
    let store = try store(call.device)
    do throws(StoreError) {
      let page = try await store.inventory(after: call.after, limit: 16_384)
      return Inventory.Answer(
        shards: page.shards.map {
          Inventory.Entry(
            shard: $0.shard, stripes: $0.stripes, storedByteCount: $0.storedByteCount)
        }, isComplete: page.isComplete)
    } catch {
      throw Refusal(error)
    }
  }
}

extension StorageNode {
  private func reportDamage(_ call: ReportDamage, _ body: [Slice]) async throws(Refusal)
    -> ReportDamage.Answer
  {
    let store = try store(call.device)
    var answer = ReportDamage.Answer(damagedCount: 0, suspectedCount: 0)
    for key in call.keys {
      // One at a time: whoever reports much does not take the room of those who read.
      let room = StripeLayout.largestBlockByteCount + RecordLayout.headerByteCount
      await readRoom.acquire(room)
      defer { readRoom.release(room) }
      do throws(StoreError) {
        switch try await store.examine(key) {
        case .damaged: answer.damagedCount += 1
        case .suspected: answer.suspectedCount += 1
        case .absent: break
        }
      } catch {
        throw Refusal(error)
      }
    }
    return answer
  }

  private func scrubNow(_ call: ScrubNow, _ body: [Slice]) async throws(Refusal) -> ScrubStanding {
    for store in try chosen(call.device) where call.device != nil || store.state == .healthy {
      do throws(StoreError) {
        try store.scrubNow(byteRate: call.byteRate == 0 ? nil : call.byteRate)
      } catch {
        throw Refusal(error)
      }
    }
    return try standing(call.device)
  }

  private func getScrub(_ call: GetScrub, _ body: [Slice]) async throws(Refusal) -> ScrubStanding {
    try standing(call.device)
  }

  private func chosen(_ device: DeviceID?) throws(Refusal) -> [ShardStore] {
    if let device { return [try store(device)] }
    return stores.map(\.store).sorted { $0.device < $1.device }
  }

  private func standing(_ device: DeviceID?) throws(Refusal) -> ScrubStanding {
    ScrubStanding(
      try chosen(device).map {
        ScrubStanding.Entry(
          device: $0.device, report: ScrubReport($0.scrubState),
          damagedCount: $0.damagedBlockCount, isFailed: $0.state != .healthy)
      })
  }
}

extension ScrubReport {
  init(_ state: ScrubState) {
    self.init()
    round = state.round
    finishedRound = state.finishedRound
    beganMilliseconds = state.beganMilliseconds
    finishedMilliseconds = state.finishedMilliseconds
    doneByteCount = state.doneByteCount
    totalByteCount = state.totalByteCount
    foundInRound = state.foundInRound
    foundInAll = state.foundInAll
  }
}

extension Refusal {
  init(_ error: StoreError) {
    switch error {
    case .noSuchBlock: self.init(.noSuchBlock, "")
    case .corrupt(let what): self.init(.corrupt, what)
    case .blockExists: self.init(.blockExists, "")
    case .staleEpoch(let highest): self.init(.staleEpoch, "\(highest)")
    case .deviceFull: self.init(.deviceFull, "")
    case .deviceFailed(let reason): self.init(.deviceFailed, reason)
    case .invalidRange: self.init(.invalidRange, "")
    case .invalidBlock(let what): self.init(.malformed, what)
    case .closed: self.init(.unavailable, "the node is stopping")
    case .inUse, .notFormatted, .alreadyFormatted, .foreign, .newerFormat, .identityDamaged,
      .unfit, .system:
      self.init(.failed, "\(error)")
    }
  }
}

extension StoredBlock {
  init(_ block: BlockDescription) {
    self.init(
      key: block.key, layout: block.layout, acknowledged: block.acknowledged, epoch: block.epoch)
  }
}

extension BlockDescription {
  init(_ block: StoredBlock) {
    self.init(
      key: block.key, layout: block.layout, acknowledged: block.acknowledged, epoch: block.epoch)
  }
}

extension ShardListing {
  init(_ shard: ShardKey, _ blocks: [ListedBlock]) {
    self.init(
      shard: shard,
      blocks: blocks.map {
        Entry(stripe: $0.stripe, layout: $0.layout, acknowledged: $0.acknowledged)
      })
  }
}
