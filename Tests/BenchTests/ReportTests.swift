import Ring
import Testing

@testable import Bench

@Suite("reports")
struct ReportTests {
  /// Every value of fio 3.33's own JSON, of a job with reads, writes and syncs; `disk_util` left out.
  static let fioPaths = """
    fio version
    timestamp
    timestamp_ms
    time
    jobs/0/jobname
    jobs/0/groupid
    jobs/0/error
    jobs/0/eta
    jobs/0/elapsed
    jobs/0/read/io_bytes
    jobs/0/read/io_kbytes
    jobs/0/read/bw_bytes
    jobs/0/read/bw
    jobs/0/read/iops
    jobs/0/read/runtime
    jobs/0/read/total_ios
    jobs/0/read/short_ios
    jobs/0/read/drop_ios
    jobs/0/read/slat_ns/min
    jobs/0/read/slat_ns/max
    jobs/0/read/slat_ns/mean
    jobs/0/read/slat_ns/stddev
    jobs/0/read/slat_ns/N
    jobs/0/read/clat_ns/min
    jobs/0/read/clat_ns/max
    jobs/0/read/clat_ns/mean
    jobs/0/read/clat_ns/stddev
    jobs/0/read/clat_ns/N
    jobs/0/read/clat_ns/percentile/1.000000
    jobs/0/read/clat_ns/percentile/5.000000
    jobs/0/read/clat_ns/percentile/10.000000
    jobs/0/read/clat_ns/percentile/20.000000
    jobs/0/read/clat_ns/percentile/30.000000
    jobs/0/read/clat_ns/percentile/40.000000
    jobs/0/read/clat_ns/percentile/50.000000
    jobs/0/read/clat_ns/percentile/60.000000
    jobs/0/read/clat_ns/percentile/70.000000
    jobs/0/read/clat_ns/percentile/80.000000
    jobs/0/read/clat_ns/percentile/90.000000
    jobs/0/read/clat_ns/percentile/95.000000
    jobs/0/read/clat_ns/percentile/99.000000
    jobs/0/read/clat_ns/percentile/99.500000
    jobs/0/read/clat_ns/percentile/99.900000
    jobs/0/read/clat_ns/percentile/99.950000
    jobs/0/read/clat_ns/percentile/99.990000
    jobs/0/read/lat_ns/min
    jobs/0/read/lat_ns/max
    jobs/0/read/lat_ns/mean
    jobs/0/read/lat_ns/stddev
    jobs/0/read/lat_ns/N
    jobs/0/read/bw_min
    jobs/0/read/bw_max
    jobs/0/read/bw_agg
    jobs/0/read/bw_mean
    jobs/0/read/bw_dev
    jobs/0/read/bw_samples
    jobs/0/read/iops_min
    jobs/0/read/iops_max
    jobs/0/read/iops_mean
    jobs/0/read/iops_stddev
    jobs/0/read/iops_samples
    jobs/0/write/io_bytes
    jobs/0/write/io_kbytes
    jobs/0/write/bw_bytes
    jobs/0/write/bw
    jobs/0/write/iops
    jobs/0/write/runtime
    jobs/0/write/total_ios
    jobs/0/write/short_ios
    jobs/0/write/drop_ios
    jobs/0/write/slat_ns/min
    jobs/0/write/slat_ns/max
    jobs/0/write/slat_ns/mean
    jobs/0/write/slat_ns/stddev
    jobs/0/write/slat_ns/N
    jobs/0/write/clat_ns/min
    jobs/0/write/clat_ns/max
    jobs/0/write/clat_ns/mean
    jobs/0/write/clat_ns/stddev
    jobs/0/write/clat_ns/N
    jobs/0/write/clat_ns/percentile/1.000000
    jobs/0/write/clat_ns/percentile/5.000000
    jobs/0/write/clat_ns/percentile/10.000000
    jobs/0/write/clat_ns/percentile/20.000000
    jobs/0/write/clat_ns/percentile/30.000000
    jobs/0/write/clat_ns/percentile/40.000000
    jobs/0/write/clat_ns/percentile/50.000000
    jobs/0/write/clat_ns/percentile/60.000000
    jobs/0/write/clat_ns/percentile/70.000000
    jobs/0/write/clat_ns/percentile/80.000000
    jobs/0/write/clat_ns/percentile/90.000000
    jobs/0/write/clat_ns/percentile/95.000000
    jobs/0/write/clat_ns/percentile/99.000000
    jobs/0/write/clat_ns/percentile/99.500000
    jobs/0/write/clat_ns/percentile/99.900000
    jobs/0/write/clat_ns/percentile/99.950000
    jobs/0/write/clat_ns/percentile/99.990000
    jobs/0/write/lat_ns/min
    jobs/0/write/lat_ns/max
    jobs/0/write/lat_ns/mean
    jobs/0/write/lat_ns/stddev
    jobs/0/write/lat_ns/N
    jobs/0/write/bw_min
    jobs/0/write/bw_max
    jobs/0/write/bw_agg
    jobs/0/write/bw_mean
    jobs/0/write/bw_dev
    jobs/0/write/bw_samples
    jobs/0/write/iops_min
    jobs/0/write/iops_max
    jobs/0/write/iops_mean
    jobs/0/write/iops_stddev
    jobs/0/write/iops_samples
    jobs/0/trim/io_bytes
    jobs/0/trim/io_kbytes
    jobs/0/trim/bw_bytes
    jobs/0/trim/bw
    jobs/0/trim/iops
    jobs/0/trim/runtime
    jobs/0/trim/total_ios
    jobs/0/trim/short_ios
    jobs/0/trim/drop_ios
    jobs/0/trim/slat_ns/min
    jobs/0/trim/slat_ns/max
    jobs/0/trim/slat_ns/mean
    jobs/0/trim/slat_ns/stddev
    jobs/0/trim/slat_ns/N
    jobs/0/trim/clat_ns/min
    jobs/0/trim/clat_ns/max
    jobs/0/trim/clat_ns/mean
    jobs/0/trim/clat_ns/stddev
    jobs/0/trim/clat_ns/N
    jobs/0/trim/lat_ns/min
    jobs/0/trim/lat_ns/max
    jobs/0/trim/lat_ns/mean
    jobs/0/trim/lat_ns/stddev
    jobs/0/trim/lat_ns/N
    jobs/0/trim/bw_min
    jobs/0/trim/bw_max
    jobs/0/trim/bw_agg
    jobs/0/trim/bw_mean
    jobs/0/trim/bw_dev
    jobs/0/trim/bw_samples
    jobs/0/trim/iops_min
    jobs/0/trim/iops_max
    jobs/0/trim/iops_mean
    jobs/0/trim/iops_stddev
    jobs/0/trim/iops_samples
    jobs/0/sync/total_ios
    jobs/0/sync/lat_ns/min
    jobs/0/sync/lat_ns/max
    jobs/0/sync/lat_ns/mean
    jobs/0/sync/lat_ns/stddev
    jobs/0/sync/lat_ns/N
    jobs/0/sync/lat_ns/percentile/1.000000
    jobs/0/sync/lat_ns/percentile/5.000000
    jobs/0/sync/lat_ns/percentile/10.000000
    jobs/0/sync/lat_ns/percentile/20.000000
    jobs/0/sync/lat_ns/percentile/30.000000
    jobs/0/sync/lat_ns/percentile/40.000000
    jobs/0/sync/lat_ns/percentile/50.000000
    jobs/0/sync/lat_ns/percentile/60.000000
    jobs/0/sync/lat_ns/percentile/70.000000
    jobs/0/sync/lat_ns/percentile/80.000000
    jobs/0/sync/lat_ns/percentile/90.000000
    jobs/0/sync/lat_ns/percentile/95.000000
    jobs/0/sync/lat_ns/percentile/99.000000
    jobs/0/sync/lat_ns/percentile/99.500000
    jobs/0/sync/lat_ns/percentile/99.900000
    jobs/0/sync/lat_ns/percentile/99.950000
    jobs/0/sync/lat_ns/percentile/99.990000
    jobs/0/job_runtime
    jobs/0/usr_cpu
    jobs/0/sys_cpu
    jobs/0/ctx
    jobs/0/majf
    jobs/0/minf
    jobs/0/iodepth_level/1
    jobs/0/iodepth_level/2
    jobs/0/iodepth_level/4
    jobs/0/iodepth_level/8
    jobs/0/iodepth_level/16
    jobs/0/iodepth_level/32
    jobs/0/iodepth_level/>=64
    jobs/0/iodepth_submit/0
    jobs/0/iodepth_submit/4
    jobs/0/iodepth_submit/8
    jobs/0/iodepth_submit/16
    jobs/0/iodepth_submit/32
    jobs/0/iodepth_submit/64
    jobs/0/iodepth_submit/>=64
    jobs/0/iodepth_complete/0
    jobs/0/iodepth_complete/4
    jobs/0/iodepth_complete/8
    jobs/0/iodepth_complete/16
    jobs/0/iodepth_complete/32
    jobs/0/iodepth_complete/64
    jobs/0/iodepth_complete/>=64
    jobs/0/latency_ns/2
    jobs/0/latency_ns/4
    jobs/0/latency_ns/10
    jobs/0/latency_ns/20
    jobs/0/latency_ns/50
    jobs/0/latency_ns/100
    jobs/0/latency_ns/250
    jobs/0/latency_ns/500
    jobs/0/latency_ns/750
    jobs/0/latency_ns/1000
    jobs/0/latency_us/2
    jobs/0/latency_us/4
    jobs/0/latency_us/10
    jobs/0/latency_us/20
    jobs/0/latency_us/50
    jobs/0/latency_us/100
    jobs/0/latency_us/250
    jobs/0/latency_us/500
    jobs/0/latency_us/750
    jobs/0/latency_us/1000
    jobs/0/latency_ms/2
    jobs/0/latency_ms/4
    jobs/0/latency_ms/10
    jobs/0/latency_ms/20
    jobs/0/latency_ms/50
    jobs/0/latency_ms/100
    jobs/0/latency_ms/250
    jobs/0/latency_ms/500
    jobs/0/latency_ms/750
    jobs/0/latency_ms/1000
    jobs/0/latency_ms/2000
    jobs/0/latency_ms/>=2000
    jobs/0/latency_depth
    jobs/0/latency_target
    jobs/0/latency_percentile
    jobs/0/latency_window
    """

  private func outcome() throws -> RunOutcome {
    var statistics = JobStatistics()
    for value: UInt64 in 1...100 {
      statistics.read.count += 1
      statistics.read.byteCount += 4096
      statistics.read.latency.add(value * 1000)
      statistics.write.count += 1
      statistics.write.byteCount += 4096
      statistics.write.latency.add(value * 2000)
      statistics.sync.add(value * 10_000)
      statistics.depths.noteDepth(8)
    }
    statistics.elapsed = .seconds(2)
    statistics.jobTime = .seconds(2)
    statistics.usage.user = .seconds(1)
    let request = try request("raw --rw=randrw --name=j --size=1m")
    return RunOutcome(
      request: request,
      jobs: [
        JobOutcome(options: request.jobs[0], group: 0, jobCount: 1, statistics: statistics)
      ], version: "test")
  }

  private func values(_ json: ReportJSON, _ path: String = "") -> [String: ReportJSON] {
    switch json {
    case .object(let members):
      members.reduce(into: [:]) { all, member in
        all.merge(values(member.1, path.isEmpty ? member.0 : path + "/" + member.0)) { $1 }
      }
    case .array(let elements):
      elements.enumerated().reduce(into: [:]) { all, element in
        all.merge(values(element.1, "\(path)/\(element.0)")) { $1 }
      }
    default: [path: json]
    }
  }

  @Test("the JSON has every value that fio's has, of the same kind of number")
  func layout() throws {
    let found = values(JSONReport.make(try outcome()))
    for path in Self.fioPaths.split(separator: "\n").map(String.init) {
      #expect(found[path] != nil, "\(path)")
    }
  }

  @Test("the values are those that were counted")
  func counted() throws {
    let found = values(JSONReport.make(try outcome())).mapValues(\.text)
    #expect(found["jobs/0/read/iops"] == "50.000000")
    #expect(found["jobs/0/read/io_bytes"] == "409600")
    #expect(found["jobs/0/read/bw_bytes"] == "204800")
    #expect(found["jobs/0/read/bw"] == "200")
    #expect(found["jobs/0/read/clat_ns/min"] == "1000")
    #expect(found["jobs/0/write/clat_ns/max"] == "200000")
    #expect(found["jobs/0/sync/lat_ns/N"] == "100")
    #expect(found["jobs/0/usr_cpu"] == "50.000000")
    #expect(found["jobs/0/iodepth_level/8"] == "50.000000")
    #expect(found["jobs/0/jobname"] == "\"j\"")
    let median = Double(found["jobs/0/read/clat_ns/percentile/50.000000"]!)!
    #expect(abs(median - 50_000) < 1000)
  }

  @Test("the report for people has fio's lines")
  func human() throws {
    let text = HumanReport.make(try outcome()).joined(separator: "\n")
    for part in [
      "j: (groupid=0, jobs=1): err= 0", "  read: IOPS=50, BW=200KiB/s (205kB/s)", "clat (nsec)",
      "50.00th=[", "99.99th=[", "  cpu          : usr=50.00%, sys=0.00%",
      "IO depths    : 1=0.0%", "issued rwts: total=100,100,0,100", "Run status group 0 (all jobs):",
      "   READ: bw=200KiB/s (205kB/s)", "sync percentiles",
    ] {
      #expect(text.contains(part), "\(part) in\n\(text)")
    }
  }

  @Test("text is escaped as JSON has it")
  func escapes() {
    #expect(ReportJSON.string("a\"b\\c\n\u{1}").text == #""a\"b\\c\n\u0001""#)
  }
}
