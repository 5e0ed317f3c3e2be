import CKernel
import Glibc
import Synchronization

extension EventLoop {
  /// Runs `body` on another loop, on a thread of its own, and waits for it. A cancelled caller cancels `body` and still
  /// waits.
  func runBeside<Value: Sendable>(
    _ name: String, _ options: Options, _ body: @escaping @Sendable (any Driver) async -> Value
  ) async -> Result<Value, RingError> {
    let task = RemoteTask()
    state.pointee.inFlight += 1
    let outcome = await withTaskCancellationHandler {
      await withUnsafeContinuation {
        (continuation: UnsafeContinuation<Result<Value, RingError>, Never>) in
        let thread = startThread {
          cairn_name_thread(name)
          do throws(RingError) {
            let value = try EventLoop.run(options, started: task.set, body)
            continuation.resume(returning: .success(value))
          } catch {
            continuation.resume(returning: .failure(error))
          }
        }
        if let thread {
          // It ends by itself right after the answer, and holds nothing then.
          pthread_detach(thread)
        } else {
          continuation.resume(
            returning: .failure(RingError(errno: EAGAIN, operation: "thread", subject: "loop")))
        }
      }
    } onCancel: {
      task.cancel()
    }
    state.pointee.inFlight -= 1
    return outcome
  }
}

/// The task of another thread's loop, to be cancelled from here: perhaps before it began.
private final class RemoteTask: Sendable {
  private struct State {
    var cancel: (@Sendable () -> Void)?
    var isCancelled = false
  }
  private let state = Mutex(State())

  func set(_ cancel: @escaping @Sendable () -> Void) {
    let isCancelled = state.withLock { state in
      state.cancel = cancel
      return state.isCancelled
    }
    if isCancelled { cancel() }
  }

  func cancel() {
    let cancel = state.withLock { state in
      state.isCancelled = true
      return state.cancel
    }
    cancel?()
  }
}

/// Starts a thread with every signal blocked: signals are for loops, through their descriptors. Nil when the system has
/// no thread to give. Join it or detach it.
func startThread(_ body: @escaping @Sendable () -> Void) -> pthread_t? {
  final class Box {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  var all = sigset_t()
  var before = sigset_t()
  sigfillset(&all)
  pthread_sigmask(SIG_SETMASK, &all, &before)
  defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
  var started = pthread_t()
  let box = Unmanaged.passRetained(Box(body))
  let failure = pthread_create(
    &started, nil,
    { context in
      Unmanaged<Box>.fromOpaque(context!).takeRetainedValue().body()
      return nil
    }, box.toOpaque())
  if failure == 0 { return started }
  box.release()
  return nil
}
