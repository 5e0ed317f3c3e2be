import DataPath
import Messages

/// A failed piece of cluster work as the one line a person reads.
func failure(_ error: DataPathError, _ subject: String) -> Failure {
  if error.refusalCode == .keyIsClients {
    return .failed("\(error); --passphrase-file or --ask-passphrase gives it", subject)
  }
  return .failed("\(error)", subject)
}
