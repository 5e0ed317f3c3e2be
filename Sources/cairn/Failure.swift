/// Why a command ends without success. Printed as one line: `cairn: what went wrong: the thing it was about`.
enum Failure: Error {
  /// Exit status 1.
  case failed(String)
  /// Wrong usage, exit status 2.
  case usage(String)
  /// Some of many things failed and each was named already; exit status 1.
  case reported
  /// Standard output is a pipe that nobody reads any more (`| head`): nothing to say, and the exit status of a program
  /// that SIGPIPE ended.
  case readerGone
  /// Ended by a signal, after cleaning up; exit status 128 + signal.
  case interrupted(signal: Int32)

  static func failed(_ what: String, _ subject: String) -> Failure {
    .failed(subject.isEmpty ? what : "\(what): \(subject)")
  }

  /// What the line says behind the program's name.
  var what: String {
    switch self {
    case .failed(let text), .usage(let text): text
    case .reported, .readerGone: "failed"
    case .interrupted: "interrupted"
    }
  }

  var exitStatus: Int32 {
    switch self {
    case .failed, .reported: 1
    case .usage: 2
    case .readerGone: 141
    case .interrupted(let signal): 128 + signal
    }
  }
}
