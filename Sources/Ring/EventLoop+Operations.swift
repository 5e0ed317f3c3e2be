import CURing
import Glibc
import Synchronization

typealias Entry = UnsafeMutablePointer<io_uring_sqe>

/// How a task waits for the kernel.
extension EventLoop {
  /// Submits one operation and suspends until its completion. The continuation itself, one pointer,
  /// is the operation's user data. Memory that `prepare` names must stay valid until this returns.
  @inline(__always)
  func operate(_ prepare: (Entry) -> Void) async -> Int32 {
    await withUnsafeContinuation { (continuation: UnsafeContinuation<Int32, Never>) in
      let entry = nextEntry()
      prepare(entry)
      entry.pointee.user_data = UInt64(
        UInt(bitPattern: unsafeBitCast(continuation, to: UnsafeRawPointer.self)))
      state.pointee.inFlight += 1
    }
  }

  /// As `operate`, but a cancelled task gets its answer soon: -ECANCELED, or what the operation had
  /// reached by then. Returns only after the kernel has let go of the memory in any case.
  @inline(__always)
  func interruptible(_ slot: SlotPointer, _ prepare: (Entry) -> Void) async -> Int32 {
    let address = UInt(bitPattern: slot)
    let generation = slot.pointee.generation
    return await withTaskCancellationHandler {
      if slot.pointee.isCancelled { return -ECANCELED }
      let result = await withUnsafeContinuation {
        (continuation: UnsafeContinuation<Int32, Never>) in
        let entry = nextEntry()
        prepare(entry)
        let userData = UInt64(
          UInt(bitPattern: unsafeBitCast(continuation, to: UnsafeRawPointer.self)))
        entry.pointee.user_data = userData
        slot.pointee.userData = userData
        state.pointee.inFlight += 1
      }
      slot.pointee.userData = 0
      return result
    } onCancel: {
      cancel(slot: address, generation: generation)
    }
  }

  /// Suspends until the monotonic clock has reached `deadline`, in nanoseconds.
  ///
  /// - Returns: 0, or -ECANCELED when the task was cancelled.
  func sleep(until deadline: Int64) async -> Int32 {
    let slot = state.takeSlot()
    defer { state.giveBack(slot) }
    slot.pointee.deadline = deadline
    let address = UInt(bitPattern: slot)
    let generation = slot.pointee.generation
    return await withTaskCancellationHandler {
      if slot.pointee.isCancelled { return -ECANCELED }
      return await withUnsafeContinuation { (continuation: UnsafeContinuation<Int32, Never>) in
        slot.pointee.userData = UInt64(
          UInt(bitPattern: unsafeBitCast(continuation, to: UnsafeRawPointer.self)))
        state.pointee.timers.insert(slot)
        state.pointee.inFlight += 1
      }
    } onCancel: {
      cancel(slot: address, generation: generation)
    }
  }

  /// Runs `work` on the lane's thread.
  func offload<Value: Sendable>(lane: Int, _ work: @escaping @Sendable () -> Value) async -> Value {
    state.pointee.inFlight += 1
    let value = await withUnsafeContinuation { (continuation: UnsafeContinuation<Value, Never>) in
      lanes[lane].push { continuation.resume(returning: work()) }
    }
    state.pointee.inFlight -= 1
    return value
  }

  /// As `offload`, but a cancelled task goes on at once with nil; what `work` then still brings is
  /// dropped.
  func abandonableOffload<Value: Sendable>(lane: Int, _ work: @escaping @Sendable () -> Value) async
    -> Value?
  {
    let wait = AbandonableWait<Value>()
    state.pointee.inFlight += 1
    let value = await withTaskCancellationHandler {
      await withUnsafeContinuation { continuation in
        guard wait.begin(continuation) else { return }
        lanes[lane].push { wait.end(work()) }
      }
    } onCancel: {
      wait.end(nil)
    }
    state.pointee.inFlight -= 1
    return value
  }
}

/// Resumes one continuation, once, by whoever comes first: the work's end or the cancellation.
private final class AbandonableWait<Value: Sendable>: Sendable {
  private enum State {
    case notBegun
    case waiting(UnsafeContinuation<Value?, Never>)
    case ended
  }
  private let state = Mutex<State>(.notBegun)

  /// - Returns: false when it was cancelled before; the continuation is then resumed already.
  func begin(_ continuation: UnsafeContinuation<Value?, Never>) -> Bool {
    let begins = state.withLock { state in
      guard case .notBegun = state else { return false }
      state = .waiting(continuation)
      return true
    }
    if !begins { continuation.resume(returning: nil) }
    return begins
  }

  func end(_ value: Value?) {
    let waiter: UnsafeContinuation<Value?, Never>? = state.withLock { state in
      defer { state = .ended }
      guard case .waiting(let continuation) = state else { return nil }
      return continuation
    }
    waiter?.resume(returning: value)
  }
}
