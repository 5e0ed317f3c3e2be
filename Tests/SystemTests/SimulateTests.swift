import Foundation
import TestSupport
import Testing

/// `cairn sim` as a user types it. What it simulates is tested elsewhere.
@Suite(
  "cairn sim", .serialized,
  .enabled(if: cairnPath != nil, "CAIRN_EXECUTABLE names the build (scripts/test)"))
struct SimulateTests {
  private func simulate(_ words: String...) throws -> Finished { try simulate(words) }

  private func simulate(_ words: [String]) throws -> Finished {
    let folder = NSTemporaryDirectory() + "cairn-test-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    return try RunningCairn(["sim"] + words, input: nil, pipe: nil, folder: folder, config: "")
      .wait()
  }

  private func object(_ finished: Finished) throws -> [String: Any] {
    try #require(JSONSerialization.jsonObject(with: finished.output) as? [String: Any])
  }

  @Test("a seed gives the same events in every process, and twice in one")
  func replay() throws {
    let first = try simulate("--seed", "7", "--seconds", "2", "--json")
    #expect(first.status == 0, "\(first.text)")
    let second = try simulate("--seed", "7", "--seconds", "2", "--json", "--twice")
    #expect(second.status == 0, "\(second.text)")
    let hash = try object(first)["eventHash"] as? String
    #expect(hash?.count == 16)
    #expect(try object(second)["eventHash"] as? String == hash)
    for key in ["seeds", "operations", "faults", "simulatedSeconds"] {
      #expect(try object(first)[key] is NSNumber, "\(key)")
    }
    let other = try simulate("--seed", "8", "--seconds", "2", "--json")
    #expect(try object(other)["eventHash"] as? String != hash)
  }

  @Test("several seeds side by side give what they give one after the other")
  func batches() throws {
    // To the last seed, for this is not about what they find.
    let words = ["--seeds", "1..4", "--seconds", "1", "--json", "--keep-going"]
    let alone = try object(try simulate(words))
    let together = try object(try simulate(words + ["--jobs", "3"]))
    for key in ["eventHash", "seeds", "operations", "faults"] {
      #expect("\(alone[key]!)" == "\(together[key]!)", "\(key)")
    }
    #expect(together["seeds"] as? Int == 4)
  }

  @Test("a seed that takes too long fails with its name, and what replays it")
  func timeLimit() throws {
    let finished = try simulate("--seed", "5", "--seconds", "3000", "--time-limit", "100ms")
    #expect(finished.status == 1)
    #expect(finished.text.contains("FAILED: real time"))
    #expect(finished.text.contains("cairn sim --seed 5 --seconds 3000"))
    #expect(finished.text.split(separator: "\n").count <= 45)
  }

  @Test(
    "wrong usage ends with 2 and one line",
    arguments: [
      [], ["--seed", "x"], ["--seeds", "5"], ["--seeds", "5..4"], ["--for", "soon"],
      ["--seed", "1", "--seeds", "1..2"], ["--seed", "1", "--for", "5s"],
      ["--seeds", "1..2", "--trace"], ["--seeds", "1..2", "--only-faults", "1"],
      ["--seed", "1", "--only-operations", "4-2"], ["--seed", "1", "--jobs", "0"],
    ])
  func usage(words: [String]) throws {
    let folder = NSTemporaryDirectory() + "cairn-test-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let finished = try RunningCairn(
      ["sim"] + words, input: nil, pipe: nil, folder: folder, config: ""
    ).wait()
    #expect(finished.status == 2)
    #expect(finished.errorLines.count == 1)
  }
}
