import Cluster
import Coding
import TestSupport
import Testing

@testable import Stripes

/// Policies for reads beside each other: readers ask devices that serve one block after the other.
@Suite("Read policies")
struct ReadPolicyTests {
  struct Outcome {
    /// Of reads, in microseconds.
    var median = 0.0
    var percentile99 = 0.0
    /// Bytes that devices gave for each that was wanted.
    var amplification = 0.0
    /// Of all bytes, those from the reader's own rack.
    var nearShare = 0.0
  }

  struct Trial {
    var scheme: Scheme
    /// Bytes of each read, from a place drawn.
    var byteCount: Int
    /// What 4 KiB take on each device, in microseconds.
    var micros: [Double]
    /// Reads a second.
    var rate: Double
  }

  static let layoutBlock = 256 << 10

  static func run(_ policy: ReadPolicy, _ trial: Trial, seed: Seed) -> Outcome {
    var random = seed.generator
    let width = trial.scheme.width
    let layout = StripeLayout(
      scheme: trial.scheme, blockByteCount: layoutBlock, byteCount: trial.scheme.k * layoutBlock)
    let count = trial.micros.count
    let places = (0..<count).map { ["rack\($0 % 3)", "node\($0)"] }
    var isBusyUntil = [Double](repeating: 0, count: count)
    var history = ReadHistory()
    var underWay: [(end: Double, device: Int, took: Double)] = []
    var now = 0.0
    var took: [Double] = []
    var (wantedBytes, readBytes, nearBytes) = (0, 0, 0)
    for turn in 0..<2000 {
      now += Double.random(in: 0..<2, using: &random) / trial.rate * 1e6
      for read in underWay where read.end <= now {
        history.ended(
          DeviceID(UInt64(read.device)), .answered,
          after: .nanoseconds(Int64(read.took * 1000)),
          now: .nanoseconds(Int64(read.end * 1000)))
      }
      underWay.removeAll { $0.end <= now }
      // Each stripe lies on devices of its own.
      let first = Int.random(in: 0..<count, using: &random)
      let devices = (0..<width).map { (first + $0) % count }
      let units = (layout.byteCount - trial.byteCount) / StripeLayout.unit
      let start = Int.random(in: 0...units, using: &random) * StripeLayout.unit
      let wanted = layout.units(of: start..<start + trial.byteCount)
      let costs = policy.costs(
        places: devices.map { places[$0] },
        reads: devices.map {
          history.reads(of: DeviceID(UInt64($0)), now: .nanoseconds(Int64(now * 1000)))
        }, turn: UInt64(turn), k: trial.scheme.k)
      let spared =
        costs.map {
          ReadPreference.spared(layout: layout, wanted: wanted, costs: $0, barred: [])
        } ?? []
      var plan = ReadPlan(layout: layout, wanted: wanted, spared: spared)
      guard case .fetch(let parts) = plan.next() else { break }
      var last = now
      for part in parts {
        let device = devices[part.index]
        let service = trial.micros[device] * Double(part.range.count) / 4096
        let end = max(now, isBusyUntil[device]) + service
        isBusyUntil[device] = end
        history.began(DeviceID(UInt64(device)))
        underWay.append((end, device, end - now))
        last = max(last, end)
        readBytes += part.range.count
        if places[device][0] == "rack0" { nearBytes += part.range.count }
      }
      wantedBytes += wanted.reduce(0) { $0 + $1.range.count }
      if turn >= 300 { took.append(last - now) }
    }
    took.sort()
    return Outcome(
      median: took[took.count / 2], percentile99: took[took.count * 99 / 100],
      amplification: Double(readBytes) / Double(wantedBytes),
      nearShare: Double(nearBytes) / Double(readBytes))
  }

  static func all(_ trial: Trial, seed: Seed) -> [String: Outcome] {
    var found: [String: Outcome] = [:]
    for name in ReadPolicy.names {
      found[name] = run(
        ReadPolicy(named: name, location: ["rack0", "reader"])!, trial, seed: seed)
    }
    return found
  }

  /// Twelve devices, one of them four times slower.
  static let oneSlow = [40.0] + Array(repeating: 10, count: 11)

  @Test(
    "copies: those that look at load or time keep off a slow device; nearest reads in the rack",
    arguments: Seed.several)
  func copies(seed: Seed) {
    let trial = Trial(
      scheme: Scheme("1+2")!, byteCount: 64 << 10, micros: Self.oneSlow, rate: 17_000)
    let found = Self.all(trial, seed: seed)
    #expect(found.values.allSatisfy { $0.amplification == 1 }, "\(found)")
    #expect(
      found["least-loaded"]!.percentile99 * 2 < found["data-first"]!.percentile99, "\(found)")
    #expect(
      found["response-time"]!.percentile99 * 2 < found["data-first"]!.percentile99, "\(found)")
    // A third lies there; of three neighbours one always does.
    #expect(found["data-first"]!.nearShare < 0.4, "\(found)")
    #expect(found["nearest"]!.nearShare == 1, "\(found)")
  }

  @Test(
    "whole stripes: a slow device's block is left out for as many bytes", arguments: Seed.several)
  func stripes(seed: Seed) {
    let trial = Trial(
      scheme: Scheme("4+2")!, byteCount: 4 * Self.layoutBlock, micros: Self.oneSlow, rate: 1_100)
    let found = Self.all(trial, seed: seed)
    #expect(found.values.allSatisfy { $0.amplification == 1 }, "\(found)")
    #expect(
      found["response-time"]!.percentile99 * 2 < found["data-first"]!.percentile99, "\(found)")
    #expect(found["nearest"]!.nearShare > found["data-first"]!.nearShare, "\(found)")
  }

  @Test(
    "a part of a block is not rebuilt from four others for a little less wait",
    arguments: Seed.several)
  func partsOfBlocks(seed: Seed) {
    let trial = Trial(
      scheme: Scheme("4+2")!, byteCount: 64 << 10, micros: Self.oneSlow, rate: 9_000)
    let found = Self.all(trial, seed: seed)
    for name in ["data-first", "round-robin", "nearest"] {
      #expect(found[name]!.amplification == 1, "\(found)")
    }
    #expect(found["least-loaded"]!.amplification < 1.2, "\(found)")
    #expect(found["response-time"]!.amplification < 1.6, "\(found)")
    #expect(
      found["response-time"]!.percentile99 < found["data-first"]!.percentile99, "\(found)")
  }

  @Test(
    "a device whose reads are always given up counts as slow as these were, while that is recent")
  func givenUp() {
    var history = ReadHistory()
    let device = DeviceID(1)
    func ended(_ ending: ReadHistory.Ending, after millis: Int, at seconds: Int) {
      history.began(device)
      history.ended(device, ending, after: .milliseconds(millis), now: .seconds(seconds))
    }
    func known(at seconds: Int) -> Double? {
      history.reads(of: device, now: .seconds(seconds)).microseconds
    }
    ended(.answered, after: 1, at: 10)
    ended(.givenUp, after: 20, at: 11)
    #expect(known(at: 11) == 20_000)
    // Whoever left at once says nothing against that, and a failure nothing at all.
    ended(.givenUp, after: 2, at: 12)
    ended(.failed, after: 300, at: 13)
    #expect(known(at: 13) == 20_000)
    #expect(known(at: 18) == nil)
    #expect(history.reads(of: device, now: .seconds(18)).underWay == 0)
  }

  @Test(
    "what is spared leaves enough, and never costs more than reading what is wanted",
    arguments: Seed.several)
  func spared(seed: Seed) {
    var random = seed.generator
    for _ in 0..<500 {
      let stripe = TrueStripe.random(&random)
      let layout = stripe.layout
      let wanted = parts(of: randomRange(layout.byteCount, &random), layout)
      let costs = (0..<layout.scheme.width).map { _ in Double.random(in: 1...20, using: &random) }
      let barred = Set(layout.storedBlocks.filter { _ in random.next() % 5 == 0 })
      let spared = ReadPreference.spared(
        layout: layout, wanted: wanted, costs: costs, barred: barred)
      #expect(barred.isDisjoint(with: spared))
      if spared.isEmpty { continue }
      let left = layout.storedBlocks.filter { !barred.contains($0) && !spared.contains($0) }
      #expect(left.count >= layout.dataBlockCount)
      if !barred.isDisjoint(with: wanted.map(\.index)) { continue }
      func cost(_ step: ReadPlan.Step) -> Double {
        guard case .fetch(let parts) = step else { return .infinity }
        return Dictionary(grouping: parts, by: \.index).reduce(0) { sum, entry in
          let bytes = entry.value.reduce(0) { $0 + $1.range.count }
          return sum + costs[entry.key] * Double((16 << 10) + bytes)
        }
      }
      var plain = ReadPlan(layout: layout, wanted: wanted, avoided: Array(barred))
      var chosen = ReadPlan(
        layout: layout, wanted: wanted, avoided: Array(barred), spared: spared)
      #expect(cost(chosen.next()) < cost(plain.next()))
    }
  }
}
