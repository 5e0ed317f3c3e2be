import CURing
import Glibc
import Synchronization

typealias Entry = UnsafeMutablePointer<io_uring_sqe>

/// How a task waits for the kernel.
extension EventLoop {
  enum Interruptible {
    /// One completion with a result.
    case plain
    /// One whose flags are wanted, in the slot.
    case flagged
    /// One with the result, and perhaps one more when the memory is free.
    case copyless
  }

  /// Submits one operation and suspends until its completion. The continuation itself, one pointer,
  /// is the operation's user data. Memory that `prepare` names must stay valid until this returns.
  ///
  /// - Parameter isEager: for a disk; see ``submitEagerly()``.
  @inline(__always)
  func operate(isEager: Bool = false, _ prepare: (Entry) -> Void) async -> Int32 {
    await withUnsafeContinuation { (continuation: UnsafeContinuation<Int32, Never>) in
      let entry = nextEntry()
      prepare(entry)
      entry.pointee.user_data = UInt64(
        UInt(bitPattern: unsafeBitCast(continuation, to: UnsafeRawPointer.self)))
      state.pointee.inFlight += 1
      if isEager { submitEagerly() }
    }
  }

  /// Submits two operations, of which the kernel begins the second when the first has wholly succeeded.
  ///
  /// - Returns: both results; the second is -ECANCELED when the first failed or was short.
  @inline(__always)
  func operateLinked(
    _ slot: SlotPointer, _ prepare: (Entry) -> Void, then prepareNext: (Entry) -> Void
  ) async -> (Int32, Int32) {
    let second = await withUnsafeContinuation {
      (continuation: UnsafeContinuation<Int32, Never>) in
      // A chain must not be cut by a submission in its middle.
      reserveEntries(2)
      let first = nextEntry()
      prepare(first)
      first.pointee.flags |= UInt8(truncatingIfNeeded: 1 << IOSQE_IO_LINK_BIT)
      first.pointee.user_data = Tag.linkHead(slot)
      let entry = nextEntry()
      prepareNext(entry)
      entry.pointee.user_data = Tag.linkTail(slot)
      slot.pointee.linkedLeft = 2
      slot.pointee.continuation = UInt64(
        UInt(bitPattern: unsafeBitCast(continuation, to: UnsafeRawPointer.self)))
      state.pointee.inFlight += 1
    }
    return (slot.pointee.headResult, second)
  }

  /// As `operate`, but a cancelled task gets its answer soon: -ECANCELED, or what the operation had
  /// reached by then. Returns only after the kernel has let go of the memory in any case.
  ///
  /// - Parameter kind: what its completions tell.
  @inline(__always)
  func interruptible(
    _ slot: SlotPointer, as kind: Interruptible = .plain, _ prepare: (Entry) -> Void
  ) async -> Int32 {
    let address = UInt(bitPattern: slot)
    let generation = slot.pointee.generation
    return await withTaskCancellationHandler {
      if slot.pointee.isCancelled { return -ECANCELED }
      let result = await withUnsafeContinuation {
        (continuation: UnsafeContinuation<Int32, Never>) in
        let entry = nextEntry()
        prepare(entry)
        var userData = UInt64(
          UInt(bitPattern: unsafeBitCast(continuation, to: UnsafeRawPointer.self)))
        switch kind {
        case .plain: break
        case .flagged:
          slot.pointee.continuation = userData
          userData = Tag.flagged(slot)
        case .copyless:
          slot.pointee.continuation = userData
          userData = Tag.copyless(slot)
        }
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
  /// dropped, and what has not begun never does.
  func abandonableOffload<Value: Sendable>(lane: Int, _ work: @escaping @Sendable () -> Value) async
    -> Value?
  {
    let wait = AbandonableWait<Value>()
    state.pointee.inFlight += 1
    let value = await withTaskCancellationHandler {
      await withUnsafeContinuation { continuation in
        guard wait.begin(continuation) else { return }
        lanes[lane].push { if wait.isWaiting { wait.end(work()) } }
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

  var isWaiting: Bool {
    state.withLock { if case .waiting = $0 { true } else { false } }
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
