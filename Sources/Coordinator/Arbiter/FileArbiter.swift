import Cluster
package import Coding
import Glibc  // Open flags and error numbers only.
import Messages
package import Metadata
package import Ring
import Wire

/// The arbiter of a cluster with one coordinator: a locked directory, and the nodes.
///
///     DIR/arbiter/lock    held for life with flock, so that one process works here
///     DIR/arbiter/root    the newest root record known here, replaced whole
///     DIR/arbiter/epoch   the highest epoch claimed from here, in decimal
///
/// The directory is a convenience; the nodes decide. A claim counts when a quorum of the root's domains
/// has durably raised its epoch and shown its newest root; a root counts when all but m of its domains
/// (and of those of the one before) keep it. Any claim meets any counted root and any renewal in one node
/// at least, and nodes refuse lower epochs, so: whoever claims sees every root that counted, and whoever was
/// deposed can neither renew nor make a root count. This is Paxos with one register (Lamport, 2001): epochs are
/// ballots, and the root with the highest (epoch, version) is the value to carry on.
///
/// A cluster begins in three steps, so that a founding that came to nothing is forgotten and begun anew, without hands.
/// All nodes that said hello accept the founder's epoch and belong to no cluster; all keep the first root that has a
/// link; then all join. Only then is anything answered. So a node that accepts a higher epoch and belongs to none proves
/// that no cluster founded with it has begun, nor will: what root it keeps is ignored. And once one has joined, all keep
/// the root. (docs/decisions/0006)
package final class FileArbiter: Arbiter, @unchecked Sendable {
  // Loop-confined.
  package struct Options: Sendable {
    package var timing = LeaseTiming()
    /// Founding waits until so many nodes have said hello.
    package var expectedNodes: Int
    /// Of the default class in a new cluster.
    package var scheme: Scheme
    /// How long another coordinator that deposed us is left alone before we claim again.
    package var patience = Duration.seconds(20)
    package init(expectedNodes: Int, scheme: Scheme) {
      self.expectedNodes = expectedNodes
      self.scheme = scheme
    }
  }

  private let driver: any Driver
  private let directory: String
  private let holder: String
  private let nodes: NodeTable
  private let port: any NodePort
  private let options: Options

  private var lockFile: File?
  private var lockInode: UInt64 = 0
  private var epoch: UInt64 = 0
  /// The highest epoch seen anywhere, our own included.
  private var highestSeen: UInt64 = 0
  /// The newest root seen; it counts once a term's claim is complete, or after a swap.
  package private(set) var root: RootRecord?
  private var lease: Lease { didSet { knownExpiry = nil } }
  /// Both the domains before and after a swap, while one is under way.
  private var leaseDomains: [RootRecord] = [] { didSet { knownExpiry = nil } }
  /// By these; asked for with every command.
  private var knownExpiry: Duration??
  /// The version each node keeps, of the roots of this term.
  private var shown: [NodeID: UInt64] = [:]
  private var loss: Promise<ArbiterError>?
  private var renewals: [NodeID: SpawnedTask] = [:]
  private var watch: SpawnedTask?
  private let swapping = Semaphore(1)
  private var isReleased = false
  private var napCount = 0
  private var deposedBy: UInt64?
  package private(set) var detail = ""
  package var leaseNeedsNodes: Bool { true }

  /// - Parameters:
  ///   - directory: made when it is not there.
  ///   - holder: what nodes are told; for people.
  package init(
    driver: any Driver, directory: String, holder: String, nodes: NodeTable,
    port: any NodePort, options: Options
  ) {
    self.driver = driver
    self.directory = directory + "/arbiter"
    self.holder = holder
    self.nodes = nodes
    self.port = port
    self.options = options
    lease = Lease(options.timing)
  }

  convenience init(_ site: ArbiterSite) {
    let configuration = site.configuration
    var options = Options(
      expectedNodes: configuration.expectedNodes, scheme: configuration.scheme)
    options.timing = configuration.lease
    self.init(
      driver: site.driver, directory: configuration.dataDirectory, holder: configuration.name,
      nodes: site.nodes, port: site.port, options: options)
  }

  private var lockPath: String { directory + "/lock" }
  private var rootPath: String { directory + "/root" }
  private var epochPath: String { directory + "/epoch" }

  // MARK: the directory

  /// Locks the directory and reads what an earlier run left there.
  private func open() async throws(ArbiterError) {
    guard lockFile == nil else { return }
    do throws(RingError) {
      try await driver.makeDirectories(directory)
      let file = try await File.open(lockPath, O_RDWR | O_CREAT, mode: 0o600, on: driver)
      guard try await file.lock() else {
        await file.close()
        throw RingError(errno: EWOULDBLOCK, operation: "lock", subject: lockPath)
      }
      lockInode = try await driver.status(lockPath).inode
      lockFile = file
    } catch {
      if error.operation == "lock" && error.errno == EWOULDBLOCK { throw .locked(path: directory) }
      throw .directory(error.description)
    }
    // A damaged file is as good as none: the nodes have the truth.
    if let bytes = try? await driver.readFile(rootPath, limit: RootRecord.byteLimit + 64),
      let kept = try? RootRecord(decoding: bytes), !kept.links.isEmpty
    {
      root = kept
    }
    if let bytes = try? await driver.readFile(epochPath, limit: 64),
      let kept = UInt64(String(decoding: bytes, as: UTF8.self).filter(\.isNumber))
    {
      highestSeen = kept
    }
    highestSeen = max(highestSeen, root?.epoch ?? 0)
  }

  /// Whether the lock file that we hold is still the one in the directory.
  private func isDirectoryOurs() async -> Bool {
    do throws(RingError) {
      return try await driver.status(lockPath, followLinks: false).inode == lockInode
    } catch {
      // Anything but its absence says nothing; the next look will tell. The nodes decide who leads anyway.
      return error.errno != ENOENT && error.errno != ENOTDIR
    }
  }

  // MARK: claiming

  package func acquire() async throws(ArbiterError) -> Term {
    if isReleased { throw .stopped }
    try await open()
    guard await isDirectoryOurs() else { throw .directoryGone(path: directory) }
    // Of a founding of ours that came to nothing.
    if root?.links.isEmpty == true { root = nil }
    if let other = deposedBy {
      // It may be leading well by now. Should it be gone, somebody has to go on some day.
      deposedBy = nil
      detail = "another coordinator took over with epoch \(other); two must not serve one cluster"
      try await pause(options.patience)
    }
    var outbidBy: UInt64?
    while true {
      if isReleased { throw .stopped }
      if let other = outbidBy {
        detail = "another coordinator claimed epoch \(other); trying again in a while"
        try await pause(options.timing.duration)
        outbidBy = nil
      }
      try await waitForNodes()
      if isReleased { throw .stopped }
      guard await isDirectoryOurs() else { throw .directoryGone(path: directory) }
      switch try await claim() {
      case .won(let term): return term
      case .outbid(let other): outbidBy = other
      case .again: break
      }
    }
  }

  /// Waits at least `duration`, by a random part longer, so that two that wait do not meet again.
  private func pause(_ duration: Duration) async throws(ArbiterError) {
    let end = driver.now + duration + .milliseconds(Int64(driver.random() % 2000))
    while driver.now < end && !isReleased { try await nap() }
  }

  /// A tenth of a second; throws when the loop ends or, looked at now and then, the directory is gone.
  private func nap() async throws(ArbiterError) {
    guard await driver.sleep(.milliseconds(100)) else { throw .stopped }
    napCount += 1
    if napCount.isMultiple(of: 10), await !isDirectoryOurs() {
      throw .directoryGone(path: directory)
    }
  }

  private enum Claim {
    case won(Term)
    case outbid(UInt64)
    case again
  }

  /// Those to ask, with their addresses: everyone of this cluster who said hello, and the root's domains.
  private func contacts(_ clusterID: UInt64) -> [(node: NodeID, address: SocketAddress)] {
    let heard = nodes.all.filter {
      ($0.clusterID == 0 || $0.clusterID == clusterID) && (root != nil || nodes.isUp($0.record.id))
    }
    let known = Set(heard.map(\.record.id)).union(root?.domainNodes ?? [])
    return known.sorted().compactMap { node in
      let remembered = root?.domains.first { $0.node == node }?.address
      return (nodes.address(of: node) ?? remembered).map { (node, $0) }
    }
  }

  /// Waits until a claim has a chance. Nodes that do not talk to us keep us from deposing a leader by
  /// mistake: a second coordinator that nobody knows claims nothing.
  private func waitForNodes() async throws(ArbiterError) {
    while !isReleased {
      let heard = nodes.all.filter { nodes.isUp($0.record.id) }
      let ids = Set(heard.map(\.record.id))
      if let root {
        nodes.note(root)
        let missing = root.domains.filter { !ids.contains($0.node) }
        if root.domains.count - missing.count >= root.claimQuorum { return }
        detail =
          "needs \(root.claimQuorum) of the cluster's \(root.domains.count) nodes to lead; missing: "
          + missing.map(\.name).sorted().joined(separator: ", ")
      } else if heard.contains(where: { $0.clusterID != 0 }) {
        return
      } else {
        let devices = heard.flatMap(\.reports).filter { !$0.isFailed }
        let domains = heard.count == 1 ? devices.count : heard.count
        if heard.count >= options.expectedNodes && domains > options.scheme.m { return }
        detail =
          "a new cluster waits for its nodes: \(heard.count) of \(options.expectedNodes) have said hello"
        if heard.count >= options.expectedNodes {
          detail +=
            "; scheme \(options.scheme) needs at least \(options.scheme.m + 1) failure domains"
        }
      }
      try await nap()
    }
  }

  private func claim() async throws(ArbiterError) -> Claim {
    let ids = Set(nodes.all.map(\.clusterID).filter { $0 != 0 })
    let clusterID = root?.clusterID ?? ids.min() ?? 0
    if !ids.subtracting([clusterID]).isEmpty {
      let strangers = nodes.all.filter { $0.clusterID != 0 && $0.clusterID != clusterID }
      detail =
        "nodes of another cluster: " + strangers.map(\.record.name).joined(separator: ", ")
      if root == nil {
        // Nothing says which of them are ours.
        try await nap()
        return .again
      }
    }
    highestSeen = max(highestSeen, nodes.all.map(\.highestEpoch).max() ?? 0)
    epoch = Self.epoch(after: highestSeen, driver.random())
    highestSeen = epoch
    do throws(RingError) {
      try await driver.replaceFile(epochPath, with: Array("\(epoch)\n".utf8))
    } catch {
      throw .directory(error.description)
    }
    lease = Lease(options.timing)
    shown = [:]

    // Ask until a quorum of the newest root's domains has accepted.
    let startedAt = driver.now
    while true {
      if isReleased { throw .stopped }
      var strange: [NodeID] = []
      let asked = contacts(clusterID)
      // Nobody is made to join a cluster whose root we have not seen.
      let joining = root == nil ? 0 : clusterID
      for (node, sentAt, answer) in await ask(asked, clusterID: joining, root: nil) {
        switch answer {
        case .success(let answer):
          nodes.note(node, of: answer.clusterID)
          let shownRoot = try? RootRecord(decoding: answer.root)
          // Who keeps a root that we cannot read is no witness of what counts.
          guard shownRoot != nil || answer.root.isEmpty else {
            strange.append(node)
            continue
          }
          lease.accept(node, sentAt: sentAt)
          if let shownRoot, clusterID != 0, shownRoot.clusterID == clusterID,
            shownRoot.isNewer(than: root)
          {
            root = shownRoot
          }
        case .failure(let error):
          if error.refusalCode == .staleEpoch {
            highestSeen = max(highestSeen, Self.epoch(in: error) ?? epoch)
            return .outbid(highestSeen)
          }
          if case .refused = error { strange.append(node) }
        }
      }
      if let root {
        nodes.note(root)
        let accepted = lease.count(of: root.domainNodes)
        if accepted >= root.claimQuorum { break }
        let missing = root.domains.filter { lease.renewed[$0.node] == nil }
        detail =
          "needs \(root.claimQuorum) of the cluster's \(root.domains.count) nodes to lead, "
          + "\(accepted) accepted; missing: "
          + missing.map(\.name).sorted().joined(separator: ", ")
      } else if clusterID == 0 {
        // Founding: everyone must be new.
        if !nodes.all.allSatisfy({ $0.clusterID == 0 }) { return .again }
        let accepted = lease.count(of: asked.map(\.node))
        if accepted >= options.expectedNodes && accepted == asked.count { break }
        detail = "a new cluster waits for its nodes: \(accepted) accepted, \(asked.count) asked"
        if driver.now - startedAt > options.timing.duration { return .again }
      } else {
        // The one that belonged to it may have been replaced.
        if !nodes.all.contains(where: { $0.clusterID == clusterID }) { return .again }
        detail = "no node has shown the root record of the cluster yet"
      }
      if !strange.isEmpty {
        detail +=
          "; refused by: " + strange.map { nodes.name(of: $0) }.joined(separator: ", ")
      }
      try await nap()
    }

    // From here on the lease is renewed. Whoever led before us stops within one lease of the moment
    // the quorum was complete; a cluster without a root had no leader.
    let wonAt = driver.now
    let promise = Promise<ArbiterError>()
    loss = promise
    leaseDomains = root.map { [$0] } ?? []
    keepRenewing()
    if root != nil {
      detail = "waiting for an earlier leader's lease to end"
      while driver.now < wonAt + options.timing.duration && !promise.isFulfilled {
        try await nap()
      }
    }
    if promise.isFulfilled {
      let reason = await promise.get()
      switch reason {
      case .deposed(let other):
        deposedBy = nil
        return .outbid(other)
      case .expired: return .again
      default: throw reason
      }
    }
    detail = ""
    return .won(Term(epoch: epoch, root: root))
  }

  /// Epochs are a counter with a random part below, so that two that claim at once never claim the same.
  static func epoch(after highest: UInt64, _ random: UInt64) -> UInt64 {
    ((highest >> 16) + 1) << 16 | random & 0xFFFF
  }

  private static func epoch(in error: WireError) -> UInt64? {
    guard case .refused(_, let reason) = error else { return nil }
    return UInt64(reason.prefix { $0.isNumber })
  }

  /// Asks all at once, each for at most one renewal interval; answers in the order of `asked`.
  private func ask(
    _ asked: [(node: NodeID, address: SocketAddress)], clusterID: UInt64, root: RootRecord?
  ) async -> [(NodeID, Duration, Result<HoldLease.Answer, WireError>)] {
    let request = request(clusterID: clusterID, root: root)
    let answers = await withTaskGroup(
      of: (NodeID, Duration, Result<HoldLease.Answer, WireError>).self
    ) { group in
      for (node, address) in asked {
        group.addTask { [self] in
          let sentAt = driver.now
          let answer = await port.holdLease(
            request, at: address, deadline: options.timing.renewInterval)
          return (node, sentAt, answer)
        }
      }
      var answers: [NodeID: (NodeID, Duration, Result<HoldLease.Answer, WireError>)] = [:]
      for await answer in group { answers[answer.0] = answer }
      return answers
    }
    return asked.compactMap { answers[$0.node] }
  }

  private func request(clusterID: UInt64, root: RootRecord?) -> HoldLease {
    let parts = options.timing.duration.components
    let milliseconds = parts.seconds * 1000 + parts.attoseconds / 1_000_000_000_000_000
    return HoldLease(
      clusterID: clusterID, epoch: epoch, leaseMilliseconds: UInt32(clamping: milliseconds),
      holder: holder, rootVersion: root?.version ?? 0, root: root?.encoded ?? [])
  }

  // MARK: holding

  private var expiry: Duration? {
    if let knownExpiry { return knownExpiry }
    let expiry = computedExpiry
    knownExpiry = .some(expiry)
    return expiry
  }

  private var computedExpiry: Duration? {
    guard !leaseDomains.isEmpty else {
      // Founding: there is nothing to lead yet but the first swap, which asks the nodes itself.
      return .seconds(Int64.max / 4)
    }
    var earliest: Duration?
    for root in leaseDomains {
      guard let one = lease.expiry(of: root.domainNodes, needed: Self.needed(root)) else {
        return nil
      }
      earliest = min(one, earliest ?? one)
    }
    return earliest
  }

  /// How many of a root's nodes must hold the lease: all, while its cluster is being founded. When one is gone, the founder
  /// has to begin anew, perhaps without it.
  private static func needed(_ root: RootRecord) -> Int {
    root.links.isEmpty ? root.domains.count : root.renewQuorum
  }

  package var isHeld: Bool {
    guard let loss, !loss.isFulfilled, let expiry else { return false }
    return driver.now < expiry
  }

  package func waitForLoss() async -> ArbiterError {
    guard let loss else { return .expired }
    return await loss.get()
  }

  package func lose(_ reason: ArbiterError) {
    if case .deposed(let other) = reason {
      highestSeen = max(highestSeen, other)
      deposedBy = other
    }
    loss?.fulfil(reason)
    for node in renewals.keys.sorted() { renewals[node]?.cancel() }
    renewals = [:]
    watch?.cancel()
    watch = nil
  }

  /// One task for each node of the root, and one that watches the lease and the directory.
  private func keepRenewing() {
    for node in (root?.domainNodes ?? []) where renewals[node] == nil {
      renewals[node] = driver.spawn("lease renewal") { [weak self] in await self?.renew(node) }
    }
    guard watch == nil else { return }
    watch = driver.spawn("lease watch") { [weak self] in await self?.watchLease() }
  }

  private func renew(_ node: NodeID) async {
    let promise = loss
    while promise?.isFulfilled == false && !Task.isCancelled {
      if let root, let address = nodes.address(of: node) {
        // A node that missed the newest root is shown it again, if it is one that we wrote.
        let isFounding = root.links.isEmpty
        let missed =
          !isFounding && root.epoch == epoch && shown[node, default: 0] < root.version
        let sentAt = driver.now
        let claimed = epoch
        let answer = await port.holdLease(
          request(clusterID: isFounding ? 0 : root.clusterID, root: missed ? root : nil),
          at: address,
          deadline: options.timing.duration)
        guard promise?.isFulfilled == false, claimed == epoch else { return }
        switch answer {
        case .success(let answer):
          lease.accept(node, sentAt: sentAt)
          if missed && answer.root == root.encoded { shown[node] = root.version }
        case .failure(let error):
          if error.refusalCode == .staleEpoch {
            return lose(.deposed(epoch: Self.epoch(in: error) ?? epoch))
          }
        }
      }
      guard await driver.sleep(options.timing.renewInterval) else { return }
    }
  }

  private func watchLease() async {
    let promise = loss
    while promise?.isFulfilled == false && !Task.isCancelled {
      guard await isDirectoryOurs() else { return lose(.directoryGone(path: directory)) }
      guard promise?.isFulfilled == false else { return }
      guard let expiry, driver.now < expiry, !driver.meets(.leaseLostEarly) else {
        return lose(.expired)
      }
      guard await driver.sleep(min(options.timing.renewInterval, expiry - driver.now)) else {
        return
      }
    }
  }

  package func release() async {
    isReleased = true
    lose(.stopped)
    await lockFile?.close()
    lockFile = nil
  }

  // MARK: the root

  package func swap(in term: UInt64, _ edit: (RootRecord?) -> RootRecord)
    async throws(ArbiterError) -> RootRecord
  {
    await swapping.acquire()
    defer { swapping.release() }
    guard term == epoch else { throw .expired }
    guard let promise = loss, !promise.isFulfilled else { throw await waitForLoss() }
    let before = root
    var next = edit(before)
    precondition(before != nil || next.links.isEmpty, "a cluster begins without a log")
    next.epoch = epoch
    next.version = (before?.version ?? 0) + 1
    try await includeAdded(next, since: before)
    guard let before, !next.links.isEmpty else {
      // No root of a cluster that has begun: nobody is shown it, and the founder's own lease begins.
      take(next)
      return next
    }
    leaseDomains = [before, next]
    let isFounding = before.links.isEmpty
    while true {
      // The directory may name no cluster that has not begun.
      if !isFounding { try await keep(next, unless: promise) }
      switch try await show(next, before: before, join: !isFounding, promise) {
      case .counted:
        if isFounding {
          _ = try await show(next, before: before, join: true, promise)
          try await keep(next, unless: promise)
        }
        take(next)
        return next
      case .bump(let version):
        // A root of a dead epoch, which never counted, stands in the way of the number.
        next.version = version + 1
      }
    }
  }

  private func take(_ next: RootRecord) {
    root = next
    leaseDomains = [next]
    nodes.note(next)
    keepRenewing()
  }

  /// From the first show on, the lease must hold by the new root's nodes too, so those that it adds hold
  /// it before.
  private func includeAdded(_ next: RootRecord, since before: RootRecord?)
    async throws(ArbiterError)
  {
    let isFounding = next.links.isEmpty
    let known = Set(before?.domainNodes ?? [])
    let added = next.domains.filter { !known.contains($0.node) }
    if added.isEmpty { return }
    let asked = added.map { ($0.node, nodes.address(of: $0.node) ?? $0.address) }
    for (node, sentAt, answer) in await ask(
      asked, clusterID: isFounding ? 0 : next.clusterID, root: nil)
    {
      switch answer {
      case .success(let answer):
        nodes.note(node, of: answer.clusterID)
        // Heard of since the claim, perhaps: the founder takes only those that belong to no cluster.
        if isFounding && answer.clusterID != 0 { throw .unanswered }
        lease.accept(node, sentAt: sentAt)
      case .failure(let error):
        if error.refusalCode == .staleEpoch {
          lose(.deposed(epoch: Self.epoch(in: error) ?? epoch))
          throw await waitForLoss()
        }
      }
    }
    guard let expiry = lease.expiry(of: next.domainNodes, needed: Self.needed(next)),
      driver.now < expiry
    else { throw .unanswered }
  }

  private func keep(_ next: RootRecord, unless promise: Promise<ArbiterError>)
    async throws(ArbiterError)
  {
    guard await isDirectoryOurs() else {
      lose(.directoryGone(path: directory))
      throw .directoryGone(path: directory)
    }
    do throws(RingError) {
      try await driver.replaceFile(rootPath, with: next.encoded)
    } catch {
      lose(.directory(error.description))
      throw .directory(error.description)
    }
    if promise.isFulfilled { throw await promise.get() }
  }

  private enum Show {
    case counted
    case bump(UInt64)
  }

  private struct Shown: Sendable {
    var node: NodeID
    var sentAt: Duration
    var answer: Result<HoldLease.Answer, WireError>
  }

  /// Shows `next` to the domains before and after it until enough keep it: all, while the cluster is being founded.
  ///
  /// - Parameter join: whether they are to belong to its cluster from now on.
  private func show(
    _ next: RootRecord, before: RootRecord, join: Bool, _ promise: Promise<ArbiterError>
  ) async throws(ArbiterError) -> Show {
    let bytes = next.encoded
    let request = request(clusterID: join ? next.clusterID : 0, root: next)
    let isFounding = before.links.isEmpty
    let all = Set(next.domainNodes).union(before.domainNodes).sorted()
    let outcome = await withTaskGroup(of: Shown?.self) { group -> Result<Show, ArbiterError> in
      func ask(_ node: NodeID, after pause: Duration = .zero) {
        group.addTask { [self] in
          if pause > .zero, await !driver.sleep(pause) { return nil }
          guard let address = nodes.address(of: node) else {
            return Shown(node: node, sentAt: driver.now, answer: .failure(.unreachable("unknown")))
          }
          let sentAt = driver.now
          let answer = await port.holdLease(
            request, at: address, deadline: options.timing.duration)
          return Shown(node: node, sentAt: sentAt, answer: answer)
        }
      }
      // Wakes the group when the lease is lost meanwhile.
      group.addTask { [self] in
        while !promise.isFulfilled {
          guard await driver.sleep(options.timing.renewInterval) else { break }
        }
        return nil
      }
      for node in all { ask(node) }
      var keeping: Set<NodeID> = []
      var bump: UInt64?
      for await one in group {
        if promise.isFulfilled { break }
        guard let one else { continue }
        switch one.answer {
        case .success(let answer):
          lease.accept(one.node, sentAt: one.sentAt)
          nodes.note(one.node, of: answer.clusterID)
          if answer.root == bytes {
            shown[one.node] = next.version
            keeping.insert(one.node)
          } else if let other = try? RootRecord(decoding: answer.root), other.epoch >= epoch,
            other.version >= next.version
          {
            lose(.deposed(epoch: other.epoch))
          } else if answer.rootVersion >= next.version {
            bump = max(bump ?? 0, answer.rootVersion)
          } else {
            ask(one.node, after: .milliseconds(200))
          }
        case .failure(let error):
          if error.refusalCode == .staleEpoch {
            lose(.deposed(epoch: Self.epoch(in: error) ?? epoch))
          } else if isFounding, case .refused = error {
            // It belongs to a cluster by now, or cannot keep anything: the founder begins anew.
            lose(.expired)
          } else {
            ask(one.node, after: .milliseconds(200))
          }
        }
        if promise.isFulfilled { break }
        let counts = [before, next].allSatisfy { root in
          root.domainNodes.count { keeping.contains($0) } >= Self.needed(root)
        }
        if counts {
          group.cancelAll()
          return .success(.counted)
        }
        if let bump {
          group.cancelAll()
          return .success(.bump(bump))
        }
      }
      group.cancelAll()
      return .failure(promise.isFulfilled ? await promise.get() : .stopped)
    }
    return try outcome.get()
  }
}
