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
