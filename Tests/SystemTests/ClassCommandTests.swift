import Foundation
import TestSupport
import Testing

/// Storage classes as an operator and a user meet them, against a real cluster.
@Suite(
  "storage classes on the command line", .serialized,
  .enabled(if: cairnPath != nil, "CAIRN_EXECUTABLE names the build (scripts/test)"))
struct ClassCommandTests {
  private func objects(_ cluster: RealCluster, _ words: String...) throws -> [[String: Any]] {
    let finished = try cluster.run(words)
    try #require(finished.status == 0, "\(words): \(finished.error)")
    return try finished.text.split(separator: "\n").map {
      try #require(JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
  }

  @Test(
    "classes are listed, defined, used by buckets, shown and counted; copies between them are written anew"
  )
  func classes() throws {
    let cluster = try RealCluster(nodes: 3)
    try cluster.succeed(
      "admin", "class", "define", "tight", "--codec", "zstd", "--level", "12", "--group", "256KiB")
    let listed = try objects(cluster, "admin", "class", "list", "--json")
    #expect(listed.map { $0["class"] as? String } == ["hot", "warm", "cold", "tight"])
    #expect(listed.map { $0["default"] as? Bool } == [false, true, false, false])
    #expect(listed[3]["groupBytes"] as? Int == 256 << 10)
    try cluster.succeed("mb", "plain")
    for name in ["hot", "cold", "tight"] {
      try cluster.succeed("mb", "--class", name, "in-\(name)")
    }
    #expect(
      try objects(cluster, "ls", "--json").map { $0["class"] as? String }
        == ["cold", "hot", "tight", "warm"])

    let text = Data(
      (0..<60_000).map { "line \($0 * 7919 % 10_007) of a text that repeats itself\n" }.joined()
        .utf8
    )
    try cluster.succeed("put", "-", "cairn://plain/text", input: text)
    let stat = try objects(cluster, "stat", "--json", "cairn://plain/text")[0]
    #expect(stat["class"] as? String == "warm")
    #expect(stat["compressedBytes"] as? Int ?? .max < text.count / 3)
    for name in ["hot", "cold", "tight"] {
      try cluster.succeed("cp", "cairn://plain/text", "cairn://in-\(name)/text")
      #expect(try cluster.succeed("cat", "cairn://in-\(name)/text").output == text)
      #expect(
        try cluster.succeed("cat", "--range", "1000000-1004095", "cairn://in-\(name)/text").output
          == text[1_000_000...1_004_095])
    }
    try cluster.succeed("mv", "cairn://in-hot/text", "cairn://in-cold/moved")
    #expect(try cluster.run(["stat", "cairn://in-hot/text"]).status == 1)
    #expect(try cluster.succeed("cat", "cairn://in-cold/moved").output == text)
    let usage = try objects(cluster, "df", "--json")[0]
    let classes = try #require(usage["classes"] as? [[String: Any]])
    let cold = try #require(classes.first { $0["class"] as? String == "cold" })
    #expect(cold["objects"] as? Int == 2)
    #expect(cold["logicalBytes"] as? Int == 2 * text.count)
    // Stored anew, but no more of it than there.
    let warm = try #require(classes.first { $0["class"] as? String == "warm" })
    let unique = try #require(cold["uniqueBytes"] as? Int)
    #expect(unique < text.count / 2 && warm["uniqueBytes"] as? Int == unique)
    #expect(cold["compressedBytes"] as? Int ?? .max < text.count / 3)
    #expect(try objects(cluster, "admin", "fsck", "--json").isEmpty == false)
    try cluster.succeed("admin", "fsck")
  }

  @Test("what cannot be is refused with one line that says what to do")
  func refusals() throws {
    let cluster = try RealCluster(nodes: 3)
    try cluster.succeed("mb", "plain")
    try cluster.succeed("put", "-", "cairn://plain/k", input: Data("x".utf8))
    let cases: [([String], Int32, String)] = [
      (["mb", "--class", "none", "other"], 1, "no such storage class: none"),
      (["admin", "class", "set", "plain", "cold"], 1, "bucket is not empty"),
      (["admin", "class", "set", "nowhere", "cold"], 1, "no such bucket: nowhere"),
      (["admin", "class", "define", "x"], 2, "--codec"),
      (["admin", "class", "define", "x", "--codec", "gzip"], 2, "--codec takes"),
      (["admin", "class", "define", "X", "--codec", "zstd"], 2, "a class's name"),
      (["admin", "class", "define", "x", "--codec", "zstd", "--level", "40"], 2, "has levels"),
      (["admin", "class", "define", "x", "--codec", "xz", "--group", "2MiB"], 2, "4KiB to 1MiB"),
      (
        ["admin", "class", "define", "x", "--codec", "lz4", "--scheme", "8+3"], 1, "add nodes first"
      ),
    ]
    for (words, status, text) in cases {
      let finished = try cluster.run(words)
      #expect(finished.status == status, "\(words): \(finished.error)")
      #expect(finished.error.contains(text), "\(words): \(finished.error)")
      #expect(finished.error.split(separator: "\n").count == 1, "\(finished.error)")
    }
    try cluster.succeed("rm", "cairn://plain/k")
    try cluster.succeed("admin", "class", "set", "plain", "cold")
  }
}
