import Glibc
package import Ring

/// A process of the simulated world, and the ``Driver`` of the code that runs in it.
///
/// Killed, it may no longer touch the world: each operation under way or submitted later ends with
/// -ECANCELED, its tasks are cancelled, its peers see resets, its locks are free. An operation on a
/// disk that is under way at that moment has happened, or has not, or (a write) in part, as the seed
/// has it; the page cache stays, being the kernel's.
package final class SimulatedProcess: Driver, @unchecked Sendable {
  // Loop-confined.

  package struct Options: Sendable {
    /// Nil: the machine that bears the process's name.
    package var machine: SimulatedMachine?
    /// What `now` shows at the world's start.
    package var clockOffset: Duration = .zero
    /// How much faster its monotonic clock runs at first, in parts per million.
    package var clockDriftPartsPerMillion = 0
    /// How far its clock on the wall is ahead.
    package var wallClockOffset: Duration = .zero
    package init(machine: SimulatedMachine? = nil) { self.machine = machine }
  }

  package let name: String
  /// 0 for the first process of that name, 1 after its first restart, and so on.
  package let incarnation: Int
  package let machine: SimulatedMachine
  package let options: Options
  package let buffers: BufferPool
  package private(set) var isAlive = true
  /// How far its clock on the wall is ahead.
  package private(set) var wallClockOffset: Duration
  /// How much faster its monotonic clock runs, in parts per million.
  package private(set) var clockDriftPartsPerMillion: Int
  /// When the drift last changed, by the world's clock and by this one.
  private var worldBase: Instant = 0
  private var localBase: Int64 = 0
  /// Called before each operation with its number in this process, from 0. It may kill the process or
  /// cut the power: the operation then has no effect.
  package var beforeOperation: ((Int, RingOperation) -> Void)?
  /// What it wrote to standard output and standard error.
  package internal(set) var consoleOutput: [UInt8] = []

  let world: SimulatedWorld
  var chance: SimulationRandom
  private var random64: SimulationRandom
  /// One for each injection point, made when it is first passed with a rate.
  private var pointChances: [SimulationRandom?] = []
  private let nameHash: UInt64
  private var operationIndex = 0
  private var underWay = UnderWay()
  private var tasks: [UInt64: (name: String, task: Task<Void, Never>)] = [:]
  private var nextTask: UInt64 = 0
  private var laneFreeAt: [Int: Instant] = [:]
  private var posthumousCount = 0
  /// Callers of `offload` that will never hear of it.
  private var abandonedCount = 0
  package private(set) var isPaused = false
  private var heldBack: [() -> Void] = []

  var descriptors = DescriptorTable()

  init(
    name: String, incarnation: Int, machine: SimulatedMachine, options: Options,
    world: SimulatedWorld
  ) {
    self.name = name
    self.incarnation = incarnation
    self.machine = machine
    self.options = options
    self.world = world
    buffers = world.buffers
    wallClockOffset = options.wallClockOffset
    clockDriftPartsPerMillion = options.clockDriftPartsPerMillion
    chance = world.random(named: "process/\(name)/\(incarnation)")
    random64 = world.random(named: "random/\(name)/\(incarnation)")
    var hash = EventHash()
    hash.combine(name)
    hash.combine(UInt64(incarnation))
    nameHash = hash.value
  }

  // MARK: Driver

  package var now: Duration {
    options.clockOffset + .nanoseconds(localBase + toLocal(world.time - worldBase))
  }
  package var wallClock: Duration { .nanoseconds(world.wallNanoseconds) + wallClockOffset }
  package func random() -> UInt64 { random64.next() }

  package func onOwnLoop<Value: Sendable>(
    _ name: String, _ body: @escaping @Sendable (any Driver) async -> Value
  ) async throws(RingError) -> Value {
    await body(self)
  }

  package func usage(of scope: UsageScope) -> ResourceUsage { ResourceUsage() }

  /// By the world's ``SimulatedWorld/injections`` rates; each point has a stream of its own here.
  package func meets(_ point: InjectionPoint) -> Bool {
    guard isAlive, world.injections.isOn else { return false }
    let rate = world.injections[point]
    guard rate > 0 else { return false }
    if pointChances.isEmpty {
      pointChances = Array(repeating: nil, count: InjectionPoint.allCases.count)
    }
    let place = Int(point.rawValue)
    var chance =
      pointChances[place] ?? world.random(named: "injection/\(name)/\(incarnation)/\(point)")
    let isMet = chance.chance(rate, in: 1_000_000)
    pointChances[place] = chance
    if isMet {
      world.mix(nameHash, 200 + UInt64(point.rawValue), UInt64(bitPattern: world.time))
      world.injections.count(point)
      world.trace(name, "meets \(point)")
    }
    return isMet
  }

  private func toLocal(_ span: Int64) -> Int64 {
    let drift = Int64(clockDriftPartsPerMillion)
    return drift == 0
      ? span : span + span / 1_000_000 * drift + span % 1_000_000 * drift / 1_000_000
  }

  /// How long the world sees a span of this process's clock last.
  func toWorld(_ span: Int64) -> Int64 {
    let drift = clockDriftPartsPerMillion
    if drift == 0 || span <= 0 { return span }
    let scaled = Double(span) * 1_000_000 / Double(1_000_000 + drift)
    return scaled < 9e18 ? max(1, Int64(scaled.rounded(.up))) : .max
  }

  package func submit(_ operation: RingOperation) async -> Int32 {
    let pending = PendingOperation(
      id: world.nextOperationID(), process: self, operation: operation)
    guard pending.isCancellable else {
      return await withUnsafeContinuation { waiter in
        pending.waiter = .task(waiter)
        start(pending)
      }
    }
    return await withTaskCancellationHandler {
      await withUnsafeContinuation { waiter in
        pending.waiter = .task(waiter)
        start(pending)
      }
    } onCancel: {
      pending.cancel()
    }
  }

  package func start(_ place: TransferPlace) {
    guard let slice = place.pointee.slice else { preconditionFailure("a transfer without memory") }
    let descriptor = place.pointee.descriptor
    let offset = place.pointee.offset
    let pending = PendingOperation(
      id: world.nextOperationID(), process: self,
      operation: place.pointee.isWrite
        ? .write(descriptor: descriptor, from: [slice], offset: offset)
        : .read(descriptor: descriptor, into: slice, offset: offset))
    pending.waiter = .transfer(place)
    start(pending)
  }

  package func start(_ arrival: Arrival) {
    let outcome = Outcome<Slice>()
    let pending = PendingOperation(
      id: world.nextOperationID(), process: self,
      operation: .receiveAny(descriptor: arrival.descriptor, outcome))
    pending.waiter = .arrival(arrival, outcome)
    start(pending)
  }

  package var features: String { "simulated" }

  /// Runs `work` on this thread, a moment of virtual time later; the work of one lane in order. Of a
  /// killed process it never runs, and the caller waits for ever: a value cannot be made up.
  package func offload<Value: Sendable>(lane: Int, _ work: @escaping @Sendable () -> Value) async
    -> Value
  {
    precondition((0..<4).contains(lane))
    return await withUnsafeContinuation { waiter in
      guard isAlive else {
        abandonedCount += 1
        return
      }
      let due = max(world.time + chance.within(1_000...50_000), laneFreeAt[lane] ?? 0)
      laneFreeAt[lane] = due
      world.mix(nameHash, 100, UInt64(bitPattern: due))
      world.schedule(at: due) {
        guard self.isAlive else {
          self.abandonedCount += 1
          return
        }
        let value = work()
        self.whenNotPaused { waiter.resume(returning: value) }
      }
    }
  }

  package func offload<Value: Sendable>(
    within limit: Duration, _ work: @escaping @Sendable () -> Value
  ) async -> Value? {
    await offload(lane: 3, work)
  }

  @discardableResult
  package func spawn(_ name: String, _ body: @escaping @Sendable () async -> Void) -> SpawnedTask {
    let id = nextTask
    nextTask += 1
    let task = Task(executorPreference: world.executor) {
      await body()
      self.tasks[id] = nil
    }
    if isAlive {
      tasks[id] = (name, task)
    } else {
      task.cancel()
    }
    return SpawnedTask(task)
  }

  // MARK: Clocks

  /// Somebody sets the clock on the wall; the monotonic one does not notice.
  package func jumpWallClock(by span: Duration) {
    wallClockOffset += span
    world.note(name, "wall clock jumps by \(span)")
    world.count(.clockJump)
  }

  /// From now on its monotonic clock runs so much faster. Sleeps under way end as they would have.
  package func setClockDrift(partsPerMillion: Int) {
    localBase += toLocal(world.time - worldBase)
    worldBase = world.time
    clockDriftPartsPerMillion = partsPerMillion
    world.note(name, "clock drifts by \(partsPerMillion) ppm")
    world.count(.clockDrift)
  }

  /// Of the tasks that were spawned and have not ended, oldest first.
  package var taskNames: [String] {
    tasks.sorted { $0.key < $1.key }.map(\.value.name)
  }

  // MARK: Life and death

  /// SIGKILL, now.
  package func kill() {
    guard isAlive else { return }
    world.note(name, "killed")
    world.count(.kill)
    end(silently: false)
  }

  /// As ``kill()``, but of its own will: no fault is counted.
  package func exit() {
    guard isAlive else { return }
    world.note(name, "exit")
    end(silently: false)
  }

  /// - Parameter silently: the machine lost its power, so that peers hear nothing.
  func end(silently: Bool) {
    guard isAlive else { return }
    isAlive = false
    isPaused = false
    let held = heldBack
    heldBack = []
    for resume in held { resume() }
    let operations = underWay.inOrder
    for pending in operations { settle(pending) }
    for descriptor in descriptors.open {
      switch descriptor {
      case .file(let file): file.close()
      case .listener(let listener): listener.end(silently: silently)
      case .endpoint(let endpoint): endpoint.end(silently: silently)
      }
    }
    descriptors.removeAll()
    for pending in operations { pending.abort() }
    for (_, spawned) in tasks.sorted(by: { $0.key < $1.key }) { spawned.task.cancel() }
    tasks = [:]
  }

  /// The world is over.
  func forget() {
    beforeOperation = nil
    heldBack = []
  }

  /// A disk operation caught under way: done, not done, or a write done in part.
  private func settle(_ pending: PendingOperation) {
    guard let effect = pending.effect else { return }
    pending.effect = nil
    switch chance.below(3) {
    case 0: return
    case 1: _ = effect(.max)
    default:
      var byteCount = 0
      switch pending.operation {
      case .write(_, let slices, _), .writeDurably(_, let slices, _):
        byteCount = slices.reduce(0) { $0 + $1.count }
      default: break
      }
      guard byteCount > 512 else { return }
      _ = effect((1 + chance.below((byteCount - 1) / 512)) * 512)
    }
  }

  /// A new process of the same name and options on the same machine; kills this one if it is alive.
  package func restart(_ options: Options? = nil) -> SimulatedProcess {
    kill()
    var options = options ?? self.options
    if options.machine == nil { options.machine = machine }
    return world.process(name, options)
  }

  /// Stops it as a virtual machine is stopped: answers are withheld until ``resume()``, clocks go on.
  package func pause() {
    guard isAlive, !isPaused else { return }
    isPaused = true
    world.note(name, "paused")
    world.count(.pause)
  }

  package func resume() {
    guard isPaused else { return }
    isPaused = false
    world.note(name, "resumed")
    let held = heldBack
    heldBack = []
    for resume in held { resume() }
  }

  private func whenNotPaused(_ resume: @escaping () -> Void) {
    if isPaused { heldBack.append(resume) } else { resume() }
  }

  // MARK: Operations

  /// Operations submitted so far.
  package var operationCount: Int { operationIndex }

  /// The operations under way, oldest first, for error messages.
  package var operationsUnderWay: [String] {
    underWay.inOrder.map { $0.operation.summary }
      + (abandonedCount > 0 ? ["\(abandonedCount) offloads that ended with the process"] : [])
  }

  private func start(_ pending: PendingOperation) {
    let index = operationIndex
    operationIndex += 1
    underWay.add(pending)
    world.mix(UInt64(bitPattern: world.time), nameHash, pending.operation.code, UInt64(index))
    if isAlive, let beforeOperation { beforeOperation(index, pending.operation) }
    guard isAlive else {
      posthumousCount += 1
      // A task that ignores all errors would spin for ever; it is left where it stands.
      if posthumousCount <= 100_000 { pending.decide(-ECANCELED) }
      return
    }
    if world.isTraced { pending.text = describe(pending.operation) }
    mixArguments(pending.operation)
    if pending.isCancelled && pending.isCancellable { return pending.decide(-ECANCELED) }
    dispatch(pending)
  }

  private func mixArguments(_ operation: RingOperation) {
    switch operation {
    case .read(let descriptor, let into, let offset):
      world.mix(UInt64(bitPattern: Int64(descriptor)), UInt64(into.count), offset)
    case .write(let descriptor, let from, let offset),
      .writeDurably(let descriptor, let from, let offset):
      world.mix(UInt64(bitPattern: Int64(descriptor)), offset)
      for slice in from { slice.withBytes { world.mix(sample: $0) } }
    case .send(let descriptor, let from):
      world.mix(UInt64(bitPattern: Int64(descriptor)))
      for slice in from { slice.withBytes { world.mix(sample: $0) } }
    case .receive(let descriptor, let into, let waitForAll):
      world.mix(
        UInt64(bitPattern: Int64(descriptor)), UInt64(into.count) << 1 | (waitForAll ? 1 : 0))
    case .sleep(let duration): world.mix(UInt64(bitPattern: duration.saturatedNanoseconds))
    case .synchronize(let descriptor, let dataOnly):
      world.mix(UInt64(bitPattern: Int64(descriptor)) << 1 | (dataOnly ? 1 : 0))
    case .close(let descriptor), .accept(let descriptor, _), .shutdown(let descriptor),
      .lock(let descriptor), .receiveAny(let descriptor, _), .fileStatus(let descriptor, _):
      world.mix(UInt64(bitPattern: Int64(descriptor)))
    case .space(let path, _), .status(let path, _, _), .list(let path, _, _): world.mix(path)
    default: world.mix(operation.summary)
    }
  }

  func finished(
    _ pending: PendingOperation, _ result: Int32, _ waiter: Waiter
  ) {
    underWay.remove(pending)
    world.mix(UInt64(bitPattern: world.time), pending.id, UInt64(bitPattern: Int64(result)))
    if world.isTraced, let text = pending.text {
      let took = world.time - pending.begun
      let pause = took >= 1_000_000 ? " after \(took / 1_000_000) ms" : ""
      world.trace(name, "\(text) = \(OperationText.result(result))\(pause)")
    }
    whenNotPaused { waiter.resume(result) }
  }

  func addDescriptor(_ descriptor: OpenDescriptor) -> Int32 { descriptors.add(descriptor) }
}
