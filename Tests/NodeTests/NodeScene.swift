import Cluster
import Coding
import Messages
import Ring
import Service
import ShardStore
import Simulation
import TestSupport
import Testing
import Wire

@testable import Node

let clusterKey = ClusterKey(secret: Array(0..<32))

/// A node with two small devices on the simulated machine "n1", and whoever talks to it.
enum NodeScene {
  static let address = SocketAddress(host: "n1", port: 7101)
  static let coordinator = SocketAddress(host: "c1", port: 7000)

  static func configuration(_ change: (inout NodeConfiguration) -> Void = { _ in })
    -> NodeConfiguration
  {
    var configuration = NodeConfiguration(
      name: "n1", listen: address, coordinators: [coordinator], key: clusterKey, security: .never,
      directory: "/data", domain: ["rack1"],
      devices: [1, 2].map {
        NodeConfiguration.Device(
          path: "/data/device-\($0)", tier: "nvme",
          settings: StoreSettings(
            capacity: 64 << 20, volumeByteCount: 4 << 20, reserveByteCount: 1 << 20))
      })
    change(&configuration)
    return configuration
  }

  static func start(
    _ driver: any Driver, _ configuration: NodeConfiguration = configuration()
  ) async throws -> StorageNode {
    let node = StorageNode(
      configuration, driver: driver, log: try await Log.open("/log", on: driver))
    try await node.start()
    return node
  }

  static func client(_ world: SimulatedWorld) -> WireClient {
    WireClient(
      driver: world.living("client") ?? world.process("client"), key: clusterKey, name: "client",
      security: .never)
  }

  /// Why a node does not start.
  static func refusal(_ driver: any Driver, _ configuration: NodeConfiguration = configuration())
    async throws -> NodeError?
  {
    let log = try await Log.open("/log", on: driver)
    let node = StorageNode(configuration, driver: driver, log: log)
    do throws(NodeError) {
      try await node.start()
      await node.stop()
      return nil
    } catch {
      return error
    }
  }
}

/// Answers hello as a coordinator does.
final class FakeCoordinator: @unchecked Sendable {
  // Loop-confined.
  var cluster: UInt64
  private(set) var hellos: [Hello] = []
  private(set) var server: WireServer?

  init(cluster: UInt64) { self.cluster = cluster }

  func start(_ driver: any Driver) async throws {
    let server = WireServer(
      driver: driver, key: clusterKey, name: "coordinator", security: .never
    ) { [self] (method, request, _) async throws(Refusal) in
      guard method == Hello.method else { throw Refusal(.unknownMethod, "") }
      do throws(ValueError) { hellos.append(try Hello(decoding: request.message)) } catch {
        throw Refusal(.malformed, "")
      }
      return Packet(
        message: Hello.Answer(
          clusterID: cluster, leaderEpoch: 1, mapEpoch: 1, intervalMilliseconds: 1000
        ).encoded)
    }
    self.server = server
    _ = try await server.start(on: NodeScene.coordinator)
  }
}

/// A block, its bytes and the call that writes it.
struct BlockSample: Sendable {
  var block: BlockDescription
  var bytes: [UInt8]

  static let scheme = Scheme(k: 1, m: 1)!

  init(
    _ kind: ContainerKind = .data, container: UInt64 = 5, stripe: UInt64, shardIndex: UInt8 = 0,
    units: Int = 2, epoch: UInt64 = 1, fill: UInt64 = 0
  ) {
    block = BlockDescription(
      key: BlockKey(
        shard: ShardKey(
          container: ContainerID(kind, container), generation: 1, shardIndex: shardIndex),
        stripe: stripe),
      layout: StripeLayout(
        scheme: Self.scheme, blockByteCount: units * 4096, byteCount: units * 4096),
      acknowledged: 0, epoch: epoch)
    // Cheap, and different in every word.
    bytes = [UInt8](unsafeUninitializedCapacity: units * 4096) { target, count in
      var word = (stripe &+ fill << 32) &* 0x9E37_79B9_7F4A_7C15 | 1
      for at in stride(from: 0, to: units * 4096, by: 8) {
        UnsafeMutableRawPointer(target.baseAddress! + at).storeBytes(of: word, as: UInt64.self)
        word = word &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      }
      count = units * 4096
    }
  }

  var checksums: UnitChecksums {
    UnitChecksums(bytes.withUnsafeBytes { CRC32C.checksums(of: $0, unit: 4096) })
  }

  func grant(_ devices: [DeviceID], stripes: Range<UInt64> = 0..<100_000) -> SignedGrant {
    SignedGrant(
      signing: Grant(
        id: 1, container: block.key.shard.container, generation: block.key.shard.generation,
        scheme: Self.scheme, devices: devices, firstStripe: stripes.lowerBound,
        endStripe: stripes.upperBound, firstOrdinal: 0, byteLimit: 1 << 30, epoch: 1),
      key: clusterKey.subkey("grant"))
  }

  func write(_ device: DeviceID, right: WriteRight? = nil) -> WriteBlock {
    let own =
      right
      ?? (block.key.shard.container.kind == .data
        ? .grant(grant([device, device])) : .leader(epoch: block.epoch))
    return WriteBlock(device: device, right: own, block: block, checksums: checksums)
  }
}

extension WireClient {
  func write(_ sample: BlockSample, to device: DeviceID, right: WriteRight? = nil)
    async throws(WireError)
  {
    _ = try await call(
      sample.write(device, right: right), body: [Slice(copying: sample.bytes)],
      at: NodeScene.address, deadline: .seconds(10))
  }

  func has(_ sample: BlockSample, on device: DeviceID) async throws(WireError) -> Bool {
    let (answer, body, _) = try await call(
      ReadBlock(
        device: device, key: sample.block.key, offset: 0, byteCount: sample.bytes.count),
      at: NodeScene.address, deadline: .seconds(10))
    return answer.block == sample.block && answer.checksums == sample.checksums
      && body.flatMap(\.array) == sample.bytes
  }

  func ask<Request: Call>(_ request: Request) async throws(WireError) -> Request.Answer {
    try await call(request, at: NodeScene.address, deadline: .seconds(10)).answer
  }
}

/// The code of the refusal that `body` ends with; nil when it is none.
func refusal(_ body: () async throws(WireError) -> Void) async -> RefusalCode? {
  do throws(WireError) {
    try await body()
    return nil
  } catch {
    return error.refusalCode
  }
}
