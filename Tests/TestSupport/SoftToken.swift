import Foundation

/// A PKCS#11 token of SoftHSM's, as `scripts/install-deps` installs it, in files below a folder.
package struct SoftToken: Sendable {
  package struct Failure: Error, CustomStringConvertible {
    package let description: String
  }
  package static let module = "/usr/lib/softhsm/libsofthsm2.so"
  package static let isInstalled = ["/usr/bin/softhsm2-util", "/usr/bin/pkcs11-tool", module]
    .allSatisfy { FileManager.default.fileExists(atPath: $0) }

  package let folder: String
  package let label: String
  /// What `SOFTHSM2_CONF` is to name.
  package var configuration: String { folder + "/softhsm.conf" }
  package var tokens: String { folder + "/tokens" }
  package static let pin = "1234"

  package init(in folder: String, label: String = "cairn") throws {
    self.folder = folder
    self.label = label
    try FileManager.default.createDirectory(
      atPath: tokens, withIntermediateDirectories: true)
    try Data(
      "directories.tokendir = \(tokens)\nobjectstore.backend = file\nlog.level = ERROR\n".utf8
    ).write(to: URL(fileURLWithPath: configuration))
    try run(
      "/usr/bin/softhsm2-util", "--init-token", "--free", "--label", label, "--pin", Self.pin,
      "--so-pin", "5678")
  }

  package func makeKey(_ name: String, byteCount: Int = 32) throws {
    try tool("--keygen", "--key-type", "AES:\(byteCount)", "--label", name)
  }

  /// A key that is known outside, too.
  package func importKey(_ name: String, _ secret: [UInt8]) throws {
    let path = folder + "/imported"
    try Data(secret).write(to: URL(fileURLWithPath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    try run(
      "/usr/bin/softhsm2-util", "--import", path, "--aes", "--token", label, "--label", name,
      "--id", "A1", "--pin", Self.pin)
  }

  package func deleteKey(_ name: String) throws {
    try tool("--delete-object", "--type", "secrkey", "--label", name)
  }

  private func tool(_ words: String...) throws {
    try run(
      [
        "/usr/bin/pkcs11-tool", "--module", Self.module, "--token-label", label, "--login", "--pin",
        Self.pin,
      ] + words)
  }

  private func run(_ words: String...) throws { try run(words) }

  private func run(_ words: [String]) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: words[0])
    process.arguments = Array(words.dropFirst())
    process.environment = ProcessInfo.processInfo.environment.merging([
      "SOFTHSM2_CONF": configuration
    ]) { $1 }
    let output = Pipe()
    process.standardOutput = output
    process.standardError = output
    try process.run()
    let text = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw Failure(description: "\(words): \(String(decoding: text, as: UTF8.self))")
    }
  }
}
