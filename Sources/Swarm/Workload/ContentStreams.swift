internal import DataPath
internal import Ring
internal import Simulation

/// Gives a content's bytes in pieces of odd sizes, and may misbehave as planned.
final class ContentSource: ByteSource, @unchecked Sendable {
  // Loop-confined.
  private let content: Content
  let byteCount: UInt64?
  private let driver: any Driver
  private var offset: UInt64 = 0
  private var random: SimulationRandom
  /// Gives so many bytes, then fails.
  private let failsAt: UInt64?
  /// Before a read, now and then.
  private let longestPause: Duration
  private(set) var given: UInt64 = 0

  init(
    _ content: Content, isSized: Bool, failsAt: UInt64?, longestPause: Duration,
    driver: any Driver, random: SimulationRandom
  ) {
    self.content = content
    byteCount = isSized ? content.byteCount : nil
    self.failsAt = failsAt
    self.longestPause = longestPause
    self.driver = driver
    self.random = random
  }

  func read(into slice: Slice) async throws(DataPathError) -> Int {
    if longestPause > .zero, random.chance(1, in: 2) {
      await driver.sleep(.nanoseconds(random.within(.zero...longestPause)))
    }
    if let failsAt, offset >= failsAt { throw .source("the source fails as planned") }
    let most = random.chance(1, in: 4) ? 1 + random.below(5000) : slice.count
    let end = min(content.byteCount, failsAt ?? .max)
    let count = min(most, slice.count, Int(end - offset))
    if count > 0 {
      slice[0..<count].withMutableBytes { content.fill($0, at: offset) }
    }
    offset += UInt64(count)
    given += UInt64(count)
    return count
  }

  func rewind() -> Bool {
    offset = 0
    return true
  }
}

/// Compares what is read with what it may be; keeps nothing.
final class ComparingSink: ByteSink, @unchecked Sendable {
  // Loop-confined.
  let isOrdered: Bool
  /// Contents that agree with all bytes seen so far.
  private(set) var candidates: [Content]
  /// Gives the candidates once the first bytes are here.
  private var lookUp: (() -> [Content])?
  private let range: Range<UInt64>
  private var next: UInt64
  private var written: [Range<UInt64>] = []
  private(set) var problem: String?
  private(set) var byteCount: UInt64 = 0

  init(_ candidates: [Content], _ range: Range<UInt64>, isOrdered: Bool) {
    self.candidates = candidates
    self.range = range
    self.isOrdered = isOrdered
    next = range.lowerBound
  }

  /// - Parameter lookUp: asked when the first bytes come, for what may have been written by then.
  convenience init(
    lookingUp lookUp: @escaping () -> [Content], _ range: Range<UInt64>, isOrdered: Bool
  ) {
    self.init([], range, isOrdered: isOrdered)
    self.lookUp = lookUp
  }

  /// Whether every byte of the range came, once.
  var isComplete: Bool { byteCount == UInt64(range.count) }

  func write(_ slices: [Slice], at offset: UInt64) async throws(DataPathError) {
    if let lookUp {
      candidates = lookUp()
      self.lookUp = nil
    }
    var place = offset
    if isOrdered && offset != next { note("byte \(offset) comes when \(next) is due") }
    for slice in slices where slice.count > 0 {
      let end = place + UInt64(slice.count)
      if place < range.lowerBound || end > range.upperBound {
        note("bytes \(place)..<\(end) are outside of \(range)")
        return
      }
      let before = candidates
      candidates.removeAll { candidate in
        slice.withBytes { candidate.firstDifference($0, at: place) } != nil
      }
      if candidates.isEmpty, let expected = before.first {
        let index = slice.withBytes { expected.firstDifference($0, at: place) } ?? 0
        let found = slice[index..<min(index + 8, slice.count)].array
        note("byte \(place + UInt64(index)) is wrong: \(found)")
      }
      place = end
    }
    if written.contains(where: { $0.overlaps(offset..<place) }) {
      note("bytes \(offset)..<\(place) come twice")
    }
    if let last = written.last, last.upperBound == offset {
      written[written.count - 1] = last.lowerBound..<place
    } else {
      written.append(offset..<place)
    }
    byteCount += place - offset
    next = place
  }

  private func note(_ text: String) {
    if problem == nil { problem = text }
  }
}
