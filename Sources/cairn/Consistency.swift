import Messages
import Ring

/// How fresh what a command reads must be, as its options say.
func readLevel(_ arguments: Arguments, _ session: SessionFile?) async throws(Failure) -> ReadLevel {
  switch arguments["--consistency"] ?? "strong" {
  case "strong": return .strong
  case "read-own":
    guard let session else {
      throw .usage("--consistency read-own needs --session FILE, which says what was written")
    }
    return .position(try await session.position())
  case "eventual": return .eventual
  case let other: throw .usage("--consistency takes strong, read-own or eventual: \(other)")
  }
}

/// A file that remembers from command to command how far the log was when the last change was made: `--session FILE`. Whoever
/// reads at that position sees all changes that were made with the file.
struct SessionFile: Sendable {
  var driver: any Driver
  var path: String

  /// 0 while there is no file.
  func position() async throws(Failure) -> UInt64 {
    guard await driver.exists(path) else { return 0 }
    let text: String
    do throws(RingError) {
      text = String(decoding: try await driver.readFile(path, limit: 64), as: UTF8.self)
    } catch {
      throw .failed(error.reason, path)
    }
    guard let position = UInt64(text.filter { !$0.isWhitespace }) else {
      throw .failed("is no session file", path)
    }
    return position
  }

  /// Remembers `changed` when it is later than what is known.
  func note(_ changed: UInt64) async throws(Failure) {
    guard changed > (try await position()) else { return }
    do throws(RingError) {
      try await driver.replaceFile(path, with: Array("\(changed)\n".utf8), mode: 0o644)
    } catch {
      throw .failed(error.reason, path)
    }
  }
}
