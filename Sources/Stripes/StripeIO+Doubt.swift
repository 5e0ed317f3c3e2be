package import Cluster
import Coding
package import Ring

extension StripeIO {
  /// The stripe's data bytes in `range`, when a read of them was wrong though every CRC32C was right: a block was
  /// stored wrong, or is another than it says.
  ///
  /// Every stored block's share is fetched. Then blocks are left out, none, one by one, two by two and so on while the code
  /// allows it, and rebuilt from the others until the bytes are right. The fewest that must be left out are the wrong ones:
  /// they are reported like any corruption, and their devices asked last for a while.
  ///
  /// - Parameter isRight: judges slices that together are exactly the range, in order.
  /// - Throws: ``StripeError/corrupt(_:)`` when no choice is right. While devices have yet to give theirs that is not known:
  ///   then ``StripeError/unreadable(missing:needed:found:)``, or ``StripeError/notFound`` when too many say that there is none.
  package func readDoubting(
    _ target: StripeTarget, layout: StripeLayout, range: Range<Int>, isRight: ([Slice]) -> Bool
  ) async throws(StripeError) -> [Slice] {
    guard range.lowerBound >= 0, range.upperBound <= layout.byteCount, !range.isEmpty,
      target.places.count == layout.scheme.width
    else { throw .corrupt("range \(range) of a stripe of \(layout.byteCount) bytes") }
    let wanted = layout.units(of: range)
    let shares = union(wanted.map(\.range))
    var doubt = DoubtfulRead(layout: layout, range: range, wanted: wanted)
    let (found, failed) = await withTaskGroup(of: Event.self) {
      group -> (DoubtfulRead.Answer?, [Int: BlockFailure]) in
      for index in layout.storedBlocks {
        for share in shares {
          group.addTask { [self] in
            await fetch(BlockRange(index: index, range: share), target, layout)
          }
        }
      }
      // One that hangs is not to hold up what the others can tell.
      group.addTask { [driver, delay = latency.hedgeDelay] in
        await driver.sleep(delay)
        return .late
      }
      var answer: DoubtfulRead.Answer?
      var left = layout.storedBlocks.count * shares.count
      while left > 0, answer == nil, let event = await group.next() {
        switch event {
        case .arrived(let part, let bytes):
          doubt.known[part.index, default: []].append((part, bytes))
          left -= 1
        case .failed(let part, let failure):
          doubt.failed[part.index] = failure
          left -= 1
        case .late:
          if !Task.isCancelled { answer = doubt.search(driver.buffers, isRight) }
        }
      }
      group.cancelAll()
      return (
        Task.isCancelled ? nil : answer ?? doubt.search(driver.buffers, isRight), doubt.failed
      )
    }
    guard let found else {
      if Task.isCancelled { throw .cancelled }
      let missing = failed.filter { $0.value != .corrupt }.keys.sorted()
      if failed.values.count(where: { $0 == .absent }) > layout.scheme.m { throw .notFound }
      if !missing.isEmpty {
        let needed = layout.dataBlockCount
        // Of those that are right fewer than needed.
        throw .unreadable(
          missing: missing.map { target.device($0) }, needed: needed,
          found: min(layout.storedBlocks.count - failed.count, needed - 1))
      }
      throw .corrupt(
        "bytes \(range) of stripe \(target.stripe) of \(target.container), whichever blocks are left out"
      )
    }
    for index in found.leftOut {
      onCorruption?(target.device(index), target.block(index))
      suspects.failed(target.device(index), now: driver.now)
    }
    rebuiltBlockCount += found.leftOut.count
    return found.bytes
  }
}

/// What is known of a range that reads wrong, and the search for the blocks to blame. Pure.
struct DoubtfulRead {
  let layout: StripeLayout
  let range: Range<Int>
  let wanted: [BlockRange]
  var known: [Int: [(part: BlockRange, bytes: Slice)]] = [:]
  /// Indices of blocks that gave nothing, or not all, and why.
  var failed: [Int: BlockFailure] = [:]

  struct Answer {
    var bytes: [Slice]
    /// Indices of the fewest blocks without which the bytes are right, ascending.
    var leftOut: [Int]
  }

  /// Choices of blocks that are tried at most; all that are one or two of 32.
  static let choiceLimit = 600

  init(layout: StripeLayout, range: Range<Int>, wanted: [BlockRange]) {
    self.layout = layout
    self.range = range
    self.wanted = wanted
  }

  func search(_ pool: BufferPool, _ isRight: ([Slice]) -> Bool) -> Answer? {
    let touched = Set(wanted.map(\.index))
    // What the range lies in is the likeliest to be wrong.
    let present = known.keys.filter { failed[$0] == nil }
      .sorted { (touched.contains($0) ? 0 : 1, $0) < (touched.contains($1) ? 0 : 1, $1) }
    var left = Self.choiceLimit
    for count in 0...max(0, present.count - layout.dataBlockCount) {
      var choice = Array(0..<count)
      repeat {
        guard left > 0 else { return nil }
        left -= 1
        let leftOut = choice.map { present[$0] }
        if let bytes = bytes(without: leftOut, present, pool), isRight(bytes) {
          return Answer(bytes: bytes, leftOut: leftOut.sorted())
        }
      } while Self.advance(&choice, below: present.count)
    }
    return nil
  }

  /// The range made of all present blocks but those; nil when they are too few.
  private func bytes(without leftOut: [Int], _ present: [Int], _ pool: BufferPool) -> [Slice]? {
    let sources = present.filter { !leftOut.contains($0) }
    var plan = ReadPlan(
      layout: layout, wanted: wanted,
      lost: layout.storedBlocks.filter { !sources.contains($0) })
    for index in sources {
      for (part, bytes) in known[index]! { plan.arrived(part, bytes) }
    }
    guard plan.next() == .done,
      // A choice that cannot be decoded is a choice that is not right.
      let blocks = try? plan.assemble(.shared(layout.scheme), pool: pool)
    else { return nil }
    return layout.slices(of: range, wanted: wanted, blocks)
  }

  /// The next choice of as many numbers below `limit`, ascending; false after the last.
  private static func advance(_ choice: inout [Int], below limit: Int) -> Bool {
    for place in choice.indices.reversed()
    where choice[place] < limit - (choice.count - place) {
      choice[place] += 1
      for later in choice.index(after: place)..<choice.count {
        choice[later] = choice[later - 1] + 1
      }
      return true
    }
    return false
  }
}
