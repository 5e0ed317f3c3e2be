internal import CISAL
internal import Synchronization

/// Reed-Solomon over one stripe, position by position: byte `i` of every block depends on byte `i` of
/// the others alone, so any range of a stripe can be coded and rebuilt by itself.
///
/// Block indices are 0..<k for data and k..<k+m for parity. Parity row `i` has the coefficient
/// 1 / (i xor j) over GF(2^8) with the polynomial 0x11D for data block `j`; for k = 1 it is 1, so
/// parity blocks are copies. These coefficients are an on-disk format. A row does not depend on m.
///
/// - Source: Cauchy matrix; Bloemer et al., ICSI TR-95-048, 1995; ISA-L's `gf_gen_cauchy1_matrix`.
package final class StripeCoder: Sendable {
  package let scheme: Scheme

  /// ISA-L counts bytes in a C `int`; longer blocks go in pieces of this many bytes.
  private let largestCall: Int
  /// (k + m) rows of k coefficients, the first k rows being the identity.
  private let matrix: [UInt8]
  /// Encodes a stripe that has all its data blocks.
  private let encodeAll: Plan
  private let plans: Mutex<PlanCache>

  package convenience init(_ scheme: Scheme) {
    self.init(scheme, largestCall: 1 << 30, planLimit: 128)
  }

  init(_ scheme: Scheme, largestCall: Int, planLimit: Int) {
    self.scheme = scheme
    self.largestCall = largestCall
    var matrix = [UInt8](repeating: 0, count: scheme.width * scheme.k)
    gf_gen_cauchy1_matrix(&matrix, Int32(scheme.width), Int32(scheme.k))
    if scheme.k == 1 {
      for row in matrix.indices { matrix[row] = 1 }
    }
    self.matrix = matrix
    plans = Mutex(PlanCache(limit: planLimit))
    let data = BlockSet(first: scheme.k)
    let parity = BlockSet(first: scheme.width).subtracting(data)
    encodeAll = Plan(
      PlanKey(sources: data, targets: parity, columns: data), scheme: scheme, matrix: matrix)
  }

  private static let coders = Mutex<[Scheme: StripeCoder]>([:])

  /// The one coder of `scheme` for the whole process.
  package static func shared(_ scheme: Scheme) -> StripeCoder {
    coders.withLock { coders in
      if let coder = coders[scheme] { return coder }
      let coder = StripeCoder(scheme)
      coders[scheme] = coder
      return coder
    }
  }

  /// Overwrites `parity` so that any k of the k + m blocks rebuild the others.
  ///
  /// - Parameters:
  ///   - data: the first blocks of the stripe, at most k; those beyond count as zeros and cost nothing.
  ///   - parity: exactly m; none may overlap any other block.
  ///   - offset: where to begin in each of them, so that a stripe is coded strip by strip without a new
  ///     list of blocks for each.
  ///   - byteCount: how many bytes of each of them; any number.
  /// - Complexity: O(data.count * m * byteCount).
  package func encode(
    data: [UnsafeRawPointer], parity: [UnsafeMutableRawPointer], offset: Int = 0, byteCount: Int
  ) {
    precondition(data.count <= scheme.k && parity.count == scheme.m && byteCount >= 0)
    guard !data.isEmpty else {
      for block in parity {
        (block + offset).initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
      }
      return
    }
    let plan: Plan
    if data.count == scheme.k {
      plan = encodeAll
    } else {
      let columns = BlockSet(first: data.count)
      let rows = BlockSet(first: scheme.width).subtracting(BlockSet(first: scheme.k))
      plan = self.plan(PlanKey(sources: columns, targets: rows, columns: columns))
    }
    apply(plan, byteCount: byteCount) { blocks in
      for place in data.indices { blocks[place] = data[place] + offset }
      for place in parity.indices {
        blocks[data.count + place] = UnsafeRawPointer(parity[place] + offset)
      }
    }
  }

  /// Rebuilds blocks of a stripe, or the same byte range of each, from those at hand.
  ///
  /// - Parameters:
  ///   - wanted: distinct blocks to make, each written to its own memory that overlaps no other.
  ///   - present: blocks at hand, in any order. A block given twice counts once; more than are needed
  ///     may be given, and those of low index are used.
  ///   - zeros: data blocks of a short stripe that were never stored and count as zeros. What
  ///     `present` says of them is ignored.
  ///   - byteCount: the length of the range; any number.
  /// - Throws: ``CodingError/tooFewBlocks(have:need:)`` when present and zeros together are fewer than
  ///   k distinct blocks; nothing is then written.
  package func rebuild(
    wanted: [(index: Int, into: UnsafeMutableRawPointer)],
    present: [(index: Int, bytes: UnsafeRawPointer)], zeros: [Int], byteCount: Int
  ) throws(CodingError) {
    precondition(byteCount >= 0)
    var columns = BlockSet(first: scheme.k)
    for index in zeros {
      precondition((0..<scheme.k).contains(index))
      columns.remove(index)
    }
    var usable = BlockSet()
    for block in present {
      precondition((0..<scheme.width).contains(block.index))
      if block.index >= scheme.k || columns.contains(block.index) { usable.insert(block.index) }
    }
    let zeroCount = scheme.k - columns.count
    guard usable.count >= columns.count else {
      throw .tooFewBlocks(have: usable.count + zeroCount, need: scheme.k)
    }

    var asked = BlockSet()
    var targets = BlockSet()
    for block in wanted {
      precondition((0..<scheme.width).contains(block.index) && !asked.contains(block.index))
      asked.insert(block.index)
      if columns.isEmpty || (block.index < scheme.k && !columns.contains(block.index)) {
        block.into.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
      } else if usable.contains(block.index) {
        let source = present.first { $0.index == block.index }!.bytes
        block.into.copyMemory(from: source, byteCount: byteCount)
      } else {
        targets.insert(block.index)
      }
    }
    guard !targets.isEmpty else { return }

    // Both in the order of their indices, as the plan has them.
    let sources = usable.prefix(columns.count)
    let plan = self.plan(PlanKey(sources: sources, targets: targets, columns: columns))
    apply(plan, byteCount: byteCount) { blocks in
      for block in present where sources.contains(block.index) {
        blocks[sources.rank(block.index)] = block.bytes
      }
      for block in wanted where targets.contains(block.index) {
        blocks[sources.count + targets.rank(block.index)] = UnsafeRawPointer(block.into)
      }
    }
  }

  private func plan(_ key: PlanKey) -> Plan {
    if let plan = plans.withLock({ $0.find(key) }) { return plan }
    let plan = Plan(key, scheme: scheme, matrix: matrix)
    plans.withLock { $0.insert(plan, for: key) }
    return plan
  }

  /// How many plans are kept just now.
  var planCount: Int { plans.withLock { $0.count } }

  /// - Parameter place: puts the sources, and after them the targets, where ISA-L finds them.
  private func apply(
    _ plan: Plan, byteCount: Int, place: (UnsafeMutableBufferPointer<UnsafeRawPointer?>) -> Void
  ) {
    guard plan.targetCount > 0 else { return }
    let count = plan.sourceCount + plan.targetCount
    withUnsafeTemporaryAllocation(of: UnsafeRawPointer?.self, capacity: count) { blocks in
      blocks.initialize(repeating: nil)
      place(blocks)
      if scheme.k == 1 {
        for target in blocks[1...] {
          UnsafeMutableRawPointer(mutating: target!).copyMemory(
            from: blocks[0]!, byteCount: byteCount)
        }
        return
      }
      // The cache of plans may let go of this one meanwhile.
      defer { withExtendedLifetime(plan) {} }
      // ISA-L declares its inputs mutable but only reads them.
      blocks.withMemoryRebound(to: UnsafeMutablePointer<UInt8>?.self) { blocks in
        var left = byteCount
        while left > 0 {
          let length = min(left, largestCall)
          ec_encode_data(
            Int32(length), Int32(plan.sourceCount), Int32(plan.targetCount), plan.tables,
            blocks.baseAddress, blocks.baseAddress! + plan.sourceCount)
          left -= length
          if left > 0 {
            for index in blocks.indices { blocks[index]! += length }
          }
        }
      }
    }
  }
}

/// Some blocks of one stripe.
private struct BlockSet: Hashable, Sendable, Sequence {
  private var bits: UInt64 = 0

  init() {}

  init(first count: Int) { bits = count == 64 ? .max : (1 << UInt64(count)) - 1 }

  var count: Int { bits.nonzeroBitCount }
  var isEmpty: Bool { bits == 0 }
  func contains(_ index: Int) -> Bool { bits >> UInt64(index) & 1 == 1 }
  mutating func insert(_ index: Int) { bits |= 1 << UInt64(index) }
  mutating func remove(_ index: Int) { bits &= ~(1 << UInt64(index)) }

  /// How many members are lower.
  func rank(_ index: Int) -> Int { (bits & ((1 << UInt64(index)) - 1)).nonzeroBitCount }

  func subtracting(_ other: BlockSet) -> BlockSet {
    var result = self
    result.bits &= ~other.bits
    return result
  }

  /// The `count` lowest indices.
  func prefix(_ count: Int) -> BlockSet {
    var result = self
    while result.count > count {
      result.bits &= ~(1 << UInt64(63 - result.bits.leadingZeroBitCount))
    }
    return result
  }

  /// The indices, rising.
  func makeIterator() -> Indices { Indices(rest: bits) }

  struct Indices: IteratorProtocol {
    var rest: UInt64

    mutating func next() -> Int? {
      guard rest != 0 else { return nil }
      defer { rest &= rest - 1 }
      return rest.trailingZeroBitCount
    }
  }
}

/// `targets` from `sources`, where the data blocks outside `columns` are zeros. There are as many
/// sources as columns.
private struct PlanKey: Hashable {
  var sources: BlockSet
  var targets: BlockSet
  var columns: BlockSet
}

/// What ISA-L needs to make some blocks from others.
private final class Plan: @unchecked Sendable {
  // Sound: the tables are written by `init` alone.
  let sourceCount: Int
  let targetCount: Int
  /// 32 bytes for each pair of a target and a source, target after target. They are read anew for each 64 bytes of a
  /// block: where an array begins, every other one would lie across two lines of the cache.
  let tables: UnsafeMutablePointer<UInt8>

  init(_ key: PlanKey, scheme: Scheme, matrix: [UInt8]) {
    let sources = Array(key.sources)
    let targets = Array(key.targets)
    sourceCount = sources.count
    targetCount = targets.count
    let columns = Array(key.columns)
    let n = columns.count
    precondition(sources.count == n && n > 0)

    func rows(_ blocks: [Int]) -> [UInt8] {
      blocks.flatMap { block in columns.map { matrix[block * scheme.k + $0] } }
    }

    // A target is a combination of columns; the columns are the inverse's combinations of sources.
    var coefficients = rows(targets)
    if sources != columns {
      var known = rows(sources)
      var inverse = [UInt8](repeating: 0, count: n * n)
      // Rows of the identity and of a Cauchy matrix, however many columns are left out, are always
      // independent; for k = 1 all rows are 1.
      precondition(gf_invert_matrix(&known, &inverse, Int32(n)) == 0)
      let wanted = coefficients
      for row in 0..<targets.count {
        for column in 0..<n {
          coefficients[row * n + column] = (0..<n).reduce(0) { sum, place in
            sum ^ gf_mul(wanted[row * n + place], inverse[place * n + column])
          }
        }
      }
    }
    tables = UnsafeMutableRawPointer.allocate(
      byteCount: max(1, 32 * targets.count * n), alignment: 64
    ).assumingMemoryBound(to: UInt8.self)
    if !targets.isEmpty { ec_init_tables(Int32(n), Int32(targets.count), &coefficients, tables) }
  }

  deinit { UnsafeMutableRawPointer(tables).deallocate() }
}

/// The plans in use of late; the one unused for longest makes room.
private struct PlanCache: Sendable {
  private var plans: [PlanKey: (plan: Plan, used: UInt64)] = [:]
  private var clock: UInt64 = 0
  private let limit: Int

  init(limit: Int) { self.limit = limit }

  var count: Int { plans.count }

  mutating func find(_ key: PlanKey) -> Plan? {
    clock += 1
    guard let place = plans.index(forKey: key) else { return nil }
    plans.values[place].used = clock
    return plans.values[place].plan
  }

  mutating func insert(_ plan: Plan, for key: PlanKey) {
    clock += 1
    if plans[key] == nil, plans.count >= limit,
      let oldest = plans.min(by: { $0.value.used < $1.value.used })
    {
      plans[oldest.key] = nil
    }
    plans[key] = (plan, clock)
  }
}
