/// What bytes, or their absence, can make go wrong here. Misuse by our own code traps instead.
package enum CodingError: Error, Equatable {
  /// A stripe cannot be rebuilt: `have` distinct blocks are present or known to be zeros, and `need`
  /// (the scheme's k) are required. No output was touched.
  case tooFewBlocks(have: Int, need: Int)
}
