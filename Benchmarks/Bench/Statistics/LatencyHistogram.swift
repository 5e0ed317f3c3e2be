/// Counts of nanoseconds in buckets whose width grows with the value: exact below 128, within 1/64 above, up to 2^34
/// and more in the last. Bucket for bucket fio's, so that the same times give the same percentiles.
///
/// - Source: fio's stat.c, `plat_val_to_idx` and `plat_idx_to_val`.
package struct LatencyHistogram: Sendable {
  static let bits = 6
  static let perGroup = 1 << bits
  static let groupCount = 29
  static let bucketCount = perGroup * groupCount

  private(set) var counts = [UInt64](repeating: 0, count: bucketCount)
  package private(set) var count: UInt64 = 0

  package init() {}

  /// - Parameter value: nanoseconds.
  @inline(__always)
  package mutating func add(_ value: UInt64) {
    counts[Self.bucket(of: value)] &+= 1
    count &+= 1
  }

  package mutating func merge(_ other: LatencyHistogram) {
    for index in counts.indices { counts[index] += other.counts[index] }
    count += other.count
  }

  package static func bucket(of value: UInt64) -> Int {
    let top = value == 0 ? 0 : 63 - value.leadingZeroBitCount
    if top <= bits { return Int(value) }
    let dropped = top - bits
    let base = (dropped + 1) << bits
    return min(base + Int((value >> UInt64(dropped)) & UInt64(perGroup - 1)), bucketCount - 1)
  }

  /// The value in the middle of a bucket.
  package static func value(of bucket: Int) -> UInt64 {
    if bucket < perGroup << 1 { return UInt64(bucket) }
    let dropped = (bucket >> bits) - 1
    let base = UInt64(1) << UInt64(dropped + bits)
    let place = Double(bucket % perGroup) + 0.5
    return base + UInt64(place * Double(UInt64(1) << UInt64(dropped)))
  }

  /// The values below or at which so many of a hundred lie; all zero when nothing was counted.
  ///
  /// - Parameter percentages: ascending.
  package func percentiles(_ percentages: [Double]) -> [UInt64] {
    guard count > 0 else { return percentages.map { _ in 0 } }
    var found: [UInt64] = []
    var sum: UInt64 = 0
    var bucket = 0
    for percentage in percentages {
      let wanted = percentage / 100 * Double(count)
      while Double(sum) < wanted && bucket < Self.bucketCount {
        sum += counts[bucket]
        bucket += 1
      }
      found.append(Self.value(of: max(0, bucket - 1)))
    }
    return found
  }

  /// How many of those counted lie above `bounds[i - 1]` and not above `bounds[i]`; the last is what lies above all.
  package func distribution(upTo bounds: [UInt64]) -> [UInt64] {
    var found = [UInt64](repeating: 0, count: bounds.count + 1)
    var place = 0
    for bucket in counts.indices where counts[bucket] > 0 {
      let value = Self.value(of: bucket)
      while place < bounds.count && value > bounds[place] { place += 1 }
      found[place] += counts[bucket]
    }
    return found
  }

  /// fio's own list.
  package static let reported: [Double] = [
    1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99,
  ]
}
