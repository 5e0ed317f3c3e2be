internal import Messages

/// Whether answers about versions fit together. Positions in the log order all writes, so this needs no search: of each version it
/// is known between which moments it was surely there, and between which it may have been.
extension VersionHistory {
  private struct Known {
    var isMarker: Bool
    var isNull: Bool
    var tag: String?
    var invoked: Int
    /// Somebody was told of it.
    var told: Int
  }

  private final class Facts {
    var versions: [Place: Known] = [:]
    var identities: [ObjectName: [UInt64]] = [:]
    var removals: [Place: [Int]] = [:]
    var writes: [ObjectName: [Int]] = [:]
    var identityOfTag: [String: UInt64] = [:]
  }

  /// The first thing that cannot be explained.
  func check(at time: Duration) -> TrialFailure? {
    let facts = Facts()
    for (index, removal) in removals.enumerated() {
      facts.removals[removal.place, default: []].append(index)
    }
    for (index, write) in writes.enumerated() {
      facts.writes[write.name, default: []].append(index)
      guard let made = write.made, let returned = write.returned else { continue }
      let place = Place(name: write.name, identity: made.identity)
      if made.name == .unnamed {
        return failure(write.label, "\(write.name) was made without a version", time)
      }
      if made.name == .null, write.name.bucket == Self.enabledBucket {
        return failure(write.label, "\(write.name) became a null version", time)
      }
      if facts.versions[place] != nil {
        return failure(
          write.label, "version \(made.identity) of \(write.name) was made twice", time)
      }
      facts.versions[place] = Known(
        isMarker: write.tag == nil, isNull: made.name == .null, tag: write.tag,
        invoked: write.invoked, told: returned)
      facts.identities[write.name, default: []].append(made.identity)
      if let tag = write.tag { facts.identityOfTag[tag] = made.identity }
    }
    for page in pages {
      if let problem = learn(page, facts) { return failure(page.label, problem, time) }
    }
    for removal in removals {
      if let problem = problem(with: removal, facts) {
        return failure(removal.label, problem, time)
      }
    }
    for look in looks {
      if let problem = problem(with: look, facts) { return failure(look.label, problem, time) }
    }
    for read in reads {
      if let problem = problem(with: read, facts) { return failure(read.label, problem, time) }
    }
    for page in pages {
      if let problem = problem(with: page, facts) { return failure(page.label, problem, time) }
    }
    return nil
  }

  private func failure(_ label: String, _ detail: String, _ time: Duration) -> TrialFailure {
    TrialFailure(property: "versions", detail: "\(label): \(detail)", at: time)
  }

  // MARK: When a version was there

  /// Before this moment it was surely not taken away.
  ///
  /// - Parameter but: a removal that does not count.
  private func end(of place: Place, _ known: Known, _ facts: Facts, but: Int? = nil) -> Int {
    var end = Int.max
    for index in facts.removals[place] ?? [] where index != but {
      guard removals[index].outcome != .failed else { continue }
      end = min(end, removals[index].invoked)
    }
    guard known.isNull else { return end }
    // Another write of the key may take its place.
    for index in facts.writes[place.name] ?? [] {
      let write = writes[index]
      guard write.made?.identity != place.identity, !write.hasFailed,
        write.returned ?? .max > known.invoked
      else { continue }
      end = min(end, write.invoked)
    }
    return end
  }

  private func isSure(
    _ place: Place, _ facts: Facts, from: Int, to: Int, but: Int? = nil
  ) -> Bool {
    guard let known = facts.versions[place] else { return false }
    return known.told < from && end(of: place, known, facts, but: but) > to
  }

  private func isPossible(_ place: Place, _ facts: Facts, from: Int, to: Int) -> Bool {
    guard let known = facts.versions[place], known.invoked < to else { return false }
    let gone = (facts.removals[place] ?? []).compactMap { index -> Int? in
      switch removals[index].outcome {
      case .object, .marker: removals[index].returned
      default: nil
      }
    }.min()
    return gone ?? .max > from
  }

  // MARK: Answers

  /// Versions whose makers were not told are learnt where they are listed first.
  private func learn(_ page: Page, _ facts: Facts) -> String? {
    for entry in page.answer.entries {
      let name = ObjectName(bucket: page.request.bucket, key: entry.key)
      let place = Place(name: name, identity: entry.identity)
      let tag = entry.isMarker ? nil : History.tag(of: entry.attributes)
      if var known = facts.versions[place] {
        guard known.isMarker == entry.isMarker, known.isNull == entry.isNull, known.tag == tag
        else {
          return "version \(entry.identity) of \(name) is listed as \(entry)"
        }
        known.told = min(known.told, page.returned)
        facts.versions[place] = known
        continue
      }
      let makers = (facts.writes[name] ?? []).map { writes[$0] }.filter {
        $0.made == nil && !$0.hasFailed && $0.tag == tag && $0.invoked < page.returned
      }
      guard let maker = makers.min(by: { $0.invoked < $1.invoked }) else {
        return "version \(entry.identity) of \(name) (\(tag ?? "a marker")) was made by nobody"
      }
      if let tag {
        if let other = facts.identityOfTag[tag] {
          return "\(tag) made versions \(other) and \(entry.identity) of \(name)"
        }
        facts.identityOfTag[tag] = entry.identity
      }
      facts.versions[place] = Known(
        isMarker: entry.isMarker, isNull: entry.isNull, tag: tag, invoked: maker.invoked,
        told: page.returned)
      facts.identities[name, default: []].append(entry.identity)
    }
    return nil
  }

  private func problem(with removal: Removal, _ facts: Facts) -> String? {
    guard let returned = removal.returned else { return nil }
    let place = removal.place
    switch removal.outcome {
    case .inDoubt, .failed: return nil
    case .object, .marker:
      let isMarker = removal.outcome == .marker
      if facts.versions[place].map({ $0.isMarker != isMarker }) ?? false {
        return "version \(place.identity) of \(place.name) was removed as something else"
      }
      return nil
    case .noSuchVersion:
      let own = removals.firstIndex { $0.invoked == removal.invoked }
      return isSure(place, facts, from: removal.invoked, to: returned, but: own)
        ? "version \(place.identity) of \(place.name) is there, and could not be removed" : nil
    }
  }

  private func problem(with look: Look, _ facts: Facts) -> String? {
    let all = facts.identities[look.name] ?? []
    func place(_ identity: UInt64) -> Place { Place(name: look.name, identity: identity) }
    func isSure(_ identity: UInt64) -> Bool {
      self.isSure(place(identity), facts, from: look.invoked, to: look.returned)
    }
    if let seen = look.seen {
      // Who made it may not have been told, and nobody may have listed it.
      guard let known = facts.versions[place(seen)] else { return nil }
      if known.isMarker { return "\(look.name) is a marker, and was found" }
      guard isPossible(place(seen), facts, from: look.invoked, to: look.returned) else {
        return "version \(seen) of \(look.name) was current after it was removed"
      }
      if let newer = all.first(where: { $0 > seen && isSure($0) }) {
        return "version \(seen) of \(look.name) was current, not \(newer)"
      }
      return nil
    }
    let isInDoubt = (facts.writes[look.name] ?? []).contains {
      writes[$0].tag == nil && writes[$0].made == nil && !writes[$0].hasFailed
        && writes[$0].invoked < look.returned
    }
    if isInDoubt { return nil }
    for identity in all where isSure(identity) && facts.versions[place(identity)]?.isMarker == false
    {
      let mayBeHidden = all.contains {
        $0 > identity && facts.versions[place($0)]?.isMarker == true
          && isPossible(place($0), facts, from: look.invoked, to: look.returned)
      }
      if !mayBeHidden {
        return "\(look.name) was not there, though version \(identity) was and no marker"
      }
    }
    return nil
  }

  private func problem(with read: Read, _ facts: Facts) -> String? {
    let place = read.place
    guard let known = facts.versions[place] else { return nil }
    guard let entry = read.entry else {
      return isSure(place, facts, from: read.invoked, to: read.returned)
        ? "version \(place.identity) of \(place.name) is gone" : nil
    }
    guard isPossible(place, facts, from: read.invoked, to: read.returned) else {
      return "version \(place.identity) of \(place.name) was found after it was removed"
    }
    return entry.isMarker == known.isMarker && entry.isNull == known.isNull
      ? nil : "version \(place.identity) of \(place.name) was found as \(entry)"
  }

  private func problem(with page: Page, _ facts: Facts) -> String? {
    let request = page.request
    let entries = page.answer.entries
    func precedes(_ a: (key: String, identity: UInt64), _ b: (key: String, identity: UInt64))
      -> Bool
    {
      a.key == b.key ? a.identity > b.identity : HistoryChecker.precedes(a.key, b.key)
    }
    for (one, next) in zip(entries, entries.dropFirst())
    where !precedes((one.key, one.identity), (next.key, next.identity)) {
      return "\(one.key) \(one.identity) is listed before \(next.key) \(next.identity)"
    }
    var lastKey = request.after == .unnamed ? nil : request.afterKey
    var nullKey: String?
    for entry in entries {
      let name = ObjectName(bucket: request.bucket, key: entry.key)
      let place = Place(name: name, identity: entry.identity)
      guard isPossible(place, facts, from: page.invoked, to: page.returned) else {
        return "version \(entry.identity) of \(name) is listed after it was removed"
      }
      // Of a key that the page goes on with, what was the newest may be gone by now.
      let mayBeEither = request.after != .unnamed && entry.key == request.afterKey
      if !mayBeEither, entry.isCurrent != (entry.key != lastKey) {
        return "version \(entry.identity) of \(name) is wrongly listed as current, or not"
      }
      lastKey = entry.key
      guard entry.isNull else { continue }
      if nullKey == entry.key { return "\(name) has two null versions" }
      nullKey = entry.key
    }
    guard request.delimiter.isEmpty, request.prefix.isEmpty else { return nil }
    let listed = Set(
      entries.map {
        Place(name: ObjectName(bucket: request.bucket, key: $0.key), identity: $0.identity)
      })
    for place in facts.versions.keys where place.name.bucket == request.bucket {
      if listed.contains(place) { continue }
      if let last = entries.last, !page.answer.isLast,
        !precedes((place.name.key, place.identity), (last.key, last.identity))
      {
        continue
      }
      if case .identity(let identity) = request.after,
        !precedes((request.afterKey, identity), (place.name.key, place.identity))
      {
        continue
      }
      if isSure(place, facts, from: page.invoked, to: page.returned) {
        return "version \(place.identity) of \(place.name) is not listed"
      }
    }
    return nil
  }

  static let enabledBucket = "versions-0"
  static let changingBucket = "versions-1"
}
