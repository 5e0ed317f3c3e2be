internal import CDigest

extension Fingerprint {
  /// The SHA-256 of each of `pieces`, in their order: several at a time where the processor can.
  ///
  /// The pieces are best at least 1 KiB long and ``HashKernel/batchCount`` or more.
  ///
  /// - Parameter kernel: one of ``HashKernel/available``.
  package static func of(
    _ pieces: [UnsafeRawBufferPointer], by kernel: HashKernel = .current
  ) -> [Fingerprint] {
    guard pieces.count > 1, let chosen = kernel.c else { return pieces.map { Fingerprint(of: $0) } }
    return withUnsafeTemporaryAllocation(of: UnsafeRawPointer?.self, capacity: pieces.count) {
      bases in
      withUnsafeTemporaryAllocation(of: Int.self, capacity: pieces.count) { counts in
        withUnsafeTemporaryAllocation(byteCount: pieces.count * byteCount, alignment: 8) {
          digests in
          for (index, piece) in pieces.enumerated() {
            bases.initializeElement(at: index, to: piece.baseAddress)
            counts.initializeElement(at: index, to: piece.count)
          }
          cairn_sha256_many(
            chosen, bases.baseAddress, counts.baseAddress, pieces.count,
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
