import Ring

/// Lines on standard output and standard error, in order. Loop-confined.
final class Output: @unchecked Sendable {
  let driver: any Driver
  private let standardOutput: File
  private let standardError: File
  private var held: [UInt8] = []
  private let isTerminal = HostProcess.isTerminal(1)

  init(driver: any Driver) {
    self.driver = driver
    standardOutput = File(driver: driver, descriptor: 1, path: "standard output")
    standardError = File(driver: driver, descriptor: 2, path: "standard error")
  }

  /// Adds a line to standard output; it leaves with the next `flush` or when enough is held.
  func line(_ text: String) async throws(Failure) {
    held += Array(text.utf8)
    held.append(10)
    if held.count >= 64 << 10 { try await flush() }
  }

  /// Adds text to standard output as it is, with no line's end behind it.
  func text(_ text: String) { held += Array(text.utf8) }

  func flush() async throws(Failure) {
    let bytes = held
    held.removeAll(keepingCapacity: true)
    if bytes.isEmpty { return }
    do throws(RingError) {
      try await standardOutput.write([Slice(copying: bytes)], at: .max)
    } catch {
      if error.errno == Errno.brokenPipe { throw .readerGone }
      throw .failed(error.reason, "standard output")
    }
  }

  /// A key as `line` should show it: as it is for scripts, without what would move the cursor on a terminal.
  func shown(_ key: String) -> String { isTerminal ? Self.printable(key) : key }

  /// One line on standard error, at once, whatever names are in it.
  func error(_ text: String) async { await errorText(Self.printable(text) + "\n") }

  /// Raw text on standard error, for the progress bar. A broken standard error is nobody's to tell.
  func errorText(_ text: String) async {
    do throws(RingError) {
      try await standardError.write([Slice(copying: Array(text.utf8))], at: .max)
    } catch {}
  }

  /// `text` with what is no printable character escaped: control characters, line breaks, and bytes that are no UTF-8 as
  /// ``PathText`` holds them.
  static func printable(_ text: String) -> String {
    let decoded = String(validating: PathText.bytes(text), as: UTF8.self) ?? text
    var out = ""
    for scalar in decoded.unicodeScalars {
      switch scalar.value {
      case 0x0A: out += "\\n"
      case 0x0D: out += "\\r"
      case 0x09: out += "\\t"
      case 0..<0x20, 0x7F..<0xA0: out += "\\x" + hex(scalar.value)
      case 0x2028, 0x2029: out += "\\u{" + String(scalar.value, radix: 16) + "}"
      case 0x10FE80...0x10FEFF: out += "\\x" + hex(scalar.value - 0x10FE00)
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out
  }

  private static func hex(_ value: UInt32) -> String {
    (value < 16 ? "0" : "") + String(value, radix: 16, uppercase: true)
  }
}
