import CCrypto
import Coding
import TestSupport
import Testing

@Suite struct AuthenticationTests {
  /// RFC 4231, cases 1 to 7 (5 gives only the first 16 bytes).
  static let codes: [(key: [UInt8], data: [UInt8], code: [UInt8])] = [
    (
      [UInt8](repeating: 0x0b, count: 20), Array("Hi There".utf8),
      bytes("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
    ),
    (
      Array("Jefe".utf8), Array("what do ya want for nothing?".utf8),
      bytes("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    ),
    (
      [UInt8](repeating: 0xaa, count: 20), [UInt8](repeating: 0xdd, count: 50),
      bytes("773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe")
    ),
    (
      (1...25).map { UInt8($0) }, [UInt8](repeating: 0xcd, count: 50),
      bytes("82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b")
    ),
    (
      [UInt8](repeating: 0x0c, count: 20), Array("Test With Truncation".utf8),
      bytes("a3b6167473100ee06e0c796c2955552b")
    ),
    (
      [UInt8](repeating: 0xaa, count: 131),
      Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8),
      bytes("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
    ),
    (
      [UInt8](repeating: 0xaa, count: 131),
      Array(
        ("This is a test using a larger than block-size key and a larger than block-size data. "
          + "The key needs to be hashed before being used by the HMAC algorithm.").utf8),
      bytes("9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2")
    ),
  ]

  @Test("HMAC-SHA-256 gives the published codes", arguments: codes)
  func hmac(key: [UInt8], data: [UInt8], code: [UInt8]) {
    let found = HMACSHA256.authenticate(data, key: key)
    #expect(found.count == 32)
    #expect(Array(found.prefix(code.count)) == code)
    #expect(HMACSHA256.isValid(found, for: data, key: key))
  }

  @Test(
    "a code with any bit changed, cut short or lengthened is not valid", arguments: Seed.several)
  func forgery(seed: Seed) {
    var random = seed.generator
    for keyCount in [0, 1, 63, 64, 65, 200] {
      let key = randomBytes(keyCount, using: &random)
      let data = randomBytes(Int.random(in: 0...300, using: &random), using: &random)
      let code = HMACSHA256.authenticate(data, key: key)
      #expect(HMACSHA256.isValid(code, for: data, key: key))
      for bit in 0..<256 {
        var forged = code
        forged[bit / 8] ^= 1 << UInt8(bit % 8)
        #expect(!HMACSHA256.isValid(forged, for: data, key: key))
      }
      #expect(!HMACSHA256.isValid(Array(code.dropLast()), for: data, key: key))
      #expect(!HMACSHA256.isValid(code + [0], for: data, key: key))
      #expect(!HMACSHA256.isValid([], for: data, key: key))
      #expect(!HMACSHA256.isValid(code, for: data + [0], key: key))
      #expect(!HMACSHA256.isValid(code, for: data, key: key + [1]))
    }
  }

  /// RFC 5869, A.1 to A.3.
  static let derived: [(key: [UInt8], salt: [UInt8], info: [UInt8], output: [UInt8])] = [
    (
      [UInt8](repeating: 0x0b, count: 22), (0...12).map { UInt8($0) },
      (0xf0...0xf9).map { UInt8($0) },
      bytes(
        """
        3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf
        34007208d5b887185865
        """)
    ),
    (
      (0...0x4f).map { UInt8($0) }, (0x60...0xaf).map { UInt8($0) },
      (0xb0...0xff).map { UInt8($0) },
      bytes(
        """
        b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c
        59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71
        cc30c58179ec3e87c14c01d5c1f3434f1d87
        """)
    ),
    (
      [UInt8](repeating: 0x0b, count: 22), [], [],
      bytes(
        """
        8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d
        9d201395faa4b61a96c8
        """)
    ),
  ]

  @Test("HKDF gives the published keys", arguments: derived)
  func hkdf(key: [UInt8], salt: [UInt8], info: [UInt8], output: [UInt8]) {
    #expect(
      KeyDerivation.hkdf(key: key, salt: salt, info: info, byteCount: output.count) == output)
  }

  @Test("HMAC and HKDF agree with OpenSSL's own for any lengths", arguments: Seed.several)
  func others(seed: Seed) {
    var random = seed.generator
    for round in 0..<60 {
      let key = randomBytes(Int.random(in: 1...150, using: &random), using: &random)
      let data = randomBytes(Int.random(in: 0...300, using: &random), using: &random)
      var code = [UInt8](repeating: 0, count: 32)
      #expect(HMAC(EVP_sha256(), key, Int32(key.count), data, data.count, &code, nil) != nil)
      #expect(HMACSHA256.authenticate(data, key: key) == code)

      let salt = randomBytes(round % 5 * 20, using: &random)
      let info = round % 3 == 0 ? "" : "cairn \(round)"
      let byteCount = round == 0 ? 255 * 32 : Int.random(in: 1...200, using: &random)
      #expect(
        KeyDerivation.hkdf(key: key, salt: salt, info: info, byteCount: byteCount)
          == opensslHKDF(key: key, salt: salt, info: Array(info.utf8), byteCount: byteCount))
    }
  }

  private func opensslHKDF(
    key: [UInt8], salt: [UInt8], info: [UInt8], byteCount: Int
  ) -> [UInt8]? {
    let context = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, nil)
    defer { EVP_PKEY_CTX_free(context) }
    var result = [UInt8](repeating: 0, count: byteCount)
    var written = byteCount
    guard EVP_PKEY_derive_init(context) == 1,
      EVP_PKEY_CTX_set_hkdf_md(context, EVP_sha256()) == 1,
      EVP_PKEY_CTX_set1_hkdf_key(context, key, Int32(key.count)) == 1,
      EVP_PKEY_CTX_set1_hkdf_salt(context, salt, Int32(salt.count)) == 1,
      EVP_PKEY_CTX_add1_hkdf_info(context, info, Int32(info.count)) == 1,
      EVP_PKEY_derive(context, &result, &written) == 1, written == byteCount
    else { return nil }
    return result
  }
}
