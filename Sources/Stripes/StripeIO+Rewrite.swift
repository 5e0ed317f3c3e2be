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

  /// All data bytes of a stripe, padding included, when its blocks agree: a parity block that is read with them is what they
  /// make it. So what is coded anew is what was coded once. When one of them cannot be had the data are made from others.
  ///
  /// - Returns: `layout.blockByteCount` bytes for each data block that is stored, in order.
  package func readAgreeing(_ target: StripeTarget, layout: StripeLayout)
    async throws(StripeError) -> [Slice]
  {
    guard target.places.count == layout.scheme.width else {
      throw .corrupt("\(target.places.count) devices for a scheme of \(layout.scheme)")
    }
    let data = Array(0..<layout.dataBlockCount)
    let scheme = layout.scheme
    let now = driver.now
    func isAvoided(_ index: Int) -> Bool {
      directory.isDown(target.device(index)) || suspects.contains(target.device(index), now: now)
    }
    guard let parity = (scheme.k..<scheme.width).first(where: { !isAvoided($0) }),
      !data.contains(where: isAvoided),
      let blocks = await all(data + [parity], of: target, layout)
      // Where blocks are missing the others have to do.
    else { return try await payloads(target, layout: layout, indices: data, lost: []) }
    let expected = driver.buffers.slice(layout.blockByteCount)
    do throws(CodingError) {
      // Every slice is alive to the end of this scope, so the pointers are.
      try StripeCoder.shared(scheme).rebuild(
        wanted: [(parity, expected.withMutableBytes { $0.baseAddress! })],
        present: data.map { ($0, blocks[$0].withBytes { $0.baseAddress! }) },
        zeros: (0..<scheme.k).filter { !layout.isStored($0) }, byteCount: layout.blockByteCount)
    } catch {
      throw .corrupt("\(error)")
    }
    withExtendedLifetime(blocks) {}
    let sums = [expected, blocks[data.count]].map { slice in
      slice.withBytes { CRC32C.checksums(of: $0) }
    }
    guard sums[0] == sums[1] else { throw .corrupt("its blocks contradict each other") }
    return Array(blocks.prefix(data.count))
  }

  /// These blocks as their devices have them, none rebuilt; nil when one cannot be had.
  private func all(_ indices: [Int], of target: StripeTarget, _ layout: StripeLayout) async
    -> [Slice]?
  {
    await withTaskGroup(of: Event.self) { group in
      for index in indices {
        group.addTask { [self] in
          await fetch(BlockRange(index: index, range: 0..<layout.blockByteCount), target, layout)
        }
      }
      var found: [Int: Slice] = [:]
      for await case .arrived(let part, let bytes) in group { found[part.index] = bytes }
      return found.count == indices.count ? indices.compactMap { found[$0] } : nil
    }
  }

  private func payloads(_ target: StripeTarget, layout: StripeLayout, indices: [Int], lost: [Int])
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
