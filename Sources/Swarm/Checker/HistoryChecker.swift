internal import Coding
internal import Messages

/// Whether a history is one that the guarantees allow: for every key there is an order of all operations on it, each
/// somewhere between its invocation and its response, that explains every answer.
///
/// What touches several keys is taken apart. A copy reads one key and writes another, at one log position; a page of a listing looks at
/// every key it covers; a move of unknown outcome has two halves that happen both or not at all. Buckets are registers too.
package struct HistoryChecker {
  enum Name: Hashable {
    case key(ObjectName)
    case bucket(String)
  }

  struct Value {
    var tag: String
    var byteCount: UInt64?
    var contentHash: Fingerprint?
    /// Of a copy with a mark of its own: its bytes are those of some other value.
    var isCopied = false
  }

  struct Seen {
    var version: History.Version
    var name: ObjectName
    var entry: Int
    /// When the first to be told of it was told.
    var firstReturn: Int
  }

  /// A move of unknown outcome, of which nothing was seen.
  struct Joint {
    var source: Int
    var target: Int
  }

  let history: History
  var registers: [Name: Int] = [:]
  var names: [Name] = []
  var steps: [[RegisterStep]] = []
  var values: [Value] = []
  var valueOfTag: [String: Int] = [:]
  var valuesOfByteCount: [UInt64: [Int]] = [:]
  var seen: [UInt64: Seen] = [:]
  /// Identities that an answered change was told.
  var told: Set<UInt64> = []
  var keysOfBucket: [String: [String]] = [:]
  /// Buckets that are removed at some time.
  var passingBuckets: Set<String> = []
  /// When a bucket's first maker was told that it is there.
  var bucketMadeAt: [String: Duration] = [:]
  var joints: [Joint] = []

  /// Registers with too many orders to try; 0 but for very unlucky trials.
  package private(set) var undecidedCount = 0
  package var registerCount: Int { names.count }
  var judgedCount = 0

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

  func failure(_ property: String, _ entry: Int, _ detail: String) -> TrialFailure {
    let entry = history.entries[entry]
    return TrialFailure(
      property: property, detail: "\(entry.label): \(detail)",
      at: entry.returnedAt ?? entry.invokedAt)
  }

  // MARK: What there is

  mutating func register(_ name: Name) -> Int {
    if let known = registers[name] { return known }
    registers[name] = names.count
    names.append(name)
    steps.append([])
    return names.count - 1
  }

  mutating func gatherNames() throws(TrialFailure) {
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

  static func precedes(_ a: String, _ b: String) -> Bool {
    a.utf8.lexicographicallyPrecedes(b.utf8)
  }

  mutating func value(of tag: String) -> Int {
    if let known = valueOfTag[tag] { return known }
    values.append(Value(tag: tag))
    valueOfTag[tag] = values.count - 1
    return values.count - 1
  }

  /// Every version that anybody was told of: each is one thing, wherever it is seen.
  mutating func gatherVersions() throws(TrialFailure) {
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

  mutating func note(_ version: History.Version, _ name: ObjectName, _ entry: Int)
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

  mutating func add(
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

  func isVague(_ effect: RegisterStep.Effect) -> Bool {
    guard case .write(let value?, _, true) = effect, value >= 0 else { return false }
    return values[value].tag.hasPrefix(History.twinMark)
  }

  /// A change that surely happened though its client does not know: before anybody was told of what it made.
  mutating func addKnown(
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
  static func scaled(_ moment: Int) -> Int { moment * 4 }

  mutating func takeApart() throws(TrialFailure) {
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

  func unexpected(_ entry: Int) -> TrialFailure {
    failure("answer", entry, "was answered with \(history.entries[entry].outcome)")
  }

  static func sight(_ condition: Precondition) -> Sight {
    switch condition {
    case .none: .anything
    case .absent: .absent
    case .identity(let identity): .version(value: -1, identity: identity)
    }
  }

  /// What refuses a condition.
  static func refusing(_ condition: Precondition, isThere: Bool) -> Sight {
    switch condition {
    case .none: .oneOf([])
    case .absent: .present
    case .identity(let identity): isThere ? .other(identity) : .not(identity)
    }
  }

  /// A bucket that is never removed needs no looking at once it is made.
  mutating func noteBucket(
    _ bucket: String, _ entry: Int, exists: Bool, evenIfLasting: Bool = false
  ) {
    if exists && !evenIfLasting && !passingBuckets.contains(bucket) { return }
    add(.bucket(bucket), entry, .read(exists ? .present : .absent))
  }

  /// Whether what is known of the bucket allows that it was missing to one that began at `time`.
  func mayBeMissing(_ bucket: String, before time: Duration) -> Bool {
    guard !passingBuckets.contains(bucket), let madeAt = bucketMadeAt[bucket] else { return true }
    return madeAt > time
  }

  mutating func noteNoBucket(_ name: ObjectName, _ entry: Int) {
    noteBucket(name.bucket, entry, exists: false)
    add(.key(name), entry, .read(.absent))
  }

  mutating func noteEmpty(_ bucket: String, _ entry: Int) {
    for key in keysOfBucket[bucket] ?? [] {
      add(.key(ObjectName(bucket: bucket, key: key)), entry, .read(.absent))
    }
  }

  // MARK: The verdict

  mutating func checkRegisters() throws(TrialFailure) {
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
  enum Assumption: Hashable {
    case never
    /// Just before this moment, scaled.
    case before(Int)
  }

  /// - Parameter assumed: of moves of unknown outcome; the others may or may not have happened, each half by itself.
  mutating func judge(_ register: Int, _ assumed: [Int: Assumption]) -> TrialFailure? {
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
  mutating func checkMoves() throws(TrialFailure) {
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

  static let judgementLimit = 5000

  /// Whether some fate of each of `moves`, beside those assumed, explains everything; nil when there are too many to try.
  mutating func explain(
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
}
