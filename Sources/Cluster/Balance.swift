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
  /// The share of its capacity that each device would have in use, by failure domain: the same everywhere, but where a domain
  /// would need more than one shard of a container for it.
  package let ideals: [UInt64: Double]

  /// A device that is nearer to its due than this part of it is left alone.
  package static let tolerance = 0.03

  private let leastExcess: Double

  /// - Parameters:
  ///   - fill: used and usable bytes of devices that are there; others take no part.
  ///   - width: shards of a container, as most have it.
  ///   - leastExcess: bytes above its due with which a device is left alone in any case.
  package init(
    map: ClusterMap, fill: [DeviceID: (used: UInt64, capacity: UInt64)], width: Int,
    leastExcess: UInt64
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
    ideals = Self.ideals(domains, used, capacity, width)
  }

  private static func ideals(
    _ domains: [FailureDomain], _ used: [DeviceID: UInt64], _ capacity: [DeviceID: UInt64],
    _ width: Int
  ) -> [UInt64: Double] {
    var left = domains.reduce(0.0) { sum, domain in
      domain.devices.reduce(sum) { $0 + Double(used[$1] ?? 0) }
    }
    let most = left / Double(max(1, width))
    var sizes = domains.map { domain in
      (id: domain.id, size: domain.devices.reduce(0.0) { $0 + Double(capacity[$1] ?? 0) })
    }.filter { $0.size > 0 }
    var ideals: [UInt64: Double] = [:]
    // Those that cannot take their part leave more to the others.
    while true {
      let all = sizes.reduce(0.0) { $0 + $1.size }
      guard all > 0 else { return ideals }
      let ideal = left / all
      let small = sizes.filter { ideal * $0.size > most }
      if small.isEmpty {
        for (id, _) in sizes { ideals[id] = ideal }
        return ideals
      }
      for (id, size) in small {
        ideals[id] = most / size
        left -= most
      }
      sizes.removeAll { ideal * $0.size > most }
    }
  }

  /// What a device would have in use.
  package func due(_ device: DeviceID) -> Double {
    guard let domain = domainOf[device], let ideal = ideals[domain.id] else { return 0 }
    return ideal * Double(capacity[device] ?? 0)
  }
  private func excess(_ device: DeviceID) -> Double {
    Double(used[device] ?? 0) - due(device)
  }

  /// Devices with more than their due, those the furthest above it first; as long as one is above it by more than a little, or
  /// one as far below.
  package var sources: [DeviceID] {
    func isFar(_ difference: Double, _ device: DeviceID) -> Bool {
      difference > max(leastExcess, due(device) * Self.tolerance)
    }
    let isShort = used.keys.contains { isFar(-excess($0), $0) }
    return used.keys.filter { isShort ? excess($0) > 0 : isFar(excess($0), $0) }
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
    // Also those on devices that take nothing any more.
    let otherDomains = others.map {
      FailureDomain(id: $0.id.raw, path: $0.domain, node: $0.id, devices: [])
    }
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
    Double(used[device] ?? 0) / max(1, due(device))
  }
}
