internal import Coding
internal import DataPath
internal import Messages
internal import Ring
internal import Simulation

/// The clients of a trial, what they do, and what they are told. Loop-confined.
///
/// - `PlannedOperation`, ``WorkloadPlan``: what is to be done, drawn beforehand
/// - ``WorkloadClient``: does it and writes the history
/// - `Content`, `ContentStreams`: bytes that are made, not kept
package final class WorkloadRun: @unchecked Sendable {
  let cluster: SimulatedCluster
  let world: SimulatedWorld
  let plan: WorkloadPlan
  var history = History()
  /// In buckets with versions, which are told of apart.
  var versions = VersionHistory()
  var contentOfVersion: [VersionHistory.Place: Content] = [:]
  private(set) var clients: [WorkloadClient] = []
  /// The first broken property found so far.
  package private(set) var failure: TrialFailure?
  package private(set) var operations: [String: OperationCounts] = [:]
  /// Written and read by clients.
  package internal(set) var byteCount: UInt64 = 0
  package let plannedOperationCount: Int
  /// No faults now, and none that anybody may still suffer from: nothing is excused.
  private(set) var isCalm: Bool
  private(set) var isStopping = false
  private(set) var isOver = false
  private let ended = WaitQueue()
  private var contentsOfTag: [String: [Content]] = [:]
  private var contentsOfHash: [Fingerprint: Content] = [:]
  private var contentsOfByteCount: [UInt64: [Content]] = [:]
  /// Answers to questions may be old for now: nobody holds coordinators to their leases.
  var mayBeStale: Bool { cluster.areClocksWild }
  let registered = RegisteredStripes()
  private var checkCount = 0
  /// Of the state after the last check.
  var settledDigest: Fingerprint?
  /// Groups seen at a look at everything, by what they are sealed with.
  var sealedFrames: [GroupHeader.Seal: Fingerprint] = [:]
  /// Of the state that came back after that.
  var digestAfterDarkness: Fingerprint?

  /// - Parameter kept: numbers of the operations to carry out; nil: all.
  package init(_ cluster: SimulatedCluster, kept: Set<Int>? = nil) {
    self.cluster = cluster
    world = cluster.world
    let scenario = cluster.scenario
    isCalm = scenario.faults.isCalm
    plan = WorkloadPlan(
      seed: world.seed, shape: scenario.workload, borders: Self.borders(scenario.scheme))
    plannedOperationCount = plan.operationCount
    for (index, operations) in plan.operations.enumerated() {
      var random = world.random(named: "client/\(index)")
      clients.append(
        WorkloadClient(
          self, index, operations.filter { kept?.contains($0.number) ?? true }, random: &random))
    }
  }

  /// Lengths where something changes: inline limit, chunks, pieces, blocks and stripes with the frames around groups.
  private static func borders(_ scheme: Scheme) -> [UInt64] {
    let block = 1 << 20 - 4096
    return [
      0, 1, 4096, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 1 << 20, block, block - 48,
      block * scheme.k, block * scheme.k - 48, block * scheme.k * 2, 4 << 20,
    ].filter { $0 >= 0 }.map(UInt64.init)
  }

  // MARK: Course

  /// Makes the buckets and lets the clients begin.
  package func start() async throws {
    let client = cluster.client(named: "maker")
    for policy in cluster.scenario.classes { try await define(policy, by: client) }
    for domain in cluster.scenario.keyDomains where !domain.isEmpty {
      try await makeDomain(domain, by: client)
    }
    for (turn, bucket) in plan.lastingBuckets.enumerated() {
      try await make(bucket, turn, by: client)
    }
    for (turn, bucket) in WorkloadPlan.versionedBuckets.enumerated() {
      try await make(bucket, turn, by: client)
      try await keepVersions(bucket, by: client)
    }
    await client.close()
    for client in clients { client.start() }
    world.harness.spawn("registered") { [self] in
      var second = 0
      while !isOver {
        if second.isMultiple(of: 3) { registered.look(cluster) }
        // Sooner than a leader compares what a device has that is back.
        await registered.check(cluster)
        second += 1
        guard await world.harness.sleep(.seconds(1)) else { return }
      }
    }
  }

  /// Makes a bucket. What faults did to a founding may take a while to pass: a connection that was forgotten is given up
  /// after 20 s, and until then the log may be refused a device.
  private func make(_ bucket: String, _ turn: Int, by client: SwarmClient) async throws {
    let scenario = cluster.scenario
    let end = world.now + (cluster.scenario.isFoundedUnderFaults ? .seconds(60) : .zero)
    var isInDoubt = false
    while true {
      let entry = history.invoke("maker", .createBucket(bucket), at: world.now)
      do throws(DataPathError) {
        _ = try await client.coordinator.execute(
          .createBucket(
            name: bucket, storageClass: scenario.className(turn),
            keyDomain: scenario.keyDomainName(turn)))
        return history.answer(entry, .done, at: world.now)
      } catch {
        if isInDoubt && error.refusalCode == .bucketExists {
          return history.answer(entry, .bucketExists, at: world.now)
        }
        switch error {
        case .noCoordinator where world.now < end, .outcomeUnknown where world.now < end:
          isInDoubt = true
          history.answer(entry, .inDoubt, at: world.now)
        case .refused
        where world.now < end
          && [.tooFewDomains, .deviceFull].contains(error.refusalCode):
          // A node has just come back, or a disk was full until now: no session was opened.
          history.answer(entry, .failed, at: world.now)
        default:
          throw TrialFailure(property: "liveness", detail: "no bucket: \(error)", at: world.now)
        }
      }
      await world.sleep(.milliseconds(500))
    }
  }

  private func define(_ policy: StorageClass, by client: SwarmClient) async throws {
    try await untilFounded("no class") { () async throws(DataPathError) in
      _ = try await client.coordinator.query(DefineClass(storageClass: policy))
    }
  }

  private func makeDomain(_ name: String, by client: SwarmClient) async throws {
    try await untilFounded("no key domain") { () async throws(DataPathError) in
      do throws(DataPathError) {
        _ = try await client.coordinator.query(CreateKeyDomain(name: name))
      } catch {
        // It was made, and the answer lost.
        guard error.refusalCode == .keyDomainExists else { throw error }
      }
    }
  }

  private func keepVersions(_ bucket: String, by client: SwarmClient) async throws {
    try await untilFounded("no versions") { () async throws(DataPathError) in
      _ = try await client.coordinator.execute(.setVersioning(bucket: bucket, .enabled))
    }
  }

  /// Asks again for as long as it takes a cluster that was founded under faults.
  private func untilFounded(
    _ failure: String, _ ask: () async throws(DataPathError) -> Void
  ) async throws {
    let end = world.now + .seconds(60)
    while true {
      do throws(DataPathError) {
        return try await ask()
      } catch {
        guard cluster.scenario.isFoundedUnderFaults, world.now < end else {
          throw TrialFailure(
            property: "liveness", detail: "\(failure): \(error)", at: world.now)
        }
      }
      await world.sleep(.milliseconds(500))
    }
  }

  /// Kills a client's process; it comes back after `rest`.
  package func killClient(_ index: Int, for rest: Duration) {
    guard clients.indices.contains(index), !isOver else { return }
    clients[index].kill(for: rest, itself: false)
  }

  /// Begins no more operations and waits for those under way. Call it when all is healed.
  package func stop() async throws {
    isStopping = true
    for client in clients { client.wake() }
    let end = world.now + .seconds(180)
    while !clients.allSatisfy(\.isIdle) {
      if let failure { throw failure }
      if world.now > end {
        let busy = clients.filter { !$0.isIdle }.map { "client\($0.index)" }
        throw TrialFailure(
          property: "liveness",
          detail:
            "operations of \(busy) are under way \(Duration.seconds(180)) after the last fault",
          at: world.now)
      }
      await world.sleep(.milliseconds(50))
    }
    isOver = true
    for client in clients { await client.close() }
    if let failure { throw failure }
  }

  func operationEnded() { ended.wakeAll() }

  func fail(_ property: String, _ detail: String) {
    if failure == nil {
      failure = TrialFailure(property: property, detail: detail, at: world.now)
    }
  }

  func unexcused(_ label: String, _ error: DataPathError) {
    fail("error", "\(label): \(error)")
  }

  func count(_ kind: String, _ outcome: History.Outcome) {
    switch outcome {
    case .inDoubt: operations[kind, default: OperationCounts()].inDoubt += 1
    case .failed, .noSuchKey, .noSuchBucket, .preconditionFailed, .bucketExists, .bucketNotEmpty:
      operations[kind, default: OperationCounts()].refused += 1
    default: operations[kind, default: OperationCounts()].ok += 1
    }
  }

  // MARK: Bytes

  /// Its content may be met from now on.
  func note(_ put: PlannedOperation.Put) {
    guard contentsOfTag[put.tag]?.contains(put.content) != true else { return }
    contentsOfTag[put.tag, default: []].append(put.content)
    contentsOfByteCount[put.content.byteCount, default: []].append(put.content)
  }

  func note(_ content: Content, has hash: Fingerprint) {
    if let other = contentsOfHash[hash] {
      if other.byteCount != content.byteCount {
        fail("bytes", "contents of \(other.byteCount) and \(content.byteCount) bytes have one hash")
      }
      return
    }
    contentsOfHash[hash] = content
  }

  /// What a version may hold, going by its mark or, where that is a copy's own, by its hash and length.
  func contents(of version: History.Version) -> [Content] {
    if let contents = contentsOfTag[version.tag] {
      if let content = contentsOfHash[version.contentHash], contents.contains(content) {
        return [content]
      }
      return contents
    }
    if let content = contentsOfHash[version.contentHash] { return [content] }
    return contentsOfByteCount[version.byteCount] ?? []
  }

  /// What a version of so many bytes or more may hold, whichever it is.
  func contents(from byteCount: UInt64) -> [Content] {
    contentsOfByteCount.keys.filter { $0 >= byteCount }.sorted().flatMap {
      contentsOfByteCount[$0]!
    }
  }

  func learn(_ candidates: [Content], of version: History.Version) {
    if candidates.count == 1 { note(candidates[0], has: version.contentHash) }
  }

  // MARK: The end

  /// Looks at everything once more with clients that nothing disturbs, and judges the history.
  package func check() async throws {
    isCalm = true
    checkCount += 1
    let checker = FinalChecks(self, round: checkCount)
    try checker.noteStateAfterDarkness()
    if cluster.scenario.isTight { try await checker.makeRoom() }
    try await checker.servesAgain()
    try await checker.lookAtEverything()
    if let failure { throw failure }
    if let failure = HistoryChecker.check(history) { throw failure }
    try await checker.lookAtVersions()
    try await checker.audit()
  }
}
