internal import Coding
internal import Messages

/// Whether a history is one that the guarantees allow: for every key there is an order of all operations on it, each
/// somewhere between its invocation and its response, that explains every answer.
///
/// What touches several keys is taken apart. A copy reads one key and writes another, at one log position; a page of a listing looks at
/// every key it covers; a move of unknown outcome has two halves that happen both or not at all. Buckets are registers too.
package struct HistoryChecker {
  private enum Name: Hashable {
    case key(ObjectName)
    case bucket(String)
  }

  private struct Value {
    var tag: String
    var byteCount: UInt64?
    var contentHash: Fingerprint?
    /// Of a copy with a mark of its own: its bytes are those of some other value.
    var isCopied = false
  }

  private struct Seen {
    var version: History.Version
    var name: ObjectName
    var entry: Int
    /// When the first to be told of it was told.
    var firstReturn: Int
  }

  /// A move of unknown outcome, of which nothing was seen.
  private struct Joint {
    var source: Int
    var target: Int
  }

  private let history: History
  private var registers: [Name: Int] = [:]
  private var names: [Name] = []
  private var steps: [[RegisterStep]] = []
  private var values: [Value] = []
  private var valueOfTag: [String: Int] = [:]
  private var valuesOfByteCount: [UInt64: [Int]] = [:]
  private var seen: [UInt64: Seen] = [:]
  /// Identities that an answered change was told.
  private var told: Set<UInt64> = []
  private var keysOfBucket: [String: [String]] = [:]
  /// Buckets that are removed at some time.
  private var passingBuckets: Set<String> = []
  /// When a bucket's first maker was told that it is there.
  private var bucketMadeAt: [String: Duration] = [:]
  private var joints: [Joint] = []

  /// Registers with too many orders to try; 0 but for very unlucky trials.
  package private(set) var undecidedCount = 0
  package var registerCount: Int { names.count }
  private var judgedCount = 0

  package init(_ history: History) { self.history = history }

  /// The first thing that cannot be explained.
  package static func check(_ history: History) -> TrialFailure? {
    var checker = HistoryChecker(history)
    return checker.run()
  }

  package mutating func run() -> TrialFailure? {
    do {
      try gatherNames()
      try gatherVersions()
      try takeApart()
      try checkRegisters()
      return nil
    } catch {
      return error
    }
  }

  private func failure(_ property: String, _ entry: Int, _ detail: String) -> TrialFailure {
    let entry = history.entries[entry]
    return TrialFailure(
      property: property, detail: "\(entry.label): \(detail)",
      at: entry.returnedAt ?? entry.invokedAt)
  }

  // MARK: What there is

  private mutating func register(_ name: Name) -> Int {
    if let known = registers[name] { return known }
    registers[name] = names.count
    names.append(name)
    steps.append([])
    return names.count - 1
  }

  private mutating func gatherNames() throws(TrialFailure) {
    func note(_ name: ObjectName) {
      let before = names.count
      if register(.key(name)) == before { keysOfBucket[name.bucket, default: []].append(name.key) }
    }
    for entry in history.entries {
      switch entry.action {
      case .put(let name, let tag, let byteCount, _, _):
        note(name)
        let value = value(of: tag)
        precondition(values[value].byteCount ?? byteCount == byteCount, "tag \(tag) is put twice")
        values[value].byteCount = byteCount
      case .copy(let source, let target, let tag, _, _):
        note(source)
        note(target)
        if let tag { values[value(of: tag)].isCopied = true }
      case .delete(let name, _), .look(let name): note(name)
      case .removeBucket(let bucket): passingBuckets.insert(bucket)
      case .createBucket(let bucket):
        if entry.outcome == .done, let at = entry.returnedAt {
          bucketMadeAt[bucket] = min(at, bucketMadeAt[bucket] ?? at)
        }
      case .list, .listBuckets: break
      }
    }
    for bucket in keysOfBucket.keys.sorted() {
      keysOfBucket[bucket]!.sort { Self.precedes($0, $1) }
    }
  }

  private static func precedes(_ a: String, _ b: String) -> Bool {
    a.utf8.lexicographicallyPrecedes(b.utf8)
  }

  private mutating func value(of tag: String) -> Int {
    if let known = valueOfTag[tag] { return known }
    values.append(Value(tag: tag))
    valueOfTag[tag] = values.count - 1
    return values.count - 1
  }

  /// Every version that anybody was told of: each is one thing, wherever it is seen.
  private mutating func gatherVersions() throws(TrialFailure) {
    for (index, entry) in history.entries.enumerated() {
      switch (entry.action, entry.outcome) {
      case (.look(let name), .seen(let version)): try note(version, name, index)
      case (.list(let request), .page(let page)):
        for item in page.entries {
          let name = ObjectName(bucket: request.bucket, key: item.key)
          guard registers[.key(name)] != nil else {
            throw failure("listing", index, "lists \(item.key), which nobody ever wrote")
          }
          try note(Self.version(item), name, index)
        }
      case (.put(let name, let tag, let byteCount, _, _), .written(let identity, let hash)):
        told.insert(identity)
        guard let hash else { continue }
        try note(
          History.Version(
            identity: identity, byteCount: byteCount, contentHash: hash, tag: tag), name, index)
      case (.copy, .written(let identity, _)): told.insert(identity)
      default: break
      }
    }
    for (index, value) in values.enumerated() {
      if let byteCount = value.byteCount { valuesOfByteCount[byteCount, default: []].append(index) }
    }
  }

  static func version(_ item: ListObjects.Entry) -> History.Version {
    History.Version(
      identity: item.identity, byteCount: item.byteCount, contentHash: item.contentHash,
      tag: History.tag(of: item.attributes))
  }

  private mutating func note(_ version: History.Version, _ name: ObjectName, _ entry: Int)
    throws(TrialFailure)
  {
    if let known = seen[version.identity] {
      guard known.version == version && known.name == name else {
        throw failure(
          "one version", entry,
          "version \(version.identity) is \(name) \(version), but was \(known.name) \(known.version) "
            + "for \(history.entries[known.entry].label)")
      }
      if let returned = history.entries[entry].returned {
        seen[version.identity]!.firstReturn = min(known.firstReturn, returned)
      }
      return
    }
    seen[version.identity] = Seen(
      version: version, name: name, entry: entry,
      firstReturn: history.entries[entry].returned ?? 0)
    guard let value = valueOfTag[version.tag] else {
      throw failure("one version", entry, "the mark \"\(version.tag)\" of \(name) is nobody's")
    }
    if let byteCount = values[value].byteCount, byteCount != version.byteCount {
      throw failure(
        "one version", entry,
        "\(version.tag) has \(version.byteCount) bytes in \(name), and \(byteCount) elsewhere")
    }
    if let hash = values[value].contentHash, hash != version.contentHash {
      throw failure(
        "one version", entry, "\(version.tag) has another content hash in \(name) than elsewhere")
    }
    values[value].byteCount = version.byteCount
    if version.tag.hasPrefix(History.twinMark) { return }
    values[value].contentHash = version.contentHash
  }

  // MARK: One part for each register

  private mutating func add(
    _ name: Name, _ entry: Int, _ effect: RegisterStep.Effect, position: UInt64? = nil,
    isMandatory: Bool = true, joint: Int? = nil
  ) {
    let record = history.entries[entry]
    let register = register(name)
    steps[register].append(
      RegisterStep(
        entry: entry, invoked: Self.scaled(record.invoked),
        returned: record.returned.map(Self.scaled) ?? RegisterStep.end, isMandatory: isMandatory,
        position: position, effect: effect, joint: joint, isVague: isVague(effect)))
  }

  private func isVague(_ effect: RegisterStep.Effect) -> Bool {
    guard case .write(let value?, _, true) = effect, value >= 0 else { return false }
    return values[value].tag.hasPrefix(History.twinMark)
  }

  /// A change that surely happened though its client does not know: before anybody was told of what it made.
  private mutating func addKnown(
    _ name: Name, _ entry: Int, _ effect: RegisterStep.Effect, position: UInt64
  ) {
    let record = history.entries[entry]
    let register = register(name)
    steps[register].append(
      RegisterStep(
        entry: entry, invoked: Self.scaled(record.invoked),
        returned: seen[position].map { Self.scaled($0.firstReturn) } ?? RegisterStep.end,
        isMandatory: true, position: position, effect: effect))
  }

  /// Between two moments of the history there is room for moments of ours.
  private static func scaled(_ moment: Int) -> Int { moment * 4 }

  private mutating func takeApart() throws(TrialFailure) {
    let made = try identitiesOfUnknown()
    for (index, entry) in history.entries.enumerated() {
      if case .failed = entry.outcome { continue }
      switch entry.action {
      case .put(let name, let tag, _, let condition, let unlessIdentical):
        takeApartPut(
          index, name, value(of: tag), condition, unlessIdentical, madeUnknown: made[index])
      case .copy(let source, let target, let tag, let moves, let condition):
        if source == target {
          takeApartSelfCopy(index, source, tag, condition, madeUnknown: made[index])
        } else {
          takeApartCopy(index, source, target, tag, moves, condition, madeUnknown: made[index])
        }
      case .delete(let name, let condition):
        let key = Name.key(name)
        switch entry.outcome {
        case .done:
          add(key, index, .erase(Self.sight(condition)))
          noteBucket(name.bucket, index, exists: true)
        case .inDoubt:
          add(key, index, .erase(Self.sight(condition)), isMandatory: false)
        case .noSuchKey:
          add(key, index, .read(.absent))
          noteBucket(name.bucket, index, exists: true)
        case .preconditionFailed:
          add(key, index, .read(Self.refusing(condition, isThere: true)))
          noteBucket(name.bucket, index, exists: true)
        case .noSuchBucket: noteNoBucket(name, index)
        default: throw unexpected(index)
        }
      case .look(let name):
        let key = Name.key(name)
        switch entry.outcome {
        case .inDoubt: break
        case .seen(let version):
          add(
            key, index,
            .read(.version(value: value(of: version.tag), identity: version.identity)))
          noteBucket(name.bucket, index, exists: true)
        case .changed(let identity):
          add(key, index, .read(.not(identity)))
        case .noSuchKey:
          add(key, index, .read(.absent))
          noteBucket(name.bucket, index, exists: true)
        case .noSuchBucket: noteNoBucket(name, index)
        default: throw unexpected(index)
        }
      case .list(let request):
        switch entry.outcome {
        case .inDoubt: break
        case .page(let page): try takeApartPage(index, request, page)
        case .noSuchBucket: noteBucket(request.bucket, index, exists: false)
        default: throw unexpected(index)
        }
      case .createBucket(let bucket):
        let name = Name.bucket(bucket)
        let effect = RegisterStep.Effect.write(value: 0, condition: .absent, mayFind: false)
        switch entry.outcome {
        case .done:
          add(name, index, effect)
          noteEmpty(bucket, index)
        case .inDoubt: add(name, index, effect, isMandatory: false)
        case .bucketExists: noteBucket(bucket, index, exists: true)
        default: throw unexpected(index)
        }
      case .removeBucket(let bucket):
        let name = Name.bucket(bucket)
        switch entry.outcome {
        case .done:
          add(name, index, .erase(.present))
          noteEmpty(bucket, index)
        case .inDoubt: add(name, index, .erase(.present), isMandatory: false)
        case .bucketNotEmpty: noteBucket(bucket, index, exists: true)
        case .noSuchBucket: noteBucket(bucket, index, exists: false)
        default: throw unexpected(index)
        }
      case .listBuckets:
        switch entry.outcome {
        case .inDoubt: break
        case .buckets(let listed):
          for name in names {
            guard case .bucket(let bucket) = name else { continue }
            noteBucket(bucket, index, exists: listed.contains(bucket), evenIfLasting: true)
          }
        default: throw unexpected(index)
        }
      }
    }
  }

  private func unexpected(_ entry: Int) -> TrialFailure {
    failure("answer", entry, "was answered with \(history.entries[entry].outcome)")
  }

  private static func sight(_ condition: Precondition) -> Sight {
    switch condition {
    case .none: .anything
    case .absent: .absent
    case .identity(let identity): .version(value: -1, identity: identity)
    }
  }

  /// What refuses a condition.
  private static func refusing(_ condition: Precondition, isThere: Bool) -> Sight {
    switch condition {
    case .none: .oneOf([])
    case .absent: .present
    case .identity(let identity): isThere ? .other(identity) : .not(identity)
    }
  }

  /// A bucket that is never removed needs no looking at once it is made.
  private mutating func noteBucket(
    _ bucket: String, _ entry: Int, exists: Bool, evenIfLasting: Bool = false
  ) {
    if exists && !evenIfLasting && !passingBuckets.contains(bucket) { return }
    add(.bucket(bucket), entry, .read(exists ? .present : .absent))
  }

  /// Whether what is known of the bucket allows that it was missing to one that began at `time`.
  private func mayBeMissing(_ bucket: String, before time: Duration) -> Bool {
    guard !passingBuckets.contains(bucket), let madeAt = bucketMadeAt[bucket] else { return true }
    return madeAt > time
  }

  private mutating func noteNoBucket(_ name: ObjectName, _ entry: Int) {
    noteBucket(name.bucket, entry, exists: false)
    add(.key(name), entry, .read(.absent))
  }

  private mutating func noteEmpty(_ bucket: String, _ entry: Int) {
    for key in keysOfBucket[bucket] ?? [] {
      add(.key(ObjectName(bucket: bucket, key: key)), entry, .read(.absent))
    }
  }

  // MARK: Puts and copies

  private mutating func takeApartPut(
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
  private mutating func takeApartSelfCopy(
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
  private static func both(_ condition: Precondition) -> Sight {
    switch condition {
    case .none: .present
    case .absent: .oneOf([])
    case .identity(let identity): .version(value: -1, identity: identity)
    }
  }

  private mutating func takeApartCopy(
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
  private func copied(_ identity: UInt64, _ tag: String?) -> (value: Int, source: Sight) {
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
  private func identitiesOfUnknown() throws(TrialFailure) -> [Int: UInt64] {
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

  // MARK: Listings

  private mutating func takeApartPage(
    _ index: Int, _ request: ListObjects, _ page: ListObjects.Answer
  ) throws(TrialFailure) {
    if let problem = Self.problem(request, page) { throw failure("listing", index, problem) }
    noteBucket(request.bucket, index, exists: true)
    var listed: [String: History.Version] = [:]
    for item in page.entries { listed[item.key] = Self.version(item) }
    var groups: [String: [String]] = [:]
    for key in keysOfBucket[request.bucket] ?? [] {
      guard key.utf8.starts(with: request.prefix.utf8),
        Self.precedes(request.after, key) || request.after.isEmpty
      else { continue }
      if let next = page.next, Self.precedes(next, key) { continue }
      if let group = Self.group(of: key, request) {
        groups[group, default: []].append(key)
        continue
      }
      let sight: Sight =
        if let version = listed[key] {
          .version(value: value(of: version.tag), identity: version.identity)
        } else { .absent }
      add(.key(ObjectName(bucket: request.bucket, key: key)), index, .read(sight))
    }
    for (group, keys) in groups.sorted(by: { Self.precedes($0.key, $1.key) }) {
      if page.prefixes.contains(group) {
        // One of several must be there: that is no part of any one of them.
        guard keys.count == 1 else { continue }
        add(.key(ObjectName(bucket: request.bucket, key: keys[0])), index, .read(.present))
      } else {
        for key in keys {
          add(.key(ObjectName(bucket: request.bucket, key: key)), index, .read(.absent))
        }
      }
    }
  }

  /// The part of a key up to and with the first delimiter after the prefix.
  private static func group(of key: String, _ request: ListObjects) -> String? {
    guard !request.delimiter.isEmpty else { return nil }
    let bytes = Array(key.utf8)
    let delimiter = Array(request.delimiter.utf8)
    var place = request.prefix.utf8.count
    while place + delimiter.count <= bytes.count {
      if bytes[place..<place + delimiter.count].elementsEqual(delimiter) {
        return String(decoding: bytes[..<(place + delimiter.count)], as: UTF8.self)
      }
      place += 1
    }
    return nil
  }

  /// What is wrong with a page whatever the keys are.
  private static func problem(_ request: ListObjects, _ page: ListObjects.Answer) -> String? {
    let limit = min(Int(request.limit), 1000)
    if page.entries.count + page.prefixes.count > limit {
      return "\(page.entries.count) entries and \(page.prefixes.count) groups, limit \(limit)"
    }
    for (one, next) in zip(page.entries, page.entries.dropFirst())
    where !precedes(one.key, next.key) { return "\(one.key) before \(next.key)" }
    for (one, next) in zip(page.prefixes, page.prefixes.dropFirst())
    where !precedes(one, next) { return "group \(one) before \(next)" }
    for item in page.entries {
      guard item.key.utf8.starts(with: request.prefix.utf8) else {
        return "\(item.key) has not the prefix"
      }
      guard request.after.isEmpty || precedes(request.after, item.key) else {
        return "\(item.key) is not after \(request.after)"
      }
      if let next = page.next, precedes(next, item.key) { return "\(item.key) is after \(next)" }
      if group(of: item.key, request) != nil { return "\(item.key) belongs to a group" }
    }
    for group in page.prefixes where Self.group(of: group, request) != group {
      return "\(group) is no group"
    }
    if let next = page.next, !request.after.isEmpty, !precedes(request.after, next) {
      return "the next page begins at \(next), not after \(request.after)"
    }
    return nil
  }

  // MARK: The verdict

  private mutating func checkRegisters() throws(TrialFailure) {
    var violations: [(at: Duration, failure: TrialFailure)] = []
    var isBroken = Set<Int>()
    for index in names.indices {
      if let failure = judge(index, [:]) {
        violations.append((failure.at, failure))
        isBroken.insert(index)
      }
    }
    if let first = violations.min(by: { $0.at < $1.at }) { throw first.failure }
    try checkMoves()
  }

  /// What became of a move whose client does not know.
  private enum Assumption: Hashable {
    case never
    /// Just before this moment, scaled.
    case before(Int)
  }

  /// - Parameter assumed: of moves of unknown outcome; the others may or may not have happened, each half by itself.
  private mutating func judge(_ register: Int, _ assumed: [Int: Assumption]) -> TrialFailure? {
    var taken: [RegisterStep] = []
    taken.reserveCapacity(steps[register].count)
    for step in steps[register] {
      var step = step
      if let joint = step.joint, let assumption = assumed[joint] {
        guard case .before(let moment) = assumption else { continue }
        step.isMandatory = true
        step.invoked = moment == RegisterStep.end ? moment - 1 : moment - 2
        step.returned = moment == RegisterStep.end ? moment : moment - 1
      }
      taken.append(step)
    }
    var checker = RegisterChecker(taken)
    judgedCount += 1
    switch checker.run() {
    case .linearizable: return nil
    case .undecided:
      undecidedCount += 1
      return nil
    case .violated(let violation): return describe(register, taken, violation)
    }
  }

  /// Each move of unknown outcome happened at one moment on both its keys, or never.
  private mutating func checkMoves() throws(TrialFailure) {
    // Keys that such moves connect are judged together.
    var parent = Array(names.indices)
    func root(_ index: Int) -> Int {
      var index = index
      while parent[index] != index { index = parent[index] }
      return index
    }
    for joint in joints { parent[root(joint.source)] = root(joint.target) }
    var groups: [Int: [Int]] = [:]
    for (index, joint) in joints.enumerated() {
      groups[root(joint.source), default: []].append(index)
    }
    for (_, members) in groups.sorted(by: { $0.key < $1.key }) {
      let limit = judgedCount + Self.judgementLimit
      var none: [Int: Assumption] = [:]
      for member in members { none[member] = .never }
      var failure: TrialFailure?
      for register in Set(members.flatMap { [joints[$0].source, joints[$0].target] }).sorted()
      where failure == nil {
        failure = judge(register, none)
      }
      guard var failure else { continue }
      switch explain(members[...], [:], limit: limit) {
      case true?: continue
      case nil: undecidedCount += 1
      case false?:
        failure.property = "both halves of a move"
        throw failure
      }
    }
  }

  private static let judgementLimit = 5000

  /// Whether some fate of each of `moves`, beside those assumed, explains everything; nil when there are too many to try.
  private mutating func explain(
    _ moves: ArraySlice<Int>, _ assumed: [Int: Assumption], limit: Int
  ) -> Bool? {
    guard let move = moves.first else { return true }
    let joint = joints[move]
    // A moment just before some response stands for all since the response before.
    var moments = Set<Int>()
    var invoked = 0
    for register in [joint.source, joint.target] {
      for step in steps[register] {
        if step.joint == move { invoked = step.invoked }
        if step.isMandatory { moments.insert(step.returned) }
      }
    }
    moments.insert(RegisterStep.end)
    let fates: [Assumption] =
      [.never] + moments.filter { $0 > invoked }.sorted().map { .before($0) }
    for fate in fates {
      guard judgedCount < limit else { return nil }
      var assumed = assumed
      assumed[move] = fate
      guard judge(joint.source, assumed) == nil, judge(joint.target, assumed) == nil else {
        continue
      }
      switch explain(moves.dropFirst(), assumed, limit: limit) {
      case true?: return true
      case false?: continue
      case nil: return nil
      }
    }
    return false
  }

  private func describe(
    _ register: Int, _ taken: [RegisterStep], _ violation: RegisterChecker.Violation
  ) -> TrialFailure {
    let step = taken[violation.step]
    let entry = history.entries[step.entry]
    var text =
      switch names[register] {
      case .key(let name): "\(name.bucket)/\(name.key)"
      case .bucket(let bucket): "bucket \(bucket)"
      }
    text +=
      ": \(entry.label) was answered \(show(entry.outcome)), which no order explains; it may have held "
    text += violation.configurations.prefix(4).map { show($0.state) }.joined(separator: " or ")
    let before = taken.filter { $0.invoked < step.returned && $0.entry != step.entry }
      .sorted { $0.invoked < $1.invoked }
    let pending = before.filter { !$0.isMandatory || $0.returned > step.invoked }.suffix(8)
    let ended = before.filter { $0.isMandatory && $0.returned <= step.invoked }.suffix(10)
    for one in (ended + pending).sorted(by: { $0.invoked < $1.invoked }) {
      let other = history.entries[one.entry]
      let returned = other.returnedAt.map { "\($0)" } ?? "never"
      text += "\n  \(other.invokedAt)...\(returned) \(other.label) \(show(one.effect))"
      text += " -> \(show(other.outcome))"
    }
    text +=
      "\n  \(entry.invokedAt)...\(entry.returnedAt.map { "\($0)" } ?? "never") \(entry.label) "
    text += "\(show(step.effect)) -> \(show(entry.outcome))"
    return TrialFailure(
      property: "linearizable", detail: text, at: entry.returnedAt ?? entry.invokedAt)
  }

  private func show(_ state: RegisterState) -> String {
    guard state.isPresent else { return "nothing" }
    let tag = state.value >= 0 ? values[safe: state.value]?.tag ?? "it" : "something"
    return state.identity > 0 ? "\(tag) (version \(state.identity))" : tag
  }

  private func show(_ effect: RegisterStep.Effect) -> String {
    switch effect {
    case .read(let sight): "sees \(show(sight))"
    case .erase(let sight): "erases \(show(sight))"
    case .write(let value, let condition, _):
      "writes \(value.flatMap { values[safe: $0]?.tag } ?? "a copy")"
        + (condition == .anything ? "" : " over \(show(condition))")
    }
  }

  private func show(_ sight: Sight) -> String {
    switch sight {
    case .anything: "anything"
    case .absent: "nothing"
    case .present: "something"
    case .version(let value, let identity):
      "\(values[safe: value]?.tag ?? "") version \(identity)"
    case .oneOf(let set):
      "one of "
        + set.sorted().prefix(4).map { values[safe: $0]?.tag ?? "?" }.joined(separator: ", ")
    case .not(let identity): "not version \(identity)"
    case .other(let identity): "another than version \(identity)"
    }
  }

  private func show(_ outcome: History.Outcome) -> String {
    switch outcome {
    case .written(let identity, _): "written as \(identity)"
    case .seen(let version): "seen \(version.tag) version \(version.identity)"
    case .page(let page): "a page of \(page.entries.count)"
    default: "\(outcome)"
    }
  }
}

extension Array {
  fileprivate subscript(safe index: Int) -> Element? { indices.contains(index) ? self[index] : nil }
}
