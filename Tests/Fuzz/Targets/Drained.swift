import HTTP
import Ring
import Synchronization
import Wire

/// Runs `body` to its end on this thread. It must not wait for anything that comes from elsewhere.
func drained<Value: Sendable>(_ body: @escaping @Sendable () async -> Value) -> Value {
  let executor = DrainedExecutor()
  let found = Mutex<Value?>(nil)
  // No other thread runs it: the executor is drained here.
  _ = Task(executorPreference: executor) {
    let value = await body()
    found.withLock { $0 = value }
  }
  executor.drain()
  guard let value = found.withLock({ $0 }) else { fatalError("it waits for something") }
  return value
}

private final class DrainedExecutor: SerialExecutor, TaskExecutor {
  private let pending = Mutex<[UnownedJob]>([])

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    pending.withLock { $0.append(job) }
  }
  func drain() {
    while let job = pending.withLock({ $0.popLast() }) {
      job.runSynchronously(on: asUnownedTaskExecutor())
    }
  }
}

let fuzzPool = BufferPool(retainedByteLimit: 1 << 20)

/// Bytes that come so many at a time.
final class PiecewisePull: BytePull, ByteStream, @unchecked Sendable {
  // Confined to one call of `drained`.
  private var left: ArraySlice<UInt8>
  private let most: Int

  init(_ bytes: ArraySlice<UInt8>, most: Int) {
    left = bytes
    self.most = most
  }
  private func take(into slice: Slice) -> Int {
    let piece = left.prefix(min(slice.count, most))
    slice.withMutableBytes { $0.copyBytes(from: piece) }
    left = left.dropFirst(piece.count)
    return piece.count
  }
  func read(into slice: Slice) async throws(HTTPError) -> Int { take(into: slice) }
  func receive(into slice: Slice, waitForAll: Bool) async throws(WireError) -> Int {
    take(into: slice)
  }
  func receive() async throws(WireError) -> Slice {
    let slice = fuzzPool.slice(4096)
    return slice[0..<take(into: slice)]
  }
  func give(_ slice: Slice) {}
  var isHolding: Bool { true }
  func rest() {}
  func send(_ slices: [Slice]) async throws(WireError) {}
  var transportCode: UInt8 { 0 }
}

/// The first byte says how many bytes come at once, the others what comes.
func cut(_ bytes: [UInt8]) -> (most: Int, bytes: ArraySlice<UInt8>)? {
  // Bounds on lines are counted at other places by readers of pieces; below them all must agree.
  guard let first = bytes.first, bytes.count <= 1000 else { return nil }
  return (max(1, Int(first)), bytes.dropFirst())
}
