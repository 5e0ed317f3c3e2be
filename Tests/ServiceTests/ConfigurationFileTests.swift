import Ring
import Service
import TestSupport
import Testing

private func file(_ text: String) throws -> ConfigurationFile {
  try ConfigurationFile(parsing: Array(text.utf8), path: "c.toml")
}

/// The one line that reading `text` with `read` and finishing gives.
private func failure(
  _ text: String, _ read: (ConfigurationTable) throws -> Void = { _ in }
) -> String? {
  do {
    let file = try file(text)
    try read(file.root)
    try file.finish()
    return nil
  } catch {
    return "\(error)"
  }
}

@Test(
  "a word without quotes is told as that, with its line",
  arguments: [
    ("a = 1\npolicy = nearest\n", "the value of 'policy' wants quotes: c.toml:2"),
    ("policy=nearest # why\n", "the value of 'policy' wants quotes: c.toml:1"),
    ("size = 256MiB\n", "the value of 'size' wants quotes: c.toml:1"),
    ("[t]\nfile =\t/etc/key\r\n", "the value of 'file' wants quotes: c.toml:2"),
  ])
func unquoted(text: String, says: String) {
  #expect(failure(text) == says)
}

@Test("another mistake in a line keeps its own words")
func otherMistakes() {
  for text in ["a = [1\n", "a = \"b\n", "a = 1 2\n", "a\n", "= nearest\n", "a = \n"] {
    #expect(failure(text)?.contains("wants quotes") == false, "\(text)")
  }
}

private enum Mode: String, ConfigurationChoice { case fast, safe }

@Test("every type is read as written")
func types() throws {
  let file = try file(
    """
    name = "node 1"
    count = 0x10
    ratio = 0.1
    whole = 3
    on = true
    memory = "256MiB"
    plain = 4096
    wait = "1.5 s"
    address = "[::1]:7000"
    mode = "safe"
    seeds = ["a:1", "b:2"]
    none = []
    zero = "a\\u0000b"

    [cache]
    size = "1 GiB"

    [[device]]
    path = "/a"
    [[device]]
    path = "/b"
    weight = 2
    """)
  let root = file.root
  #expect(try root.required("name") == "node 1")
  #expect(try root.required("count") == 16)
  #expect(try root.required("ratio") == 0.1)
  #expect(try root.required("whole") == 3.0)
  #expect(try root.required("on") == true)
  #expect(try root.required("memory") == ByteSize(256 << 20))
  #expect(try root.required("plain") == ByteSize(4096))
  #expect(try root.required("wait") == Duration.milliseconds(1500))
  #expect(try root.required("address") == SocketAddress(host: "::1", port: 7000))
  #expect(try root.required("mode") == Mode.safe)
  #expect(
    try root.required("seeds")
      == [SocketAddress(host: "a", port: 1), SocketAddress(host: "b", port: 2)])
  #expect(try root.required("none") == [String]())
  #expect(try root.required("zero") == "a\0b")
  #expect(try root.value("absent", default: 7) == 7)
  #expect(try root.optional("absent", as: String.self) == nil)
  #expect(try root.value("count", default: 1, in: 1...16) == 16)
  #expect(try root.table("cache")?.required("size") == ByteSize(1 << 30))
  let absent = try root.table("absent")
  #expect(absent == nil)
  let devices = try root.tables("device")
  #expect(try devices.map { try $0.required("path", as: String.self) } == ["/a", "/b"])
  #expect(try devices.map { try $0.value("weight", default: 1) } == [1, 2])
  try file.finish()
}

@Test("tables of any name are found by it, and what is in them is asked for like all else")
func namedTables() throws {
  let text = "[b.two]\nx = 2\n[b.one]\nx = 1\n[bc.three]\nx = 3\n"
  let root = try file(text).root
  let found = try root.namedTables("b")
  #expect(found.map(\.name) == ["one", "two"])
  #expect(try found.map { try $0.table.required("x", as: Int.self) } == [1, 2])
  #expect(try root.namedTables("absent").isEmpty)
  #expect(try root.namedTables("bc").map(\.name) == ["three"])
  let unknown = failure("[b.two]\n[b.two.y]\nz = 1\n") { _ = try $0.namedTables("b") }
  #expect(unknown == "unknown table 'b.two.y': c.toml:2")
  let wrong = failure("[b]\none = 1\n") { _ = try $0.namedTables("b") }
  #expect(wrong == "'b.one' must be a table, not an integer: c.toml:2")
}

@Test("what nobody asked for is refused with its line")
func unknown() {
  #expect(
    failure("a = 1\n\nb = 2\n") { _ = try $0.required("a", as: Int.self) }
      == "unknown key 'b': c.toml:3")
  #expect(
    failure("[[device]]\npath = 'x'\nsize = 1\n") { root in
      for device in try root.tables("device") { _ = try device.required("path", as: String.self) }
    } == "unknown key 'device[0].size': c.toml:3")
  #expect(failure("\n[other]\n") == "unknown table 'other': c.toml:2")
  #expect(failure("list = [1,\n 2]\n") == "unknown key 'list': c.toml:1")
}

@Test(
  "wrong values are refused with their line",
  arguments: [
    ("\na = 1", "'a' must be a string, not an integer: c.toml:2"),
    ("a = '9'", nil),
    ("a = 2026-11-20", "'a' must be a string, not a date or time: c.toml:1"),
    ("a = [1]", "'a' must be a string, not an array: c.toml:1"),
    ("b = 1", "'a' is missing: c.toml:1"),
  ] as [(String, String?)])
func wrongString(text: String, expected: String?) {
  #expect(failure(text) { _ = try $0.required("a", as: String.self) } == expected)
}

@Test("wrong sizes, times, addresses, choices and ranges are refused with their line")
func wrongValues() {
  func check<Value: ConfigurationValue>(_ text: String, _ type: Value.Type) -> String? {
    failure("\n\na = \(text)") { _ = try $0.required("a", as: type) }
  }
  #expect(
    check("'1 GB!'", ByteSize.self) == "'a' must be a size such as \"256MiB\": c.toml:3")
  #expect(check("-1", ByteSize.self) == "'a' must be a size such as \"256MiB\": c.toml:3")
  #expect(check("'5'", Duration.self) == "'a' must be a time such as \"5s\": c.toml:3")
  #expect(check("5", Duration.self) == "'a' must be a string, not an integer: c.toml:3")
  #expect(check("'host'", SocketAddress.self)?.hasSuffix(": c.toml:3") == true)
  #expect(check("'slow'", Mode.self) == "'a' must be one of \"fast\", \"safe\": c.toml:3")
  #expect(check("inf", Double.self) == "'a' must be finite: c.toml:3")
  #expect(check("true", Int.self) == "'a' must be an integer, not a boolean: c.toml:3")
  #expect(check("['x', 1]", [String].self) == "'a[1]' must be a string, not an integer: c.toml:3")
  #expect(
    failure("a = 17") { _ = try $0.value("a", default: 1, in: 1...16) }
      == "'a' must be between 1 and 16: c.toml:1")
  #expect(
    failure("a = 1") { _ = try $0.table("a") } == "'a' must be a table, not an integer: c.toml:1")
  #expect(
    failure("[a]\nx = 1") { _ = try $0.tables("a") }
      == "'a' must be an array, not a table: c.toml:1")
}

@Test("no TOML is refused with its line, in one line")
func syntax() {
  for text in [
    "a = \n", "a = 1\na = 2", "[x\n", "a = 'x", "\"a.b\" = 1", "a = 99999999999999999999", "a = -",
  ] {
    let message = failure(text)
    #expect(message?.contains(": c.toml:") == true, "\(text): \(message ?? "nil")")
    #expect(message?.contains { $0.isNewline } == false)
  }
}

@Test("what toml++ itself only asserts is an error", arguments: ["[.a]", "[[=", "[ !]"])
func asserted(text: String) {
  #expect(failure(text)?.hasSuffix(": c.toml") == true)
}

@Test("an empty file has no keys")
func empty() {
  #expect(failure("") == nil)
  #expect(failure("# only a comment\n") == nil)
}

@Test("any bytes give a file or an error", arguments: Seed.several)
func garbage(seed: Seed) {
  var random = seed.generator
  let pieces = [
    "a", "=", "[", "]", "[[", "]]", "\n", "'", "\"", "1", ".", ",", "{", "}", "\\u", "é", "\0",
  ]
  for _ in 0..<300 {
    var text = ""
    for _ in 0..<Int.random(in: 0..<30, using: &random) {
      text += pieces.randomElement(using: &random)!
    }
    var bytes = Array(text.utf8)
    if Bool.random(using: &random) { bytes += random.bytes(3) }
    _ = try? ConfigurationFile(parsing: bytes, path: "c.toml").finish()
  }
}
