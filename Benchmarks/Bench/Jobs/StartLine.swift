import Ring
import Synchronization

/// Where jobs on their own loops wait for each other, so that no one's preparation falls into another's measurement.
final class StartLine: Sendable {
  private let missing: Atomic<Int>

  init(_ count: Int) { missing = Atomic(count) }

  /// Each job calls it once, ready or failed.
  func arrive() { missing.subtract(1, ordering: .acquiringAndReleasing) }

  /// Until all have arrived, or the task is cancelled.
  func wait(on driver: any Driver) async {
    // Loops share no waiting of their own, and a millisecond's difference does not show.
    while missing.load(ordering: .acquiring) > 0 {
      guard await driver.sleep(.milliseconds(1)) else { return }
    }
  }
}
