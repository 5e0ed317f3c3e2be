import Coding
import Foundation
import Messages
import Ring
import TestSupport
import Testing

@testable import Coordinator

/// The SoftHSM that is installed, alone and with faults between it and us. A module is the whole process's: one test at a time.
@Suite(
  "master keys in a PKCS#11 token", .serialized,
  .enabled(if: SoftToken.isInstalled, "scripts/install-deps installs SoftHSM and pkcs11-tool"))
struct TokenKeysTests {
  private struct Scene: Sendable {
    let token: SoftToken
    let folder: String
    let modules = TokenModules()
    var pinFile: String { folder + "/pin" }

    func settings(
      _ key: String = "m1", module: String = SoftToken.module, label: String = "cairn",
      serial: String? = nil
    ) -> TokenSettings {
      TokenSettings(
        module: module, token: TokenName(label: label, serial: serial), pinFile: pinFile, key: key)
    }
    func writePIN(_ text: String, mode: Int = 0o600) throws {
      try Data(text.utf8).write(to: URL(fileURLWithPath: pinFile))
      try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: pinFile)
    }
  }

  private func with(_ body: @escaping @Sendable (Scene, any Driver) async throws -> Void)
    async throws
  {
    try await withTemporaryFolder { folder in
      let scene = Scene(token: try SoftToken(in: folder), folder: folder)
      try scene.writePIN(SoftToken.pin + "\n")
      try scene.token.makeKey("m1")
      unsetenv("CAIRN_FAULT")
      setenv("SOFTHSM2_CONF", scene.token.configuration, 1)
      try await onLoop { driver in
        await Result { try await body(scene, driver) }
      }.get()
    }
  }

  /// The module with faults, built in the scene's folder.
  private func faulty(_ scene: Scene) throws -> String {
    let source =
      URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path
      + "/Modules/faulty-token.c"
    let built = scene.folder + "/faulty.so"
    let compiler = Process()
    compiler.executableURL = URL(fileURLWithPath: "/usr/bin/cc")
    compiler.arguments = ["-shared", "-fPIC", "-o", built, source]
    try compiler.run()
    compiler.waitUntilExit()
    try #require(compiler.terminationStatus == 0)
    return built
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
    "each key unwraps its own, with its binding; what is tampered with is told",
    arguments: Seed.several)
  func wraps(seed: Seed) async throws {
    try await with { scene, driver in
      var random = seed.generator
      let keys = TokenKeys(scene.settings(), scene.modules, on: driver)
      #expect(try await keys.currentKey() == "m1")
      let secret = random.bytes(32)
      let wrap = try await keys.wrap(secret, binding: [1, 2, 3])
      #expect(wrap.masterKey == "m1" && wrap.bytes.count == 32 + SealedSecret.overhead)
      #expect(try await keys.unwrap(wrap, binding: [1, 2, 3]) == secret)
      #expect(try await keys.isCurrent(wrap, binding: [1, 2, 3]))
      let again = try await keys.wrap(secret, binding: [1, 2, 3])
      #expect(again.bytes.prefix(12) != wrap.bytes.prefix(12))
      let unbound = try await keys.wrap(secret, binding: [])
      #expect(try await keys.unwrap(unbound, binding: []) == secret)

      // A second key, made while the session is open.
      try scene.token.makeKey("m2")
      let second = TokenKeys(scene.settings("m2"), scene.modules, on: driver)
      let other = try await second.wrap(secret, binding: [1])
      #expect(other.masterKey == "m2")
      #expect(try await second.unwrap(wrap, binding: [1, 2, 3]) == secret)
      #expect(try await keys.unwrap(other, binding: [1]) == secret)
      #expect(try await second.isCurrent(wrap, binding: [1, 2, 3]) == false)

      await #expect(throws: KeyProviderError.notAuthentic("m1")) {
        try await keys.unwrap(wrap, binding: [1, 2])
      }
      var renamed = wrap
      renamed.masterKey = "m2"
      await #expect(throws: KeyProviderError.notAuthentic("m2")) {
        try await keys.unwrap(renamed, binding: [1, 2, 3])
      }
      for _ in 0..<20 {
        var changed = wrap
        changed.bytes[Int(random.next() % UInt64(changed.bytes.count))] ^=
          1 << UInt8(random.next() % 8)
        await #expect(throws: KeyProviderError.notAuthentic("m1")) {
          try await keys.unwrap(changed, binding: [1, 2, 3])
        }
      }
      for count in [0, 1, 12, 28, 29, 31, 4096] {
        let made = MasterWrap(masterKey: "m1", bytes: random.bytes(count))
        await #expect(throws: KeyProviderError.notAuthentic("m1")) {
          try await keys.unwrap(made, binding: [])
        }
      }
      for name in ["", "m1\0", "m1\n", String(repeating: "x", count: 128), "é", "../m1"] {
        await #expect(throws: KeyProviderError.noSuchKey(name)) {
          try await keys.unwrap(MasterWrap(masterKey: name, bytes: wrap.bytes), binding: [])
        }
      }
      #expect(try await keys.unwrap(wrap, binding: [1, 2, 3]) == secret)
    }
  }

  @Test(
    "a key that is in a file and in the token opens what either wrapped", arguments: Seed.several)
  func sameFormat(seed: Seed) async throws {
    try await with { scene, driver in
      var random = seed.generator
      let (master, secret) = (random.bytes(32), random.bytes(32))
      try scene.token.importKey("both", master)
      try Data(KeyFile.line("both", master).utf8).write(
        to: URL(fileURLWithPath: scene.folder + "/keys"))
      chmod(scene.folder + "/keys", 0o600)
      let file = KeyFile(scene.folder + "/keys", on: driver)
      let token = TokenKeys(scene.settings("both"), scene.modules, on: driver)
      let ofFile = try await file.wrap(secret, binding: [7])
      let ofToken = try await token.wrap(secret, binding: [7])
      #expect(try await token.unwrap(ofFile, binding: [7]) == secret)
      #expect(try await file.unwrap(ofToken, binding: [7]) == secret)
    }
  }

  @Test("what cannot be is refused with one sentence that says what")
  func refusals() async throws {
    try await with { scene, driver in
      func refusal(_ settings: TokenSettings) async -> String {
        let keys = TokenKeys(settings, scene.modules, on: driver)
        let wrapping = await reason { try await keys.wrap([1, 2, 3], binding: []) }
        #expect(!wrapping.contains("\n"))
        return wrapping
      }
      #expect(
        await refusal(scene.settings(module: "/nowhere.so")).contains("/nowhere.so: cannot open"))
      #expect(
        await refusal(scene.settings(module: "/lib/x86_64-linux-gnu/libz.so.1"))
          .contains("is no PKCS#11 module"))
      try scene.token.makeKey("short", byteCount: 16)
      try scene.token.makeKey("twice")
      try scene.token.makeKey("twice")
      #expect(await refusal(scene.settings(label: "other")) == "there is no PKCS#11 token 'other'")
      #expect(
        await refusal(scene.settings(serial: "0"))
          == "there is no PKCS#11 token 'cairn' with serial number '0'")
      #expect(await refusal(scene.settings("none")) == "master key 'none' is not there")
      #expect(await refusal(scene.settings("short")).contains("'short' is not one for AES-256"))
      #expect(await refusal(scene.settings("twice")).contains("two keys called 'twice'"))
      try scene.writePIN("")
      #expect(await refusal(scene.settings()).contains("no PIN in it"))
      try scene.writePIN(SoftToken.pin, mode: 0o604)
      #expect(await refusal(scene.settings()).contains("everybody on this machine"))
      try FileManager.default.removeItem(atPath: scene.pinFile)
      #expect(await refusal(scene.settings()).contains("cannot read the token's PIN"))
      // A user is logged in on a token, not in a session.
      try scene.modules.module(SoftToken.module).finalize()
      try scene.writePIN("1235")
      #expect(await refusal(scene.settings()).contains("refuses the PIN in \(scene.pinFile)"))
      try scene.writePIN(SoftToken.pin, mode: 0o640)
      _ = try await TokenKeys(scene.settings(), scene.modules, on: driver).wrap(
        [1, 2, 3], binding: [])
    }
  }

  @Test("a token that was away is found again, a key that was deleted is named")
  func comesBack() async throws {
    try await with { scene, driver in
      let keys = TokenKeys(scene.settings(), scene.modules, on: driver)
      let wrap = try await keys.wrap([1, 2, 3], binding: [])
      func until(_ what: String, _ holds: () async -> Bool) async {
        let start = driver.now
        while await !holds() {
          guard driver.now - start < .seconds(20) else {
            Issue.record("not \(what)")
            return
          }
          await driver.sleep(.milliseconds(50))
        }
      }
      let away = scene.folder + "/away"
      try FileManager.default.moveItem(atPath: scene.token.tokens, toPath: away)
      try FileManager.default.createDirectory(
        atPath: scene.token.tokens, withIntermediateDirectories: false)
      await until("noticed that it is gone") {
        await reason { try await keys.unwrap(wrap, binding: []) }
          == "there is no PKCS#11 token 'cairn'"
      }
      try FileManager.default.removeItem(atPath: scene.token.tokens)
      try FileManager.default.moveItem(atPath: away, toPath: scene.token.tokens)
      await until("noticed that it is back") {
        (try? await keys.unwrap(wrap, binding: [])) == [1, 2, 3]
      }
      try scene.token.makeKey("m2")
      try scene.token.deleteKey("m1")
      await #expect(throws: KeyProviderError.noSuchKey("m1")) {
        try await keys.unwrap(wrap, binding: [])
      }
    }
  }

  @Test(
    "a module that hangs, lies or has lost its sessions neither stops nor traps us; no PIN is tried twice"
  )
  func faults() async throws {
    try await with { scene, driver in
      let module = try faulty(scene)
      var settings = scene.settings(module: module)
      let library = try #require(dlopen(module, RTLD_NOW))
      let logins = try #require(dlsym(library, "logins")).assumingMemoryBound(to: Int32.self)
      let keys = TokenKeys(settings, scene.modules, on: driver)
      let wrap = try await keys.wrap([1, 2, 3], binding: [9])
      #expect(logins.pointee == 1)
      #expect(try await keys.unwrap(wrap, binding: [9]) == [1, 2, 3])
      #expect(logins.pointee == 1)

      setenv("CAIRN_FAULT", "removed once", 1)
      #expect(try await keys.unwrap(wrap, binding: [9]) == [1, 2, 3])
      #expect(logins.pointee == 2)
      for (fault, words) in [
        ("removed", "the token was taken away (C_FindObjectsInit)"), ("many keys", "two keys"),
      ] {
        setenv("CAIRN_FAULT", fault, 1)
        #expect(await reason { try await keys.unwrap(wrap, binding: [9]) }.contains(words))
      }
      for (fault, words) in [
        ("short", "gives 3 bytes where 19 are due"), ("long", "where 19 are due"),
      ] {
        setenv("CAIRN_FAULT", fault, 1)
        #expect(await reason { try await keys.wrap([1, 2, 3], binding: [9]) }.contains(words))
      }
      await #expect(throws: KeyProviderError.notAuthentic("m1")) {
        try await keys.unwrap(wrap, binding: [9])
      }
      for (fault, words) in [
        ("no gcm", "AES-GCM is not offered"), ("locked", "the PIN is locked"),
        ("version 1", "no PKCS#11 module of version 2 or 3"),
      ] {
        setenv("CAIRN_FAULT", fault, 1)
        let fresh = TokenKeys(settings, scene.modules, on: driver)
        #expect(await reason { try await fresh.unwrap(wrap, binding: [9]) }.contains(words))
      }
      setenv("CAIRN_FAULT", "many slots", 1)
      #expect(
        try await TokenKeys(settings, scene.modules, on: driver).unwrap(wrap, binding: [9]) == [
          1, 2, 3,
        ])

      // What is wrapped wrongly is never believed.
      setenv("CAIRN_FAULT", "wrong", 1)
      let vault = KeyVault(.token(settings), driver: driver)
      let refused = await reason { try await vault.newDomain("finance") }
      #expect(refused.contains("is not the one that wrapped this"), "\(refused)")
      unsetenv("CAIRN_FAULT")
      _ = try await vault.newDomain("finance")

      // A wrong PIN counts once, however often it is wanted; so does each other one.
      for pin in ["1235", "1236"] {
        try scene.modules.module(module).finalize()
        try scene.writePIN(pin)
        let fresh = TokenKeys(settings, scene.modules, on: driver)
        let before = logins.pointee
        for _ in 0..<5 {
          #expect(
            await reason { try await fresh.wrap([1], binding: []) }.contains("refuses the PIN"))
        }
        #expect(logins.pointee == before + 1)
        try scene.writePIN(SoftToken.pin)
        _ = try await fresh.wrap([1], binding: [])
      }

      // Nobody waits longer than told, and what was given up is not begun later.
      let flag = scene.folder + "/hangs"
      try Data().write(to: URL(fileURLWithPath: flag))
      setenv("CAIRN_FAULT", "hang " + flag, 1)
      settings.deadline = .milliseconds(200)
      let before = logins.pointee
      let hanging = [
        TokenKeys(settings, scene.modules, on: driver),
        TokenKeys(settings, scene.modules, on: driver),
      ]
      for one in hanging {
        #expect(
          await reason { try await one.wrap([1], binding: []) }.contains("did not answer within"))
      }
      try FileManager.default.removeItem(atPath: flag)
      settings.deadline = .seconds(10)
      #expect(
        try await TokenKeys(settings, scene.modules, on: driver).unwrap(wrap, binding: [9]) == [
          1, 2, 3,
        ])
      #expect(logins.pointee == before + 2)
      unsetenv("CAIRN_FAULT")
    }
  }

  @Test("two providers share a module: what one restarts the other opens anew")
  func shared() async throws {
    try await with { scene, driver in
      let other = try SoftToken(in: scene.folder, label: "other")
      try other.makeKey("m1")
      let (old, new) = (scene.settings(), scene.settings(label: "other"))
      let wrap = try await TokenKeys(old, scene.modules, on: driver).wrap([1, 2, 3], binding: [])
      let moving = try #require(
        KeyProviderChoice.moving(from: .token(old), to: .token(new)).provider(on: driver))
      // Both keys are called m1: it is the token that tells them apart.
      #expect(try await moving.unwrap(wrap, binding: []) == [1, 2, 3])
      #expect(try await moving.isCurrent(wrap, binding: []) == false)
      let moved = try await moving.wrap([1, 2, 3], binding: [])
      #expect(try await moving.isCurrent(moved, binding: []))
      await #expect(throws: KeyProviderError.noSuchKey("gone")) {
        try await moving.unwrap(MasterWrap(masterKey: "gone", bytes: wrap.bytes), binding: [])
      }
      for _ in 0..<3 {
        #expect(try await moving.unwrap(wrap, binding: []) == [1, 2, 3])
        #expect(try await moving.unwrap(moved, binding: []) == [1, 2, 3])
      }
      await #expect(throws: KeyProviderError.notAuthentic("m1")) {
        try await TokenKeys(old, scene.modules, on: driver).unwrap(moved, binding: [])
      }
    }
  }
}
