/// Which shards to move so that all devices are about equally full. Pure.
///
/// Each move takes a shard from the device that is the furthest above its due to the one that is the furthest below among those
/// that may have it, as long as both come closer to it. So no byte moves twice, and about as many move as lie above the dues.
package struct Balance: Sendable {
  package let map: ClusterMap
  private let domains: [FailureDomain]
  private let domainOf: [DeviceID: FailureDomain]
  /// Bytes on each device that takes part, as they will be after the moves so far.
  package private(set) var used: [DeviceID: UInt64]
  private let capacity: [DeviceID: UInt64]
  /// The share of its capacity that each device would have in use.
  package let ideal: Double

  /// A device that is nearer to its due than this part of it is left alone.
  package static let tolerance = 0.03

  private let leastExcess: Double

  /// - Parameters:
  ///   - fill: used and usable bytes of devices that are there; others take no part.
  ///   - leastExcess: bytes above its due with which a device is left alone in any case.
  package init(
    map: ClusterMap, fill: [DeviceID: (used: UInt64, capacity: UInt64)], leastExcess: UInt64
  ) {
    self.map = map
    self.leastExcess = Double(leastExcess)
    domains = map.failureDomains
    var domainOf: [DeviceID: FailureDomain] = [:]
    var used: [DeviceID: UInt64] = [:]
    var capacity: [DeviceID: UInt64] = [:]
    for domain in domains {
      for device in domain.devices {
        domainOf[device] = domain
        guard let (bytes, most) = fill[device], most > 0 else { continue }
        used[device] = bytes
        capacity[device] = most
      }
    }
    self.domainOf = domainOf
    self.used = used
    self.capacity = capacity
    let all = capacity.values.reduce(0) { $0 + Double($1) }
    ideal = all > 0 ? used.values.reduce(0) { $0 + Double($1) } / all : 0
  }

  /// What a device would have in use.
  private func due(_ device: DeviceID) -> Double { ideal * Double(capacity[device] ?? 0) }
  private func excess(_ device: DeviceID) -> Double {
    Double(used[device] ?? 0) - due(device)
  }

  /// Devices with more than their due, those the furthest above it first.
  package var sources: [DeviceID] {
    used.keys.filter { excess($0) > max(leastExcess, due($0) * Self.tolerance) }
      .sorted { (excess($0), $1) > (excess($1), $0) }
  }

  /// Takes a shard of a container from `source` to where it is wanted most.
  ///
  /// - Parameter devices: of the container, by shard.
  /// - Returns: where to; nil, with nothing changed, when there is no such place.
  package mutating func move(_ byteCount: UInt64, from source: DeviceID, of devices: [DeviceID])
    -> DeviceID?
  {
    guard let here = domainOf[source], byteCount > 0 else { return nil }
    let others = devices.filter { $0 != source }.compactMap { map.node(holding: $0) }
    let otherNodes = Set(others.map(\.id))
    let otherDomains = devices.filter { $0 != source }.compactMap { domainOf[$0] }
    let crowd = crowding(here, among: otherDomains)
    let size = Double(byteCount)
    // Both come closer to their dues.
    guard excess(source) > size / 2 else { return nil }
    let target = domains.filter { domain in
      guard map.nodes.count == 1 || domain.id == here.id || !otherNodes.contains(domain.node)
      else { return false }
      // The spread over racks gets no worse.
      return !crowd.lexicographicallyPrecedes(crowding(domain, among: otherDomains))
    }.flatMap(\.devices).filter {
      used[$0] != nil && !devices.contains($0) && excess($0) + size / 2 < 0
    }.min { (relative($0), $0) < (relative($1), $1) }
    guard let target else { return nil }
    used[source]! -= min(used[source]!, byteCount)
    used[target]! += byteCount
    return target
  }

  /// How full a device is beside its due.
  private func relative(_ device: DeviceID) -> Double {
    Double(used[device] ?? 0) / Double(max(1, capacity[device] ?? 1))
  }
}
