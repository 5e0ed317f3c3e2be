import Ring

/// Lines on standard output and standard error, in order. Loop-confined.
final class Output: @unchecked Sendable {
  let driver: any Driver
  private let standardOutput: File
  private let standardError: File
  private var held: [UInt8] = []

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

  func flush() async throws(Failure) {
    let bytes = held
    held.removeAll(keepingCapacity: true)
    if bytes.isEmpty { return }
    do throws(RingError) {
      try await standardOutput.write([Slice(copying: bytes)], at: .max)
    } catch {
      throw .failed(error.reason, "standard output")
    }
  }

  /// One line on standard error, at once. A broken standard error is nobody's to tell.
  func error(_ text: String) async {
    try? await standardError.write([Slice(copying: Array((text + "\n").utf8))], at: .max)
  }

  /// Raw text on standard error, for the progress bar.
  func errorText(_ text: String) async {
    try? await standardError.write([Slice(copying: Array(text.utf8))], at: .max)
  }
}
