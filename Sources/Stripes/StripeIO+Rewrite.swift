package import Cluster
import Coding
package import Messages
package import Ring
package import Wire

/// What writing blocks anew needs: whole payloads, and where they go.
extension StripeIO {
  /// Whole payloads of stored blocks, data or parity, made from other blocks alone.
  ///
  /// - Parameter indices: distinct blocks that the layout stores.
  /// - Returns: `layout.blockByteCount` bytes for each of `indices`, in their order.
  package func rebuild(_ target: StripeTarget, layout: StripeLayout, indices: [Int])
    async throws(StripeError) -> [Slice]
  {
    try await payloads(target, layout: layout, indices: indices, lost: indices)
  }

  /// Whole payloads of stored blocks, data or parity: read from their devices, or made from others where that cannot be.
  ///
  /// - Parameter indices: distinct blocks that the layout stores.
  /// - Returns: `layout.blockByteCount` bytes for each of `indices`, in their order.
  package func copy(_ target: StripeTarget, layout: StripeLayout, indices: [Int])
    async throws(StripeError) -> [Slice]
  {
    try await payloads(target, layout: layout, indices: indices, lost: [])
  }

  func payloads(_ target: StripeTarget, layout: StripeLayout, indices: [Int], lost: [Int])
    async throws(StripeError) -> [Slice]
  {
    guard indices.allSatisfy({ (0..<layout.scheme.width).contains($0) && layout.isStored($0) })
    else { throw .corrupt("blocks \(indices) of a stripe that does not store them") }
    let whole = 0..<layout.blockByteCount
    return try await gather(
      target, layout, wanted: indices.map { BlockRange(index: $0, range: whole) }, lost: lost
    ).map { $0[0] }
  }

  /// Stores one block of a stripe that is acknowledged, on the device it is to have.
  ///
  /// - Parameter payload: all of the block.
  package func store(
    _ payload: Slice, checksums: [UInt32], at place: ShardPlace, index: Int,
    of target: StripeTarget,
    layout: StripeLayout, right: SignedGrant, deadline: Duration
  ) async throws(WireError) {
    let key = BlockKey(
      shard: ShardKey(
        container: target.container, generation: place.generation, shardIndex: UInt8(index)),
      stripe: target.stripe)
    let request = WriteBlock(
      device: place.device, right: .grant(right),
      block: BlockDescription(
        key: key, layout: layout, acknowledged: 0, epoch: right.grant.epoch),
      checksums: UnitChecksums(checksums))
    _ = try await call(
      request, body: [payload], bodySums: checksums, to: place.device, deadline: deadline)
  }
}
