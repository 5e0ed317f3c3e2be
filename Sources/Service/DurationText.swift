/// Durations as people write them: "5s", "1.5 h", "100ms".
extension Duration {
  /// Reads a decimal number with at most 9 places and a unit: ns, us or µs, ms, s, m or min, h, d. A
  /// space may stand between; "0" needs no unit. Nil for anything else, and for more than 292 years.
  package init?(text: String) {
    guard let (number, unit) = Decimal.split(text) else { return nil }
    let scale: UInt64
    switch unit {
    case "ns": scale = 1
    case "us", "µs", "μs": scale = 1000
    case "ms": scale = 1_000_000
    case "s": scale = 1_000_000_000
    case "m", "min": scale = 60_000_000_000
    case "h": scale = 3_600_000_000_000
    case "d": scale = 86_400_000_000_000
    case "" where number.mantissa == 0: scale = 1
    default: return nil
    }
    guard let nanoseconds = number.times(scale), let signed = Int64(exactly: nanoseconds) else {
      return nil
    }
    self = .nanoseconds(signed)
  }

  /// Three digits that matter below two minutes ("1.5 s", "250 ms", "12.3 µs"), two units above
  /// ("2 h 5 min"); "-" in front of a negative one.
  package var text: String {
    if self < .zero { return "-" + (.zero - self).text }
    let (seconds, attoseconds) = components
    if seconds >= 120 {
      let total = UInt64(seconds) + (attoseconds >= 500_000_000_000_000_000 ? 1 : 0)
      let units: [(String, UInt64)] = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)]
      let first = units.firstIndex { total >= $0.1 }!
      let (name, length) = units[first]
      let (next, nextLength) = units[min(first + 1, 3)]
      let rest = total % length / nextLength
      return rest == 0 ? "\(total / length) \(name)" : "\(total / length) \(name) \(rest) \(next)"
    }
    let nanoseconds = UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
    let units: [(String, UInt64)] = [
      ("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1000), ("ns", 1),
    ]
    for (index, (name, length)) in units.enumerated() where nanoseconds >= length {
      let text = threeDigits(nanoseconds, length)
      return text == "1000" && index > 0 ? "1 \(units[index - 1].0)" : "\(text) \(name)"
    }
    return "0 s"
  }

  /// Loses nothing down to the nanosecond, for configuration files: "1500ms".
  ///
  /// - Precondition: not negative.
  package var exactText: String {
    let (seconds, attoseconds) = components
    precondition(seconds >= 0 && attoseconds >= 0)
    if attoseconds == 0 { return "\(seconds)s" }
    let nanoseconds = attoseconds / 1_000_000_000
    if nanoseconds % 1_000_000 == 0 { return "\(seconds * 1000 + nanoseconds / 1_000_000)ms" }
    if nanoseconds % 1000 == 0 { return "\(seconds * 1_000_000 + nanoseconds / 1000)us" }
    return "\(seconds * 1_000_000_000 + nanoseconds)ns"
  }
}

extension Duration {
  /// Rounded down; 0 when negative.
  package var wholeMilliseconds: UInt64 {
    let parts = components
    guard parts.seconds >= 0, parts.attoseconds >= 0 else { return 0 }
    return UInt64(parts.seconds) * 1000 + UInt64(parts.attoseconds / 1_000_000_000_000_000)
  }
}
