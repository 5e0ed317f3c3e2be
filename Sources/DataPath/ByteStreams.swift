package import Ring

/// Where an object's bytes come from.
package protocol ByteSource: AnyObject, Sendable {
  /// How many bytes there are; nil when that is known only at the end.
  var byteCount: UInt64? { get }
  /// Fills the front of `slice`; 0 at the end.
  ///
  /// - Throws: ``DataPathError/source(_:)``.
  func read(into slice: Slice) async throws(DataPathError) -> Int
  /// Starts again from the first byte; false when that cannot be.
  func rewind() -> Bool
}

/// Where an object's bytes go.
package protocol ByteSink: AnyObject, Sendable {
  /// Whether bytes must come in order, one write at a time.
  var isOrdered: Bool { get }
  /// Takes bytes; the slices are the sink's to keep but not to change.
  ///
  /// - Parameter offset: of the first byte in the object.
  /// - Throws: ``DataPathError/sink(_:)``.
  func write(_ slices: [Slice], at offset: UInt64) async throws(DataPathError)
}

/// Bytes that are in memory. Loop-confined.
package final class MemorySource: ByteSource, @unchecked Sendable {
  // Loop-confined.
  private let bytes: [UInt8]
  private var offset = 0

  package init(_ bytes: [UInt8]) { self.bytes = bytes }
  package var byteCount: UInt64? { UInt64(bytes.count) }
  package func read(into slice: Slice) async throws(DataPathError) -> Int {
    let count = min(slice.count, bytes.count - offset)
    if count > 0 {
      bytes[offset..<offset + count].withUnsafeBytes { from in
        slice[0..<count].withMutableBytes { $0.copyMemory(from: from) }
      }
    }
    offset += count
    return count
  }
  package func rewind() -> Bool {
    offset = 0
    return true
  }
}

/// Puts bytes where they belong in one slice. Loop-confined.
package final class SliceSink: ByteSink, @unchecked Sendable {
  // Loop-confined.
  package let isOrdered: Bool
  private let slice: Slice
  private let first: UInt64

  /// - Parameter first: the object's byte that the slice begins with.
  package init(_ slice: Slice, first: UInt64, isOrdered: Bool) {
    self.slice = slice
    self.first = first
    self.isOrdered = isOrdered
  }
  package func write(_ slices: [Slice], at offset: UInt64) async throws(DataPathError) {
    var place = Int(offset - first)
    for one in slices {
      one.withBytes { from in
        slice[place..<place + one.count].withMutableBytes { $0.copyMemory(from: from) }
      }
      place += one.count
    }
  }
}
