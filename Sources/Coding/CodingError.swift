/// What bytes, or their absence, can make go wrong here. Misuse by our own code traps instead.
package enum CodingError: Error, Equatable {
  /// A stripe cannot be rebuilt: `have` distinct blocks are present or known to be zeros, and `need`
  /// (the scheme's k) are required. No output was touched.
  case tooFewBlocks(have: Int, need: Int)
  /// Compressed bytes say that they need more than is allowed: of output, or of memory to be read with.
  case tooLarge(claimed: UInt64, limit: UInt64)
  /// Bytes are not what their format allows, or not all of it, or end too soon.
  case damaged
  /// Sealed bytes, their additional data, nonce or key are not those they were sealed with.
  case notAuthentic
}
