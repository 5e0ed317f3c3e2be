import Foundation
import TestSupport
import Testing

/// `cairn bench code`, as people and scripts call it.
@Suite(
  "the kernels' benchmark",
  .enabled(if: cairnPath != nil, "CAIRN_EXECUTABLE names the build (scripts/test)"))
struct BenchCodeTests {
  private func bench(_ words: [String]) throws -> Finished {
    let folder = NSTemporaryDirectory() + "cairn-bench-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    return try RunningCairn(
      ["bench", "code"] + words, input: nil, pipe: nil, folder: folder, config: "/nonexistent"
    ).wait()
  }

  private func rows(_ words: String...) throws -> [[String: Any]] {
    let finished = try bench(words + ["--runtime", "1ms", "--json"])
    try #require(finished.status == 0, "\(finished.error)")
    return try finished.text.split(separator: "\n").map {
      try #require(JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
  }

  @Test("every row can be measured, at a size of the caller's, and says what it did")
  func everything() throws {
    let names = try bench(["--list"]).text.split(separator: "\n").map(String.init)
    let rows = try rows("--size", "5000")
    #expect(rows.map { $0["name"] as? String } == names)
    for row in rows {
      #expect(row["unitBytes"] as? Int == 5000)
      #expect((row["samples"] as? Int ?? 0) >= 3)
      for key in ["gigabytesPerSecond", "cpuSecondsPerGigabyte"] {
        let spread = try #require(row[key] as? [String: Double])
        let (low, median, high) = (spread["low"]!, spread["median"]!, spread["high"]!)
        #expect(0 < low && low <= median && median <= high, "\(row)")
      }
      #expect((row["check"] as? String).flatMap(UInt64.init) != nil)
    }
  }

  @Test("every kernel of SHA-256 gives the same")
  func kernels() throws {
    let checks = try rows("--only", "sha256").map { $0["check"] as? String }
    #expect(checks.count >= 2 && Set(checks).count == 1)
  }

  @Test("the table has a line for each row")
  func table() throws {
    let finished = try bench(["--only", "crc32c,rs/4+2", "--runtime", "1ms"])
    #expect(finished.status == 0)
    #expect(finished.text.split(separator: "\n").count == 1 + 2 + 4)
  }

  @Test(
    "wrong usage is one line and status 2",
    arguments: [
      ["--only", "sha"], ["--only", "nothing"], ["--size", "1"], ["--size", "1TiB"],
      ["--runtime", "0"], ["--runtime", "x"], ["more"],
    ])
  func refusals(words: [String]) throws {
    let finished = try bench(words)
    #expect(finished.status == 2)
    #expect(finished.errorLines.count == 1 && finished.output.isEmpty)
  }
}
