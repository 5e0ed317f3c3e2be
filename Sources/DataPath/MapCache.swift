package import Cluster
package import Messages
package import Ring
import Stripes

/// The cluster map as the client last saw it. Loop-confined.
///
/// It is fetched when first needed, when an answer names a newer epoch, when a device is not in it, and anew after a few
/// seconds of use, so that nodes that went down or came back are known.
package final class MapCache: DeviceDirectory, @unchecked Sendable {
  // Loop-confined.
  private struct Place {
    var node: NodeID
    var name: String
    var address: SocketAddress
    var domain: [String]
  }

  private let driver: any Driver
  private let coordinator: CoordinatorClient
  private var places: [DeviceID: Place] = [:]
  private var down: Set<NodeID> = []
  private var degraded: Set<DeviceID> = []
  private var epoch: UInt64 = 0
  private var fetchedAt: Duration?
  private let fetching: SharedWork<Void>
  /// How fresh the map is to be, and where objects are, for those who read.
  package var level = ReadLevel.strong

  private static let lifetime = Duration.seconds(2)

  package init(driver: any Driver, coordinator: CoordinatorClient) {
    self.driver = driver
    self.coordinator = coordinator
    fetching = SharedWork(OwnedTasks(driver), "fetch map")
  }

  package func address(of device: DeviceID) -> SocketAddress? { places[device]?.address }
  package func isDown(_ device: DeviceID) -> Bool {
    places[device].map { down.contains($0.node) } ?? true
  }
  package func isSlow(_ device: DeviceID) -> Bool { degraded.contains(device) }
  package func place(of device: DeviceID) -> [String] {
    places[device].map { $0.domain + [$0.name] } ?? []
  }
  package func nodeName(of device: DeviceID) -> String {
    places[device]?.name ?? device.description
  }

  /// Makes sure that the map is no older than `epoch` and knows `devices`, and is fresh.
  package func prepare(epoch: UInt64, devices: some Sequence<DeviceID>) async throws(DataPathError)
  {
    func isKnown() -> Bool { self.epoch >= epoch && devices.allSatisfy { places[$0] != nil } }
    if let fetchedAt, driver.now - fetchedAt < Self.lifetime, isKnown() { return }
    // A fetch that began before this call may have been answered before there was what is asked for.
    let isJoining = fetching.isUnderWay
    try await refresh()
    if isJoining && !isKnown() { try await refresh() }
  }

  /// Fetches the map; concurrent callers share one fetch, also one that began before.
  package func refresh() async throws(DataPathError) {
    try await fetching.run { [self] () async throws(DataPathError) in
      let answer = try await coordinator.query(GetMap(level: level), at: level)
      places = [:]
      for node in answer.map.nodes {
        for device in node.devices {
          places[device.id] = Place(
            node: node.id, name: node.name, address: node.address, domain: node.domain)
        }
      }
      down = Set(answer.down)
      degraded = Set(answer.degraded)
      epoch = answer.map.epoch
      fetchedAt = driver.now
    }
  }
}
