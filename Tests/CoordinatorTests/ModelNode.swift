import Cluster
import Coding
import Messages
import Metadata
import Ring
import Simulation
import Wire

let clusterKey = ClusterKey(secret: Array(0..<32))

/// What a model node keeps when its process dies: everything it acknowledged, and perhaps what it was just at.
final class ModelDisk: @unchecked Sendable {
  // Loop-confined.
  struct Block {
    var description: BlockDescription
    var bytes: [UInt8]
    var checksums: UnitChecksums
  }
  let node: NodeID
  let device: DeviceID
  var clusterID: UInt64 = 0
  var highestEpoch: UInt64 = 0
  var rootVersion: UInt64 = 0
  var root: [UInt8] = []
  var blocks: [BlockKey: Block] = [:]
  /// Shards that are gone as soon as the next inventory has told of them.
  var goneOnceTold = Set<ShardKey>()
  var capacity: UInt64 = 1 << 40
  /// What blocks of the log may take; nil: as much as they like.
  var logLimit: UInt64?
  /// Takes no writes.
  var isFailed = false
  /// Never will again.
  var isRetired = false

  init(node: NodeID, device: DeviceID) {
    self.node = node
    self.device = device
  }

  /// As a device counts it, headers included.
  var logFree: UInt64 {
    guard let logLimit else { return capacity }
    let used = blocks.filter { $0.key.shard.container.kind == .link }.reduce(0 as UInt64) {
      $0 + UInt64($1.value.bytes.count) + 4096
    }
    return logLimit > used ? logLimit - used : 0
  }

  var shards: [ShardKey] { Set(blocks.keys.map(\.shard)).sorted() }
}

/// A node as plain as can be: a dictionary of blocks behind the node's calls. Like a real one it answers a
/// write when the block is safe, and refuses lower epochs; it takes a random time for everything.
final class ModelNode: @unchecked Sendable {
  // Loop-confined.
  let process: SimulatedProcess
  let disk: ModelDisk
  let name: String
  let coordinators: [SocketAddress]
  private var server: WireServer?
  private let client: WireClient
  /// Answers nothing while this is set, as a stopped process does.
  var writeDelay = Duration.microseconds(300)

  init(
    _ process: SimulatedProcess, name: String, disk: ModelDisk, coordinators: [SocketAddress]
  ) {
    self.process = process
    self.name = name
    self.disk = disk
    self.coordinators = coordinators
    client = WireClient(driver: process, key: clusterKey, name: "node \(name)", security: .never)
  }

  func start() async throws {
    let server = WireServer(
      driver: process, key: clusterKey, name: "node \(name)", security: .never
    ) { [self] (method, packet, peer) async throws(Refusal) -> Packet in
      try await answer(method, packet)
    }
    self.server = server
    _ = try await server.start(on: SocketAddress(host: process.machine.host, port: 7000))
    for address in coordinators {
      process.spawn("hello") { [self] in
        while true {
          let hello = Hello(
            clusterID: disk.clusterID, node: disk.node, name: name, host: process.machine.host,
            port: 7000, domain: [],
            devices: [
              DeviceReport(
                id: disk.device, capacity: disk.capacity, used: UInt64(disk.blocks.count) * 8192,
                linkBytes: UInt64(disk.blocks.keys.count { $0.shard.container.kind == .link })
                  * 8192,
                free: disk.capacity, logFree: disk.logFree, tier: "ssd", isFailed: disk.isFailed,
                isRetired: disk.isRetired)
            ], highestEpoch: disk.highestEpoch, corruptBlocks: 0)
          if let answer = try? await client.call(hello, at: address, deadline: .seconds(1)).answer,
            answer.clusterID != 0, disk.clusterID == 0
          {
            disk.clusterID = answer.clusterID
          }
          guard await process.sleep(.seconds(1)) else { return }
        }
      }
    }
  }

  private func decode<Request: Call>(_ packet: Packet) throws(Refusal) -> Request {
    do {
      return try Request(decoding: packet.message)
    } catch {
      throw Refusal(.malformed, "\(error)")
    }
  }

  private func pause(_ longest: Duration) async throws(Refusal) {
    let part = Int64(process.random() % 1000)
    guard await process.sleep(longest * part / 1000) else { throw Refusal(.failed, "dead") }
  }

  private func check(_ epoch: UInt64) throws(Refusal) {
    guard epoch >= disk.highestEpoch else {
      throw Refusal(.staleEpoch, "\(disk.highestEpoch)")
    }
    disk.highestEpoch = epoch
  }

  private func check(_ device: DeviceID) throws(Refusal) {
    guard device == disk.device else { throw Refusal(.noSuchDevice, "\(device)") }
    guard !disk.isFailed else { throw Refusal(.deviceFailed, "\(device)") }
  }

  private func answer(_ method: UInt16, _ packet: Packet) async throws(Refusal) -> Packet {
    switch method {
    case HoldLease.method:
      let request: HoldLease = try decode(packet)
      try await pause(.microseconds(200))
      if request.epoch >= disk.highestEpoch, disk.clusterID != 0,
        request.clusterID != disk.clusterID, request.clusterID != 0 || !request.root.isEmpty
      {
        throw Refusal(.failed, "another cluster")
      }
      try check(request.epoch)
      if request.clusterID != 0 { disk.clusterID = request.clusterID }
      if !request.root.isEmpty {
        if request.rootVersion > disk.rootVersion {
          disk.rootVersion = request.rootVersion
          disk.root = request.root
        }
        try await pause(.microseconds(200))
      }
      return Packet(
        message: HoldLease.Answer(
          clusterID: disk.clusterID, highestEpoch: disk.highestEpoch,
          rootVersion: disk.rootVersion, root: disk.root
        ).encoded)
    case WriteBlock.method:
      let request: WriteBlock = try decode(packet)
      try check(request.device)
      try await pause(writeDelay)
      let bytes = packet.body.flatMap(\.array)
      guard CRC32C.checksums(of: bytes) == request.checksums.values else {
        throw Refusal(.corrupt, "checksums")
      }
      switch request.right {
      case .leader(let epoch): try check(epoch)
      case .grant(let grant):
        guard grant.isValid(key: clusterKey.subkey("grant")) else {
          throw Refusal(.badGrant, "signature")
        }
      }
      let isOfLog = request.block.key.shard.container.kind == .link
      if isOfLog, request.block.key.stripe >= 16, disk.logFree < UInt64(bytes.count) + 4096 {
        throw Refusal(.deviceFull, "no room for the log")
      }
      if let known = disk.blocks[request.block.key] {
        guard known.bytes == bytes else { throw Refusal(.blockExists, "") }
      } else {
        disk.blocks[request.block.key] = ModelDisk.Block(
          description: request.block, bytes: bytes, checksums: request.checksums)
      }
      try await pause(writeDelay)
      return Packet(message: Done().encoded)
    case ReadBlock.method:
      let request: ReadBlock = try decode(packet)
      try check(request.device)
      try await pause(.microseconds(200))
      guard let block = disk.blocks[request.key] else { throw Refusal(.noSuchBlock, "") }
      let range = Int(request.offset)..<Int(request.offset + request.byteCount)
      return Packet(
        message: ReadBlock.Answer(
          block: block.description,
          checksums: UnitChecksums(
            Array(block.checksums.values[range.lowerBound / 4096..<range.upperBound / 4096]))
        ).encoded, body: [Slice(copying: Array(block.bytes[range]))])
    case FenceShard.method:
      let request: FenceShard = try decode(packet)
      try check(request.device)
      try await pause(.microseconds(200))
      try check(request.epoch)
      return Packet(message: listing(request.shard).encoded)
    case ListShard.method:
      let request: ListShard = try decode(packet)
      try check(request.device)
      try await pause(.microseconds(200))
      return Packet(message: listing(request.shard).encoded)
    case DeleteShards.method:
      let request: DeleteShards = try decode(packet)
      try check(request.device)
      try check(request.epoch)
      let doomed = Set(request.shards)
      disk.blocks = disk.blocks.filter { !doomed.contains($0.key.shard) }
      return Packet(message: Done().encoded)
    case DeleteStripes.method:
      let request: DeleteStripes = try decode(packet)
      try check(request.device)
      try check(request.epoch)
      for stripe in request.stripes {
        disk.blocks[BlockKey(shard: request.shard, stripe: stripe)] = nil
      }
      return Packet(message: Done().encoded)
    case Inventory.method:
      let request: Inventory = try decode(packet)
      try check(request.device)
      let shards = disk.shards.filter { request.after == nil || $0 > request.after! }
      let page = shards.prefix(50).map { shard in
        let stripes = StripeTally(disk.blocks.keys.filter { $0.shard == shard }.map(\.stripe))
        return Inventory.Entry(
          shard: shard, stripes: stripes, storedByteCount: stripes.count * 8192)
      }
      disk.blocks = disk.blocks.filter { !disk.goneOnceTold.contains($0.key.shard) }
      return Packet(
        message: Inventory.Answer(shards: page, isComplete: shards.count <= 50).encoded)
    default: throw Refusal(.unknownMethod, "\(method)")
    }
  }

  private func listing(_ shard: ShardKey) -> ShardListing {
    let blocks = disk.blocks.filter { $0.key.shard == shard }.sorted { $0.key < $1.key }
    return ShardListing(
      shard: shard,
      blocks: blocks.map {
        ShardListing.Entry(
          stripe: $0.key.stripe, layout: $0.value.description.layout,
          acknowledged: $0.value.description.acknowledged)
      })
  }
}

extension CRC32C {
  static func checksums(of bytes: [UInt8]) -> [UInt32] {
    bytes.withUnsafeBytes { checksums(of: $0) }
  }
}
