import Cluster
import Service

/// Which blocks a reader asks for first, and where it stands.
struct ReadSettings: Sendable {
  var policy = ReadPolicy.dataFirst
  /// "FILE:LINE" of `location`.
  private var place = ""

  init() {}

  init(_ table: ConfigurationTable) throws(ConfigurationError) {
    let name = try table.value("read_policy", default: "data-first")
    let location: [String]? = try table.optional("location")
    guard let policy = ReadPolicy(named: name, location: location ?? []) else {
      let names = ReadPolicy.names.map { "\"\($0)\"" }
      throw table.error("read_policy", "must be one of \(names.joined(separator: ", "))")
    }
    self.policy = policy
    place = table.place(of: "location")
    switch policy {
    case .nearest where location == nil:
      // Said of the one that is there, which has a line.
      throw table.error(
        "read_policy",
        "\"nearest\" wants 'location' beside it: the failure domain that reads, as [\"rack-1\"]")
    case .nearest([]): throw table.error("location", "must name at least one failure domain")
    case .nearest: break
    default:
      if location != nil {
        throw table.error("location", "says nothing without read_policy = \"nearest\"")
      }
    }
  }

  /// Whether only the cluster knows if ``check(_:)`` lets it pass.
  var needsCheck: Bool { if case .nearest = policy { true } else { false } }

  /// - Parameter nodes: of the cluster. While there are none nothing is known to be wrong.
  /// - Throws: when no node is in the failure domain that `location` begins with: then nothing would be near.
  func check(_ nodes: [NodeRecord]) throws(Failure) {
    guard case .nearest(let location) = policy, let first = location.first, !nodes.isEmpty else {
      return
    }
    let known = Set(nodes.map { $0.domain.first ?? $0.name })
    guard !known.contains(first) else { return }
    let shown = known.sorted().prefix(8).joined(separator: ", ") + (known.count > 8 ? ", ..." : "")
    throw .failed("'location' names no failure domain of this cluster, which has \(shown)", place)
  }
}
