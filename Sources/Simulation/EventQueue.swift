/// Something that happens at a moment of virtual time.
final class SimulatedEvent {
  let time: Instant
  /// Ties are broken by order of creation.
  let sequence: UInt64
  private(set) var action: (() -> Void)?

  init(time: Instant, sequence: UInt64, action: @escaping () -> Void) {
    self.time = time
    self.sequence = sequence
    self.action = action
  }

  var isCancelled: Bool { action == nil }
  fileprivate func drop() { action = nil }

  func fire() {
    let action = action
    self.action = nil
    action?()
  }
}

/// Events by time, then by order of creation. Cancelled ones never move the clock.
struct EventQueue {
  private var heap: [SimulatedEvent] = []
  private var cancelledCount = 0
  private var sequence: UInt64 = 0

  mutating func add(at time: Instant, _ action: @escaping () -> Void) -> SimulatedEvent {
    let event = SimulatedEvent(time: time, sequence: sequence, action: action)
    sequence += 1
    heap.append(event)
    siftUp(heap.count - 1)
    return event
  }

  mutating func cancel(_ event: SimulatedEvent) {
    guard !event.isCancelled else { return }
    event.drop()
    cancelledCount += 1
    // Deadlines are cancelled far more often than they fire; without this they would pile up.
    if cancelledCount > 1024 && cancelledCount * 2 > heap.count {
      heap.removeAll { $0.isCancelled }
      cancelledCount = 0
      heap.sort(by: Self.precedes)
    }
  }

  /// When the next event is due; nil when there is none.
  mutating func nextTime() -> Instant? {
    while let first = heap.first, first.isCancelled {
      removeFirst()
      cancelledCount -= 1
    }
    return heap.first?.time
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

  private static func precedes(_ a: SimulatedEvent, _ b: SimulatedEvent) -> Bool {
    a.time != b.time ? a.time < b.time : a.sequence < b.sequence
  }

  @discardableResult
  private mutating func removeFirst() -> SimulatedEvent {
    let first = heap[0]
    let last = heap.removeLast()
    if !heap.isEmpty {
      heap[0] = last
      siftDown(0)
    }
    return first
  }

  private mutating func siftUp(_ start: Int) {
    var child = start
    while child > 0 {
      let parent = (child - 1) / 2
      guard Self.precedes(heap[child], heap[parent]) else { return }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  private mutating func siftDown(_ start: Int) {
    var parent = start
    while true {
      var least = parent
      for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count {
        if Self.precedes(heap[child], heap[least]) { least = child }
      }
      if least == parent { return }
      heap.swapAt(parent, least)
      parent = least
    }
  }
}
