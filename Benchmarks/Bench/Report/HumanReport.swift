import Ring

/// The report for people, in fio's layout.
package enum HumanReport {
  /// A line for each job before it starts.
  package static func heading(_ options: JobOptions, group: Int, engine: EngineKind) -> String {
    func range(_ sizes: BlockSizes) -> String { "\(sizes.smallest)B-\(sizes.largest)B" }
    return "\(options.name): (g=\(group)): rw=\(options.pattern.rawValue), "
      + "bs=(R) \(range(options.readSizes)), (W) \(range(options.writeSizes)), "
      + "ioengine=cairn-\(engine.rawValue), iodepth=\(options.depth)"
  }

  /// - Returns: lines.
  package static func make(_ outcome: RunOutcome) -> [String] {
    var lines: [String] = []
    for job in outcome.jobs { lines += [""] + self.job(job, outcome) }
    let groups = Set(outcome.jobs.map(\.group)).sorted()
    for group in groups {
      lines += ["", "Run status group \(group) (all jobs):"]
      let members = outcome.jobs.filter { $0.group == group }.map(\.statistics)
      for direction in JobOptions.Direction.allCases {
        let used = members.filter { $0[direction].count > 0 }
        guard !used.isEmpty else { continue }
        let rates = used.map { Double($0[direction].byteCount) / max(1e-9, $0.elapsed.inSeconds) }
        let bytes = used.reduce(0) { $0 + Double($1[direction].byteCount) }
        let times = used.map { $0.elapsed.nanoseconds / 1_000_000 }
        let longest = max(1e-9, used.map(\.elapsed.inSeconds).max()!)
        lines.append(
          "\(FioNumber.right(direction.name.uppercased(), 7)): bw=\(rate(bytes / longest)), "
            + "\(FioNumber.binaryBytes(rates.min()!))/s-\(FioNumber.binaryBytes(rates.max()!))/s "
            + "(\(FioNumber.decimalBytes(rates.min()!))/s-\(FioNumber.decimalBytes(rates.max()!))/s), "
            + "io=\(FioNumber.binaryBytes(bytes)) (\(FioNumber.decimalBytes(bytes))), "
            + "run=\(times.min()!)-\(times.max()!)msec")
      }
    }
    return lines
  }

  private static func rate(_ bytesPerSecond: Double) -> String {
    "\(FioNumber.binaryBytes(bytesPerSecond))/s (\(FioNumber.decimalBytes(bytesPerSecond))/s)"
  }

  private static func job(_ job: JobOutcome, _ outcome: RunOutcome) -> [String] {
    let statistics = job.statistics
    var lines = ["\(job.options.name): (groupid=\(job.group), jobs=\(job.jobCount)): err= 0"]
    for direction in JobOptions.Direction.allCases where statistics[direction].count > 0 {
      lines += self.direction(statistics[direction], direction, statistics.elapsed)
    }
    let total = statistics.read.count + statistics.write.count
    var latencies = statistics.read.latency.histogram
    latencies.merge(statistics.write.latency.histogram)
    let spread = LatencySpread(latencies)
    lines += steps("nsec", spread.nanoseconds, LatencySpread.names)
    lines += steps("usec", spread.microseconds, LatencySpread.names)
    lines += steps("msec", spread.milliseconds, LatencySpread.longNames)
    if statistics.sync.summary.count > 0 {
      lines.append("  fsync/fdatasync/sync_file_range:")
      lines += summary("sync", statistics.sync, indent: 4)
      lines += percentiles("sync percentiles", statistics.sync.histogram)
    }
    let seconds = max(1e-9, statistics.jobTime.inSeconds)
    func percent(_ time: Duration) -> String {
      FixedPoint.text(100 * time.inSeconds / seconds, places: 2) + "%"
    }
    lines.append(
      "  cpu          : usr=\(percent(statistics.usage.user)), "
        + "sys=\(percent(statistics.usage.system)), ctx=\(statistics.usage.contextSwitches), "
        + "majf=\(statistics.usage.majorFaults), minf=\(statistics.usage.minorFaults)")
    let depths = zip(DepthMap.names, statistics.depths.shares(of: total))
      .map { "\($0)=\(FixedPoint.text($1, places: 1))%" }
    lines.append("  IO depths    : " + depths.joined(separator: ", "))
    lines.append(
      "     issued rwts: total=\(statistics.read.count),\(statistics.write.count),0,"
        + "\(statistics.sync.summary.count) short=0,0,0,0 dropped=0,0,0,0")
    if statistics.verifiedCount > 0 {
      lines.append("     verified   : \(statistics.verifiedCount) blocks, all right")
    }
    return lines
  }

  private static func direction(
    _ direction: DirectionStatistics, _ which: JobOptions.Direction, _ elapsed: Duration
  ) -> [String] {
    let seconds = max(1e-9, elapsed.inSeconds)
    let bytesPerSecond = Double(direction.byteCount) / seconds
    var lines = [
      "  \(FioNumber.right(which.name, 4)): IOPS=\(FioNumber.count(Double(direction.count) / seconds)), "
        + "BW=\(rate(bytesPerSecond))"
        + "(\(FioNumber.binaryBytes(Double(direction.byteCount)))/\(elapsed.nanoseconds / 1_000_000)msec)"
    ]
    lines += summary("clat", direction.latency, indent: 4)
    lines += summary("lat", direction.latency, indent: 5)
    lines += percentiles("clat percentiles", direction.latency.histogram)
    if direction.bandwidth.count > 0 {
      lines.append(
        "   bw (  KiB/s): " + samples(direction.bandwidth))
      lines.append("   iops        : " + samples(direction.rate))
    }
    return lines
  }

  private static func samples(_ values: RunningStatistic) -> String {
    "min=\(FixedPoint.text(values.minimum, places: 0)), "
      + "max=\(FixedPoint.text(values.maximum, places: 0)), "
      + "avg=\(FixedPoint.text(values.mean, places: 2)), "
      + "stdev=\(FixedPoint.text(values.deviation, places: 2)), samples=\(values.count)"
  }

  /// The unit that leaves the digits that matter before the point, as fio chooses it.
  private static func unit(_ least: Double, _ most: Double) -> (name: String, scale: Double) {
    if least > 2_000_000 && most > 99_999_999 { return ("msec", 1_000_000) }
    if least > 2000 && most > 99_999 { return ("usec", 1000) }
    return ("nsec", 1)
  }

  private static func summary(_ name: String, _ latency: LatencyStatistics, indent: Int) -> [String]
  {
    let values = latency.summary
    guard values.count > 0 else { return [] }
    let (unit, scale) = unit(values.minimum, values.maximum)
    return [
      String(repeating: " ", count: indent)
        + "\(name) (\(unit)): min=\(FioNumber.count(values.minimum / scale, width: 5)), "
        + "max=\(FioNumber.count(values.maximum / scale, width: 5)), "
        + "avg=\(FixedPoint.text(values.mean / scale, places: 2)), "
        + "stdev=\(FixedPoint.text(values.deviation / scale, places: 2))"
    ]
  }

  private static func percentiles(_ name: String, _ histogram: LatencyHistogram) -> [String] {
    let values = histogram.percentiles(LatencyHistogram.reported)
    let (unit, scale) = unit(Double(values.first ?? 0), Double(values.last ?? 0))
    let width = max(5, FixedPoint.text(Double(values.last ?? 0) / scale, places: 0).count)
    var lines = ["    \(name) (\(unit)):"]
    let pairs = zip(LatencyHistogram.reported, values).map { percentage, value in
      "\(FioNumber.right(FixedPoint.text(percentage, places: 2), 5))th="
        + "[\(FioNumber.right(FixedPoint.text(Double(value) / scale, places: 0), width))]"
    }
    for start in stride(from: 0, to: pairs.count, by: 4) {
      let end = min(start + 4, pairs.count)
      lines.append(
        "     | " + pairs[start..<end].joined(separator: ", ") + (end < pairs.count ? "," : ""))
    }
    return lines
  }

  private static func steps(_ unit: String, _ shares: [Double], _ names: [String]) -> [String] {
    let shown = zip(names, shares).filter { $0.1 > 0 }
      .map { "\($0)=\(FixedPoint.text($1, places: 2))%" }
    return stride(from: 0, to: shown.count, by: 5).map { start in
      "  lat (\(unit))   : " + shown[start..<min(start + 5, shown.count)].joined(separator: ", ")
    }
  }
}
