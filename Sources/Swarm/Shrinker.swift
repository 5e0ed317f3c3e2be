/// Drops faults, then operations, then seconds of a trial that fails, as long as it goes on failing in the same way.
///
/// Delta debugging, reduced to complements: pieces of what is kept are left out one at a time, large pieces first
/// (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002). The result need not be the
/// smallest there is; no single fault or operation can be left out of it, unless the time was over before.
package struct Shrinker {
  /// What of a trial is kept.
  package struct Candidate: Sendable, Equatable {
    /// Indices of planned faults, ascending.
    package var faults: [Int]
    /// Indices of planned operations, ascending.
    package var operations: [Int]
    /// Of workload.
    package var seconds: Int

    package init(faults: [Int], operations: [Int], seconds: Int) {
      self.faults = faults
      self.operations = operations
      self.seconds = seconds
    }
  }

  /// How many candidates are tried at once.
  private let width: Int
  private let fails: ([Candidate]) async -> [Bool]
  private let isOver: () -> Bool
  private let progress: (Candidate) async -> Void

  /// - Parameters:
  ///   - fails: whether each candidate still fails with the same property; at most `width` of them.
  ///   - isOver: asked before each try; true ends the search with what there is.
  ///   - progress: told of every step that made the trial smaller.
  package init(
    width: Int, fails: @escaping ([Candidate]) async -> [Bool],
    isOver: @escaping () -> Bool = { false },
    progress: @escaping (Candidate) async -> Void = { _ in }
  ) {
    precondition(width > 0)
    self.width = width
    self.fails = fails
    self.isOver = isOver
    self.progress = progress
  }

  /// - Parameter start: known to fail.
  package func shrink(_ start: Candidate) async -> Candidate {
    var best = start
    // What one kind of thing needed, another may have needed only because of the first.
    while !isOver() {
      let before = best
      best = await shrink(best, \.faults)
      best = await shrink(best, \.operations)
      best = await shorten(best)
      if best == before { break }
    }
    return best
  }

  private func shrink(_ start: Candidate, _ list: WritableKeyPath<Candidate, [Int]>) async
    -> Candidate
  {
    var best = start
    guard !best[keyPath: list].isEmpty else { return best }
    var none = best
    none[keyPath: list] = []
    if let found = await first([none]) { return found }
    var pieceCount = 2
    while best[keyPath: list].count > 1, !isOver() {
      let items = best[keyPath: list]
      let candidates = (0..<pieceCount).map { piece in
        let left = items.count * piece / pieceCount
        let right = items.count * (piece + 1) / pieceCount
        var candidate = best
        candidate[keyPath: list] = Array(items[..<left] + items[right...])
        return candidate
      }
      if let found = await first(candidates) {
        best = found
        pieceCount = min(max(2, pieceCount - 1), max(2, best[keyPath: list].count))
      } else if pieceCount < items.count {
        pieceCount = min(items.count, pieceCount * 2)
      } else {
        break
      }
    }
    return best
  }

  private func shorten(_ start: Candidate) async -> Candidate {
    var candidates: [Candidate] = []
    var seconds = 1
    while seconds < start.seconds {
      var candidate = start
      candidate.seconds = seconds
      candidates.append(candidate)
      seconds *= 2
    }
    return await first(candidates) ?? start
  }

  /// The first of the candidates that fails, wherever others of its batch ended sooner.
  private func first(_ candidates: [Candidate]) async -> Candidate? {
    var rest = candidates[...]
    while !rest.isEmpty, !isOver() {
      let batch = Array(rest.prefix(width))
      rest = rest.dropFirst(width)
      if let index = await fails(batch).firstIndex(of: true) {
        await progress(batch[index])
        return batch[index]
      }
    }
    return nil
  }
}
