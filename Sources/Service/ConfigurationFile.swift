internal import CToml

/// What is wrong with a configuration file; one line.
package struct ConfigurationError: Error, Equatable, CustomStringConvertible {
  package let reason: String
  package let path: String
  /// From 1; nil when the error belongs to no line.
  package let line: Int?

  package init(_ reason: String, path: String, line: Int? = nil) {
    self.reason = reason
    self.path = path
    self.line = line
  }

  /// "what went wrong: FILE:LINE"
  package var description: String { "\(reason): \(path)\(line.map { ":\($0)" } ?? "")" }
}

/// A TOML file whose keys are all known: whoever reads it asks for typed values, then calls
/// ``finish()``, which refuses what nobody asked for.
///
/// ```
/// let file = try ConfigurationFile(parsing: bytes, path: "config.toml")
/// let address: SocketAddress = try file.root.required("address")
/// let memory = try file.root.value("memory", default: ByteSize(256 << 20))
/// for device in try file.root.tables("device") { try device.required("path", as: String.self) }
/// try file.finish()
/// ```
package struct ConfigurationFile: Sendable {
  package let path: String
  fileprivate let content: Content

  /// - Throws: ``ConfigurationError`` for bytes that are no TOML 1.0, with the line.
  package init(parsing bytes: [UInt8], path: String) throws(ConfigurationError) {
    self.path = path
    content = Content(try Self.parse(bytes, path), path: path)
  }

  private static func parse(_ bytes: [UInt8], _ path: String) throws(ConfigurationError) -> [Entry]
  {
    var message = [CChar](repeating: 0, count: 256)
    var line: UInt32 = 0
    let document = bytes.withUnsafeBytes { bytes in
      // An empty array has no address; the text is then not looked at.
      "".withCString { empty in
        cairn_toml_parse(
          bytes.baseAddress?.assumingMemoryBound(to: CChar.self) ?? empty, bytes.count, &message,
          message.count, &line)
      }
    }
    guard let document else {
      let text = String(
        decoding: message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      throw ConfigurationError(
        unquoted(bytes, line: Int(line)) ?? oneLine(text), path: path,
        line: line == 0 ? nil : Int(line))
    }
    defer { cairn_toml_free(document) }
    return (0..<cairn_toml_count(document)).map { index in
      let entry = cairn_toml_entry_at(document, index)
      let text = UnsafeRawBufferPointer(start: entry.text, count: entry.text_count)
      return Entry(
        path: String(cString: entry.path), kind: Kind(rawValue: UInt8(bitPattern: entry.kind))!,
        text: String(decoding: text, as: UTF8.self), line: Int(entry.line))
    }
  }

  /// The commonest mistake, said so that it can be mended: a line `key = word` without quotes. Nil when it is another.
  private static func unquoted(_ bytes: [UInt8], line: Int) -> String? {
    let lines = bytes.split(separator: 10, omittingEmptySubsequences: false)
    guard lines.indices.contains(line - 1) else { return nil }
    let parts = lines[line - 1].split(separator: UInt8(ascii: "="), maxSplits: 1)
    guard parts.count == 2 else { return nil }
    let (key, word) = (trimmed(parts[0]), trimmed(parts[1]))
    let signs = Set("-_./:+@".utf8)
    func isLetter(_ byte: UInt8) -> Bool {
      (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
    }
    func isPlain(_ byte: UInt8) -> Bool {
      isLetter(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        || signs.contains(byte)
    }
    guard !key.isEmpty, !word.isEmpty, key.allSatisfy(isPlain), word.allSatisfy(isPlain),
      word.contains(where: isLetter)
    else { return nil }
    // Without the value, which may be a secret.
    return "the value of '\(String(decoding: key, as: UTF8.self))' wants quotes"
  }

  /// Without spaces around it, and without a comment behind it.
  private static func trimmed(_ part: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    func isSpace(_ byte: UInt8) -> Bool { byte == 32 || byte == 9 || byte == 13 }
    let words = part.prefix { $0 != UInt8(ascii: "#") }.drop(while: isSpace)
    return words.dropLast(words.reversed().prefix(while: isSpace).count)
  }

  /// The whole file.
  package var root: ConfigurationTable { ConfigurationTable(content: content, prefix: "", line: 1) }

  /// Call it when all values have been asked for.
  ///
  /// - Throws: ``ConfigurationError`` naming the first key, by line, that nobody asked for.
  package func finish() throws(ConfigurationError) {
    let unknown = content.entries.values
      .filter { !content.asked.contains($0.path) }
      .min { ($0.line, $0.path) < ($1.line, $1.path) }
    if let unknown {
      let what = unknown.kind == .table ? "table" : "key"
      throw ConfigurationError("unknown \(what) '\(unknown.path)'", path: path, line: unknown.line)
    }
  }

  enum Kind: UInt8 {
    case string = 0x73
    case integer = 0x69
    case real = 0x66
    case boolean = 0x62
    case date = 0x64
    case table = 0x74
    case array = 0x61

    var name: String {
      switch self {
      case .string: "a string"
      case .integer: "an integer"
      case .real: "a number"
      case .boolean: "a boolean"
      case .date: "a date or time"
      case .table: "a table"
      case .array: "an array"
      }
    }
  }

  struct Entry {
    var path: String
    var kind: Kind
    var text: String
    var line: Int
  }

  final class Content: @unchecked Sendable {
    // Sound: read by one task, before it starts others.
    let entries: [String: Entry]
    let path: String
    var asked: Set<String> = []

    init(_ entries: [Entry], path: String) {
      self.entries = Dictionary(entries.map { ($0.path, $0) }) { first, _ in first }
      self.path = path
    }
  }
}

/// A table of a ``ConfigurationFile``.
package struct ConfigurationTable: Sendable {
  let content: ConfigurationFile.Content
  let prefix: String
  /// Where it begins.
  package let line: Int

  private func path(_ key: String) -> String { prefix.isEmpty ? key : "\(prefix).\(key)" }

  /// The value of `key`, nil when it is absent.
  ///
  /// - Throws: ``ConfigurationError`` when it is of another type or says nothing sensible.
  package func optional<Value: ConfigurationValue>(
    _ key: String, as type: Value.Type = Value.self
  ) throws(ConfigurationError) -> Value? {
    guard let source = source(path(key)) else { return nil }
    return try Value(from: source)
  }

  package func value<Value: ConfigurationValue>(
    _ key: String, default fallback: Value
  ) throws(ConfigurationError) -> Value {
    try optional(key) ?? fallback
  }

  /// - Throws: ``ConfigurationError`` also when `key` is absent.
  package func required<Value: ConfigurationValue>(
    _ key: String, as type: Value.Type = Value.self
  ) throws(ConfigurationError) -> Value {
    guard let value: Value = try optional(key) else {
      throw ConfigurationError("'\(path(key))' is missing", path: content.path, line: line)
    }
    return value
  }

  /// As above, and refused when outside `range`.
  package func value<Value: ConfigurationValue & Comparable>(
    _ key: String, default fallback: Value, in range: ClosedRange<Value>
  ) throws(ConfigurationError) -> Value {
    guard let value: Value = try optional(key) else { return fallback }
    guard range.contains(value) else {
      throw error(key, "must be between \(range.lowerBound) and \(range.upperBound)")
    }
    return value
  }

  /// For checks of one's own: an error that points at `key`.
  package func error(_ key: String, _ reason: String) -> ConfigurationError {
    ConfigurationError(
      "'\(path(key))' \(reason)", path: content.path,
      line: content.entries[path(key)]?.line ?? line)
  }

  /// "FILE:LINE" of `key`, for errors that show when more is known than the file.
  package func place(of key: String) -> String {
    "\(content.path):\(content.entries[path(key)]?.line ?? line)"
  }

  /// Whether `key` is there and is a table, where it may also be a value.
  package func hasTable(_ key: String) -> Bool { content.entries[path(key)]?.kind == .table }

  /// The table `[key]`, nil when it is absent.
  package func table(_ key: String) throws(ConfigurationError) -> ConfigurationTable? {
    guard let source = source(path(key)) else { return nil }
    return try source.table()
  }

  /// The tables `[key.NAME]`, by name; none when absent.
  package func namedTables(_ key: String) throws(ConfigurationError) -> [(
    name: String, table: ConfigurationTable
  )] {
    guard let all = try table(key) else { return [] }
    let start = all.prefix + "."
    // Keys with dots in them are refused when the file is parsed.
    let names = content.entries.keys.compactMap { path in
      path.hasPrefix(start) ? String(path.dropFirst(start.count)) : nil
    }.filter { !$0.contains(".") && !$0.contains("[") }.sorted()
    var tables: [(name: String, table: ConfigurationTable)] = []
    for name in names {
      if let table = try all.table(name) { tables.append((name, table)) }
    }
    return tables
  }

  /// The tables `[[key]]`, in order; none when absent.
  package func tables(_ key: String) throws(ConfigurationError) -> [ConfigurationTable] {
    guard let source = source(path(key)) else { return [] }
    var tables: [ConfigurationTable] = []
    for element in try source.elements() { tables.append(try element.table()) }
    return tables
  }

  private func source(_ path: String) -> ConfigurationSource? {
    guard let entry = content.entries[path] else { return nil }
    content.asked.insert(path)
    return ConfigurationSource(content: content, entry: entry)
  }
}

/// One value in the file, on its way to a type.
package struct ConfigurationSource {
  let content: ConfigurationFile.Content
  let entry: ConfigurationFile.Entry

  package func error(_ reason: String) -> ConfigurationError {
    ConfigurationError("'\(entry.path)' \(reason)", path: content.path, line: entry.line)
  }

  private func expect(_ kind: ConfigurationFile.Kind) throws(ConfigurationError) {
    guard entry.kind == kind else {
      throw error("must be \(kind.name), not \(entry.kind.name)")
    }
  }

  /// The text of a string.
  package func string() throws(ConfigurationError) -> String {
    try expect(.string)
    return entry.text
  }

  package func integer() throws(ConfigurationError) -> Int {
    try expect(.integer)
    guard let value = Int(entry.text) else { throw error("is too large") }
    return value
  }

  package func boolean() throws(ConfigurationError) -> Bool {
    try expect(.boolean)
    return entry.text == "true"
  }

  /// An integer or a number with a fraction; finite.
  package func number() throws(ConfigurationError) -> Double {
    if entry.kind != .integer { try expect(.real) }
    guard let value = Double(entry.text), value.isFinite else { throw error("must be finite") }
    return value
  }

  /// A string, or an integer without a unit.
  package func stringOrInteger() throws(ConfigurationError) -> String {
    if entry.kind != .integer { try expect(.string) }
    return entry.text
  }

  package func elements() throws(ConfigurationError) -> [ConfigurationSource] {
    try expect(.array)
    var found: [ConfigurationSource] = []
    while let next = content.entries["\(entry.path)[\(found.count)]"] {
      content.asked.insert(next.path)
      found.append(ConfigurationSource(content: content, entry: next))
    }
    return found
  }

  func table() throws(ConfigurationError) -> ConfigurationTable {
    try expect(.table)
    return ConfigurationTable(content: content, prefix: entry.path, line: entry.line)
  }
}

/// What stands between line breaks would forge a second line of an error.
func oneLine(_ text: String) -> String {
  text.contains { $0.isNewline }
    ? String(text.map { $0.isNewline ? " " : $0 }) : text
}
