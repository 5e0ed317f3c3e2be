import CURing
import Glibc

/// How a connection waits for its peer by the ten thousand: without a task, and without memory for what may come.
///
///     arrival.wait(for: owner)      // returns at once
///     ...                           // later, on the loop: owner.arrived(.bytes(slice))
///
/// One wait at a time, and none beside a receive. Only the connection's shutdown ends it early.
package final class Arrival: @unchecked Sendable {
  // Loop-confined.
  package enum Event: Sendable {
    /// At most 4 KiB, in memory that the driver lends; none at the stream's end.
    case bytes(Slice)
    /// The next receive will not wait.
    case something
    case failure(RingError)
  }

  package let descriptor: Int32
  private let driver: any Driver
  /// Kept until it is told.
  private var owner: (any ArrivalOwner)?
  /// The kernel was only asked to tell when there is something.
  fileprivate var onlyTells = false

  package init(at connection: Connection) {
    descriptor = connection.descriptor
    driver = connection.driver
  }

  package var isUnderWay: Bool { owner != nil }

  package func wait(for owner: any ArrivalOwner) {
    precondition(self.owner == nil)
    self.owner = owner
    driver.start(self)
  }

  /// The driver's answer, one for each wait.
  package func complete(_ event: Event) {
    guard let owner else { return }
    self.owner = nil
    owner.arrived(event)
  }
}

package protocol ArrivalOwner: AnyObject, Sendable {
  /// Called between tasks. May start some, and does not wait.
  func arrived(_ event: Arrival.Event)
}

extension EventLoop {
  func start(_ arrival: Arrival) {
    let entry = nextEntry()
    arrival.onlyTells = provided == nil
    if arrival.onlyTells {
      io_uring_prep_poll_add(entry, arrival.descriptor, UInt32(POLLIN))
    } else {
      io_uring_prep_recv(entry, arrival.descriptor, nil, ProvidedBuffers.byteCount, 0)
      entry.pointee.flags |= UInt8(truncatingIfNeeded: 1 << IOSQE_BUFFER_SELECT_BIT)
      entry.pointee.buf_group = ProvidedBuffers.group
      entry.pointee.ioprio |= UInt16(IORING_RECVSEND_POLL_FIRST)
    }
    state.pointee.files.use(entry, arrival.descriptor)
    entry.pointee.user_data = Tag.arrival(arrival)
    state.pointee.inFlight += 1
  }

  func arrived(_ completion: cairn_completion) {
    state.pointee.inFlight -= 1
    let object = UnsafeRawPointer(bitPattern: UInt(completion.user_data & ~15))!
    let arrival = Unmanaged<Arrival>.fromOpaque(object).takeRetainedValue()
    let taken = provided?.take(completion.flags)
    switch (completion.result, taken) {
    case (1..., let taken?):
      arrival.complete(
        .bytes(Slice(buffer: taken, offset: 0, count: Int(completion.result))))
    case (0, _) where !arrival.onlyTells: arrival.complete(.bytes(.none))
    // All buffers are in use: whoever receives brings one.
    case (0..., _), (-ENOBUFS, _), (-EAGAIN, _), (-EINTR, _): arrival.complete(.something)
    case (let result, _):
      arrival.complete(.failure(RingError(errno: -result, operation: "receive")))
    }
  }
}
