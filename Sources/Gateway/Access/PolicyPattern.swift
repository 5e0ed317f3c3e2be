/// Text of a policy with what may stand for other text in it: `*` for any characters, `?` for one, and, in documents of version
/// 2012-10-17, `${KEY}` for a value of the request.
struct PolicyPattern: Equatable {
  enum Part: Equatable {
    case bytes([UInt8])
    case any
    case one
    /// A condition key in lower case, and what counts where the request has none.
    case variable(String, instead: [UInt8]?)
  }
  private(set) var parts: [Part] = []

  init(parts: [Part]) { self.parts = parts }

  /// - Parameters:
  ///   - hasWildcards: whether `*` and `?` are more than themselves.
  ///   - hasVariables: whether `${KEY}` is.
  init(_ text: String, hasWildcards: Bool, hasVariables: Bool) throws(MalformedPolicy) {
    let bytes = Array(text.utf8)
    var literal: [UInt8] = []
    func flush(_ parts: inout [Part]) {
      if !literal.isEmpty { parts.append(.bytes(literal)) }
      literal = []
    }
    var index = 0
    while index < bytes.count {
      let byte = bytes[index]
      index += 1
      if hasWildcards && byte == UInt8(ascii: "*") {
        flush(&parts)
        // Two in a row say no more than one, and cost more.
        if parts.last != .any { parts.append(.any) }
      } else if hasWildcards && byte == UInt8(ascii: "?") {
        flush(&parts)
        parts.append(.one)
      } else if hasVariables && byte == UInt8(ascii: "$") && index < bytes.count
        && bytes[index] == UInt8(ascii: "{")
      {
        guard let end = bytes[index...].firstIndex(of: UInt8(ascii: "}")) else {
          throw MalformedPolicy("A policy variable has no end.")
        }
        let inside = bytes[(index + 1)..<end]
        index = end + 1
        // The three that stand for themselves.
        if inside.elementsEqual("*".utf8) || inside.elementsEqual("?".utf8)
          || inside.elementsEqual("$".utf8)
        {
          literal += inside
        } else {
          flush(&parts)
          parts.append(try Self.variable(String(decoding: inside, as: UTF8.self)))
        }
      } else {
        literal.append(byte)
      }
    }
    flush(&parts)
  }

  /// "aws:username", or "aws:username, 'nobody'".
  private static func variable(_ text: String) throws(MalformedPolicy) -> Part {
    let sides = text.split(separator: ",", maxSplits: 1, omittingEmptySubsequences: false)
    let key = sides[0].lowercased()
    guard ConditionKeys.isKnown(key) else {
      throw MalformedPolicy("Policy has an unknown policy variable: \(sides[0])")
    }
    guard sides.count == 2 else { return .variable(key, instead: nil) }
    let quoted = sides[1].drop { $0 == " " }
    guard quoted.utf8.count >= 2, quoted.hasPrefix("'"), quoted.hasSuffix("'") else {
      throw MalformedPolicy("A policy variable's default is not in single quotes.")
    }
    return .variable(key, instead: Array(quoted.dropFirst().dropLast().utf8))
  }

  /// The pattern without its variables; nil when the request has not all of them, so that nothing matches.
  private func resolved(_ context: RequestContext) -> [Symbol]? {
    var symbols: [Symbol] = []
    for part in parts {
      switch part {
      case .bytes(let bytes): symbols += bytes.map { Symbol($0) }
      case .any: symbols.append(Self.any)
      case .one: symbols.append(Self.one)
      case .variable(let key, let instead):
        guard let value = context[key].map({ Array($0.utf8) }) ?? instead else { return nil }
        symbols += value.map { Symbol($0) }
      }
    }
    return symbols
  }

  /// A byte, or one of two that are none.
  private typealias Symbol = UInt16
  private static let any: Symbol = 256
  private static let one: Symbol = 257

  func matches(_ text: [UInt8], _ context: RequestContext) -> Bool {
    // Most have neither variables nor more than a star at the end.
    if case .any? = parts.last, parts.count == 1 { return true }
    if parts.count == 1, case .bytes(let bytes) = parts[0] { return bytes == text }
    guard let pattern = resolved(context) else { return false }
    return Self.match(pattern, text)
  }

  /// Goes back to the last star alone: so many steps at most as both have bytes, multiplied.
  private static func match(_ pattern: [Symbol], _ text: [UInt8]) -> Bool {
    var place = 0
    var offset = 0
    var star: (place: Int, offset: Int)?
    while offset < text.count {
      if place < pattern.count {
        let symbol = pattern[place]
        if symbol == any {
          star = (place, offset)
          place += 1
          continue
        }
        if symbol == one || symbol == Symbol(text[offset]) {
          place += 1
          offset = symbol == one ? nextCharacter(text, offset) : offset + 1
          continue
        }
      }
      guard let last = star else { return false }
      let next = nextCharacter(text, last.offset)
      star = (last.place, next)
      place = last.place + 1
      offset = next
    }
    while place < pattern.count && pattern[place] == any { place += 1 }
    return place == pattern.count
  }

  /// Of UTF-8: past the bytes that go on with the one at `offset`.
  private static func nextCharacter(_ text: [UInt8], _ offset: Int) -> Int {
    var next = offset + 1
    while next < text.count && text[next] & 0xC0 == 0x80 { next += 1 }
    return next
  }

  /// Text without variables; nil where there is one, or a wildcard.
  var literal: [UInt8]? {
    if parts.isEmpty { return [] }
    guard parts.count == 1, case .bytes(let bytes) = parts[0] else { return nil }
    return bytes
  }
}
