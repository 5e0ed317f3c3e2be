import Glibc
import Ring
import Simulation
import TestSupport
import Testing

@testable import DataPath

@Suite struct DirectFileSinkTests {
  @Test("parts of any size in any order make the file, to the byte", arguments: Seed.several)
  func anyOrder(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let driver = world.process("client")
      for round in 0..<6 {
        let bytes = noise(round == 0 ? 3 << 20 : Int(random.next() % (5 << 20)) + 1, &random)
        let first = random.next() % 1_000_000
        let path = "/file\(round)"
        let file = try await DirectFileSink.open(
          path, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600, on: driver)
        let written = Outcome<Int>()
        written.value = 0
        let sink = DirectFileSink(file: file, range: first..<first + UInt64(bytes.count)) {
          written.value! += $0
        }
        var cuts = [0, bytes.count]
        for _ in 0..<Int(random.next() % 20) {
          cuts.append(Int(random.next() % UInt64(bytes.count)))
        }
        cuts = Set(cuts).sorted()
        let parts = zip(cuts, cuts.dropFirst()).shuffled(using: &random)
        await withTaskGroup(of: DataPathError?.self) { group in
          for (start, end) in parts {
            let middle = start + Int(random.next() % UInt64(end - start + 1))
            group.addTask {
              do throws(DataPathError) {
                try await sink.write(
                  [
                    Slice(copying: Array(bytes[start..<middle])),
                    Slice(copying: Array(bytes[middle..<end])),
                  ], at: first + UInt64(start))
                return nil
              } catch {
                return error
              }
            }
          }
          for await error in group { #expect(error == nil) }
        }
        try await sink.finish()
        await file.close()
        #expect(try await driver.readFile(path) == bytes)
        #expect(written.value == bytes.count)
      }
    }
  }

  @Test("bytes outside the range are refused, missing ones are told at the end")
  func misuse() throws {
    try simulate(7) { world in
      let driver = world.process("client")
      let file = try await DirectFileSink.open("/f", O_WRONLY | O_CREAT, mode: 0o600, on: driver)
      let sink = DirectFileSink(file: file, range: 10..<20) { _ in }
      for offset in [UInt64(0), 9, 19, 21, .max] {
        await #expect(throws: DataPathError.sink("bytes outside the range")) {
          try await sink.write([Slice(copying: [1, 2])], at: offset)
        }
      }
      try await sink.write([Slice(copying: [1, 2])], at: 10)
      await #expect(throws: DataPathError.sink("bytes are missing")) { try await sink.finish() }
      await file.close()
    }
  }
}
