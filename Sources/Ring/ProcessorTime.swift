import CURing
import Glibc

/// How long processors have worked for us, which on a shared machine says more than how long it took.
package enum ProcessorTime {
  /// For the calling thread.
  package static var ofThread: Duration { read(CLOCK_THREAD_CPUTIME_ID) }

  private static func read(_ which: clockid_t) -> Duration {
    var time = timespec()
    clock_gettime(which, &time)
    return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
  }
}
