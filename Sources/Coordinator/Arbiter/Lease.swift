package import Cluster
import Coding
package import Metadata

/// How long a lease lasts and how often it is renewed.
package struct LeaseTiming: Sendable {
  /// How long after its send time a renewal counts.
  package var duration: Duration
  package var renewInterval: Duration
  /// Taken off our own lease, because clocks of different machines drift apart.
  package var margin: Duration

  package init(
    duration: Duration = .seconds(3), renewInterval: Duration = .seconds(1),
    margin: Duration = .milliseconds(300)
  ) {
    precondition(margin < duration && renewInterval < duration)
    self.duration = duration
    self.renewInterval = renewInterval
    self.margin = margin
  }
}

/// A lease that nodes hold for a coordinator: it lasts while enough of them renewed it lately.
struct Lease: Sendable {
  let timing: LeaseTiming
  /// When the last renewal that a node accepted was *sent*, by our monotonic clock.
  private(set) var renewed: [NodeID: Duration] = [:]

  init(_ timing: LeaseTiming) { self.timing = timing }

  mutating func accept(_ node: NodeID, sentAt: Duration) {
    renewed[node] = max(sentAt, renewed[node] ?? sentAt)
  }

  func count(of nodes: [NodeID]) -> Int { nodes.count { renewed[$0] != nil } }

  /// When the lease of these nodes ends: a margin before the `needed`-th latest renewal is one duration
  /// old. Nil when fewer than `needed` ever accepted.
  func expiry(of nodes: [NodeID], needed: Int) -> Duration? {
    let times = nodes.compactMap { renewed[$0] }.sorted(by: >)
    guard needed > 0, times.count >= needed else { return nil }
    return times[needed - 1] + timing.duration - timing.margin
  }
}

extension RootRecord {
  package var domainNodes: [NodeID] { domains.map(\.node) }

  /// How many of the root's domains must accept a renewal or be shown a new root: all but m.
  package var renewQuorum: Int { max(1, domains.count - scheme.m) }

  /// How many must accept a claim: all but m, and at least m + 1, so that any claim meets any renewal
  /// and any shown root in one node at least. A leader needs 1 + m domains for its links anyway.
  package var claimQuorum: Int {
    max(domains.count - scheme.m, min(domains.count, scheme.m + 1))
  }

  /// Whether this one replaces `other`: a later epoch's root was written by one who had seen every root
  /// that ever counted before.
  package func isNewer(than other: RootRecord?) -> Bool {
    guard let other else { return true }
    return (epoch, version) > (other.epoch, other.version)
  }
}
