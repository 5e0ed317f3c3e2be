import Coding
import Messages
import TestSupport
import Testing
import Wire

@Suite("lifecycle rules")
struct LifecycleTests {
  static let day = Lifecycle.day

  static func entry(
    _ key: String, bytes: UInt64 = 5, modified: UInt64, tags: [String] = [], isMarker: Bool = false
  ) -> VersionEntry {
    if isMarker {
      return VersionEntry(marker: 7, isNull: false, modified: modified, key: key, isCurrent: true)
    }
    return VersionEntry(
      ObjectRecord(
        identity: 7, byteCount: bytes, contentHash: Fingerprint(of: []),
        attributes: ObjectAttributes(user: tags.map { .init(name: $0, value: "1") }),
        modified: modified, content: .inline([])), key: key, isCurrent: true)
  }
  static func rule(_ change: (inout Lifecycle.Rule) -> Void) -> Lifecycle {
    var rule = Lifecycle.Rule()
    change(&rule)
    return Lifecycle(rules: [rule])
  }

  @Test("days are counted to the next midnight", arguments: [UInt64(0), 1, 43_200_000, 86_399_999])
  func midnight(since: UInt64) {
    let lifecycle = Self.rule { $0.expiration = .days(3) }
    let object = Self.entry("k", modified: 10 * Self.day + since)
    let due = (since == 0 ? 13 : 14) * Self.day
    #expect(!lifecycle.expires(object, at: due - 1))
    #expect(lifecycle.expires(object, at: due))
    let never = Self.rule { $0.expiration = .days(.max) }
    #expect(!never.expires(Self.entry("k", modified: .max - 5), at: .max))
  }

  @Test("a rule is about what all of its filter fits")
  func filters() {
    let object = Self.entry("a/k", bytes: 5, modified: 0, tags: ["t", "u"])
    let now = 100 * Self.day
    func expires(_ change: (inout Lifecycle.Rule) -> Void) -> Bool {
      Self.rule {
        $0.expiration = .days(1)
        change(&$0)
      }.expires(object, at: now)
    }
    #expect(expires { _ in })
    #expect(expires { $0.prefix = "a/" } && !expires { $0.prefix = "b" })
    #expect(expires { $0.largerThan = 4 } && !expires { $0.largerThan = 5 })
    #expect(expires { $0.smallerThan = 6 } && !expires { $0.smallerThan = 5 })
    #expect(expires { $0.tags = [.init(name: "t", value: "1")] })
    #expect(!expires { $0.tags = [.init(name: "t", value: "2")] })
    #expect(!expires { $0.isEnabled = false })
    #expect(!expires { $0.expiration = .loneMarkers } && !expires { $0.expiration = nil })
    #expect(expires { $0.expiration = .date(now) } && !expires { $0.expiration = .date(now + 1) })
    let marker = Self.entry("a/k", modified: 0, isMarker: true)
    #expect(Self.rule { $0.expiration = .loneMarkers }.expiresLone(marker: marker, at: now))
    #expect(
      !Self.rule {
        $0.expiration = .days(1)
        $0.largerThan = 0
      }.expiresLone(marker: marker, at: now))
    let kept = Self.rule {
      $0.noncurrentDays = 1
      $0.newerNoncurrentVersions = 2
    }
    #expect(!kept.expiresNoncurrent(object, since: 0, newerCount: 1, at: now))
    #expect(kept.expiresNoncurrent(object, since: 0, newerCount: 2, at: now))
    #expect(!kept.expiresNoncurrent(object, since: now, newerCount: 2, at: now))
    let aborts = Self.rule { $0.abortDays = 1 }
    #expect(aborts.aborts("x", initiated: 0, at: now) && aborts.hasAborts)
  }

  @Test("what rules have in common is what is looked at")
  func prefixes() {
    func common(_ prefixes: [String]) -> String? {
      Lifecycle(
        rules: prefixes.map {
          var rule = Lifecycle.Rule()
          rule.prefix = $0
          return rule
        }
      ).commonPrefix
    }
    #expect(common(["logs/a", "logs/b"]) == "logs/")
    #expect(common(["logs/a", ""]) == "")
    #expect(common(["ü", "u"]) == "")
    #expect(common([]) == nil)
  }

  @Test("rules read back as they were written, and damage is refused", arguments: Seed.several)
  func coding(seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<50 {
      var rule = Lifecycle.Rule()
      rule.id = "id"
      rule.isEnabled = Bool.random(using: &random)
      rule.hasOuterPrefix = Bool.random(using: &random)
      rule.prefix = "p"
      rule.tags = [.init(name: "a", value: "b")]
      rule.largerThan = Bool.random(using: &random) ? 7 : nil
      rule.expiration = [.days(3), .date(9), .loneMarkers, nil].randomElement(using: &random)!
      rule.abortDays = Bool.random(using: &random) ? 7 : nil
      let lifecycle = Lifecycle(rules: [rule, rule])
      let bytes = lifecycle.encoded
      #expect(try Lifecycle(decoding: bytes) == lifecycle)
      for end in 0..<bytes.count {
        #expect(throws: ValueError.self) { try Lifecycle(decoding: Array(bytes[..<end])) }
      }
    }
  }

  @Test("a lock gives way only to one that holds longer")
  func locks() {
    func retention(_ mode: ObjectLock.Mode, _ until: UInt64) -> ObjectLock.Retention {
      ObjectLock.Retention(mode: mode, until: until)
    }
    let governed = ObjectLock(retention: retention(.governance, 100))
    let complied = ObjectLock(retention: retention(.compliance, 100))
    #expect(governed.holds(at: 99, bypassesGovernance: false))
    #expect(!governed.holds(at: 99, bypassesGovernance: true))
    #expect(complied.holds(at: 99, bypassesGovernance: true))
    #expect(!complied.holds(at: 100, bypassesGovernance: false))
    #expect(ObjectLock(hasLegalHold: true).holds(at: .max, bypassesGovernance: true))
    for bypasses in [true, false] {
      func allows(_ lock: ObjectLock, _ new: ObjectLock.Retention?, _ now: UInt64 = 50) -> Bool {
        lock.allows(new, at: now, bypassesGovernance: bypasses)
      }
      #expect(allows(complied, retention(.compliance, 101)))
      #expect(!allows(complied, retention(.compliance, 99)) && !allows(complied, nil))
      #expect(!allows(complied, retention(.governance, 200)))
      #expect(allows(complied, nil, 100))
      #expect(allows(governed, retention(.compliance, 100)))
      #expect(allows(governed, retention(.governance, 99)) == bypasses)
      #expect(allows(governed, nil) == bypasses)
    }
  }

  @Test(
    "a version goes to the last tier that is due, never back, and no small one unless the rule says sizes"
  )
  func transitions() {
    var lifecycle = Self.rule {
      $0.transitions = [
        Transition(.days(0), to: .standardIA, storageClass: "warm"),
        Transition(.days(5), to: .glacier, storageClass: "cold"),
      ]
    }
    func tier(_ bytes: UInt64, _ day: UInt64, _ present: ObjectTier? = nil) -> ObjectTier? {
      var entry = Self.entry("k", bytes: bytes, modified: 0)
      if let present {
        entry.attributes.user = [.init(name: ObjectTier.attributeName, value: present.name)]
      }
      return lifecycle.transition(entry, at: day * Self.day)?.tier
    }
    let large = Lifecycle.smallByteCount
    #expect(tier(large, 0) == .standardIA && tier(large, 4) == .standardIA)
    #expect(tier(large, 5) == .glacier)
    #expect(tier(large, 4, .standardIA) == nil && tier(large, 5, .standardIA) == .glacier)
    #expect(tier(large, 5, .glacier) == nil && tier(large, 5, .deepArchive) == nil)
    #expect(tier(large - 1, 5) == nil)
    lifecycle.archivesSmall = true
    #expect(tier(large - 1, 5) == .glacier && tier(large - 1, 4) == nil)
    lifecycle.archivesSmall = false
    lifecycle.rules[0].largerThan = 7
    #expect(tier(8, 4) == .standardIA && tier(7, 5) == nil)
    lifecycle.rules[0].isEnabled = false
    #expect(tier(large, 5) == nil && !lifecycle.hasTransitions)
  }

  @Test("rules without transitions are encoded as before there were any, and all come back")
  func transitionsEncoded() throws {
    var lifecycle = Self.rule { $0.expiration = .days(3) }
    lifecycle.rules.append(lifecycle.rules[0])
    #expect(lifecycle.encoded.first == 1)
    lifecycle.rules[1].transitions = [
      Transition(.date(7), to: .oneZoneIA, storageClass: "warm"),
      Transition(
        .noncurrent(days: 3, newerVersions: 4), to: .deepArchive, storageClass: "cold"),
    ]
    #expect(lifecycle.encoded.first == 2)
    #expect(try Lifecycle(decoding: lifecycle.encoded) == lifecycle)
    lifecycle.rules[1].transitions = []
    lifecycle.archivesSmall = true
    #expect(try Lifecycle(decoding: lifecycle.encoded) == lifecycle)
  }
}
