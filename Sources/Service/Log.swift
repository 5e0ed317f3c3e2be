import Glibc
package import Ring

package enum LogLevel: String, Sendable, Comparable, ConfigurationChoice {
  case debug, info, warning, error

  private var rank: Int { Self.allCases.firstIndex(of: self)! }
  package static func < (a: Self, b: Self) -> Bool { a.rank < b.rank }
}

/// A daemon's log: one line a record, in order.
///
///     2026-11-20T13:00:00.123Z INFO node started address=127.0.0.1:7000 devices=4
///
/// A record costs its caller the formatting of one line; a task of the loop writes what has gathered.
/// When the file is slower than the records, ``recordLimit`` of them wait and later ones are dropped,
/// which a record of its own then tells.
package final class Log: @unchecked Sendable {
  // Loop-confined.
  package typealias Fields = KeyValuePairs<String, any CustomStringConvertible>

  /// Records that may wait to be written.
  package static let recordLimit = 8192
  private static let batchByteCount = 256 << 10

  private let driver: any Driver
  private let file: File
  package var level: LogLevel
  private var waiting: [[UInt8]] = []
  private var droppedCount = 0
  private var isWriting = false
  private let idle = WaitQueue()

  /// - Parameter file: written where it stands; standard error when nil. It is not closed.
  package init(driver: any Driver, file: File? = nil, level: LogLevel = .info) {
    self.driver = driver
    self.file = file ?? File(driver: driver, descriptor: STDERR_FILENO, path: "standard error")
    self.level = level
  }

  /// Appends to `path`, which is made when it is missing.
  package static func open(_ path: String, level: LogLevel = .info, on driver: any Driver)
    async throws(RingError) -> Log
  {
    let file = try await File.open(
      path, O_WRONLY | O_CREAT | O_APPEND, mode: 0o640, on: driver)
    return Log(driver: driver, file: file, level: level)
  }

  package func debug(_ event: String, _ fields: @autoclosure () -> Fields = [:]) {
    record(.debug, event, fields)
  }
  package func info(_ event: String, _ fields: @autoclosure () -> Fields = [:]) {
    record(.info, event, fields)
  }
  package func warning(_ event: String, _ fields: @autoclosure () -> Fields = [:]) {
    record(.warning, event, fields)
  }
  package func error(_ event: String, _ fields: @autoclosure () -> Fields = [:]) {
    record(.error, event, fields)
  }

  private func record(_ level: LogLevel, _ event: String, _ fields: () -> Fields) {
    if level < self.level { return }
    if waiting.count >= Self.recordLimit {
      droppedCount += 1
      return
    }
    waiting.append(line(level, event, fields()))
    if !isWriting {
      isWriting = true
      driver.spawn("log") { [self] in await writeAll() }
    }
  }

  private func line(_ level: LogLevel, _ event: String, _ fields: Fields) -> [UInt8] {
    var line = Array(rfc3339(driver.wallClock).utf8)
    line.append(UInt8(ascii: " "))
    line.append(contentsOf: level.rawValue.uppercased().utf8)
    line.append(UInt8(ascii: " "))
    Self.escape(event, into: &line)
    for (name, value) in fields {
      line.append(UInt8(ascii: " "))
      line.append(contentsOf: name.utf8)
      line.append(UInt8(ascii: "="))
      let text = value.description
      let isPlain =
        !text.isEmpty && text.utf8.allSatisfy { $0 > 32 && $0 != 127 && $0 != 34 && $0 != 61 }
      if isPlain {
        line.append(contentsOf: text.utf8)
      } else {
        line.append(UInt8(ascii: "\""))
        Self.escape(text, into: &line, quoted: true)
        line.append(UInt8(ascii: "\""))
      }
    }
    line.append(UInt8(ascii: "\n"))
    return line
  }

  /// Nothing that comes from outside can end a line or forge one.
  private static func escape(_ text: String, into line: inout [UInt8], quoted: Bool = false) {
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\n"): line.append(contentsOf: "\\n".utf8)
      case UInt8(ascii: "\r"): line.append(contentsOf: "\\r".utf8)
      case UInt8(ascii: "\t"): line.append(contentsOf: "\\t".utf8)
      case UInt8(ascii: "\\") where quoted, UInt8(ascii: "\"") where quoted:
        line.append(UInt8(ascii: "\\"))
        line.append(byte)
      case 0..<32, 127:
        let digits = Array("0123456789abcdef".utf8)
        line.append(contentsOf: "\\x".utf8)
        line.append(digits[Int(byte >> 4)])
        line.append(digits[Int(byte & 15)])
      default: line.append(byte)
      }
    }
  }

  private func writeAll() async {
    while true {
      if waiting.isEmpty && droppedCount > 0 {
        let count = droppedCount
        droppedCount = 0
        waiting.append(line(.warning, "log records were dropped", ["count": count]))
      }
      if waiting.isEmpty { break }
      var batch: [UInt8] = []
      var used = 0
      while used < waiting.count && batch.count < Self.batchByteCount {
        batch += waiting[used]
        used += 1
      }
      waiting.removeFirst(used)
      do throws(RingError) {
        try await file.write([Slice(copying: batch, pool: driver.buffers)], at: .max)
      } catch {
        // A log that cannot be written must not stop the daemon; the loss is told when it can.
        droppedCount += used
        if waiting.isEmpty { break }
        if Task.isCancelled { waiting.removeAll() }
      }
    }
    isWriting = false
    idle.wakeAll()
  }

  /// Waits until every record so far is written.
  package func flush() async {
    while isWriting { await idle.wait() }
  }
}
