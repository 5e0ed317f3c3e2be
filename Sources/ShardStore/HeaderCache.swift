internal import Ring

/// The checked headers of blocks read lately, so that a range read needs no header beside it. Loop-confined.
struct HeaderCache: Sendable {
  private struct Place: Hashable {
    var volume: UInt32
    var unit: UInt32
  }
  private var headers: [Place: RecordHeader] = [:]
  /// Places in order of arrival, a ring.
  private var ring: [Place] = []
  private var next = 0
  private let limit: Int

  /// - Parameter limit: headers kept; each takes up to 1.3 KiB.
  init(limit: Int) { self.limit = limit }

  func header(volume: UInt32, unit: UInt32) -> RecordHeader? {
    headers[Place(volume: volume, unit: unit)]
  }

  mutating func insert(_ header: RecordHeader, volume: UInt32, unit: UInt32) {
    let place = Place(volume: volume, unit: unit)
    if headers.updateValue(header, forKey: place) != nil { return }
    if ring.count < limit {
      ring.append(place)
    } else {
      headers[ring[next]] = nil
      ring[next] = place
      next = (next + 1) % limit
    }
  }

  mutating func remove(volume: UInt32, unit: UInt32) {
    // The ring keeps the place; when its turn comes there is nothing to drop, or a newer header is dropped early.
    headers[Place(volume: volume, unit: unit)] = nil
  }
}
