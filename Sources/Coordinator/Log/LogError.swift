/// Why the log cannot go on under this leader.
package enum LogError: Error, Equatable {
  /// We do not lead any more.
  case lost(ArbiterError)
  /// The log itself cannot be read: what is missing or wrong, for people. More nodes may help.
  case unreadable(String)
  case stopped
}
