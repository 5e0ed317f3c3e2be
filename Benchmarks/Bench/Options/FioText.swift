/// Numbers as fio writes them.
enum FioText {
  /// A size: "4k", "1m", "512"; k, m, g, t and p are powers of 1,024, in either case, with or without a "b" behind.
  ///
  /// "ki" and "kib" are refused: fio reads them as 1,000, everybody else as 1,024.
  static func byteCount(_ text: String) -> UInt64? {
    guard let (number, unit) = split(text) else { return nil }
    var letters = Substring(unit)
    if letters.count == 2, letters.last == "b" { letters = letters.dropLast() }
    let power: UInt64
    switch letters {
    case "", "b": power = 0
    case "k": power = 10
    case "m": power = 20
    case "g": power = 30
    case "t": power = 40
    case "p": power = 50
    default: return nil
    }
    return scale(number, by: 1 << power)
  }

  /// A time: seconds when no unit is said; us, ms, s, m, h, d.
  static func duration(_ text: String) -> Duration? {
    guard let (number, unit) = split(text) else { return nil }
    let nanoseconds: UInt64
    switch unit {
    case "us", "usec": nanoseconds = 1000
    case "ms", "msec": nanoseconds = 1_000_000
    case "", "s", "sec": nanoseconds = 1_000_000_000
    case "m": nanoseconds = 60_000_000_000
    case "h": nanoseconds = 3_600_000_000_000
    case "d": nanoseconds = 86_400_000_000_000
    default: return nil
    }
    guard let total = scale(number, by: nanoseconds), let signed = Int64(exactly: total) else {
      return nil
    }
    return .nanoseconds(signed)
  }

  private static func split(_ text: String) -> (UInt64, String)? {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    guard !digits.isEmpty, let number = UInt64(digits) else { return nil }
    return (number, text.dropFirst(digits.count).lowercased())
  }

  private static func scale(_ number: UInt64, by scale: UInt64) -> UInt64? {
    let (product, overflow) = number.multipliedReportingOverflow(by: scale)
    return overflow ? nil : product
  }
}
