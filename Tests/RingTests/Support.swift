import Ring
import Synchronization
import TestSupport
import Testing

/// Takes a lock that nobody has, if within five seconds: a child that another test starts holds copies of all descriptors, and
/// with them of what was just closed here, until it has become another program.
func lockSoon(_ file: File, on driver: any Driver) async throws(RingError) -> Bool {
  let end = driver.now + .seconds(5)
  while try await !file.lock() {
    guard driver.now < end else { return false }
    await driver.sleep(.milliseconds(1))
  }
  return true
}

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
