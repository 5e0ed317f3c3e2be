import Ring
import Simulation
import TestSupport
import Testing

@Suite struct InjectionTests {
  /// What `count` passes of each point gave, by point.
  private static func pass(
    _ seed: UInt64, _ points: [InjectionPoint], rate: Int, count: Int = 1000
  ) throws -> (met: [[Bool]], hits: [Int], hash: UInt64) {
    try SimulatedWorld.run(seed: seed) { world in
      let process = world.process("p")
      for point in points { world.injections[point] = rate }
      var met = points.map { _ in [Bool]() }
      for _ in 0..<count {
        for (index, point) in points.enumerated() { met[index].append(process.meets(point)) }
      }
      return (met, points.map { world.injections.hits(of: $0) }, world.eventHash)
    }
  }

  @Test(
    "a point is met as often as its rate says, and each time is counted", arguments: Seed.several)
  func rates(seed: Seed) throws {
    for (rate, range) in [(0, 0...0), (100_000, 50...160), (1_000_000, 1000...1000)] {
      let (met, hits, _) = try Self.pass(seed.value, [.stripeShort], rate: rate)
      let count = met[0].count { $0 }
      #expect(range.contains(count))
      #expect(hits == [count])
    }
  }

  @Test("points do not disturb each other, nor what a process draws", arguments: Seed.several)
  func independence(seed: Seed) throws {
    let alone = try Self.pass(seed.value, [.hedgeEarly], rate: 200_000)
    let beside = try Self.pass(
      seed.value, [.stripeShort, .hedgeEarly, .linkFullEarly], rate: 200_000)
    #expect(alone.met[0] == beside.met[1])
    #expect(beside.met[0] != beside.met[1] && beside.met[1] != beside.met[2])
    #expect(alone.hash != beside.hash)
    let drawn = try [0, 500_000].map { rate in
      try SimulatedWorld.run(seed: seed.value) { world in
        world.injections[.commitOfOne] = rate
        let process = world.process("p")
        return (0..<20).map { _ in process.meets(.commitOfOne) ? process.random() : process.random()
        }
      }
    }
    #expect(drawn[0] == drawn[1])
  }

  @Test("two processes and two incarnations meet a point at other times, a dead one never")
  func processes() throws {
    try SimulatedWorld.run(seed: 1) { world in
      world.injections[.receiveSmall] = 500_000
      let first = world.process("p")
      let other = world.process("q")
      func passes(_ process: SimulatedProcess) -> [Bool] {
        (0..<64).map { _ in process.meets(.receiveSmall) }
      }
      let ofFirst = passes(first)
      let next = first.restart()
      #expect(passes(other) != ofFirst)
      #expect(passes(next) != ofFirst)
      #expect(!passes(first).contains(true))
      world.injections.stop()
      #expect(!passes(next).contains(true))
      #expect(world.injections.met.map(\.point) == [.receiveSmall])
    }
  }
}
