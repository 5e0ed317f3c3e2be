import Ring
import Synchronization

/// Something that runs on a loop of its own beside the jobs: a daemon, or the other end of connections.
final class Beside<Value: Sendable>: Sendable {
  /// What it told once it was ready: an address.
  let value: Value
  private let task: SpawnedTask

  private init(_ value: Value, _ task: SpawnedTask) {
    self.value = value
    self.task = task
  }

  /// Starts `body` and waits until it has called `ready`, or has ended without.
  ///
  /// - Parameter body: returns when its task is cancelled, and clean up then.
  static func start(
    _ name: String, on driver: any Driver,
    _ body:
      @escaping @Sendable (
        _ driver: any Driver, _ ready: @escaping @Sendable (Value) -> Void
      ) async throws(BenchError) -> Void
  ) async throws(BenchError) -> Beside {
    let state = Shared()
    let task = driver.spawn(name) {
      do throws(RingError) {
        let failure = try await driver.onOwnLoop(name) { driver -> BenchError? in
          do throws(BenchError) {
            try await body(driver) { state.set(.success($0)) }
            return nil
          } catch {
            return error
          }
        }
        state.set(.failure(failure ?? .failed("\(name) ended at its start")))
      } catch {
        state.set(.failure(.system(error)))
      }
    }
    while true {
      if let result = state.result {
        switch result {
        case .success(let value): return Beside(value, task)
        case .failure(let error):
          await task.wait()
          throw error
        }
      }
      // Loops share no waiting of their own.
      if await !driver.sleep(.milliseconds(1)) {
        task.cancel()
        await task.wait()
        throw .failed("interrupted")
      }
    }
  }

  func stop() async {
    task.cancel()
    await task.wait()
  }

  private final class Shared: Sendable {
    private let state = Mutex<Result<Value, BenchError>?>(nil)
    /// The first counts.
    func set(_ value: Result<Value, BenchError>) { state.withLock { $0 = $0 ?? value } }
    var result: Result<Value, BenchError>? { state.withLock { $0 } }
  }
}

extension Driver {
  /// Until the task is cancelled.
  func waitForCancellation() async {
    while await sleep(.seconds(3600)) {}
  }

  /// Runs `work` to its end also when the task was cancelled.
  func uncancelled(_ work: @escaping @Sendable () async -> Void) async {
    await spawn("bench end", work).wait()
  }
}
