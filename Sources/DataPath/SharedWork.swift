import Ring

/// Work that several callers wait for and none of them owns. Loop-confined.
///
/// It runs in a task of its own: were it its first caller's, the cancellation of that one would fail all the others.
final class SharedWork<Value: Sendable>: @unchecked Sendable {
  // Loop-confined.
  private typealias Waiter = Promise<Result<Value, DataPathError>>
  private let tasks: OwnedTasks
  private let name: String
  private var waiters: [Waiter] = []

  /// - Parameter tasks: of the owner, who can cancel it for all.
  init(_ tasks: OwnedTasks, _ name: String) {
    self.tasks = tasks
    self.name = name
  }

  var isUnderWay: Bool { !waiters.isEmpty }

  /// The result of the run that is under way, or else of a new one of `work`.
  ///
  /// - Parameter evenIfCancelled: wait to the end; otherwise a cancelled caller leaves at once.
  func run(
    evenIfCancelled: Bool = false,
    _ work: @escaping @Sendable () async throws(DataPathError) -> Value
  ) async throws(DataPathError) -> Value {
    let mine = Waiter()
    waiters.append(mine)
    if waiters.count == 1 {
      tasks.spawn(name) { [self] in
        let result: Result<Value, DataPathError>
        do throws(DataPathError) {
          result = .success(try await work())
        } catch {
          result = .failure(error)
        }
        let ended = waiters
        waiters = []
        for waiter in ended { waiter.fulfil(result) }
      }
    }
    if evenIfCancelled { return try await mine.get().get() }
    return try await withTaskCancellationHandler {
      await mine.get()
    } onCancel: {
      mine.fulfil(.failure(.cancelled))
    }.get()
  }
}
