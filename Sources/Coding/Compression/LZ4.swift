internal import CLZ4

/// LZ4 blocks, which hold neither their content's length nor a checksum.
package enum LZ4 {
  /// 1 is LZ4 proper; from 3 up the encoder searches longer (LZ4 HC) for the same format; below 1 it skips faster, -n
  /// being what LZ4 calls an acceleration of n + 1.
  package static let levels = -65_536...Int(LZ4HC_CLEVEL_MAX)
  package static let largestInput = Int(LZ4_MAX_INPUT_SIZE)

  /// The most bytes that `byteCount` bytes can be compressed into.
  package static func bound(_ byteCount: Int) -> Int {
    precondition((0...largestInput).contains(byteCount))
    return Int(LZ4_compressBound(Int32(byteCount)))
  }

  /// Writes the content of `block`, which is exactly one block, to the start of `target`.
  ///
  /// - Returns: the content's length.
  /// - Throws: ``CodingError/damaged``, also when there is more than `target` holds: an LZ4 block does not say. What
  ///   `target` holds is then undefined.
  package static func decompress(
    _ block: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
  ) throws(CodingError) -> Int {
    guard !block.isEmpty, block.count <= Int(Int32.max) else { throw .damaged }
    // LZ4 wants a place to write to even where it writes nothing.
    var none: CChar = 0
    let count = withUnsafeMutablePointer(to: &none) { none in
      LZ4_decompress_safe(
        block.baseAddress!.assumingMemoryBound(to: CChar.self),
        target.baseAddress?.assumingMemoryBound(to: CChar.self) ?? none, Int32(block.count),
        Int32(clamping: target.count))
    }
    guard count >= 0 else { throw .damaged }
    return Int(count)
  }
}

/// Compresses one block after another with the same memory.
package struct LZ4Compressor: ~Copyable, @unchecked Sendable {
  // Sound: all use is mutating, so there is one user at a time.
  private let state: UnsafeMutableRawPointer
  private let level: Int32

  /// - Parameter level: one of ``LZ4/levels``.
  package init(level: Int = 1) {
    precondition(LZ4.levels.contains(level))
    self.level = Int32(level)
    let byteCount = max(LZ4_sizeofState(), level > 2 ? LZ4_sizeofStateHC() : 0)
    state = .allocate(byteCount: Int(byteCount), alignment: 64)
  }

  deinit { state.deallocate() }

  /// Writes `source` as one block to the start of `target`, which must not overlap it.
  ///
  /// - Parameter source: at most ``LZ4/largestInput`` bytes.
  /// - Returns: the block's length; nil when `target` is too short for it (never when it has ``LZ4/bound(_:)`` bytes).
  ///   What `target` holds is then undefined.
  package mutating func compress(
    _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
  ) -> Int? {
    precondition(source.count <= LZ4.largestInput)
    guard let end = target.baseAddress, !target.isEmpty else { return nil }
    // No bytes are a block of one byte.
    let start = (source.baseAddress ?? UnsafeRawPointer(state)).assumingMemoryBound(to: CChar.self)
    let place = end.assumingMemoryBound(to: CChar.self)
    let capacity = Int32(clamping: target.count)
    let count =
      level > 2
      ? LZ4_compress_HC_extStateHC(state, start, place, Int32(source.count), capacity, level)
      : LZ4_compress_fast_extState(
        state, start, place, Int32(source.count), capacity, level > 0 ? 1 : 1 - level)
    return count > 0 ? Int(count) : nil
  }
}
