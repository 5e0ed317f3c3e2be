import Cluster

/// Devices that did not answer lately. They are asked last for a while, so that one that is cut off costs a wait
/// once and not in each read until its node is marked down.
struct Suspects {
  private var known: [DeviceID: (until: Duration, pause: Duration)] = [:]

  private static let shortest = Duration.seconds(1)
  private static let longest = Duration.seconds(16)

  func contains(_ device: DeviceID, now: Duration) -> Bool {
    guard let entry = known[device] else { return false }
    return now < entry.until
  }

  mutating func failed(_ device: DeviceID, now: Duration) {
    let last = known[device]
    // Reads that were under way together count once.
    if let last, now < last.until { return }
    let pause = min(last.map { $0.pause * 2 } ?? Self.shortest, Self.longest)
    known[device] = (now + pause, pause)
  }

  mutating func answered(_ device: DeviceID) {
    if !known.isEmpty { known[device] = nil }
  }
}
