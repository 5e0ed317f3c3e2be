import Ring
import Service

/// The report in the layout of fio 3's `--output-format=json`, so that what reads fio's reads ours. What we do not measure
/// is there as zero; what fio does not have stands under "cairn".
package enum JSONReport {
  package static func make(_ outcome: RunOutcome) -> ReportJSON {
    let milliseconds = outcome.time.nanoseconds / 1_000_000
    var members: [(String, ReportJSON)] = [
      ("fio version", .string("cairn-\(outcome.version)")),
      ("timestamp", .integer(milliseconds / 1000)), ("timestamp_ms", .integer(milliseconds)),
      ("time", .string(rfc3339(outcome.time))),
    ]
    if !outcome.request.globals.isEmpty {
      members.append(("global options", options(outcome.request.globals)))
    }
    members.append(("jobs", .array(outcome.jobs.map(job))))
    members.append(
      (
        "cairn",
        .object([
          ("engine", .string(outcome.request.engine.rawValue)),
          ("process_usr_ns", .integer(outcome.usage.user.nanoseconds)),
          ("process_sys_ns", .integer(outcome.usage.system.nanoseconds)),
        ])
      ))
    return .object(members)
  }

  private static func options(_ given: [(key: String, value: String)]) -> ReportJSON {
    .object(given.map { ($0.key, .string($0.value)) })
  }

  private static func job(_ job: JobOutcome) -> ReportJSON {
    let statistics = job.statistics
    let elapsed = statistics.elapsed
    let total = statistics.read.count + statistics.write.count
    let processor = max(1e-9, statistics.jobTime.inSeconds)
    var latencies = statistics.read.latency.histogram
    latencies.merge(statistics.write.latency.histogram)
    let spread = LatencySpread(latencies)
    let whole = statistics.read.bandwidth.mean + statistics.write.bandwidth.mean
    return .object([
      ("jobname", .string(job.options.name)), ("groupid", .integer(UInt64(job.group))),
      ("error", .integer(0)), ("eta", .integer(0)),
      ("elapsed", .integer((elapsed.nanoseconds + 999_999_999) / 1_000_000_000)),
      ("job options", options(job.options.given)),
      ("read", direction(statistics.read, elapsed, whole)),
      ("write", direction(statistics.write, elapsed, whole)),
      ("trim", direction(DirectionStatistics(), .zero, whole)),
      (
        "sync",
        .object([
          ("total_ios", .integer(statistics.sync.summary.count)),
          ("lat_ns", latency(statistics.sync, withPercentiles: true)),
        ])
      ),
      ("job_runtime", .integer(elapsed.nanoseconds / 1_000_000)),
      ("usr_cpu", .double(100 * statistics.usage.user.inSeconds / processor)),
      ("sys_cpu", .double(100 * statistics.usage.system.inSeconds / processor)),
      ("ctx", .integer(statistics.usage.contextSwitches)),
      ("majf", .integer(statistics.usage.majorFaults)),
      ("minf", .integer(statistics.usage.minorFaults)),
      ("iodepth_level", shares(statistics.depths.shares(of: total), DepthMap.names)),
      ("iodepth_submit", shares(DepthMap().shares(of: 0), DepthMap.batchNames)),
      ("iodepth_complete", shares(DepthMap().shares(of: 0), DepthMap.batchNames)),
      ("latency_ns", shares(spread.nanoseconds, LatencySpread.names)),
      ("latency_us", shares(spread.microseconds, LatencySpread.names)),
      ("latency_ms", shares(spread.milliseconds, LatencySpread.longNames)),
      ("latency_depth", .integer(UInt64(job.options.depth))), ("latency_target", .integer(0)),
      ("latency_percentile", .double(100)), ("latency_window", .integer(0)),
    ])
  }

  private static func shares(_ values: [Double], _ names: [String]) -> ReportJSON {
    .object(zip(names, values).map { ($0, .double($1)) })
  }

  private static func direction(
    _ direction: DirectionStatistics, _ elapsed: Duration, _ whole: Double
  ) -> ReportJSON {
    let seconds = max(1e-9, elapsed.inSeconds)
    let isUsed = direction.count > 0
    let bytesPerSecond = isUsed ? Double(direction.byteCount) / seconds : 0
    return .object([
      ("io_bytes", .integer(direction.byteCount)),
      ("io_kbytes", .integer(direction.byteCount >> 10)), ("bw_bytes", .whole(bytesPerSecond)),
      ("bw", .whole(bytesPerSecond / 1024)),
      ("iops", .double(isUsed ? Double(direction.count) / seconds : 0)),
      ("runtime", .integer(isUsed ? elapsed.nanoseconds / 1_000_000 : 0)),
      ("total_ios", .integer(direction.count)), ("short_ios", .integer(0)),
      ("drop_ios", .integer(0)),
      ("slat_ns", latency(LatencyStatistics(), withPercentiles: false)),
      ("clat_ns", latency(direction.latency, withPercentiles: isUsed)),
      ("lat_ns", latency(direction.latency, withPercentiles: false)),
      ("bw_min", .whole(direction.bandwidth.minimum)),
      ("bw_max", .whole(direction.bandwidth.maximum)),
      ("bw_agg", .double(whole > 0 ? 100 * direction.bandwidth.mean / whole : 0)),
      ("bw_mean", .double(direction.bandwidth.mean)),
      ("bw_dev", .double(direction.bandwidth.deviation)),
      ("bw_samples", .integer(direction.bandwidth.count)),
      ("iops_min", .whole(direction.rate.minimum)), ("iops_max", .whole(direction.rate.maximum)),
      ("iops_mean", .double(direction.rate.mean)),
      ("iops_stddev", .double(direction.rate.deviation)),
      ("iops_samples", .integer(direction.rate.count)),
    ])
  }

  private static func latency(_ latency: LatencyStatistics, withPercentiles: Bool) -> ReportJSON {
    var members: [(String, ReportJSON)] = [
      ("min", .whole(latency.summary.minimum)), ("max", .whole(latency.summary.maximum)),
      ("mean", .double(latency.summary.mean)), ("stddev", .double(latency.summary.deviation)),
      ("N", .integer(latency.summary.count)),
    ]
    if withPercentiles && latency.summary.count > 0 {
      let values = latency.histogram.percentiles(LatencyHistogram.reported)
      members.append(
        (
          "percentile",
          .object(
            zip(LatencyHistogram.reported, values).map {
              (FixedPoint.text($0, places: 6), .integer($1))
            })
        ))
    }
    return .object(members)
  }
}

/// Shares of times between round numbers, in percent, as fio lists them.
struct LatencySpread {
  static let steps: [UInt64] = [2, 4, 10, 20, 50, 100, 250, 500, 750, 1000]
  static let names = steps.map { "\($0)" }
  static let longNames = names + ["2000", ">=2000"]
  let nanoseconds: [Double]
  let microseconds: [Double]
  let milliseconds: [Double]

  init(_ histogram: LatencyHistogram) {
    let bounds =
      Self.steps + Self.steps.map { $0 * 1000 } + Self.steps.map { $0 * 1_000_000 }
      + [2_000_000_000]
    let counts = histogram.distribution(upTo: bounds)
    let total = max(1, Double(histogram.count))
    let shares = counts.map { $0 == 0 ? 0 : max(0.01, 100 * Double($0) / total) }
    nanoseconds = Array(shares[0..<10])
    microseconds = Array(shares[10..<20])
    milliseconds = Array(shares[20...])
  }
}
