/// Every effect on the outside world, real or simulated. One driver belongs to one event loop (or, in
/// simulation, to one simulated process); call it only from tasks of that loop.
package protocol Driver: AnyObject, Sendable {
  /// Monotonic time since an arbitrary start. Never jumps back.
  var now: Duration { get }
  /// Time since 1970 UTC by the machine's clock, which may be wrong and may jump.
  var wallClock: Duration { get }
  func random() -> UInt64
  /// Hands one operation to the kernel, or to the simulated one, and returns its result: a count, or
  /// a negative errno. When the calling task is cancelled while `accept`, `connect`, `receive`,
  /// `receiveAny`, `send`, `sleep` or a `wait…` is under way, the answer is -ECANCELED; other operations run to their end.
  /// The operation's buffers stay referenced until the kernel is done with them.
  func submit(_ operation: RingOperation) async -> Int32
  /// Runs blocking work (RocksDB, name resolution) on a bounded set of threads; inline in simulation.
  /// `lane` 0..<4: work of one lane runs one at a time, in order.
  func offload<Value: Sendable>(lane: Int, _ work: @escaping @Sendable () -> Value) async -> Value
  /// Runs work that may hang for ever, as a library of others does that asks a device: one piece at a time, in order, on a
  /// thread that nothing else waits for; inline in simulation.
  ///
  /// - Returns: nil when it has not ended after `limit`, or when the calling task was cancelled before. Work that had begun
  ///   goes on then, and holds up what comes after it; what had not begun never does.
  func offload<Value: Sendable>(
    within limit: Duration, _ work: @escaping @Sendable () -> Value
  ) async -> Value?
  /// Starts a task on this loop that outlives its caller; the only replacement for `Task { }`.
  /// When the driver stops, its tasks are cancelled.
  @discardableResult
  func spawn(_ name: String, _ body: @escaping @Sendable () async -> Void) -> SpawnedTask
  /// Runs `body` on an event loop of its own, on a thread of its own, and waits for it; in simulation here, in this
  /// process. When the calling task is cancelled, so is `body`. What `body` needs of the other loop it makes there:
  /// nothing loop-confined may cross.
  ///
  /// - Throws: when the system has no thread or ring to give.
  func onOwnLoop<Value: Sendable>(
    _ name: String, _ body: @escaping @Sendable (any Driver) async -> Value
  ) async throws(RingError) -> Value
  /// What this loop's thread, or the whole process, has used so far.
  func usage(of scope: UsageScope) -> ResourceUsage
  /// Starts the read or write that stands at `place`; its answer goes to ``TransferQueue/complete(_:_:)``. Only for
  /// ``TransferQueue``.
  func start(_ place: TransferPlace)
  /// Starts a wait; its answer goes to ``Arrival/complete(_:)``. Only for ``Arrival``.
  func start(_ arrival: Arrival)
  var buffers: BufferPool { get }
  /// What of the kernel is in use, in words, for one line at start.
  var features: String { get }
  /// Whether the rare path at this place is to be taken. False in the real world; in simulation the
  /// world's seed decides.
  func meets(_ point: InjectionPoint) -> Bool
}

/// A task started by ``Driver/spawn(_:_:)``.
package struct SpawnedTask: Sendable {
  package let task: Task<Void, Never>
  package init(_ task: Task<Void, Never>) { self.task = task }
  package func cancel() { task.cancel() }
  /// Waits until it has ended.
  package func wait() async { await task.value }
}

extension Driver {
  /// `submit`, with a negative answer thrown.
  @discardableResult
  package func perform(
    _ operation: RingOperation, _ name: String, _ subject: @autoclosure () -> String = ""
  ) async throws(RingError) -> Int {
    let result = await submit(operation)
    guard result >= 0 else {
      throw RingError(errno: -result, operation: name, subject: subject())
    }
    return Int(result)
  }

  /// Suspends for `duration`; returns false when the task was cancelled.
  @discardableResult
  package func sleep(_ duration: Duration) async -> Bool {
    await submit(.sleep(duration)) == 0 && !Task.isCancelled
  }

  /// `count` random bytes from the driver's generator.
  package func randomBytes(_ count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count + 8)
    while bytes.count < count {
      var word = random()
      for _ in 0..<8 {
        bytes.append(UInt8(truncatingIfNeeded: word))
        word >>= 8
      }
    }
    bytes.removeLast(bytes.count - count)
    return bytes
  }
}
