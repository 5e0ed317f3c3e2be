package import Messages
import Wire

/// Why an object could not be written, read or changed. Each prints as the part of an error line before the
/// thing it was about.
package enum DataPathError: Error, Equatable, CustomStringConvertible {
  /// The coordinator or a node carried out nothing and said why.
  case refused(code: UInt16, reason: String)
  /// No coordinator answered within the patience allowed; for a change, whether it was made is unknown.
  case noCoordinator(String)
  case wrongKey
  /// The session's answer is gone: whether the change was made is unknown.
  case outcomeUnknown
  /// Too few blocks of a stripe can be had.
  case unreadable(missing: [String], needed: Int, found: Int)
  /// What came back is not what was stored.
  case corrupt(String)
  /// The source of the bytes failed.
  case source(String)
  /// The destination of the bytes failed.
  case sink(String)
  /// The object was replaced while it was read.
  case changed
  case cancelled

  package var refusalCode: RefusalCode? {
    if case .refused(let code, _) = self { RefusalCode(rawValue: code) } else { nil }
  }

  package var description: String {
    switch self {
    case .refused(let code, let reason):
      switch RefusalCode(rawValue: code) {
      case .noSuchBucket: "no such bucket"
      case .noSuchKey: "no such key"
      case .bucketExists: "bucket exists already"
      case .bucketNotEmpty: "bucket is not empty"
      case .invalidName: "name is not allowed"
      case .noSuchClass: "no such storage class"
      case .noSuchUser: "no such user"
      case .userExists: "user exists already"
      case .noSuchAccessKey: "no such access key"
      case .noSuchPolicy: "no such policy"
      case .noSuchKeyDomain: "no such key domain"
      case .keyDomainExists: "key domain exists already"
      case .preconditionFailed: "the object was changed by somebody else"
      default: reason.isEmpty ? "refused with code \(code)" : reason
      }
    case .noCoordinator(let reason): "no coordinator leads: \(reason)"
    case .wrongKey: "the cluster does not accept our key"
    case .outcomeUnknown: "the session expired, whether the change was made is unknown"
    case .unreadable(let missing, let needed, let found):
      "too few blocks: \(found) found, \(needed) needed; missing on \(missing.joined(separator: ", "))"
    case .corrupt(let what): "stored bytes are wrong: \(what)"
    case .source(let reason): reason
    case .sink(let reason): reason
    case .changed: "the object was replaced while it was read"
    case .cancelled: "cancelled"
    }
  }

  init(_ error: WireError) {
    switch error {
    case .refused(let code, let reason): self = .refused(code: code, reason: reason)
    case .wrongKey: self = .wrongKey
    case .cancelled: self = .cancelled
    case .unreachable(let reason), .disconnected(let reason): self = .noCoordinator(reason)
    case .deadline: self = .noCoordinator("no answer in time")
    case .version(let reason), .malformed(let reason): self = .noCoordinator(reason)
    }
  }
}
