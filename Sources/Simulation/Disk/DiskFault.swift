/// One operation on a disk, as a fault plan sees it.
package struct DiskAccess: Sendable {
  package enum Kind: Sendable, Hashable {
    case open, read, write, synchronize, allocate, truncate, lock, status, list, makeDirectory
    case remove, rename, link, attributes, space
  }
  /// Counts the operations on this disk, from 0.
  package var index: Int
  package var kind: Kind
  package var process: String
  /// The file's path as it was opened or named.
  package var path: String
  /// Bytes; 0 where there is none.
  package var offset: UInt64
  package var byteCount: Int
}

/// What a fault plan does to one operation. The default does nothing.
package struct DiskFault: Sendable {
  /// The answer, a positive errno. A failed write may have reached the disk in part; after a failed
  /// sync what was unsynced is lost to the medium.
  package var errno: Int32?
  /// Added to the operation's own time.
  package var delay: Duration = .zero
  /// A read or write moves at most this many bytes.
  package var byteLimit: Int?
  /// A write is acknowledged and never happens; a sync is acknowledged and syncs nothing.
  package var isLost = false
  /// A write lands here instead.
  package var misdirectedOffset: UInt64?

  package init() {}

  package static let none = DiskFault()
  package static func fail(_ errno: Int32) -> DiskFault {
    var fault = DiskFault()
    fault.errno = errno
    return fault
  }
  package static func delay(_ delay: Duration) -> DiskFault {
    var fault = DiskFault()
    fault.delay = delay
    return fault
  }
  package static func short(_ byteLimit: Int) -> DiskFault {
    var fault = DiskFault()
    fault.byteLimit = byteLimit
    return fault
  }
  package static let lost: DiskFault = {
    var fault = DiskFault()
    fault.isLost = true
    return fault
  }()
  package static func misdirected(to offset: UInt64) -> DiskFault {
    var fault = DiskFault()
    fault.misdirectedOffset = offset
    return fault
  }
}

/// The rare slow ones: of a million, so many take longer, and with each doubling of the time half as many.
package struct LatencyTail: Sendable, Equatable {
  package var perMillion = 0
  /// None takes longer than this beyond its usual time.
  package var limit: Duration = .seconds(2)

  package init(perMillion: Int = 0, limit: Duration = .seconds(2)) {
    self.perMillion = perMillion
    self.limit = limit
  }

  /// `usual`, or more.
  func draw(_ usual: Int64, _ random: inout SimulationRandom) -> Int64 {
    guard perMillion > 0, random.chance(perMillion, in: 1_000_000) else { return usual }
    // Pareto's distribution of exponent 1, in steps of two, from eight times the usual.
    let doublings = 3 + min(30, Int64(random.next().trailingZeroBitCount))
    return usual.addingSaturated(min(usual << doublings, limit.saturatedNanoseconds))
  }
}

/// How long a disk takes: drawn evenly from a range, plus the transfer.
package struct DiskSpeed: Sendable {
  package var metadata: ClosedRange<Duration>
  package var read: ClosedRange<Duration>
  package var write: ClosedRange<Duration>
  package var synchronize: ClosedRange<Duration>
  package var bytesPerSecond: Int
  package var tail = LatencyTail()

  package init(
    metadata: ClosedRange<Duration>, read: ClosedRange<Duration>, write: ClosedRange<Duration>,
    synchronize: ClosedRange<Duration>, bytesPerSecond: Int
  ) {
    self.metadata = metadata
    self.read = read
    self.write = write
    self.synchronize = synchronize
    self.bytesPerSecond = bytesPerSecond
  }

  package static let nvme = DiskSpeed(
    metadata: .microseconds(5)...(.microseconds(60)),
    read: .microseconds(60)...(.microseconds(200)),
    write: .microseconds(15)...(.microseconds(100)),
    synchronize: .microseconds(30)...(.milliseconds(1)), bytesPerSecond: 2_000_000_000)
  package static let hdd = DiskSpeed(
    metadata: .microseconds(20)...(.milliseconds(12)), read: .milliseconds(2)...(.milliseconds(14)),
    write: .milliseconds(1)...(.milliseconds(14)),
    synchronize: .milliseconds(4)...(.milliseconds(30)), bytesPerSecond: 180_000_000)
}
