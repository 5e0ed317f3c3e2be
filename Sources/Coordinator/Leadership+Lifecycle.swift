import Messages
import Metadata
import Ring
import Service
import Wire

/// What the rules of buckets let go goes: versions and uploads in parts, a page at a time, gently.
extension Leadership {
  /// Versions looked at in one piece, and the pause after each: a bucket of a million takes some minutes, and nobody else notices.
  private static let lifecyclePageLimit: UInt32 = 500
  private static let lifecyclePause = Duration.milliseconds(100)
  private static let bucketPageLimit = 64

  /// Lets go what buckets' rules say, by the leader's wall clock.
  func carryOutLifecycles() async {
    while await pause(configuration.lifecycleInterval) {
      var after = ""
      while isLeading() {
        let from = after
        let page = await look { (machine) throws(StoreError) in
          try machine.lifecycles(after: from, limit: Self.bucketPageLimit)
        }
        guard let page, let last = page.last else { break }
        for item in page {
          guard let lifecycle = item.lifecycle, isLeading() else { continue }
          if lifecycle.hasVersionRules { await expire(item.bucket, item.identity, lifecycle) }
          if lifecycle.hasAborts { await abortUploads(item.bucket, item.identity, lifecycle) }
        }
        after = last.bucket
      }
    }
  }

  private func expire(_ bucket: String, _ identity: UInt64, _ lifecycle: Lifecycle) async {
    guard let prefix = lifecycle.commonPrefix else { return }
    var request = ListVersions(
      level: .strong, bucket: bucket, prefix: prefix, delimiter: "", afterKey: "",
      after: .unnamed, limit: Self.lifecyclePageLimit)
    var walk = LifecycleWalk(bucket: bucket, bucketIdentity: identity, lifecycle: lifecycle)
    while isLeading(), !isHandingOver {
      let asked = request
      let page = await lookIfThere { (machine) throws(StoreError) in
        try machine.listVersions(asked)
      }
      guard let page else { return }
      let now = driver.wallClock.wholeMilliseconds
      for entry in page.entries { walk.visit(entry, at: now) }
      if page.isLast { walk.end(at: now) }
      let expired = walk.takeExpired()
      // Gateways move these, and ask for them.
      _ = walk.takeDue()
      if !expired.isEmpty {
        do throws(Refusal) {
          _ = try await submit(.expireVersions(expired))
          log.info(
            "versions expired by their bucket's rules",
            ["bucket": bucket, "count": expired.count])
        } catch {
          // Found again the next time, by us or by the next leader.
          return
        }
      }
      guard let next = page.next, await driver.sleep(Self.lifecyclePause) else { return }
      (request.afterKey, request.after) = next
    }
  }

  /// Nil also when the bucket is gone meanwhile.
  func lookIfThere<Value: Sendable>(
    _ body: @escaping @Sendable (StateMachine) throws(StoreError) -> Value
  ) async -> Value? {
    let found = await look { (machine) throws(StoreError) -> Value? in
      do throws(StoreError) {
        return try body(machine)
      } catch {
        guard case .refused = error else { throw error }
        return nil
      }
    }
    return found ?? nil
  }

  private func abortUploads(_ bucket: String, _ identity: UInt64, _ lifecycle: Lifecycle) async {
    var request = ListMultiparts(
      level: .strong, bucket: bucket, prefix: lifecycle.commonPrefix ?? "", delimiter: "",
      afterKey: "", afterNumber: 0, limit: Self.lifecyclePageLimit)
    while isLeading() {
      let asked = request
      let page = await lookIfThere { (machine) throws(StoreError) in
        try machine.listMultiparts(asked)
      }
      guard let page else { return }
      let now = driver.wallClock.wholeMilliseconds
      let rows = page.entries.filter {
        lifecycle.aborts($0.key, initiated: $0.description.initiated, at: now)
      }.map { MultipartRow(bucket: identity, key: $0.key, number: $0.number) }
      if !rows.isEmpty {
        do throws(Refusal) {
          _ = try await submit(.expireMultiparts(rows))
          log.info(
            "multipart uploads aborted by their bucket's rules",
            ["bucket": bucket, "count": rows.count])
        } catch {
          return
        }
      }
      guard !page.isLast, let last = page.entries.last else { return }
      request.afterKey = last.key
      request.afterNumber = last.number
      guard await driver.sleep(Self.lifecyclePause) else { return }
    }
  }
}

/// What goes among the versions of a bucket, which come by key and of one key the newest first.
struct LifecycleWalk {
  private let bucket: String
  private let bucketIdentity: UInt64
  private let lifecycle: Lifecycle
  private var key: String?
  /// When the version before this one in the walk, the next newer of its key, was made.
  private var newerMade: UInt64 = 0
  private var noncurrentCount = 0
  /// A marker that is the newest of its key, as long as nothing else of it has come.
  private var lone: VersionEntry?
  private var expired: [ExpiredVersion] = []
  private var due: [DueTransition] = []

  /// A version that is to go to another class.
  struct DueTransition {
    var name: ObjectName
    var identity: UInt64
    var transition: Transition
  }

  init(bucket: String, bucketIdentity: UInt64, lifecycle: Lifecycle) {
    self.bucket = bucket
    self.bucketIdentity = bucketIdentity
    self.lifecycle = lifecycle
  }

  mutating func visit(_ entry: VersionEntry, at now: UInt64) {
    if entry.isCurrent {
      end(at: now)
      key = entry.key
      newerMade = entry.modified
      noncurrentCount = 0
      if entry.isMarker {
        lone = entry
      } else if lifecycle.expires(entry, at: now) {
        add(entry, .delete)
      } else if let transition = lifecycle.transition(entry, at: now) {
        add(entry, transition)
      }
      return
    }
    // A walk that began in the middle of a key knows nothing of the newer ones.
    guard let key, key.utf8.elementsEqual(entry.key.utf8) else { return }
    lone = nil
    if lifecycle.expiresNoncurrent(
      entry, since: newerMade, newerCount: noncurrentCount, at: now)
    {
      add(entry, .remove)
    } else if !entry.isMarker,
      let transition = lifecycle.noncurrentTransition(
        entry, since: newerMade, newerCount: noncurrentCount, at: now)
    {
      add(entry, transition)
    }
    noncurrentCount += 1
    newerMade = entry.modified
  }

  /// No more comes of the key.
  mutating func end(at now: UInt64) {
    if let lone, lifecycle.expiresLone(marker: lone, at: now) { add(lone, .removeLoneMarker) }
    lone = nil
  }

  mutating func takeExpired() -> [ExpiredVersion] {
    defer { expired = [] }
    return expired
  }

  mutating func takeDue() -> [DueTransition] {
    defer { due = [] }
    return due
  }

  private mutating func add(_ entry: VersionEntry, _ transition: Transition) {
    due.append(
      DueTransition(
        name: ObjectName(bucket: bucket, key: entry.key), identity: entry.identity,
        transition: transition))
  }

  private mutating func add(_ entry: VersionEntry, _ action: ExpiredVersion.Action) {
    expired.append(
      ExpiredVersion(
        bucket: bucket, bucketIdentity: bucketIdentity, key: entry.key,
        identity: entry.identity, action: action))
  }
}
