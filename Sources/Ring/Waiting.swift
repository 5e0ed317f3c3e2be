/// What tasks of one loop wait on each other with. None of these locks: all are loop-confined, and
/// none is woken by cancellation alone, so a waiter must be released by its owner.

/// First in, first out; both ends in constant time on average.
package struct Queue<Element> {
  private var elements: [Element?] = []
  private var head = 0

  package init() {}
  package var count: Int { elements.count - head }
  package var isEmpty: Bool { head == elements.count }
  package var first: Element? { isEmpty ? nil : elements[head] }

  package mutating func append(_ element: Element) { elements.append(element) }

  package mutating func popFirst() -> Element? {
    guard head < elements.count else { return nil }
    let element = elements[head].take()
    head += 1
    if head == elements.count {
      elements.removeAll(keepingCapacity: head <= 1024)
      head = 0
    } else if head > 64 && head * 2 > elements.count {
      elements.removeFirst(head)
      head = 0
    }
    return element
  }
}

/// A queue of waiters, woken in order of arrival.
package final class WaitQueue: @unchecked Sendable {
  // Loop-confined.
  private var waiters = Queue<UnsafeContinuation<Void, Never>>()

  package init() {}
  package var isEmpty: Bool { waiters.isEmpty }

  package func wait() async {
    await withUnsafeContinuation { waiters.append($0) }
  }

  package func wakeOne() { waiters.popFirst()?.resume() }

  /// Those that wait now, not those that begin to while these run.
  package func wakeAll() {
    for _ in 0..<waiters.count { waiters.popFirst()?.resume() }
  }
}

/// Counts permits; `acquire` waits until enough are free. First come, first served.
package final class Semaphore: @unchecked Sendable {
  // Loop-confined.
  private var free: Int
  private var waiting = Queue<(Int, UnsafeContinuation<Void, Never>)>()

  package init(_ permits: Int) { free = permits }

  package var available: Int { free }

  package func acquire(_ permits: Int = 1) async {
    if waiting.isEmpty && free >= permits {
      free -= permits
      return
    }
    await withUnsafeContinuation { waiting.append((permits, $0)) }
  }

  package func tryAcquire(_ permits: Int = 1) -> Bool {
    guard waiting.isEmpty && free >= permits else { return false }
    free -= permits
    return true
  }

  package func release(_ permits: Int = 1) {
    free += permits
    while let (needed, waiter) = waiting.first, free >= needed {
      free -= needed
      _ = waiting.popFirst()
      waiter.resume()
    }
  }
}

/// Closed until opened once; then everyone passes.
package final class Gate: @unchecked Sendable {
  // Loop-confined.
  private let queue = WaitQueue()
  package private(set) var isOpen = false

  package init() {}
  package func open() {
    isOpen = true
    queue.wakeAll()
  }
  package func wait() async { if !isOpen { await queue.wait() } }
}

/// A value that arrives once.
package final class Promise<Value: Sendable>: @unchecked Sendable {
  // Loop-confined.
  private var value: Value?
  private let gate = Gate()

  package init() {}
  package var isFulfilled: Bool { gate.isOpen }

  /// The first call counts; later ones are ignored.
  package func fulfil(_ value: Value) {
    guard !gate.isOpen else { return }
    self.value = value
    gate.open()
  }

  package func get() async -> Value {
    await gate.wait()
    return value!
  }
}

/// An unbounded queue between tasks; bound it with a ``Semaphore`` where the producer must wait.
package final class Channel<Element: Sendable>: @unchecked Sendable {
  // Loop-confined.
  private var elements = Queue<Element>()
  private var isClosed = false
  private let queue = WaitQueue()

  package init() {}
  package var count: Int { elements.count }

  package func send(_ element: Element) {
    precondition(!isClosed)
    elements.append(element)
    queue.wakeOne()
  }

  /// After this, receivers drain what is left and then get nil.
  package func close() {
    isClosed = true
    queue.wakeAll()
  }

  package func receive() async -> Element? {
    while elements.isEmpty {
      if isClosed { return nil }
      await queue.wait()
    }
    return elements.popFirst()
  }
}
