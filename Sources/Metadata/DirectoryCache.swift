internal import Cluster
internal import Coding
internal import Messages

/// A registered stripe with its chunks laid out for look-up by ordinal.
final class DirectoryStripe {
  struct Chunk {
    var fingerprint: Fingerprint
    var byteCount: UInt32
    /// In `groups`.
    var groupIndex: Int32
    /// In the group's plain bytes.
    var offset: UInt32
  }
  struct Group {
    var offset: UInt32
    var storedByteCount: UInt32
    var codec: Codec
    var plainByteCount: UInt32
  }
  let number: UInt64
  let layout: StripeLayout
  let firstOrdinal: UInt64
  let groups: [Group]
  let chunks: [Chunk]

  init(_ record: StripeRecord) {
    number = record.stripe
    layout = record.layout
    firstOrdinal = record.firstOrdinal
    groups = record.groups.map {
      Group(
        offset: $0.offset, storedByteCount: $0.storedByteCount, codec: $0.codec,
        plainByteCount: UInt32(truncatingIfNeeded: $0.plainByteCount))
    }
    var chunks: [Chunk] = []
    chunks.reserveCapacity(record.chunkCount)
    for (index, group) in record.groups.enumerated() {
      var offset: UInt32 = 0
      for chunk in group.chunks {
        chunks.append(
          Chunk(
            fingerprint: chunk.fingerprint, byteCount: chunk.byteCount,
            groupIndex: Int32(truncatingIfNeeded: index), offset: offset))
        offset &+= chunk.byteCount
      }
    }
    self.chunks = chunks
  }
  var endOrdinal: UInt64 { firstOrdinal + UInt64(chunks.count) }

  /// The groups that hold these of its ordinals, in `groups`.
  func groupIndices(of ordinals: Range<UInt64>) -> ClosedRange<Int> {
    let first = chunks[Int(ordinals.lowerBound - firstOrdinal)].groupIndex
    let last = chunks[Int(ordinals.upperBound - 1 - firstOrdinal)].groupIndex
    return Int(first)...Int(last)
  }
}

/// Finds the stripe of an ordinal; keeps the latest ones decoded.
// Confined to the state machine that owns it.
final class DirectoryCache {
  private let view: StoreView
  /// For each container its decoded stripes, ascending.
  private var stripes: [ContainerID: [DirectoryStripe]] = [:]
  /// In the order they came, for eviction.
  private var arrivals: [(container: ContainerID, ordinal: UInt64)] = []
  private var firstArrival = 0
  private var chunkCount = 0
  /// About 4 MiB at a group for each chunk; 4 GiB of data that was written or read lately.
  private static let chunkLimit = 1 << 16

  init(_ view: StoreView) { self.view = view }

  /// The stripe that holds `ordinal`; nil when it is not registered.
  func stripe(_ container: ContainerID, covering ordinal: UInt64) throws(StoreError)
    -> DirectoryStripe?
  {
    guard let stripe = try stripe(container, atOrBefore: ordinal), ordinal < stripe.endOrdinal
    else { return nil }
    return stripe
  }

  /// The stripe with the highest first ordinal not above `ordinal`.
  func stripe(_ container: ContainerID, atOrBefore ordinal: UInt64) throws(StoreError)
    -> DirectoryStripe?
  {
    if let known = stripes[container] {
      let index = Self.index(in: known, after: ordinal)
      // Without covering it another, unknown, stripe may lie between.
      if index > 0, ordinal < known[index - 1].endOrdinal { return known[index - 1] }
    }
    guard ordinal < 1 << 63 else { return nil }
    let range = KeyRange(
      from: Key.of(.directory, container.raw), below: Key.of(.directory, container.raw, ordinal + 1)
    )
    guard let entry = try view.scan(range, limit: 1, backward: true).first else { return nil }
    let stripe = DirectoryStripe(try StripeRecord(stored: entry.value))
    guard try Key.number(in: entry.key, at: 9) == stripe.firstOrdinal else {
      throw .corrupt("a stripe of \(container) under another's key")
    }
    insert(stripe, of: container)
    return stripe
  }

  /// How many of `known` start at or before `ordinal`.
  private static func index(in known: [DirectoryStripe], after ordinal: UInt64) -> Int {
    var low = 0
    var high = known.count
    while low < high {
      let middle = (low + high) / 2
      if known[middle].firstOrdinal <= ordinal { low = middle + 1 } else { high = middle }
    }
    return low
  }

  func insert(_ stripe: DirectoryStripe, of container: ContainerID) {
    let index = Self.index(in: stripes[container] ?? [], after: stripe.firstOrdinal)
    if index > 0, let before = stripes[container]?[index - 1],
      before.firstOrdinal == stripe.firstOrdinal
    {
      return
    }
    stripes[container, default: []].insert(stripe, at: index)
    arrivals.append((container, stripe.firstOrdinal))
    chunkCount += stripe.chunks.count
    while chunkCount > Self.chunkLimit && arrivals.count - firstArrival > 1 { evict() }
  }

  private func evict() {
    let oldest = arrivals[firstArrival]
    firstArrival += 1
    if firstArrival > 1024 && firstArrival * 2 > arrivals.count {
      arrivals.removeFirst(firstArrival)
      firstArrival = 0
    }
    guard let known = stripes[oldest.container] else { return }
    let index = Self.index(in: known, after: oldest.ordinal)
    guard index > 0, known[index - 1].firstOrdinal == oldest.ordinal else { return }
    chunkCount -= known[index - 1].chunks.count
    if known.count == 1 {
      stripes[oldest.container] = nil
    } else {
      stripes[oldest.container]?.remove(at: index - 1)
    }
  }

  /// The container's directory is being emptied.
  func remove(_ container: ContainerID) {
    guard let known = stripes.removeValue(forKey: container) else { return }
    for stripe in known { chunkCount -= stripe.chunks.count }
    arrivals.removeFirst(firstArrival)
    firstArrival = 0
    arrivals.removeAll { $0.container == container }
  }

  func discard() {
    stripes.removeAll()
    arrivals.removeAll()
    firstArrival = 0
    chunkCount = 0
  }
}
