internal import CRocks

/// Whether `a` comes before `b`, byte by byte.
func keyPrecedes(_ a: [UInt8], _ b: [UInt8]) -> Bool { keyOrder(a, b) < 0 }

/// Negative, zero or positive as `a` comes before, is, or comes after `b`.
func keyOrder(_ a: [UInt8], _ b: [UInt8]) -> Int32 {
  a.withUnsafeBytes { left in
    b.withUnsafeBytes { right in
      cairn_compare_keys(left.baseAddress, left.count, right.baseAddress, right.count)
    }
  }
}

/// A map sorted by key: leaves of at most 128 entries in order. A copy shares its leaves with the
/// original until either is changed.
struct SortedMap<Value> {
  private struct Leaf {
    var keys: [[UInt8]]
    var values: [Value]
  }
  private static var leafLimit: Int { 128 }

  /// None is empty.
  private var leaves: [Leaf] = []
  private(set) var count = 0

  var isEmpty: Bool { count == 0 }

  /// The last leaf that starts at or before `key`, or the first.
  private func leafIndex(_ key: [UInt8]) -> Int {
    var low = 0
    var high = leaves.count
    while high - low > 1 {
      let middle = (low + high) / 2
      if keyOrder(leaves[middle].keys[0], key) <= 0 { low = middle } else { high = middle }
    }
    return low
  }

  /// Where in `leaf` the first key at or after `key` is, and whether it is `key`.
  private func place(_ key: [UInt8], in leaf: Int) -> (index: Int, isThere: Bool) {
    var low = 0
    var high = leaves[leaf].keys.count
    while low < high {
      let middle = (low + high) / 2
      let order = keyOrder(leaves[leaf].keys[middle], key)
      if order == 0 { return (middle, true) }
      if order < 0 { low = middle + 1 } else { high = middle }
    }
    return (low, false)
  }

  subscript(key: [UInt8]) -> Value? {
    guard !leaves.isEmpty else { return nil }
    let leaf = leafIndex(key)
    let (index, isThere) = place(key, in: leaf)
    return isThere ? leaves[leaf].values[index] : nil
  }

  mutating func set(_ key: [UInt8], _ value: Value) {
    guard !leaves.isEmpty else {
      leaves = [Leaf(keys: [key], values: [value])]
      count = 1
      return
    }
    let leaf = leafIndex(key)
    let (index, isThere) = place(key, in: leaf)
    if isThere {
      leaves[leaf].values[index] = value
      return
    }
    leaves[leaf].keys.insert(key, at: index)
    leaves[leaf].values.insert(value, at: index)
    count += 1
    let size = leaves[leaf].keys.count
    guard size > Self.leafLimit else { return }
    // Keys often come in ascending order: then the left leaf stays nearly full.
    let split = index == size - 1 ? size - 1 : size / 2
    let right = Leaf(
      keys: Array(leaves[leaf].keys[split...]), values: Array(leaves[leaf].values[split...]))
    leaves[leaf].keys.removeSubrange(split...)
    leaves[leaf].values.removeSubrange(split...)
    leaves.insert(right, at: leaf + 1)
  }

  mutating func remove(_ key: [UInt8]) {
    guard !leaves.isEmpty else { return }
    let leaf = leafIndex(key)
    let (index, isThere) = place(key, in: leaf)
    guard isThere else { return }
    leaves[leaf].keys.remove(at: index)
    leaves[leaf].values.remove(at: index)
    count -= 1
    if leaves[leaf].keys.isEmpty { leaves.remove(at: leaf) }
  }

  mutating func removeAll() {
    leaves.removeAll(keepingCapacity: true)
    count = 0
  }

  /// Entries of `range` in order, or in reverse order from its end, until `visit` returns false.
  func visit(_ range: KeyRange, backward: Bool = false, _ visit: ([UInt8], Value) -> Bool) {
    guard !leaves.isEmpty else { return }
    if !backward {
      var leaf = leafIndex(range.lower)
      var index = place(range.lower, in: leaf).index
      while leaf < leaves.count {
        while index < leaves[leaf].keys.count {
          let key = leaves[leaf].keys[index]
          if let upper = range.upper, !keyPrecedes(key, upper) { return }
          guard visit(key, leaves[leaf].values[index]) else { return }
          index += 1
        }
        leaf += 1
        index = 0
      }
    } else {
      var leaf = leaves.count - 1
      var index = leaves[leaf].keys.count - 1
      if let upper = range.upper {
        leaf = leafIndex(upper)
        index = place(upper, in: leaf).index - 1
      }
      while true {
        while index >= 0 {
          let key = leaves[leaf].keys[index]
          if keyPrecedes(key, range.lower) { return }
          guard visit(key, leaves[leaf].values[index]) else { return }
          index -= 1
        }
        leaf -= 1
        guard leaf >= 0 else { return }
        index = leaves[leaf].keys.count - 1
      }
    }
  }
}
