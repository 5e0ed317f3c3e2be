package import Coding
package import Wire

/// The shape of one stripe: how many bytes it holds and which of its k + m blocks exist.
///
/// In a short stripe bytes fill block 0 first, then block 1; only blocks that hold bytes are stored,
/// the other data blocks count as zeros. The last data block is padded with zeros.
package struct StripeLayout: Hashable, Sendable, WireValue {
  package var scheme: Scheme
  /// Payload bytes of each stored block; a multiple of 4096, at most ``largestBlockByteCount``.
  package var blockByteCount: Int
  /// Data bytes in the stripe, 1 ... k * blockByteCount.
  package var byteCount: Int

  /// With its 4 KiB header a block is at most 1 MiB.
  package static let largestBlockByteCount = (1 << 20) - 4096
  package static let unit = 4096

  package init(scheme: Scheme, blockByteCount: Int, byteCount: Int) {
    precondition(blockByteCount > 0 && blockByteCount.isMultiple(of: Self.unit))
    precondition(blockByteCount <= Self.largestBlockByteCount)
    precondition(byteCount > 0 && byteCount <= scheme.k * blockByteCount)
    self.scheme = scheme
    self.blockByteCount = blockByteCount
    self.byteCount = byteCount
  }

  /// The layout that stores `byteCount` bytes in the fewest units, headers counted; among equals the one
  /// with the fewest blocks.
  ///
  /// - Parameter byteCount: 1 ... `capacity(of: scheme)`.
  package static func smallest(for byteCount: Int, scheme: Scheme) -> StripeLayout {
    precondition(byteCount > 0 && byteCount <= capacity(of: scheme))
    let units = (byteCount + unit - 1) / unit
    var best: (cost: Int, blocks: Int, size: Int)?
    for dataBlocks in 1...scheme.k {
      let size = (units + dataBlocks - 1) / dataBlocks
      guard size * unit <= largestBlockByteCount else { continue }
      let stored = (units + size - 1) / size
      let cost = (stored + scheme.m) * (size + 1)
      if best == nil || (cost, stored) < (best!.cost, best!.blocks) { best = (cost, stored, size) }
    }
    return StripeLayout(
      scheme: scheme, blockByteCount: best!.size * unit, byteCount: byteCount)
  }

  /// The most data bytes one stripe can hold.
  package static func capacity(of scheme: Scheme) -> Int { scheme.k * largestBlockByteCount }

  /// Data blocks that hold bytes, and so are stored.
  package var dataBlockCount: Int { (byteCount + blockByteCount - 1) / blockByteCount }
  /// Whether block `index` (0 ..< k + m) is stored.
  package func isStored(_ index: Int) -> Bool { index < dataBlockCount || index >= scheme.k }
  /// Indices of the stored blocks, ascending.
  package var storedBlocks: [Int] { (0..<scheme.width).filter(isStored) }
  /// Bytes on devices, headers included.
  package var storedByteCount: Int { (dataBlockCount + scheme.m) * (blockByteCount + 4096) }

  package func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(scheme.k))
    writer.fixed(UInt8(scheme.m))
    writer.varint(blockByteCount / Self.unit)
    writer.varint(byteCount)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    let k: UInt8 = try reader.fixed()
    let m: UInt8 = try reader.fixed()
    let units = try reader.count(limit: Self.largestBlockByteCount / Self.unit)
    let byteCount = try reader.count()
    guard let scheme = Scheme(k: Int(k), m: Int(m)), units > 0, byteCount > 0,
      byteCount <= scheme.k * units * Self.unit
    else { throw .invalid("stripe layout") }
    self.init(scheme: scheme, blockByteCount: units * Self.unit, byteCount: byteCount)
  }
}
