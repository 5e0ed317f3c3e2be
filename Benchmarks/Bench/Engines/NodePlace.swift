import Cluster
import Coding
import Messages
import Node
import Ring
import Service
import ShardStore
import Wire

/// A storage node on a loop of its own, that serves on loopback and belongs to no cluster.
struct BenchNode: Sendable {
  struct Reach: Sendable {
    var address: SocketAddress
    var device: DeviceID
    var key: ClusterKey
  }

  static func start(_ directory: String, capacity: UInt64, on driver: any Driver)
    async throws(BenchError) -> Beside<Reach>
  {
    let key = ClusterKey.make(driver)
    return try await Beside.start("bench node", on: driver) {
      (driver, ready) async throws(BenchError) in
      let configuration = NodeConfiguration(
        name: "bench", listen: SocketAddress(host: "127.0.0.1", port: 0), coordinators: [],
        key: key, directory: directory + "/node",
        devices: [
          NodeConfiguration.Device(
            path: directory + "/device", tier: "",
            settings: StoreSettings(capacity: capacity))
        ])
      let node = StorageNode(
        configuration, driver: driver, log: Log(driver: driver, level: .error))
      let address: SocketAddress
      do throws(NodeError) {
        address = try await node.start()
      } catch {
        throw .failed("\(error)")
      }
      ready(Reach(address: address, device: node.devices[0], key: key))
      await driver.waitForCancellation()
      await driver.uncancelled { await node.stop() }
    }
  }
}

/// A node's device, over the wire.
final class NodePlace: BlockPlace, @unchecked Sendable {
  // Loop-confined.
  private let client: WireClient
  private let reach: BenchNode.Reach
  private let grantKey: [UInt8]
  /// For the container written last.
  private var grant: SignedGrant?
  private static let deadline = Duration.seconds(60)

  init(_ reach: BenchNode.Reach, on driver: any Driver) {
    self.reach = reach
    client = WireClient(driver: driver, key: reach.key, name: "bench")
    grantKey = reach.key.subkey("grant")
  }

  private func call<Request: Call>(
    _ request: Request, body: [Slice] = [], bodySums: [UInt32]? = nil, _ what: String
  ) async throws(BenchError) -> (answer: Request.Answer, body: [Slice], bodySums: [UInt32]) {
    do throws(WireError) {
      return try await client.call(
        request, body: body, bodySums: bodySums, at: reach.address, deadline: Self.deadline)
    } catch {
      throw .failed("\(what): \(error)")
    }
  }

  func write(
    _ key: BlockKey, _ layout: StripeLayout, checksums: [UInt32], payload: Slice
  ) async throws(BenchError) {
    _ = try await call(
      WriteBlock(
        device: reach.device, right: .grant(grant(for: key.shard)),
        block: BlockDescription(key: key, layout: layout, acknowledged: 0, epoch: 0),
        checksums: UnitChecksums(checksums)), body: [payload], bodySums: checksums, "write")
  }

  private func grant(for shard: ShardKey) -> SignedGrant {
    if let grant, grant.grant.container == shard.container { return grant }
    let fresh = SignedGrant(
      signing: Grant(
        id: shard.container.number + 1, container: shard.container, generation: shard.generation,
        scheme: Scheme(k: 1, m: 0)!, devices: [reach.device], firstStripe: 0, endStripe: 1 << 32,
        firstOrdinal: 0, byteLimit: 1 << 40, epoch: 0), key: grantKey)
    grant = fresh
    return fresh
  }

  func read(_ key: BlockKey, offset: Int, byteCount: Int) async throws(BenchError) {
    let (answer, body, sums) = try await call(
      ReadBlock(device: reach.device, key: key, offset: offset, byteCount: byteCount), "read")
    guard body.count == 1, body[0].count == byteCount,
      sums == answer.checksums.values
    else { throw .failed("read: the node sent other bytes than it says") }
  }

  func delete(_ shard: ShardKey) async throws(BenchError) {
    _ = try await call(
      DeleteShards(device: reach.device, epoch: 0, shards: [shard]), "delete")
  }

  func close() async { await client.close() }
}
