import Coding
import Foundation
import HTTP
import Messages
import Ring
import TestSupport
import Testing
import Wire

@testable import Coordinator

/// A server that speaks the transit engine's documented API over TLS, with AES-256-GCM of its own: Tests/Modules.
@Suite(
  "master keys in a key service", .serialized,
  .enabled(if: pythonHasCryptography, "scripts/install-deps installs python3-cryptography"))
struct TransitKeysTests {
  private struct Scene: Sendable {
    let folder: String
    let driver: any Driver
    let port: UInt16
    var tokenFile: String { folder + "/token" }

    func settings(
      _ key: String = "m1", authorities: String = "ca", namespace: String? = nil,
      mount: String = "transit"
    ) throws -> TransitSettings {
      let bytes = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(authorities).pem"))
      return TransitSettings(
        endpoint: HTTPEndpoint(
          address: SocketAddress(host: "127.0.0.1", port: port), isSecure: true),
        trust: try TLSTrust(authorities: Array(bytes), driver: driver), tokenFile: tokenFile,
        namespace: namespace, mount: mount, key: key)
    }
    func keys(_ key: String = "m1") throws -> TransitKeys {
      TransitKeys(try settings(key), on: driver)
    }
    func write(_ text: String, to name: String, mode: Int = 0o600) throws {
      let path = folder + "/" + name
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
    }
    func fault(_ name: String?) throws {
      if let name {
        try write(name, to: "fault")
      } else {
        try? FileManager.default.removeItem(atPath: folder + "/fault")
      }
    }
    var requests: [String] {
      ((try? String(contentsOfFile: folder + "/requests", encoding: .utf8)) ?? "")
        .split(separator: "\n").map(String.init)
    }
    /// As an operator would with the service's own tool.
    func operate(_ path: String) async throws {
      let settings = try settings()
      let client = HTTPClient(
        driver: driver, endpoint: settings.endpoint, trust: settings.trust)
      let answer = try await client.send(
        HTTPRequest(
          "POST", path, fields: HTTPFields([.init("X-Vault-Token", "s.cairn")]),
          isRepeatable: false), deadline: .seconds(10))
      await client.close()
      try #require(answer.status == 200)
    }
  }

  private func with(_ body: @escaping @Sendable (Scene) async throws -> Void) async throws {
    try await withTemporaryFolder { folder in
      try await onLoop { driver in
        await Result {
          try await RealEtcdTests.makeCertificates(in: folder, driver)
          let server = Process()
          server.executableURL = URL(fileURLWithPath: "/usr/bin/env")
          let modules =
            URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().path + "/Modules"
          server.arguments = ["python3", modules + "/transit-server.py", folder]
          try server.run()
          defer {
            // Started from a loop's thread, it has that one's signals blocked.
            kill(server.processIdentifier, SIGKILL)
            server.waitUntilExit()
          }
          var port: UInt16?
          while port == nil {
            try #require(server.isRunning)
            port = (try? String(contentsOfFile: folder + "/port", encoding: .utf8)).flatMap(
              UInt16.init)
            await driver.sleep(.milliseconds(20))
          }
          let scene = Scene(folder: folder, driver: driver, port: port!)
          try scene.write("s.cairn\n", to: "token")
          try await scene.operate("/v1/transit/keys/m1")
          try await body(scene)
        }
      }.get()
    }
  }

  private func reason<Value>(_ body: () async throws -> Value) async -> String {
    do {
      _ = try await body()
      return "nothing was refused"
    } catch {
      return "\(error)"
    }
  }

  @Test(
    "each key unwraps its own, with its binding, also after the service has rotated it",
    arguments: Seed.several)
  func wraps(seed: Seed) async throws {
    try await with { scene in
      var random = seed.generator
      let keys = try scene.keys()
      let secret = random.bytes(32)
      let wrap = try await keys.wrap(secret, binding: [1, 2, 3])
      #expect(wrap.masterKey == "m1" && wrap.bytes.starts(with: Array("vault:v1:".utf8)))
      #expect(try await keys.unwrap(wrap, binding: [1, 2, 3]) == secret)
      let unbound = try await keys.wrap(secret, binding: [])
      #expect(try await keys.unwrap(unbound, binding: []) == secret)
      await #expect(throws: KeyProviderError.notAuthentic("m1")) {
        try await keys.unwrap(wrap, binding: [1, 2])
      }
      try await scene.operate("/v1/transit/keys/m1/rotate")
      let newer = try await keys.wrap(secret, binding: [1])
      #expect(newer.bytes.starts(with: Array("vault:v2:".utf8)))
      #expect(try await keys.unwrap(newer, binding: [1]) == secret)
      #expect(try await keys.unwrap(wrap, binding: [1, 2, 3]) == secret)
      #expect(try await keys.isCurrent(newer, binding: [1]) == false)
      try await scene.operate("/v1/transit/keys/m2")
      let second = try scene.keys("m2")
      let other = try await second.wrap(secret, binding: [])
      #expect(try await keys.unwrap(other, binding: []) == secret)
      #expect(try await second.unwrap(wrap, binding: [1, 2, 3]) == secret)
      var renamed = wrap
      renamed.masterKey = "m2"
      await #expect(throws: KeyProviderError.notAuthentic("m2")) {
        try await keys.unwrap(renamed, binding: [1, 2, 3])
      }
      renamed.masterKey = "m3"
      await #expect(throws: KeyProviderError.noSuchKey("m3")) {
        try await keys.unwrap(renamed, binding: [1, 2, 3])
      }
      let team = TransitKeys(try scene.settings(namespace: "team/one"), on: scene.driver)
      #expect(try await team.unwrap(wrap, binding: [1, 2, 3]) == secret)
      for _ in 0..<20 {
        var changed = wrap
        changed.bytes[Int(random.next() % UInt64(wrap.bytes.count))] ^=
          1 << UInt8(random.next() % 8)
        guard changed != wrap else { continue }
        let told = await reason { try await keys.unwrap(changed, binding: [1, 2, 3]) }
        #expect(told.contains("is not the one that wrapped this"), "\(changed): \(told)")
      }
    }
  }

  @Test("names and bytes of the metadata never become another request", arguments: Seed.several)
  func hostileWraps(seed: Seed) async throws {
    try await with { scene in
      var random = seed.generator
      let keys = try scene.keys()
      let wrap = try await keys.wrap([1, 2, 3], binding: [])
      let before = scene.requests.count
      for name in [
        "", "..", ".", "../../sys/seal", "m1/../m1", "m1?x", "m1 HTTP/1.1\r\nX: y", "m1\0", "é",
        "-m1", "m1.", String(repeating: "m", count: 65),
      ] {
        await #expect(throws: KeyProviderError.noSuchKey(name)) {
          try await keys.unwrap(MasterWrap(masterKey: name, bytes: wrap.bytes), binding: [])
        }
      }
      for bytes in [
        [], Array("vault:".utf8), [0xFF], random.bytes(60), Array("vault:v1:\n".utf8),
        Array("vault:v1:".utf8) + [UInt8](repeating: 65, count: 5000),
      ] {
        await #expect(throws: KeyProviderError.notAuthentic("m1")) {
          try await keys.unwrap(MasterWrap(masterKey: "m1", bytes: bytes), binding: [])
        }
      }
      #expect(scene.requests.count == before)
    }
  }

  @Test(
    "failures are asked again a few times, refusals never; each is one sentence, and no answer traps"
  )
  func faults() async throws {
    try await with { scene in
      let keys = try scene.keys()
      let wrap = try await keys.wrap([1, 2, 3], binding: [9])
      func told(_ fault: String, requests: Int) async throws -> String {
        try scene.fault(fault)
        let before = scene.requests.count
        let told = await reason { try await keys.unwrap(wrap, binding: [9]) }
        #expect(scene.requests.count - before == requests, "\(fault): \(told)")
        #expect(!told.contains("\n") && told.utf8.count < 500, "\(fault): \(told)")
        try scene.fault(nil)
        return told
      }
      for once in ["sealed once", "closed once"] {
        try scene.fault(once)
        #expect(try await keys.unwrap(wrap, binding: [9]) == [1, 2, 3])
      }
      #expect(try await told("sealed", requests: 3).contains("HTTP 503: Vault is sealed"))
      // One more: on a connection that was kept from before.
      #expect(try await told("closed", requests: 4).contains("key service https://127.0.0.1:"))
      #expect(try await told("garbage", requests: 1).contains("no JSON"))
      #expect(try await told("list", requests: 1).contains("no JSON"))
      #expect(try await told("no data", requests: 1).contains("holds no plaintext"))
      #expect(try await told("huge", requests: 1).contains("key service"))
      #expect(try await told("standby", requests: 1).contains("give the active one"))
      #expect(try await told("strange", requests: 1).contains("HTTP 418: a b"))
      try scene.fault("unbound")
      #expect(
        await reason { try await keys.wrap([1, 2, 3], binding: [9]) }
          .contains("passes over associated_data"))
      var settings = try scene.settings()
      settings.deadline = .milliseconds(300)
      let hasty = TransitKeys(settings, on: scene.driver)
      try scene.fault("slow")
      let start = scene.driver.now
      #expect(await reason { try await hasty.unwrap(wrap, binding: [9]) }.contains("in time"))
      #expect(scene.driver.now - start < .seconds(5))
      try scene.fault(nil)

      // What is wrapped wrongly is never believed.
      let vault = KeyVault(.transit(try scene.settings()), driver: scene.driver)
      try scene.fault("wraps wrongly")
      #expect(
        await reason { try await vault.newDomain("finance") }
          .contains("is not the one that wrapped this"))
      try scene.fault(nil)
      _ = try await vault.newDomain("finance")

      let wrong = TransitKeys(try scene.settings(mount: "other"), on: scene.driver)
      #expect(
        await reason { try await wrong.wrap([1], binding: []) }.contains("mounted at 'other'?"))
      await #expect(throws: KeyProviderError.noSuchKey("none")) {
        try await scene.keys("none").wrap([1], binding: [])
      }
      let stranger = TransitKeys(try scene.settings(authorities: "other"), on: scene.driver)
      #expect(
        await reason { try await stranger.wrap([1], binding: []) }.contains(TLSTrust.errorWords))
      for (text, mode, words) in [
        ("s.other", 0o600, "permission denied"), ("", 0o600, "a token of printable"),
        ("a\r\nX: y", 0o600, "a token of printable"),
        ("s.cairn", 0o644, "everybody on this machine"),
      ] {
        try scene.write(text, to: "token", mode: mode)
        #expect(await reason { try await keys.wrap([1], binding: []) }.contains(words), "\(text)")
      }
      // A token that was renewed needs no restart.
      try scene.write("s.cairn", to: "token", mode: 0o640)
      #expect(try await keys.unwrap(wrap, binding: [9]) == [1, 2, 3])
    }
  }
}
