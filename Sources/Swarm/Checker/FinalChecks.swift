internal import DataPath
internal import Messages
internal import Ring
internal import Simulation

/// What must hold once faults have stopped and everything has settled. Loop-confined.
final class FinalChecks: @unchecked Sendable {
  let run: WorkloadRun
  let cluster: SimulatedCluster
  let world: SimulatedWorld
  let round: Int
  private(set) var names: [ObjectName] = []
  /// What the last look showed.
  private(set) var current: [ObjectName: History.Version] = [:]
  /// Who looked, and keeps what it has decoded.
  private var reader: SwarmClient?
  /// In buckets with versions: current objects, and bytes of all versions.
  var versionedObjectCount: UInt64 = 0
  var versionedByteCount: UInt64 = 0

  init(_ run: WorkloadRun, round: Int) {
    self.run = run
    self.round = round
    cluster = run.cluster
    world = run.world
  }

  func failure(_ property: String, _ detail: String) -> TrialFailure {
    TrialFailure(property: property, detail: detail, at: world.now)
  }

  // MARK: Room

  /// Looks at everything, then deletes it: a full cluster takes deletes, and has room again.
  func makeRoom() async throws {
    try await lookAtEverything()
    let client = cluster.client(named: "cleaner \(round)")
    for name in current.keys.sorted(by: { ($0.bucket, $0.key) < ($1.bucket, $1.key) }) {
      let entry = run.history.invoke(
        "cleaner", .delete(name, condition: .none), at: world.now)
      do throws(DataPathError) {
        _ = try await client.coordinator.execute(.deleteObject(name: name, precondition: .none))
      } catch {
        throw failure("room to shrink", "\(name) cannot be deleted: \(error)")
      }
      run.history.answer(entry, .done, at: world.now)
    }
    try await removeVersions(client)
    await client.close()
  }

  /// What dead clients hold goes with their sessions, what was deleted after a grace, and volumes are compacted.
  private var patience: Duration {
    cluster.scenario.isTight ? .seconds(180) : .seconds(60)
  }

  // MARK: Liveness

  /// A put and a get of each size class succeed within a minute.
  func servesAgain() async throws {
    let begun = world.now
    let client = cluster.client(named: "after \(round)")
    let writer = ObjectWriter(client.access)
    let bucket = run.plan.lastingBuckets[0]
    do throws(DataPathError) {
      for (index, byteCount) in [UInt64(100), 70_000, 1_500_000].enumerated() {
        let content = Content([
          Content.Piece(
            stream: world.seed &* 31 &+ UInt64(round) | 1, first: 0, byteCount: byteCount)
        ])
        let put = PlannedOperation.Put(
          name: ObjectName(bucket: bucket, key: "after/\(round)/\(index)"), content: content,
          tag: "after \(round)/\(index)")
        run.note(put)
        // Devices that failed lately are left alone for a while, and some schemes need every node.
        while try await !isWritten(put, by: writer, on: client) {
          guard world.now - begun < patience else { break }
          await world.sleep(.milliseconds(500))
        }
      }
      try await writer.finish()
    } catch {
      throw failure("serves again", "a put after the last fault: \(error)")
    }
    if world.now - begun > patience {
      throw failure("serves again", "three puts took \(world.now - begun)")
    }
    await client.close()
  }

  /// False when too few domains took writes, or had room.
  private func isWritten(
    _ put: PlannedOperation.Put, by writer: ObjectWriter, on client: SwarmClient
  ) async throws(DataPathError) -> Bool {
    let entry = run.history.invoke(
      "after",
      .put(
        put.name, tag: put.tag, byteCount: put.content.byteCount, condition: .none,
        unlessIdentical: false), at: world.now)
    do throws(DataPathError) {
      let result = try await writer.put(
        put.name, attributes: History.attributes(tag: put.tag),
        source: ContentSource(
          put.content, isSized: true, failsAt: nil, longestPause: .zero, driver: client.driver,
          random: world.random(named: "after")), unlessIdentical: false)
      run.history.answer(
        entry, .written(identity: result.identity, contentHash: result.contentHash), at: world.now)
      return true
    } catch {
      // A disk that was full until the last fault says that it has room within seconds.
      guard [.tooFewDomains, .deviceFull].contains(error.refusalCode) else { throw error }
      run.history.answer(entry, .failed, at: world.now)
      return false
    }
  }

  // MARK: Every object

  /// Lists every bucket, stats and reads every key that was ever named, whole.
  func lookAtEverything() async throws {
    let client = reader ?? cluster.client(named: "final \(round)")
    reader = client
    names = []
    current = [:]
    var known = Set<ObjectName>()
    for entry in run.history.entries {
      switch entry.action {
      case .put(let name, _, _, _, _), .look(let name), .delete(let name, _):
        if known.insert(name).inserted { names.append(name) }
      case .copy(let source, let target, _, _, _):
        if known.insert(source).inserted { names.append(source) }
        if known.insert(target).inserted { names.append(target) }
      default: break
      }
    }
    do throws(DataPathError) {
      for bucket in run.plan.lastingBuckets + run.plan.passingBuckets {
        try await list(bucket, client)
      }
      try await readAll(client, isFirst: true)
    } catch {
      throw failure("serves again", "after the last fault: \(error)")
    }
    if let failure = run.failure { throw failure }
  }

  /// By who has read all of it before, when much has been written anew since.
  func readAgain() async throws {
    guard let client = reader else { return }
    do throws(DataPathError) {
      try await readAll(client, isFirst: false)
    } catch {
      throw failure("no acknowledged object is lost", "read again: \(error)")
    }
    if let failure = run.failure { throw failure }
    reader = nil
    await client.close()
  }

  private func list(_ bucket: String, _ client: SwarmClient) async throws(DataPathError) {
    var after = ""
    while true {
      let request = ListObjects(
        level: .strong, bucket: bucket, prefix: "", after: after, delimiter: "", limit: 1000)
      let entry = run.history.invoke("final list", .list(request), at: world.now)
      do throws(DataPathError) {
        let page = try await client.coordinator.query(request)
        run.history.answer(entry, .page(page), at: world.now)
        guard let next = page.next else { return }
        after = next
      } catch {
        guard error.refusalCode == .noSuchBucket else { throw error }
        return run.history.answer(entry, .noSuchBucket, at: world.now)
      }
    }
  }

  /// - Parameter isFirst: what is looked at becomes part of the history.
  func readAll(_ client: SwarmClient, isFirst: Bool) async throws(DataPathError) {
    for name in names {
      let entry = isFirst ? run.history.invoke("final look", .look(name), at: world.now) : 0
      let version: History.Version
      do throws(DataPathError) {
        let record = try await client.coordinator.query(StatObject(level: .strong, name: name))
          .record
        version = History.Version(
          identity: record.identity, byteCount: record.byteCount, contentHash: record.contentHash,
          tag: History.tag(of: record.attributes))
        if isFirst {
          run.history.answer(entry, .seen(version), at: world.now)
          current[name] = version
        }
      } catch {
        switch error.refusalCode {
        case .noSuchKey: if isFirst { run.history.answer(entry, .noSuchKey, at: world.now) }
        case .noSuchBucket: if isFirst { run.history.answer(entry, .noSuchBucket, at: world.now) }
        default: throw error
        }
        continue
      }
      let sink = ComparingSink(
        run.contents(of: version), 0..<version.byteCount, isOrdered: false)
      do throws(DataPathError) {
        try await ObjectReader(client.access).read(
          name, identity: version.identity, range: 0..<version.byteCount, into: sink)
      } catch {
        run.fail("no acknowledged object is lost", "\(name) \(version): \(error)")
        return
      }
      if let problem = sink.problem ?? (sink.isComplete ? nil : "not given whole") {
        run.fail("bytes", "final read of \(name) \(version): \(problem)")
      }
    }
  }
}
