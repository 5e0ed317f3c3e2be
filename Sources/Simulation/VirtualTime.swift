/// The world counts time in nanoseconds since its start, as Int64: 292 years, and cheaper than Duration.
typealias Instant = Int64

extension Duration {
  /// Whole nanoseconds; the ends of Int64 stand for what lies beyond.
  package var saturatedNanoseconds: Int64 {
    let (seconds, attoseconds) = components
    let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    if overflow { return seconds < 0 ? .min : .max }
    let (sum, carried) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
    if carried { return product < 0 ? .min : .max }
    return sum
  }
}

extension Int64 {
  func addingSaturated(_ other: Int64) -> Int64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? (other < 0 ? .min : .max) : sum
  }
}
