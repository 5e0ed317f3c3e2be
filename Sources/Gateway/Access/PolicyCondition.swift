import Service

/// One operator of a statement's Condition, one key and its values. Of several values one is enough; for an operator that negates,
/// none may be met.
struct PolicyCondition: Equatable {
  /// In lower case.
  var key: String
  var test: Test
  /// Met when the request has no such key (`…IfExists`).
  var isIfExists = false
  /// The operator says Not.
  var isNegated = false

  enum Test: Equatable {
    /// Exact, or with wildcards.
    case text([PolicyPattern])
    /// In lower case.
    case textInAnyCase([String])
    case number(Order, [Double])
    /// Seconds since 1970.
    case date(Order, [Double])
    case bool([Bool])
    case address([AddressRange])
    /// Whether the key is to be missing.
    case null([Bool])
  }

  enum Order: String, CaseIterable {
    case equals = "Equals"
    case lessThan = "LessThan"
    case lessThanEquals = "LessThanEquals"
    case greaterThan = "GreaterThan"
    case greaterThanEquals = "GreaterThanEquals"

    func holds(_ left: Double, _ right: Double) -> Bool {
      switch self {
      case .equals: left == right
      case .lessThan: left < right
      case .lessThanEquals: left <= right
      case .greaterThan: left > right
      case .greaterThanEquals: left >= right
      }
    }
  }

  func holds(_ context: RequestContext) -> Bool {
    if case .null(let wanted) = test { return wanted.contains(context[key] == nil) }
    guard let value = context[key] else { return isIfExists || isNegated }
    return meets(value, context) != isNegated
  }

  private func meets(_ value: String, _ context: RequestContext) -> Bool {
    switch test {
    case .text(let patterns):
      let bytes = Array(value.utf8)
      return patterns.contains { $0.matches(bytes, context) }
    case .textInAnyCase(let wanted):
      let value = value.lowercased()
      return wanted.contains { $0.utf8.elementsEqual(value.utf8) }
    case .number(let order, let wanted):
      guard let number = Self.number(value) else { return false }
      return wanted.contains { order.holds(number, $0) }
    case .date(let order, let wanted):
      guard let date = Self.date(value) else { return false }
      return wanted.contains { order.holds(date, $0) }
    case .bool(let wanted):
      guard let bool = Self.bool(value) else { return false }
      return wanted.contains(bool)
    case .address(let ranges):
      guard let address = AddressRange(value) else { return false }
      return ranges.contains { $0.contains(address) }
    case .null: return false
    }
  }

  // MARK: Values

  /// A decimal: "-12.5".
  static func number(_ text: String) -> Double? {
    let digits = text.utf8.first == UInt8(ascii: "-") ? text.dropFirst() : text[...]
    let sides = digits.split(separator: ".", omittingEmptySubsequences: false)
    guard text.utf8.count <= 32, (1...2).contains(sides.count),
      sides.allSatisfy({ side in
        !side.isEmpty && side.utf8.allSatisfy { (48...57).contains($0) }
      })
    else { return nil }
    return Double(text)
  }

  static func bool(_ text: String) -> Bool? {
    switch text.lowercased() {
    case "true": true
    case "false": false
    default: nil
    }
  }

  /// Seconds since 1970: "2026-11-30T12:00:00Z", with a fraction too, "2026-11-30", or the number itself.
  static func date(_ text: String) -> Double? {
    if let number = number(text) { return number }
    let bytes = Array(text.utf8)
    func digits(_ range: Range<Int>) -> Int? {
      guard range.upperBound <= bytes.count,
        bytes[range].allSatisfy({ (48...57).contains($0) })
      else { return nil }
      return Int(String(decoding: bytes[range], as: UTF8.self))
    }
    guard bytes.count >= 10, bytes[4] == UInt8(ascii: "-"), bytes[7] == UInt8(ascii: "-"),
      let year = digits(0..<4), let month = digits(5..<7), let day = digits(8..<10)
    else { return nil }
    var clock = (hour: 0, minute: 0, second: 0)
    var fraction = 0.0
    if bytes.count > 10 {
      guard bytes.count >= 20, bytes[10] == UInt8(ascii: "T"), bytes[13] == UInt8(ascii: ":"),
        bytes[16] == UInt8(ascii: ":"), bytes.last == UInt8(ascii: "Z"),
        let hour = digits(11..<13), let minute = digits(14..<16), let second = digits(17..<19)
      else { return nil }
      clock = (hour, minute, second)
      if bytes.count > 20 {
        guard bytes[19] == UInt8(ascii: "."), (22...30).contains(bytes.count),
          let digits = digits(20..<bytes.count - 1)
        else { return nil }
        fraction = Double(digits)
        for _ in 20..<bytes.count - 1 { fraction /= 10 }
      }
    }
    guard
      let time = CivilTime(
        year: year, month: month, day: day, hour: clock.hour, minute: clock.minute,
        second: clock.second)
    else { return nil }
    return Double(time.sinceEpoch.components.seconds) + fraction
  }
}

/// Addresses that begin with the same bits: "192.0.2.0/24", "2001:db8::/32", or one of them.
struct AddressRange: Equatable, Sendable {
  /// 4 or 16.
  private(set) var bytes: [UInt8]
  private(set) var bitCount: Int

  init?(_ text: String) {
    let sides = text.split(separator: "/", omittingEmptySubsequences: false)
    guard text.utf8.count <= 64, (1...2).contains(sides.count), let found = Self.address(sides[0])
    else { return nil }
    bytes = found
    bitCount = found.count * 8
    if sides.count == 2 {
      guard (1...3).contains(sides[1].utf8.count),
        sides[1].utf8.allSatisfy({ (48...57).contains($0) }), let count = Int(sides[1]),
        count <= bitCount
      else { return nil }
      bitCount = count
    }
    // One that stands for an IPv4 address is that one.
    let mapped: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]
    if bytes.count == 16, bytes.starts(with: mapped), bitCount >= 96 {
      bytes = Array(bytes[12...])
      bitCount -= 96
    }
  }

  /// - Parameter other: one address.
  func contains(_ other: AddressRange) -> Bool {
    guard bytes.count == other.bytes.count, other.bitCount == other.bytes.count * 8 else {
      return false
    }
    for bit in 0..<bitCount {
      let mask = UInt8(0x80) >> UInt8(bit % 8)
      guard bytes[bit / 8] & mask == other.bytes[bit / 8] & mask else { return false }
    }
    return true
  }

  /// Few enough that whoever names them does not mean everybody.
  var isNarrow: Bool { bitCount >= (bytes.count == 4 ? 8 : 32) }

  private static func address(_ text: Substring) -> [UInt8]? {
    text.contains(":") ? version6(text) : version4(text)
  }

  private static func version4(_ text: Substring) -> [UInt8]? {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var bytes: [UInt8] = []
    for part in parts {
      guard (1...3).contains(part.utf8.count), part.utf8.allSatisfy({ (48...57).contains($0) }),
        part.utf8.count == 1 || part.utf8.first != UInt8(ascii: "0"), let byte = UInt8(part)
      else { return nil }
      bytes.append(byte)
    }
    return bytes
  }

  /// RFC 4291, 2.2.
  private static func version6(_ text: Substring) -> [UInt8]? {
    func groups(_ text: Substring) -> [UInt8]? {
      if text.isEmpty { return [] }
      var bytes: [UInt8] = []
      let parts = text.split(separator: ":", omittingEmptySubsequences: false)
      for (index, part) in parts.enumerated() {
        if index == parts.count - 1, part.contains(".") {
          guard let four = version4(part) else { return nil }
          bytes += four
          continue
        }
        guard (1...4).contains(part.utf8.count), part.utf8.allSatisfy(isHexDigit),
          let group = UInt16(part, radix: 16)
        else { return nil }
        bytes += [UInt8(group >> 8), UInt8(group & 0xFF)]
      }
      return bytes
    }
    guard let gap = text.firstRange(of: "::") else {
      guard let bytes = groups(text), bytes.count == 16 else { return nil }
      return bytes
    }
    guard let left = groups(text[..<gap.lowerBound]), let right = groups(text[gap.upperBound...]),
      left.count + right.count <= 14
    else { return nil }
    return left + [UInt8](repeating: 0, count: 16 - left.count - right.count) + right
  }

  private static func isHexDigit(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
      UInt8(ascii: "A")...UInt8(ascii: "F"):
      true
    default: false
    }
  }
}
