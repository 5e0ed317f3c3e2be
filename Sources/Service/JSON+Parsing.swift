/// Why bytes are no JSON value.
package struct JSONError: Error, Equatable, CustomStringConvertible {
  package let reason: String
  /// From 0.
  package let offset: Int
  package var description: String { "\(reason) at byte \(offset)" }
}

extension JSON {
  /// How deep arrays and objects may nest.
  package static let depthLimit = 64

  /// Reads one value, with white space around it and nothing else. Strict: what RFC 8259 leaves to the reader is
  /// refused, so are two members of one name.
  package init(parsing bytes: [UInt8]) throws(JSONError) {
    var reader = JSONReader(bytes)
    self = try reader.document()
  }

  /// A member of an object; nil for another value, or when it has none of that name.
  package subscript(name: String) -> JSON? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.0 == name }?.1
  }

  package var string: String? { if case .string(let text) = self { text } else { nil } }
  package var elements: [JSON]? { if case .array(let elements) = self { elements } else { nil } }
  package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  /// A whole number from 0; also one in quotes, as protocol buffers write those of 64 bits.
  package var whole: UInt64? {
    switch self {
    case .number(let value): value
    case .string(let text): UInt64(text)
    default: nil
    }
  }
}

/// Recursive descent over bytes.
private struct JSONReader {
  let bytes: [UInt8]
  var offset = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  private func error(_ reason: String) -> JSONError { JSONError(reason: reason, offset: offset) }
  private var next: UInt8? { offset < bytes.count ? bytes[offset] : nil }

  mutating func document() throws(JSONError) -> JSON {
    skipSpace()
    let value = try value(depth: 0)
    skipSpace()
    guard offset == bytes.count else { throw error("something follows the value") }
    return value
  }

  private mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 {
      offset += 1
    }
  }

  private mutating func expect(_ text: StaticString, _ value: JSON) throws(JSONError) -> JSON {
    let wanted = UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
    guard bytes[offset...].starts(with: wanted) else { throw error("no value") }
    offset += wanted.count
    return value
  }

  private mutating func value(depth: Int) throws(JSONError) -> JSON {
    guard depth < JSON.depthLimit else { throw error("nested too deep") }
    guard let byte = next else { throw error("no value") }
    switch byte {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try text())
    case UInt8(ascii: "t"): return try expect("true", .bool(true))
    case UInt8(ascii: "f"): return try expect("false", .bool(false))
    case UInt8(ascii: "n"): return try expect("null", .null)
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
    default: throw error("no value")
    }
  }

  private mutating func object(depth: Int) throws(JSONError) -> JSON {
    offset += 1
    var members: [(String, JSON)] = []
    var names: Set<String> = []
    skipSpace()
    if next == UInt8(ascii: "}") {
      offset += 1
      return .object([])
    }
    while true {
      skipSpace()
      guard next == UInt8(ascii: "\"") else { throw error("no member name") }
      let name = try text()
      guard names.insert(name).inserted else { throw error("a member given twice") }
      skipSpace()
      guard next == UInt8(ascii: ":") else { throw error("no colon") }
      offset += 1
      skipSpace()
      members.append((name, try value(depth: depth + 1)))
      if try isLast(closing: UInt8(ascii: "}")) { return .object(members) }
    }
  }

  private mutating func array(depth: Int) throws(JSONError) -> JSON {
    offset += 1
    var elements: [JSON] = []
    skipSpace()
    if next == UInt8(ascii: "]") {
      offset += 1
      return .array([])
    }
    while true {
      skipSpace()
      elements.append(try value(depth: depth + 1))
      if try isLast(closing: UInt8(ascii: "]")) { return .array(elements) }
    }
  }

  private mutating func isLast(closing: UInt8) throws(JSONError) -> Bool {
    skipSpace()
    guard let byte = next, byte == closing || byte == UInt8(ascii: ",") else {
      throw error("no comma")
    }
    offset += 1
    return byte == closing
  }

  private mutating func number() throws(JSONError) -> JSON {
    let start = offset
    func digits() -> Int {
      var end = offset
      while end < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[end]) {
        end += 1
      }
      return end - offset
    }
    var isWhole = true
    if next == UInt8(ascii: "-") {
      isWhole = false
      offset += 1
    }
    let whole = digits()
    guard whole == 1 || whole > 1 && next != UInt8(ascii: "0") else { throw error("no number") }
    offset += whole
    if next == UInt8(ascii: ".") {
      isWhole = false
      offset += 1
      let fraction = digits()
      guard fraction > 0 else { throw error("no fraction") }
      offset += fraction
    }
    if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
      isWhole = false
      offset += 1
      if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { offset += 1 }
      let exponent = digits()
      guard exponent > 0 else { throw error("no exponent") }
      offset += exponent
    }
    let text = String(decoding: bytes[start..<offset], as: UTF8.self)
    if isWhole, let value = UInt64(text) { return .number(value) }
    guard let value = Double(text), value.isFinite else { throw error("number out of range") }
    return .double(value)
  }

  private mutating func text() throws(JSONError) -> String {
    offset += 1
    var out: [UInt8] = []
    while true {
      guard let byte = next else { throw error("a string without an end") }
      switch byte {
      case UInt8(ascii: "\""):
        offset += 1
        guard let text = String(validating: out, as: UTF8.self) else {
          throw error("a string that is not UTF-8")
        }
        return text
      case UInt8(ascii: "\\"):
        offset += 1
        try escape(&out)
      case 0..<0x20: throw error("a control character in a string")
      default:
        out.append(byte)
        offset += 1
      }
    }
  }

  private mutating func escape(_ out: inout [UInt8]) throws(JSONError) {
    guard let byte = next else { throw error("an escape without an end") }
    offset += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): out.append(byte)
    case UInt8(ascii: "b"): out.append(0x08)
    case UInt8(ascii: "f"): out.append(0x0C)
    case UInt8(ascii: "n"): out.append(0x0A)
    case UInt8(ascii: "r"): out.append(0x0D)
    case UInt8(ascii: "t"): out.append(0x09)
    case UInt8(ascii: "u"):
      var code = UInt32(try unit())
      if (0xD800..<0xDC00).contains(code) {
        guard bytes[offset...].starts(with: [UInt8(ascii: "\\"), UInt8(ascii: "u")]) else {
          throw error("half a surrogate pair")
        }
        offset += 2
        let low = UInt32(try unit())
        guard (0xDC00..<0xE000).contains(low) else { throw error("half a surrogate pair") }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw error("half a surrogate pair") }
      out.append(contentsOf: UTF8.encode(scalar)!)
    default: throw error("an unknown escape")
    }
  }

  private mutating func unit() throws(JSONError) -> UInt16 {
    guard offset + 4 <= bytes.count else { throw error("an escape without an end") }
    var unit: UInt16 = 0
    for byte in bytes[offset..<offset + 4] {
      guard let digit = hexDigit(byte) else { throw error("an unknown escape") }
      unit = unit << 4 | UInt16(digit)
    }
    offset += 4
    return unit
  }
}

private func hexDigit(_ byte: UInt8) -> UInt8? {
  switch byte {
  case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
  case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
  case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
  default: nil
  }
}
