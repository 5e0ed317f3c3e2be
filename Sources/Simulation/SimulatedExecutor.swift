// Only for pthread_self, which tells a stray job from one of ours.
import Glibc
import Synchronization

/// Runs every task of a world on the thread that made it.
final class SimulatedExecutor: SerialExecutor, TaskExecutor, @unchecked Sendable {
  // Sound: `ready` is touched by `thread` alone; jobs from elsewhere go through the lock.
  private let thread = pthread_self()
  private var ready: [UnownedJob] = []
  private var head = 0
  private let strays = Mutex<[UnownedJob]>([])
  private let hasStrays = Atomic<Bool>(false)

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    if pthread_equal(pthread_self(), thread) != 0 {
      ready.append(job)
    } else {
      strays.withLock { $0.append(job) }
      hasStrays.store(true, ordering: .releasing)
    }
  }

  /// Whether a job ever came from another thread.
  var wasLeft: Bool { hasStrays.load(ordering: .acquiring) }

  var readyCount: Int { ready.count - head }

  /// Runs one job. `choose` picks among several by index; nil takes the oldest.
  ///
  /// - Returns: false when there was none.
  func runOne(choose: ((Int) -> Int)?) -> Bool {
    if wasLeft { ready += strays.withLock { strays in exchange(&strays, with: []) } }
    let count = readyCount
    guard count > 0 else { return false }
    let job: UnownedJob
    if let choose {
      let index = head + (count == 1 ? 0 : choose(count))
      ready.swapAt(index, ready.count - 1)
      job = ready.removeLast()
    } else {
      job = ready[head]
      head += 1
    }
    if head == ready.count {
      ready.removeAll(keepingCapacity: true)
      head = 0
    } else if head > 1024 && head * 2 > ready.count {
      ready.removeFirst(head)
      head = 0
    }
    // Not "isolated to": a task would leave that isolation at its next continuation by being queued
    // again, and others could run between its check and its wait.
    job.runSynchronously(on: asUnownedTaskExecutor())
    return true
  }
}

private func exchange<Value>(_ place: inout Value, with fresh: Value) -> Value {
  let old = place
  place = fresh
  return old
}
