internal import CDigest

extension Fingerprint {
  /// The SHA-256 of each of `pieces`, in their order.
  ///
  /// Where the processor has SHA instructions two pieces run side by side, in little more than half the time of one
  /// after the other; elsewhere OpenSSL hashes them in turn. The pieces are best of like size and at least 1 KiB.
  package static func of(_ pieces: [UnsafeRawBufferPointer]) -> [Fingerprint] {
    guard pieces.count > 1, hasParallelHashing else { return pieces.map { Fingerprint(of: $0) } }
    return hashTogether(pieces)
  }

  /// Asked once: the answer costs more than a small hash.
  static let hasParallelHashing = cairn_sha256_many_is_available()

  static func hashTogether(_ pieces: [UnsafeRawBufferPointer]) -> [Fingerprint] {
    withUnsafeTemporaryAllocation(of: UnsafeRawPointer?.self, capacity: pieces.count) { bases in
      withUnsafeTemporaryAllocation(of: Int.self, capacity: pieces.count) { counts in
        withUnsafeTemporaryAllocation(byteCount: pieces.count * byteCount, alignment: 8) {
          digests in
          for (index, piece) in pieces.enumerated() {
            bases.initializeElement(at: index, to: piece.baseAddress)
            counts.initializeElement(at: index, to: piece.count)
          }
          cairn_sha256_many(
            bases.baseAddress, counts.baseAddress, pieces.count,
            digests.baseAddress!.assumingMemoryBound(to: UInt8.self))
          func word(_ offset: Int) -> UInt64 {
            UInt64(bigEndian: digests.load(fromByteOffset: offset, as: UInt64.self))
          }
          return pieces.indices.map { index in
            let start = index * byteCount
            return Fingerprint(
              w0: word(start), w1: word(start + 8), w2: word(start + 16), w3: word(start + 24))
          }
        }
      }
    }
  }
}
