package import Metadata
package import Ring

/// Why nobody leads here, or not any more.
package enum ArbiterError: Error, Equatable {
  /// Another process works in this directory.
  case locked(path: String)
  /// The directory cannot be used.
  case directory(String)
  /// The directory was deleted or replaced while we worked in it. Who finds it gone may not lead again.
  case directoryGone(path: String)
  /// Another coordinator has claimed a higher epoch.
  case deposed(epoch: UInt64)
  /// Too few nodes renewed the lease in time.
  case expired
  /// Too few of the nodes that a new root names answered. Nothing was changed, and the lease still holds.
  case unanswered
  /// The arbiter serves another cluster; this coordinator cannot go on. A line that says what to do.
  case foreign(String)
  /// Given up on request, for another coordinator to take.
  case handedOver
  case stopped
}

/// The right to lead: an epoch that nobody else has or had, and the root as it stood when it was won.
package struct Term: Sendable {
  package var epoch: UInt64
  /// Nil: there is no cluster yet, and the holder may found one.
  package var root: RootRecord?

  package init(epoch: UInt64, root: RootRecord?) {
    self.epoch = epoch
    self.root = root
  }
}

/// Names the leader and holds the root record. One object serves one coordinator, and one term after the other;
/// several of them, one for each coordinator, may speak for one register. Loop-confined.
///
/// What the register behind it must see to: an epoch is given out once, and is higher than all before it; a root
/// counts only while its writer's epoch is the highest given out and its lease may still last; the lease that a
/// holder believes in ends, by any clock, before the next holder's ``acquire()`` returns.
package protocol Arbiter: AnyObject, Sendable {
  /// Waits until this coordinator may lead; from then on the lease is renewed until it is lost or released.
  /// While another leads, this is where a standby waits.
  ///
  /// - Throws: ``ArbiterError/stopped`` once ``release()`` was called; what else ends the coordinator
  ///   (``CoordinatorEnd``) or, after a moment, has it ask again.
  func acquire() async throws(ArbiterError) -> Term
  /// Whether the lease holds at this moment, by our own clock with a margin for its drift. Ask again
  /// after every suspension before an answer depends on it. False before the first term and after a loss.
  var isHeld: Bool { get }
  /// Waits until the lease that ``acquire()`` won is gone, and says why.
  func waitForLoss() async -> ArbiterError
  /// Gives the current term up for a reason found elsewhere, such as a node's refusal. The first reason counts; at
  /// once ``isHeld`` is false, ``waitForLoss()`` returns, and a swap under way ends. After ``ArbiterError/deposed(epoch:)``
  /// the next epoch must be higher than that one too.
  func lose(_ reason: ArbiterError)
  /// The newest root that counts, as far as is known here. While the lease is held it is the newest.
  var root: RootRecord? { get }
  /// Compare-and-swap: `edit` is handed a copy of the root that counts now, or nil when there is none,
  /// and gives the next; version and epoch are filled in. Swaps are made one after the other.
  ///
  /// - Parameter epoch: the term's in which the caller leads. What it found then may not be so in the next.
  /// - Throws: ``ArbiterError/unanswered`` when nothing was changed; for any other reason this coordinator
  ///   leads no more, and whether the new root will come to count is unknown.
  @discardableResult
  func swap(in epoch: UInt64, _ edit: (RootRecord?) -> RootRecord) async throws(ArbiterError)
    -> RootRecord
  /// Gives the lead up for good and stops renewing: ``acquire()``, also one that waits, throws `stopped`.
  func release() async
  /// What it waits for, for people; empty when all is well.
  var detail: String { get }
  /// Whether the lease holds only while enough of the cluster's nodes answer here. Where it does not, a leader
  /// that is cut off from the nodes would keep it, so it looks for itself and gives the lead up.
  var leaseNeedsNodes: Bool { get }
  /// Whether ``acquire()`` looks for a lost root among the nodes.
  var asksNodesForRoot: Bool { get }
  /// Another coordinator that leads, as far as is known here.
  var leader: SocketAddress? { get }
  /// Whether another coordinator may take the lead when this one gives it up.
  var canHandOver: Bool { get }
}

extension Arbiter {
  package var leaseNeedsNodes: Bool { false }
  package var asksNodesForRoot: Bool { leaseNeedsNodes }
  package var leader: SocketAddress? { nil }
  package var canHandOver: Bool { false }
}

/// Who a coordinator asks for the lead.
package enum ArbiterChoice: Sendable {
  /// ``FileArbiter`` in the data directory: for a cluster with one coordinator.
  case file
  /// One that is made for this coordinator.
  case made(@Sendable (ArbiterSite) -> any Arbiter)
}

/// Where an arbiter works: the coordinator it is made for.
package struct ArbiterSite: Sendable {
  package let driver: any Driver
  package let configuration: CoordinatorConfiguration
  package let nodes: NodeTable
  package let port: any NodePort
}
