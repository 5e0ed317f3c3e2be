import Cluster
import Coding
import Messages
import Metadata
import Ring
import Service
import Wire

/// The cluster's scheme and the storage classes, and their change while the cluster serves.
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
    guard try await isLogFit(for: wanted, leadership) else { return }
    try await record(.setScheme(wanted), leadership)
    log.info("scheme changed", ["scheme": wanted])
  }

  func defineClass(_ request: DefineClass) async throws(Refusal) -> DefineClass.Answer {
    let leadership = try leading()
    let wanted = request.storageClass
    if let rule = wanted.brokenRule { throw Refusal(.malformed, rule) }
    var isFit = true
    if let scheme = wanted.scheme { isFit = try await isLogFit(for: scheme, leadership) }
    if isFit {
      try await record(.defineClass(wanted), leadership)
      log.info("class defined", ["class": wanted.name])
    }
    return DefineClass.Answer(
      isInEffect: isFit, logCopies: UInt32(clamping: arbiter.root?.logCopies ?? 0))
  }

  func setBucketClass(_ request: SetBucketClass) async throws(Refusal) -> Done {
    try await record(
      .setBucketClass(bucket: request.bucket, storageClass: request.storageClass), try leading())
    return Done()
  }

  /// Has the log carry out what changes the cluster itself.
  ///
  /// - Throws: what the state machine refused.
  func record(_ command: Command, _ leadership: Leadership) async throws(Refusal) {
    let (_, outcome) = try await leadership.submit(command)
    if case .refused(let code, let reason) = outcome { throw Refusal(code: code, reason: reason) }
  }

  /// Whether the metadata log has as many copies as data of that scheme need; if not, it is to get them.
  private func isLogFit(for wanted: Scheme, _ leadership: Leadership) async throws(Refusal) -> Bool
  {
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
    guard let root = arbiter.root else { return false }
    return !root.isNarrow && root.scheme.m >= wanted.m
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
