import Ring

/// A bar on standard error: bytes, rate and time left, redrawn five times a second on a terminal and silent
/// elsewhere. Loop-confined.
final class Progress: @unchecked Sendable {
  private let output: Output
  private let isShown: Bool
  private let label: String
  private let started: Duration
  private var task: SpawnedTask?
  /// Bytes done so far.
  var doneByteCount: UInt64 = 0
  /// All there is to do; nil while that is not known.
  var totalByteCount: UInt64?
  var doneCount = 0

  init(_ label: String, output: Output, totalByteCount: UInt64? = nil) {
    self.label = label
    self.output = output
    self.totalByteCount = totalByteCount
    isShown = HostProcess.isTerminal(2)
    started = output.driver.now
    guard isShown else { return }
    task = output.driver.spawn("progress") { [self] in
      while await output.driver.sleep(.milliseconds(200)) { await draw() }
    }
  }

  func add(_ byteCount: Int) { doneByteCount += UInt64(byteCount) }

  /// What was counted is to be done again.
  func takeBack(_ byteCount: UInt64) { doneByteCount -= min(doneByteCount, byteCount) }

  /// Stops drawing and clears the line.
  func finish() async {
    guard isShown else { return }
    task?.cancel()
    await task?.wait()
    await output.errorText("\r\u{1B}[K")
  }

  private func draw() async {
    let elapsed = output.driver.now - started
    await output.errorText(
      "\r\u{1B}[K"
        + Self.line(
          label: label, done: doneByteCount, total: totalByteCount, count: doneCount,
          elapsed: elapsed, width: HostProcess.terminalWidth(2)))
  }

  /// "put  [#####.....] 1.2 GiB of 3.0 GiB  312.0 MiB/s  6 s left", cut to `width`.
  static func line(
    label: String, done: UInt64, total: UInt64?, count: Int, elapsed: Duration, width: Int
  ) -> String {
    let seconds = Double(elapsed.components.seconds) + Double(elapsed.components.attoseconds) / 1e18
    let rate = seconds > 0 ? Double(done) / seconds : 0
    var tail = " " + byteText(done)
    if let total { tail += " of " + byteText(total) }
    if count > 0 { tail += "  \(count) done" }
    tail += "  " + byteText(UInt64(rate)) + "/s"
    if let total, rate > 0, total > done {
      tail += "  " + timeText(Int(Double(total - done) / rate)) + " left"
    }
    var bar = ""
    if let total, total > 0 {
      let room = max(0, min(30, width - label.count - tail.count - 5))
      if room >= 5 {
        let filled = Int(Double(room) * min(1, Double(done) / Double(total)))
        bar =
          " [" + String(repeating: "#", count: filled)
          + String(repeating: ".", count: room - filled) + "]"
      }
    }
    return String((label + bar + tail).prefix(max(1, width - 1)))
  }
}

/// "1.5 GiB", "312 B".
func byteText(_ count: UInt64) -> String {
  if count < 1024 { return "\(count) B" }
  var value = Double(count)
  var unit = -1
  let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
  while value >= 1024 && unit < units.count - 1 {
    value /= 1024
    unit += 1
  }
  let tenths = Int((value * 10).rounded())
  return "\(tenths / 10).\(tenths % 10) \(units[unit])"
}

/// "6 s", "2 min 5 s", "3 h 10 min".
func timeText(_ seconds: Int) -> String {
  if seconds < 60 { return "\(seconds) s" }
  if seconds < 3600 { return "\(seconds / 60) min \(seconds % 60) s" }
  return "\(seconds / 3600) h \(seconds % 3600 / 60) min"
}
