/// Which blocks of a stripe a reader prefers, where any `k` of them serve.
///
/// A policy says what a byte costs from each device; the reader takes the cheapest blocks by that. With copies any of them
/// will do. Of a whole stripe any `k` blocks are as many bytes as the data blocks, but have to be decoded. A part of one block
/// costs `k` times its bytes without it, so only what is much too dear is left out then. What is down, slow beside its like or
/// failed lately is asked last with all of them.
package enum ReadPolicy: Hashable, Sendable {
  /// Data blocks, and the first copy: nothing is decoded that need not be.
  case dataFirst
  /// All devices take turns.
  case roundRobin
  /// From whom this reader waits for the fewest answers.
  case leastLoaded
  /// Who answered this reader soonest lately.
  case responseTime
  /// Who shares most of this failure domain path with the reader, widest first, the node's name last.
  case nearest([String])

  /// Of all policies, as configurations have them.
  package static let names = [
    "data-first", "round-robin", "least-loaded", "response-time", "nearest",
  ]

  /// - Parameter location: where the reader is; of use to `nearest` alone.
  /// - Returns: nil for a name that is none.
  package init?(named name: String, location: [String]) {
    switch name {
    case "data-first": self = .dataFirst
    case "round-robin": self = .roundRobin
    case "least-loaded": self = .leastLoaded
    case "response-time": self = .responseTime
    case "nearest": self = .nearest(location)
    default: return nil
    }
  }

  /// What a byte costs from each of a stripe's devices, as multiples of what it does at best; nil when none is preferred.
  ///
  /// - Parameters:
  ///   - places: failure domain paths with the node's name last, by shard index.
  ///   - reads: what the reader knows of the devices, by shard index.
  ///   - turn: counts up from read to read.
  package func costs(
    places: @autoclosure () -> [[String]], reads: @autoclosure () -> [DeviceReads], turn: UInt64,
    k: Int
  ) -> [Double]? {
    switch self {
    case .dataFirst: return nil
    case .roundRobin:
      let count = places().count
      return (0..<count).map { index in
        (index + count - Int(turn % UInt64(count))) % count < k ? 1 : 2
      }
    case .leastLoaded: return reads().map { Double(1 + $0.underWay) }
    case .responseTime:
      let reads = reads()
      let known = reads.compactMap(\.microseconds).sorted()
      guard let least = known.first else { return nil }
      // One of which nothing is known is asked, so that something is.
      return reads.map { max(1, ($0.microseconds ?? least) / max(1, least)) }
    case .nearest(let location):
      return places().map { place in
        var common = 0
        while common < min(place.count, location.count), place[common] == location[common] {
          common += 1
        }
        return Double(1 << min(8, location.count - common))
      }
    }
  }
}

/// What a reader knows of a device.
package struct DeviceReads: Hashable, Sendable {
  /// Reads whose answers it waits for.
  package var underWay: Int
  /// How long one took lately; nil when none is recent.
  package var microseconds: Double?

  package init(underWay: Int = 0, microseconds: Double? = nil) {
    self.underWay = underWay
    self.microseconds = microseconds
  }
}
