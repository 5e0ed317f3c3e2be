import Service
import TestSupport
import Testing

@Test(
  "sizes are read as people write them",
  arguments: [
    ("0", 0), ("4096", 4096), ("1B", 1), ("1 KiB", 1024), ("256MiB", 256 << 20),
    ("1.5 GiB", 3 << 29), ("1K", 1024), ("2G", 2 << 30), ("10 kB", 10_000), ("10MB", 10_000_000),
    ("0.5KiB", 512), ("0.0001 KiB", 0), ("1EiB", 1 << 60), ("18446744073709551615", .max),
  ] as [(String, UInt64)])
func sizes(text: String, byteCount: UInt64) {
  #expect(ByteSize(text)?.byteCount == byteCount)
}

@Test(
  "what is no size is refused",
  arguments: [
    "", " ", "KiB", "-1", "1 ", " 1", "1  KiB", "1kiB", "1Ki", "1.", ".5", "1.5.5", "1e3", "16EiB",
    "18446744073709551616", "1XB", "0x10", "1.0000000000KiB", "١",
    "5000.5", "1.5B", "1.0",
  ])
func noSizes(text: String) {
  #expect(ByteSize(text) == nil)
}

@Test(
  "sizes are shown with three digits that matter",
  arguments: [
    (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (1 << 20, "1 MiB"),
    ((1 << 20) - 1, "1 MiB"), (3 << 29, "1.5 GiB"), (12_900_000, "12.3 MiB"),
    (999 << 20, "999 MiB"), (1010 << 20, "1010 MiB"), (.max, "16 EiB"), (10_480_000, "9.99 MiB"),
    (10_485_000, "10 MiB"),
  ] as [(UInt64, String)])
func shownSizes(byteCount: UInt64, text: String) {
  #expect(ByteSize(byteCount).description == text)
}

@Test("exact texts lose nothing", arguments: Seed.several)
func exact(seed: Seed) {
  var random = seed.generator
  for _ in 0..<500 {
    let size = ByteSize(random.next() << UInt64.random(in: 0..<64, using: &random))
    #expect(ByteSize(size.exactDescription) == size)
    let span = Duration.nanoseconds(
      Int64(random.next() >> UInt64.random(in: 1..<64, using: &random)))
    #expect(Duration(text: span.exactText) == span)
  }
  #expect(ByteSize(256 << 20).exactDescription == "256MiB")
  #expect(Duration.seconds(5).exactText == "5s")
}

@Test("a shown size is read back to within half a percent", arguments: Seed.several)
func close(seed: Seed) throws {
  var random = seed.generator
  for _ in 0..<500 {
    let size = random.next() >> UInt64.random(in: 4..<64, using: &random)
    let back = try #require(ByteSize(ByteSize(size).description)).byteCount
    // Two digits behind "1.", and what is read back is cut to whole bytes.
    #expect(Double(size.distance(to: back).magnitude) <= Double(size) * 0.005 + 1)
  }
}

@Test(
  "durations are read as people write them",
  arguments: [
    ("5s", .seconds(5)), ("100ms", .milliseconds(100)), ("1.5 s", .milliseconds(1500)),
    ("10us", .microseconds(10)), ("10 µs", .microseconds(10)), ("7ns", .nanoseconds(7)),
    ("2m", .seconds(120)), ("2 min", .seconds(120)), ("1.5h", .seconds(5400)),
    ("7d", .seconds(7 * 86400)), ("0", .zero),
  ] as [(String, Duration)])
func durations(text: String, duration: Duration) {
  #expect(Duration(text: text) == duration)
}

@Test(
  "what is no duration is refused", arguments: ["", "5", "s", "-1s", "5 S", "1e3s", "300000000h"])
func noDurations(text: String) {
  #expect(Duration(text: text) == nil)
}

@Test(
  "durations are shown as people read them",
  arguments: [
    (.zero, "0 s"), (.nanoseconds(12), "12 ns"), (.nanoseconds(12_345), "12.3 µs"),
    (.milliseconds(250), "250 ms"), (.microseconds(999_999), "1 s"), (.milliseconds(1500), "1.5 s"),
    (.seconds(119), "119 s"), (.seconds(120), "2 min"), (.seconds(7500), "2 h 5 min"),
    (.seconds(90_000), "1 d 1 h"), (.seconds(-5), "-5 s"), (.milliseconds(3_599_900), "1 h"),
  ] as [(Duration, String)])
func shownDurations(duration: Duration, text: String) {
  #expect(duration.text == text)
}

@Test(
  "the calendar is right",
  arguments: [
    (.zero, "1970-01-01T00:00:00.000Z"), (.milliseconds(-1), "1969-12-31T23:59:59.999Z"),
    (.seconds(951_782_400), "2000-02-29T00:00:00.000Z"),
    (.seconds(4_107_542_400), "2100-03-01T00:00:00.000Z"),
    (.milliseconds(1_795_179_600_123), "2026-11-20T13:00:00.123Z"),
    (.seconds(253_402_300_800), "9999-12-31T23:59:59.000Z"),
    (.seconds(-62_167_219_201), "0000-01-01T00:00:00.000Z"),
  ] as [(Duration, String)])
func calendar(wallClock: Duration, text: String) {
  #expect(rfc3339(wallClock) == text)
}

@Test("every day of four centuries follows the one before")
func everyDay() {
  var (year, month, day) = (1970, 1, 1)
  func padded(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
  for index in 0..<146_097 {
    let expected = "\(year)-\(padded(month))-\(padded(day))T00:00:00.000Z"
    if index % 97 == 0 || day > 27 {
      #expect(rfc3339(.seconds(index * 86400)) == expected)
    }
    let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
    let length = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]
    day += 1
    if day > length { (month, day) = (month + 1, 1) }
    if month > 12 { (year, month) = (year + 1, 1) }
  }
}
