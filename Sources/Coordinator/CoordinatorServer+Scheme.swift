import Cluster
import Coding
import Messages
import Metadata
import Ring
import Service
import Wire

/// The scheme of the default class, and its change while the cluster serves.
extension CoordinatorServer {
  func changeScheme(_ request: ChangeScheme) async throws(Refusal) -> ChangeScheme.Answer {
    let leadership = try leading()
    if let wanted = request.scheme, wanted != scheme {
      try await change(to: wanted, leadership)
    }
    let wanted = scheme
    var others: UInt64 = 0
    try await eachContainer { (record) throws(Refusal) in
      if record.stripeCount > 0 && record.scheme != wanted { others += 1 }
    }
    return ChangeScheme.Answer(
      scheme: wanted, logCopies: UInt32(clamping: arbiter.root?.logCopies ?? 0),
      otherContainers: others, patienceMilliseconds: configuration.repackAfter.wholeMilliseconds)
  }

  private func change(to wanted: Scheme, _ leadership: Leadership) async throws(Refusal) {
    let domains = keeper.map.failureDomains.count
    guard domains >= wanted.width else {
      throw Refusal(
        .tooLittleLeft,
        "there are \(domains) failure domains, and \(wanted) needs \(wanted.width): add nodes first"
      )
    }
    guard let root = arbiter.root else { throw notLeading() }
    if root.scheme.m < wanted.m {
      // What data survive the log has to survive, or nobody knows where they are.
      do throws(ArbiterError) {
        try await arbiter.swap(in: leadership.epoch) { root in
          var root = root!
          root.scheme = Scheme(k: root.scheme.k, m: max(root.scheme.m, wanted.m)) ?? wanted
          return root
        }
      } catch {
        throw Refusal(.unavailable, describe(error))
      }
      log.info("the metadata log gets more copies", ["copies": wanted.m + 1])
    }
    guard let root = arbiter.root, !root.isNarrow, root.scheme.m >= wanted.m else { return }
    let (_, outcome) = try await leadership.submit(.setScheme(wanted))
    if case .refused(let code, let reason) = outcome { throw Refusal(code: code, reason: reason) }
    log.info("scheme changed", ["scheme": wanted])
  }
}

extension RootRecord {
  /// How many copies every part of the log has.
  var logCopies: Int {
    min(
      links.map(\.scheme.width).min() ?? scheme.m + 1,
      checkpoint?.containers.map(\.scheme.width).min() ?? scheme.m + 1)
  }
  /// Whether parts of the log have fewer copies than it is to have: a checkpoint and a new link then replace them.
  var isNarrow: Bool { logCopies < scheme.m + 1 }
}
