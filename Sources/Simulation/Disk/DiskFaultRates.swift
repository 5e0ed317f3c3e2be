import Glibc

/// Faults at random, for long runs: each rate is per million operations of its kind.
package struct DiskFaultRates: Sendable {
  /// -EIO.
  package var readErrors = 0
  package var writeErrors = 0
  package var synchronizeErrors = 0
  /// -EIO from opening, making, removing and renaming.
  package var nameErrors = 0
  /// -EIO from allocating and truncating.
  package var allocationErrors = 0
  /// Acknowledged and dropped.
  package var lostWrites = 0
  /// Landing a little beside their place, in whole 4 KiB.
  package var misdirectedWrites = 0
  /// Acknowledged and not done.
  package var lyingSynchronizes = 0
  /// Any operation taking `delay` longer.
  package var delays = 0
  package var delay: ClosedRange<Duration> = .milliseconds(50)...(.seconds(5))

  package init() {}

  /// For ``SimulatedDisk/faults``. The same `random` gives the same faults for the same operations.
  package func plan(_ random: SimulationRandom) -> (DiskAccess) -> DiskFault {
    var random = random
    return { access in
      var fault = DiskFault()
      func happens(_ rate: Int) -> Bool { random.chance(rate, in: 1_000_000) }
      switch access.kind {
      case .read: if happens(readErrors) { fault.errno = EIO }
      case .write:
        if happens(writeErrors) {
          fault.errno = EIO
        } else if happens(lostWrites) {
          fault.isLost = true
        } else if happens(misdirectedWrites), access.offset != .max {
          let shift = UInt64(1 + random.below(64)) * 4096
          fault.misdirectedOffset =
            access.offset >= shift && random.chance(1, in: 2)
            ? access.offset - shift : access.offset + shift
        }
      case .synchronize:
        if happens(synchronizeErrors) {
          fault.errno = EIO
        } else if happens(lyingSynchronizes) {
          fault.isLost = true
        }
      case .open, .makeDirectory, .remove, .rename, .link:
        if happens(nameErrors) { fault.errno = EIO }
      case .allocate, .truncate: if happens(allocationErrors) { fault.errno = EIO }
      case .lock, .status, .list, .attributes, .space: break
      }
      if happens(delays) { fault.delay = .nanoseconds(random.within(delay)) }
      return fault
    }
  }
}
