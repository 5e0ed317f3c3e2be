internal import Coding
internal import Messages

/// Puts and copies, taken apart into what they do to each key.
extension HistoryChecker {
  mutating func takeApartPut(
    _ index: Int, _ name: ObjectName, _ value: Int, _ condition: Precondition,
    _ unlessIdentical: Bool, madeUnknown: UInt64?
  ) {
    let key = Name.key(name)
    let effect = RegisterStep.Effect.write(
      value: value, condition: Self.sight(condition), mayFind: unlessIdentical)
    switch history.entries[index].outcome {
    case .written(let identity, _):
      add(key, index, effect, position: identity)
      noteBucket(name.bucket, index, exists: true)
    case .inDoubt:
      if let madeUnknown {
        let surely = RegisterStep.Effect.write(
          value: value, condition: Self.sight(condition), mayFind: false)
        addKnown(key, index, surely, position: madeUnknown)
      } else {
        add(key, index, effect, isMandatory: false)
      }
    case .preconditionFailed:
      add(key, index, .read(Self.refusing(condition, isThere: false)))
      noteBucket(name.bucket, index, exists: true)
    case .noSuchBucket: noteNoBucket(name, index)
    default: break
    }
  }

  /// A copy onto itself makes a version of the same bytes.
  mutating func takeApartSelfCopy(
    _ index: Int, _ name: ObjectName, _ tag: String?, _ condition: Precondition,
    madeUnknown: UInt64?
  ) {
    let key = Name.key(name)
    let own = tag.map { value(of: $0) }
    switch history.entries[index].outcome {
    case .written(let identity, _):
      add(
        key, index,
        .write(value: own, condition: Self.both(condition), mayFind: false), position: identity)
      noteBucket(name.bucket, index, exists: true)
    case .inDoubt:
      let effect = RegisterStep.Effect.write(
        value: own, condition: Self.both(condition), mayFind: false)
      if let madeUnknown {
        addKnown(key, index, effect, position: madeUnknown)
      } else {
        add(key, index, effect, isMandatory: false)
      }
    case .noSuchKey:
      add(key, index, .read(.absent))
      noteBucket(name.bucket, index, exists: true)
    case .preconditionFailed:
      add(key, index, .read(Self.refusing(condition, isThere: true)))
    case .noSuchBucket: noteNoBucket(name, index)
    default: break
    }
  }

  /// The condition, and that the key is there.
  static func both(_ condition: Precondition) -> Sight {
    switch condition {
    case .none: .present
    case .absent: .oneOf([])
    case .identity(let identity): .version(value: -1, identity: identity)
    }
  }

  mutating func takeApartCopy(
    _ index: Int, _ source: ObjectName, _ target: ObjectName, _ tag: String?, _ moves: Bool,
    _ condition: Precondition, madeUnknown: UInt64?
  ) {
    let from = Name.key(source)
    let to = Name.key(target)
    let entry = history.entries[index]
    func write(_ value: Int) -> RegisterStep.Effect {
      .write(value: value, condition: Self.sight(condition), mayFind: false)
    }
    switch entry.outcome {
    case .written(let identity, _):
      let (value, sight) = copied(identity, tag)
      add(to, index, write(value), position: identity)
      add(from, index, moves ? .erase(sight) : .read(sight), position: identity)
      noteBucket(source.bucket, index, exists: true)
      noteBucket(target.bucket, index, exists: true)
    case .inDoubt:
      if let madeUnknown {
        let (value, sight) = copied(madeUnknown, tag)
        addKnown(to, index, write(value), position: madeUnknown)
        addKnown(from, index, moves ? .erase(sight) : .read(sight), position: madeUnknown)
        return
      }
      let value = tag.map { self.value(of: $0) } ?? -1
      guard moves else {
        add(to, index, write(value), isMandatory: false)
        return
      }
      joints.append(Joint(source: register(from), target: register(to)))
      add(to, index, write(value), isMandatory: false, joint: joints.count - 1)
      add(from, index, .erase(.present), isMandatory: false, joint: joints.count - 1)
    case .noSuchKey:
      add(from, index, .read(.absent))
      noteBucket(source.bucket, index, exists: true)
      noteBucket(target.bucket, index, exists: true)
    case .preconditionFailed:
      add(from, index, .read(.present))
      add(to, index, .read(Self.refusing(condition, isThere: false)))
    case .noSuchBucket:
      // Which of the two is not told.
      let mayMiss = [source, target].filter { mayBeMissing($0.bucket, before: entry.invokedAt) }
      if mayMiss.count < 2 || source.bucket == target.bucket {
        noteNoBucket(mayMiss.first ?? source, index)
      }
    default: break
    }
  }

  /// What a copy that made `identity` wrote, and so what its source held: known when anybody saw that version.
  func copied(_ identity: UInt64, _ tag: String?) -> (value: Int, source: Sight) {
    let version = seen[identity]?.version
    guard let tag else {
      guard let version, let value = valueOfTag[version.tag] else { return (-1, .present) }
      return (value, .oneOf([value]))
    }
    guard let value = valueOfTag[tag] else { return (-1, .present) }
    guard let version else { return (value, .present) }
    let same = (valuesOfByteCount[version.byteCount] ?? []).filter {
      values[$0].contentHash == nil || values[$0].contentHash == version.contentHash
    }
    // Copies of which nobody saw a version may have had these bytes too.
    let unseen = values.indices.filter { values[$0].isCopied && values[$0].byteCount == nil }
    return (value, .oneOf(Set(same + unseen)))
  }

  /// Versions that somebody saw though whoever made them never learnt it: which entry made which.
  func identitiesOfUnknown() throws(TrialFailure) -> [Int: UInt64] {
    var unknown: [ObjectName: [Int]] = [:]
    for (index, entry) in history.entries.enumerated() where entry.outcome == .inDoubt {
      switch entry.action {
      case .put(let name, _, _, _, _): unknown[name, default: []].append(index)
      case .copy(_, let target, _, _, _): unknown[target, default: []].append(index)
      default: break
      }
    }
    // A mark that is put only once has one maker only, but for copies that keep it.
    var result: [Int: UInt64] = [:]
    for (identity, sight) in seen.sorted(by: { $0.key < $1.key })
    where !told.contains(identity) {
      let makers = (unknown[sight.name] ?? []).filter { index in
        switch history.entries[index].action {
        case .put(_, let tag, _, _, _): tag == sight.version.tag
        case .copy(_, _, let tag, _, _): tag == nil || tag == sight.version.tag
        default: false
        }
      }
      guard let only = makers.first else {
        throw failure(
          "one version", sight.entry,
          "version \(identity) of \(sight.name) (\(sight.version.tag)) was made by nobody")
      }
      guard makers.count == 1 else { continue }
      if let other = result[only] {
        throw failure(
          "once", only, "had effect twice on \(sight.name): versions \(other) and \(identity)")
      }
      result[only] = identity
    }
    return result
  }
}
