import CURing
import Glibc

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

  /// Runs `work` on the lane's thread.
  func offload<Value: Sendable>(lane: Int, _ work: @escaping @Sendable () -> Value) async -> Value {
    state.pointee.inFlight += 1
    let value = await withUnsafeContinuation { (continuation: UnsafeContinuation<Value, Never>) in
      lanes[lane].push { continuation.resume(returning: work()) }
    }
    state.pointee.inFlight -= 1
    return value
  }
}
