import Cluster
import Coding
import Messages
import Metadata
import Ring
import Stripes
import Wire

/// Nodes over the wire. A link stripe is one block, kept as copies. Reading goes to one copy after the other,
/// for take-over must know whether a copy is lost or merely silent.
final class WireNodePort: NodePort, @unchecked Sendable {
  // Loop-confined.
  private let client: WireClient
  private let stripes: StripeIO
  private let nodes: NodeTable
  private let driver: any Driver
  private let readDeadline = Duration.seconds(5)

  init(client: WireClient, nodes: NodeTable, driver: any Driver) {
    self.client = client
    stripes = StripeIO(driver: driver, client: client, directory: nodes)
    self.nodes = nodes
    self.driver = driver
  }

  func holdLease(_ request: HoldLease, at address: SocketAddress, deadline: Duration) async
    -> Result<HoldLease.Answer, WireError>
  {
    await call(request, at: address, deadline: deadline).map(\.answer)
  }

  private func call<Request: Call>(
    _ request: Request, at address: SocketAddress?, deadline: Duration
  ) async -> Result<(answer: Request.Answer, body: [Slice], bodySums: [UInt32]), WireError> {
    guard let address else { return .failure(.unreachable("its address is not known")) }
    do throws(WireError) {
      return .success(try await client.call(request, at: address, deadline: deadline))
    } catch {
      return .failure(error)
    }
  }

  func write(
    _ link: LogContainer, stripe: UInt64, bytes: [UInt8], acknowledged: UInt64, epoch: UInt64,
    deadline: Duration
  ) async -> [LinkFailure] {
    let layout = StripeLayout.smallest(for: bytes.count, scheme: link.scheme)
    let block = driver.buffers.slice(layout.blockByteCount)
    block.withMutableBytes { target in
      target.copyBytes(from: bytes)
      UnsafeMutableRawBufferPointer(rebasing: target[bytes.count...])
        .initializeMemory(as: UInt8.self, repeating: 0)
    }
    let target = StripeTarget(
      container: link.container,
      places: [ShardPlace](link.devices, generation: link.generation),
      stripe: stripe)
    return await stripes.write(
      target, layout: layout, data: [block], right: .leader(epoch: epoch),
      acknowledged: acknowledged, epoch: epoch, deadline: deadline
    ).map { LinkFailure(device: $0.device, error: $0.error) }
  }

  func read(_ link: LogContainer, stripe: UInt64, layout: StripeLayout) async
    -> Result<[UInt8], LinkReadError>
  {
    // Those believed up first; of these another one for each stripe, so that all help.
    let count = link.devices.count
    let order = link.devices.indices.sorted { a, b in
      func rank(_ index: Int) -> (Int, Int) {
        (nodes.isDown(link.devices[index]) ? 1 : 0, (index + Int(stripe % UInt64(count))) % count)
      }
      return rank(a) < rank(b)
    }
    var silent: [DeviceID] = []
    var damaged = ""
    for index in order {
      let device = link.devices[index]
      let key = BlockKey(
        shard: ShardKey(
          container: link.container, generation: link.generation, shardIndex: UInt8(index)),
        stripe: stripe)
      let answer = await call(
        ReadBlock(device: device, key: key, offset: 0, byteCount: layout.blockByteCount),
        at: nodes.address(of: device), deadline: readDeadline)
      switch answer {
      case .success(let (answer, body, sums)):
        guard body.count == 1, body[0].count == layout.blockByteCount, answer.block.key == key,
          answer.block.layout == layout,
          sums == answer.checksums.values
        else {
          damaged = "\(nodes.nodeName(of: device)) sent something else"
          continue
        }
        return .success(body[0][0..<layout.byteCount].array)
      case .failure(let error):
        switch error.refusalCode {
        case .noSuchBlock?, .corrupt?, .noSuchDevice?, .deviceFailed?:
          if damaged.isEmpty { damaged = "not to be had from any device of the link" }
        default: silent.append(device)
        }
      }
    }
    return .failure(silent.isEmpty ? .lost(damaged) : .unreachable(silent))
  }

  func fence(_ link: LogContainer, shard: Int, epoch: UInt64, deadline: Duration) async
    -> Result<ShardListing, WireError>
  {
    let request = FenceShard(
      device: link.devices[shard],
      shard: ShardKey(
        container: link.container, generation: link.generation, shardIndex: UInt8(shard)),
      epoch: epoch)
    return await call(request, at: nodes.address(of: request.device), deadline: deadline).map(
      \.answer)
  }

  func list(_ link: LogContainer, shard: Int, deadline: Duration) async
    -> Result<ShardListing, WireError>
  {
    let request = ListShard(
      device: link.devices[shard],
      shard: ShardKey(
        container: link.container, generation: link.generation, shardIndex: UInt8(shard)))
    return await call(request, at: nodes.address(of: request.device), deadline: deadline).map(
      \.answer)
  }
}
