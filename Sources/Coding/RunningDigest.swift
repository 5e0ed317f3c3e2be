internal import CCrypto
internal import CISAL

/// A digest or checksum that clients of S3 ask for, made piece by piece. MD5 and SHA-1 are names there, not protection.
package final class RunningDigest: @unchecked Sendable {
  // Confined to its user.
  package enum Kind: Sendable, CaseIterable {
    case md5, sha1, sha256
    /// CRC-32 of ISO-HDLC (zlib): "123456789" gives 0xCBF43926.
    case crc32
    case crc32c
    /// CRC-64 of NVM Express: "123456789" gives 0xAE8B14860A799888.
    case crc64nvme

    package var byteCount: Int {
      switch self {
      case .md5: 16
      case .sha1: 20
      case .sha256: 32
      case .crc32, .crc32c: 4
      case .crc64nvme: 8
      }
    }
  }

  package let kind: Kind
  private var context: OpaquePointer?
  private var register: UInt64 = 0

  package init(_ kind: Kind) {
    self.kind = kind
    let algorithm =
      switch kind {
      case .md5: EVP_md5()
      case .sha1: EVP_sha1()
      case .sha256: EVP_sha256()
      case .crc32, .crc32c, .crc64nvme: nil as OpaquePointer?
      }
    guard let algorithm else { return }
    context = EVP_MD_CTX_new()
    guard context != nil, EVP_DigestInit_ex(context, algorithm, nil) == 1 else {
      preconditionFailure("OpenSSL has no memory for a digest")
    }
  }

  deinit { EVP_MD_CTX_free(context) }

  package func update(_ bytes: UnsafeRawBufferPointer) {
    guard let base = bytes.baseAddress, bytes.count > 0 else { return }
    switch kind {
    case .md5, .sha1, .sha256: EVP_DigestUpdate(context, base, bytes.count)
    case .crc32:
      register = UInt64(
        crc32_gzip_refl(
          UInt32(truncatingIfNeeded: register), base.assumingMemoryBound(to: UInt8.self),
          UInt64(bytes.count)))
    case .crc32c:
      register = UInt64(CRC32C.checksum(bytes, seed: UInt32(truncatingIfNeeded: register)))
    case .crc64nvme: register = CRC64NVME.checksum(bytes, seed: register)
    }
  }

  package func update(_ bytes: [UInt8]) { bytes.withUnsafeBytes { update($0) } }

  /// The digest of all bytes so far, most significant byte first; the last call.
  package func finish() -> [UInt8] {
    switch kind {
    case .md5, .sha1, .sha256:
      return [UInt8](unsafeUninitializedCapacity: kind.byteCount) { target, count in
        EVP_DigestFinal_ex(context, target.baseAddress, nil)
        count = kind.byteCount
      }
    case .crc32, .crc32c:
      return withUnsafeBytes(of: UInt32(truncatingIfNeeded: register).bigEndian) { Array($0) }
    case .crc64nvme: return withUnsafeBytes(of: register.bigEndian) { Array($0) }
    }
  }

  /// Of bytes that are there as a whole.
  package static func of(_ bytes: [UInt8], _ kind: Kind) -> [UInt8] {
    let digest = RunningDigest(kind)
    digest.update(bytes)
    return digest.finish()
  }
}
