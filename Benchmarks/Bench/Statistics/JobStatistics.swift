package import Ring

/// Times of one kind of operation.
package struct LatencyStatistics: Sendable {
  package var summary = RunningStatistic()
  package var histogram = LatencyHistogram()
  package init() {}

  @inline(__always)
  mutating func add(_ nanoseconds: UInt64) {
    summary.add(Double(nanoseconds))
    histogram.add(nanoseconds)
  }

  mutating func merge(_ other: LatencyStatistics) {
    summary.merge(other.summary)
    histogram.merge(other.histogram)
  }
}

/// What moved in one direction.
package struct DirectionStatistics: Sendable {
  package var byteCount: UInt64 = 0
  package var count: UInt64 = 0
  package var latency = LatencyStatistics()
  /// KiB a second, and transfers a second, over each half second.
  package var bandwidth = RunningStatistic()
  package var rate = RunningStatistic()
  package init() {}

  mutating func merge(_ other: DirectionStatistics) {
    byteCount += other.byteCount
    count += other.count
    latency.merge(other.latency)
    bandwidth.merge(other.bandwidth)
    rate.merge(other.rate)
  }
}

/// What came of one job, or of several together.
package struct JobStatistics: Sendable {
  package var read = DirectionStatistics()
  package var write = DirectionStatistics()
  package var sync = LatencyStatistics()
  package var depths = DepthMap()
  /// From the end of the ramp to the last completion.
  package var elapsed = Duration.zero
  /// Of the jobs' own loops, or of the whole process where nothing else runs in it.
  package var usage = ResourceUsage()
  /// Of the whole process over the same time: jobs, and the daemons that ran beside them.
  package var processUsage = ResourceUsage()
  /// Added up over jobs, so that shares of CPU are of one CPU each.
  package var jobTime = Duration.zero
  /// Blocks read back and compared.
  package var verifiedCount: UInt64 = 0

  package init() {}

  package subscript(direction: JobOptions.Direction) -> DirectionStatistics {
    direction == .read ? read : write
  }

  package mutating func merge(_ other: JobStatistics) {
    read.merge(other.read)
    write.merge(other.write)
    sync.merge(other.sync)
    depths.merge(other.depths)
    elapsed = max(elapsed, other.elapsed)
    jobTime += other.jobTime
    usage.user += other.usage.user
    usage.system += other.usage.system
    usage.contextSwitches += other.usage.contextSwitches
    usage.majorFaults += other.usage.majorFaults
    usage.minorFaults += other.usage.minorFaults
    verifiedCount += other.verifiedCount
  }
}

extension Duration {
  /// For times that are not negative and not longer than 292 years.
  @inline(__always)
  var nanoseconds: UInt64 {
    let attoseconds = self.attoseconds
    // Up to 9.2 s one machine division does, where one of 128 bits costs as much as the rest of the book-keeping.
    if let short = Int64(exactly: attoseconds) { return UInt64(max(0, short) / 1_000_000_000) }
    return UInt64(attoseconds / 1_000_000_000)
  }

  var inSeconds: Double { Double(nanoseconds) / 1e9 }
}
