import Cluster
import Messages

/// What fenced devices say of one link, and what follows from it. Pure.
///
/// A stripe was acknowledged only when every device had it, and a fenced device takes nothing more from
/// the old leader. So one device that has lost nothing shows every stripe that was ever acknowledged.
struct LinkEvidence: Sendable {
  /// By shard index.
  private(set) var listings: [Int: ShardListing] = [:]

  mutating func add(_ listing: ShardListing, shard: Int) { listings[shard] = listing }

  /// Stripes below this number were surely acknowledged; at least stripe 0, for a link is named only
  /// when every device has it.
  var acknowledged: UInt64 {
    max(1, listings.values.flatMap(\.blocks).map(\.acknowledged).max() ?? 1)
  }

  /// Shards that have everything that was surely acknowledged. Others have lost something and are no
  /// evidence of where the link ends.
  var counting: [Int] {
    let acknowledged = acknowledged
    return listings.keys.sorted().filter { shard in
      Self.run(listings[shard]!.blocks.map(\.stripe)) >= acknowledged
    }
  }

  /// Whether the end of the link is known.
  var isConclusive: Bool { !counting.isEmpty }

  /// The longest run of stripes from 0 that all answers form together.
  var run: UInt64 {
    Self.run(Set(listings.values.flatMap { $0.blocks.map(\.stripe) }).sorted())
  }

  /// Stripes from this number on were surely not acknowledged: a device that lost nothing lacks the first.
  var surelyUnacknowledged: UInt64 {
    counting.map { Self.run(listings[$0]!.blocks.map(\.stripe)) }.min() ?? .max
  }

  /// Of every stripe that some device lists.
  var layouts: [UInt64: StripeLayout] {
    var layouts: [UInt64: StripeLayout] = [:]
    for shard in listings.keys.sorted() {
      for block in listings[shard]!.blocks { layouts[block.stripe] = block.layout }
    }
    return layouts
  }

  /// How many numbers follow each other from 0.
  ///
  /// - Parameter stripes: ascending, each once.
  private static func run(_ stripes: [UInt64]) -> UInt64 {
    var next: UInt64 = 0
    for stripe in stripes {
      guard stripe == next else { break }
      next += 1
    }
    return next
  }
}
