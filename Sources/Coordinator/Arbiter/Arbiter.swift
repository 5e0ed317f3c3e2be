package import Metadata

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
  case stopped
}

/// The right to lead: an epoch that nobody else has or had, and the root as it stood when it was won.
package struct Term: Sendable {
  package var epoch: UInt64
  /// Nil: there is no cluster yet, and the holder may found one.
  package var root: RootRecord?
}

/// Names the leader and holds the root record. One object serves one coordinator.
package protocol Arbiter: AnyObject, Sendable {
  /// Waits until this coordinator may lead; from then on the lease is renewed until it is lost or released.
  func acquire() async throws(ArbiterError) -> Term
  /// Whether the lease holds at this moment, by our own clock with a margin for its drift. Ask again
  /// after every suspension before an answer depends on it.
  var isHeld: Bool { get }
  /// Waits until the lease that ``acquire()`` won is gone, and says why.
  func waitForLoss() async -> ArbiterError
  /// Gives the current term up for a reason found elsewhere, such as a node's refusal.
  func lose(_ reason: ArbiterError)
  /// The newest root that counts.
  var root: RootRecord? { get }
  /// Compare-and-swap: `edit` is handed a copy of the root that counts now, or nil when there is none,
  /// and gives the next; version and epoch are filled in. Swaps are made one after the other.
  ///
  /// - Throws: ``ArbiterError/unanswered`` when nothing was changed; for any other reason this coordinator
  ///   leads no more, and whether the new root will come to count is unknown.
  @discardableResult
  func swap(_ edit: (RootRecord?) -> RootRecord) async throws(ArbiterError) -> RootRecord
  /// Stops renewing. The next ``acquire()`` claims a new epoch.
  func release() async
  /// What it waits for, for people; empty when all is well.
  var detail: String { get }
}
