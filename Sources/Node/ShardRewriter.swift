internal import Cluster
internal import Coding
internal import Messages
internal import Ring
internal import Service
internal import ShardStore
internal import Stripes
internal import Wire

/// Writes shards anew that the leader asks for: reads or rebuilds block after block and stores each where it is to be. And
/// whole containers (`ContainerRepacker.swift`).
///
/// It decides nothing. What is to be written stands in the job, and whatever it wrote counts only once the leader has
/// looked at it and swapped the places; so it may die, or go on too long, at any point. A job that is begun again goes on
/// where blocks are missing. Loop-confined.
final class ShardRewriter: @unchecked Sendable {
  private final class Job: @unchecked Sendable {
    // Loop-confined.
    var status: RewriteStatus.Job
    init(stripeCount: Int) {
      status = RewriteStatus.Job(state: .running, stripeCount: UInt64(stripeCount))
    }
  }

  private let driver: any Driver
  private let client: WireClient
  private let log: Log
  /// Stores that are here: what goes to them does not take the way over the wire.
  private let localStore: (DeviceID) -> ShardStore?
  private var jobs: [UInt64: Job] = [:]
  /// In the order of their beginning.
  private var order: [UInt64] = []
  private var tasks: [UInt64: SpawnedTask] = [:]
  private var pace: Pace

  /// Jobs that are kept after their end.
  private static let keptCount = 256
  /// Jobs at a time.
  static let jobLimit = 32
  /// Stripes of a job under way at once: so much is in memory, k + 1 blocks for each.
  private static let window = 4
  private static let writeDeadline = Duration.seconds(30)

  init(
    driver: any Driver, client: WireClient, log: Log,
    localStore: @escaping (DeviceID) -> ShardStore?
  ) {
    self.driver = driver
    self.client = client
    self.log = log
    self.localStore = localStore
    pace = Pace(driver)
  }

  func begin(_ call: RewriteShards) throws(Refusal) {
    try begin(
      call.job, byteRate: call.byteRate, stripeCount: call.stripes.count,
      call.targets.allSatisfy { isInPlace($0, call) } ? "blocks mended" : "shards written",
      of: call.right.grant.container
    ) { [self] (job) async throws(RewriteFailure) in try await run(call, job) }
  }

  func begin(_ call: RepackContainer) throws(Refusal) {
    try begin(
      call.job, byteRate: call.byteRate, stripeCount: call.repacked.count, "container packed anew",
      of: call.right.grant.container
    ) { [self] (job) async throws(RewriteFailure) in try await run(call, job) }
  }

  private func begin(
    _ number: UInt64, byteRate: UInt64, stripeCount: Int, _ what: String, of container: ContainerID,
    _ work: @escaping @Sendable (Job) async throws(RewriteFailure) -> Void
  ) throws(Refusal) {
    pace.byteRate = byteRate
    if let known = jobs[number], ![.failed, .unreadable].contains(known.status.state) { return }
    guard tasks.count < Self.jobLimit else {
      throw Refusal(.unavailable, "\(tasks.count) jobs are under way")
    }
    let job = Job(stripeCount: stripeCount)
    if jobs.updateValue(job, forKey: number) == nil { order.append(number) }
    while order.count > Self.keptCount, let old = order.first(where: { tasks[$0] == nil }) {
      order.removeAll { $0 == old }
      jobs[old] = nil
    }
    tasks[number] = driver.spawn("rewrite") { [self] in
      do throws(RewriteFailure) {
        let begun = driver.now
        try await work(job)
        job.status.state = .done
        log.info(
          what,
          [
            "container": container, "stripes": stripeCount,
            "read": job.status.bytesRead, "written": job.status.bytesWritten,
            "milliseconds": Int((driver.now - begun) / .milliseconds(1)),
          ])
      } catch {
        job.status.state = error.isUnreadable ? .unreadable : .failed
        job.status.reason = error.reason
      }
      tasks[number] = nil
    }
  }

  /// Ends jobs that nobody waits for any more.
  func end(_ asked: [UInt64]) {
    for job in asked { tasks[job]?.cancel() }
  }

  func status(of asked: [UInt64]) -> [RewriteStatus.Job] {
    asked.map { jobs[$0]?.status ?? RewriteStatus.Job(state: .unknown) }
  }

  func stop() async {
    // In an order that does not depend on hashes.
    for job in order { tasks[job]?.cancel() }
    for job in order { await tasks[job]?.wait() }
  }

  // MARK: A job

  private func run(_ call: RewriteShards, _ job: Job) async throws(RewriteFailure) {
    let stripes = StripeIO(
      driver: driver, client: client, directory: JobDirectory(call))
    let places = call.sources.map(\.place)
    var found: [UInt8: Set<UInt64>] = [:]
    for target in call.targets where !isInPlace(target, call) {
      found[target.shardIndex] = try await stored(
        call.shard(target), on: target.place.device, target.address)
    }
    let present = found
    // Blocks that are mended in place have nothing to do with each other; a shard is whole or of no use.
    let goesOn = call.targets.allSatisfy { isInPlace($0, call) }
    try await each(call.stripes, atOnce: Self.window, goesOn: goesOn) {
      [self] (stripe) async throws(RewriteFailure) in
      let missing = call.targets.filter {
        stripe.layout.isStored(Int($0.shardIndex))
          && present[$0.shardIndex]?.contains(stripe.stripe) != true
      }
      if !missing.isEmpty { try await rewrite(stripe, missing, places, call, stripes, job) }
      job.status.stripesDone += 1
    }
  }

  private func run(_ call: RepackContainer, _ job: Job) async throws(RewriteFailure) {
    var present: [Set<UInt64>] = []
    for (place, (shard, address)) in zip(
      call.places, zip(call.places.shards(of: call.right.grant.container), call.targets))
    {
      present.append(try await stored(shard, on: place.device, address))
    }
    let wanted = call.repacked.filter { stripe in
      !stripe.layout.storedBlocks.allSatisfy { present[$0].contains(stripe.stripe) }
    }
    job.status.stripesDone = UInt64(call.repacked.count - wanted.count)
    let stripes = StripeIO(driver: driver, client: client, directory: JobDirectory(call))
    let repacker = ContainerRepacker(
      driver: driver, stripes: stripes, call: call, wanted: wanted
    ) { [self] in await pace.take($0) }
    try await each(wanted, atOnce: ContainerRepacker.window) {
      (stripe) async throws(RewriteFailure) in
      job.status.bytesWritten += UInt64(try await repacker.write(stripe))
      job.status.bytesRead = UInt64(repacker.bytesRead)
      job.status.stripesDone += 1
    }
  }

  /// Does `body` for all, some at once; after a failure it begins no other, unless it `goesOn`.
  ///
  /// - Throws: the first failure, once all that was begun has ended.
  private func each<Item: Sendable>(
    _ items: [Item], atOnce: Int, goesOn: Bool = false,
    _ body: @escaping @Sendable (Item) async throws(RewriteFailure) -> Void
  ) async throws(RewriteFailure) {
    var next = items.makeIterator()
    let failure = await withTaskGroup(of: RewriteFailure?.self) { group in
      var running = 0
      var failure: RewriteFailure?
      while true {
        while running < atOnce, failure == nil || goesOn, !Task.isCancelled,
          let item = next.next()
        {
          running += 1
          group.addTask {
            do throws(RewriteFailure) {
              try await body(item)
              return nil
            } catch {
              return error
            }
          }
        }
        guard running > 0, let result = await group.next() else { return failure }
        running -= 1
        failure = failure ?? result
      }
    }
    if let failure { throw failure }
    if Task.isCancelled { throw RewriteFailure("the node stops") }
  }

  /// Whether the target is the shard's own place: its blocks there are wrong or gone.
  private func isInPlace(_ target: RewriteShards.Target, _ call: RewriteShards) -> Bool {
    call.sources[Int(target.shardIndex)].place == target.place
  }

  /// The stripes that a target has already.
  private func stored(_ shard: ShardKey, on device: DeviceID, _ address: SocketAddress)
    async throws(RewriteFailure) -> Set<UInt64>
  {
    do throws(WireError) {
      return Set(
        try await client.call(
          ListShard(device: device, shard: shard), at: address, deadline: .seconds(10)
        ).answer.blocks.map(\.stripe))
    } catch {
      if error.refusalCode == .noSuchBlock { return [] }
      throw RewriteFailure("device \(device): \(error)")
    }
  }

  private func rewrite(
    _ stripe: RewriteShards.Stripe, _ missing: [RewriteShards.Target], _ places: [ShardPlace],
    _ call: RewriteShards, _ stripes: StripeIO, _ job: Job
  ) async throws(RewriteFailure) {
    let layout = stripe.layout
    let target = StripeTarget(
      container: call.right.grant.container, places: places, stripe: stripe.stripe)
    let indices = missing.map { Int($0.shardIndex) }
    let inPlace = missing.contains { isInPlace($0, call) }
    // Whoever is to be rebuilt is made of as many others as there are data blocks.
    let mayRead =
      indices.allSatisfy { !call.sources[$0].isDown && !call.sources[$0].isSlow } && !inPlace
    let readCount = mayRead ? indices.count : layout.dataBlockCount
    await pace.take((readCount + indices.count) * layout.blockByteCount)
    if driver.meets(.rewriteStalls) { await driver.sleep(.seconds(5)) }
    let payloads: [Slice]
    do throws(StripeError) {
      payloads =
        inPlace
        ? try await stripes.rebuild(target, layout: layout, indices: indices)
        : try await stripes.copy(target, layout: layout, indices: indices)
    } catch {
      throw RewriteFailure("stripe \(stripe.stripe): \(error)", isUnreadable: true)
    }
    job.status.bytesRead += UInt64(readCount * layout.blockByteCount)
    for (aim, payload) in zip(missing, payloads) {
      let sums = payload.withBytes { CRC32C.checksums(of: $0) }
      try await store(payload, sums, aim, target, layout, call, stripes)
      job.status.bytesWritten += UInt64(layout.blockByteCount)
    }
  }

  private func store(
    _ payload: Slice, _ sums: [UInt32], _ aim: RewriteShards.Target, _ target: StripeTarget,
    _ layout: StripeLayout, _ call: RewriteShards, _ stripes: StripeIO
  ) async throws(RewriteFailure) {
    if let local = localStore(aim.place.device) {
      let key = BlockKey(shard: call.shard(aim), stripe: target.stripe)
      let block = StoredBlock(
        key: key, layout: layout, acknowledged: 0, epoch: call.right.grant.epoch)
      do throws(StoreError) {
        try await local.write(block, checksums: sums, payload: payload, found: sums)
      } catch {
        throw RewriteFailure("device \(aim.place.device): \(error)")
      }
      return
    }
    do throws(WireError) {
      try await stripes.store(
        payload, checksums: sums, at: aim.place, index: Int(aim.shardIndex), of: target,
        layout: layout, right: call.right, deadline: Self.writeDeadline)
    } catch {
      throw RewriteFailure("device \(aim.place.device): \(error)")
    }
  }
}

struct RewriteFailure: Error {
  var reason: String
  /// Whether blocks could not be read, as against written.
  var isUnreadable: Bool
  init(_ reason: String, isUnreadable: Bool = false) {
    self.reason = reason
    self.isUnreadable = isUnreadable
  }
}

/// Where the devices of one job are, as the leader said. Sound: nothing of it changes once it is made.
private final class JobDirectory: DeviceDirectory, @unchecked Sendable {
  private var addresses: [DeviceID: SocketAddress] = [:]
  private var down: Set<DeviceID> = []
  private var slow: Set<DeviceID> = []

  init(_ call: RewriteShards) {
    add(call.sources)
    for target in call.targets { addresses[target.place.device] = target.address }
  }
  init(_ call: RepackContainer) {
    add(call.sources)
    for (place, address) in zip(call.places, call.targets) { addresses[place.device] = address }
  }
  private func add(_ sources: [RewriteShards.Source]) {
    for source in sources {
      if !source.address.host.isEmpty { addresses[source.place.device] = source.address }
      if source.isDown { down.insert(source.place.device) }
      if source.isSlow { slow.insert(source.place.device) }
    }
  }
  func address(of device: DeviceID) -> SocketAddress? { addresses[device] }
  func isDown(_ device: DeviceID) -> Bool { down.contains(device) }
  func isSlow(_ device: DeviceID) -> Bool { slow.contains(device) }
  func nodeName(of device: DeviceID) -> String {
    addresses[device].map { "\($0)" } ?? "\(device)"
  }
}

/// Lets so many bytes by in a second, for all who share it. Loop-confined.
private final class Pace {
  /// 0: no bound.
  var byteRate: UInt64 = 0
  private let driver: any Driver
  private var next = Duration.zero

  init(_ driver: any Driver) { self.driver = driver }

  func take(_ byteCount: Int) async {
    guard byteRate > 0 else { return }
    let now = driver.now
    let at = max(now, next)
    next = at + .seconds(Double(byteCount) / Double(byteRate))
    if at > now { await driver.sleep(at - now) }
  }
}
