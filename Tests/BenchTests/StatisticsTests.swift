import TestSupport
import Testing

@testable import Bench

@Suite("statistics")
struct StatisticsTests {
  @Test("a percentile is the sorted array's, within a bucket's width", arguments: Seed.several)
  func percentiles(seed: Seed) {
    var random = seed.generator
    for _ in 0..<30 {
      let count = 1 + Int(random.next() % 3000)
      // Over all magnitudes, as latencies are.
      let values = (0..<count).map { _ in random.next() >> (30 + random.next() % 34) }
      var histogram = LatencyHistogram()
      for value in values { histogram.add(value) }
      let sorted = values.sorted()
      let percentages = LatencyHistogram.reported
      for (percentage, found) in zip(percentages, histogram.percentiles(percentages)) {
        let rank = max(1, Int((percentage / 100 * Double(count)).rounded(.up)))
        let exact = sorted[rank - 1]
        #expect(LatencyHistogram.bucket(of: exact) == LatencyHistogram.bucket(of: found))
        #expect(abs(Double(found) - Double(exact)) <= Double(exact) / 64)
      }
    }
  }

  @Test("buckets are fio's")
  func buckets() {
    // From fio 3.33's own output: a value in nanoseconds as it prints one.
    for printed: UInt64 in [30336, 43776, 79360, 154_624, 970_752, 3_883_008, 4_816_896] {
      #expect(LatencyHistogram.value(of: LatencyHistogram.bucket(of: printed)) == printed)
    }
    for small: UInt64 in 0..<128 { #expect(LatencyHistogram.bucket(of: small) == Int(small)) }
    #expect(LatencyHistogram.bucket(of: .max) == LatencyHistogram.bucketCount - 1)
    for bucket in 0..<LatencyHistogram.bucketCount {
      #expect(LatencyHistogram.bucket(of: LatencyHistogram.value(of: bucket)) == bucket)
    }
  }

  @Test("merged statistics are those of all values together", arguments: Seed.several)
  func merging(seed: Seed) {
    var random = seed.generator
    let values = (0..<500).map { _ in random.next() % 1_000_000 }
    let cut = Int(random.next() % 501)
    func collect(_ values: ArraySlice<UInt64>) -> LatencyStatistics {
      var statistics = LatencyStatistics()
      for value in values { statistics.add(value) }
      return statistics
    }
    let whole = collect(values[...])
    var merged = collect(values[..<cut])
    merged.merge(collect(values[cut...]))
    #expect(merged.summary.count == whole.summary.count)
    #expect(merged.summary.minimum == whole.summary.minimum)
    #expect(merged.summary.maximum == whole.summary.maximum)
    #expect(abs(merged.summary.mean - whole.summary.mean) < 1e-6)
    #expect(abs(merged.summary.deviation - whole.summary.deviation) < 1e-6)
    #expect(merged.histogram.percentiles([50, 99]) == whole.histogram.percentiles([50, 99]))
    let exact = values.map { Double($0) }
    let mean = exact.reduce(0, +) / 500
    let deviation = (exact.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 499).squareRoot()
    #expect(abs(whole.summary.deviation - deviation) < 1e-6)
  }

  @Test("depths fall into fio's steps")
  func depths() {
    var map = DepthMap()
    for depth in [1, 2, 3, 4, 7, 8, 31, 32, 63, 64, 1000] { map.noteDepth(depth) }
    #expect(map.counts == [1, 2, 2, 1, 1, 2, 2])
  }

  @Test(
    "a permutation has each number once, and another order for another key", arguments: Seed.several
  )
  func permutation(seed: Seed) {
    var random = seed.generator
    for count in [1, 2, 3, 4, 5, 64, 65, 1000 + random.next() % 5000] as [UInt64] {
      let permutation = Permutation(count: count, key: random.next())
      let all = (0..<count).map { permutation[$0] }
      #expect(all.sorted() == Array(0..<count))
      if count > 100 {
        let other = Permutation(count: count, key: random.next())
        #expect(all != (0..<count).map { other[$0] })
      }
    }
  }

  @Test("every transfer lies in the space; a pass moves the size", arguments: Seed.several)
  func pattern(seed: Seed) throws {
    for words in [
      "--rw=randread --bs=4k", "--rw=read --bs=64k", "--rw=randrw --bssplit=4k/50:64k/50",
      "--rw=rw --bs=4k,16k", "--rw=randwrite --bs=12k --norandommap",
    ] {
      var options = try request("raw --size=1m " + words).jobs[0]
      options.randomSeed = seed.value
      var pattern = AccessPattern(options, job: 0, space: 1 << 20)
      var moved = 0
      var offsets: [UInt64] = []
      while let access = pattern.next() {
        #expect(access.offset + UInt64(access.count) <= 1 << 20)
        moved += access.count
        offsets.append(access.offset)
      }
      #expect(moved >= 1 << 20 && moved < (1 << 20) + (64 << 10))
      if words == "--rw=randread --bs=4k" { #expect(Set(offsets).count == 256) }
    }
  }

  @Test("numbers look like fio's")
  func numbers() {
    #expect(FioNumber.count(23_141) == "23.1k")
    #expect(FioNumber.count(9999) == "9999")
    #expect(FioNumber.binaryBytes(94_833_000) == "90.4MiB")
    #expect(FioNumber.decimalBytes(94_833_000) == "94.8MB")
    #expect(FioNumber.binaryBytes(1166 * 1_048_576) == "1166MiB")
    #expect(FioNumber.binaryBytes(12_288 * 1_048_576) == "12.0GiB")
    #expect(FixedPoint.text(99.5, places: 6) == "99.500000")
    #expect(FixedPoint.text(-0.25, places: 1) == "-0.3")
  }
}
