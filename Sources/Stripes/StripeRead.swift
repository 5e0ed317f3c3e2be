import Cluster
import Coding

/// Decides which blocks to ask for so that the wanted ones can be had, and says when that is so. No I/O: events
/// come in, reads to start go out.
///
/// First the wanted data blocks are asked for just the units they hold of the range. When one fails, or is slow,
/// enough others are asked for the units of the whole range (the *span*) to rebuild it.
struct StripeRead {
  /// A read to start: block `index`, units `units` of it.
  struct Request: Equatable {
    var index: Int
    /// In bytes within the block; multiples of 4096.
    var bytes: Range<Int>
  }

  enum Conclusion: Equatable {
    /// Wait for more events.
    case undecided
    /// Every wanted block is there or can be rebuilt from the blocks that are.
    case complete
    /// No block is left to ask.
    case impossible
  }

  let layout: StripeLayout
  /// Wanted data blocks and the bytes of each, multiples of 4096.
  let wanted: [Int: Range<Int>]
  let span: Range<Int>
  /// Blocks that need not be asked yet because their device is believed down.
  private var spared: Set<Int>
  private var asked: [Int: Range<Int>] = [:]
  private(set) var arrived: [Int: Range<Int>] = [:]
  private(set) var failed: Set<Int> = []
  private var slow: Set<Int> = []

  /// - Parameters:
  ///   - range: of the stripe's data bytes, not empty.
  ///   - isDown: whether the device of a block is believed down.
  init(layout: StripeLayout, range: Range<Int>, isDown: (Int) -> Bool) {
    self.layout = layout
    let size = layout.blockByteCount
    var wanted: [Int: Range<Int>] = [:]
    for index in (range.lowerBound / size)...((range.upperBound - 1) / size) {
      let low = max(range.lowerBound - index * size, 0)
      let high = min(range.upperBound - index * size, size)
      wanted[index] = low / 4096 * 4096..<(high + 4095) / 4096 * 4096
    }
    self.wanted = wanted
    span =
      wanted.values.map(\.lowerBound).min()!..<wanted.values.map(\.upperBound).max()!
    spared = Set(layout.storedBlocks.filter(isDown))
  }

  /// The reads to start with.
  mutating func begin() -> [Request] {
    var requests: [Request] = []
    for index in wanted.keys.sorted() where !spared.contains(index) {
      asked[index] = wanted[index]!
      requests.append(Request(index: index, bytes: wanted[index]!))
    }
    return requests + more()
  }

  mutating func arrive(_ index: Int, _ bytes: Range<Int>) -> [Request] {
    if let known = arrived[index], known.count >= bytes.count { return [] }
    arrived[index] = bytes
    return more()
  }

  mutating func fail(_ index: Int) -> [Request] {
    failed.insert(index)
    arrived[index] = nil
    return more()
  }

  /// Whatever has not arrived by now is slow: others are asked too.
  mutating func hedge() -> [Request] {
    for index in wanted.keys where arrived[index] == nil { slow.insert(index) }
    return more()
  }

  /// Wanted blocks that must be rebuilt, given what has arrived.
  var toRebuild: [Int] { wanted.keys.filter { !covers($0, wanted[$0]!) }.sorted() }

  /// Blocks that cover the span, ascending.
  var sources: [Int] { arrived.keys.filter { covers($0, span) }.sorted() }

  private func covers(_ index: Int, _ bytes: Range<Int>) -> Bool {
    guard let have = arrived[index] else { return false }
    return have.lowerBound <= bytes.lowerBound && have.upperBound >= bytes.upperBound
  }

  /// Data blocks that were never stored: k known zeros.
  var zeros: [Int] { Array(layout.dataBlockCount..<layout.scheme.k) }

  var conclusion: Conclusion {
    if toRebuild.isEmpty { return .complete }
    if sources.count + zeros.count >= layout.scheme.k { return .complete }
    return couldStillArrive ? .undecided : .impossible
  }

  private var couldStillArrive: Bool {
    asked.keys.contains { !failed.contains($0) && arrived[$0] != asked[$0] }
      || layout.storedBlocks.contains { !failed.contains($0) && asked[$0] == nil }
  }

  /// Starts reads until enough blocks that cover the span have arrived or are under way.
  private mutating func more() -> [Request] {
    let troubled = wanted.keys.contains {
      failed.contains($0) || slow.contains($0) || (spared.contains($0) && asked[$0] == nil)
    }
    guard troubled, conclusion != .complete else { return [] }
    func promises(_ index: Int) -> Bool {
      guard !failed.contains(index), !slow.contains(index) || covers(index, span),
        let bytes = asked[index]
      else { return false }
      return bytes.lowerBound <= span.lowerBound && bytes.upperBound >= span.upperBound
    }
    var promised = zeros.count + layout.storedBlocks.filter(promises).count
    var requests: [Request] = []
    // Blocks whose device is believed down are asked last; slow ones are asked already.
    let candidates = layout.storedBlocks.filter { !failed.contains($0) && !promises($0) && !slow.contains($0) }
    for index in candidates.filter({ !spared.contains($0) }) + candidates.filter(spared.contains) {
      if promised >= layout.scheme.k { break }
      asked[index] = span
      requests.append(Request(index: index, bytes: span))
      promised += 1
    }
    return requests
  }
}
