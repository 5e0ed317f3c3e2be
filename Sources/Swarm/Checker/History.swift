package import Coding
package import Messages

/// What clients asked of the cluster, when, and what they were told: all that the checker of histories sees.
///
/// Moments are numbers that count up with every invocation and response, so that of two that fell on one instant of
/// simulated time the order is known too.
package struct History: Sendable {
  /// What a reader is told of a version.
  package struct Version: Hashable, Sendable {
    /// The log position that made it.
    package var identity: UInt64
    package var byteCount: UInt64
    package var contentHash: Fingerprint
    /// The mark in its attributes.
    package var tag: String

    package init(identity: UInt64, byteCount: UInt64, contentHash: Fingerprint, tag: String) {
      self.identity = identity
      self.byteCount = byteCount
      self.contentHash = contentHash
      self.tag = tag
    }
  }

  package enum Action: Sendable {
    /// `tag` names the bytes too: a tag that is put twice is put with the same bytes.
    case put(
      ObjectName, tag: String, byteCount: UInt64, condition: Precondition, unlessIdentical: Bool)
    /// `tag` nil: the source's.
    case copy(
      source: ObjectName, target: ObjectName, tag: String?, moves: Bool, condition: Precondition)
    case delete(ObjectName, condition: Precondition)
    /// A question about one key: stat, or a read of its bytes that says which version they are of.
    case look(ObjectName)
    /// One page of a listing.
    case list(ListObjects)
    case createBucket(String)
    case removeBucket(String)
    case listBuckets
  }

  package enum Outcome: Hashable, Sendable {
    /// Nothing was learnt: a change may have happened, or may yet; a question was not answered.
    case inDoubt
    /// Surely not done, whatever the state.
    case failed
    /// put, copy, move.
    case written(identity: UInt64, contentHash: Fingerprint?)
    /// delete, buckets.
    case done
    case seen(Version)
    /// A read of this version was told that it is current no more.
    case changed(from: UInt64)
    case noSuchKey
    case noSuchBucket
    case preconditionFailed
    case bucketExists
    case bucketNotEmpty
    case page(ListObjects.Answer)
    case buckets([String])
  }

  package struct Entry: Sendable {
    /// For people: who, and which of its operations.
    package var label: String
    package var action: Action
    package var invoked: Int
    /// Nil: no answer ever came.
    package var returned: Int?
    package var outcome: Outcome
    package var invokedAt: Duration
    package var returnedAt: Duration?
  }

  package private(set) var entries: [Entry] = []
  private var moment = 0

  package init() {}

  /// - Returns: the entry's index.
  package mutating func invoke(_ label: String, _ action: Action, at time: Duration) -> Int {
    moment += 1
    entries.append(
      Entry(
        label: label, action: action, invoked: moment, returned: nil, outcome: .inDoubt,
        invokedAt: time, returnedAt: nil))
    return entries.count - 1
  }

  /// Once for an entry, and not at all for one whose client died.
  package mutating func answer(_ index: Int, _ outcome: Outcome, at time: Duration) {
    precondition(entries[index].returned == nil)
    moment += 1
    entries[index].returned = moment
    entries[index].outcome = outcome
    entries[index].returnedAt = time
  }
}

extension History {
  /// The name of the attribute that marks what a version was made by.
  package static let tagName = "made-by"

  /// How marks begin that stand for several contents of one length.
  package static let twinMark = "twins "

  package static func tag(of attributes: ObjectAttributes) -> String {
    attributes.user.first { $0.name == tagName }?.value ?? ""
  }

  package static func attributes(tag: String) -> ObjectAttributes {
    ObjectAttributes(
      user: [ObjectAttributes.UserAttribute(name: tagName, value: tag)])
  }
}
