import Cluster
import Coding
import TestSupport
import Testing

/// Placement policies beside each other: writers fill containers on devices that serve one block after the other.
@Suite("Placement policies")
struct PolicyTests {
  struct Outcome {
    /// Of stripes, in microseconds.
    var median = 0.0
    var percentile99 = 0.0
  }

  /// - Parameters:
  ///   - micros: what a block takes on each device.
  ///   - rate: stripes a second, of eight writers together.
  static func run(
    _ policy: PlacementPolicy, micros: [Double], rate: Double, seed: Seed
  ) -> Outcome {
    var random = seed.generator
    let map = PlacementTests.map(racks: micros.map { _ in "" }, random: &random)
    let devices = map.nodes.flatMap(\.devices).map(\.id)
    let service = Dictionary(uniqueKeysWithValues: zip(devices, micros))
    var free = PlacementTests.allFree(map)
    var isBusyUntil: [DeviceID: Double] = [:]
    /// Of the last 30 seconds: end, time from arrival to answer.
    var answers: [DeviceID: [(end: Double, took: Double)]] = [:]
    var work: [DeviceID: DeviceWork] = [:]
    var writers: [(devices: [DeviceID], left: Int)] = Array(repeating: ([], 0), count: 8)
    let cache = PlacementGroupCache()
    var (now, reportAt, turn) = (0.0, 1e6, UInt64(0))
    var took: [Double] = []
    for stripe in 0..<5_000 {
      now += -Double.random(in: 0x1p-40..<1, using: &random).logarithm / rate * 1e6
      if now >= reportAt {
        reportAt = now + 1e6
        for device in devices {
          answers[device]?.removeAll { $0.end < now - 30e6 }
          let ended = (answers[device] ?? []).filter { $0.end <= now }
          let sum = ended.reduce(0) { $0 + $1.took }
          work[device] = DeviceWork(
            underWay: sum / min(now, 30e6),
            writeMicroseconds: ended.count < 16 ? nil : sum / Double(ended.count))
        }
      }
      let writer = Int.random(in: writers.indices, using: &random)
      if writers[writer].left == 0 {
        turn += 1
        let placement = Placement(
          map: map, free: free, policy: policy, work: work, groupCache: cache)
        writers[writer] = (placement.choose(class: Scheme("4+2")!, turn: turn)!.devices, 64)
      }
      writers[writer].left -= 1
      var last = now
      for device in writers[writer].devices {
        let end = max(now, isBusyUntil[device] ?? 0) + service[device]!
        isBusyUntil[device] = end
        answers[device, default: []].append((end, end - now))
        free[device]! -= 1 << 20
        last = max(last, end)
      }
      // The first tenth is for the reports to come in.
      if stripe >= 1000 { took.append(last - now) }
    }
    took.sort()
    return Outcome(
      median: took[took.count / 2], percentile99: took[took.count * 99 / 100])
  }

  @Test("one that takes work into account keeps off a slow device", arguments: Seed.several)
  func slowDevice(seed: Seed) {
    let micros = [20_000.0] + Array(repeating: 5000, count: 11)
    var found: [PlacementPolicy: Outcome] = [:]
    for policy in PlacementPolicy.allCases {
      found[policy] = Self.run(policy, micros: micros, rate: 85, seed: seed)
    }
    for policy in [PlacementPolicy.leastLoaded, .responseTime] {
      #expect(found[policy]!.median < found[.emptiest]!.median, "\(found)")
    }
    #expect(found[.responseTime]!.percentile99 * 2 < found[.emptiest]!.percentile99, "\(found)")
  }
}

extension Double {
  /// Natural, of a number above 0 and below 1, by the series of the inverse hyperbolic tangent: no library is needed, and the same comes out
  /// everywhere.
  fileprivate var logarithm: Double {
    let mantissa = significand
    let ratio = (mantissa - 1) / (mantissa + 1)
    let square = ratio * ratio
    var (term, sum) = (ratio, 0.0)
    for step in 0..<24 {
      sum += term / Double(2 * step + 1)
      term *= square
    }
    return 2 * sum + Double(exponent) * 0.693_147_180_559_945_3
  }
}
