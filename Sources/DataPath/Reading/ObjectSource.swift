package import Messages
package import Ring

/// A version of an object as bytes to store again: for a copy into another storage class, whose chunks cannot be shared.
/// Loop-confined.
package final class ObjectSource: ByteSource, @unchecked Sendable {
  // Loop-confined.
  package let byteCount: UInt64?
  private let reader: ObjectReader
  private let name: ObjectName
  private let identity: UInt64
  private let range: Range<UInt64>
  private var offset: UInt64

  /// - Parameters:
  ///   - identity: of the version; read on to its end or not at all.
  ///   - range: of its bytes; not past its end.
  package init(
    _ access: ClusterAccess, _ name: ObjectName, identity: UInt64, range: Range<UInt64>
  ) {
    reader = ObjectReader(access)
    self.name = name
    self.identity = identity
    self.range = range
    byteCount = UInt64(range.count)
    offset = range.lowerBound
  }

  /// - Throws: what reading throws; ``DataPathError/changed`` when the version is current no more.
  package func read(into slice: Slice) async throws(DataPathError) -> Int {
    let next = min(range.upperBound, offset + UInt64(slice.count))
    guard offset < next else { return 0 }
    try await reader.read(
      name, identity: identity, range: offset..<next,
      into: SliceSink(slice, first: offset, isOrdered: false))
    defer { offset = next }
    return Int(next - offset)
  }

  package func rewind() -> Bool {
    offset = range.lowerBound
    return true
  }
}
