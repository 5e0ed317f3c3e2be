/// Why a run could not go on. Every case carries what is needed to replay it.
package enum SimulationError: Error, CustomStringConvertible {
  /// Nothing can run, nothing is due, and the main body has not ended. `waiting` names the operations
  /// under way; a task that waits on another task shows nothing here.
  case deadlock(seed: UInt64, time: Duration, waiting: [String])
  /// More jobs ran than `Options.maximumSteps` allows: an endless loop at one moment, or too long a run.
  case tooManySteps(seed: UInt64, time: Duration, steps: Int, waiting: [String])
  /// The next event lies beyond `Options.maximumTime`.
  case tooLate(seed: UInt64, limit: Duration, waiting: [String])
  /// `Options.isOver` said so: the run took too much real time.
  case outOfTime(seed: UInt64, time: Duration, steps: Int, waiting: [String])
  /// Code left the simulation's thread (`Task { }`, `Task.detached`, `Task.sleep`, `@MainActor`, a
  /// thread of its own); such a run cannot be replayed.
  case leftTheThread(seed: UInt64, time: Duration)

  package var description: String {
    switch self {
    case .deadlock(let seed, let time, let waiting):
      "simulation: deadlock at \(time): seed \(seed)" + Self.list(waiting)
    case .tooManySteps(let seed, let time, let steps, let waiting):
      "simulation: \(steps) steps and no end at \(time): seed \(seed)" + Self.list(waiting)
    case .tooLate(let seed, let limit, let waiting):
      "simulation: not done after \(limit) of simulated time: seed \(seed)" + Self.list(waiting)
    case .outOfTime(let seed, let time, let steps, let waiting):
      "simulation: out of real time at \(time), after \(steps) steps: seed \(seed)"
        + Self.list(waiting)
    case .leftTheThread(let seed, let time):
      "simulation: a job came from another thread at \(time): seed \(seed)"
    }
  }

  private static func list(_ waiting: [String]) -> String {
    if waiting.isEmpty { return "\n  no operation is under way" }
    let shown = waiting.prefix(24).map { "\n  " + $0 }.joined()
    return shown + (waiting.count > 24 ? "\n  and \(waiting.count - 24) more" : "")
  }
}
