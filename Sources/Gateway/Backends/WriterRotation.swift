import DataPath
import Ring

/// Gives out one writer after the other, so that what an upload holds goes back after a while: all that was stored or
/// found under it stays alive until it ends, deleted or not. Loop-confined.
final class WriterRotation: @unchecked Sendable {
  // Loop-confined.
  private final class Turn: @unchecked Sendable {
    // Loop-confined.
    let writer: ObjectWriter
    let begun: Duration
    var useCount = 0
    var isOver = false
    init(_ writer: ObjectWriter, _ begun: Duration) {
      self.writer = writer
      self.begun = begun
    }
  }

  private let access: ClusterAccess
  private let options: ObjectWriter.Options
  /// Of all writers together, however many of them still have objects under way.
  private let budget: Semaphore
  private var current: Turn?
  private var openCount = 0
  private let closed = WaitQueue()
  private var watch: SpawnedTask?

  /// How long one writer is given out.
  private static let length = Duration.seconds(60)

  init(_ access: ClusterAccess, options: ObjectWriter.Options) {
    self.access = access
    self.options = options
    budget = Semaphore(max(1, options.memoryByteCount))
  }

  func use<Value>(_ body: (ObjectWriter) async throws(DataPathError) -> Value)
    async throws(DataPathError) -> Value
  {
    let turn = take()
    turn.useCount += 1
    defer {
      turn.useCount -= 1
      endIfUnused(turn)
    }
    return try await body(turn.writer)
  }

  private func take() -> Turn {
    if let current, access.driver.now - current.begun < Self.length { return current }
    retire()
    let fresh = Turn(ObjectWriter(access, options: options, budget: budget), access.driver.now)
    current = fresh
    openCount += 1
    watch = access.driver.spawn("writer's turn") { [weak self, driver = access.driver] in
      if await driver.sleep(Self.length) { self?.retire() }
    }
    return fresh
  }

  /// The next object gets another writer.
  private func retire() {
    watch?.cancel()
    watch = nil
    guard let turn = current else { return }
    current = nil
    turn.isOver = true
    endIfUnused(turn)
  }

  private func endIfUnused(_ turn: Turn) {
    guard turn.isOver, turn.useCount == 0 else { return }
    turn.isOver = false
    access.driver.spawn("end writer") { [self] in
      do throws(DataPathError) {
        try await turn.writer.finish()
      } catch {
        // Every object is committed; what is held goes back with the session.
      }
      openCount -= 1
      closed.wakeAll()
    }
  }

  /// Returns when all writers have ended.
  func close() async {
    retire()
    while openCount > 0 { await closed.wait() }
  }
}
