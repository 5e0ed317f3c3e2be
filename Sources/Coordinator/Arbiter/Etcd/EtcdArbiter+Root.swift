import Cluster
import Messages
package import Metadata
import Ring
import Service
import Wire

extension EtcdArbiter {
  @discardableResult
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
    try await includeAdded(next, since: before, promise)
    while true {
      try await write(next, promise)
      // No root of a cluster that has begun: nobody is shown it.
      guard let before, !next.links.isEmpty else { break }
      guard let version = try await show(next, before: before, promise) else { break }
      // A root of a dead epoch, which never counted, stands in the way of the number.
      next.version = version + 1
    }
    root = next
    nodes.note(next)
    return next
  }

  /// Puts a root of the nodes where etcd has none or an older one. False when the claim has to be made again.
  func restore(_ newest: RootRecord, _ promise: Promise<ArbiterError>) async throws(ArbiterError)
    -> Bool
  {
    do throws(ArbiterError) {
      try await write(newest, promise)
    } catch {
      if case .stopped = error { throw error }
      return false
    }
    root = newest
    return true
  }

  /// Writes `next` to etcd if the root there is the one we know, and our epoch the highest. An answer that was lost is
  /// asked for again: the transaction then fails, and the root is `next`.
  private func write(_ next: RootRecord, _ promise: Promise<ArbiterError>)
    async throws(ArbiterError)
  {
    let bytes = next.encoded
    var isStuck = false
    while !promise.isFulfilled {
      let answer: EtcdTransaction.Answer
      do throws(EtcdError) {
        answer = try await etcd.perform(
          EtcdTransaction(
            compares: [.value(epochKey, claimBytes), .revision(rootKey, rootRevision)],
            success: [.put(rootKey, bytes)], failure: [.get(epochKey), .get(rootKey)]),
          deadline: timing.duration)
      } catch {
        isStuck = true
        detail = "etcd does not take the root record: \(error.reason)"
        guard await driver.sleep(.milliseconds(50)) else { throw .stopped }
        continue
      }
      if promise.isFulfilled { break }
      if isStuck {
        isStuck = false
        detail = ""
      }
      if answer.succeeded {
        rootRevision = answer.revision
        return
      }
      let current = answer.values[epochKey]
      if current?.bytes != claimBytes || current?.isGenuine == false {
        lose(Self.loss(current))
      } else if let found = answer.values[rootKey], found.isGenuine, found.bytes == bytes {
        rootRevision = found.revision
        return
      } else {
        // Nobody else may write in our epoch: this etcd was set back, or emptied.
        lose(.expired)
      }
    }
    throw await promise.get()
  }

  /// Nodes that a root adds are fenced before it counts.
  private func includeAdded(
    _ next: RootRecord, since before: RootRecord?, _ promise: Promise<ArbiterError>
  ) async throws(ArbiterError) {
    let known = Set(before?.domainNodes ?? [])
    let added = next.domains.filter { !known.contains($0.node) }
    if added.isEmpty { return }
    let asked = added.map { ($0.node, nodes.address(of: $0.node) ?? $0.address) }
    let joining = next.links.isEmpty ? 0 : next.clusterID
    for (node, answer) in await ask(asked, clusterID: joining, root: nil) {
      switch answer {
      case .success(let answer):
        nodes.note(node, of: answer.clusterID)
        // The founder takes only those that belong to no cluster.
        if next.links.isEmpty && answer.clusterID != 0 { throw .unanswered }
        accepted.insert(node)
      case .failure(let error):
        if error.refusalCode == .staleEpoch {
          lose(.deposed(epoch: error.staleEpoch ?? epoch))
          throw await promise.get()
        }
      }
    }
    if promise.isFulfilled { throw await promise.get() }
    let needed = next.links.isEmpty ? next.domains.count : next.renewQuorum
    guard next.domainNodes.count(where: { accepted.contains($0) }) >= needed else {
      throw .unanswered
    }
  }

  // MARK: the nodes

  func request(clusterID: UInt64, root: RootRecord?) -> HoldLease {
    HoldLease(
      clusterID: clusterID, epoch: epoch,
      leaseMilliseconds: UInt32(clamping: timing.duration.wholeMilliseconds), holder: "etcd",
      rootVersion: root?.version ?? 0, root: root?.encoded ?? [])
  }

  /// Asks all at once, each for at most one renewal interval; answers in the order of `asked`.
  func ask(
    _ asked: [(node: NodeID, address: SocketAddress)], clusterID: UInt64, root: RootRecord?
  ) async -> [(NodeID, Result<HoldLease.Answer, WireError>)] {
    let request = request(clusterID: clusterID, root: root)
    let answers = await withTaskGroup(of: (NodeID, Result<HoldLease.Answer, WireError>).self) {
      group in
      for (node, address) in asked {
        group.addTask { [self] in
          (node, await port.holdLease(request, at: address, deadline: timing.renewInterval))
        }
      }
      var answers: [NodeID: Result<HoldLease.Answer, WireError>] = [:]
      for await (node, answer) in group { answers[node] = answer }
      return answers
    }
    return asked.compactMap { one in answers[one.node].map { (one.node, $0) } }
  }

  /// Shows `next`, which etcd has, to the nodes of the roots before it and of its own, until all but m of both keep it:
  /// only then may anything depend on it, or it were lost with etcd.
  ///
  /// - Returns: nil, or a version as high that nodes keep of a root that never counted.
  private func show(_ next: RootRecord, before: RootRecord, _ promise: Promise<ArbiterError>)
    async throws(ArbiterError) -> UInt64?
  {
    let bytes = next.encoded
    var keeping: Set<NodeID> = []
    var isFirst = true
    while !promise.isFulfilled {
      let all = Set(next.domainNodes).union(before.domainNodes).sorted()
      let asked = all.compactMap { node in
        keeping.contains(node) ? nil : nodes.address(of: node).map { (node: node, address: $0) }
      }
      let outcome = await showOnce(next, bytes, asked, keeping) { keeping in
        [before, next].allSatisfy { root in
          root.domainNodes.count { keeping.contains($0) } >= root.renewQuorum
        }
      }
      keeping = outcome.keeping
      if let other = outcome.deposedBy {
        lose(.deposed(epoch: other))
        break
      }
      for node in keeping { shown[node] = next.version }
      if outcome.isEnough { return nil }
      if let version = outcome.version { return version }
      if isFirst { isFirst = false } else { detail = "too few nodes keep the newest root record" }
      guard await driver.sleep(.milliseconds(200)) else { throw .stopped }
    }
    throw await promise.get()
  }

  private struct Showing: Sendable {
    var keeping: Set<NodeID>
    var isEnough = false
    var version: UInt64?
    var deposedBy: UInt64?
  }

  private func showOnce(
    _ next: RootRecord, _ bytes: [UInt8], _ asked: [(node: NodeID, address: SocketAddress)],
    _ keeping: Set<NodeID>, isEnough: @Sendable (Set<NodeID>) -> Bool
  ) async -> Showing {
    let request = request(clusterID: next.clusterID, root: next)
    return await withTaskGroup(of: (NodeID, Result<HoldLease.Answer, WireError>).self) { group in
      for (node, address) in asked {
        group.addTask { [self] in
          (node, await port.holdLease(request, at: address, deadline: timing.renewInterval))
        }
      }
      var showing = Showing(keeping: keeping)
      for await (node, answer) in group {
        switch answer {
        case .success(let answer):
          nodes.note(node, of: answer.clusterID)
          accepted.insert(node)
          if answer.root == bytes {
            showing.keeping.insert(node)
          } else if answer.rootVersion >= next.version {
            showing.version = max(showing.version ?? 0, answer.rootVersion)
          }
        case .failure(let error):
          if error.refusalCode == .staleEpoch {
            showing.deposedBy = max(showing.deposedBy ?? 0, error.staleEpoch ?? epoch)
          }
        }
        if isEnough(showing.keeping) {
          showing.isEnough = true
          break
        }
        if showing.deposedBy != nil { break }
      }
      group.cancelAll()
      return showing
    }
  }

  /// Nodes that missed the newest root are shown it again.
  func keepShowing(_ promise: Promise<ArbiterError>) async {
    while !promise.isFulfilled {
      guard await driver.sleep(timing.renewInterval), !promise.isFulfilled else { return }
      guard let root, !root.links.isEmpty, root.epoch == epoch else { continue }
      let missed = root.domainNodes.filter { shown[$0, default: 0] < root.version }
      let asked = missed.compactMap { node in
        nodes.address(of: node).map { (node: node, address: $0) }
      }
      if asked.isEmpty { continue }
      let bytes = root.encoded
      for (node, answer) in await ask(asked, clusterID: root.clusterID, root: root) {
        switch answer {
        case .success(let answer): if answer.root == bytes { shown[node] = root.version }
        case .failure(let error):
          if error.refusalCode == .staleEpoch, !promise.isFulfilled {
            return lose(.deposed(epoch: error.staleEpoch ?? epoch))
          }
        }
      }
    }
  }
}
