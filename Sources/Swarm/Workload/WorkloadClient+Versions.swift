internal import DataPath
internal import Messages
internal import Ring
internal import Simulation

/// What clients do in buckets with versions.
extension WorkloadClient {
  func versions(
    _ operation: PlannedOperation, _ plan: PlannedOperation.Versions, _ life: Life
  ) async {
    let label = "client\(index) \(operation.number)"
    for step in plan.steps {
      guard self.life === life, !run.isStopping else { return }
      switch step {
      case .put(let content, let tag):
        await putVersion(operation, label, plan.name, content, tag, life)
      case .delete:
        await write(operation, label, plan.name, tag: nil, life) { () throws(DataPathError) in
          try await life.client.coordinator.execute(
            .deleteObject(name: plan.name, precondition: .none))
        }
      case .restore(let choice, let tag):
        guard let identity = run.versions.pick(plan.name, choice) else { continue }
        guard let content = run.contentOfVersion[.init(name: plan.name, identity: identity)]
        else { continue }
        note(content, plan.name, tag)
        let made = await write(operation, label, plan.name, tag: tag, life) {
          () throws(DataPathError) in
          try await life.client.coordinator.execute(
            .copyObject(
              source: plan.name, sourceIdentity: identity, target: plan.name,
              attributes: History.attributes(tag: tag), move: false, precondition: .none,
              modified: 0))
        }
        if let made { run.contentOfVersion[.init(name: plan.name, identity: made)] = content }
      case .remove(let choice): await removeVersion(operation, label, plan.name, choice, life)
      case .read(let choice):
        guard let identity = run.versions.pick(plan.name, choice) else { continue }
        await readVersion(
          operation, label, VersionHistory.Place(name: plan.name, identity: identity), life)
      case .look: await lookAtCurrent(operation, label, plan.name, life)
      case .list(let limit):
        await listVersions(operation, label, plan.name.bucket, limit, life)
      case .setVersioning(let isEnabled):
        guard plan.name.bucket == VersionHistory.changingBucket else { continue }
        do throws(DataPathError) {
          _ = try await life.client.coordinator.execute(
            .setVersioning(bucket: plan.name.bucket, isEnabled ? .enabled : .suspended))
        } catch {
          _ = outcome(of: error, pending(life), operation)
        }
      }
    }
    count(operation, .done)
  }

  /// Has no entry in the history of keys without versions.
  private func pending(_ life: Life) -> Pending {
    Pending(entry: -1, life: life, begun: run.world.now)
  }

  private func note(_ content: Content, _ name: ObjectName, _ tag: String) {
    run.note(PlannedOperation.Put(name: name, content: content, tag: tag))
  }

  private func putVersion(
    _ operation: PlannedOperation, _ label: String, _ name: ObjectName, _ content: Content,
    _ tag: String, _ life: Life
  ) async {
    note(content, name, tag)
    let use = life.writer
    use.putCount += 1
    defer {
      use.putCount -= 1
      use.isIdle.wakeAll()
    }
    let made = await write(operation, label, name, tag: tag, life) { () throws(DataPathError) in
      let source = ContentSource(
        content, isSized: true, failsAt: nil, longestPause: .zero, driver: life.client.driver,
        random: run.world.random(named: "source/\(tag)"))
      let put = try await use.writer.put(
        name, attributes: History.attributes(tag: tag), source: source, unlessIdentical: false)
      return .version(identity: put.identity, put.version)
    }
    if let made { run.contentOfVersion[.init(name: name, identity: made)] = content }
  }

  /// - Returns: the identity of what was made, when that is known.
  @discardableResult
  private func write(
    _ operation: PlannedOperation, _ label: String, _ name: ObjectName, tag: String?, _ life: Life,
    _ body: () async throws(DataPathError) -> CommandOutcome
  ) async -> UInt64? {
    let index = run.versions.begin(label, name, tag: tag)
    let pending = pending(life)
    do throws(DataPathError) {
      let outcome = try await body()
      guard let made = outcome.made else {
        run.fail("answer", "\(label) was answered \(outcome)")
        return nil
      }
      guard isHeard(pending) else { return nil }
      run.versions.end(index, made)
      return made.identity
    } catch {
      // What was to be copied may be gone.
      switch error.refusalCode {
      case .noSuchKey, .sourceChanged, .isDeleteMarker: run.versions.fail(index)
      default:
        if case .failed = outcome(of: error, pending, operation) { run.versions.fail(index) }
      }
      return nil
    }
  }

  private func removeVersion(
    _ operation: PlannedOperation, _ label: String, _ name: ObjectName, _ choice: Int, _ life: Life
  ) async {
    guard let identity = run.versions.pick(name, choice) else { return }
    let index = run.versions.beginRemoval(
      label, VersionHistory.Place(name: name, identity: identity))
    let pending = pending(life)
    do throws(DataPathError) {
      let outcome = try await life.client.coordinator.execute(
        .deleteVersion(name: name, version: .identity(identity)))
      guard isHeard(pending) else { return }
      run.versions.endRemoval(index, outcome.made == nil ? .object : .marker)
    } catch {
      guard isHeard(pending) else { return }
      if error.refusalCode == .noSuchVersion {
        run.versions.endRemoval(index, .noSuchVersion)
      } else if case .failed = outcome(of: error, pending, operation) {
        run.versions.endRemoval(index, .failed)
      }
    }
  }

  private func lookAtCurrent(
    _ operation: PlannedOperation, _ label: String, _ name: ObjectName, _ life: Life
  ) async {
    let pending = pending(life)
    let invoked = run.versions.now()
    var seen: UInt64?
    do throws(DataPathError) {
      seen = try await life.client.coordinator.query(
        FindVersion(level: .strong, name: name, version: .unnamed)
      ).entry.identity
    } catch {
      guard error.refusalCode == .noSuchKey else {
        _ = outcome(of: error, pending, operation)
        return
      }
    }
    guard isHeard(pending), !run.mayBeStale else { return }
    run.versions.looks.append(
      .init(
        label: label, name: name, invoked: invoked, returned: run.versions.now(), seen: seen))
  }

  private func readVersion(
    _ operation: PlannedOperation, _ label: String, _ place: VersionHistory.Place, _ life: Life
  ) async {
    let pending = pending(life)
    let invoked = run.versions.now()
    do throws(DataPathError) {
      let entry = try await run.read(place, life.client)
      guard isHeard(pending), !run.mayBeStale else { return }
      run.versions.reads.append(
        .init(
          label: label, place: place, invoked: invoked, returned: run.versions.now(), entry: entry))
    } catch {
      _ = outcome(of: error, pending, operation)
    }
  }

  private func listVersions(
    _ operation: PlannedOperation, _ label: String, _ bucket: String, _ limit: UInt32, _ life: Life
  ) async {
    let pending = pending(life)
    do throws(DataPathError) {
      try await run.listVersions(
        bucket, limit: limit, label, life.client, isHeard: { self.isHeard(pending) })
    } catch {
      _ = outcome(of: error, pending, operation)
    }
  }
}

extension WorkloadRun {
  /// One version, and all its bytes compared.
  ///
  /// - Returns: nil when it is not there, or went while it was read.
  func read(_ place: VersionHistory.Place, _ client: SwarmClient) async throws(DataPathError)
    -> VersionEntry?
  {
    do throws(DataPathError) {
      let entry = try await client.coordinator.query(
        FindVersion(level: .strong, name: place.name, version: .identity(place.identity))
      ).entry
      if entry.isMarker { return entry }
      let version = History.Version(
        identity: entry.identity, byteCount: entry.byteCount, contentHash: entry.contentHash,
        tag: History.tag(of: entry.attributes))
      let sink = ComparingSink(
        contents(of: version), 0..<version.byteCount, isOrdered: false)
      try await ObjectReader(client.access).read(
        place.name, identity: entry.identity, range: 0..<entry.byteCount, into: sink)
      if let problem = sink.problem ?? (sink.isComplete ? nil : "not given whole") {
        fail("bytes", "\(place.name) \(version): \(problem)")
      }
      byteCount += sink.byteCount
      return entry
    } catch {
      if error == .changed { return nil }
      switch error.refusalCode {
      case .noSuchVersion, .noSuchKey: return nil
      default: throw error
      }
    }
  }

  /// All pages of a bucket's versions, each written down.
  @discardableResult
  func listVersions(
    _ bucket: String, limit: UInt32, _ label: String, _ client: SwarmClient,
    isHeard: () -> Bool = { true }
  ) async throws(DataPathError) -> [VersionEntry] {
    var request = ListVersions(
      level: .strong, bucket: bucket, prefix: "", delimiter: "", afterKey: "", after: .unnamed,
      limit: limit)
    var found: [VersionEntry] = []
    for _ in 0..<200 {
      let invoked = versions.now()
      let answer = try await client.coordinator.query(request)
      guard isHeard(), !mayBeStale else { return found }
      versions.pages.append(
        .init(
          label: label, request: request, answer: answer, invoked: invoked,
          returned: versions.now()))
      found += answer.entries
      guard let next = answer.next else { break }
      (request.afterKey, request.after) = next
    }
    return found
  }
}
