import Cluster
import Messages
import Metadata

/// What a leader knows of devices that are gone and of leases to write shards anew: soft state, made anew by each leader.
/// Loop-confined.
final class RepairState: @unchecked Sendable {
  /// A lease under way.
  struct Active: Sendable {
    var lease: RewriteRecord
    /// The node that writes.
    var worker: NodeID
    /// When the worker last answered, or was first asked.
    var heardAt: Duration
    /// What it said of it last.
    var progress = RewriteStatus.Job(state: .unknown)
    /// How often it was told of the lease.
    var requestCount = 0
    /// When the worker first said that all is written.
    var doneAt: Duration?
    /// Bytes of each shard that is written.
    var shardByteCount: UInt64 = 0
  }

  var active: [ContainerID: Active] = [:]
  /// Since when devices do not answer.
  var silentSince: [DeviceID: Duration] = [:]
  /// Devices whose shards are to be elsewhere, and whether they can be read no more.
  var leaving: [DeviceID: Bool] = [:]
  /// Containers that are left alone until then, since a lease of theirs failed.
  var restUntil: [ContainerID: Duration] = [:]
  /// Devices that take no shards until then, for the same reason.
  var refusedUntil: [DeviceID: Duration] = [:]
  /// Where to go on looking, by device: what waits does not hide the rest.
  var cursors: [DeviceID: ContainerID] = [:]
  /// Blocks being made anew in place.
  var mends: [ShardKey: Leadership.Mend] = [:]
  /// Shards that are left alone until then: nothing could be done, or was done just now.
  var mendRestUntil: [ShardKey: Duration] = [:]
  /// Registered stripes that devices lack, as a comparison found.
  var missing: [ShardKey: (device: DeviceID, stripes: Set<UInt64>)] = [:]
  /// What is still to be begun of a round of balancing.
  var plannedMoves: [(container: ContainerID, move: ShardMove)] = []
  /// Since when there have been one, two, three… failure domains with room.
  var domainsSince: [Duration] = []
  /// Where to go on looking for containers that could be better.
  var repackCursor: ContainerID?
  var repackTurn: UInt64 = 0
  /// What of containers is alive.
  var liveness: [ContainerID: Leadership.Liveness] = [:]
  /// Until nothing is worth it any more, an operator wants containers collected of which a smaller share is alive.
  var collectBelow: Double?
  /// What may still be looked through in this turn for it.
  var lookBudget: UInt64 = 0
  /// Rounds of looking at all containers.
  var round: UInt64 = 0
  /// How often leases of a container failed, one after the other.
  var failures: [ContainerID: Int] = [:]
  /// Containers that have no failure domain to go to, as of the last look at each.
  var waiting = Set<ContainerID>()

  /// What leases wrote.
  var written = RateMeter()

  func isLost(_ device: DeviceID) -> Bool { leaving[device] == true }
  func isLeaving(_ device: DeviceID) -> Bool { leaving[device] != nil }

  /// Leases that a node works on.
  func count(on node: NodeID) -> Int { active.values.count { $0.worker == node } }
}
