package import Messages
internal import Ring
internal import Simulation

/// One operation that a client is to begin, drawn before anything runs, from a stream of its own: leaving any of them
/// out changes no other.
package struct PlannedOperation: Sendable {
  package enum Condition: Sendable, Hashable {
    case none
    case absent
    /// The version that this client saw last; one that never was when it saw none.
    case lastSeen
  }

  package struct Put: Sendable {
    package var name: ObjectName
    package var content: Content
    /// Marks the version. Contents of the pool share one, so that identical puts are identical in everything; twins of it
    /// share one too, so that some are identical in everything but their bytes.
    package var tag: String
    package var condition = Condition.none
    package var unlessIdentical = false
    /// Whether its length is told beforehand.
    package var isSized = true
    /// Its source fails after so many bytes.
    package var failsAt: UInt64?
    package var longestPause: Duration = .zero
  }

  /// An object that comes in parts.
  package struct Multipart: Sendable {
    package enum Source: Sendable {
      case content(Content)
      /// Parts of a million of what is under a name then.
      case copy(ObjectName, part: Range<UInt64>)
    }
    package enum Ending: Sendable {
      case complete, abort, leave
    }
    package var name: ObjectName
    /// As of a put.
    package var tag: String
    package var condition: Condition
    /// In the order in which they are put. Of two with one number the second counts.
    package var parts: [(number: UInt32, source: Source)]
    package var ending: Ending
    package var longestPause: Duration
  }

  package enum Kind: Sendable {
    case put(Put)
    case multipart(Multipart)
    case versions(Versions)
    /// Given up after a while.
    case abandonedPut(Put, after: Duration)
    /// The client is killed after a while, and comes back later.
    case lastPut(Put, killAfter: Duration)
    /// Parts of a million; nil reads all of it. A loose one takes whatever version is current when it begins.
    case get(ObjectName, part: Range<UInt64>?, isOrdered: Bool, isLoose: Bool = false)
    case stat(ObjectName)
    case delete(ObjectName, Condition)
    case copy(
      source: ObjectName, target: ObjectName, ownTag: String?, moves: Bool, Condition)
    case list(bucket: String, prefix: String, delimiter: String, limit: UInt32)
    case createBucket(String)
    case removeBucket(String)
    case listBuckets
    /// The writer ends its upload, or is only dropped; puts after that have another.
    case changeWriter(finishes: Bool)
  }

  package var client: Int
  /// Among all clients' operations.
  package var number: Int
  /// Since the start of the workload.
  package var due: Duration
  package var kind: Kind

  /// For people and statistics.
  package var name: String {
    switch kind {
    case .put: "put"
    case .multipart(let multipart):
      switch multipart.ending {
      case .complete: "multipart"
      case .abort: "aborted multipart"
      case .leave: "left multipart"
      }
    case .versions: "versions"
    case .abandonedPut: "abandoned put"
    case .lastPut: "put and death"
    case .get(_, let part, _, _): part == nil ? "get" : "get range"
    case .stat: "stat"
    case .delete: "delete"
    case .copy(_, _, _, let moves, _): moves ? "move" : "copy"
    case .list: "list"
    case .createBucket: "create bucket"
    case .removeBucket: "remove bucket"
    case .listBuckets: "list buckets"
    case .changeWriter: "change writer"
    }
  }
}

/// Everything that clients will do, and all names and contents they use.
package struct WorkloadPlan: Sendable {
  package private(set) var operations: [[PlannedOperation]] = []
  /// Made at the start, never removed.
  package let lastingBuckets: [String]
  /// Made and removed by operations.
  package let passingBuckets: [String]
  private let names: [ObjectName]
  private let passingNames: [ObjectName]
  private let pool: [Content]
  private let shape: WorkloadShape
  private let seed: UInt64
  private let borders: [UInt64]
  /// Operations on large objects, by number, in the place of others.
  private let largeKinds: [Int: PlannedOperation.Kind]

  package var operationCount: Int { operations.reduce(0) { $0 + $1.count } }

  /// - Parameter borders: lengths at which something changes in the code under test; those around them are drawn often.
  package init(seed: UInt64, shape: WorkloadShape, borders: [UInt64]) {
    self.seed = seed
    self.shape = shape
    self.borders = borders.filter { $0 <= shape.largestByteCount }
    lastingBuckets = (0..<max(1, shape.bucketCount)).map { "bucket-\($0)" }
    passingBuckets = ["passing-0", "passing-1"]
    var random = SimulationRandom(seed: seed, name: "names")
    let keys = Self.keys(shape.keyCount, &random)
    let lasting = lastingBuckets
    names = keys.map { ObjectName(bucket: lasting[random.below(lasting.count)], key: $0) }
    passingNames = passingBuckets.flatMap { bucket in
      ["x", "y"].map { ObjectName(bucket: bucket, key: $0) }
    }
    var pool: [Content] = []
    for index in 0..<12 {
      var random = SimulationRandom(seed: seed, name: "pool/\(index)")
      if index.isMultiple(of: 2) {
        pool.append(Self.pooled(&random, largest: shape.largestByteCount))
      } else {
        pool.append(Self.twin(of: pool[index - 1], random.next() | 1))
      }
    }
    self.pool = pool
    let clients = max(1, shape.clientCount)
    let interval =
      Int64(clients) * 1_000_000_000 / Int64(max(1, shape.operationsPerSecond))
    let count = Int(shape.duration.saturatedNanoseconds / max(1, interval))
    largeKinds = Self.largeKinds(seed, shape, lasting[0], operationCount: count * clients)
    operations = (0..<clients).map { client in
      (0..<count).map { index in draw(client, index, clients, interval) }
    }
  }

  // MARK: Names

  /// Some that sort and group in awkward ways, the others plain.
  private static func keys(_ count: Int, _ random: inout SimulationRandom) -> [String] {
    let awkward = [
      "a", "a/", "a/b", "a/b/c", "a/b/d", "a0", "a!", "b/", "b//c", "ü/ä", "ü", "\u{1}", "z/~",
      String(repeating: "long", count: 256),
    ]
    var keys: [String] = []
    for index in 0..<max(1, count) {
      if index < awkward.count && random.chance(1, in: 3) {
        keys.append(awkward[index])
      } else if random.chance(1, in: 2) {
        keys.append("d\(random.below(4))/k\(index)")
      } else {
        keys.append("k\(index)")
      }
    }
    return keys
  }

  /// Half of the draws meet a few keys.
  func name(_ random: inout SimulationRandom) -> ObjectName {
    if random.chance(1, in: 40) { return passingNames[random.below(passingNames.count)] }
    if random.chance(1, in: 2) { return names[random.below(min(6, names.count))] }
    return names[random.below(names.count)]
  }

  // MARK: Contents

  private static func pooled(_ random: inout SimulationRandom, largest: UInt64) -> Content {
    let stream = random.next() | 1
    var pieces: [Content.Piece] = []
    var first: UInt64 = 0
    for _ in 0...random.below(4) {
      let byteCount = min(UInt64(1 + random.below(220_000)), largest)
      pieces.append(
        Content.Piece(
          stream: random.chance(1, in: 8) ? 0 : stream, first: first, byteCount: byteCount))
      first += byteCount
    }
    return Content(pieces)
  }

  /// As long as the other, of other bytes; perhaps of the same at its beginning.
  private static func twin(of content: Content, _ stream: UInt64) -> Content {
    var pieces = content.pieces
    let first = stream & 2 == 0 ? 0 : pieces.count - 1
    for index in pieces.indices where index >= first { pieces[index].stream = stream }
    return Content(pieces)
  }

  /// Between the two, each order of magnitude as often as the others.
  static func spread(_ low: UInt64, _ high: UInt64, _ random: inout SimulationRandom)
    -> UInt64
  {
    guard low < high else { return low }
    let doublings = 63 - (high / low).leadingZeroBitCount
    let step = random.below(doublings + 1)
    let base = low << UInt64(step)
    return min(high, base + UInt64(random.below(Int(min(base, high)))))
  }

  private func byteCount(_ random: inout SimulationRandom) -> UInt64 {
    let largest = shape.largestByteCount
    // The rare big ones have about as many bytes as all the others together, however big they may be.
    let rare = max(1, Int(8000 * min(1, Double(8 << 20) / Double(max(1, largest)))))
    let drawn: UInt64
    switch random.below(1_000_000) {
    case 0..<rare: drawn = Self.spread(3 << 20, max(3 << 20, largest), &random)
    case rare..<58_000: drawn = Self.spread(300_000, 3 << 20, &random)
    case 58_000..<160_000:
      guard !borders.isEmpty else { return 0 }
      let border = borders[random.below(borders.count)]
      drawn = UInt64(max(0, Int64(border) + random.within(-2...2)))
    case 160_000..<400_000: drawn = UInt64(random.below(4200))
    default: drawn = Self.spread(4096, 300_000, &random)
    }
    return min(drawn, largest)
  }

  func content(_ random: inout SimulationRandom) -> (Content, poolIndex: Int?) {
    let fresh = random.next() | 1
    guard random.below(100) < shape.duplicatePercent else {
      return (
        Content([Content.Piece(stream: fresh, first: 0, byteCount: byteCount(&random))]), nil
      )
    }
    let index = random.below(pool.count)
    let base = pool[index]
    switch random.below(6) {
    case 0, 1: return (base, index)
    case 2:
      // The same pieces in another order, perhaps some of another content.
      var pieces =
        base.pieces + (random.chance(1, in: 2) ? pool[random.below(pool.count)].pieces : [])
      for place in pieces.indices.reversed() { pieces.swapAt(place, random.below(place + 1)) }
      return (Content(pieces), nil)
    case 3:
      // Shifted: a few bytes before, or the first few left out.
      if random.chance(1, in: 2) {
        let few = UInt64(1 + random.below(5000))
        return (
          Content([Content.Piece(stream: fresh, first: 0, byteCount: few)] + base.pieces), nil
        )
      }
      var pieces = base.pieces
      let gone = min(pieces[0].byteCount, UInt64(1 + random.below(5000)))
      pieces[0].first += gone
      pieces[0].byteCount -= gone
      return (Content(pieces), nil)
    case 4:
      let zeros = byteCount(&random)
      return (
        Content([
          Content.Piece(stream: 0, first: 0, byteCount: zeros),
          Content.Piece(stream: fresh, first: 0, byteCount: UInt64(random.below(3))),
        ]), nil
      )
    default:
      // The beginning of it.
      var pieces = base.pieces
      let last = pieces.count - 1
      pieces[last].byteCount = UInt64(1 + random.below(Int(pieces[last].byteCount)))
      return (Content(pieces), nil)
    }
  }

  // MARK: Large objects

  /// Each is put in the first third of the time, and read in ranges, once whole, in the rest.
  private static func largeKinds(
    _ seed: UInt64, _ shape: WorkloadShape, _ bucket: String, operationCount: Int
  ) -> [Int: PlannedOperation.Kind] {
    var kinds: [Int: PlannedOperation.Kind] = [:]
    guard operationCount >= 12 else { return kinds }
    for (index, byteCount) in shape.largeByteCounts.enumerated() {
      var random = SimulationRandom(seed: seed, name: "large/\(index)")
      let name = ObjectName(bucket: bucket, key: "large-\(index)")
      let distinct = max(1, shape.distinctByteCount / UInt64(shape.largeByteCounts.count))
      kinds[random.below(operationCount / 3)] = .put(
        PlannedOperation.Put(
          name: name, content: large(byteCount, distinct: distinct, &random),
          tag: "large \(index)", isSized: random.chance(1, in: 2)))
      for read in 0..<6 {
        let number = operationCount / 3 + random.below(operationCount - operationCount / 3)
        let first = UInt64(random.below(1_000_000))
        let count = spread(1, 1_000_000 - first, &random)
        kinds[number] = .get(
          name, part: read == 0 ? nil : first..<first + count, isOrdered: random.chance(1, in: 2))
      }
    }
    return kinds
  }

  /// What is more than `distinct` bytes repeats parts of what came before, of any length.
  private static func large(
    _ byteCount: UInt64, distinct: UInt64, _ random: inout SimulationRandom
  ) -> Content {
    let stream = random.next() | 1
    let distinct = min(distinct, byteCount)
    var pieces = [Content.Piece(stream: stream, first: 0, byteCount: distinct)]
    var left = byteCount - distinct
    while left > 0 {
      let first = UInt64(random.below(Int(distinct)))
      let count = min(left, distinct - first)
      pieces.append(Content.Piece(stream: stream, first: first, byteCount: count))
      left -= count
    }
    return Content(pieces)
  }

  // MARK: Operations

  private func put(_ client: Int, _ index: Int, _ random: inout SimulationRandom)
    -> PlannedOperation.Put
  {
    let (content, poolIndex) = content(&random)
    var put = PlannedOperation.Put(
      name: name(&random), content: content, tag: "\(client)/\(index)")
    if let poolIndex, random.chance(2, in: 3) {
      put.tag = History.twinMark + "\(poolIndex / 2)"
      put.unlessIdentical = random.chance(2, in: 3)
    }
    put.condition = condition(&random)
    put.isSized = random.chance(3, in: 4)
    if random.chance(1, in: 8) { put.longestPause = .milliseconds(random.below(80)) }
    return put
  }

  func condition(_ random: inout SimulationRandom) -> PlannedOperation.Condition {
    switch random.below(10) {
    case 0: .absent
    case 1, 2: .lastSeen
    default: .none
    }
  }

  private func draw(_ client: Int, _ index: Int, _ clients: Int, _ interval: Int64)
    -> PlannedOperation
  {
    var random = SimulationRandom(seed: seed, name: "operation/\(client)/\(index)")
    let jitter = interval > 1 ? random.within(0...interval - 1) : 0
    let due = Duration.nanoseconds(Int64(index) * interval + jitter)
    let number = index * clients + client
    if let kind = largeKinds[number] {
      return PlannedOperation(client: client, number: number, due: due, kind: kind)
    }
    let kind: PlannedOperation.Kind
    var lot = random.below(1000)
    // In a lull one of those that only read.
    if shape.lull?.covers(due) == true { lot = lot % 2 == 0 ? 394 + lot % 266 : 690 + lot % 60 }
    if shape.churns {
      switch random.below(10) {
      case 0: lot = 999
      case 1, 2: lot = 750 + lot % 80
      default: break
      }
    }
    switch lot {
    case 0..<310:
      kind = .put(put(client, index, &random))
    case 310..<340:
      kind = .multipart(multipart(client, index, &random))
    case 340..<365:
      var put = put(client, index, &random)
      put.failsAt = UInt64(random.below(Int(put.content.byteCount) + 1))
      kind = .put(put)
    case 365..<390:
      var put = put(client, index, &random)
      put.longestPause = .milliseconds(random.below(80))
      kind = .abandonedPut(put, after: .milliseconds(random.below(300)))
    case 390..<394:
      var put = put(client, index, &random)
      put.longestPause = .milliseconds(random.below(80))
      kind = .lastPut(put, killAfter: .milliseconds(random.below(300)))
    case 394..<570:
      kind = .get(
        name(&random), part: nil, isOrdered: random.chance(1, in: 2),
        isLoose: random.chance(1, in: 4))
    case 570..<660:
      let first = UInt64(random.below(1_000_000))
      let count = Self.spread(1, 1_000_000 - first, &random)
      kind = .get(name(&random), part: first..<first + count, isOrdered: random.chance(1, in: 2))
    case 660..<690: kind = .versions(versions(client, index, &random))
    case 690..<750: kind = .stat(name(&random))
    case 750..<830: kind = .delete(name(&random), condition(&random))
    case 830..<885, 885..<925:
      let source = name(&random)
      let target = random.chance(1, in: 20) ? source : name(&random)
      let moves = random.chance(2, in: 5)
      kind = .copy(
        source: source, target: target,
        ownTag: random.chance(1, in: 2) ? "copy \(client)/\(index)" : nil, moves: moves,
        condition(&random))
    case 925..<975:
      let bucket =
        random.chance(1, in: 12)
        ? passingBuckets[random.below(2)] : lastingBuckets[random.below(lastingBuckets.count)]
      let prefixes = ["", "", "", "d1/", "a", "a/", "k", "ü"]
      let limits: [UInt32] = [1, 2, 3, 7, 1000, 1000]
      kind = .list(
        bucket: bucket, prefix: prefixes[random.below(prefixes.count)],
        delimiter: random.chance(1, in: 3) ? "/" : "", limit: limits[random.below(limits.count)])
    case 975..<981: kind = .createBucket(passingBuckets[random.below(2)])
    case 981..<986: kind = .removeBucket(passingBuckets[random.below(2)])
    case 986..<989: kind = .listBuckets
    default:
      kind = .changeWriter(
        finishes: shape.churns ? random.chance(15, in: 16) : random.chance(3, in: 4))
    }
    return PlannedOperation(client: client, number: number, due: due, kind: kind)
  }
}
