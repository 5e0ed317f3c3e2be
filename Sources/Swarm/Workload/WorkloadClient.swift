internal import Coding
internal import DataPath
internal import Messages
internal import Ring
internal import Simulation

/// One client of the workload: begins its operations when they are due, several at once, and writes the history. It may be
/// killed and comes back as a new process. Loop-confined.
final class WorkloadClient: @unchecked Sendable {
  /// One life of the process.
  final class Life: @unchecked Sendable {
    let client: SwarmClient
    var writer: WriterUse
    var underWay = 0

    init(_ client: SwarmClient, _ options: ObjectWriter.Options) {
      self.client = client
      writer = WriterUse(ObjectWriter(client.access, options: options))
    }
  }

  /// A writer and how many puts use it.
  final class WriterUse: @unchecked Sendable {
    let writer: ObjectWriter
    var putCount = 0
    let isIdle = WaitQueue()
    init(_ writer: ObjectWriter) { self.writer = writer }
  }

  unowned let run: WorkloadRun
  let index: Int
  private let operations: [PlannedOperation]
  private let operationsAtOnce: Int
  private let options: ObjectWriter.Options
  private let changed = WaitQueue()
  private(set) var life: Life?
  /// Tasks of a killed process run on until they notice, and need what they use.
  private var past: [Life] = []
  /// Not before this does it come back.
  private var deadUntil: Duration = .zero
  private var isReviving = false
  /// As this client saw them last.
  var lastSeen: [ObjectName: UInt64] = [:]
  private var dispatcher: SpawnedTask?

  init(
    _ run: WorkloadRun, _ index: Int, _ operations: [PlannedOperation],
    random: inout SimulationRandom
  ) {
    self.run = run
    self.index = index
    self.operations = operations
    operationsAtOnce = 1 + random.below(6)
    options = ObjectWriter.Options(
      memoryByteCount: [1, 4, 64][random.below(3)] << 20,
      pieceByteCount: [256 << 10, 1 << 20, 4 << 20][random.below(3)])
  }

  var isIdle: Bool { (life?.underWay ?? 0) == 0 }

  // MARK: Life

  func start() {
    revive()
    dispatcher = run.world.harness.spawn("client \(index)") { [self] in await dispatch() }
  }

  private func revive() {
    life = Life(run.cluster.client(named: SimulatedCluster.clientName(index)), options)
    changed.wakeAll()
  }

  /// SIGKILL; what is under way stays in doubt.
  func kill(for rest: Duration, itself: Bool) {
    deadUntil = max(deadUntil, run.world.now + rest)
    if let life {
      past.append(life)
      self.life = nil
      if itself { life.client.driver.exit() } else { life.client.driver.kill() }
      changed.wakeAll()
    }
    guard !isReviving else { return }
    isReviving = true
    run.world.harness.spawn("revive") { [self] in
      while run.world.now < deadUntil { await run.world.sleep(deadUntil - run.world.now) }
      isReviving = false
      if !run.isOver { revive() }
    }
  }

  func close() async {
    dispatcher?.cancel()
    guard let life else { return }
    self.life = nil
    past.append(life)
    await life.client.close()
  }

  private func dispatch() async {
    let begun = run.world.now
    for operation in operations {
      let rest = begun + operation.due - run.world.now
      if rest > .zero { await run.world.sleep(rest) }
      while !run.isStopping, life == nil || life!.underWay >= operationsAtOnce {
        await changed.wait()
      }
      if run.isStopping { return }
      begin(operation, life!)
    }
  }

  func wake() { changed.wakeAll() }

  private func begin(_ operation: PlannedOperation, _ life: Life) {
    life.underWay += 1
    let task = life.client.driver.spawn("operation") { [self] in
      await carryOut(operation, life)
      life.underWay -= 1
      changed.wakeAll()
      run.operationEnded()
    }
    switch operation.kind {
    case .abandonedPut(_, let after):
      run.world.harness.spawn("abandon") { [self] in
        await run.world.sleep(after)
        task.cancel()
      }
    case .lastPut(_, let after):
      run.world.harness.spawn("die") { [self] in
        await run.world.sleep(after)
        guard self.life === life else { return }
        kill(for: .milliseconds(1 + operation.number * 37 % 900), itself: true)
      }
    default: break
    }
  }

  // MARK: History

  /// One question or change on its way.
  struct Pending {
    var entry: Int
    var life: Life
    var begun: Duration
  }

  func invoke(
    _ operation: PlannedOperation, _ life: Life, _ action: History.Action
  ) -> Pending {
    Pending(
      entry: run.history.invoke(
        "client\(index) \(operation.number) \(operation.name)", action, at: run.world.now),
      life: life, begun: run.world.now)
  }

  /// What a dead client is told is not heard.
  func isHeard(_ pending: Pending) -> Bool {
    life === pending.life && pending.life.client.driver.isAlive
  }

  func answer(_ pending: Pending, _ outcome: History.Outcome) {
    guard isHeard(pending) else { return }
    run.history.answer(pending.entry, outcome, at: run.world.now)
  }

  /// What an error says about a change or question, and whether that may be.
  func outcome(
    of error: DataPathError, _ pending: Pending, _ operation: PlannedOperation
  ) -> History.Outcome {
    guard isHeard(pending) else { return .inDoubt }
    func unexcused(_ outcome: History.Outcome) -> History.Outcome {
      run.unexcused("client\(index) \(operation.number) \(operation.name)", error)
      return outcome
    }
    switch error {
    case .refused:
      switch error.refusalCode {
      // A put asks for its bucket's class before it changes anything.
      case .noSuchBucket: return operation.isPut && run.mayBeStale ? .failed : .noSuchBucket
      case .otherClass where operation.mayLeaveItsClass || run.mayBeStale:
        return run.cluster.scenario.hasSeveralDomains ? .failed : unexcused(.failed)
      case .noSuchKey: return .noSuchKey
      case .preconditionFailed: return .preconditionFailed
      case .bucketExists: return .bucketExists
      case .bucketNotEmpty: return .bucketNotEmpty
      // Said before anything was committed.
      case .tooFewDomains, .noSuchUpload, .grantEnded, .deviceFull, .deviceFailed:
        let isFull = error.refusalCode == .tooFewDomains || error.refusalCode == .deviceFull
        if run.isCalm && !(isFull && run.cluster.scenario.isTight) { return unexcused(.failed) }
        return .failed
      default: return unexcused(.inDoubt)
      }
    case .noCoordinator, .outcomeUnknown:
      return run.isCalm ? unexcused(.inDoubt) : .inDoubt
    case .unreadable: return run.isCalm ? unexcused(.failed) : .failed
    case .cancelled:
      if case .abandonedPut = operation.kind { return .inDoubt }
      return unexcused(.inDoubt)
    case .source:
      switch operation.kind {
      case .put(let put), .abandonedPut(let put, _), .lastPut(let put, _):
        if put.failsAt != nil { return .failed }
      default: break
      }
      return unexcused(.failed)
    case .corrupt, .wrongKey, .changed, .sink: return unexcused(.failed)
    }
  }

  func count(_ operation: PlannedOperation, _ outcome: History.Outcome) {
    run.count(operation.name, outcome)
  }

  // MARK: Operations

  private func carryOut(_ operation: PlannedOperation, _ life: Life) async {
    switch operation.kind {
    case .put(let put), .abandonedPut(let put, _), .lastPut(let put, _):
      await self.put(operation, put, life)
    case .multipart(let multipart): await self.multipart(operation, multipart, life)
    case .versions(let plan): await versions(operation, plan, life)
    case .get(let name, let part, let isOrdered, let isLoose):
      if isLoose {
        await getLoosely(operation, name, isOrdered, life)
      } else {
        await get(operation, name, part, isOrdered, life)
      }
    case .stat(let name): _ = await stat(operation, name, life, isCounted: true)
    case .delete(let name, let planned):
      let condition = precondition(planned, name)
      await change(
        operation, .delete(name, condition: condition),
        .deleteObject(name: name, precondition: condition), life)
    case .copy(let source, let target, let tag, let moves, let planned):
      let condition = precondition(planned, target)
      await change(
        operation,
        .copy(source: source, target: target, tag: tag, moves: moves, condition: condition),
        .copyObject(
          source: source, sourceIdentity: 0, target: target,
          attributes: tag.map { History.attributes(tag: $0) }, move: moves,
          precondition: condition, modified: 0), life)
    case .list(let bucket, let prefix, let delimiter, let limit):
      await list(operation, bucket, prefix, delimiter, limit, life)
    case .createBucket(let bucket):
      await change(
        operation, .createBucket(bucket),
        .createBucket(
          name: bucket, storageClass: run.cluster.scenario.className(operation.number),
          keyDomain: run.cluster.scenario.keyDomainName(operation.number)), life)
    case .removeBucket(let bucket):
      await change(operation, .removeBucket(bucket), .removeBucket(name: bucket), life)
    case .listBuckets:
      let pending = invoke(operation, life, .listBuckets)
      let outcome: History.Outcome
      do throws(DataPathError) {
        outcome = .buckets(
          try await life.client.coordinator.query(ListBuckets(level: .strong)).buckets.map(\.name))
      } catch {
        outcome = self.outcome(of: error, pending, operation)
      }
      answerQuestion(pending, operation, outcome)
    case .changeWriter(let finishes):
      let old = life.writer
      life.writer = WriterUse(ObjectWriter(life.client.access, options: options))
      while old.putCount > 0 { await old.isIdle.wait() }
      guard finishes else { return }
      do throws(DataPathError) {
        try await old.writer.finish()
        count(operation, .done)
      } catch {
        if run.isCalm, self.life === life { run.unexcused("client\(index) finish", error) }
        count(operation, .inDoubt)
      }
    }
  }

  func precondition(_ planned: PlannedOperation.Condition, _ name: ObjectName)
    -> Precondition
  {
    switch planned {
    case .none: .none
    case .absent: .absent
    case .lastSeen: .identity(lastSeen[name] ?? 1)
    }
  }

  /// Questions that failed taught nothing.
  private func answerQuestion(
    _ pending: Pending, _ operation: PlannedOperation, _ outcome: History.Outcome,
    isCounted: Bool = true
  ) {
    var told = outcome
    if case .failed = outcome { told = .inDoubt }
    if run.mayBeStale { told = .inDoubt }
    answer(pending, told)
    if isCounted { count(operation, told) }
  }

  private func put(
    _ operation: PlannedOperation, _ put: PlannedOperation.Put, _ life: Life
  ) async {
    let condition = precondition(put.condition, put.name)
    // Whether there is an identical one is a question.
    let unlessIdentical = put.unlessIdentical && !run.mayBeStale
    run.note(put)
    let source = ContentSource(
      put.content, isSized: put.isSized, failsAt: put.failsAt, longestPause: put.longestPause,
      driver: life.client.driver,
      random: run.world.random(named: "source/\(operation.number)"))
    let use = life.writer
    use.putCount += 1
    defer {
      use.putCount -= 1
      use.isIdle.wakeAll()
    }
    let pending = invoke(
      operation, life,
      .put(
        put.name, tag: put.tag, byteCount: put.content.byteCount, condition: condition,
        unlessIdentical: unlessIdentical))
    let outcome: History.Outcome
    do throws(DataPathError) {
      let result = try await use.writer.put(
        put.name, attributes: History.attributes(tag: put.tag), source: source,
        precondition: condition, unlessIdentical: unlessIdentical)
      outcome = .written(identity: result.identity, contentHash: result.contentHash)
      if result.byteCount != put.content.byteCount {
        run.fail(
          "bytes",
          "client\(index) \(operation.number): \(put.name) was stored with "
            + "\(result.byteCount) bytes, not \(put.content.byteCount)")
      }
      if isHeard(pending) {
        lastSeen[put.name] = result.identity
        run.note(put.content, has: result.contentHash)
      }
    } catch {
      outcome = self.outcome(of: error, pending, operation)
    }
    run.byteCount += source.given
    answer(pending, outcome)
    count(operation, outcome)
  }

  private func change(
    _ operation: PlannedOperation, _ action: History.Action, _ command: ClientCommand, _ life: Life
  ) async {
    let pending = invoke(operation, life, action)
    var outcome: History.Outcome
    do throws(DataPathError) {
      switch try await life.client.coordinator.execute(command) {
      case .done: outcome = .done
      case .number(let identity): outcome = .written(identity: identity, contentHash: nil)
      case let other:
        run.fail("answer", "client\(index) \(operation.number) was answered \(other)")
        outcome = .inDoubt
      }
    } catch {
      outcome = self.outcome(of: error, pending, operation)
    }
    answer(pending, outcome)
    count(operation, outcome)
  }

  private func stat(
    _ operation: PlannedOperation, _ name: ObjectName, _ life: Life, isCounted: Bool
  ) async -> History.Version? {
    let pending = invoke(operation, life, .look(name))
    let outcome: History.Outcome
    var found: History.Version?
    do throws(DataPathError) {
      let record = try await life.client.coordinator.query(
        StatObject(level: .strong, name: name)
      ).record
      let version = History.Version(
        identity: record.identity, byteCount: record.byteCount, contentHash: record.contentHash,
        tag: History.tag(of: record.attributes))
      outcome = .seen(version)
      if isHeard(pending) {
        found = version
        lastSeen[name] = version.identity
      }
    } catch {
      outcome = self.outcome(of: error, pending, operation)
    }
    answerQuestion(pending, operation, outcome, isCounted: isCounted)
    return found
  }

  private func get(
    _ operation: PlannedOperation, _ name: ObjectName, _ part: Range<UInt64>?, _ isOrdered: Bool,
    _ life: Life
  ) async {
    // One that was replaced is read anew, as a tool does it.
    for attempt in 0..<3 {
      guard let version = await stat(operation, name, life, isCounted: attempt == 0) else { return }
      var range = 0..<version.byteCount
      if let part {
        let low = version.byteCount.multipliedReportingOverflow(by: part.lowerBound).partialValue
        let high = version.byteCount.multipliedReportingOverflow(by: part.upperBound).partialValue
        range = low / 1_000_000..<high / 1_000_000
      }
      if range.isEmpty { return }
      let pending = invoke(operation, life, .look(name))
      let sink = ComparingSink(run.contents(of: version), range, isOrdered: isOrdered)
      let label = "client\(index) \(operation.number)"
      var outcome: History.Outcome
      do throws(DataPathError) {
        try await ObjectReader(life.client.access).read(
          name, identity: version.identity, range: range, into: sink)
        outcome = .seen(version)
        if !sink.isComplete {
          run.fail("bytes", "\(label): \(name) \(version): \(range) was not given whole")
        }
        if part == nil, isHeard(pending) { run.learn(sink.candidates, of: version) }
      } catch {
        outcome =
          error == .changed
          ? .changed(from: version.identity) : self.outcome(of: error, pending, operation)
      }
      if let problem = sink.problem {
        run.fail("bytes", "\(label): \(name) \(version): \(problem)")
      }
      run.byteCount += sink.byteCount
      answerQuestion(pending, operation, outcome, isCounted: false)
      guard case .changed = outcome else { return }
    }
  }

  /// Reads all of what is current when the first of it is resolved: one version, whichever that is.
  private func getLoosely(
    _ operation: PlannedOperation, _ name: ObjectName, _ isOrdered: Bool, _ life: Life
  ) async {
    guard let version = await stat(operation, name, life, isCounted: true), version.byteCount > 0
    else { return }
    let range = 0..<version.byteCount
    let pending = invoke(operation, life, .look(name))
    let run = run
    let sink = ComparingSink(
      lookingUp: { run.contents(from: range.upperBound) }, range, isOrdered: isOrdered)
    let label = "client\(index) \(operation.number)"
    var outcome = History.Outcome.inDoubt
    do throws(DataPathError) {
      try await ObjectReader(life.client.access).read(
        name, identity: 0, range: range, into: sink)
      if !sink.isComplete {
        run.fail("bytes", "\(label): \(name) at any version: \(range) was not given whole")
      }
    } catch {
      // Replaced meanwhile, by a shorter one or after the beginning was read.
      let isReplaced = error == .changed || error.refusalCode == .invalidRange
      if !isReplaced { outcome = self.outcome(of: error, pending, operation) }
    }
    if let problem = sink.problem {
      run.fail("bytes", "\(label): \(name) at any version: \(problem)")
    }
    run.byteCount += sink.byteCount
    answerQuestion(pending, operation, outcome, isCounted: false)
  }

  private func list(
    _ operation: PlannedOperation, _ bucket: String, _ prefix: String, _ delimiter: String,
    _ limit: UInt32, _ life: Life
  ) async {
    var after = ""
    for page in 0..<40 {
      let request = ListObjects(
        level: .strong, bucket: bucket, prefix: prefix, after: after, delimiter: delimiter,
        limit: limit)
      let pending = invoke(operation, life, .list(request))
      let outcome: History.Outcome
      var next: String?
      do throws(DataPathError) {
        let answer = try await life.client.coordinator.query(request)
        outcome = .page(answer)
        next = answer.next
      } catch {
        outcome = self.outcome(of: error, pending, operation)
      }
      answerQuestion(pending, operation, outcome, isCounted: page == 0)
      guard let next else { return }
      after = next
    }
  }
}

extension PlannedOperation {
  fileprivate var isPut: Bool {
    switch kind {
    case .put, .abandonedPut, .lastPut: true
    default: false
    }
  }

  /// Whether it is a copy from one bucket to another.
  fileprivate var mayLeaveItsClass: Bool {
    if case .copy(let source, let target, _, _, _) = kind {
      source.bucket != target.bucket
    } else {
      false
    }
  }
}
