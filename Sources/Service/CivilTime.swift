/// A moment in the calendar, UTC. Years 0 to 9999.
package struct CivilTime: Sendable, Equatable {
  package var year: Int
  /// 1 ... 12
  package var month: Int
  /// 1 ... 31
  package var day: Int
  package var hour: Int
  package var minute: Int
  package var second: Int
  package var millisecond: Int

  /// Milliseconds rounded down; times outside the years are taken as the nearest one inside.
  ///
  /// - Parameter wallClock: since 1970, as `driver.wallClock`.
  /// - Source: days to civil date after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
  package init(_ wallClock: Duration) {
    let (whole, attoseconds) = wallClock.components
    var seconds = whole
    var milliseconds = attoseconds / 1_000_000_000_000_000
    if attoseconds < 0 {
      seconds -= 1
      milliseconds = (attoseconds + 1_000_000_000_000_000_000) / 1_000_000_000_000_000
    }
    seconds = min(max(seconds, Self.first), Self.last)
    let days = seconds >= 0 ? seconds / 86400 : (seconds - 86399) / 86400
    let rest = Int(seconds - days * 86400)
    // Days since 1 March of the year 0, in eras of 400 years.
    let shifted = Int(days) + 719_468
    let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shiftedMonth = (5 * dayOfYear + 2) / 153
    day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
    month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
    year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    hour = rest / 3600
    minute = rest / 60 % 60
    second = rest % 60
    millisecond = Int(milliseconds)
  }

  private static let first: Int64 = -62_167_219_200
  private static let last: Int64 = 253_402_300_799

  /// Nil for what is no moment: a 30th of February, a 25th hour. No leap seconds.
  package init?(year: Int, month: Int, day: Int, hour: Int, minute: Int, second: Int) {
    guard (0...9999).contains(year), (1...12).contains(month), (1...31).contains(day),
      (0...23).contains(hour), (0...59).contains(minute), (0...59).contains(second)
    else { return nil }
    self.year = year
    self.month = month
    self.day = day
    self.hour = hour
    self.minute = minute
    self.second = second
    millisecond = 0
    guard CivilTime(sinceEpoch) == self else { return nil }
  }

  /// Days since 1970.
  private var days: Int {
    let shiftedYear = month <= 2 ? year - 1 : year
    let era = (shiftedYear >= 0 ? shiftedYear : shiftedYear - 399) / 400
    let yearOfEra = shiftedYear - era * 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
    return era * 146_097 + dayOfEra - 719_468
  }

  /// As `driver.wallClock`.
  package var sinceEpoch: Duration {
    .seconds(Int64(days) * 86400 + Int64(hour * 3600 + minute * 60 + second))
      + .milliseconds(millisecond)
  }

  /// "2026-11-20T13:00:00.123Z"
  package var rfc3339: String {
    "\(Self.digits(year, 4))-\(Self.digits(month, 2))-\(Self.digits(day, 2))T\(time).\(Self.digits(millisecond, 3))Z"
  }

  /// Reads times as ``rfc3339`` writes them, with or without a fraction (of which milliseconds count), and with an offset of any
  /// kind; a date alone is its midnight.
  package init?(rfc3339 text: String) {
    let bytes = Array(text.utf8)
    func number(_ range: Range<Int>) -> Int? {
      guard range.upperBound <= bytes.count else { return nil }
      return Self.number(Substring(String(decoding: bytes[range], as: UTF8.self)), range.count)
    }
    guard let year = number(0..<4), let month = number(5..<7), let day = number(8..<10),
      bytes[4] == UInt8(ascii: "-"), bytes[7] == UInt8(ascii: "-")
    else { return nil }
    guard bytes.count > 10 else {
      self.init(year: year, month: month, day: day, hour: 0, minute: 0, second: 0)
      return
    }
    guard bytes[10] == UInt8(ascii: "T"), let hour = number(11..<13), let minute = number(14..<16),
      let second = number(17..<19), bytes[13] == UInt8(ascii: ":"), bytes[16] == UInt8(ascii: ":"),
      var time = CivilTime(
        year: year, month: month, day: day, hour: hour, minute: minute, second: second)
    else { return nil }
    var place = 19
    if place < bytes.count, bytes[place] == UInt8(ascii: ".") {
      place += 1
      var digits: [Int] = []
      while let digit = number(place..<place + 1) {
        digits.append(digit)
        place += 1
      }
      guard !digits.isEmpty else { return nil }
      time.millisecond = (digits + [0, 0, 0]).prefix(3).reduce(0) { $0 * 10 + $1 }
    }
    guard place < bytes.count else { return nil }
    if bytes[place] == UInt8(ascii: "Z") {
      guard place + 1 == bytes.count else { return nil }
      self = time
      return
    }
    guard bytes.count == place + 6, bytes[place + 3] == UInt8(ascii: ":"),
      [UInt8(ascii: "+"), UInt8(ascii: "-")].contains(bytes[place]),
      let hours = number(place + 1..<place + 3), let minutes = number(place + 4..<place + 6),
      hours < 24, minutes < 60
    else { return nil }
    let offset = Duration.seconds(hours * 3600 + minutes * 60)
    let isEast = bytes[place] == UInt8(ascii: "+")
    self.init(isEast ? time.sinceEpoch - offset : time.sinceEpoch + offset)
  }

  private static let monthNames = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
  ]
  private static let dayNames = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]

  /// "Fri, 20 Nov 2026 13:00:00 GMT", as HTTP has it (RFC 9110, 5.6.7).
  package var http: String {
    let weekday = Self.dayNames[((days % 7) + 7) % 7]
    return
      "\(weekday), \(Self.digits(day, 2)) \(Self.monthNames[month - 1]) \(Self.digits(year, 4)) \(time) GMT"
  }

  /// Reads ``http``; the two obsolete forms that HTTP still allows are not read.
  package init?(http text: String) {
    let words = text.split(separator: " ", omittingEmptySubsequences: false)
    guard words.count == 6, words[5] == "GMT",
      Self.dayNames.contains(where: { $0 + "," == words[0] }),
      let day = Self.number(words[1], 2),
      let month = Self.monthNames.firstIndex(where: { $0 == words[2] }),
      let year = Self.number(words[3], 4)
    else { return nil }
    let clock = words[4].split(separator: ":", omittingEmptySubsequences: false)
    guard clock.count == 3, let hour = Self.number(clock[0], 2),
      let minute = Self.number(clock[1], 2), let second = Self.number(clock[2], 2)
    else { return nil }
    self.init(
      year: year, month: month + 1, day: day, hour: hour, minute: minute, second: second)
  }

  /// "20261120T130000Z"
  package var basic: String {
    "\(Self.digits(year, 4))\(Self.digits(month, 2))\(Self.digits(day, 2))T\(Self.digits(hour, 2))\(Self.digits(minute, 2))\(Self.digits(second, 2))Z"
  }

  /// Reads ``basic``.
  package init?(basic text: String) {
    let text = Array(text.utf8)
    guard text.count == 16, text[8] == UInt8(ascii: "T"), text[15] == UInt8(ascii: "Z") else {
      return nil
    }
    func number(_ range: Range<Int>) -> Int? {
      Self.number(Substring(String(decoding: text[range], as: UTF8.self)), range.count)
    }
    guard let year = number(0..<4), let month = number(4..<6), let day = number(6..<8),
      let hour = number(9..<11), let minute = number(11..<13), let second = number(13..<15)
    else { return nil }
    self.init(year: year, month: month, day: day, hour: hour, minute: minute, second: second)
  }

  private var time: String {
    "\(Self.digits(hour, 2)):\(Self.digits(minute, 2)):\(Self.digits(second, 2))"
  }

  private static func digits(_ value: Int, _ count: Int) -> String {
    let text = String(value)
    return String(repeating: "0", count: max(0, count - text.utf8.count)) + text
  }

  private static func number(_ text: Substring, _ count: Int) -> Int? {
    guard text.utf8.count == count,
      text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
    else { return nil }
    return Int(text)
  }
}

/// "2026-11-20T13:00:00.123Z": UTC, milliseconds rounded down. Years 0 to 9999; times outside are shown
/// as the nearest one inside.
///
/// - Parameter wallClock: since 1970, as `driver.wallClock`.
package func rfc3339(_ wallClock: Duration) -> String { CivilTime(wallClock).rfc3339 }
