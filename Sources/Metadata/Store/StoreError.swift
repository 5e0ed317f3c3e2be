package import Messages
package import Wire

/// What can go wrong with the metadata state and the store below it.
package enum StoreError: Error, Equatable {
  /// The store's files are missing, damaged or of another format. Its state is to be thrown away and
  /// rebuilt from the log; throwing away is always safe, because the log is the truth.
  case corrupt(String)
  /// The device below refused (full, no permission, in use by another process). The state on it may be
  /// sound; rebuilding would not help.
  case device(String)
  /// The batch does not follow the applied position. Nothing was applied.
  case gap(expected: UInt64, found: UInt64)
  /// A query's answer is a refusal. `apply` never throws it.
  case refused(Refusal)

  package static func refused(_ code: RefusalCode, _ reason: String) -> StoreError {
    .refused(Refusal(code, reason))
  }
}
