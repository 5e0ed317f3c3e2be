import Synchronization
import TestSupport
import Testing

/// A class to carry marks out of tasks of one loop.
final class Box<Value>: @unchecked Sendable {
  // Loop-confined.
  var value: Value
  init(_ value: Value) { self.value = value }
}

/// What threads write down, in their order.
final class Log<Element: Sendable>: Sendable {
  private let elements = Mutex<[Element]>([])
  func append(_ element: Element) { elements.withLock { $0.append(element) } }
  var all: [Element] { elements.withLock { $0 } }
}
