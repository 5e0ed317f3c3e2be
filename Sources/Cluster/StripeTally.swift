package import Wire

/// Which stripes of a shard are there, in two numbers: two tallies are equal when the stripes are the same, and else
/// not, but for a chance in 2^64. So what devices hold can be compared with what directories name without sending
/// lists. The order does not matter.
package struct StripeTally: Hashable, Sendable, WireValue {
  package private(set) var count: UInt64 = 0
  /// Of the stripes' numbers, mixed, modulo 2^64.
  private var sum: UInt64 = 0

  package init() {}

  package init(_ stripes: some Sequence<UInt64>) {
    for stripe in stripes { add(stripe) }
  }

  /// - Parameter stripe: one that was not added before.
  package mutating func add(_ stripe: UInt64) {
    count += 1
    sum &+= mix(stripe, 0, 0)
  }

  package func encode(into writer: inout ByteWriter) {
    writer.varint(count)
    writer.fixed(sum)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    count = try reader.varint()
    sum = try reader.fixed()
  }
}
