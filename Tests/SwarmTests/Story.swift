import Coding
import Messages

@testable import Swarm

/// A history told by hand: `begin` and `end` where operations overlap, `did` where they do not.
struct Story {
  private(set) var history = History()
  private var count = 0

  mutating func begin(_ action: History.Action) -> Int {
    count += 1
    return history.invoke("op \(count)", action, at: .seconds(count))
  }
  mutating func end(_ index: Int, _ outcome: History.Outcome) {
    count += 1
    history.answer(index, outcome, at: .seconds(count))
  }
  mutating func did(_ action: History.Action, _ outcome: History.Outcome) {
    end(begin(action), outcome)
  }
  /// Sent, never answered.
  mutating func lost(_ action: History.Action) { _ = begin(action) }

  var verdict: TrialFailure? { HistoryChecker.check(history) }
  var isAllowed: Bool { verdict == nil }
}

func name(_ key: String, _ bucket: String = "b") -> ObjectName {
  ObjectName(bucket: bucket, key: key)
}
/// Contents are told apart by their tags; each tag's has its own length.
func byteCount(_ tag: String) -> UInt64 { tag.utf8.reduce(0) { $0 * 31 + UInt64($1) } }
func hash(_ tag: String) -> Fingerprint { Fingerprint(of: Array(tag.utf8)) }

func put(
  _ key: String, _ tag: String, if condition: Precondition = .none, unlessIdentical: Bool = false,
  bucket: String = "b"
) -> History.Action {
  .put(
    name(key, bucket), tag: tag, byteCount: byteCount(tag), condition: condition,
    unlessIdentical: unlessIdentical)
}
func delete(_ key: String, if condition: Precondition = .none) -> History.Action {
  .delete(name(key), condition: condition)
}
func look(_ key: String, bucket: String = "b") -> History.Action { .look(name(key, bucket)) }
func copy(
  _ source: String, _ target: String, tag: String? = nil, if condition: Precondition = .none
) -> History.Action {
  .copy(source: name(source), target: name(target), tag: tag, moves: false, condition: condition)
}
func move(
  _ source: String, _ target: String, tag: String? = nil, if condition: Precondition = .none
) -> History.Action {
  .copy(source: name(source), target: name(target), tag: tag, moves: true, condition: condition)
}
func list(
  _ prefix: String = "", after: String = "", delimiter: String = "", limit: UInt32 = 1000
) -> History.Action {
  .list(
    ListObjects(
      level: .strong, bucket: "b", prefix: prefix, after: after, delimiter: delimiter, limit: limit)
  )
}

/// A version with the bytes of `tag`, marked with it or with `mark`.
func version(_ tag: String, _ identity: UInt64, mark: String? = nil) -> History.Version {
  History.Version(
    identity: identity, byteCount: byteCount(tag), contentHash: hash(tag), tag: mark ?? tag)
}
func seen(_ tag: String, _ identity: UInt64, mark: String? = nil) -> History.Outcome {
  .seen(version(tag, identity, mark: mark))
}
func written(_ identity: UInt64) -> History.Outcome {
  .written(identity: identity, contentHash: nil)
}

func page(
  _ entries: [(key: String, tag: String, identity: UInt64)], prefixes: [String] = [],
  next: String? = nil
) -> History.Outcome {
  .page(
    ListObjects.Answer(
      entries: entries.map {
        ListObjects.Entry(
          key: $0.key, identity: $0.identity, byteCount: byteCount($0.tag), modified: 0,
          contentHash: hash($0.tag), attributes: History.attributes(tag: $0.tag))
      }, prefixes: prefixes, next: next))
}
