internal import Cluster
internal import Coding
internal import DataPath
internal import Messages
internal import Metadata
internal import ShardStore
internal import Simulation

/// What an operator is told who has the cluster checked.
extension FinalChecks {
  /// `admin fsck` finds nothing where all is as it should be. What is then broken on purpose it finds, leaves alone, and mends
  /// when it is told to.
  func checkByOperator() async throws {
    let client = cluster.client(named: "operator \(round)")
    try await scrubUnreadable()
    // Where nobody compares devices with directories, what failed attempts left is still there.
    if !isCompared { _ = try await check(client, repairs: true) }
    try await waitUntilAllAgrees(client)
    // A leader that has just begun compares by itself, once.
    for attempt in 1...3 {
      guard let planted = try await plant() else { break }
      let isKept = try await look(for: planted, client)
      _ = try await check(client, repairs: true)
      try await waitUntilMended(planted)
      try await waitUntilAllAgrees(client)
      if isKept { break }
      if attempt == 3 { throw failure("fsck only looks", "what is planted is always deleted") }
    }
    await client.close()
  }

  /// What could not be read while reads failed counts as wrong until others mend it or, where they cannot, a scrub reads it
  /// right.
  private func scrubUnreadable() async throws {
    let scenario = cluster.scenario
    let leastM = min(scenario.scheme.m, scenario.schemeChange?.scheme.m ?? .max)
    guard leastM == 0 || !isHealable else { return }
    for held in holders().sorted(by: { $0.key < $1.key }).map(\.value)
    where held.store.state == .healthy && held.store.damagedBlockCount > 0 {
      do {
        _ = await held.store.waitForScrub(try held.store.scrubNow(byteRate: 1 << 30))
      } catch {
        throw failure("fsck finds nothing", "\(held.slot.name) \(held.store.path): \(error)")
      }
    }
  }

  private static let limit = Duration.seconds(120)

  /// Whether devices are compared with directories all the time, without being asked for it.
  private var isCompared: Bool {
    cluster.scenario.coordinator.inventoryInterval < .seconds(60)
  }

  /// What a check finds, but for what faults did that nothing mends.
  private func check(_ client: SwarmClient, repairs: Bool) async throws -> [CheckStatus.Finding] {
    let end = world.now + Self.limit
    while true {
      if let failure = cluster.failure { throw failure }
      do throws(DataPathError) {
        if let found = try await Operator.check(client, repairs: repairs) {
          let holders = holders()
          return found.filter { !isExcused($0, holders) }
        }
      } catch {
        throw failure("serves again", "admin fsck: \(error)")
      }
      if world.now > end { throw failure("serves again", "no admin fsck came to its end") }
      await world.sleep(.seconds(1))
    }
  }

  private func isExcused(_ finding: CheckStatus.Finding, _ holders: [DeviceID: HeldBy]) -> Bool {
    // A block that could not be read once counts as wrong until it is mended, which takes others.
    let mayStayWrong = !isHealable && !cluster.victims.isEmpty
    if [.damaged, .object].contains(finding.kind) && mayStayWrong { return true }
    if [.state, .object].contains(finding.kind) { return false }
    // A device that was replaced is asked for ever: nobody has given its node up.
    guard let device = DeviceID(String(finding.subject.prefix { $0 != " " })),
      let held = holders[device]
    else { return true }
    return held.isDamaged && (!isHealable || [.damaged, .log].contains(finding.kind))
  }

  /// Where devices are compared all the time nothing may be found of any that nothing damaged.
  private func waitUntilAllAgrees(_ client: SwarmClient) async throws {
    let end = world.now + Self.limit
    while let finding = try await check(client, repairs: false).first {
      let isLasting =
        isCompared && cluster.victims.isEmpty && ![.damaged, .object].contains(finding.kind)
      if world.now > end || isLasting {
        throw failure(
          "fsck finds nothing", "\(finding.kind): \(finding.subject): \(finding.text)")
      }
      await world.sleep(.seconds(2))
    }
  }

  // MARK: Planted

  /// What is wrong on one device: a shard of a container that nobody knows, and, where others have enough for it, a block that
  /// is gone.
  private struct Planted {
    var held: HeldBy
    var stray: ShardKey
    var missing: BlockKey?

    /// Whether a finding is of it.
    func isMeant(by finding: CheckStatus.Finding) -> Bool {
      guard finding.subject.hasPrefix("\(held.store.device) ") else { return false }
      return finding.kind == .stray || finding.kind == .missing && missing != nil
    }
  }

  /// Nil when there is nothing that could be broken without harm.
  private func plant() async throws -> Planted? {
    guard !cluster.scenario.isTight, cluster.victims.isEmpty || isHealable else { return nil }
    let holders = holders()
    var choices: [(held: HeldBy, key: BlockKey, record: ContainerRecord, layout: StripeLayout)] = []
    for (record, stripes) in try StateAudit.containers(in: leadingStore())
    where record.state == .sealed || record.state == .available {
      // What is taken has to be made again from the others.
      let isWhole = record.devices.allSatisfy {
        holders[$0].map { $0.store.state == .healthy && !$0.isDamaged } ?? false
      }
      guard isWhole else { continue }
      for (index, shard) in record.places.shards(of: record.id).enumerated() {
        guard let held = holders[record.devices[index]],
          let stripe = stripes.last(where: { $0.layout.isStored(index) })
        else { continue }
        choices.append((held, BlockKey(shard: shard, stripe: stripe.stripe), record, stripe.layout))
      }
    }
    guard !choices.isEmpty else { return nil }
    var random = world.random(named: "planted/\(round)")
    let (held, key, record, layout) = random.pick(choices)
    // The first position founded the cluster: no container was ever granted at it.
    let stray = ShardKey(
      container: ContainerID(.data, 1), generation: 1, shardIndex: key.shard.shardIndex)
    let block = try await held.store.read(key, offset: 0, byteCount: layout.blockByteCount)
    var strayBlock = block.block
    strayBlock.key = BlockKey(shard: stray, stripe: 0)
    try await held.store.write(strayBlock, checksums: block.checksums, payload: block.bytes)
    let isMissing = record.scheme.m > 0
    if isMissing {
      try await held.store.delete(
        stripes: [key.stripe], of: key.shard, epoch: held.store.highestEpoch)
    }
    return Planted(held: held, stray: stray, missing: isMissing ? key : nil)
  }

  /// Has it looked for, and nothing done about it. Leaders find it by themselves too, soon where devices are compared all the
  /// time.
  ///
  /// - Returns: false when it was deleted meanwhile by whoever did it.
  private func look(for planted: Planted, _ client: SwarmClient) async throws -> Bool {
    let told = try await check(client, repairs: false)
    let place = "\(planted.held.slot.name) \(planted.held.store.path)"
    if let other = told.first(where: { !planted.isMeant(by: $0) }) {
      throw failure("fsck finds nothing", "\(other.kind): \(other.subject): \(other.text)")
    }
    let kinds = Set(told.map(\.kind))
    if isCompared { return true }
    if try await planted.held.store.list(planted.stray).isEmpty { return false }
    guard kinds.contains(.stray) else {
      throw failure("fsck finds what is wrong", "\(place): \(planted.stray) is of no container")
    }
    if let missing = planted.missing, !kinds.contains(.missing),
      try await isMissing(missing, planted)
    {
      throw failure("fsck finds what is wrong", "\(place): \(missing) is missing")
    }
    return true
  }

  /// Whether the block is gone from where it is to be: its container may be elsewhere by now.
  private func isMissing(_ key: BlockKey, _ planted: Planted) async throws -> Bool {
    let record = try StateAudit.containers(in: leadingStore()).first {
      $0.record.id == key.shard.container
    }?.record
    let index = Int(key.shard.shardIndex)
    guard let record, index < record.places.count,
      record.places[index]
        == ShardPlace(device: planted.held.store.device, generation: key.shard.generation)
    else { return false }
    return try await !planted.held.store.list(key.shard).contains { $0.stripe == key.stripe }
  }

  private func waitUntilMended(_ planted: Planted) async throws {
    let end = world.now + Self.limit
    while true {
      if let failure = cluster.failure { throw failure }
      let isStray = try await !planted.held.store.list(planted.stray).isEmpty
      var isMissing = false
      if let missing = planted.missing { isMissing = try await self.isMissing(missing, planted) }
      if !isStray && !isMissing { return }
      if world.now > end {
        throw failure(
          "fsck mends what is wrong",
          "\(planted.held.slot.name) \(planted.held.store.path): "
            + (isStray ? "\(planted.stray) is there" : "\(planted.missing!) is missing"))
      }
      await world.sleep(.seconds(1))
    }
  }
}
