internal import Ring

/// A small universe in one thread: machines with disks, a network between them, processes on them, one
/// virtual clock, and one seed from which all chance is drawn. The same seed replays a run exactly.
///
/// Map of this module: the world runs jobs and events; a ``SimulatedProcess`` is the ``Driver`` of the
/// code under test; a ``SimulatedMachine`` is what survives a process (disks, address); a
/// ``SimulatedDisk`` and the ``SimulatedNetwork`` hold the fault models, each in its header comment.
///
/// Virtual time stands still while code runs and jumps to the next event when all is quiet. Among
/// several runnable jobs the seed picks the next. Everything runs on the thread that called
/// ``run(seed:options:_:)``, which returns when the main body ends.
package final class SimulatedWorld: @unchecked Sendable {
  // Loop-confined.

  package struct Options: Sendable {
    package enum JobOrder: Sendable {
      /// The seed picks among runnable jobs.
      case seeded
      /// As the real event loop does it.
      case firstComeFirstServed
    }
    package var jobOrder = JobOrder.seeded
    /// Jobs a run may take before it counts as endless.
    package var maximumSteps = 50_000_000
    /// Simulated time a run may take.
    package var maximumTime: Duration = .seconds(24 * 3600)
    /// Asked now and then; true ends the run with ``SimulationError/outOfTime(seed:time:steps:waiting:)``. The
    /// bound in real time, which the simulation itself cannot see.
    package var isOver: (@Sendable () -> Bool)?
    /// Called with a readable line for every operation and event: time, process, what.
    package var trace: (@Sendable (String) -> Void)?
    package init() {}
  }

  package let seed: UInt64
  package let options: Options
  package let network: SimulatedNetwork
  let executor = SimulatedExecutor()
  /// All processes take from one: they come and go by the hundred, and the kernel would zero for each what another just gave
  /// back.
  let buffers = BufferPool(retainedByteLimit: 256 << 20)
  private var instant: Instant = 0
  private var events = EventQueue()
  private var jobRandom: SimulationRandom
  private var steps = 0
  private var hash = EventHash()
  private(set) var machines: [String: SimulatedMachine] = [:]
  private var disks: [String: SimulatedDisk] = [:]
  /// Every process ever made, in order.
  private(set) var processes: [SimulatedProcess] = []
  private var harnessProcess: SimulatedProcess?
  private var operationCount: UInt64 = 0
  private(set) var unsupported: [String] = []
  /// What really hit so far: a planned fault that no operation met does not count.
  package internal(set) var faults = FaultCounts()
  /// How often processes meet the injection points of their code. May be changed at any time.
  package var injections = Injections()

  private init(seed: UInt64, options: Options) {
    self.seed = seed
    self.options = options
    jobRandom = SimulationRandom(seed: seed, name: "jobs")
    network = SimulatedNetwork(random: SimulationRandom(seed: seed, name: "network"))
    network.world = self
  }

  /// Makes a world, runs `body` in it to its end, then kills what is left and returns `body`'s value.
  ///
  /// Blocks the calling thread. All that `body` starts runs on this thread too.
  /// - Throws: what `body` threw, or a ``SimulationError`` that carries the seed.
  package static func run<Value: Sendable>(
    seed: UInt64, options: Options = Options(),
    _ body: @escaping @Sendable (SimulatedWorld) async throws -> Value
  ) throws -> Value {
    let world = SimulatedWorld(seed: seed, options: options)
    let outcome = Outcome<Result<Value, any Error>>()
    let isDone = Outcome<Void>()
    let main = Task(executorPreference: world.executor) {
      do {
        outcome.value = .success(try await body(world))
      } catch {
        outcome.value = .failure(error)
      }
      isDone.value = ()
    }
    defer { world.tearDown(main) }
    try world.drain { isDone.value != nil }
    return try outcome.value!.get()
  }

  // MARK: Time and chance

  /// Time since the world began.
  package var now: Duration { .nanoseconds(instant) }
  var time: Instant { instant }

  /// What the world's own clock on the wall shows: it began on 1 January 2026.
  var wallNanoseconds: Int64 { 1_767_225_600_000_000_000 &+ instant }

  /// A stream of random numbers of that name; asking again gives the same stream from its start.
  package func random(named name: String) -> SimulationRandom {
    SimulationRandom(seed: seed, name: name)
  }

  /// Digest of all operations, answers, times and process names so far.
  package var eventHash: UInt64 { hash.value }

  /// Operations submitted so far by all processes.
  package var operationTotal: UInt64 { operationCount }

  /// Names of operations that were refused because the simulation has no such thing.
  package var unsupportedOperations: [String] { unsupported }

  func noteUnsupported(_ name: String) {
    unsupported.append(name)
    note("world", "the simulation has no operation \(name)")
  }

  func nextOperationID() -> UInt64 {
    operationCount += 1
    return operationCount
  }

  // Not variadic: that would make an array for each call.
  func mix(_ a: UInt64) { hash.combine(a) }
  func mix(_ a: UInt64, _ b: UInt64) {
    hash.combine(a)
    hash.combine(b)
  }
  func mix(_ a: UInt64, _ b: UInt64, _ c: UInt64) {
    mix(a, b)
    hash.combine(c)
  }
  func mix(_ a: UInt64, _ b: UInt64, _ c: UInt64, _ d: UInt64) {
    mix(a, b)
    mix(c, d)
  }
  func mix(_ text: String) { hash.combine(text) }
  func mix(sample bytes: UnsafeRawBufferPointer) { hash.sample(bytes) }

  /// Records an event in the hash and the trace.
  func note(_ who: String, _ what: @autoclosure () -> String, hashed: Bool = true) {
    guard hashed || options.trace != nil else { return }
    let text = what()
    if hashed {
      hash.combine(UInt64(bitPattern: instant))
      hash.combine(who)
      hash.combine(text)
    }
    trace(who, text)
  }

  var isTraced: Bool { options.trace != nil }

  /// One line of the timeline: seconds to the microsecond, who, what.
  func trace(_ who: String, _ what: String) {
    guard let trace = options.trace else { return }
    let microseconds = String(instant / 1000 % 1_000_000)
    let seconds = String(instant / 1_000_000_000)
    func pad(_ text: String, _ width: Int) -> String {
      String(repeating: " ", count: max(0, width - text.count))
    }
    trace(
      pad(seconds, 5) + seconds + "." + String(repeating: "0", count: 6 - microseconds.count)
        + microseconds + "  " + who + pad(who, 14) + "  " + what)
  }

  func count(_ kind: FaultKind) { faults.count(kind) }

  // MARK: Inhabitants

  /// The machine of that name, made on first use. Its host name on the network is its name, its root
  /// disk bears its name too.
  package func machine(_ name: String) -> SimulatedMachine {
    if let known = machines[name] { return known }
    let made = SimulatedMachine(name: name, world: self)
    machines[name] = made
    return made
  }

  /// The disk of that name, made empty on first use.
  package func disk(_ name: String) -> SimulatedDisk {
    if let known = disks[name] { return known }
    let made = SimulatedDisk(name: name, number: UInt64(disks.count + 1), world: self)
    disks[name] = made
    return made
  }

  /// Starts a process. Two living ones of one name would draw the same random numbers: refused.
  package func process(
    _ name: String, _ options: SimulatedProcess.Options = SimulatedProcess.Options()
  ) -> SimulatedProcess {
    precondition(
      !processes.contains { $0.name == name && $0.isAlive }, "process \(name) is alive already")
    let made = SimulatedProcess(
      name: name, incarnation: processes.count { $0.name == name },
      machine: options.machine ?? machine(name), options: options, world: self)
    processes.append(made)
    made.machine.switchOn()
    note(name, "start")
    return made
  }

  /// The process of whoever drives the test: a driver on a machine "harness" of its own.
  package var harness: SimulatedProcess {
    if let harnessProcess { return harnessProcess }
    let made = process("harness")
    harnessProcess = made
    return made
  }

  /// Lets virtual time pass for the caller.
  package func sleep(_ duration: Duration) async { await harness.sleep(duration) }

  /// The living process of that name.
  package func living(_ name: String) -> SimulatedProcess? {
    processes.last { $0.name == name && $0.isAlive }
  }

  /// All living processes, in the order in which they started.
  package var livingProcesses: [SimulatedProcess] { processes.filter(\.isAlive) }

  /// Living processes that use `disk`.
  func users(of disk: SimulatedDisk) -> [SimulatedProcess] {
    processes.filter { $0.isAlive && $0.machine.uses(disk) }
  }

  // MARK: The loop

  @discardableResult
  func schedule(after delay: Int64, _ action: @escaping () -> Void) -> SimulatedEvent {
    events.add(at: instant.addingSaturated(max(0, delay)), action)
  }

  @discardableResult
  func schedule(at time: Instant, _ action: @escaping () -> Void) -> SimulatedEvent {
    events.add(at: max(time, instant), action)
  }

  func cancel(_ event: SimulatedEvent) { events.cancel(event) }

  private func runJob() -> Bool {
    switch options.jobOrder {
    case .seeded: executor.runOne { count in self.jobRandom.below(count) }
    case .firstComeFirstServed: executor.runOne(choose: nil)
    }
  }

  private func drain(until isDone: () -> Bool) throws(SimulationError) {
    let limit = options.maximumTime.saturatedNanoseconds
    while !isDone() {
      if runJob() {
        steps += 1
        if steps > options.maximumSteps {
          throw .tooManySteps(seed: seed, time: now, steps: steps, waiting: waiting())
        }
        if steps & 0x3FF == 0, options.isOver?() == true {
          throw .outOfTime(seed: seed, time: now, steps: steps, waiting: waiting())
        }
        continue
      }
      if executor.wasLeft { throw .leftTheThread(seed: seed, time: now) }
      guard let next = events.nextTime() else {
        throw .deadlock(seed: seed, time: now, waiting: waiting())
      }
      if next > limit { throw .tooLate(seed: seed, limit: options.maximumTime, waiting: waiting()) }
      instant = max(instant, next)
      fireDue()
    }
    if executor.wasLeft { throw .leftTheThread(seed: seed, time: now) }
  }

  /// Fires what is due now. What these events add for the same moment waits until the jobs they woke
  /// have run, so that jobs of several events mix.
  private func fireDue() {
    guard let first = events.pop(dueAt: instant) else { return }
    // One at a time is the rule.
    guard var next = events.pop(dueAt: instant) else { return first.fire() }
    var due = [first]
    while true {
      due.append(next)
      guard let more = events.pop(dueAt: instant) else { break }
      next = more
    }
    for event in due { event.fire() }
  }

  private func waiting() -> [String] {
    processes.flatMap { process in
      process.operationsUnderWay.map { "\(process.name): \($0)" }
    }
  }

  /// Ends every process and lets their tasks run out, so that nothing is kept alive by a suspended
  /// task. Bounded: a task that ignores all errors is left where it stands.
  private func tearDown(_ main: Task<Void, Never>) {
    main.cancel()
    let met = faults
    for process in processes { process.kill() }
    faults = met
    var left = 1_000_000
    while left > 0 {
      left -= 1
      if runJob() { continue }
      guard let next = events.nextTime(), next <= instant else { break }
      fireDue()
    }
    events.removeAll()
    network.removeAll()
    // A task that waits for work of a dead process waits for ever, and keeps what it refers to: not the bulk.
    for process in processes { process.forget() }
    buffers.trim()
    for disk in disks.values { disk.forget() }
    // These refer to the world in turn.
    processes = []
    machines = [:]
    disks = [:]
    harnessProcess = nil
  }
}
