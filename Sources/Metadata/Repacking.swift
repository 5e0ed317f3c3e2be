internal import Cluster
package import Coding
package import Messages

/// What a container's next generation holds when its groups are packed anew: made from its directory and a scheme alone, so
/// that the leader, who tells a node what to write, and the state machine, which swaps the directories, come to the same.
///
/// Groups stay as they are, byte for byte, and in their order; ordinals never change. One after the other they fill stripes
/// that are numbered from 0, each as far as the scheme lets it.
package struct Repacking: Sendable {
  /// The next directory, ascending by ordinal.
  package let rows: [StripeRecord]
  /// Ascending by number.
  package let stripes: [RepackedStripe]

  package var byteCount: Int { stripes.reduce(0) { $0 + $1.layout.byteCount } }

  /// Nil when there is no group, or one that no stripe of the scheme can hold.
  ///
  /// - Parameter rows: of the directory, ascending by ordinal.
  package init?(_ rows: [StripeRecord], scheme: Scheme) {
    let capacity = StripeLayout.capacity(of: scheme)
    var open: [Placed] = []
    var byteCount = 0
    var next: [StripeRecord] = []
    var stripes: [RepackedStripe] = []
    func close() {
      let layout = StripeLayout.smallest(for: byteCount, scheme: scheme)
      let number = UInt64(stripes.count)
      next += Self.rows(open.map { ($0.firstOrdinal, $0.group) }, of: number, layout)
      stripes.append(
        RepackedStripe(stripe: number, layout: layout, parts: Self.parts(open)))
      open = []
      byteCount = 0
    }
    for row in rows {
      var ordinal = row.firstOrdinal
      for var group in row.groups {
        let size = Int(group.storedByteCount)
        guard size > 0, size <= capacity else { return nil }
        if byteCount + size > capacity { close() }
        let start = Int(group.offset)
        group.offset = UInt32(byteCount)
        open.append(
          Placed(
            group: group, firstOrdinal: ordinal, stripe: row.stripe, range: start..<start + size))
        byteCount += size
        ordinal += UInt64(group.chunks.count)
      }
    }
    guard !open.isEmpty else { return nil }
    close()
    self.rows = next
    self.stripes = stripes
  }

  /// A group in the stripe that is being filled, and where it is now.
  private struct Placed {
    var group: StripeRecord.Group
    var firstOrdinal: UInt64
    var stripe: UInt64
    var range: Range<Int>
  }

  /// One row for each run of ordinals without a gap.
  private static func rows(
    _ groups: [(firstOrdinal: UInt64, group: StripeRecord.Group)], of stripe: UInt64,
    _ layout: StripeLayout
  ) -> [StripeRecord] {
    var rows: [StripeRecord] = []
    var end: UInt64 = 0
    for (ordinal, group) in groups {
      if rows.isEmpty || ordinal != end {
        rows.append(
          StripeRecord(stripe: stripe, layout: layout, firstOrdinal: ordinal, groups: [group]))
      } else {
        rows[rows.count - 1].groups.append(group)
      }
      end = ordinal + UInt64(group.chunks.count)
    }
    return rows
  }

  /// As few pieces as possible that together are the groups' bytes.
  private static func parts(_ groups: [Placed]) -> [RepackedStripe.Part] {
    var parts: [RepackedStripe.Part] = []
    for placed in groups {
      if let last = parts.last, last.stripe == placed.stripe,
        last.range.upperBound == placed.range.lowerBound
      {
        parts[parts.count - 1].range = last.range.lowerBound..<placed.range.upperBound
      } else {
        parts.append(RepackedStripe.Part(stripe: placed.stripe, range: placed.range))
      }
    }
    return parts
  }

  /// The directory without the groups in which no ordinal is alive.
  ///
  /// - Parameters:
  ///   - rows: ascending by ordinal.
  ///   - alive: ascending, separate.
  package static func living(
    _ rows: [StripeRecord], alive: [NumberRun]
  ) -> (rows: [StripeRecord], dead: [(firstOrdinal: UInt64, group: StripeRecord.Group)]) {
    var living: [StripeRecord] = []
    var dead: [(firstOrdinal: UInt64, group: StripeRecord.Group)] = []
    var next = 0
    for row in rows {
      var kept: [(firstOrdinal: UInt64, group: StripeRecord.Group)] = []
      var ordinal = row.firstOrdinal
      for group in row.groups {
        let end = ordinal + UInt64(group.chunks.count)
        while next < alive.count, alive[next].end <= ordinal { next += 1 }
        if next < alive.count, alive[next].first < end {
          kept.append((ordinal, group))
        } else {
          dead.append((ordinal, group))
        }
        ordinal = end
      }
      living += Self.rows(kept, of: row.stripe, row.layout)
    }
    return (living, dead)
  }
}
