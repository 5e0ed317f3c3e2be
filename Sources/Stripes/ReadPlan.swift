import Cluster
import Coding
import Ring

/// Why a block cannot be had from its device.
enum BlockFailure: Equatable {
  /// The device answered, and has no such block.
  case absent
  /// The bytes are there but wrong.
  case corrupt
  /// No answer, or a refusal.
  case silent
}

/// A range of one block's payload, in whole units of 4 KiB.
struct BlockRange: Hashable, Sendable {
  var index: Int
  var range: Range<Int>
}

/// What one read of a stripe has, waits for and still needs. Pure: events go in, ranges to fetch come out.
///
/// A wanted range whose block is lost, or slow, is rebuilt from the same range of as many other blocks
/// as the stripe has data blocks. What was fetched for one purpose serves the other.
struct ReadPlan {
  private struct Block {
    var isStored: Bool
    /// Asked only when there is no other way.
    var isAvoided = false
    /// Asked when those that are preferred do not give theirs.
    var isSpared = false
    var failure: BlockFailure?
    /// Its answer is late: the plan goes on without it, but takes it when it comes.
    var isSlow = false
    var known: [(range: Range<Int>, bytes: Slice)] = []
    var asked: [Range<Int>] = []

    /// What of `range` is neither known nor asked for.
    func unasked(_ range: Range<Int>) -> [Range<Int>] {
      subtract(subtract([range], known.map(\.range)), asked)
    }
    /// What of `range` is not known.
    func missing(_ range: Range<Int>) -> [Range<Int>] { subtract([range], known.map(\.range)) }
  }

  let layout: StripeLayout
  let wanted: [BlockRange]
  private var blocks: [Block]
  /// Blocks from which any other can be rebuilt.
  let needed: Int

  /// - Parameters:
  ///   - avoided: indices of blocks whose devices are believed down.
  ///   - spared: indices of blocks that others are preferred to: enough of these are left.
  ///   - lost: indices of blocks that are not to be asked for at all.
  init(
    layout: StripeLayout, wanted: [BlockRange], avoided: [Int] = [], spared: [Int] = [],
    lost: [Int] = []
  ) {
    self.layout = layout
    self.wanted = wanted
    needed = layout.dataBlockCount
    blocks = (0..<layout.scheme.width).map { Block(isStored: layout.isStored($0)) }
    for index in avoided { blocks[index].isAvoided = true }
    for index in spared { blocks[index].isSpared = true }
    for index in lost { blocks[index].failure = .silent }
  }

  // MARK: Events

  mutating func arrived(_ part: BlockRange, _ bytes: Slice) {
    blocks[part.index].asked.removeAll { $0 == part.range }
    blocks[part.index].isSlow = false
    blocks[part.index].known.append((part.range, bytes))
    blocks[part.index].known.sort { $0.range.lowerBound < $1.range.lowerBound }
  }

  mutating func failed(_ part: BlockRange, _ failure: BlockFailure) {
    blocks[part.index].asked.removeAll { $0 == part.range }
    blocks[part.index].failure = failure
  }

  /// Blocks whose answers are outstanding count as slow from now on: others are to be asked in their place.
  ///
  /// - Returns: how many bytes that will fetch; nil, with nothing changed, when there is nothing to hedge, too little to hedge
  ///   with, or more than `allowance` to fetch.
  mutating func hedge(within allowance: Int) -> Int? {
    var copy = self
    for index in copy.blocks.indices where !copy.blocks[index].asked.isEmpty {
      copy.blocks[index].isSlow = true
    }
    let slow = copy.blocks.indices.filter { copy.blocks[$0].isSlow }
    let lost = copy.blocks.count { $0.isStored && ($0.failure != nil || $0.isSlow) }
    guard !slow.isEmpty, lost <= layout.scheme.m else { return nil }
    guard case .fetch(let parts) = copy.next() else { return nil }
    let cost = parts.reduce(0) { $0 + $1.range.count }
    guard cost <= allowance else { return nil }
    for index in slow { blocks[index].isSlow = true }
    return cost
  }

  // MARK: What to do

  enum Step: Equatable {
    /// Everything wanted is known or can be rebuilt.
    case done
    /// Fetch these (perhaps none) and wait for an event.
    case fetch([BlockRange])
    case hopeless
  }

  /// Parts of wanted ranges that must be rebuilt, as the plan stands.
  private var lostRanges: [Range<Int>] {
    var ranges: [Range<Int>] = []
    for part in wanted where isWithout(part.index) {
      ranges.append(contentsOf: blocks[part.index].missing(part.range))
    }
    return union(ranges)
  }

  private func isWithout(_ index: Int) -> Bool {
    let block = blocks[index]
    return block.failure != nil || block.isSlow
      || ((block.isAvoided || block.isSpared) && block.asked.isEmpty)
  }

  /// Blocks that know all of `range`.
  private func sources(of range: Range<Int>) -> [Int] {
    blocks.indices.filter { blocks[$0].isStored && blocks[$0].missing(range).isEmpty }
  }

  mutating func next() -> Step {
    let isDone = wanted.allSatisfy { part in
      blocks[part.index].missing(part.range).allSatisfy { sources(of: $0).count >= needed }
    }
    if isDone { return .done }
    var fetches: [BlockRange] = []
    func ask(_ index: Int, _ range: Range<Int>) {
      for rest in blocks[index].unasked(range) {
        blocks[index].asked.append(rest)
        fetches.append(BlockRange(index: index, range: rest))
      }
    }
    for part in wanted where !isWithout(part.index) { ask(part.index, part.range) }
    for range in lostRanges {
      var have = blocks.indices.count {
        blocks[$0].isStored && !blocks[$0].isSlow && blocks[$0].failure == nil
          && blocks[$0].unasked(range).isEmpty
      }
      // Whoever has some of it already first, then parity, then what is spared, and those believed down only at the very end.
      let candidates = blocks.indices.filter {
        blocks[$0].isStored && blocks[$0].failure == nil && !blocks[$0].unasked(range).isEmpty
      }.sorted { rank($0, range) < rank($1, range) }
      for index in candidates where have < needed {
        ask(index, range)
        if !blocks[index].isSlow { have += 1 }
      }
      if have < needed {
        // Slow ones may still come.
        let possible = blocks.indices.count {
          blocks[$0].isStored
            && (blocks[$0].missing(range).isEmpty
              || blocks[$0].failure == nil && blocks[$0].unasked(range).isEmpty)
        }
        if possible < needed && !couldArrive(range) { return .hopeless }
      }
    }
    return .fetch(fetches)
  }

  /// Whether all that is wanted in `range` may still come by itself.
  private func couldArrive(_ range: Range<Int>) -> Bool {
    wanted.allSatisfy { part in
      let parts = blocks[part.index].missing(part.range).filter { $0.overlaps(range) }
      return parts.isEmpty || blocks[part.index].failure == nil && !blocks[part.index].asked.isEmpty
    }
  }

  private func rank(_ index: Int, _ range: Range<Int>) -> Int {
    let block = blocks[index]
    let overlap = block.unasked(range) != [range]
    return (block.isSlow ? 16 : 0) + (block.isAvoided ? 8 : 0) + (block.isSpared ? 4 : 0)
      + (overlap ? 0 : 2) + (index < layout.scheme.k ? 0 : 1)
  }

  // MARK: The end

  /// Indices of stored blocks that failed.
  func failures(_ kind: BlockFailure? = nil) -> [Int] {
    blocks.indices.filter {
      blocks[$0].isStored && blocks[$0].failure != nil
        && (kind == nil || blocks[$0].failure == kind)
    }
  }

  /// Stored blocks that have not failed.
  var possibleCount: Int { blocks.count { $0.isStored && $0.failure == nil } }

  /// Wanted blocks of which something must be rebuilt.
  var rebuiltCount: Int {
    wanted.count { !blocks[$0.index].missing($0.range).isEmpty }
  }

  /// The bytes of each wanted range in order, when `next` has said done. Rebuilds what is missing.
  func assemble(_ coder: StripeCoder, pool: BufferPool) throws(CodingError) -> [[Slice]] {
    struct Hole {
      var index: Int
      var range: Range<Int>
      var bytes: Slice
    }
    var holes: [Hole] = []
    for part in wanted {
      for range in blocks[part.index].missing(part.range) {
        holes.append(
          Hole(index: part.index, range: range, bytes: pool.slice(range.count)))
      }
    }
    if !holes.isEmpty {
      let zeros = (0..<layout.scheme.k).filter { !blocks[$0].isStored }
      // Between two neighbouring cuts every block is known all through, or not at all.
      var cuts = Set(holes.flatMap { [$0.range.lowerBound, $0.range.upperBound] })
      for block in blocks {
        for segment in block.known {
          cuts.insert(segment.range.lowerBound)
          cuts.insert(segment.range.upperBound)
        }
      }
      let edges = cuts.sorted()
      for (lower, upper) in zip(edges, edges.dropFirst()) {
        let range = lower..<upper
        let wanting = holes.filter { $0.range.lowerBound <= lower && upper <= $0.range.upperBound }
        if wanting.isEmpty { continue }
        var present: [(index: Int, bytes: UnsafeRawPointer)] = []
        for index in blocks.indices {
          guard let segment = blocks[index].known.first(where: { $0.range.contains(lower) })
          else { continue }
          let base = segment.bytes.buffer.base + segment.bytes.offset
          present.append((index, UnsafeRawPointer(base + (lower - segment.range.lowerBound))))
        }
        var seen: Set<Int> = []
        var targets: [(index: Int, into: UnsafeMutableRawPointer)] = []
        for hole in wanting where seen.insert(hole.index).inserted {
          let base = hole.bytes.buffer.base + hole.bytes.offset
          targets.append((hole.index, base + (lower - hole.range.lowerBound)))
        }
        try coder.rebuild(
          wanted: targets, present: present, zeros: zeros, byteCount: range.count)
      }
    }
    return wanted.map { part in
      var pieces = blocks[part.index].known.compactMap { segment -> (Int, Slice)? in
        let range = segment.range.clamped(to: part.range)
        if range.isEmpty { return nil }
        let start = range.lowerBound - segment.range.lowerBound
        return (range.lowerBound, segment.bytes[start..<start + range.count])
      }
      for hole in holes
      where hole.index == part.index && part.range.lowerBound <= hole.range.lowerBound
        && hole.range.upperBound <= part.range.upperBound
      {
        pieces.append((hole.range.lowerBound, hole.bytes))
      }
      return pieces.sorted { $0.0 < $1.0 }.map(\.1)
    }
  }
}

/// What of `ranges` is in none of `others`.
func subtract(_ ranges: [Range<Int>], _ others: [Range<Int>]) -> [Range<Int>] {
  var rest = ranges
  for other in others {
    if rest.isEmpty { return rest }
    var next: [Range<Int>] = []
    for range in rest {
      guard range.overlaps(other) else {
        next.append(range)
        continue
      }
      if range.lowerBound < other.lowerBound { next.append(range.lowerBound..<other.lowerBound) }
      if other.upperBound < range.upperBound { next.append(other.upperBound..<range.upperBound) }
    }
    rest = next
  }
  return rest
}

/// The same places in as few ranges as possible, ascending.
func union(_ ranges: [Range<Int>]) -> [Range<Int>] {
  var result: [Range<Int>] = []
  for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) where !range.isEmpty {
    if let last = result.last, range.lowerBound <= last.upperBound {
      result[result.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
    } else {
      result.append(range)
    }
  }
  return result
}
