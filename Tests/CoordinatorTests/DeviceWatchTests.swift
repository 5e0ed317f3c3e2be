import Cluster
import Messages
import Ring
import TestSupport
import Testing

@testable import Coordinator

@Suite("Which devices are slow")
struct DeviceWatchTests {
  /// Devices that answer in about so many milliseconds each, a hello a second.
  private struct Scene {
    var watch = DeviceWatch()
    var now = Duration.zero
    var loads: [DeviceID: DeviceLoad] = [:]
    var random: SeededGenerator
    var turns: [(DeviceID, isDegraded: Bool, at: Duration)] = []

    init(_ seed: Seed) { random = seed.generator }

    /// - Parameter milliseconds: by device; nil: it was asked nothing.
    mutating func run(
      _ seconds: Int, tier: (DeviceID) -> String = { _ in "ssd" }, _ milliseconds: [Int?]
    ) {
      for _ in 0..<seconds {
        now += .seconds(1)
        for (index, time) in milliseconds.enumerated() {
          let id = DeviceID(UInt64(index + 1))
          var load = loads[id] ?? DeviceLoad()
          if let time {
            let count = UInt64.random(in: 2...9, using: &random)
            let spread = UInt64.random(in: 70...130, using: &random)
            load.writes.count += count
            load.writes.microseconds += count * UInt64(time) * 10 * spread
          }
          loads[id] = load
          watch.note(load, of: id, tier: tier(id), at: now)
        }
        let changed = watch.judge(at: now)
        turns += changed.degraded.map { ($0, true, now) }
        turns += changed.recovered.map { ($0, false, now) }
      }
    }
  }

  @Test(
    "one that is twenty times slower is found in seconds, and is well again a minute after it is",
    arguments: Seed.several)
  func found(seed: Seed) {
    var scene = Scene(seed)
    scene.run(30, [5, 5, 5, 5, 5])
    #expect(scene.turns.isEmpty)
    scene.run(60, [5, 5, 100, 5, 5])
    #expect(scene.turns.map(\.0) == [DeviceID(3)] && scene.turns[0].at <= .seconds(65))
    scene.run(130, [5, 5, 6, 5, 5])
    #expect(scene.turns.count == 2 && scene.watch.degraded.isEmpty)
    #expect(scene.turns[1].at >= .seconds(150))
  }

  @Test(
    "nothing is degraded where all are slow, where there is nothing to compare with, or below the floor",
    arguments: Seed.several)
  func none(seed: Seed) {
    for times in [[400, 500, 400, 600], [5, 500], [5, 500, nil, nil], [0, 0, 8, 0, 0]] as [[Int?]] {
      var scene = Scene(seed)
      scene.run(120, times)
      #expect(scene.turns.isEmpty, "\(times)")
    }
    // Disks beside solid state, each like its own kind.
    var scene = Scene(seed)
    scene.run(120, tier: { $0.raw <= 4 ? "ssd" : "hdd" }, [1, 1, 1, 1, 40, 40, 40, 40])
    #expect(scene.turns.isEmpty)
  }

  @Test("one that flaps is set aside for longer and longer", arguments: Seed.several)
  func flapping(seed: Seed) {
    var scene = Scene(seed)
    scene.run(30, [5, 5, 5, 5])
    for _ in 0..<60 {
      scene.run(40, [5, 5, 5, 300])
      scene.run(80, [5, 5, 5, 5])
    }
    let turns = scene.turns.count
    #expect(turns >= 1 && turns <= 12, "\(scene.turns)")
  }

  @Test(
    "one that is asked for nothing is tried again after a while, and a restart of its node says nothing",
    arguments: Seed.several)
  func idle(seed: Seed) {
    var scene = Scene(seed)
    scene.run(60, [5, 5, 5, 300])
    #expect(scene.watch.degraded == [DeviceID(4)])
    scene.run(100, [5, 5, 5, nil])
    #expect(scene.watch.degraded.isEmpty)
    scene.loads[DeviceID(1)] = DeviceLoad()
    scene.run(60, [5, 5, 5, 5])
    #expect(scene.watch.degraded.isEmpty)
  }
}
