/// What one key, or one bucket's existence, holds.
struct RegisterState: Hashable {
  var isPresent = false
  /// Index of a value; -1: some value that nobody was told of.
  var value = -1
  /// 0: made by a change whose log position nobody was told of; it lies between `low` and `high`.
  var identity: UInt64 = 0
  var low: UInt64 = 0
  var high: UInt64 = .max

  static let absent = RegisterState()
  static func version(_ value: Int, _ identity: UInt64) -> RegisterState {
    RegisterState(isPresent: true, value: value, identity: identity)
  }
}

/// What an operation was told of the state it met.
enum Sight: Hashable {
  case anything
  case absent
  case present
  case version(value: Int, identity: UInt64)
  /// Any of these values, whatever version.
  case oneOf(Set<Int>)
  /// Absent, or another version.
  case not(UInt64)
  /// There, but another version.
  case other(UInt64)
}

/// One operation's part on one register.
struct RegisterStep {
  enum Effect: Hashable {
    case read(Sight)
    case erase(Sight)
    /// Makes a version of `value` (nil: of the value that is there), unless `mayFind` and the same is there already.
    case write(value: Int?, condition: Sight, mayFind: Bool)
  }
  /// The history's entry, for people.
  var entry: Int
  var invoked: Int
  /// ``end`` when it surely happened, but when nobody knows.
  var returned: Int
  /// False: whether it happened, or will, is unknown.
  var isMandatory: Bool
  /// In the log, when it was told. A change's position is the identity of what it makes.
  var position: UInt64?
  var effect: Effect
  /// The move of unknown outcome that this is one half of.
  var joint: Int?
  /// Several contents go by the value that it writes: whether what is there is the same is not known.
  var isVague = false

  static let end = Int.max

  /// Reads that leave no trace in a configuration are taken as soon as they fit.
  fileprivate var isPlainRead: Bool {
    if case .read = effect { position == nil } else { false }
  }
}

/// Whether there is an order of one register's operations that explains every answer.
///
/// - Source: just-in-time linearization; Lowe, Testing for linearizability, 2017. Configurations are kept from one response to the next;
///   at a response, pending operations are carried out in all orders that end with the one that responds. Added here: operations
///   that may never happen, log positions, and dominance (a configuration that leaves more open replaces one that leaves less).
struct RegisterChecker {
  struct Configuration: Hashable {
    var state = RegisterState.absent
    /// The highest log position carried out whose number is known.
    var last: UInt64 = 0
    /// Steps carried out that have not returned, or never will; ascending.
    var done: [Int] = []
  }

  struct Violation {
    var step: Int
    /// What the register may have held when that step returned.
    var configurations: [Configuration]
  }

  enum Verdict {
    case linearizable
    case violated(Violation)
    /// Too many orders to try.
    case undecided
  }

  private let steps: [RegisterStep]
  private var open: [Int] = []
  private var configurations = [Configuration()]
  /// Configurations that may still be looked at or compared with another.
  private var budget: Int

  /// - Parameter steps: in any order.
  init(_ steps: [RegisterStep], budget: Int = 10_000_000) {
    self.steps = steps
    self.budget = budget
  }

  mutating func run() -> Verdict {
    var events: [(moment: Int, isReturn: Bool, step: Int)] = []
    for (index, step) in steps.enumerated() {
      events.append((step.invoked, false, index))
      if step.isMandatory { events.append((step.returned, true, index)) }
    }
    events.sort {
      ($0.moment, $0.isReturn ? 1 : 0, $0.step) < ($1.moment, $1.isReturn ? 1 : 0, $1.step)
    }
    for event in events {
      guard event.isReturn else {
        open.append(event.step)
        continue
      }
      let before = configurations
      configurations = carryOut(event.step)
      if budget <= 0 { return .undecided }
      if configurations.isEmpty {
        return .violated(Violation(step: event.step, configurations: before))
      }
      open.removeAll { $0 == event.step }
      forgetCommon()
    }
    return .linearizable
  }

  /// Steps without return that every configuration has carried out cannot happen again.
  private mutating func forgetCommon() {
    guard var common = configurations.first?.done, !common.isEmpty else { return }
    for configuration in configurations.dropFirst() {
      common.removeAll { !configuration.done.contains($0) }
    }
    common.removeAll { steps[$0].isMandatory }
    guard !common.isEmpty else { return }
    open.removeAll { common.contains($0) }
    for index in configurations.indices {
      configurations[index].done.removeAll { common.contains($0) }
    }
  }

  /// All configurations after `target` has been carried out, whatever was before it.
  private mutating func carryOut(_ target: Int) -> [Configuration] {
    if open.count == 1 && configurations.count == 1 && configurations[0].done.isEmpty {
      return apply(target, to: configurations[0]).map {
        var result = $0
        result.done.removeAll { $0 == target }
        return result
      }
    }
    var visited = Antichain(steps)
    var results = Antichain(steps)
    var pending: [Configuration] = []
    for configuration in configurations {
      let taken = takingReads(configuration)
      if visited.insert(taken) { pending.append(taken) }
    }
    var head = 0
    while head < pending.count {
      let configuration = pending[head]
      head += 1
      budget -= 1 + visited.takeWork() + results.takeWork()
      if budget <= 0 { return [] }
      if let place = configuration.done.firstIndex(of: target) {
        var result = configuration
        result.done.remove(at: place)
        _ = results.insert(result)
        continue
      }
      for step in open where !configuration.done.contains(step) {
        // Many open steps make many configurations of one: what they cost is looked at here too.
        if visited.work > budget { break }
        for next in apply(step, to: configuration) {
          // What may never happen is carried out only where it makes a difference.
          if !steps[step].isMandatory && next.state == configuration.state { continue }
          let taken = takingReads(next)
          if visited.insert(taken) { pending.append(taken) }
        }
      }
    }
    return results.all
  }

  /// Carries out every read that fits as it is: nothing is gained by waiting.
  private func takingReads(_ configuration: Configuration) -> Configuration {
    var result = configuration
    for step in open where steps[step].isPlainRead && !result.done.contains(step) {
      let after = apply(step, to: result)
      guard after.count == 1, after[0].state == result.state else { continue }
      result = after[0]
    }
    return result
  }

  private func apply(_ index: Int, to configuration: Configuration) -> [Configuration] {
    let step = steps[index]
    if let position = step.position, case .write(_, _, true) = step.effect, position > 0 {
      // May have found what an earlier one made.
      return finding(index, configuration) + making(index, configuration)
    }
    if let position = step.position, position <= configuration.last { return [] }
    switch step.effect {
    case .read(let sight):
      guard var state = Self.see(sight, configuration.state) else { return [] }
      if let position = step.position, state.isPresent, state.identity == 0 {
        guard state.low < position else { return [] }
        state.high = min(state.high, position)
      }
      return [advance(configuration, index, state, known: Self.identity(state))]
    case .erase(let sight):
      guard let state = Self.see(sight, configuration.state), state.isPresent else { return [] }
      return [advance(configuration, index, .absent, known: Self.identity(state))]
    case .write: return making(index, configuration)
    }
  }

  private func finding(_ index: Int, _ configuration: Configuration) -> [Configuration] {
    let step = steps[index]
    guard case .write(let value?, let condition, true) = step.effect,
      let position = step.position,
      let met = Self.see(condition, configuration.state),
      let state = Self.see(.version(value: value, identity: position), met)
    else { return [] }
    var result = advance(configuration, index, state, known: position)
    result.last = max(configuration.last, position)
    return [result]
  }

  private func making(_ index: Int, _ configuration: Configuration) -> [Configuration] {
    let step = steps[index]
    guard case .write(let value, let condition, let mayFind) = step.effect,
      let met = Self.see(condition, configuration.state)
    else { return [] }
    if let position = step.position, position <= configuration.last { return [] }
    if mayFind, met.isPresent, let value, met.value == value {
      // Nothing is made then; what is there is left, whatever its version.
      let found =
        step.position == nil
        ? [advance(configuration, index, met, known: Self.identity(met))] : []
      guard step.isVague else { return found }
      return found + [made(index, configuration, met, value)]
    }
    if value == nil && !met.isPresent { return [] }
    return [made(index, configuration, met, value)]
  }

  private func made(
    _ index: Int, _ configuration: Configuration, _ met: RegisterState, _ value: Int?
  ) -> Configuration {
    let step = steps[index]
    var state = RegisterState.version(value ?? met.value, step.position ?? 0)
    let known = max(configuration.last, Self.identity(met))
    if step.position == nil { state.low = known }
    return advance(configuration, index, state, known: known)
  }

  private static func identity(_ state: RegisterState) -> UInt64 {
    state.isPresent ? state.identity : 0
  }

  private func advance(
    _ configuration: Configuration, _ index: Int, _ state: RegisterState, known: UInt64
  ) -> Configuration {
    var result = configuration
    result.state = state
    result.last = max(result.last, known, steps[index].position ?? 0)
    let place = result.done.firstIndex { $0 > index } ?? result.done.count
    result.done.insert(index, at: place)
    return result
  }

  /// The state when it is as seen, with what the sight tells of it; nil when it is not.
  private static func see(_ sight: Sight, _ state: RegisterState) -> RegisterState? {
    switch sight {
    case .anything: return state
    case .absent: return state.isPresent ? nil : state
    case .present: return state.isPresent ? state : nil
    case .not(let identity):
      return state.isPresent && state.identity == identity ? nil : state
    case .other(let identity):
      return state.isPresent && state.identity != identity ? state : nil
    case .oneOf(let values):
      guard state.isPresent else { return nil }
      if state.value >= 0 { return values.contains(state.value) ? state : nil }
      guard values.count == 1 else { return state }
      var known = state
      known.value = values.first!
      return known
    case .version(let value, let identity):
      guard state.isPresent else { return nil }
      var known = state
      if value >= 0 {
        if state.value >= 0 && state.value != value { return nil }
        known.value = value
      }
      if state.identity == 0 {
        guard state.low < identity, identity < state.high else { return nil }
        known.identity = identity
        known.low = 0
        known.high = .max
      } else if state.identity != identity {
        return nil
      }
      return known
    }
  }
}

/// Configurations of which none makes another superfluous.
private struct Antichain {
  private struct Group: Hashable {
    var isPresent: Bool
    var value: Int
    var identity: UInt64
  }
  private let steps: [RegisterStep]
  private var groups: [Group: [RegisterChecker.Configuration]] = [:]
  private var order: [Group] = []
  /// Comparisons made since they were last asked for.
  private(set) var work = 0

  init(_ steps: [RegisterStep]) { self.steps = steps }

  mutating func takeWork() -> Int {
    defer { work = 0 }
    return work
  }

  var all: [RegisterChecker.Configuration] { order.flatMap { groups[$0]! } }

  /// False when another leaves as much open.
  mutating func insert(_ fresh: RegisterChecker.Configuration) -> Bool {
    let group = Group(
      isPresent: fresh.state.isPresent, value: fresh.state.value, identity: fresh.state.identity)
    guard var members = groups[group] else {
      groups[group] = [fresh]
      order.append(group)
      return true
    }
    work += members.count
    if members.contains(where: { replaces($0, fresh) }) { return false }
    members.removeAll { replaces(fresh, $0) }
    members.append(fresh)
    groups[group] = members
    return true
  }

  /// Whether everything that can follow `b` can follow `a`, whose state is the same.
  private func replaces(_ a: RegisterChecker.Configuration, _ b: RegisterChecker.Configuration)
    -> Bool
  {
    guard a.last <= b.last, a.state.low <= b.state.low, a.state.high >= b.state.high else {
      return false
    }
    // Of what may never happen `a` has done no more, of reads no less, of changes the same.
    var i = 0
    var j = 0
    while i < a.done.count || j < b.done.count {
      let left = i < a.done.count ? a.done[i] : Int.max
      let right = j < b.done.count ? b.done[j] : Int.max
      if left == right {
        i += 1
        j += 1
      } else if left < right {
        guard steps[left].isMandatory, case .read = steps[left].effect else { return false }
        i += 1
      } else {
        guard !steps[right].isMandatory else { return false }
        j += 1
      }
    }
    return true
  }
}
