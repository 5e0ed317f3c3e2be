internal import CCrypto

/// AES-256 in Galois/counter mode, NIST SP 800-38D, with nonces of 96 bits and tags of 128.
///
/// Sealed bytes are the ciphertext, as long as the plain bytes, and then the tag. A nonce must never be used twice with one
/// key: whoever seals two messages with it gives both away, and the means to forge more.
package struct AES256GCM: ~Copyable, @unchecked Sendable {
  // Sound: all use is mutating, so there is one user at a time.
  package static let keyByteCount = 32
  package static let nonceByteCount = 12
  package static let tagByteCount = 16
  /// The standard's limit for one message: 2^39 - 256 bits.
  package static let largestMessage = 1 << 36 - 32

  /// A number used once.
  package struct Nonce: Hashable, Sendable {
    /// Bytes 0 to 3 and 4 to 11, the first in the most significant place.
    package var high: UInt32
    package var low: UInt64

    package init(high: UInt32, low: UInt64) {
      self.high = high
      self.low = low
    }

    /// 12 bytes.
    package var bytes: [UInt8] {
      (0..<4).map { UInt8(truncatingIfNeeded: high >> (24 - 8 * UInt32($0))) }
        + (0..<8).map { UInt8(truncatingIfNeeded: low >> (56 - 8 * UInt64($0))) }
    }

    /// Nil unless there are exactly 12 bytes.
    package init?(_ bytes: some Collection<UInt8>) {
      guard bytes.count == nonceByteCount else { return nil }
      high = bytes.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
      low = bytes.dropFirst(4).reduce(0) { $0 << 8 | UInt64($1) }
    }
  }

  /// OpenSSL counts bytes in a C `int`; longer messages go in pieces of this many bytes.
  private let largestCall: Int
  /// Each keeps the key's schedule from message to message.
  private let sealing: OpaquePointer
  private let opening: OpaquePointer

  /// - Parameter key: 32 bytes. Its schedule is kept until this value goes, and then overwritten.
  package init(key: [UInt8]) { self.init(key: key, largestCall: 1 << 30) }

  /// - Parameter largestCall: a multiple of the cipher's 16-byte block.
  init(key: [UInt8], largestCall: Int) {
    precondition(key.count == Self.keyByteCount && largestCall.isMultiple(of: 16))
    self.largestCall = largestCall
    guard let sealing = EVP_CIPHER_CTX_new(), let opening = EVP_CIPHER_CTX_new(),
      EVP_EncryptInit_ex(sealing, Self.cipher, nil, key, nil) == 1,
      EVP_DecryptInit_ex(opening, Self.cipher, nil, key, nil) == 1
    else { fatalError("OpenSSL has no AES-256-GCM") }
    self.sealing = sealing
    self.opening = opening
  }

  deinit {
    EVP_CIPHER_CTX_free(sealing)
    EVP_CIPHER_CTX_free(opening)
  }

  /// Fetched once: EVP_aes_256_gcm() is looked up anew by each initialisation. Never freed.
  // Written once, before anyone can see it, and constant from then on.
  nonisolated(unsafe) private static let cipher: OpaquePointer? =
    EVP_CIPHER_fetch(nil, "AES-256-GCM", nil)

  /// Encrypts `plain` into `sealed`.
  ///
  /// - Parameters:
  ///   - sealed: ``tagByteCount`` bytes longer than `plain`; begins where `plain` does, or overlaps it nowhere.
  ///   - additional: authenticated, not stored.
  package mutating func seal(
    _ plain: UnsafeRawBufferPointer, into sealed: UnsafeMutableRawBufferPointer, nonce: Nonce,
    additional: UnsafeRawBufferPointer = .empty
  ) {
    precondition(plain.count <= Self.largestMessage)
    precondition(sealed.count == plain.count + Self.tagByteCount)
    precondition(Self.mayShare(plain, UnsafeRawBufferPointer(sealed)))
    var nonce = Self.bytes(of: nonce)
    var count: Int32 = 0
    var isDone = withUnsafeBytes(of: &nonce) { nonce in
      EVP_EncryptInit_ex(
        sealing, nil, nil, nil, nonce.baseAddress!.assumingMemoryBound(to: UInt8.self)) == 1
    }
    let place = sealed.baseAddress!.assumingMemoryBound(to: UInt8.self)
    pieces(additional) { bytes, length, _ in
      isDone = isDone && EVP_EncryptUpdate(sealing, nil, &count, bytes, length) == 1
    }
    pieces(plain) { bytes, length, offset in
      isDone =
        isDone && EVP_EncryptUpdate(sealing, place + offset, &count, bytes, length) == 1
        && count == length
    }
    let tag = place + plain.count
    isDone = isDone && EVP_EncryptFinal_ex(sealing, tag, &count) == 1 && count == 0
    isDone =
      isDone
      && EVP_CIPHER_CTX_ctrl(
        sealing, EVP_CTRL_AEAD_GET_TAG, Int32(Self.tagByteCount), tag) == 1
    precondition(isDone, "AES-256-GCM failed")
  }

  /// Decrypts `sealed` into `plain`.
  ///
  /// - Parameters:
  ///   - plain: ``tagByteCount`` bytes shorter than `sealed`; begins where `sealed` does, or overlaps it nowhere.
  /// - Throws: ``CodingError/notAuthentic``; `plain` then holds zeros. ``CodingError/damaged`` when `sealed` is shorter than a
  ///   tag.
  package mutating func open(
    _ sealed: UnsafeRawBufferPointer, into plain: UnsafeMutableRawBufferPointer, nonce: Nonce,
    additional: UnsafeRawBufferPointer = .empty
  ) throws(CodingError) {
    guard sealed.count >= Self.tagByteCount else { throw .damaged }
    let body = UnsafeRawBufferPointer(rebasing: sealed.dropLast(Self.tagByteCount))
    precondition(plain.count == body.count && Self.mayShare(sealed, UnsafeRawBufferPointer(plain)))
    guard body.count <= Self.largestMessage else { throw .damaged }
    var nonce = Self.bytes(of: nonce)
    var count: Int32 = 0
    var isDone = withUnsafeBytes(of: &nonce) { nonce in
      EVP_DecryptInit_ex(
        opening, nil, nil, nil, nonce.baseAddress!.assumingMemoryBound(to: UInt8.self)) == 1
    }
    pieces(additional) { bytes, length, _ in
      isDone = isDone && EVP_DecryptUpdate(opening, nil, &count, bytes, length) == 1
    }
    if let place = plain.baseAddress?.assumingMemoryBound(to: UInt8.self) {
      pieces(body) { bytes, length, offset in
        isDone =
          isDone && EVP_DecryptUpdate(opening, place + offset, &count, bytes, length) == 1
          && count == length
      }
    }
    isDone =
      isDone
      && EVP_CIPHER_CTX_ctrl(
        opening, EVP_CTRL_AEAD_SET_TAG, Int32(Self.tagByteCount),
        UnsafeMutableRawPointer(mutating: sealed.baseAddress! + body.count)) == 1
    precondition(isDone, "AES-256-GCM failed")
    var none: UInt8 = 0
    guard EVP_DecryptFinal_ex(opening, &none, &count) == 1 else {
      ERR_clear_error()
      // Nobody shall see what was not authentic.
      plain.initializeMemory(as: UInt8.self, repeating: 0)
      throw .notAuthentic
    }
  }

  private func pieces(
    _ bytes: UnsafeRawBufferPointer,
    _ body: (_ bytes: UnsafePointer<UInt8>, _ length: Int32, _ offset: Int) -> Void
  ) {
    guard let base = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return }
    var offset = 0
    while offset < bytes.count {
      let length = min(largestCall, bytes.count - offset)
      body(base + offset, Int32(length), offset)
      offset += length
    }
  }

  private static func bytes(of nonce: Nonce) -> (UInt32, UInt32, UInt32) {
    (
      nonce.high.bigEndian, UInt32(truncatingIfNeeded: nonce.low >> 32).bigEndian,
      UInt32(truncatingIfNeeded: nonce.low).bigEndian
    )
  }

  /// OpenSSL works in place or apart, nothing between.
  private static func mayShare(
    _ one: UnsafeRawBufferPointer, _ other: UnsafeRawBufferPointer
  ) -> Bool {
    guard let first = one.baseAddress, let second = other.baseAddress else { return true }
    return first == second || first + one.count <= second || second + other.count <= first
  }
}
