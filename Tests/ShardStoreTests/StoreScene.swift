import Cluster
import Coding
import Glibc
import Ring
import Simulation
import TestSupport
import Testing

@testable import ShardStore

/// A small device on a simulated machine.
enum StoreScene {
  static let path = "/device"
  static let node = NodeID(7)
  static let cluster: UInt64 = 99

  static func settings(_ change: (inout StoreSettings) -> Void = { _ in }) -> StoreSettings {
    var settings = StoreSettings(
      capacity: 64 << 20, volumeByteCount: 256 << 10, reserveByteCount: 256 << 10)
    change(&settings)
    return settings
  }

  static func format(_ driver: any Driver) async throws {
    _ = try await ShardStore.format(path, node: node, cluster: cluster, on: driver)
  }

  static func open(_ driver: any Driver, _ settings: StoreSettings = settings())
    async throws(StoreError) -> ShardStore
  {
    try await ShardStore.open(
      path, node: node, cluster: cluster, settings: settings, on: driver)
  }
}

/// A block with its bytes.
struct Sample: Hashable, Sendable {
  var block: StoredBlock
  var bytes: [UInt8] {
    didSet { checksums = Self.checksums(of: bytes) }
  }
  private(set) var checksums: [UInt32]

  private static func checksums(of bytes: [UInt8]) -> [UInt32] {
    bytes.withUnsafeBytes { CRC32C.checksums(of: $0, unit: 4096) }
  }

  init(_ key: BlockKey, units: Int, epoch: UInt64 = 0, acknowledged: UInt64 = 0, fill: UInt64) {
    let layout = StripeLayout(
      scheme: Scheme(k: 1, m: 2)!, blockByteCount: units * 4096,
      byteCount: units * 4096 - Int(fill % 100))
    block = StoredBlock(key: key, layout: layout, acknowledged: acknowledged, epoch: epoch)
    // Cheap and different in every word.
    bytes = [UInt8](unsafeUninitializedCapacity: units * 4096) { target, count in
      var word = fill &* 0x9E37_79B9_7F4A_7C15 | 1
      for at in stride(from: 0, to: units * 4096, by: 8) {
        UnsafeMutableRawPointer(target.baseAddress! + at).storeBytes(of: word, as: UInt64.self)
        word = word &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      }
      count = units * 4096
    }
    checksums = Self.checksums(of: bytes)
  }

  func write(to store: ShardStore, headroom: Bool = false) async throws(StoreError) {
    let buffer = store.driver.buffers.slice(bytes.count + 4096)
    let payload = buffer[4096..<buffer.count]
    payload.withMutableBytes { target in bytes.withUnsafeBytes { target.copyMemory(from: $0) } }
    try await store.write(block, checksums: checksums, payload: payload, hasHeadroom: headroom)
  }

  /// Whether `store` gives exactly this back, whole.
  func isIn(_ store: ShardStore) async throws(StoreError) -> Bool {
    let found = try await store.read(block.key, offset: 0, byteCount: bytes.count)
    // `==` of arrays takes most of a test's time where it is not optimised.
    let isSame =
      found.bytes.count == bytes.count
      && found.bytes.withBytes { found in
        bytes.withUnsafeBytes { memcmp($0.baseAddress!, found.baseAddress!, found.count) == 0 }
      }
    return isSame && found.block == block && found.checksums == checksums
  }
}

func shard(
  _ number: UInt64, generation: UInt64 = 1, index: UInt8 = 0, _ kind: ContainerKind = .data
)
  -> ShardKey
{
  ShardKey(container: ContainerID(kind, number), generation: generation, shardIndex: index)
}

func key(_ number: UInt64, _ stripe: UInt64, _ kind: ContainerKind = .data) -> BlockKey {
  BlockKey(shard: shard(number, kind), stripe: stripe)
}

/// Runs `body` in a world with a freshly formatted device, in the process "node".
func withDevice<Value: Sendable>(
  seed: UInt64 = 1,
  _ body: @escaping @Sendable (SimulatedWorld, SimulatedProcess) async throws -> Value
) throws -> Value {
  try SimulatedWorld.run(seed: seed) { world in
    let process = world.process("node")
    try await StoreScene.format(process)
    return try await body(world, process)
  }
}

extension Result where Failure == any Error {
  /// The outcome of an async call as a value.
  static func of(_ body: () async throws -> Success) async -> Self {
    do { return .success(try await body()) } catch { return .failure(error) }
  }
}

/// Checks that `body` throws exactly this.
func expect(
  _ expected: StoreError, sourceLocation: SourceLocation = #_sourceLocation,
  _ body: () async throws(StoreError) -> Void
) async {
  do throws(StoreError) {
    try await body()
    Issue.record("nothing was thrown", sourceLocation: sourceLocation)
  } catch {
    #expect(error == expected, sourceLocation: sourceLocation)
  }
}

/// Checks that `body` says the bytes are wrong.
func expectCorrupt(
  sourceLocation: SourceLocation = #_sourceLocation, _ body: () async throws(StoreError) -> Void
) async {
  do throws(StoreError) {
    try await body()
    Issue.record("nothing was thrown", sourceLocation: sourceLocation)
  } catch {
    guard case .corrupt = error else {
      Issue.record("\(error)", sourceLocation: sourceLocation)
      return
    }
  }
}
