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
    precondition(target.devices.count == layout.scheme.width)
    let parity = encodeParity(layout: layout, data: data)
    let blocks =
      data.enumerated().map { ($0.offset, $0.element) }
      + parity.enumerated().map { ($0.offset + layout.scheme.k, $0.element) }
    return await withTaskGroup(of: DeviceFailure?.self) { group in
      for (index, payload) in blocks {
        group.addTask { [self] in
          let request = WriteBlock(
            device: target.devices[index], right: right,
            block: BlockDescription(
              key: target.block(index), layout: layout, acknowledged: acknowledged, epoch: epoch),
            checksums: UnitChecksums(payload.withBytes { CRC32C.checksums(of: $0) }))
          do throws(WireError) {
            _ = try await call(
              request, body: [payload], to: target.devices[index], deadline: deadline)
            return nil
          } catch {
            return DeviceFailure(device: target.devices[index], error: error)
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

  /// The m parity blocks. With k = 1 they are the data block itself, so nothing is copied.
  private func encodeParity(layout: StripeLayout, data: [Slice]) -> [Slice] {
    let scheme = layout.scheme
    if scheme.m == 0 { return [] }
    if scheme.k == 1 { return Array(repeating: data[0], count: scheme.m) }
    let parity = (0..<scheme.m).map { _ in driver.buffers.slice(layout.blockByteCount) }
    // Every slice is alive to the end of this scope, so the pointers are.
    let sources = data.map { slice in slice.withBytes { $0.baseAddress! } }
    let targets = parity.map { slice in slice.withMutableBytes { $0.baseAddress! } }
    StripeCoder.shared(scheme).encode(
      data: sources, parity: targets, byteCount: layout.blockByteCount)
    withExtendedLifetime((data, parity)) {}
    return parity
  }
}
