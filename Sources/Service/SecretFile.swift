package import Ring

/// Why a file of secrets is not read.
package enum SecretFileError: Error, Equatable {
  case unreadable(String)
  /// Everybody on this machine may read or change it.
  case open

  /// - Parameter what: the file holds, as in "the cluster key".
  package func reason(_ what: String) -> String {
    switch self {
    case .unreadable(let why): "cannot read \(what): \(why)"
    case .open: "everybody on this machine can get at \(what): 'chmod 600' the file"
    }
  }
}

extension Driver {
  /// The bytes of a file that holds keys or passwords.
  ///
  /// Its group may have rights, since a service may have a group of its own. All others may have none.
  ///
  /// - Throws: ``SecretFileError/unreadable(_:)`` also when there are more than `limit` bytes.
  package func readSecret(_ path: String, limit: Int) async throws(SecretFileError) -> [UInt8] {
    let mode: UInt32
    let bytes: [UInt8]
    do throws(RingError) {
      mode = try await status(path).mode
      bytes = try await readFile(path, limit: limit)
    } catch {
      throw .unreadable(error.reason)
    }
    guard mode & 0o007 == 0 else { throw .open }
    return bytes
  }
}
