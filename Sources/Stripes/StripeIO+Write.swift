package import Cluster
import Coding
package import Messages
package import Ring
import Wire

extension StripeIO {
  /// Codes the stripe and sends every stored block to its device, all at once.
  ///
  /// - Parameters:
  ///   - data: `layout.dataBlockCount` slices of `layout.blockByteCount` bytes; the last one padded with zeros. They are sent
  ///     as they are and must not change until this returns.
  ///   - acknowledged: for links, how many stripes were acknowledged before; 0 for data.
  ///   - epoch: the leader's for links, the map's for data.
  /// - Returns: the devices that did not acknowledge; none means that the stripe is on stable storage.
  package func write(
    _ target: StripeTarget, layout: StripeLayout, data: [Slice], right: WriteRight,
    acknowledged: UInt64 = 0, epoch: UInt64, deadline: Duration
  ) async -> [DeviceFailure] {
    precondition(data.count == layout.dataBlockCount)
    precondition(data.allSatisfy { $0.count == layout.blockByteCount })
    precondition(target.places.count == layout.scheme.width)
    let parity = makeParity(layout: layout, data: data)
    let sums = encode(layout: layout, data: data, parity: parity)
    let payloads = data + parity
    let indices = layout.storedBlocks
    return await withTaskGroup(of: DeviceFailure?.self) { group in
      for (place, index) in indices.enumerated() {
        group.addTask { [self] in
          let request = WriteBlock(
            device: target.device(index), right: right,
            block: BlockDescription(
              key: target.block(index), layout: layout, acknowledged: acknowledged, epoch: epoch),
            checksums: UnitChecksums(sums[place]))
          do throws(WireError) {
            _ = try await call(
              request, body: [payloads[place]], bodySums: sums[place], to: target.device(index),
              deadline: deadline)
            return nil
          } catch {
            return DeviceFailure(device: target.device(index), error: error)
          }
        }
      }
      var failures: [DeviceFailure] = []
      for await failure in group {
        if let failure { failures.append(failure) }
      }
      return failures.sorted { $0.device < $1.device }
    }
  }

  /// Memory for the m parity blocks. With k = 1 they are the data block itself, so nothing is copied.
  private func makeParity(layout: StripeLayout, data: [Slice]) -> [Slice] {
    let scheme = layout.scheme
    if scheme.k == 1 { return Array(repeating: data[0], count: scheme.m) }
    return (0..<scheme.m).map { _ in driver.buffers.slice(layout.blockByteCount) }
  }

  /// Bytes of each block that are coded, and then summed while the cache still holds them. 16 blocks of this size fit
  /// the second-level cache of any server processor.
  private static let strip = 32 << 10

  /// Fills the parity blocks and sums every 4 KiB unit of all blocks.
  private func encode(layout: StripeLayout, data: [Slice], parity: [Slice]) -> [[UInt32]] {
    let scheme = layout.scheme
    let byteCount = layout.blockByteCount
    if scheme.k == 1 {
      let sums = data[0].withBytes { CRC32C.checksums(of: $0) }
      return Array(repeating: sums, count: 1 + scheme.m)
    }
    // Every slice is alive to the end of this scope, so the pointers are.
    let sources = data.map { slice in slice.withBytes { $0.baseAddress! } }
    let targets = parity.map { slice in slice.withMutableBytes { $0.baseAddress! } }
    let coder = StripeCoder.shared(scheme)
    var sums = [[UInt32]](repeating: [], count: data.count + parity.count)
    for place in sums.indices { sums[place].reserveCapacity(byteCount / StripeLayout.unit) }
    for start in stride(from: 0, to: byteCount, by: Self.strip) {
      let count = min(Self.strip, byteCount - start)
      if scheme.m > 0 {
        coder.encode(data: sources, parity: targets, offset: start, byteCount: count)
      }
      for place in sums.indices {
        let base =
          place < data.count
          ? sources[place] : UnsafeRawPointer(targets[place - data.count])
        for unit in stride(from: start, to: start + count, by: StripeLayout.unit) {
          sums[place].append(
            CRC32C.checksum(
              UnsafeRawBufferPointer(start: base + unit, count: StripeLayout.unit)))
        }
      }
    }
    withExtendedLifetime((data, parity)) {}
    return sums
  }
}
