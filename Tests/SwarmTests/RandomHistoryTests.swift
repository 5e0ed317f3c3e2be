import Coding
import Messages
import TestSupport
import Testing

@testable import Swarm

/// A store that carries every operation out at one moment between its invocation and its response, or, of operations
/// that get no response, later or never; and that does wrong, now and then, in one chosen way.
struct ModelStore {
  enum Wrong: CaseIterable {
    case lostWrite, staleRead, resurrection, deleteTwice, putTwice, halfMove, ignoredCondition
    case incompleteListing, otherBytes, lostInDoubtAfterSeen
  }

  private struct Held {
    var version: History.Version
  }
  private struct Running {
    var index: Int
    var action: History.Action
    var outcome: History.Outcome?
    var answers: Bool
  }

  private(set) var history = History()
  private var random: SeededGenerator
  private let wrong: Wrong?
  private(set) var wrongCount = 0
  private var objects: [String: History.Version] = [:]
  private var previous: [String: History.Version] = [:]
  private var position: UInt64 = 0
  private var running: [Running] = []
  private var clock = 0
  private var count = 0
  private let keys = ["a", "b", "c/1", "c/2"]

  init(seed: Seed, wrong: Wrong? = nil) {
    random = seed.generator
    self.wrong = wrong
  }

  private mutating func below(_ bound: Int) -> Int { Int(random.next() % UInt64(bound)) }
  private mutating func errs(_ kind: Wrong) -> Bool {
    guard wrong == kind, below(4) == 0 else { return false }
    wrongCount += 1
    return true
  }

  mutating func run(_ operationCount: Int) {
    while count < operationCount || !running.isEmpty {
      clock += 1
      if count < operationCount, running.count < 6, below(3) == 0 {
        begin()
      } else if !running.isEmpty {
        advance(below(running.count))
      }
    }
    // What is left in the end is looked at twice, one after the other.
    for _ in 0..<2 {
      for key in keys {
        clock += 1
        let index = history.invoke("final", look(key), at: .seconds(clock))
        history.answer(index, objects[key].map { .seen($0) } ?? .noSuchKey, at: .seconds(clock))
      }
    }
  }

  private mutating func begin() {
    let key = keys[below(keys.count)]
    let other = keys[below(keys.count)]
    let condition: Precondition =
      switch below(4) {
      case 0: .absent
      case 1: .identity(objects[key]?.identity ?? position)
      default: .none
      }
    count += 1
    let tag = below(3) == 0 ? "shared \(below(3))" : "own \(count)"
    let action: History.Action =
      switch below(12) {
      case 0...3: put(key, tag, if: condition, unlessIdentical: tag.hasPrefix("shared"))
      case 4, 5: delete(key, if: below(3) == 0 ? condition : .none)
      case 6: copy(other, key, tag: below(2) == 0 ? nil : "own \(count)", if: condition)
      case 7: move(other, key, tag: below(2) == 0 ? nil : "own \(count)")
      case 8: list(below(2) == 0 ? "c" : "", delimiter: below(2) == 0 ? "/" : "")
      default: look(key)
      }
    let index = history.invoke("op \(count)", action, at: .seconds(clock))
    running.append(Running(index: index, action: action, outcome: nil, answers: below(6) != 0))
  }

  private mutating func advance(_ place: Int) {
    if running[place].outcome == nil {
      // One without an answer may never happen.
      if !running[place].answers, below(8) == 0 {
        running.remove(at: place)
        return
      }
      running[place].outcome = carryOut(running[place].action)
    } else {
      let done = running.remove(at: place)
      if done.answers { history.answer(done.index, done.outcome!, at: .seconds(clock)) }
    }
  }

  private mutating func store(_ version: History.Version?, _ key: String) {
    previous[key] = objects[key]
    objects[key] = version
  }

  private mutating func fails(_ condition: Precondition, _ key: String) -> Bool {
    let isRefused =
      switch condition {
      case .none: false
      case .absent: objects[key] != nil
      case .identity(let identity): objects[key]?.identity != identity
      }
    return isRefused && !errs(.ignoredCondition)
  }

  private mutating func carryOut(_ action: History.Action) -> History.Outcome {
    position += 1
    switch action {
    case .put(let name, let tag, let byteCount, let condition, let unlessIdentical):
      if fails(condition, name.key) { return .preconditionFailed }
      if unlessIdentical, let current = objects[name.key], current.tag == tag {
        return .written(identity: current.identity, contentHash: current.contentHash)
      }
      let fresh = History.Version(
        identity: position, byteCount: byteCount, contentHash: hash(tag), tag: tag)
      if errs(.lostWrite) {
        return .written(identity: position, contentHash: fresh.contentHash)
      }
      store(fresh, name.key)
      if errs(.putTwice) {
        position += 1
        objects[name.key]?.identity = position
      }
      return .written(identity: fresh.identity, contentHash: fresh.contentHash)
    case .delete(let name, let condition):
      guard let current = objects[name.key] else { return .noSuchKey }
      if fails(condition, name.key) { return .preconditionFailed }
      store(errs(.resurrection) ? current : nil, name.key)
      if errs(.deleteTwice), let other = keys.first(where: { objects[$0] != nil }) {
        store(nil, other)
      }
      return .done
    case .copy(let source, let target, let tag, let moves, let condition):
      guard var version = objects[source.key] else { return .noSuchKey }
      if fails(condition, target.key) { return .preconditionFailed }
      version.identity = position
      if let tag { version.tag = tag }
      store(version, target.key)
      if moves && source.key != target.key && !errs(.halfMove) { store(nil, source.key) }
      return .written(identity: position, contentHash: nil)
    case .look(let name):
      if errs(.staleRead) { return previous[name.key].map { .seen($0) } ?? .noSuchKey }
      guard var version = objects[name.key] else { return .noSuchKey }
      if errs(.otherBytes) { version.contentHash = hash("other") }
      if errs(.lostInDoubtAfterSeen) { objects[name.key] = nil }
      return .seen(version)
    case .list(let request):
      var groups = Set<String>()
      var entries: [ListObjects.Entry] = []
      for key in objects.keys.sorted() where key.hasPrefix(request.prefix) {
        if errs(.incompleteListing) { continue }
        if !request.delimiter.isEmpty, let slash = key.firstIndex(of: "/") {
          groups.insert(String(key[...slash]))
        } else {
          let version = objects[key]!
          entries.append(
            ListObjects.Entry(
              key: key, identity: version.identity, byteCount: version.byteCount, modified: 0,
              contentHash: version.contentHash, attributes: History.attributes(tag: version.tag)))
        }
      }
      return .page(
        ListObjects.Answer(entries: entries, prefixes: groups.sorted(), next: nil))
    default: return .inDoubt
    }
  }
}

@Suite struct RandomHistoryTests {
  static let seeds: [Seed] = Seed.several + (100..<160).map { Seed($0) }

  @Test("whatever a store that works answers is explained", arguments: seeds)
  func sound(seed: Seed) {
    for size in [20, 60, 250] {
      var store = ModelStore(seed: Seed(seed.value &* 3 &+ UInt64(size)))
      store.run(size)
      var checker = HistoryChecker(store.history)
      let failure = checker.run()
      #expect(failure == nil, "\(failure?.detail ?? "")")
      #expect(checker.undecidedCount == 0)
    }
  }

  @Test(
    "a store that does wrong is found out in most short histories",
    arguments: ModelStore.Wrong.allCases)
  func exact(wrong: ModelStore.Wrong) {
    var tried = 0
    var found = 0
    for value in 0..<60 {
      var store = ModelStore(seed: Seed(UInt64(value)), wrong: wrong)
      store.run(60)
      guard store.wrongCount > 0 else { continue }
      tried += 1
      if HistoryChecker.check(store.history) != nil { found += 1 }
    }
    #expect(tried > 20 && found * 10 > tried * 6, "\(found) of \(tried)")
  }
}
