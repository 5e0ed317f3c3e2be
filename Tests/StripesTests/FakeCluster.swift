import Cluster
import Coding
import Messages
import Ring
import Simulation
import Testing
import Wire

@testable import Stripes

let clusterKey = ClusterKey(secret: Array(1...32))

/// Devices on simulated machines, each with its blocks in memory, and a client that reads and writes there.
final class FakeCluster: DeviceDirectory, @unchecked Sendable {
  // Loop-confined.
  let world: SimulatedWorld
  private(set) var nodes: [FakeNode] = []
  let process: SimulatedProcess
  let wire: WireClient
  /// Devices the directory says are down.
  var down: Set<DeviceID> = []
  var slow: Set<DeviceID> = []
  private(set) var io: StripeIO!
  private(set) var reported: [(DeviceID, BlockKey)] = []

  init(_ world: SimulatedWorld, nodeCount: Int) async throws {
    self.world = world
    process = world.process("client")
    wire = WireClient(driver: process, key: clusterKey, name: "client", security: .never)
    for number in 0..<nodeCount {
      nodes.append(try await FakeNode(world, DeviceID(UInt64(100 + number)), name: "n\(number)"))
    }
    io = StripeIO(
      driver: process, client: wire, directory: self,
      options: StripeIO.Options(readDeadline: .seconds(10)))
    io.onCorruption = { [unowned self] in reported.append(($0, $1)) }
  }

  func address(of device: DeviceID) -> SocketAddress? {
    nodes.first { $0.device == device }.map { $0.address }
  }
  func isDown(_ device: DeviceID) -> Bool { down.contains(device) }
  func isSlow(_ device: DeviceID) -> Bool { slow.contains(device) }
  func nodeName(of device: DeviceID) -> String { "\(device)" }

  func target(_ scheme: Scheme, stripe: UInt64 = 0) -> StripeTarget {
    StripeTarget(
      container: ContainerID(.data, 7),
      places: [ShardPlace](nodes.prefix(scheme.width).map(\.device), generation: 3), stripe: stripe)
  }

  /// Writes the stripe as a client does, from one run of memory.
  func write(_ stripe: TrueStripe, _ target: StripeTarget) async -> [DeviceFailure] {
    let layout = stripe.layout
    return await io.write(
      target, layout: layout, data: (0..<layout.dataBlockCount).map { stripe.blocks[$0]! },
      right: .leader(epoch: 1), epoch: 1, deadline: .seconds(5))
  }

  func read(_ target: StripeTarget, _ layout: StripeLayout, _ range: Range<Int>) async
    -> Result<[UInt8], StripeError>
  {
    do throws(StripeError) {
      return .success(
        try await io.read(target, layout: layout, range: range).flatMap(\.array))
    } catch {
      return .failure(error)
    }
  }

  /// Bytes of blocks that all nodes gave out.
  var bytesServed: Int { nodes.reduce(0) { $0 + $1.bytesServed } }
}

/// A node that keeps blocks in memory and can be made to misbehave.
final class FakeNode: @unchecked Sendable {
  // Loop-confined.
  let device: DeviceID
  let process: SimulatedProcess
  private(set) var address: SocketAddress
  var blocks: [BlockKey: (BlockDescription, [UInt8])] = [:]
  var bytesServed = 0
  var readCount = 0

  enum Mood {
    case good
    /// Answers this much later.
    case slow(Duration)
    /// Its bytes differ from its checksums.
    case corrupt
    /// Its bytes are wrong and its checksums fit them.
    case lying
    /// It says that its block is damaged.
    case damaged
    /// It answers with another block's description.
    case mistaken
    /// It has lost its blocks.
    case empty
    case refuses(RefusalCode)
  }
  var mood = Mood.good

  init(_ world: SimulatedWorld, _ device: DeviceID, name: String) async throws {
    self.device = device
    process = world.process(name)
    address = SocketAddress(host: name, port: 1)
    let server = WireServer(driver: process, key: clusterKey, name: name, security: .never) {
      [unowned self] (method, request, _) async throws(Refusal) in
      try await answer(method, request)
    }
    address = try await server.start(on: address)
  }

  private func answer(_ method: UInt16, _ request: Packet) async throws(Refusal) -> Packet {
    if case .slow(let duration) = mood { await process.sleep(duration) }
    if case .refuses(let code) = mood { throw Refusal(code, "in a mood") }
    switch method {
    case WriteBlock.method:
      guard let call = try? WriteBlock(decoding: request.message), call.device == device,
        let body = request.body.first, body.count == call.block.layout.blockByteCount,
        body.withBytes({ CRC32C.checksums(of: $0) }) == call.checksums.values
      else { throw Refusal(.malformed, "write") }
      blocks[call.block.key] = (call.block, body.array)
      return Packet()
    case ReadBlock.method:
      guard let call = try? ReadBlock(decoding: request.message), call.device == device else {
        throw Refusal(.malformed, "read")
      }
      readCount += 1
      if case .damaged = mood { throw Refusal(.corrupt, "damaged") }
      if case .empty = mood { throw Refusal(.noSuchBlock, "") }
      guard var (description, payload) = blocks[call.key] else { throw Refusal(.noSuchBlock, "") }
      let start = Int(call.offset)
      payload = Array(payload[start..<start + Int(call.byteCount)])
      bytesServed += payload.count
      if case .lying = mood {
        for place in stride(from: 3, to: payload.count, by: 50) { payload[place] ^= 1 }
      }
      let sums = UnitChecksums(CRC32C.checksums(of: payload.withUnsafeBytes { $0 }))
      if case .corrupt = mood { payload[payload.count / 2] ^= 4 }
      if case .mistaken = mood { description.key.stripe += 1 }
      return Packet(
        message: ReadBlock.Answer(block: description, checksums: sums).encoded,
        body: [Slice(copying: payload, pool: process.buffers)])
    case ListShard.method:
      guard let call = try? ListShard(decoding: request.message) else {
        throw Refusal(.malformed, "list")
      }
      let listed = blocks.keys.filter { $0.shard == call.shard }.sorted()
      return Packet(
        message: ShardListing(
          shard: call.shard,
          blocks: listed.map {
            ShardListing.Entry(
              stripe: $0.stripe, layout: blocks[$0]!.0.layout,
              acknowledged: blocks[$0]!.0.acknowledged)
          }
        ).encoded)
    default: throw Refusal(.unknownMethod, "\(method)")
    }
  }
}
