/// Something that happens at a moment of virtual time.
final class SimulatedEvent {
  private(set) var action: (() -> Void)?

  init(action: @escaping () -> Void) { self.action = action }

  var isCancelled: Bool { action == nil }
  fileprivate func drop() { action = nil }

  func fire() {
    action.take()?()
  }
}

/// Events by time, then by order of creation. Cancelled ones never move the clock.
struct EventQueue {
  /// Compared without a look at the event itself.
  private struct Entry {
    let time: Instant
    /// Ties are broken by order of creation.
    let sequence: UInt64
    let event: SimulatedEvent

    func precedes(_ other: Entry) -> Bool {
      time != other.time ? time < other.time : sequence < other.sequence
    }
  }

  private var heap: [Entry] = []
  private var cancelledCount = 0
  private var sequence: UInt64 = 0

  mutating func add(at time: Instant, _ action: @escaping () -> Void) -> SimulatedEvent {
    let event = SimulatedEvent(action: action)
    heap.append(Entry(time: time, sequence: sequence, event: event))
    sequence += 1
    siftUp(heap.count - 1)
    return event
  }

  mutating func cancel(_ event: SimulatedEvent) {
    guard !event.isCancelled else { return }
    event.drop()
    cancelledCount += 1
    // Deadlines are cancelled far more often than they fire; without this they would pile up.
    if cancelledCount > 1024 && cancelledCount * 2 > heap.count {
      heap.removeAll { $0.event.isCancelled }
      cancelledCount = 0
      heap.sort { $0.precedes($1) }
    }
  }

  /// When the next event is due; nil when there is none.
  mutating func nextTime() -> Instant? {
    while let first = heap.first {
      guard first.event.isCancelled else { return first.time }
      removeFirst()
      cancelledCount -= 1
    }
    return nil
  }

  /// The next event if it is due at `time`.
  mutating func pop(dueAt time: Instant) -> SimulatedEvent? {
    guard let next = nextTime(), next <= time else { return nil }
    return removeFirst()
  }

  mutating func removeAll() {
    heap.removeAll()
    cancelledCount = 0
  }

  @discardableResult
  private mutating func removeFirst() -> SimulatedEvent {
    let first = heap[0].event
    let last = heap.removeLast()
    if !heap.isEmpty {
      heap[0] = last
      siftDown()
    }
    return first
  }

  // Entries are moved along a hole, so that each is written once and no count of references changes.

  private mutating func siftUp(_ start: Int) {
    heap.withUnsafeMutableBufferPointer { heap in
      let moved = (heap.baseAddress! + start).move()
      var hole = start
      while hole > 0 {
        let parent = (hole - 1) / 2
        guard moved.precedes(heap[parent]) else { break }
        (heap.baseAddress! + hole).moveInitialize(from: heap.baseAddress! + parent, count: 1)
        hole = parent
      }
      (heap.baseAddress! + hole).initialize(to: moved)
    }
  }

  private mutating func siftDown() {
    heap.withUnsafeMutableBufferPointer { heap in
      let moved = heap.baseAddress!.move()
      var hole = 0
      while true {
        var child = 2 * hole + 1
        guard child < heap.count else { break }
        if child + 1 < heap.count, heap[child + 1].precedes(heap[child]) { child += 1 }
        guard heap[child].precedes(moved) else { break }
        (heap.baseAddress! + hole).moveInitialize(from: heap.baseAddress! + child, count: 1)
        hole = child
      }
      (heap.baseAddress! + hole).initialize(to: moved)
    }
  }
}
