import Cluster

/// What a reader's own reads say of each device: how many are under way, and how long they take.
struct ReadHistory {
  private struct Entry {
    var underWay = 0
    /// A moving average, in microseconds.
    var took: Double?
    /// When it was last learned.
    var answeredAt: Duration = .zero
  }
  private var entries: [DeviceID: Entry] = [:]

  /// What was measured before that says nothing any more: a device that was slow then has another chance.
  private static let memory = Duration.seconds(5)

  mutating func began(_ device: DeviceID) { entries[device, default: Entry()].underWay += 1 }

  /// How a read ended.
  enum Ending {
    case answered
    /// Nobody waited any longer: it would have taken more.
    case givenUp
    /// By something that says nothing of the time.
    case failed
  }

  mutating func ended(_ device: DeviceID, _ ending: Ending, after took: Duration, now: Duration) {
    guard var entry = entries[device] else { return }
    entry.underWay -= 1
    let micros =
      Double(took.components.seconds) * 1e6 + Double(took.components.attoseconds) / 1e12
    let known = now - entry.answeredAt < Self.memory ? entry.took : nil
    switch ending {
    case .answered: entry.took = known.map { $0 + (micros - $0) / 8 } ?? micros
    case .givenUp: entry.took = max(known ?? 0, micros)
    case .failed: entry.took = known
    }
    if ending != .failed { entry.answeredAt = now }
    entries[device] = entry
  }

  func reads(of device: DeviceID, now: Duration) -> DeviceReads {
    guard let entry = entries[device] else { return DeviceReads() }
    let isFresh = now - entry.answeredAt < Self.memory
    return DeviceReads(underWay: entry.underWay, microseconds: isFresh ? entry.took : nil)
  }
}
