import Coding
import Messages
import Metadata
import TestSupport
import Testing

@testable import Coordinator

@Suite("a walk over versions finds what a bucket's rules let go")
struct LifecycleWalkTests {
  private static let day = Lifecycle.day

  /// Versions of one key, the newest first: "o" objects and "m" markers, made one a day, the newest on day 10.
  private static func entries(_ key: String, _ kinds: String) -> [VersionEntry] {
    kinds.enumerated().map { index, kind in
      let identity = UInt64(1000 - index)
      let modified = (10 - UInt64(index)) * day
      guard kind == "o" else {
        return VersionEntry(
          marker: identity, isNull: false, modified: modified, key: key, isCurrent: index == 0)
      }
      return VersionEntry(
        ObjectRecord(
          identity: identity, byteCount: 3, contentHash: Fingerprint(of: []),
          attributes: ObjectAttributes(), modified: modified, content: .inline([]),
          isNull: false), key: key, isCurrent: index == 0)
    }
  }
  private static func expired(
    _ keys: [(String, String)], at day: UInt64, _ change: (inout Lifecycle.Rule) -> Void
  ) -> [String] {
    var rule = Lifecycle.Rule()
    change(&rule)
    var walk = LifecycleWalk(
      bucket: "b", bucketIdentity: 3, lifecycle: Lifecycle(rules: [rule]))
    let now = day * self.day
    for (key, kinds) in keys {
      for entry in entries(key, kinds) { walk.visit(entry, at: now) }
    }
    walk.end(at: now)
    return walk.takeExpired().map { "\($0.key) \(1000 - $0.identity) \($0.action)" }
  }

  @Test("current ones that are old enough are deleted")
  func current() {
    let keys = [("a", "oo"), ("b", "mo"), ("c", "o")]
    #expect(
      Self.expired(keys, at: 13) { $0.expiration = .days(3) } == ["a 0 delete", "c 0 delete"])
    #expect(Self.expired(keys, at: 12) { $0.expiration = .days(3) } == [])
  }

  @Test("a version that is not current counts from when the next was made, and the newest may stay")
  func noncurrent() {
    // The one at place 1 was replaced on day 10, the one at 2 on day 9, and so on.
    let keys = [("a", "oooo"), ("b", "moo")]
    #expect(
      Self.expired(keys, at: 14) { $0.noncurrentDays = 5 } == [
        "a 2 remove", "a 3 remove", "b 2 remove",
      ])
    #expect(
      Self.expired(keys, at: 100) {
        $0.noncurrentDays = 5
        $0.newerNoncurrentVersions = 2
      } == ["a 3 remove"])
  }

  @Test("a marker goes when nothing is below it")
  func lone() {
    let keys = [("a", "m"), ("b", "mo"), ("c", "o"), ("d", "m")]
    #expect(
      Self.expired(keys, at: 11) { $0.expiration = .loneMarkers } == [
        "a 0 removeLoneMarker", "d 0 removeLoneMarker",
      ])
  }

  @Test("what is to go to another class is found beside it, and what expires is not moved before")
  func transitions() {
    func due(_ keys: [(String, String)], at day: UInt64, _ transitions: [Transition]) -> [String] {
      var rule = Lifecycle.Rule()
      rule.transitions = transitions
      rule.expiration = .days(20)
      rule.largerThan = 1
      var walk = LifecycleWalk(
        bucket: "b", bucketIdentity: 3, lifecycle: Lifecycle(rules: [rule]))
      let now = day * Self.day
      for (key, kinds) in keys {
        for entry in Self.entries(key, kinds) { walk.visit(entry, at: now) }
      }
      walk.end(at: now)
      return walk.takeDue().map {
        "\($0.name.key) \(1000 - $0.identity) \($0.transition.tier.name)"
      }
    }
    let keys = [("a", "ooo"), ("b", "mo"), ("c", "o")]
    let current = Transition(.days(3), to: .standardIA, storageClass: "warm")
    let later = Transition(.days(5), to: .glacierIR, storageClass: "cold")
    let old = Transition(
      .noncurrent(days: 2, newerVersions: 1), to: .glacierIR, storageClass: "cold")
    #expect(due(keys, at: 12, [current, later, old]) == ["a 2 GLACIER_IR"])
    #expect(
      due(keys, at: 13, [current, later, old]) == [
        "a 0 STANDARD_IA", "a 2 GLACIER_IR", "c 0 STANDARD_IA",
      ])
    #expect(due(keys, at: 15, [current, later]) == ["a 0 GLACIER_IR", "c 0 GLACIER_IR"])
    #expect(due(keys, at: 30, [current, later]) == [])
  }
}
