internal import CCrypto

/// Keys made from passphrases, at a price in time and memory for each guess (scrypt, RFC 7914).
package struct Scrypt: Hashable, Sendable {
  /// The cost: 2 to this power.
  package var logCost: UInt8
  /// The block size, in units of 128 bytes.
  package var blockSize: UInt8
  /// Mixed independently one after the other.
  package var parallelism: UInt8

  /// 128 MiB, and about half a second.
  package static let standard = Scrypt(logCost: 17, blockSize: 8, parallelism: 1)!
  /// What a header may ask of who opens it.
  package static let largestMemory = 1 << 30

  /// Nil for parameters that are too weak to be meant or take more than ``largestMemory``.
  package init?(logCost: UInt8, blockSize: UInt8, parallelism: UInt8) {
    guard (10...24).contains(logCost), (1...32).contains(blockSize),
      (1...16).contains(parallelism),
      (128 * Int(blockSize)) << Int(logCost) <= Self.largestMemory
    else { return nil }
    self.logCost = logCost
    self.blockSize = blockSize
    self.parallelism = parallelism
  }

  /// 32 bytes; nil when there is not the memory for it. Takes ``memoryByteCount`` bytes, and time in proportion to that and to
  /// `parallelism`.
  package func key(_ passphrase: [UInt8], salt: [UInt8]) -> [UInt8]? {
    var key = [UInt8](repeating: 0, count: 32)
    let isDone = passphrase.withUnsafeBytes { passphrase in
      EVP_PBE_scrypt(
        passphrase.baseAddress?.assumingMemoryBound(to: CChar.self), passphrase.count, salt,
        salt.count, UInt64(1) << UInt64(logCost), UInt64(blockSize), UInt64(parallelism),
        UInt64(memoryByteCount + 1 << 20), &key, key.count) == 1
    }
    if !isDone { ERR_clear_error() }
    return isDone ? key : nil
  }

  package var memoryByteCount: Int {
    (128 * Int(blockSize)) << Int(logCost) + 128 * Int(blockSize) * (Int(parallelism) + 2)
  }
}
