import DataPath

/// A failed piece of cluster work as the one line a person reads.
func failure(_ error: DataPathError, _ subject: String) -> Failure {
  .failed("\(error)", subject)
}
