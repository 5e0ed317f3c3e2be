internal import Cluster
internal import Messages
internal import Metadata
internal import Simulation

/// What was ever seen registered, container by container, looked up now and then while the workload runs: of a
/// container that is forgotten the state has nothing any more. Loop-confined.
final class RegisteredStripes: @unchecked Sendable {
  private(set) var stripes: [ContainerID: Set<UInt64>] = [:]

  /// Takes in what the state of the coordinator that leads has now.
  func look(_ cluster: SimulatedCluster) {
    guard let leader = cluster.coordinators.first(where: { $0.isUp && $0.mayLead }),
      let store = leader.storage.opened.last,
      let containers = try? StateAudit.containers(in: store)
    else { return }
    for (record, registered) in containers where !registered.isEmpty {
      stripes[record.id, default: []].formUnion(registered.map(\.stripe))
    }
  }
}
