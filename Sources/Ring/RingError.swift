import Glibc

/// What the kernel, or the simulated one, refused.
package struct RingError: Error, Equatable, CustomStringConvertible {
  /// A positive errno.
  package let errno: Int32
  /// What was tried: "open", "read"...
  package let operation: String
  /// The file or address it was about; empty when there is none.
  package let subject: String

  package init(errno: Int32, operation: String, subject: String = "") {
    self.errno = errno
    self.operation = operation
    self.subject = subject
  }

  /// The system's words for the errno: "No such file or directory".
  package var reason: String { String(cString: strerror(errno)) }

  package var description: String {
    subject.isEmpty ? "\(operation): \(reason)" : "\(operation): \(reason): \(subject)"
  }
}
