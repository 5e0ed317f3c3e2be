/// Which transfers a job makes, in order.
struct AccessPattern: Sendable {
  private let pattern: JobOptions.Pattern
  private let readPercent: UInt64
  private let readSizes: BlockSizes
  private let writeSizes: BlockSizes
  private let space: UInt64
  private let isEndless: Bool
  private let repeatsBlocks: Bool
  private let isAppending: Bool
  /// Offsets of random transfers are multiples of it.
  private let unit: UInt64
  private var random: BenchRandom
  private var permutation: Permutation
  private var place: UInt64 = 0
  private var positions: (read: UInt64, write: UInt64) = (0, 0)
  private var issued: UInt64 = 0
  /// Passes begun.
  private(set) var pass = 1

  /// - Parameters:
  ///   - space: at least the largest transfer.
  ///   - isAppending: writes have no place of their own, so their offsets just count up.
  init(_ options: JobOptions, job: Int, space: UInt64, isAppending: Bool = false) {
    pattern = options.pattern
    readPercent = UInt64(options.readPercent)
    readSizes = options.readSizes
    writeSizes = options.writeSizes
    self.space = space
    isEndless = options.isTimeBased
    repeatsBlocks = options.repeatsBlocks
    self.isAppending = isAppending
    let used = (pattern.reads ? [readSizes] : []) + (pattern.writes ? [writeSizes] : [])
    unit = UInt64(used.map(\.smallest).min()!)
    random = BenchRandom(
      seed: options.randomSeed &* 0x9E37_79B9_97F4_A7C1 &+ UInt64(job))
    permutation = Permutation(count: max(1, space / unit), key: random.next())
  }

  /// The next one; nil when the pass is over and the job does not start again.
  mutating func next() -> Access? {
    if issued >= space {
      guard isEndless else { return nil }
      issued = 0
      pass += 1
    }
    let direction: JobOptions.Direction =
      if pattern.isMixed {
        random.below(100) < readPercent ? .read : .write
      } else {
        pattern.reads ? .read : .write
      }
    let sizes = direction == .read ? readSizes : writeSizes
    let count =
      sizes.parts.count == 1 ? sizes.parts[0].byteCount : sizes.pick(Int(random.below(100)))
    issued += UInt64(count)
    let offset: UInt64
    if direction == .write && isAppending {
      offset = positions.write
      positions.write += UInt64(count)
    } else if pattern.isRandom {
      offset = min(randomUnit() * unit, (space - UInt64(count)) / unit * unit)
    } else if direction == .read {
      offset = Self.advance(&positions.read, by: UInt64(count), in: space)
    } else {
      offset = Self.advance(&positions.write, by: UInt64(count), in: space)
    }
    return Access(direction: direction, offset: offset, count: count)
  }

  private mutating func randomUnit() -> UInt64 {
    if repeatsBlocks { return random.below(permutation.count) }
    if place == permutation.count {
      place = 0
      permutation = Permutation(count: permutation.count, key: random.next())
    }
    place += 1
    return permutation[place - 1]
  }

  private static func advance(_ position: inout UInt64, by count: UInt64, in space: UInt64)
    -> UInt64
  {
    if position + count > space { position = 0 }
    let offset = position
    position += count
    return offset
  }
}
