import Cluster
import Coding
import Coordinator
import DataPath
import Messages
import Node
package import Ring
import Service
import ShardStore
import Stripes
package import Wire

/// How to reach a cluster.
package struct ClusterReach: Sendable {
  package var coordinators: [SocketAddress]
  package var key: ClusterKey
  package var security: TransportSecurity
  package init(
    coordinators: [SocketAddress], key: ClusterKey, security: TransportSecurity = .automatic
  ) {
    self.coordinators = coordinators
    self.key = key
    self.security = security
  }
}

/// The cluster of a run: one that runs already, or one of bench's own, whose coordinator and nodes each have a loop of
/// this process.
struct BenchCluster: Sendable {
  let reach: ClusterReach
  /// Made for this run, and emptied and removed after it.
  let bucket: String
  private let daemons: [any Stoppable]

  /// - Parameter reach: of a cluster that runs; nil to start one in `directory`.
  static func open(
    _ running: ClusterReach?, _ options: JobOptions, directory: String, capacity: UInt64,
    on driver: any Driver
  ) async throws(BenchError) -> BenchCluster {
    let bucket = "cairn-bench-" + String(driver.random(), radix: 16)
    if let running {
      let cluster = BenchCluster(reach: running, bucket: bucket, daemons: [])
      try await cluster.makeBucket(on: driver)
      return cluster
    }
    guard let scheme = Scheme(options.scheme) else {
      throw .usage("scheme takes k+m: \(options.scheme)")
    }
    let nodeCount = options.nodeCount ?? scheme.width
    guard nodeCount >= scheme.width else {
      throw .usage("scheme \(options.scheme) needs \(scheme.width) nodes, not \(nodeCount)")
    }
    let key = ClusterKey.make(driver)
    var daemons: [any Stoppable] = []
    do throws(BenchError) {
      let coordinator = try await startCoordinator(
        directory, key, scheme, nodeCount: nodeCount, on: driver)
      daemons.append(coordinator)
      for number in 0..<nodeCount {
        daemons.append(
          try await startNode(
            "\(directory)/n\(number)", number, coordinator.value, key,
            capacity: capacity * UInt64(scheme.width) / UInt64(scheme.k * nodeCount) + (2 << 30),
            on: driver))
      }
      let cluster = BenchCluster(
        reach: ClusterReach(coordinators: [coordinator.value], key: key), bucket: bucket,
        daemons: daemons)
      try await cluster.waitUntilReady(nodeCount: nodeCount, on: driver)
      try await cluster.makeBucket(on: driver)
      return cluster
    } catch {
      for daemon in daemons.reversed() { await daemon.stop() }
      throw error
    }
  }

  private static func startCoordinator(
    _ directory: String, _ key: ClusterKey, _ scheme: Scheme, nodeCount: Int,
    on driver: any Driver
  ) async throws(BenchError) -> Beside<SocketAddress> {
    try await Beside.start("bench coord", on: driver) { (driver, ready) async throws(BenchError) in
      let address: SocketAddress
      let server: CoordinatorServer
      do throws(RingError) {
        // The coordinator tells others where it is, so it must know its port before it listens.
        let probe = try await Listener.listen(
          on: SocketAddress(host: "127.0.0.1", port: 0), driver: driver)
        await probe.close()
        address = probe.address
        let data = directory + "/c1"
        try await driver.makeDirectories(data, mode: 0o700)
        server = CoordinatorServer(
          driver: driver,
          configuration: CoordinatorConfiguration(
            name: "c1", address: address, dataDirectory: data, key: key, scheme: scheme,
            expectedNodes: nodeCount), log: Log(driver: driver, level: .error))
        _ = try await server.start()
      } catch {
        throw .system(error)
      }
      ready(address)
      await driver.waitForCancellation()
      await driver.uncancelled { await server.stop() }
    }
  }

  private static func startNode(
    _ directory: String, _ number: Int, _ coordinator: SocketAddress, _ key: ClusterKey,
    capacity: UInt64, on driver: any Driver
  ) async throws(BenchError) -> Beside<SocketAddress> {
    try await Beside.start("bench node \(number)", on: driver) {
      (driver, ready) async throws(BenchError) in
      let node = StorageNode(
        NodeConfiguration(
          name: "n\(number)", listen: SocketAddress(host: "127.0.0.1", port: 0),
          coordinators: [coordinator], key: key, directory: directory + "/node",
          devices: [
            NodeConfiguration.Device(
              path: directory + "/device", tier: "",
              settings: StoreSettings(capacity: capacity))
          ]), driver: driver, log: Log(driver: driver, level: .error))
      do throws(NodeError) {
        ready(try await node.start())
      } catch {
        throw .failed("\(error)")
      }
      await driver.waitForCancellation()
      await driver.uncancelled { await node.stop() }
    }
  }

  private func waitUntilReady(nodeCount: Int, on driver: any Driver) async throws(BenchError) {
    let client = BenchClient(reach, on: driver)
    let end = driver.now + .seconds(60)
    while true {
      let known = try? await client.wire.call(
        GetMap(level: .strong), at: reach.coordinators[0], deadline: .seconds(2)
      ).answer.map
      if known?.nodes.count == nodeCount { break }
      if driver.now > end || Task.isCancelled { break }
      await driver.sleep(.milliseconds(20))
    }
    await client.close()
    if Task.isCancelled { throw .failed("interrupted") }
    if driver.now > end { throw .failed("the temporary cluster is not ready after a minute") }
  }

  private func makeBucket(on driver: any Driver) async throws(BenchError) {
    let client = BenchClient(reach, on: driver)
    do throws(DataPathError) {
      _ = try await client.coordinator.execute(.createBucket(name: bucket))
      await client.close()
    } catch {
      await client.close()
      throw .failed("\(error)")
    }
  }

  /// Jobs have deleted their objects by now. A cluster of our own ends as it is.
  func close(on driver: any Driver) async throws(BenchError) {
    if daemons.isEmpty {
      let client = BenchClient(reach, on: driver)
      do throws(DataPathError) {
        _ = try await client.coordinator.execute(.removeBucket(name: bucket))
        await client.close()
      } catch {
        await client.close()
        throw .failed("removing bucket \(bucket): \(error)")
      }
    }
    for daemon in daemons.reversed() { await daemon.stop() }
  }

  /// Whether what jobs leave goes with the daemons.
  var isTemporary: Bool { !daemons.isEmpty }
}

/// A ``Beside``, whatever it told.
protocol Stoppable: Sendable {
  func stop() async
}
extension Beside: Stoppable {}

/// A job's own client. Loop-confined.
final class BenchClient: @unchecked Sendable {
  let wire: WireClient
  let coordinator: CoordinatorClient
  let access: ClusterAccess

  init(_ reach: ClusterReach, on driver: any Driver) {
    wire = WireClient(driver: driver, key: reach.key, name: "bench", security: reach.security)
    coordinator = CoordinatorClient(
      driver: driver, wire: wire, addresses: reach.coordinators, name: "cairn-bench")
    let map = MapCache(driver: driver, coordinator: coordinator)
    access = ClusterAccess(
      driver: driver, coordinator: coordinator, map: map,
      stripes: StripeIO(driver: driver, client: wire, directory: map))
  }

  func close() async {
    await coordinator.close()
    await wire.close()
  }
}
