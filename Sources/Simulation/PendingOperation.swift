internal import Ring

/// Who is told of an operation's answer.
enum Waiter {
  case task(UnsafeContinuation<Int32, Never>)
  case transfer(TransferPlace)
  case arrival(Arrival, Outcome<Slice>)

  func resume(_ result: Int32) {
    switch self {
    case .task(let continuation): continuation.resume(returning: result)
    case .transfer(let place): place.pointee.queue?.complete(place, result)
    case .arrival(let arrival, let outcome):
      arrival.complete(
        result < 0
          ? .failure(RingError(errno: -result, operation: "receive"))
          : .bytes(outcome.value ?? .none))
    }
  }
}

/// An operation under way, and who waits for it.
final class PendingOperation: @unchecked Sendable {
  // Loop-confined.
  let id: UInt64
  let process: SimulatedProcess
  /// Kept until the end, so that its buffers stay referenced.
  let operation: RingOperation
  let isCancellable: Bool
  var waiter: Waiter?
  /// For operations that change or read a disk: does it, given how many bytes of a write may land at
  /// most, and returns the answer.
  var effect: ((Int) -> Int32)?
  /// Takes it away from where it waits (a socket's queue).
  var withdraw: (() -> Void)?
  /// What will finish it.
  var event: SimulatedEvent?
  /// Its place among the process's operations under way.
  var slot = 0
  /// When it was submitted.
  let begun: Instant
  /// What it is, for the trace.
  var text: String?
  /// Bytes moved so far by a send, or by a receive that waits for all.
  var progress = 0
  private(set) var isCancelled = false
  private var isDecided = false

  init(id: UInt64, process: SimulatedProcess, operation: RingOperation) {
    self.id = id
    self.process = process
    self.operation = operation
    begun = process.world.time
    isCancellable =
      switch operation {
      case .accept, .connect, .receive, .receiveAny, .send, .sleep, .waitForProcess, .waitForSignal:
        true
      default: false
      }
  }

  /// Settles the answer, given after `delay` nanoseconds. From now on cancelling comes too late.
  func decide(_ result: Int32, after delay: Int64 = 0) {
    guard !isDecided else { return }
    isDecided = true
    withdraw = nil
    effect = nil
    if let event { process.world.cancel(event) }
    event = process.world.schedule(after: delay) { self.finish(result) }
  }

  /// The waiting task was cancelled.
  func cancel() {
    guard !isCancelled else { return }
    isCancelled = true
    // Before the start, the start looks at the flag.
    guard waiter != nil, isCancellable, !isDecided else { return }
    withdraw?()
    decide(-Errno.cancelled)
  }

  /// The process was killed: whatever was decided, it hears no more than this.
  func abort() {
    withdraw?()
    isDecided = false
    decide(-Errno.cancelled)
  }

  /// Answers now. `decide` is the way for all but ends of events.
  func finish(_ result: Int32) {
    guard let waiter = self.waiter else { return }
    self.waiter = nil
    isDecided = true
    effect = nil
    withdraw = nil
    event = nil
    process.finished(self, result, waiter)
  }
}
