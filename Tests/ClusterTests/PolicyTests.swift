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
    /// How far the device furthest from its due is from it, as a share.
    var unevenness = 0.0
  }

  /// - Parameters:
  ///   - micros: what a block takes on each device.
  ///   - sizes: of devices, each a multiple of the same.
  ///   - rate: stripes a second, of eight writers together.
  static func run(
    _ policy: PlacementPolicy, micros: [Double], sizes: [UInt64], rate: Double, seed: Seed
  ) -> Outcome {
    var random = seed.generator
    let map = PlacementTests.map(racks: micros.map { _ in "" }, random: &random)
    let devices = map.nodes.flatMap(\.devices).map(\.id)
    let service = Dictionary(uniqueKeysWithValues: zip(devices, micros))
    var free = Dictionary(uniqueKeysWithValues: zip(devices, sizes.map { $0 << 34 }))
    let before = free
    var isBusyUntil: [DeviceID: Double] = [:]
    /// Of the last 30 seconds: end, time from arrival to answer.
    var answers: [DeviceID: [(end: Double, took: Double)]] = [:]
    var work: [DeviceID: DeviceWork] = [:]
    var writers: [(devices: [DeviceID], left: Int)] = Array(repeating: ([], 0), count: 8)
    let cache = PlacementGroupCache()
    var (now, reportAt, turn) = (0.0, 1e6, UInt64(0))
    var took: [Double] = []
    for stripe in 0..<40_000 {
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
      if stripe >= 4000 { took.append(last - now) }
    }
    took.sort()
    let filled = devices.map { Double(before[$0]! - free[$0]!) / Double(before[$0]!) }
    let due = 6 * 40_000 * Double(1 << 20) / Double(before.values.reduce(0, +))
    return Outcome(
      median: took[took.count / 2], percentile99: took[took.count * 99 / 100],
      unevenness: filled.map { abs($0 / due - 1) }.max()!)
  }

  @Test("one that takes work into account keeps off a slow device", arguments: Seed.several)
  func slowDevice(seed: Seed) {
    let micros = [20_000.0] + Array(repeating: 5000, count: 11)
    let sizes = Array(repeating: UInt64(4), count: 12)
    var found: [PlacementPolicy: Outcome] = [:]
    for policy in PlacementPolicy.allCases {
      found[policy] = Self.run(policy, micros: micros, sizes: sizes, rate: 85, seed: seed)
    }
    for policy in [PlacementPolicy.leastLoaded, .responseTime] {
      #expect(found[policy]!.percentile99 < found[.roundRobin]!.percentile99, "\(found)")
    }
  }

  @Test("devices of several sizes fill evenly by room", arguments: Seed.several)
  func sizes(seed: Seed) {
    let micros = Array(repeating: 5000.0, count: 12)
    let sizes: [UInt64] = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    let byRoom = Self.run(.emptiest, micros: micros, sizes: sizes, rate: 85, seed: seed)
    let inTurn = Self.run(.roundRobin, micros: micros, sizes: sizes, rate: 85, seed: seed)
    #expect(byRoom.unevenness < inTurn.unevenness)
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
