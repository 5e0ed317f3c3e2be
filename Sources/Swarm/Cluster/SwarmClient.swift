package import DataPath
package import Simulation
internal import Stripes
package import Wire

/// What a client process has.
package final class SwarmClient: @unchecked Sendable {
  // Loop-confined.
  package let name: String
  package let driver: SimulatedProcess
  package let wire: WireClient
  package let coordinator: CoordinatorClient
  package let access: ClusterAccess

  init(_ cluster: SimulatedCluster, _ name: String) {
    self.name = name
    driver = cluster.world.process(name, cluster.scenario.clock(name, cluster.world))
    wire = WireClient(driver: driver, key: SimulatedCluster.key, name: name, security: .never)
    coordinator = CoordinatorClient(
      driver: driver, wire: wire, addresses: cluster.coordinatorAddresses, name: name)
    let map = MapCache(driver: driver, coordinator: coordinator)
    access = ClusterAccess(
      driver: driver, coordinator: coordinator, map: map,
      stripes: StripeIO(
        driver: driver, client: wire, directory: map,
        options: StripeIO.Options(policy: cluster.scenario.readPolicy)),
      readBudgetByteCount: cluster.scenario.readBudgetByteCount)
  }

  /// Hands its session back and ends.
  package func close() async {
    await coordinator.close()
    await wire.close()
    driver.exit()
  }
}
