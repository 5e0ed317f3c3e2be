import Glibc
import Ring
import Synchronization
import TestSupport
import Testing

/// Runs `body` on an event loop of its own, on a thread of its own.
func onLoop<Result: Sendable>(
  _ options: EventLoop.Options = EventLoop.Options(),
  _ body: @escaping @Sendable (any Driver) async -> Result
) async -> Result {
  await withUnsafeContinuation { continuation in
    onThread {
      continuation.resume(returning: try! EventLoop.run(options, body))
    }
  }
}

/// A thread that nobody waits for.
func onThread(_ body: @escaping @Sendable () -> Void) {
  final class Box {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  var thread = pthread_t()
  let failure = pthread_create(
    &thread, nil,
    { context in
      Unmanaged<Box>.fromOpaque(context!).takeRetainedValue().body()
      return nil
    }, Unmanaged.passRetained(Box(body)).toOpaque())
  precondition(failure == 0)
  pthread_detach(thread)
}

/// A fresh folder on a disk, where direct I/O works; removed afterwards.
func withFolder<Result>(_ body: (String) async -> Result) async -> Result {
  var name = Array("/var/tmp/ring-tests-XXXXXX".utf8CString)
  precondition(mkdtemp(&name) != nil)
  let path = String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  let result = await body(path)
  remove(path)
  return result
}

private func remove(_ path: String) {
  if let directory = opendir(path) {
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
      }
      if name != "." && name != ".." { remove(path + "/" + name) }
    }
    closedir(directory)
    rmdir(path)
  } else {
    unlink(path)
  }
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
