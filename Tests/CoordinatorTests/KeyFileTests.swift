import Coding
import Coordinator
import Messages
import Ring
import Simulation
import TestSupport
import Testing

@Suite("master keys in a file")
struct KeyFileTests {
  private func parse(_ text: String) throws -> [KeyFile.MasterKey] {
    try KeyFile.parse(Array(text.utf8), "f")
  }

  @Test(
    "lines read back as they were written, comments and empty lines do not count",
    arguments: Seed.several)
  func lines(seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<50 {
      let keys = (0..<Int(random.next() % 5) + 1).map { ("k-\($0)", random.bytes(32)) }
      var text = ""
      for (name, secret) in keys {
        if random.next() % 3 == 0 { text += "# a comment\n\n" }
        text += KeyFile.line(name, secret)
      }
      if random.next() % 2 == 0 { text.removeLast() }
      let found = try parse(text)
      #expect(found.map(\.name) == keys.map(\.0) && found.map(\.secret) == keys.map(\.1))
    }
  }

  @Test("what is no key file is refused, by its line, and never traps", arguments: Seed.several)
  func garbage(seed: Seed) throws {
    var random = seed.generator
    let good = KeyFile.line("good", random.bytes(32))
    for bad in [
      "", "\n# nothing\n", "name", "name 12", good + "good " + String(repeating: "0", count: 64),
      "na/me " + String(repeating: "0", count: 64), "n " + String(repeating: "g", count: 64),
      "n " + String(repeating: "0", count: 65), good + "x y z",
      "é " + String(repeating: "0", count: 64),
      String(repeating: "n", count: 65) + " " + String(repeating: "0", count: 64),
    ] {
      #expect(throws: KeyProviderError.self, "\(bad)") { try parse(bad) }
    }
    let error = #expect(throws: KeyProviderError.self) { try parse(good + "# fine\nnot fine\n") }
    #expect("\(String(describing: error))".contains("line 3"))
    for _ in 0..<300 {
      var bytes = Array(good.utf8)
      bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
      _ = try? KeyFile.parse(bytes, "f")
      _ = try? KeyFile.parse(random.bytes(Int(random.next() % 200)), "f")
    }
  }

  @Test("the last key wraps, each unwraps its own, with its binding; a new line needs no restart")
  func wraps() throws {
    try SimulatedWorld.run(seed: 5, options: .init()) { world in
      let process = world.process("c")
      var random = SeededGenerator(seed: 5)
      let (first, second) = (random.bytes(32), random.bytes(32))
      func write(_ text: String, mode: UInt32 = 0o600) async throws {
        try await process.replaceFile("/keys", with: Array(text.utf8), mode: mode)
      }
      let file = KeyFile("/keys", on: process)
      await #expect(throws: KeyProviderError.self) { try await file.currentKey() }
      try await write(KeyFile.line("first", first))
      let secret = random.bytes(32)
      let wrap = try await file.wrap(secret, binding: [1])
      #expect(wrap.masterKey == "first")
      #expect(try await file.unwrap(wrap, binding: [1]) == secret)
      await #expect(throws: KeyProviderError.notAuthentic("first")) {
        try await file.unwrap(wrap, binding: [2])
      }
      try await write(KeyFile.line("first", first) + KeyFile.line("second", second))
      #expect(try await file.currentKey() == "second")
      let other = try await file.wrap(secret, binding: [])
      #expect(other.masterKey == "second")
      // One that never saw the file before.
      let fresh = KeyFile("/keys", on: process)
      #expect(try await fresh.unwrap(other, binding: []) == secret)
      #expect(try await fresh.unwrap(wrap, binding: [1]) == secret)
      try await write(KeyFile.line("second", second))
      let last = KeyFile("/keys", on: process)
      await #expect(throws: KeyProviderError.noSuchKey("first")) {
        try await last.unwrap(wrap, binding: [1])
      }
      try await write(KeyFile.line("first", second))
      let wrong = KeyFile("/keys", on: process)
      await #expect(throws: KeyProviderError.notAuthentic("first")) {
        try await wrong.unwrap(wrap, binding: [1])
      }
      // It is mended while it is in use; and a file of comments alone is one that keys can be added to.
      try await write("# what wraps what\n")
      try await KeyFile.add("first", first, to: "/keys", on: process)
      #expect(try await wrong.unwrap(wrap, binding: [1]) == secret)
      // A group may have rights, as with all secrets; everybody may not, and nothing is added to what they see.
      try await write(KeyFile.line("first", first), mode: 0o640)
      #expect(try await file.currentKey() == "first")
      for mode: UInt32 in [0o604, 0o602, 0o644] {
        try await write(KeyFile.line("first", first), mode: mode)
        await #expect(throws: KeyProviderError.self) { try await file.currentKey() }
        await #expect(throws: KeyProviderError.self) {
          try await KeyFile.add("second", second, to: "/keys", on: process)
        }
        #expect(
          try await process.readFile("/keys", limit: 4096)
            == Array(KeyFile.line("first", first).utf8))
      }
      process.kill()
    }
  }
}
