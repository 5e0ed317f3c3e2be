/// A set of integers kept as sorted ranges that do not touch.
struct IntegerRanges {
  private(set) var ranges: [Range<Int>] = []
  private(set) var count = 0

  /// The first range that ends at or after `bound`.
  private func firstIndex(endingAtOrAfter bound: Int) -> Int {
    var low = 0
    var high = ranges.count
    while low < high {
      let middle = (low + high) / 2
      if ranges[middle].upperBound < bound { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// How many integers of `range` are in the set.
  func count(in range: Range<Int>) -> Int {
    var found = 0
    var index = firstIndex(endingAtOrAfter: range.lowerBound)
    while index < ranges.count, ranges[index].lowerBound < range.upperBound {
      found += ranges[index].clamped(to: range).count
      index += 1
    }
    return found
  }

  mutating func insert(_ range: Range<Int>) {
    guard !range.isEmpty else { return }
    let first = firstIndex(endingAtOrAfter: range.lowerBound)
    var joined = range
    var last = first
    while last < ranges.count, ranges[last].lowerBound <= range.upperBound {
      joined =
        min(
          joined.lowerBound, ranges[last].lowerBound)..<max(
          joined.upperBound, ranges[last].upperBound)
      count -= ranges[last].count
      last += 1
    }
    count += joined.count
    ranges.replaceSubrange(first..<last, with: CollectionOfOne(joined))
  }

  mutating func remove(_ range: Range<Int>) {
    guard !range.isEmpty else { return }
    let first = firstIndex(endingAtOrAfter: range.lowerBound)
    var last = first
    var rest: [Range<Int>] = []
    while last < ranges.count, ranges[last].lowerBound < range.upperBound {
      let old = ranges[last]
      count -= old.count
      if old.lowerBound < range.lowerBound {
        let left = old.lowerBound..<min(old.upperBound, range.lowerBound)
        rest.append(left)
        count += left.count
      }
      if old.upperBound > range.upperBound {
        let right = max(range.upperBound, old.lowerBound)..<old.upperBound
        rest.append(right)
        count += right.count
      }
      last += 1
    }
    ranges.replaceSubrange(first..<last, with: rest)
  }
}
