import Ring

/// Why a benchmark does not run, or ended early.
package enum BenchError: Error, Equatable {
  /// What was asked for makes no sense; nothing was touched.
  case usage(String)
  /// It could not be done.
  case failed(String)

  package var text: String {
    switch self {
    case .usage(let text), .failed(let text): text
    }
  }
}

extension BenchError {
  static func system(_ error: RingError) -> BenchError {
    .failed(error.subject.isEmpty ? error.reason : "\(error.reason): \(error.subject)")
  }
}
