import Messages
import Metadata
import Ring
import Service
import Wire

/// Who moves which bucket's versions to other classes. The leader finds what is due and writes nothing: gateways have the bytes.
/// Loop-confined.
final class TransitionWalks: @unchecked Sendable {
  // Loop-confined.
  struct Walk {
    var bucket: String
    var identity: UInt64
    var lifecycle: Lifecycle
    /// Nil: all of the bucket was seen.
    var request: ListVersions?
    var walk: LifecycleWalk
    var due: ArraySlice<LifecycleWalk.DueTransition> = []
    /// All that was due was handed out; the worker has some of it still.
    var isOver: Bool { request == nil && due.isEmpty }
    /// Another worker may begin anew then.
    var until: Duration
  }
  /// By worker.
  var underWay: [UInt64: Walk] = [:]
  /// Identities of buckets whose walks are worked on at this moment, and so are not in `underWay`.
  var claimed: Set<UInt64> = []
  /// When buckets that were seen to their end are looked at again, by identity.
  var notBefore: [UInt64: Duration] = [:]

  static let lifetime = Duration.seconds(600)
}

extension Leadership {
  private static let transitionPageLimit: UInt32 = 100
  /// Of one call, so that its answer does not take long.
  private static let transitionPages = 20
  private static let transitionBucketPage = 64
  /// After a call that found nothing: in a bucket of millions nobody else notices the walk.
  private static let transitionPause: UInt32 = 400

  func nextTransitions(_ request: NextTransitions) async throws(Refusal) -> NextTransitions.Answer {
    let limit = min(Int(request.limit), NextTransitions.countLimit)
    let pause = UInt32(
      clamping: min(max(configuration.lifecycleInterval.wholeMilliseconds / 60, 200), 60_000))
    let none = NextTransitions.Answer(versions: [], pauseMilliseconds: pause)
    guard !isHandingOver else { return none }
    let now = driver.now
    transitions.underWay = transitions.underWay.filter { $0.value.until > now }
    if limit == 0 {
      transitions.underWay[request.worker]?.until = now + TransitionWalks.lifetime
      return none
    }
    var found = await resumeTransitions(of: request.worker)
    if found == nil { found = await beginTransitions() }
    guard var walk = found else { return none }
    defer { transitions.claimed.remove(walk.identity) }
    walk.until = now + TransitionWalks.lifetime
    for _ in 0..<Self.transitionPages where walk.due.isEmpty && walk.request != nil {
      guard isLeading(), await advance(&walk) else { throw server.notLeading() }
    }
    let some = Array(walk.due.prefix(limit))
    walk.due = walk.due.dropFirst(limit)
    transitions.underWay[request.worker] = walk
    let versions = await look { (machine) throws(StoreError) -> [DueVersion] in
      var versions: [DueVersion] = []
      for one in some {
        if let due = try machine.dueVersion(one.name, one.identity, one.transition) {
          versions.append(due)
        }
      }
      return versions
    }
    guard let versions else { throw server.notLeading() }
    return NextTransitions.Answer(
      versions: versions, pauseMilliseconds: versions.isEmpty ? Self.transitionPause : 0)
  }

  /// The worker's walk, claimed; nil when it has none, or none that goes on.
  private func resumeTransitions(of worker: UInt64) async -> TransitionWalks.Walk? {
    // Taken out while it is worked on: a worker that asks twice at once begins with another bucket.
    guard let walk = transitions.underWay.removeValue(forKey: worker) else { return nil }
    if walk.isOver {
      transitions.notBefore[walk.identity] = driver.now + configuration.lifecycleInterval
      return nil
    }
    transitions.claimed.insert(walk.identity)
    // Where rules were changed, or the bucket made anew, what the others found says nothing.
    if await isCurrent(walk) { return walk }
    transitions.claimed.remove(walk.identity)
    return nil
  }

  /// The first bucket that wants a look and has none, claimed.
  private func beginTransitions() async -> TransitionWalks.Walk? {
    let now = driver.now
    transitions.notBefore = transitions.notBefore.filter { $0.value > now }
    var after = ""
    while isLeading() {
      let from = after
      let page = await look { (machine) throws(StoreError) in
        try machine.lifecycles(after: from, limit: Self.transitionBucketPage).map {
          (item) throws(StoreError) in (item: item, isMovable: try machine.isMovable(item.bucket))
        }
      }
      guard let page, let last = page.last?.item else { return nil }
      for (item, isMovable) in page {
        guard isMovable, let lifecycle = item.lifecycle, lifecycle.hasTransitions,
          let prefix = lifecycle.commonPrefix, transitions.notBefore[item.identity] == nil,
          !transitions.underWay.values.contains(where: { $0.identity == item.identity }),
          transitions.claimed.insert(item.identity).inserted
        else { continue }
        return TransitionWalks.Walk(
          bucket: item.bucket, identity: item.identity, lifecycle: lifecycle,
          request: ListVersions(
            level: .strong, bucket: item.bucket, prefix: prefix, delimiter: "", afterKey: "",
            after: .unnamed, limit: Self.transitionPageLimit),
          walk: LifecycleWalk(
            bucket: item.bucket, bucketIdentity: item.identity, lifecycle: lifecycle),
          until: now + TransitionWalks.lifetime)
      }
      after = last.bucket
    }
    return nil
  }

  /// Whether the bucket is the one that the walk is through, with the same rules.
  private func isCurrent(_ walk: TransitionWalks.Walk) async -> Bool {
    let (bucket, identity) = (walk.bucket, walk.identity)
    let found = await lookIfThere { (machine) throws(StoreError) in
      try machine.lifecycle(of: bucket, identity)
    }
    return found == walk.lifecycle
  }

  /// Looks at one more page. False: the state cannot be asked now.
  private func advance(_ walk: inout TransitionWalks.Walk) async -> Bool {
    guard let asked = walk.request else { return true }
    let page = await lookIfThere { (machine) throws(StoreError) in
      try machine.listVersions(asked)
    }
    guard let page else {
      // The bucket may be gone: then there is nothing left to see of it.
      walk.request = nil
      return isLeading()
    }
    let now = driver.wallClock.wholeMilliseconds
    for entry in page.entries { walk.walk.visit(entry, at: now) }
    _ = walk.walk.takeExpired()
    walk.due += walk.walk.takeDue()
    if let next = page.next {
      (walk.request!.afterKey, walk.request!.after) = next
    } else {
      walk.request = nil
    }
    return true
  }
}
