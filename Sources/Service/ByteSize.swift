/// A number of bytes as people write it: "256MiB", "1.5 GiB", "4096".
package struct ByteSize: Sendable, Hashable, Comparable, CustomStringConvertible {
  package var byteCount: UInt64

  package init(_ byteCount: UInt64) { self.byteCount = byteCount }
  /// - Parameter byteCount: not negative.
  package init(_ byteCount: Int) { self.byteCount = UInt64(byteCount) }

  package static func < (a: Self, b: Self) -> Bool { a.byteCount < b.byteCount }

  /// For memory and file sizes; more than `Int` holds becomes its maximum.
  package var int: Int { Int(clamping: byteCount) }

  /// Powers of 1,024.
  private static let binaryNames = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]

  /// Reads a decimal number with at most 9 places, and a unit: B, KiB … EiB (powers of 1,024; also K,
  /// M, G, T, P, E), kB, KB, MB … EB (powers of 1,000), or none for bytes. A space may stand between.
  /// Parts of a byte are rounded down; a number of bytes has none. Nil for anything else, and for more than 2^64 - 1.
  package init?(_ text: String) {
    guard let (number, unit) = Decimal.split(text), let scale = Self.scale(unit),
      scale > 1 || number.places == 0, let byteCount = number.times(scale)
    else { return nil }
    self.byteCount = byteCount
  }

  private static func scale(_ unit: Substring) -> UInt64? {
    switch unit {
    case "", "B": return 1
    case "kB": return 1000
    default: break
    }
    let letters = Array("KMGTPE")
    guard let first = unit.first, let power = letters.firstIndex(of: first) else { return nil }
    switch unit.dropFirst() {
    case "", "iB": return 1 << (10 * UInt64(power + 1))
    case "B": return (0...power).reduce(1) { scale, _ in scale * 1000 }
    default: return nil
    }
  }

  /// Three digits that matter and a unit: "1.5 GiB", "12.3 MiB", "256 B".
  package var description: String {
    var power = 0
    while power < 6 && byteCount >> (10 * UInt64(power + 1)) > 0 { power += 1 }
    if power == 0 { return "\(byteCount) B" }
    let unit = UInt64(1) << (10 * UInt64(power))
    let text = threeDigits(byteCount, unit)
    // 1,023.9 KiB round to 1,024, which is one of the next unit.
    return text == "1024" && power < 6
      ? "1 \(Self.binaryNames[power + 1])" : "\(text) \(Self.binaryNames[power])"
  }

  /// Loses nothing, for configuration files: "256MiB", "4097B".
  package var exactDescription: String {
    let power = byteCount == 0 ? 0 : min(6, byteCount.trailingZeroBitCount / 10)
    return "\(byteCount >> (10 * UInt64(power)))\(Self.binaryNames[power])"
  }
}

/// `value / unit` rounded to three digits that matter (all of them above 1,000), without zeros at the
/// end of the fraction.
func threeDigits(_ value: UInt64, _ unit: UInt64) -> String {
  for (limit, scale) in [(UInt64(10), UInt64(100)), (100, 10), (.max, 1)] where value / unit < limit
  {
    let scaled = value.multipliedFullWidth(by: scale)
    let (quotient, remainder) = unit.dividingFullWidth(scaled)
    let rounded = quotient + (remainder >= unit - remainder ? 1 : 0)
    if scale > 1 && rounded >= limit * scale { continue }
    let whole = rounded / scale
    var fraction = String(rounded % scale + scale).dropFirst()
    while fraction.last == "0" { fraction.removeLast() }
    return fraction.isEmpty ? "\(whole)" : "\(whole).\(fraction)"
  }
  return "\(value / unit)"
}

/// A number as written, exact: `mantissa / 10^places`.
struct Decimal {
  var mantissa: UInt64
  var places: Int

  /// "1.5 GiB" becomes 1.5 and "GiB".
  static func split(_ text: String) -> (number: Decimal, unit: Substring)? {
    let digits = text.prefix { ("0"..."9").contains($0) }
    guard !digits.isEmpty else { return nil }
    var rest = text.dropFirst(digits.count)
    var fraction: Substring = ""
    if rest.first == "." {
      fraction = rest.dropFirst().prefix { ("0"..."9").contains($0) }
      guard !fraction.isEmpty, fraction.count <= 9 else { return nil }
      rest = rest.dropFirst(1 + fraction.count)
    }
    guard let mantissa = UInt64(digits + fraction) else { return nil }
    if rest.first == " " {
      rest = rest.dropFirst()
      if rest.isEmpty { return nil }
    }
    return (Decimal(mantissa: mantissa, places: fraction.count), rest)
  }

  /// Rounded down; nil when it does not fit.
  func times(_ scale: UInt64) -> UInt64? {
    let divisor = (0..<places).reduce(UInt64(1)) { power, _ in power * 10 }
    let product = mantissa.multipliedFullWidth(by: scale)
    guard product.high < divisor else { return nil }
    return divisor.dividingFullWidth(product).quotient
  }
}
