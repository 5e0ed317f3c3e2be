import Glibc
package import Ring

/// Runs `body` on an event loop of its own, on a thread of its own.
package func onLoop<Result: Sendable>(
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
package func onThread(_ body: @escaping @Sendable () -> Void) {
  final class Box {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  var thread = pthread_t()
  let failure = pthread_create(
    &thread, nil,
    { context in
      // Sound: the one reference that was handed to the thread.
      Unmanaged<Box>.fromOpaque(context!).takeRetainedValue().body()
      return nil
    }, Unmanaged.passRetained(Box(body)).toOpaque())
  precondition(failure == 0)
  pthread_detach(thread)
}
