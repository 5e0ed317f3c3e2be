import Coding
import Ring
import Simulation
import TestSupport
import Testing

@testable import Gateway

@Suite("MD5s of bodies that come in together")
struct DigestLanesTests {
  @Test(
    "each is that of its bytes, whatever memory they came in and whoever else is under way",
    arguments: Seed.several)
  func together(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let process = world.process("gateway")
      let lanes = DigestLanes(byteLimit: 1 << 20)
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in 0..<20 {
          group.addTask {
            var random = Seed(seed.value &+ UInt64(number)).generator
            for _ in 0..<5 {
              try await Self.body(lanes, process, &random)
            }
          }
        }
        try await group.waitForAll()
      }
      #expect(lanes.isIdle)
    }
  }

  /// Reads into memory as writers of objects do, or into the same again and again; some are given up.
  private static func body(
    _ lanes: DigestLanes, _ process: any Driver, _ random: inout SeededGenerator
  ) async throws {
    let digest = BodyDigest(lanes)
    let whole = random.bytes(Int.random(in: 0...300_000, using: &random))
    let room = Int.random(in: 1...100_000, using: &random)
    let reuses = Bool.random(using: &random)
    var memory = process.buffers.slice(room)
    var filled = 0
    var rest = whole[...]
    while !rest.isEmpty {
      if filled == room {
        if !reuses && Bool.random(using: &random) { memory = process.buffers.slice(room) }
        filled = 0
      }
      let target = memory[filled..<room]
      await digest.prepare(for: target)
      let count = min(
        Int.random(in: 1...max(1, room / 2), using: &random), target.count, rest.count)
      target.withMutableBytes { $0.copyBytes(from: rest.prefix(count)) }
      rest = rest.dropFirst(count)
      let isWhole = count == target.count
      await digest.update(target[0..<count])
      // As the handler of a small body, which reads to the front again whatever has come.
      filled = reuses && !isWhole && Bool.random(using: &random) ? 0 : filled + count
      if Int.random(in: 0..<4, using: &random) == 0 {
        _ = await process.sleep(.milliseconds(Int.random(in: 0...3, using: &random)))
      }
      if Int.random(in: 0..<200, using: &random) == 0 { return }
    }
    #expect(await digest.finish() == RunningDigest.of(whole, .md5))
  }
}
