package import Messages

/// What clients did in buckets with versions, when, and what they were told. Moments count up with every invocation and response.
package struct VersionHistory: Sendable {
  package struct Place: Hashable, Sendable {
    package var name: ObjectName
    package var identity: UInt64
  }

  /// A put, a copy, or a delete that names no version.
  struct Write: Sendable {
    var label: String
    var name: ObjectName
    /// Of what is put; nil: a delete.
    var tag: String?
    var invoked: Int
    var returned: Int?
    /// Nil: whether it was made is unknown.
    var made: MadeVersion?
    /// Surely nothing was made.
    var hasFailed = false
  }

  struct Removal: Sendable {
    enum Outcome: Sendable { case inDoubt, failed, object, marker, noSuchVersion }
    var label: String
    var place: Place
    var invoked: Int
    var returned: Int?
    var outcome = Outcome.inDoubt
  }

  /// A question about what is current.
  struct Look: Sendable {
    var label: String
    var name: ObjectName
    var invoked: Int
    var returned: Int
    /// Nil: there is no such key.
    var seen: UInt64?
  }

  /// A question about one version.
  struct Read: Sendable {
    var label: String
    var place: Place
    var invoked: Int
    var returned: Int
    /// Nil: there is no such version.
    var entry: VersionEntry?
  }

  struct Page: Sendable {
    var label: String
    var request: ListVersions
    var answer: ListVersions.Answer
    var invoked: Int
    var returned: Int
  }

  var writes: [Write] = []
  var removals: [Removal] = []
  var looks: [Look] = []
  var reads: [Read] = []
  var pages: [Page] = []
  /// Versions that somebody was told of, by key, in that order.
  private(set) var known: [ObjectName: [UInt64]] = [:]
  private var moment = 0

  package init() {}

  mutating func now() -> Int {
    moment += 1
    return moment
  }

  mutating func begin(_ label: String, _ name: ObjectName, tag: String?) -> Int {
    writes.append(Write(label: label, name: name, tag: tag, invoked: now()))
    return writes.count - 1
  }
  mutating func end(_ index: Int, _ made: MadeVersion) {
    writes[index].returned = now()
    writes[index].made = made
    known[writes[index].name, default: []].append(made.identity)
  }
  mutating func fail(_ index: Int) {
    writes[index].returned = now()
    writes[index].hasFailed = true
  }

  mutating func beginRemoval(_ label: String, _ place: Place) -> Int {
    removals.append(Removal(label: label, place: place, invoked: now()))
    return removals.count - 1
  }
  mutating func endRemoval(_ index: Int, _ outcome: Removal.Outcome) {
    removals[index].returned = now()
    removals[index].outcome = outcome
  }

  /// One of the versions that were told of lately; nil when there is none.
  func pick(_ name: ObjectName, _ choice: Int) -> UInt64? {
    guard let all = known[name], !all.isEmpty else { return nil }
    let some = all.suffix(6)
    return some[some.startIndex + choice % some.count]
  }
}
