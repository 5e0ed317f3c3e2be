package import Ring
package import ShardStore

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
  case noDevices
  case device(path: String, StoreError)
  case system(RingError)

  package var description: String {
    switch self {
    case .inUse(let path): "another process has the directory open: \(path)"
    case .foreign(let what): what
    case .newerFormat(let path, let version):
      "written by a newer version (format \(version)): \(path)"
    case .identityDamaged(let path): "the node's identity is damaged: \(path)"
    case .noDevices: "no device could be opened"
    case .device(let path, let error): "\(error): \(path)"
    case .system(let error): "\(error)"
    }
  }
}
