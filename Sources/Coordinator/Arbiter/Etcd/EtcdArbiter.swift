import Cluster
import Coding
import Messages
package import Metadata
package import Ring
import Wire

/// The arbiter of a cluster with several coordinators: etcd names the leader and orders the root records; the nodes are
/// fenced by each claim and keep each root too, so that an etcd that was lost or set back is rebuilt from them.
///
///     PREFIX/epoch   who holds the highest epoch (EtcdClaim)
///     PREFIX/lease   that this holder lives (EtcdRenewal)
///     PREFIX/root    the root record's bytes
///
/// All changes are transactions that compare what they rely on:
///
/// - a claim: epoch and lease are as they were seen. It writes both. Whoever wants to claim has watched the lease for one
///   lease duration by its own clock without a change, or found that it was released.
/// - a renewal: the epoch is the one of our claim. It writes the lease, and counts from the moment it was sent.
/// - a swap: the epoch is the one of our claim, and the root is the one we know. It writes the root.
///
/// So no clock of etcd's counts, only that two coordinators' clocks run at rates that the lease's margin covers; and a
/// request that comes late does nothing that was not right when it was sent. What etcd did with a request whose answer
/// was lost is read back. (docs/decisions/0013)
package final class EtcdArbiter: Arbiter, @unchecked Sendable {
  // Loop-confined.
  let driver: any Driver
  let nodes: NodeTable
  let port: any NodePort
  let etcd: EtcdClient
  let timing: LeaseTiming
  let expectedNodes: Int
  private let scheme: Scheme
  private let holder: String
  private let address: SocketAddress
  /// Of the cluster's key.
  private let tag: String
  /// Of this object.
  private let instance: String
  private let prefix: String
  let epochKey: String
  let leaseKey: String
  let rootKey: String

  // The term.
  private(set) var epoch: UInt64 = 0
  /// Our claim as etcd has it: unlike its revision, no other etcd, and no emptied one, ever has it too.
  private(set) var claimBytes: [UInt8] = []
  /// The revision that wrote the root that etcd has; 0 for none.
  var rootRevision: UInt64 = 0
  package internal(set) var root: RootRecord?
  /// Nodes that accepted the term's epoch.
  var accepted: Set<NodeID> = []
  /// The version each node keeps, of the roots of this term.
  var shown: [NodeID: UInt64] = [:]
  /// When the last renewal that was granted was sent.
  var renewedAt: Duration = .zero
  var loss: Promise<ArbiterError>?
  /// Set once ``acquire()`` returned.
  private var isEstablished = false
  private var keepers: [SpawnedTask] = []
  let swapping = Semaphore(1)

  private var highestSeen: UInt64 = 0
  private var isReleased = false
  /// What was handed over is left to others until then; not what another has had since.
  private var mayClaimAt: Duration = .zero
  package internal(set) var detail = ""
  package private(set) var leader: SocketAddress?
  package var asksNodesForRoot: Bool { true }
  package var canHandOver: Bool { true }

  package init(_ site: ArbiterSite, _ configuration: EtcdConfiguration) {
    driver = site.driver
    nodes = site.nodes
    port = site.port
    etcd = EtcdClient(
      driver: site.driver, configuration: configuration,
      signingKey: site.configuration.key.subkey("etcd records"))
    timing = site.configuration.lease
    expectedNodes = site.configuration.expectedNodes
    scheme = site.configuration.scheme
    holder = site.configuration.name
    address = site.configuration.address
    tag = hexText(site.configuration.key.subkey("etcd prefix").prefix(8))
    instance = hexText(site.driver.randomBytes(8))
    prefix = configuration.prefix
    epochKey = configuration.prefix + "/epoch"
    leaseKey = configuration.prefix + "/lease"
    rootKey = configuration.prefix + "/root"
  }

  // MARK: claiming

  /// What etcd holds, all as of one moment.
  private struct Look {
    var claim: EtcdClaim?
    var claimBytes: [UInt8]?
    var renewal: EtcdRenewal?
    var leaseBytes: [UInt8]?
    /// That wrote the lease: bytes that come again, as with a renewal that was on its way for long, are another.
    var leaseRevision: UInt64
    /// Of etcd's store. One that goes back was set back.
    var revision: UInt64
    /// By our clock, when it was heard.
    var at: Duration
  }

  /// The lease as it was first seen.
  private struct Sighting {
    var claimBytes: [UInt8]?
    var leaseBytes: [UInt8]?
    var leaseRevision: UInt64
    var since: Duration
  }

  private enum Claim {
    case won(Term)
    case again
  }

  package func acquire() async throws(ArbiterError) -> Term {
    isEstablished = false
    var sighting: Sighting?
    var lastRevision: UInt64 = 0
    while true {
      if isReleased { throw .stopped }
      let look: Look
      do throws(EtcdError) {
        look = try await self.look()
      } catch {
        leader = nil
        detail = "etcd cannot be asked, and nobody can lead without it: \(error.reason)"
        try await nap()
        continue
      }
      if isReleased { throw .stopped }
      if let claim = look.claim {
        guard claim.cluster == tag else {
          throw .foreign(
            "the etcd prefix \(prefix) belongs to a cluster with another key (\(claim.holder) at \(claim.address) leads it): give each cluster a prefix of its own"
          )
        }
        highestSeen = max(highestSeen, claim.epoch)
      }
      if sighting?.claimBytes != look.claimBytes || sighting?.leaseBytes != look.leaseBytes
        || sighting?.leaseRevision != look.leaseRevision || look.revision < lastRevision
      {
        sighting = Sighting(
          claimBytes: look.claimBytes, leaseBytes: look.leaseBytes,
          leaseRevision: look.leaseRevision, since: look.at)
      }
      lastRevision = look.revision
      let unchanged = look.at - (sighting?.since ?? look.at)
      let isOurs = look.claim?.instance == instance
      let isFree =
        look.claim == nil || isOurs
        || look.renewal?.isReleased == true && look.renewal?.epoch == look.claim?.epoch
        || unchanged >= timing.duration
      guard isFree else {
        if let claim = look.claim {
          leader = claim.address
          detail = "\(claim.holder) at \(claim.address) leads"
        }
        try await nap()
        continue
      }
      leader = nil
      guard !isOurs || driver.now >= mayClaimAt, await hasEnoughNodes() else {
        try await nap()
        continue
      }
      switch try await claim(look) {
      case .won(let term): return term
      case .again: try await nap()
      }
    }
  }

  /// A tenth of a second or a little more, so that two that wait do not meet again and again.
  private func nap() async throws(ArbiterError) {
    guard await driver.sleep(.milliseconds(Int64(60 + driver.random() % 60))) else {
      throw .stopped
    }
  }

  private func look() async throws(EtcdError) -> Look {
    let answer = try await etcd.perform(
      EtcdTransaction(success: [.get(epochKey), .get(leaseKey)]), deadline: timing.duration)
    let claim = answer.values[epochKey]
    let lease = answer.values[leaseKey]
    let decoded = try claim.map { (value) throws(EtcdError) in
      guard let claim = EtcdClaim(decoding: value.bytes) else {
        throw .refused("\(epochKey) holds what is none of Cairn's")
      }
      return claim
    }
    // Another cluster's says so below.
    if decoded == nil || decoded?.cluster == tag {
      guard claim?.isGenuine != false else { throw Self.forged(epochKey) }
      guard lease?.isGenuine != false else { throw Self.forged(leaseKey) }
    }
    return Look(
      claim: decoded, claimBytes: claim?.bytes,
      renewal: lease.flatMap { EtcdRenewal(decoding: $0.bytes) }, leaseBytes: lease?.bytes,
      leaseRevision: lease?.revision ?? 0, revision: answer.revision, at: driver.now)
  }

  private static func forged(_ key: String) -> EtcdError {
    .refused("\(key) in etcd is not signed with this cluster's key")
  }

  /// Whether a claim has a chance: who could not lead must not depose one who does.
  private func hasEnoughNodes() async -> Bool {
    let found: RootRecord?
    do throws(EtcdError) {
      found = try await readRoot()?.record ?? root
    } catch {
      detail = error.reason
      return false
    }
    let heard = nodes.all.filter { nodes.isUp($0.record.id) }
    guard let found else {
      if heard.contains(where: { $0.clusterID != 0 }) || heard.count >= expectedNodes {
        return true
      }
      detail =
        "a new cluster waits for its nodes: \(heard.count) of \(expectedNodes) have said hello"
      return false
    }
    nodes.note(found)
    if let stranger = heard.first(where: { $0.clusterID != 0 && $0.clusterID != found.clusterID }) {
      detail =
        "the etcd prefix \(prefix) holds the root of cluster \(hex(found.clusterID)), but node \(stranger.record.name) belongs to cluster \(hex(stranger.clusterID)): give each cluster a prefix of its own"
      return false
    }
    let up = Set(heard.map(\.record.id))
    let missing = found.domains.filter { !up.contains($0.node) }
    if found.domains.count - missing.count >= found.claimQuorum { return true }
    detail =
      "needs \(found.claimQuorum) of the cluster's \(found.domains.count) nodes to lead; missing: "
      + missing.map(\.name).sorted().joined(separator: ", ")
    return false
  }

  func readRoot() async throws(EtcdError) -> (record: RootRecord, revision: UInt64)? {
    let answer = try await etcd.perform(
      EtcdTransaction(success: [.get(rootKey)]), deadline: timing.duration)
    return try Self.root(answer.values[rootKey])
  }

  private static func root(_ value: EtcdTransaction.Value?) throws(EtcdError) -> (
    record: RootRecord, revision: UInt64
  )? {
    guard let value else { return nil }
    guard value.isGenuine else { throw forged("the root record") }
    guard let record = try? RootRecord(decoding: value.bytes) else {
      throw .refused("the root record in etcd is damaged")
    }
    return (record, value.revision)
  }

  private func claim(_ look: Look) async throws(ArbiterError) -> Claim {
    highestSeen = max(highestSeen, nodes.all.map(\.highestEpoch).max() ?? 0)
    let isUnremembered = look.claim == nil && highestSeen > 0
    let next = FileArbiter.epoch(after: highestSeen, driver.random())
    let record = EtcdClaim(
      cluster: tag, epoch: next, holder: holder, address: address, instance: instance)
    let sentAt = driver.now
    let found: (record: RootRecord, revision: UInt64)?
    do throws(EtcdError) {
      let answer = try await etcd.perform(
        EtcdTransaction(
          compares: [
            .value(epochKey, look.claimBytes), .value(leaseKey, look.leaseBytes),
            .revision(leaseKey, look.leaseRevision),
          ],
          success: [
            .put(epochKey, record.encoded),
            .put(leaseKey, EtcdRenewal(epoch: next, count: 0).encoded), .get(rootKey),
          ]), deadline: timing.duration - timing.margin)
      // Should it have taken effect after all, its record names this instance, and is claimed over.
      guard answer.succeeded else { return .again }
      found = try Self.root(answer.values[rootKey])
      claimBytes = record.encoded
    } catch {
      detail = "etcd cannot be asked, and nobody can lead without it: \(error.reason)"
      return .again
    }
    if isReleased { throw .stopped }
    epoch = next
    highestSeen = next
    root = found?.record
    rootRevision = found?.revision ?? 0
    accepted = []
    shown = [:]
    renewedAt = sentAt
    let promise = Promise<ArbiterError>()
    loss = promise
    keepers = [
      driver.spawn("etcd lease") { [weak self] in await self?.keepLease(promise) },
      driver.spawn("etcd root") { [weak self] in await self?.keepShowing(promise) },
    ]
    guard let isRebuilt = try await fenceNodes(promise) else {
      lose(.expired)
      return .again
    }
    if isRebuilt || isUnremembered || look.claim == nil && root != nil {
      // etcd does not know who led before, and so cannot have kept us waiting for them.
      detail = "waiting for an earlier leader's lease to end"
      while driver.now < sentAt + timing.duration && !promise.isFulfilled { try await nap() }
    }
    if promise.isFulfilled {
      let reason = await promise.get()
      if case .stopped = reason { throw reason }
      return .again
    }
    guard driver.now < expiry else {
      lose(.expired)
      return .again
    }
    detail = ""
    isEstablished = true
    return .won(Term(epoch: epoch, root: root))
  }

  /// Has the nodes accept the epoch and show their newest roots, until a quorum of the newest root's domains has.
  ///
  /// - Returns: whether etcd's root was replaced by a newer one of the nodes'; nil when the claim has to be made again.
  private func fenceNodes(_ promise: Promise<ArbiterError>) async throws(ArbiterError) -> Bool? {
    var isRebuilt = false
    while !promise.isFulfilled {
      if isReleased { throw .stopped }
      let ids = Set(nodes.all.map(\.clusterID).filter { $0 != 0 })
      let clusterID = root?.clusterID ?? (ids.count == 1 ? ids.first! : 0)
      if root == nil && ids.count > 1 {
        detail = "etcd has no root record, and nodes of several clusters say hello"
        try await nap()
        continue
      }
      let asked = contacts(clusterID)
      // Nobody is made to join a cluster that has no log yet.
      let joining = root?.links.isEmpty == false ? clusterID : 0
      var newest = root
      var strange: [NodeID] = []
      var hasJoined = false
      for (node, answer) in await ask(asked, clusterID: joining, root: nil) {
        switch answer {
        case .success(let answer):
          nodes.note(node, of: answer.clusterID)
          if answer.clusterID != 0 { hasJoined = true }
          guard answer.clusterID == 0 || clusterID == 0 || answer.clusterID == clusterID else {
            strange.append(node)
            continue
          }
          let kept = try? RootRecord(decoding: answer.root)
          guard kept != nil || answer.root.isEmpty else {
            strange.append(node)
            continue
          }
          accepted.insert(node)
          if let kept, answer.clusterID != 0, kept.clusterID == answer.clusterID,
            kept.isNewer(than: newest)
          {
            newest = kept
          }
        case .failure(let error):
          if error.refusalCode == .staleEpoch {
            highestSeen = max(highestSeen, error.staleEpoch ?? epoch)
            return nil
          }
          if case .refused = error { strange.append(node) }
        }
      }
      if promise.isFulfilled { break }
      if let newest, newest != root {
        // etcd was lost, or set back to what it was once.
        guard try await restore(newest, promise) else { return nil }
        isRebuilt = true
        continue
      }
      if let root {
        nodes.note(root)
        let count = root.domainNodes.count { accepted.contains($0) }
        if count >= root.claimQuorum { return isRebuilt }
        let missing = root.domains.filter { !accepted.contains($0.node) }
        detail =
          "needs \(root.claimQuorum) of the cluster's \(root.domains.count) nodes to lead, \(count) accepted; missing: "
          + missing.map(\.name).sorted().joined(separator: ", ")
      } else if hasJoined {
        detail = "etcd has no root record, and no node has shown that of the cluster yet"
      } else if ids.isEmpty {
        let count = asked.count { accepted.contains($0.node) }
        if count >= expectedNodes && count == asked.count { return false }
        detail = "a new cluster waits for its nodes: \(count) accepted, \(asked.count) asked"
      } else {
        detail = "etcd has no root record; it is asked of the nodes"
      }
      if !strange.isEmpty {
        detail +=
          "; refused by: " + strange.map { nodes.name(of: $0) }.joined(separator: ", ")
      }
      try await nap()
    }
    return nil
  }

  /// Everyone of this cluster who said hello, and the root's domains.
  private func contacts(_ clusterID: UInt64) -> [(node: NodeID, address: SocketAddress)] {
    let heard = nodes.all.filter {
      ($0.clusterID == 0 || clusterID == 0 || $0.clusterID == clusterID)
        && (root != nil || nodes.isUp($0.record.id))
    }
    let known = Set(heard.map(\.record.id)).union(root?.domainNodes ?? [])
    return known.sorted().compactMap { node in
      nodes.address(of: node).map { (node, $0) }
    }
  }

  // MARK: holding

  /// By our own clock, with a margin for its drift.
  var expiry: Duration { renewedAt + timing.duration - timing.margin }

  package var isHeld: Bool {
    guard isEstablished, let loss, !loss.isFulfilled else { return false }
    return driver.now < expiry
  }

  package func waitForLoss() async -> ArbiterError {
    guard let loss else { return .expired }
    return await loss.get()
  }

  package func lose(_ reason: ArbiterError) {
    guard let loss, !loss.isFulfilled else { return }
    if case .deposed(let other) = reason { highestSeen = max(highestSeen, other) }
    if reason == .handedOver {
      // Long enough for any standby to have seen it.
      mayClaimAt = driver.now + timing.duration
    }
    loss.fulfil(reason)
    isEstablished = false
    for keeper in keepers { keeper.cancel() }
    keepers = []
    if case .deposed = reason { return }
    // Others need not wait the lease out.
    let (epoch, claimBytes) = (epoch, claimBytes)
    driver.spawn("release of the lease") { [self] in await giveBack(epoch, claimBytes) }
  }

  private func giveBack(_ epoch: UInt64, _ claimBytes: [UInt8]) async {
    let transaction = EtcdTransaction(
      compares: [.value(epochKey, claimBytes)],
      success: [.put(leaseKey, EtcdRenewal(epoch: epoch, count: 0, isReleased: true).encoded)])
    do throws(EtcdError) {
      _ = try await etcd.perform(transaction, deadline: .seconds(1))
    } catch {
      // It ends by itself.
    }
  }

  package func release() async {
    guard !isReleased else { return }
    isReleased = true
    if let loss, !loss.isFulfilled {
      loss.fulfil(.stopped)
      isEstablished = false
      for keeper in keepers { keeper.cancel() }
      keepers = []
      await giveBack(epoch, claimBytes)
    }
    await etcd.close()
  }

  private func keepLease(_ promise: Promise<ArbiterError>) async {
    var next = renewedAt + timing.renewInterval
    var count: UInt64 = 0
    while !promise.isFulfilled {
      if driver.meets(.leaseLostEarly) { return lose(.expired) }
      let pause = max(.milliseconds(1), min(next, expiry) - driver.now)
      guard await driver.sleep(pause), !promise.isFulfilled else { return }
      guard driver.now < expiry else { return lose(.expired) }
      count += 1
      let sentAt = driver.now
      next = sentAt + timing.renewInterval
      do throws(EtcdError) {
        let answer = try await etcd.perform(
          EtcdTransaction(
            compares: [.value(epochKey, claimBytes)],
            success: [.put(leaseKey, EtcdRenewal(epoch: epoch, count: count).encoded)],
            failure: [.get(epochKey)]), deadline: expiry - driver.now)
        guard !promise.isFulfilled else { return }
        guard answer.succeeded else { return lose(Self.loss(answer.values[epochKey])) }
        renewedAt = max(renewedAt, sentAt)
      } catch {
        next = driver.now + .milliseconds(50)
      }
    }
  }

  /// What it means that the epoch is not the one of our claim.
  static func loss(_ value: EtcdTransaction.Value?) -> ArbiterError {
    guard let value, value.isGenuine, let claim = EtcdClaim(decoding: value.bytes) else {
      return .expired
    }
    return .deposed(epoch: claim.epoch)
  }
}

private func hex(_ number: UInt64) -> String { String(number, radix: 16) }
