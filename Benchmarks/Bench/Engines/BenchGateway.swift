import DataPath
import Gateway
package import Ring
import Service
import Stripes
import Wire

/// A gateway that runs, and what signs for it.
package struct S3Endpoint: Sendable {
  package var address: SocketAddress
  package var accessKey: String
  package var secret: String
  package var region: String

  package init(address: SocketAddress, accessKey: String, secret: String, region: String) {
    self.address = address
    self.accessKey = accessKey
    self.secret = secret
    self.region = region
  }
}

/// The gateway of a run: one that runs already, or one of bench's own in front of a temporary cluster.
struct BenchGateway: Sendable {
  struct Reach: Sendable {
    var address: SocketAddress
    var key: AccessKey
    var region: String
    /// Made for this run, and emptied and removed after it.
    var bucket: String
  }

  let reach: Reach
  private let gateway: Beside<SocketAddress>?
  private let cluster: BenchCluster?

  /// Whether what jobs leave goes with the daemons.
  var isTemporary: Bool { cluster != nil }

  static func open(_ running: S3Endpoint, on driver: any Driver) async throws(BenchError)
    -> BenchGateway
  {
    let gateway = BenchGateway(
      reach: Reach(
        address: running.address, key: AccessKey(name: running.accessKey, secret: running.secret),
        region: running.region, bucket: "cairn-bench-" + String(driver.random(), radix: 16)),
      gateway: nil, cluster: nil)
    try await gateway.asked(on: driver) { place throws(BenchError) in try await place.makeBucket() }
    return gateway
  }

  /// In front of `cluster`, which it ends with itself.
  static func start(before cluster: BenchCluster, on driver: any Driver) async throws(BenchError)
    -> BenchGateway
  {
    let key = AccessKey(
      name: "BENCHBENCHBENCHBENCH", secret: String(driver.random(), radix: 16) + "/bench")
    let beside: Beside<SocketAddress>
    do throws(BenchError) {
      beside = try await Beside.start("bench gateway", on: driver) {
        (driver, ready) async throws(BenchError) in
        let client = BenchClient(cluster.reach, on: driver)
        let gateway = S3Gateway(
          GatewayConfiguration(
            name: "g1", listen: SocketAddress(host: "127.0.0.1", port: 0), keys: [key]),
          backend: ClusterBackend(client.access) { await client.close() }, driver: driver,
          log: Log(driver: driver, level: .error))
        do throws(RingError) {
          ready(try await gateway.start())
        } catch {
          throw .system(error)
        }
        await driver.waitForCancellation()
        await driver.uncancelled { await gateway.stop() }
      }
    } catch {
      try await cluster.close(on: driver)
      throw error
    }
    return BenchGateway(
      reach: Reach(
        address: beside.value, key: key, region: "us-east-1", bucket: cluster.bucket),
      gateway: beside, cluster: cluster)
  }

  private func asked(
    on driver: any Driver, _ ask: (S3Place) async throws(BenchError) -> Void
  ) async throws(BenchError) {
    let place = S3Place(reach, connections: 1, largest: 1 << 20, on: driver)
    do throws(BenchError) {
      try await ask(place)
      await place.close()
    } catch {
      await place.close()
      throw error
    }
  }

  /// Jobs have deleted their objects by now.
  func close(on driver: any Driver) async throws(BenchError) {
    await gateway?.stop()
    if let cluster { return try await cluster.close(on: driver) }
    try await asked(on: driver) { place throws(BenchError) in try await place.removeBucket() }
  }
}
