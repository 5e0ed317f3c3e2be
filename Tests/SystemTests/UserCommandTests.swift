import Foundation
import TestSupport
import Testing

@Suite("Users and gateways from the command line", .enabled(if: cairnPath != nil))
struct UserCommandTests {
  private static let policy =
    #"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#

  private func keys(_ cluster: RealCluster) throws -> [String] {
    let shown = try cluster.succeed("admin", "user", "show", "alice", "--json")
    let object = try JSONSerialization.jsonObject(with: shown.output) as? [String: Any]
    let keys = try #require(object?["accessKeys"] as? [[String: Any]])
    return keys.compactMap { $0["accessKey"] as? String }
  }

  @Test("policies come from files and from standard input, and are shown byte for byte")
  func policies() throws {
    let cluster = try RealCluster(nodes: 1)
    try cluster.succeed("admin", "user", "create", "alice")
    for text in [Self.policy, Self.policy + "\n"] {
      try cluster.succeed(
        "admin", "user", "policy", "set", "alice", "own", "-", input: Data(text.utf8))
      #expect(try cluster.succeed("admin", "user", "policy", "show", "alice", "own").text == text)
    }
    for (words, input, says) in [
      (["alice", "no name", "-"], Self.policy, "letters, digits"),
      (["alice", "own", "-"], "{}", "standard input"),
      (["nobody", "own", "-"], Self.policy, "nobody"),
    ] {
      let finished = try cluster.run(
        ["admin", "user", "policy", "set"] + words, input: Data(input.utf8))
      let status: Int32 = words[1] == "no name" ? 2 : 1
      #expect(finished.status == status && finished.errorLines.count == 1, "\(finished.error)")
      #expect(finished.error.contains(says), "\(finished.error)")
      // Only one of them is about a user.
      #expect(finished.error.contains("alice") == false, "\(finished.error)")
    }
  }

  @Test("a user with as many keys as may be can change over, and is told when not any more")
  func rotation() throws {
    let cluster = try RealCluster(nodes: 1)
    try cluster.succeed("admin", "user", "create", "alice")
    for _ in 0..<8 { try cluster.succeed("admin", "user", "key", "create", "alice") }
    let more = try cluster.run(["admin", "user", "key", "create", "alice"])
    #expect(more.status == 1 && more.error.contains("8 access keys"), "\(more.error)")
    for key in try keys(cluster) { try cluster.succeed("admin", "user", "key", "rotate", key) }
    let all = try keys(cluster)
    #expect(all.count == 16)
    let last = try cluster.run(["admin", "user", "key", "rotate", all[8]])
    #expect(last.status == 1 && last.error.contains("16 access keys"), "\(last.error)")
    #expect(last.error.contains("alice") && !last.error.contains(all[8]), "\(last.error)")
    try cluster.succeed("admin", "user", "key", "delete", all[0])
    try cluster.succeed("admin", "user", "key", "rotate", all[8])
  }

  @Test("a gateway refuses keys that everybody can read, and half a certificate with its line")
  func gateway() throws {
    let cluster = try RealCluster(nodes: 1)
    let folder = cluster.directory + "/gateway-1"
    let good = try String(contentsOfFile: folder + "/config.toml", encoding: .utf8)
    func refusal(_ text: String) throws -> String {
      let path = folder + "/other.toml"
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      let finished = try cluster.run(["gateway", "--config", path])
      #expect(finished.status == 1 && finished.errorLines.count == 1, "\(finished.error)")
      return finished.error
    }
    for (key, other) in [("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")] {
      let said = try refusal(good + "\(key) = \"file.pem\"\n")
      let line = good.split(separator: "\n", omittingEmptySubsequences: false).count
      #expect(said.contains(other) && said.hasSuffix("other.toml:\(line)\n"), "\(said)")
    }
    try FileManager.default.setAttributes(
      [.posixPermissions: 0o644], ofItemAtPath: folder + "/access-keys")
    #expect(
      try refusal(good).contains(
        "everybody on this machine can get at the access keys: 'chmod 600'"))
    // A certificate's key too, and the cluster's.
    try FileManager.default.setAttributes(
      [.posixPermissions: 0o600], ofItemAtPath: folder + "/access-keys")
    for (name, mode) in [("chain.pem", 0o644), ("key.pem", 0o644)] {
      try "nothing".write(toFile: folder + "/" + name, atomically: true, encoding: .utf8)
      try FileManager.default.setAttributes(
        [.posixPermissions: mode], ofItemAtPath: folder + "/" + name)
    }
    let pair = good + "tls_certificate = \"chain.pem\"\ntls_key = \"key.pem\"\n"
    #expect(try refusal(pair).contains("everybody on this machine can get at its key: 'chmod 600'"))
    try FileManager.default.setAttributes(
      [.posixPermissions: 0o640], ofItemAtPath: folder + "/key.pem")
    #expect(try !refusal(pair).contains("chmod"))
    try FileManager.default.setAttributes(
      [.posixPermissions: 0o604], ofItemAtPath: cluster.directory + "/cluster.key")
    #expect(try refusal(good).contains("everybody on this machine can get at the cluster key"))
  }
}
