/// How often which number of transfers was under way, or handed over at once, by powers of two.
package struct DepthMap: Sendable {
  package private(set) var counts = [UInt64](repeating: 0, count: 7)

  package init() {}

  /// fio's steps for depths: 1, 2-3, 4-7, ... 64 and more.
  @inline(__always)
  package mutating func noteDepth(_ depth: Int) {
    counts[depth < 1 ? 0 : min(6, Int.bitWidth - 1 - depth.leadingZeroBitCount)] &+= 1
  }

  package mutating func merge(_ other: DepthMap) {
    for index in counts.indices { counts[index] += other.counts[index] }
  }

  /// Each step's share of `total`, in percent; what there is but hardly shows counts as 0.1, as in fio.
  package func shares(of total: UInt64) -> [Double] {
    counts.map { count in
      guard count > 0, total > 0 else { return 0 }
      return max(0.1, 100 * Double(count) / Double(total))
    }
  }

  package static let names = ["1", "2", "4", "8", "16", "32", ">=64"]
  package static let batchNames = ["0", "4", "8", "16", "32", "64", ">=64"]
}
