import CURing
import Glibc

/// What one listener accepts: the kernel is asked once and tells of each connection as it comes.
final class AcceptQueue: @unchecked Sendable {
  // Loop-confined.
  let descriptor: Int32
  /// Names the operation. Given back when its last completion has come.
  let slot: SlotPointer
  var isArmed = false
  /// Accepted and not yet asked for.
  var ready = Queue<Int32>()
  var failure: Int32?
  var waiting: [SlotPointer] = []
  /// Nobody will ask any more.
  var isClosed = false

  init(descriptor: Int32, slot: SlotPointer) {
    self.descriptor = descriptor
    self.slot = slot
  }
}

extension EventLoop {
  private func acceptQueue(_ descriptor: Int32) -> AcceptQueue {
    if let queue = state.pointee.listeners[descriptor] { return queue }
    let queue = AcceptQueue(descriptor: descriptor, slot: state.takeSlot())
    state.pointee.listeners[descriptor] = queue
    state.pointee.acceptQueues[queue.slot] = queue
    return queue
  }

  /// - Returns: the connection's descriptor or a negative errno; -ECANCELED when the task is cancelled.
  func accept(_ descriptor: Int32) async -> Int32 {
    let queue = acceptQueue(descriptor)
    let slot = state.takeSlot()
    defer { state.giveBack(slot) }
    slot.pointee.listener = descriptor
    let address = UInt(bitPattern: slot)
    let generation = slot.pointee.generation
    return await withTaskCancellationHandler {
      while true {
        if slot.pointee.isCancelled { return -ECANCELED }
        if let connection = queue.ready.popFirst() { return connection }
        if let failure = queue.failure {
          queue.failure = nil
          return failure
        }
        if queue.isClosed { return -EBADF }
        if !queue.isArmed {
          let entry = nextEntry()
          io_uring_prep_multishot_accept(
            entry, descriptor, nil, nil, Int32(SOCK_CLOEXEC.rawValue))
          entry.pointee.user_data = Tag.accept(queue.slot)
          queue.isArmed = true
        }
        let result = await withUnsafeContinuation {
          (continuation: UnsafeContinuation<Int32, Never>) in
          slot.pointee.userData = UInt64(
            UInt(bitPattern: unsafeBitCast(continuation, to: UnsafeRawPointer.self)))
          queue.waiting.append(slot)
          state.pointee.inFlight += 1
        }
        if result < 0 { return result }
      }
    } onCancel: {
      cancel(slot: address, generation: generation)
    }
  }

  func accepted(_ slot: SlotPointer, _ result: Int32, _ flags: UInt32) {
    guard let queue = state.pointee.acceptQueues[slot] else { return }
    if flags & IORING_CQE_F_MORE == 0 { queue.isArmed = false }
    if queue.isClosed {
      if result >= 0 { close(result) }
      forgetIfOver(queue)
      return
    }
    if result >= 0 { queue.ready.append(result) } else { queue.failure = result }
    if !queue.waiting.isEmpty { wake(queue.waiting.removeFirst(), 0) }
  }

  private func wake(_ waiter: SlotPointer, _ result: Int32) {
    let userData = waiter.pointee.userData
    waiter.pointee.userData = 0
    resume(userData, result)
  }

  /// - Returns: false when the slot's task waits for no listener.
  func cancelAccept(_ slot: SlotPointer) -> Bool {
    guard let queue = state.pointee.listeners[slot.pointee.listener],
      let index = queue.waiting.firstIndex(of: slot)
    else { return false }
    queue.waiting.remove(at: index)
    wake(slot, -ECANCELED)
    return true
  }

  /// Before the listener is closed.
  func endAccepting(_ descriptor: Int32) {
    guard !state.pointee.listeners.isEmpty,
      let queue = state.pointee.listeners.removeValue(forKey: descriptor)
    else { return }
    queue.isClosed = true
    while let connection = queue.ready.popFirst() { close(connection) }
    let waiting = queue.waiting
    queue.waiting = []
    for waiter in waiting { wake(waiter, -EBADF) }
    if queue.isArmed {
      let entry = nextEntry()
      io_uring_prep_cancel64(entry, Tag.accept(queue.slot), 0)
      entry.pointee.user_data = Tag.ignored.rawValue
    }
    forgetIfOver(queue)
  }

  private func forgetIfOver(_ queue: AcceptQueue) {
    guard !queue.isArmed else { return }
    state.pointee.acceptQueues[queue.slot] = nil
    state.giveBack(queue.slot)
  }
}
