package import Ring

/// Why a node did not start; one line for people. Nothing was changed, unless a fresh directory or device was being
/// made.
package enum NodeError: Error, Equatable, CustomStringConvertible {
  /// Another process has the directory open.
  case inUse(path: String)
  /// The directory belongs to another node, or its devices do; the text says to whom.
  case foreign(String)
  case newerFormat(path: String, version: UInt32)
  /// The file that says which node this is is damaged.
  case identityDamaged(path: String)
  /// The file that says which devices stood where is damaged.
  case ledgerDamaged(path: String)
  /// Not one device could be opened; the text says why each could not.
  case noDevices(String)
  case system(RingError)

  package var description: String {
    switch self {
    case .inUse(let path): "another process has the directory open: \(path)"
    case .foreign(let what): what
    case .newerFormat(let path, let version):
      "written by a newer version (format \(version)): \(path)"
    case .identityDamaged(let path): "the node's identity is damaged: \(path)"
    case .ledgerDamaged(let path):
      "the list of the node's devices is damaged; with all of them mounted, remove it: \(path)"
    case .noDevices(let reasons): "no device could be opened: \(reasons)"
    case .system(let error): "\(error)"
    }
  }
}
