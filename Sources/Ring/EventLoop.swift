import CKernel
import CURing
import Glibc
import Synchronization

/// A thread that owns one io_uring and runs tasks between its waits.
///
/// It is the executor preference of every task it starts; children and `async let` inherit it, so no
/// task ever leaves the thread. Each turn runs the jobs that were ready when it began, hands the
/// kernel everything they submitted with one system call, and resumes whoever completed. With
/// nothing to do it sleeps in the kernel without a timeout.
///
/// Map of the rest: ``UringDriver`` says what tasks can ask for, `EventLoop+Operations` how an
/// operation waits for its completion and is cancelled, `LoopState` what changes on each turn,
/// `OffloadLane` where blocking work goes.
package final class EventLoop: TaskExecutor, SerialExecutor, @unchecked Sendable {
  // Sound: `state` is touched by the loop's thread only, the rest is constant or synchronised.

  package struct Options: Sendable {
    /// Operations that can wait to be submitted in one turn; more are submitted early, none is lost.
    package var submissionEntries: UInt32 = 256
    package var completionEntries: UInt32 = 4096
    /// Idle bytes that the buffer pool keeps for the next taker.
    package var retainedByteLimit = 64 << 20
    /// Memory registered with the kernel at start, which stays resident; 0 for none.
    package var registeredByteCount = 4 << 20
    /// How much of what is larger than that may be in huge pages, which come and go with the need.
    package var hugeByteCount = 64 << 20
    /// Blocked in every thread from here on, so that they only arrive through `waitForSignal`.
    package var signals: [Int32] = [SIGINT, SIGTERM, SIGHUP]
    /// Keeps to the oldest set-up of the ring, for tests of the way back.
    package var usesPlainSetup = false
    /// What may be used where the kernel has it; fewer for tests of the way back.
    package var features = RingFeatures.all
    /// Open files and connections that the kernel is told of in advance; those with higher numbers do without.
    package var registeredFileCount: UInt32 = 4096
    /// From this many bytes on a send to another machine is not copied. Never by default: on loopback the kernel copies
    /// all the same and later (sends of 16 KiB to 1 MiB: 10 to 45 % fewer bytes a CPU-second), and where the gain begins
    /// on a real network depends on its card.
    package var copylessByteCount = Int.max
    /// Also on loopback, for tests.
    package var copiesNothingOnLoopback = false
    /// Pieces of 4 KiB for what small receives bring, at most 32,768; a power of two.
    package var providedBufferCount = 256

    package init() {}
  }

  let state: UnsafeMutablePointer<LoopState>
  let lanes: [OffloadLane]
  let wakeDescriptor: Int32
  let truncatesInRing: Bool
  /// What is in use.
  package let features: RingFeatures
  let registersSockets: Bool
  let copylessByteCount: Int
  let copiesNothingOnLoopback: Bool
  package let buffers: BufferPool
  let provided: ProvidedBuffers?

  /// What other threads leave for the loop.
  private enum Mail {
    case job(UnownedJob)
    case cancellation(slot: UInt, generation: UInt)
  }
  private let mail = Mutex<[Mail]>([])
  private let hasMail = Atomic<Bool>(false)
  private let isAsleep = Atomic<Bool>(false)

  /// The lane of file and process calls that have no io_uring operation.
  static let fileLane = 4
  /// The lane of name resolution, which may take many seconds.
  static let resolverLane = 5
  /// The lane of other people's libraries, which may hang.
  static let foreignLane = 6

  /// Runs `body` as a task on the calling thread and returns its result when it, and every task it
  /// spawned, has ended. What it left running is cancelled first; a spawned task that then still
  /// waits for something that only another task could give it is abandoned where it stands.
  ///
  /// Blocks the thread. Ignores SIGPIPE in the whole process and leaves `options.signals` blocked. Standard descriptors
  /// that the process was started without stay taken, so that no file or socket gets their numbers and with them what is
  /// meant for people.
  package static func run<Result: Sendable>(
    _ options: Options = Options(), _ body: @escaping @Sendable (any Driver) async -> Result
  ) throws(RingError) -> Result {
    try run(options, started: { _ in }, body)
  }

  /// - Parameter started: is handed what cancels the task of `body`, from any thread.
  static func run<Result: Sendable>(
    _ options: Options, started: (@escaping @Sendable () -> Void) -> Void,
    _ body: @escaping @Sendable (any Driver) async -> Result
  ) throws(RingError) -> Result {
    precondition(cairn_current_loop() == nil, "a loop runs inside a loop")
    let loop = try EventLoop(options)
    let driver = UringDriver(loop)
    let outcome = Outcome<Result>()
    cairn_set_current_loop(loop.state)
    let task = Task(executorPreference: loop) {
      outcome.value = await body(driver)
      loop.stop()
    }
    started { task.cancel() }
    loop.drive()
    loop.tearDown()
    cairn_set_current_loop(nil)
    return outcome.value!
  }

  private init(_ options: Options) throws(RingError) {
    let held = cairn_hold_standard_descriptors()
    guard held == 0 else { throw RingError(errno: -held, operation: "open /dev/null") }
    signal(SIGPIPE, SIG_IGN)
    var blocked = sigset_t()
    sigemptyset(&blocked)
    for number in options.signals { sigaddset(&blocked, number) }
    pthread_sigmask(SIG_BLOCK, &blocked, nil)

    let wake = cairn_eventfd()
    guard wake >= 0 else { throw RingError(errno: -wake, operation: "eventfd") }
    let state = UnsafeMutablePointer<LoopState>.allocate(capacity: 1)
    state.initialize(to: LoopState(fileLimit: options.registeredFileCount))
    var features = options.features
    var registersSockets = false
    do throws(RingError) {
      truncatesInRing = try Self.openRing(
        &state.pointee.ring, options, &features, &registersSockets)
    } catch {
      state.pointee.free()
      state.deinitialize(count: 1)
      state.deallocate()
      close(wake)
      throw error
    }
    self.state = state
    wakeDescriptor = wake
    lanes = (0..<7).map { _ in OffloadLane() }
    let mayRegister = features.contains(.registeredBuffers)
    buffers = BufferPool(
      retainedByteLimit: options.retainedByteLimit,
      registeredByteCount: mayRegister ? options.registeredByteCount : 0,
      hugeByteCount: options.hugeByteCount)
    features.remove(.registeredBuffers)
    if let arena = buffers.arena {
      var vector = iovec(iov_base: arena.base, iov_len: arena.byteCount)
      // Refused where the process may lock too little memory: then plain operations do.
      if io_uring_register_buffers(&state.pointee.ring, &vector, 1) == 0 {
        arena.isRegistered = true
        features.insert(.registeredBuffers)
      }
    }
    if features.contains(.registeredFiles),
      !state.pointee.files.register(&state.pointee.ring)
    {
      features.remove(.registeredFiles)
    }
    provided =
      features.contains(.providedBuffers)
      ? ProvidedBuffers(&state.pointee.ring, count: options.providedBufferCount) : nil
    if provided == nil { features.remove(.providedBuffers) }
    if options.copylessByteCount == .max { features.remove(.zeroCopySend) }
    copylessByteCount = options.copylessByteCount
    copiesNothingOnLoopback = options.copiesNothingOnLoopback
    self.features = features
    self.registersSockets = registersSockets
  }

  deinit {
    state.pointee.free()
    state.deinitialize(count: 1)
    state.deallocate()
    close(wakeDescriptor)
  }

  // MARK: Executor

  package func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    if cairn_current_loop() == UnsafeMutableRawPointer(state) {
      state.push(job)
    } else {
      post(.job(job))
    }
  }

  package func checkIsolated() {
    precondition(cairn_current_loop() == UnsafeMutableRawPointer(state), "not on the event loop")
  }

  package func isIsolatingCurrentContext() -> Bool? {
    cairn_current_loop() == UnsafeMutableRawPointer(state)
  }

  private func post(_ letter: Mail) {
    mail.withLock { $0.append(letter) }
    hasMail.store(true, ordering: .sequentiallyConsistent)
    // One of the two sees the other: we that it sleeps, or it that there is mail.
    if isAsleep.exchange(false, ordering: .sequentiallyConsistent) {
      _ = cairn_eventfd_raise(wakeDescriptor)
    }
  }

  private func takeMail() {
    guard hasMail.exchange(false, ordering: .sequentiallyConsistent) else { return }
    let letters = mail.withLock { mail in
      let letters = mail
      mail.removeAll(keepingCapacity: mail.count <= 1024)
      return letters
    }
    for letter in letters {
      switch letter {
      case .job(let job): state.push(job)
      case .cancellation(let slot, let generation):
        cancelHere(SlotPointer(bitPattern: slot)!, generation)
      }
    }
  }

  /// Cancels the operation in `slot`, from whatever thread the cancellation came.
  func cancel(slot: UInt, generation: UInt) {
    if cairn_current_loop() == UnsafeMutableRawPointer(state) {
      cancelHere(SlotPointer(bitPattern: slot)!, generation)
    } else {
      post(.cancellation(slot: slot, generation: generation))
    }
  }

  private func cancelHere(_ slot: SlotPointer, _ generation: UInt) {
    guard slot.pointee.generation == generation, !slot.pointee.isCancelled else { return }
    slot.pointee.isCancelled = true
    guard slot.pointee.userData != 0 else { return }
    if slot.pointee.timerPlace >= 0 {
      state.pointee.timers.remove(slot)
      endSleep(slot, -ECANCELED)
      return
    }
    if slot.pointee.listener >= 0 && cancelAccept(slot) { return }
    // The original completes all the same, with -ECANCELED or with what it got before.
    let entry = nextEntry()
    io_uring_prep_cancel64(entry, slot.pointee.userData, 0)
    entry.pointee.user_data = Tag.ignored.rawValue
  }

  // MARK: Turning

  private func stop() {
    state.pointee.isStopping = true
    for number in state.pointee.spawned.keys.sorted() {
      state.pointee.spawned[number]?.cancel()
    }
  }

  private func drive() {
    let state = state
    // Not "isolated to" the loop as an actor's executor: tasks here are isolated to nothing, and the
    // runtime would queue a job once more for each suspension only to leave that isolation.
    let executor = asUnownedTaskExecutor()
    while true {
      for _ in 0..<state.jobCount {
        state.pop().runSynchronously(on: executor)
      }
      takeMail()
      armTimer()
      if state.jobCount > 0 {
        if cairn_uring_wants_enter(&state.pointee.ring) {
          io_uring_submit_and_get_events(&state.pointee.ring)
        }
      } else {
        if state.pointee.isStopping
          && (state.pointee.spawned.isEmpty || state.pointee.inFlight == 0)
        {
          return
        }
        if !state.pointee.isWakeArmed { armWake() }
        armTrim()
        isAsleep.store(true, ordering: .sequentiallyConsistent)
        if !hasMail.load(ordering: .sequentiallyConsistent) {
          io_uring_submit_and_wait(&state.pointee.ring, 1)
        }
        isAsleep.store(false, ordering: .relaxed)
      }
      drain()
    }
  }

  /// Resumes the tasks of all completions that have been posted.
  func drain() {
    let state = state
    while true {
      let count = cairn_uring_take(
        &state.pointee.ring, state.pointee.completions, LoopState.completionBatch)
      for index in 0..<Int(count) {
        let completion = state.pointee.completions[index]
        if completion.user_data & 1 == 0 {
          resume(completion.user_data, completion.result)
        } else {
          complete(completion)
        }
      }
      if count < LoopState.completionBatch { return }
    }
  }

  /// What a completion that resumes no task carries; odd, as the address of a continuation never is. Those above 15 are
  /// an address, a multiple of 16, and what lies there.
  enum Tag: UInt64 {
    case ignored = 1
    case wake = 3
    case trim = 5
    static func timer(_ slot: SlotPointer) -> UInt64 { UInt64(UInt(bitPattern: slot)) | 1 }
    /// A completion that tells more than its result.
    static func flagged(_ slot: SlotPointer) -> UInt64 { UInt64(UInt(bitPattern: slot)) | 5 }
    static func linkHead(_ slot: SlotPointer) -> UInt64 { UInt64(UInt(bitPattern: slot)) | 7 }
    static func linkTail(_ slot: SlotPointer) -> UInt64 { UInt64(UInt(bitPattern: slot)) | 9 }
    static func accept(_ slot: SlotPointer) -> UInt64 { UInt64(UInt(bitPattern: slot)) | 11 }
    static func copyless(_ slot: SlotPointer) -> UInt64 { UInt64(UInt(bitPattern: slot)) | 13 }
    static func transfer(_ place: TransferPlace) -> UInt64 { UInt64(UInt(bitPattern: place)) | 3 }
    /// Holds a reference to it, which ``EventLoop/arrived(_:)`` takes back.
    static func arrival(_ arrival: Arrival) -> UInt64 {
      UInt64(UInt(bitPattern: Unmanaged.passRetained(arrival).toOpaque())) | 15
    }
  }

  private func complete(_ completion: cairn_completion) {
    if completion.user_data > 15 {
      let address = UInt(completion.user_data & ~15)
      switch completion.user_data & 15 {
      case 1: timerFired(SlotPointer(bitPattern: address)!)
      case 5:
        let slot = SlotPointer(bitPattern: address)!
        slot.pointee.flags = completion.flags
        resume(slot.pointee.continuation, completion.result)
      case 13: sent(SlotPointer(bitPattern: address)!, completion)
      case 15: arrived(completion)
      case 11:
        accepted(SlotPointer(bitPattern: address)!, completion.result, completion.flags)
      case 7, 9:
        let slot = SlotPointer(bitPattern: address)!
        if completion.user_data & 15 == 7 {
          slot.pointee.headResult = completion.result
        } else {
          slot.pointee.tailResult = completion.result
        }
        slot.pointee.linkedLeft -= 1
        if slot.pointee.linkedLeft == 0 {
          resume(slot.pointee.continuation, slot.pointee.tailResult)
        }
      default: transferred(TransferPlace(bitPattern: address)!, completion.result)
      }
      return
    }
    switch Tag(rawValue: completion.user_data) {
    case .wake:
      if completion.flags & IORING_CQE_F_MORE == 0 { state.pointee.isWakeArmed = false }
    case .trim:
      state.pointee.isTrimArmed = false
      buffers.trimUnused()
    case .ignored, nil: break
    }
  }

  private func sent(_ slot: SlotPointer, _ completion: cairn_completion) {
    if completion.flags & IORING_CQE_F_NOTIF == 0 {
      resume(slot.pointee.continuation, completion.result)
      if completion.flags & IORING_CQE_F_MORE != 0 { return }
    }
    state.pointee.lent[slot] = nil
    if slot.pointee.isAnswered { state.giveBack(slot) }
  }

  /// Sees to it that the kernel wakes the loop for the earliest sleep.
  private func armTimer() {
    guard let first = state.pointee.timers.first else { return }
    let deadline = first.pointee.deadline
    if let nearest = state.pointee.armedTimers.last, nearest.pointee.deadline <= deadline { return }
    let slot = state.takeSlot()
    slot.pointee.deadline = deadline
    slot.pointee.time.tv_sec = deadline / 1_000_000_000
    slot.pointee.time.tv_nsec = deadline % 1_000_000_000
    let entry = nextEntry()
    io_uring_prep_timeout(entry, &slot.pointee.time, 0, IORING_TIMEOUT_ABS)
    entry.pointee.user_data = Tag.timer(slot)
    state.pointee.armedTimers.append(slot)
  }

  private func timerFired(_ slot: SlotPointer) {
    if let index = state.pointee.armedTimers.lastIndex(of: slot) {
      state.pointee.armedTimers.remove(at: index)
    }
    state.giveBack(slot)
    let now = Self.nanoseconds()
    while let first = state.pointee.timers.first, first.pointee.deadline <= now {
      state.pointee.timers.remove(first)
      endSleep(first, 0)
    }
  }

  private func endSleep(_ slot: SlotPointer, _ result: Int32) {
    let userData = slot.pointee.userData
    slot.pointee.userData = 0
    resume(userData, result)
  }

  func resume(_ userData: UInt64, _ result: Int32) {
    state.pointee.inFlight -= 1
    unsafeBitCast(
      UnsafeRawPointer(bitPattern: UInt(userData)), to: UnsafeContinuation<Int32, Never>.self
    ).resume(returning: result)
  }

  /// The monotonic clock.
  static func nanoseconds() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }

  private func armWake() {
    let entry = nextEntry()
    // A multishot poll tells of every write to the eventfd, so its counter need never be read.
    io_uring_prep_poll_multishot(entry, wakeDescriptor, UInt32(POLLIN))
    entry.pointee.user_data = Tag.wake.rawValue
    state.pointee.isWakeArmed = true
  }

  /// While much memory is idle, looks once in a while how much of it nobody took.
  private func armTrim() {
    guard !state.pointee.isTrimArmed, buffers.isWorthTrimming else { return }
    let entry = nextEntry()
    io_uring_prep_timeout(entry, &state.pointee.trimPeriod, 0, 0)
    entry.pointee.user_data = Tag.trim.rawValue
    state.pointee.isTrimArmed = true
  }

  /// Hands the kernel what waits when it is enough. A disk that has to wait for the end of the turn stands idle meanwhile:
  /// 4 KiB reads of a virtual disk at depth 64 are 10 to 25 % slower in the turn's one piece than in pieces of 4, of 8 by
  /// half of that. A piece costs 0.3 us an entry.
  @inline(__always)
  func submitEagerly() {
    if io_uring_sq_ready(&state.pointee.ring) >= Self.eagerEntryCount {
      io_uring_submit(&state.pointee.ring)
    }
  }
  private static let eagerEntryCount: UInt32 = 4

  /// A free submission entry. When the queue is full it is submitted first; when the kernel cannot
  /// take more, completions are drained until it can.
  func nextEntry() -> UnsafeMutablePointer<io_uring_sqe> {
    while true {
      if let entry = io_uring_get_sqe(&state.pointee.ring) { return entry }
      if io_uring_submit(&state.pointee.ring) <= 0 {
        io_uring_submit_and_get_events(&state.pointee.ring)
        drain()
      }
    }
  }

  /// Makes sure that the next `count` entries go to the kernel together.
  func reserveEntries(_ count: UInt32) {
    while io_uring_sq_space_left(&state.pointee.ring) < count {
      if io_uring_submit(&state.pointee.ring) <= 0 {
        io_uring_submit_and_get_events(&state.pointee.ring)
        drain()
      }
    }
  }

  // MARK: The ring

  /// - Parameters:
  ///   - features: those that the kernel surely lacks are taken out.
  ///   - registersSockets: whether connections may be in the table of registered files.
  /// - Returns: whether the kernel knows how to set a file's length in the ring.
  private static func openRing(
    _ ring: UnsafeMutablePointer<io_uring>, _ options: Options, _ features: inout RingFeatures,
    _ registersSockets: inout Bool
  ) throws(RingError) -> Bool {
    let sized = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP
    let newest =
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG
      | IORING_SETUP_SUBMIT_ALL
    let older = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG
    var status: Int32 = 0
    for flags in options.usesPlainSetup ? [sized] : [sized | newest, sized | older, sized] {
      var parameters = io_uring_params()
      parameters.flags = flags
      parameters.cq_entries = options.completionEntries
      status = io_uring_queue_init_params(options.submissionEntries, ring, &parameters)
      if status != -EINVAL {
        if flags & IORING_SETUP_DEFER_TASKRUN == 0 { features.remove(.deferredWork) }
        break
      }
    }
    guard status >= 0 else {
      throw RingError(errno: -status, operation: "io_uring_setup", subject: "io_uring")
    }
    guard ring.pointee.features & IORING_FEAT_NODROP != 0,
      let probe = io_uring_get_probe_ring(ring)
    else {
      io_uring_queue_exit(ring)
      throw RingError(errno: ENOSYS, operation: "io_uring_setup", subject: "io_uring")
    }
    defer { io_uring_free_probe(probe) }
    let needed = [
      IORING_OP_READ, IORING_OP_WRITE, IORING_OP_MKDIRAT, IORING_OP_SYMLINKAT, IORING_OP_UNLINKAT,
      IORING_OP_RENAMEAT, IORING_OP_ASYNC_CANCEL, IORING_OP_STATX, IORING_OP_SENDMSG,
    ]
    guard needed.allSatisfy({ io_uring_opcode_supported(probe, Int32($0.rawValue)) != 0 }) else {
      io_uring_queue_exit(ring)
      throw RingError(errno: ENOSYS, operation: "io_uring_setup", subject: "io_uring")
    }
    // Came with the same kernel as multishot accept, which cannot be asked for.
    if io_uring_opcode_supported(probe, Int32(IORING_OP_SOCKET.rawValue)) == 0 {
      features.remove(.multishotAccept)
    }
    if io_uring_opcode_supported(probe, Int32(CAIRN_OP_SENDMSG_ZC)) == 0 {
      features.remove(.zeroCopySend)
    }
    // Before 6.13 a file that left the table stayed open until older operations on any other had ended, perhaps for
    // ever; this feature is of 6.14.
    registersSockets = ring.pointee.features & (1 << 16) != 0
    // Saves the kernel a look-up at each entry; where it is refused, that is all we lose.
    io_uring_register_ring_fd(ring)
    return io_uring_opcode_supported(probe, Int32(CAIRN_OP_FTRUNCATE)) != 0
  }

  /// Nothing of ours is in flight any more, apart from the poll and the timer of the loop itself,
  /// which hold no memory.
  private func tearDown() {
    // What nobody waits for any more may last long, and touches nothing of the loop's.
    for (index, lane) in lanes.enumerated() {
      lane.stop(waiting: index != Self.resolverLane && index != Self.foreignLane)
    }
    for queue in state.pointee.acceptQueues.values {
      while let connection = queue.ready.popFirst() { close(connection) }
    }
    io_uring_queue_exit(&state.pointee.ring)
    // The kernel may go on sending from it: memory that others would write to now is never theirs.
    for slices in state.pointee.lent.values {
      for slice in slices { _ = Unmanaged.passRetained(slice.buffer) }
    }
  }
}
