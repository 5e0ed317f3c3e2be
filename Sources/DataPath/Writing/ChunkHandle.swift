import Cluster
import Coding
import Ring

/// One distinct chunk on its way to being nameable. Objects that hold the same chunk share the handle. Loop-confined.
final class ChunkHandle: @unchecked Sendable {
  // Loop-confined.
  let fingerprint: Fingerprint
  let byteCount: Int
  private(set) var outcome: Result<Location, DataPathError>?
  private let waiters = WaitQueue()

  struct Location: Hashable, Sendable {
    var container: ContainerID
    var ordinal: UInt64
  }

  init(fingerprint: Fingerprint, byteCount: Int) {
    self.fingerprint = fingerprint
    self.byteCount = byteCount
  }

  /// The chunk is registered or held: its ordinal may be named in a page.
  func settle(_ result: Result<Location, DataPathError>) {
    guard outcome == nil else { return }
    outcome = result
    waiters.wakeAll()
  }

  func location() async throws(DataPathError) -> Location {
    while outcome == nil { await waiters.wait() }
    return try outcome!.get()
  }
}

/// A chunk's bytes, still in the buffer they were read into. The buffer's share of the memory budget is given
/// back when the last of its chunks lets go.
struct ChunkBytes: Sendable {
  var slice: Slice
  var share: BudgetShare
}

/// Bytes of a budget, returned when nobody refers to them any more. Loop-confined.
final class BudgetShare: @unchecked Sendable {
  // Loop-confined.
  private let budget: Semaphore
  private let byteCount: Int

  /// - Parameter byteCount: acquired already.
  init(_ budget: Semaphore, _ byteCount: Int) {
    self.budget = budget
    self.byteCount = byteCount
  }

  deinit { budget.release(byteCount) }
}
