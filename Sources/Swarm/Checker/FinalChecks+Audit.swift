internal import Cluster
internal import Coding
internal import Coordinator
internal import DataPath
import Glibc  // memcmp only.
internal import Messages
internal import Metadata
internal import Node
internal import Ring
internal import ShardStore
internal import Simulation
internal import Stripes

/// What is looked at inside: the coordinators' states, and what devices hold.
extension FinalChecks {
  /// All of it, once no client is left.
  func audit() async throws {
    try await cleanUp()
    try await heal()
    try await readAgain()
    try auditStates()
    try await auditUsage()
    try await auditDevices()
    try await checkByOperator()
    try await auditBlocks()
    try await auditLog()
    try await reopenEverything()
    try await readWithoutSome()
    try await cleanUp()
    run.settledDigest = try lastingDigest()
  }

  // MARK: States

  private var leader: CoordinatorSlot? {
    cluster.coordinators.first { $0.isUp && $0.server?.isLeading == true }
  }

  /// The state of the coordinator that leads.
  func leadingStore() throws -> MemoryStore {
    guard let store = leader?.storage.opened.last else {
      throw failure("serves again", "nobody leads; \(cluster.describe())")
    }
    return store
  }

  /// Waits until what dead clients left is gone: sessions, uploads, grants, trash and condemned containers.
  private func cleanUp() async throws {
    let end = world.now + cleanUpLimit
    while true {
      if let failure = cluster.failure { throw failure }
      var left = "nobody leads"
      if let store = leader?.storage.opened.last {
        // A device that was replaced is asked for ever: nobody has given its node up.
        let holders = holders()
        let leftovers = try StateAudit.leftovers(in: store) { holders[$0]?.isDamaged ?? true }
        if leftovers.isEmpty { return }
        left = leftovers.map { "\($0.count) \($0.what)" }.joined(separator: ", ")
      }
      if world.now > end {
        throw failure("nothing is left over", "after \(cleanUpLimit): \(left)")
      }
      await world.sleep(.seconds(1))
    }
  }

  /// The longest session, the longest grace before deletion, and the duties' own intervals, twice. At a MiB a second all that
  /// is to have another scheme takes minutes more.
  private var cleanUpLimit: Duration {
    cluster.scenario.coordinator.repairByteRate == 1 << 20 ? .seconds(600) : .seconds(180)
  }

  private func lastingDigest() throws -> Fingerprint {
    try StateAudit.lastingDigest(of: leadingStore())
  }

  /// Every coordinator's state fits together, and those at one position are the same.
  private func auditStates() throws {
    var digests: [UInt64: (name: String, digest: Fingerprint)] = [:]
    for slot in cluster.coordinators {
      for store in slot.storage.opened {
        let problems = try StateAudit.violations(in: store)
        guard problems.isEmpty else {
          throw failure(
            "the state fits together", "\(slot.name): \(problems.joined(separator: "; "))")
        }
        let position = try store.appliedPosition()
        let digest = try StateAudit.digest(of: store)
        if let other = digests[position], other.digest != digest {
          throw failure(
            "replicas agree", "\(slot.name) and \(other.name) differ at position \(position)")
        }
        digests[position] = (slot.name, digest)
      }
    }
    // Nobody wrote since the last round but this round's own clients, who put under names of their own; what a
    // coordinator made of the log and its checkpoint on an empty disk must be what there was.
    if let before = run.settledDigest, let after = run.digestAfterDarkness, before != after {
      throw failure("replicas agree", "the state made anew from the log is another")
    }
  }

  /// Called when all has come back and before anybody writes.
  func noteStateAfterDarkness() throws {
    // A damaged device that is given up, or is back, changes which containers may be written to.
    // And shards of nodes that are away for long go elsewhere.
    guard run.settledDigest != nil, cluster.victims.isEmpty,
      cluster.scenario.coordinator.rebuildAfter > .seconds(60)
    else { return }
    run.digestAfterDarkness = try lastingDigest()
  }

  /// `df` against what the last reads showed.
  private func auditUsage() async throws {
    let client = cluster.client(named: "usage \(round)")
    let usage: GetUsage.Answer
    do throws(DataPathError) {
      usage = try await client.coordinator.query(GetUsage(level: .strong))
    } catch {
      throw failure("serves again", "df: \(error)")
    }
    await client.close()
    let count = UInt64(current.count) + versionedObjectCount
    let bytes = current.values.reduce(versionedByteCount) { $0 + $1.byteCount }
    guard usage.objectCount == count, usage.logicalBytes == bytes else {
      throw failure(
        "df is a recount",
        "df says \(usage.objectCount) objects with \(usage.logicalBytes) bytes, "
          + "there are \(count) with \(bytes)")
    }
  }

  // MARK: Devices

  struct HeldBy {
    var slot: NodeSlot
    var store: ShardStore
    var isDamaged: Bool
  }

  func holders() -> [DeviceID: HeldBy] {
    var result: [DeviceID: HeldBy] = [:]
    for slot in cluster.nodes {
      guard let node = slot.node else { continue }
      for id in node.devices {
        guard let store = node.store(of: id) else { continue }
        result[id] = HeldBy(slot: slot, store: store, isDamaged: slot.isDamaged(store))
      }
    }
    return result
  }

  /// Each registered stripe is on its devices at full width, and nothing else is anywhere for long.
  private func auditDevices() async throws {
    let end = world.now + .seconds(120)
    while true {
      run.registered.look(cluster)
      await run.registered.check(cluster)
      guard let stray = try await strayShard() else { return }
      if let failure = cluster.failure { throw failure }
      if world.now > end { throw failure("nothing is left over", stray) }
      await world.sleep(.seconds(2))
    }
  }

  /// Looks at every device once; throws when something is missing.
  ///
  /// - Returns: something that nobody needs.
  private func strayShard() async throws -> String? {
    let containers = try StateAudit.containers(in: leadingStore())
    let holders = holders()
    var wanted: [DeviceID: [ShardKey: [StripeRecord]]] = [:]
    // Grants are cleared on all devices or on none, and a block that comes late is looked for once its container is
    // forgotten: with a device that is gone neither comes about.
    var isUncleared = Set<ContainerID>()
    var living = Set<ShardKey>()
    for (record, stripes) in containers {
      if record.devices.contains(where: { holders[$0]?.isDamaged ?? true }) {
        isUncleared.insert(record.id)
      }
      if record.state == .condemned { continue }
      for (index, shard) in record.places.shards(of: record.id).enumerated() {
        let device = record.places[index].device
        living.insert(shard)
        let stored = stripes.filter { $0.layout.isStored(index) }
        if !stored.isEmpty { wanted[device, default: [:]][shard] = stored }
      }
    }
    guard let root = leader?.server?.root else { return "nobody leads" }
    var named = Set<[UInt64]>()
    for link in root.links { named.insert([link.container.raw, link.generation]) }
    for container in root.checkpoint?.containers ?? [] {
      named.insert([container.container.raw, container.generation])
    }
    var stray: String?
    func note(_ held: HeldBy, _ what: String) {
      // What a damaged device forgets to have deleted comes back; what failed attempts left is looked for now and then.
      if !held.isDamaged && cluster.scenario.coordinator.inventoryInterval < .seconds(60) {
        stray = what
      }
    }
    for (device, held) in holders.sorted(by: { $0.key < $1.key }) {
      if case .retired = held.store.state { continue }
      var expected = wanted[device] ?? [:]
      var after: ShardKey?
      while true {
        let page: (shards: [ShardSummary], isComplete: Bool)
        do {
          page = try await held.store.inventory(after: after, limit: 500)
        } catch {
          if held.isDamaged { break }
          throw failure("healthy devices serve", "\(held.slot.name) \(held.store.path): \(error)")
        }
        for summary in page.shards {
          let shard = summary.shard
          let place =
            "\(held.slot.name) \(held.store.path) \(shard.container) generation \(shard.generation)"
          guard shard.container.kind == .data else {
            if !named.contains([shard.container.raw, shard.generation]) {
              note(held, "\(place): no link or checkpoint of the root")
            }
            continue
          }
          guard let stripes = expected.removeValue(forKey: shard) else {
            if isUncleared.contains(shard.container) { continue }
            if living.contains(shard) {
              // As below: a writer that was cut off may have left it.
              if cluster.scenario.faults.isCalm { note(held, "\(place): was never registered") }
            } else {
              note(held, "\(place): of no container")
            }
            continue
          }
          let listed = try await held.store.list(shard)
          let layouts = Dictionary(
            listed.map { ($0.stripe, $0.layout) }, uniquingKeysWith: { a, _ in a })
          if !held.isDamaged {
            for stripe in stripes where layouts[stripe.stripe] != stripe.layout {
              if try isMoving(shard, containers) { return "\(shard.container) moves" }
              throw failure(
                "stripes are stored at full width",
                "\(place): stripe \(stripe.stripe) is \(layouts[stripe.stripe].map { "\($0)" } ?? "missing")"
              )
            }
          }
          let registered = Set(stripes.map(\.stripe))
          if !isUncleared.contains(shard.container),
            let extra = listed.first(where: { !registered.contains($0.stripe) })
          {
            note(held, "\(place): stripe \(extra.stripe) was never registered")
          }
        }
        guard !page.isComplete, let last = page.shards.last else { break }
        after = last.shard
      }
      if !held.isDamaged, let missing = expected.keys.min() {
        if try isMoving(missing, containers) { return "\(missing.container) moves" }
        throw failure(
          "stripes are stored at full width",
          "\(held.slot.name) \(held.store.path): \(missing.container) generation \(missing.generation) "
            + "is not there")
      }
    }
    return stray
  }

  // MARK: Blocks

  /// Every chunk of every directory is what its fingerprint says, and parity is the parity of the data.
  private func auditBlocks() async throws {
    let holders = holders()
    let client = cluster.client(named: "auditor \(round)")
    do throws(DataPathError) { try await client.access.map.refresh() } catch {
      throw failure("serves again", "the map: \(error)")
    }
    for (record, stripes) in try StateAudit.containers(in: leadingStore())
    where record.state != .condemned {
      for stripe in stripes {
        do {
          try await audit(stripe, of: record, holders, client)
        } catch {
          // Dead stripes may go meanwhile; and shards may move, and what they leave is deleted.
          guard let now = try current(record.id),
            now.stripes.contains(where: { $0.stripe == stripe.stripe })
          else { continue }
          guard now.record.places != record.places else { throw error }
          try await audit(stripe, of: now.record, self.holders(), client)
        }
      }
    }
    await client.close()
  }

  private func audit(
    _ stripe: StripeRecord, of container: ContainerRecord, _ holders: [DeviceID: HeldBy],
    _ client: SwarmClient
  ) async throws {
    let place = "\(container.id) stripe \(stripe.stripe)"
    let layout = stripe.layout
    let size = layout.blockByteCount
    let target = StripeTarget(
      container: container.id, places: container.places, stripe: stripe.stripe)
    var blocks: [Int: Slice] = [:]
    for index in layout.storedBlocks {
      guard let held = holders[target.device(index)] else { continue }
      do {
        blocks[index] = try await held.store.read(
          target.block(index), offset: 0, byteCount: size
        ).bytes
      } catch {
        if held.isDamaged { continue }
        throw failure(
          "stripes are stored at full width",
          "\(place): block \(index) on \(held.slot.name): \(error)")
      }
    }
    var bytes: [UInt8] = []
    if layout.storedBlocks.allSatisfy({ blocks[$0] != nil }) {
      let k = layout.scheme.k
      let width = layout.scheme.width
      bytes = [UInt8](repeating: 0, count: k * size)
      for index in 0..<k {
        guard let block = blocks[index] else { continue }
        block.withBytes { from in
          bytes.withUnsafeMutableBytes {
            UnsafeMutableRawBufferPointer(rebasing: $0[index * size..<(index + 1) * size])
              .copyMemory(from: from)
          }
        }
      }
      var parity = [UInt8](repeating: 0, count: (width - k) * size)
      Self.encode(layout.scheme, bytes, &parity, size)
      for index in k..<width {
        let isSame = blocks[index]!.withBytes { found in
          parity.withUnsafeBytes { expected in
            found.count == size
              && memcmp(expected.baseAddress! + (index - k) * size, found.baseAddress!, size) == 0
          }
        }
        if !isSame { throw failure("parity fits", "\(place): block \(index)") }
      }
    } else {
      do throws(StripeError) {
        for slice in try await client.access.stripes.read(
          target, layout: layout, range: 0..<layout.byteCount)
        {
          bytes += slice.array
        }
      } catch {
        throw failure("chunks match their fingerprints", "\(place): \(error)")
      }
    }
    var found: [Fingerprint] = []
    let codec = GroupCodec()
    let keyDomain = try await client.access.keys.domain(container.domain.keyDomain)
    for group in stripe.groups {
      let plain: Slice
      do {
        let frame = Int(group.offset)..<Int(group.offset) + Int(group.storedByteCount)
        let key = try await key(of: bytes[frame], client)
        plain = try bytes.withUnsafeBytes { bytes in
          try codec.decode(
            UnsafeRawBufferPointer(rebasing: bytes[frame]), codec: group.codec,
            plainByteCount: group.plainByteCount, key: key, in: client.driver.buffers)
        }
        guard key?.domain == keyDomain?.id else {
          throw DataPathError.corrupt("a group of another key domain")
        }
        try checkNonce(of: bytes[frame], place)
      } catch let failure as TrialFailure {
        throw failure
      } catch {
        throw failure("chunks match their fingerprints", "\(place): \(error)")
      }
      found += plain.withBytes { plain in
        var chunks: [UnsafeRawBufferPointer] = []
        var offset = 0
        for chunk in group.chunks {
          let end = offset + Int(chunk.byteCount)
          chunks.append(UnsafeRawBufferPointer(rebasing: plain[offset..<end]))
          offset = end
        }
        return Fingerprint.of(chunks)
      }
    }
    if let keyDomain { found = found.map { keyDomain.keyed($0) } }
    for (chunk, found) in zip(stripe.groups.flatMap(\.chunks), found)
    where found != chunk.fingerprint {
      throw failure(
        "chunks match their fingerprints", "\(place): \(chunk.fingerprint) reads as \(found)")
    }
  }

  /// No two groups are sealed with one key and one nonce; one that was stored twice, after a stripe that failed, is the same.
  private func checkNonce(of frame: ArraySlice<UInt8>, _ place: String) throws {
    guard let seal = try GroupHeader(decoding: Array(frame.prefix(GroupHeader.byteCount))).seal
    else { return }
    let digest = frame.withUnsafeBytes { Fingerprint(of: $0) }
    let known = run.sealedFrames.updateValue(digest, forKey: seal)
    if let known, known != digest {
      throw failure("no nonce is used twice", "\(place): \(seal)")
    }
  }

  /// The key that a frame names; nil when it names none.
  private func key(of frame: ArraySlice<UInt8>, _ client: SwarmClient) async throws -> DataKey? {
    guard let seal = try GroupHeader(decoding: Array(frame.prefix(GroupHeader.byteCount))).seal
    else { return nil }
    guard let key = try await client.access.keys.dataKey(seal.keyID) else {
      throw DataPathError.corrupt("data key \(seal.keyID) is not there")
    }
    return key
  }

  // MARK: The log

  /// Each stripe of a sealed link or a checkpoint was acknowledged, so every device of it has it, whole and the same.
  private func auditLog() async throws {
    guard let root = leader?.server?.root else { return }
    for link in root.links {
      try await audit(
        link.container, link.generation, link.scheme, link.devices,
        stripeCount: link.sealedStripes ?? 0)
    }
    for part in root.checkpoint?.containers ?? [] {
      try await audit(
        part.container, part.generation, part.scheme, part.devices, stripeCount: part.stripeCount)
    }
  }

  private func audit(
    _ container: ContainerID, _ generation: UInt64, _ scheme: Scheme, _ devices: [DeviceID],
    stripeCount: UInt64
  ) async throws {
    let holders = holders()
    var first: [UInt64: Fingerprint] = [:]
    for (index, device) in devices.enumerated() {
      guard let held = holders[device], !held.isDamaged else { continue }
      let shard = ShardKey(
        container: container, generation: generation, shardIndex: UInt8(index))
      func problem(_ stripe: UInt64, _ what: String) -> TrialFailure? {
        // A checkpoint written meanwhile may have replaced it.
        guard let root = leader?.server?.root,
          root.links.contains(where: { $0.container == container && $0.generation == generation })
            || root.checkpoint?.containers.contains(where: {
              $0.container == container && $0.generation == generation
            }) == true
        else { return nil }
        return failure(
          "the log is stored at full width",
          "\(held.slot.name) \(held.store.path) \(container) generation \(generation) stripe "
            + "\(stripe) of \(stripeCount): \(what)")
      }
      var layouts: [UInt64: StripeLayout] = [:]
      do {
        for block in try await held.store.list(shard) { layouts[block.stripe] = block.layout }
      } catch {
        if let problem = problem(0, "\(error)") { throw problem }
        return
      }
      for stripe in 0..<stripeCount {
        var digest: Fingerprint?
        var trouble = "missing"
        if let layout = layouts[stripe] {
          do {
            digest = try await held.store.read(
              BlockKey(shard: shard, stripe: stripe), offset: 0, byteCount: layout.blockByteCount
            ).bytes.withBytes { Fingerprint(of: $0) }
          } catch {
            trouble = "\(error)"
          }
        }
        if let digest, first[stripe] ?? digest != digest { trouble = "not what another device has" }
        guard let digest, first[stripe] ?? digest == digest else {
          if let problem = problem(stripe, trouble) { throw problem }
          return
        }
        first[stripe] = digest
      }
    }
  }

  // MARK: Life and death

  /// Nodes that may be absent without anything being lost, in an order by chance: the damaged ones first, for what
  /// they lack they lack anyway.
  private func absentees(_ random: inout SimulationRandom) -> [NodeSlot] {
    guard cluster.nodes.count > 1 else { return [] }
    let scenario = cluster.scenario
    // Some may have the one scheme and some the other.
    let m = min(scenario.scheme.m, scenario.schemeChange?.scheme.m ?? .max)
    var damaged = cluster.nodes.filter { !$0.damaged.isEmpty }
    var whole = cluster.nodes.filter { $0.damaged.isEmpty }
    func shuffle(_ slots: inout [NodeSlot]) {
      for place in slots.indices.reversed() { slots.swapAt(place, random.below(place + 1)) }
    }
    shuffle(&damaged)
    shuffle(&whole)
    // While silent damage may make a false witness of the log's end, all others are heard.
    let others =
      cluster.scenario.faults.damage == .silent
      ? 0 : max(0, m - cluster.scenario.faults.victims.count)
    return Array((damaged + whole.prefix(others)).prefix(m))
  }

  /// Every daemon opens again after a clean stop, and after SIGKILL.
  private func reopenEverything() async throws {
    let isQuiet = cluster.scenario.faults.damage == .silent
    for isClean in [true, false] {
      if isQuiet {
        // One after the other, so that a new leader would hear all others.
        for slot in cluster.nodes {
          if isClean {
            slot.stop(rest: .zero, patience: .seconds(30))
          } else {
            slot.end(.kill, rest: .zero)
          }
          try await cluster.waitUntilUp(within: .seconds(120))
        }
      } else {
        for slot in cluster.nodes as [DaemonSlot] + cluster.coordinators {
          if isClean {
            slot.stop(rest: .zero, patience: .seconds(30))
          } else {
            slot.end(.kill, rest: .zero)
          }
        }
      }
      await world.sleep(.milliseconds(100))
      try await cluster.waitUntilUp(within: .seconds(120))
      try await cluster.waitUntilServing(within: .seconds(60), "serves again")
    }
  }

  /// With `m` nodes away everything can still be read.
  private func readWithoutSome() async throws {
    var random = world.random(named: "absentees/\(round)")
    let absent = absentees(&random)
    guard !absent.isEmpty else { return }
    for slot in absent { slot.end(.kill, rest: .seconds(3600)) }
    let client = cluster.client(named: "reader \(round)")
    do throws(DataPathError) {
      try await readAll(client, isFirst: false)
    } catch {
      throw failure(
        "no acknowledged object is lost", "without \(absent.map(\.name)): \(error)")
    }
    if let failure = run.failure { throw failure }
    await client.close()
    for slot in absent { slot.unhold() }
    try await cluster.waitUntilUp(within: .seconds(120))
    try await cluster.waitUntilServing(within: .seconds(60), "serves again")
  }

  private static func encode(
    _ scheme: Scheme, _ data: [UInt8], _ parity: inout [UInt8], _ size: Int
  ) {
    guard scheme.m > 0 else { return }
    data.withUnsafeBytes { from in
      parity.withUnsafeMutableBytes { to in
        StripeCoder.shared(scheme).encode(
          data: (0..<scheme.k).map { from.baseAddress! + $0 * size },
          parity: (0..<scheme.m).map { to.baseAddress! + $0 * size }, byteCount: size)
      }
    }
  }
}
