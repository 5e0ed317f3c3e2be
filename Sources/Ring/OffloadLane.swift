import CKernel
import Glibc

/// One thread that runs blocking work, in order of arrival. Started by the first piece of work.
final class OffloadLane: @unchecked Sendable {
  // Sound: `queue` and `isStopping` are guarded by `mutex`; `thread` belongs to the loop's thread.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var queue = Queue<@Sendable () -> Void>()
  private var isStopping = false
  private var thread: pthread_t?

  init() {
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  /// Call it from the loop's thread only.
  func push(_ work: @escaping @Sendable () -> Void) {
    pthread_mutex_lock(mutex)
    queue.append(work)
    pthread_mutex_unlock(mutex)
    if thread == nil { start() } else { pthread_cond_signal(condition) }
  }

  private func start() {
    thread = startThread { [self] in work() }
    precondition(thread != nil, "no thread for blocking work")
  }

  private func work() {
    while true {
      pthread_mutex_lock(mutex)
      while queue.isEmpty && !isStopping { pthread_cond_wait(condition, mutex) }
      let piece = queue.popFirst()
      pthread_mutex_unlock(mutex)
      guard let piece else { return }
      piece()
    }
  }

  /// Ends the thread after the work it already has, and waits for it unless told not to.
  func stop(waiting: Bool = true) {
    guard let thread else { return }
    pthread_mutex_lock(mutex)
    isStopping = true
    pthread_mutex_unlock(mutex)
    pthread_cond_signal(condition)
    if waiting { pthread_join(thread, nil) } else { pthread_detach(thread) }
    self.thread = nil
  }
}
