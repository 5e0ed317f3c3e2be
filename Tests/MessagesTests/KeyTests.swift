import Coding
import Messages
import Ring
import TestSupport
import Testing
import Wire

@Suite("keys on their way")
struct KeyTests {
  @Test(
    "keys read back under the key that they were sealed with, and under no other",
    arguments: Seed.several)
  func answers(seed: Seed) throws {
    var samples = Samples(random: seed.generator)
    for _ in 0..<30 {
      let key = samples.random.bytes(32)
      let keys = PlainKeys(
        domains: (0..<samples.small(4)).map { _ in
          .init(
            id: KeyDomainID(UInt16(samples.small(1 << 16))),
            fingerprintKey: samples.random.bytes(32))
        },
        dataKeys: (0..<samples.small(40)).map { _ in
          .init(
            id: samples.number(), domain: KeyDomainID(UInt16(samples.small(1 << 16))),
            key: samples.random.bytes(32))
        })
      let answer = GetKeys.Answer(keys, key: key, nonce: samples.random.bytes(12))
      #expect(answer.opened(key: key) == keys)
      let read = try GetKeys.Answer(decoding: answer.encoded)
      #expect(read.opened(key: key) == keys)
      #expect(read.opened(key: samples.random.bytes(32)) == nil)
      var changed = read
      changed.sealed[Int(samples.small(UInt64(changed.sealed.count)))] ^= UInt8(
        1 << samples.small(8))
      #expect(changed.opened(key: key) == nil)
      // No key can be seen in it.
      for one in keys.dataKeys {
        #expect(!answer.encoded.indices.contains { answer.encoded[$0...].starts(with: one.key) })
      }
    }
  }

  @Test("changes of keys read back, and cut ones are refused", arguments: Seed.several)
  func changes(seed: Seed) throws {
    var samples = Samples(random: seed.generator)
    for _ in 0..<20 {
      let wrap = MasterWrap(masterKey: samples.text(), bytes: samples.random.bytes(60))
      let key = DomainKey(version: UInt32(samples.small(1 << 32)), wrap: wrap)
      let id = KeyDomainID(UInt16(samples.small(1 << 16)))
      let changes: [KeyChange] = [
        .create(name: samples.text(), wrap: wrap, fingerprintKey: samples.wrapped()),
        .rewrap([.init(domain: id, key: key), .init(domain: id, key: key)]),
        .addKey(id, key: key, fingerprintKey: samples.wrapped()),
        .rewrapDataKeys(
          id, version: 7, [.init(id: samples.number(), wrapped: samples.wrapped())]),
        .setBucket(bucket: samples.text(), keyDomain: samples.text()),
      ]
      for change in changes {
        let bytes = change.encoded
        #expect(try KeyChange(decoding: bytes) == change)
        for end in 0..<bytes.count {
          #expect(throws: ValueError.self) { try KeyChange(decoding: Array(bytes[..<end])) }
        }
      }
    }
  }

  @Test("a sealed group's header reads back; what is authenticated is all of it but its checksum")
  func sealedHeader() throws {
    var samples = Samples(random: Seed(8).generator)
    for _ in 0..<100 {
      let header = GroupHeader(
        codec: .zstd, chunkCount: 3, plainByteCount: 65_000, payloadByteCount: 60_016,
        seal: .init(
          keyID: 1 + samples.number() >> 1,
          nonce: .init(high: UInt32(samples.small(1 << 32)), low: samples.number())))
      #expect(try GroupHeader(decoding: header.encoded) == header)
      #expect(Array(header.authenticated) == Array(header.encoded[..<44]))
    }
    // A key without a cipher, a cipher without a key, a cipher that nobody knows.
    for (cipher, keyID) in [(UInt8(1), UInt64(0)), (2, 5), (255, 5)] {
      var bytes = GroupHeader(
        codec: .raw, chunkCount: 1, plainByteCount: 9, payloadByteCount: 25,
        seal: .init(keyID: 5, nonce: .init(high: 0, low: 0))
      ).encoded
      bytes[6] = cipher
      for index in 0..<8 { bytes[24 + index] = UInt8(truncatingIfNeeded: keyID >> (8 * index)) }
      let checksum = CRC32C.checksum(Array(bytes[..<44]))
      for index in 0..<4 { bytes[44 + index] = UInt8(truncatingIfNeeded: checksum >> (8 * index)) }
      #expect(throws: ValueError.self) { try GroupHeader(decoding: bytes) }
    }
  }

  @Test("a secret opens with its key and its binding alone", arguments: Seed.several)
  func secrets(seed: Seed) {
    var samples = Samples(random: seed.generator)
    for _ in 0..<50 {
      let (key, secret) = (samples.random.bytes(32), samples.random.bytes(Int(samples.small(80))))
      let binding = samples.random.bytes(Int(samples.small(40)))
      let sealed = SealedSecret.seal(
        secret, key: key, nonce: samples.random.bytes(12), binding: binding)
      #expect(sealed.count == secret.count + SealedSecret.overhead)
      #expect(SealedSecret.open(sealed, key: key, binding: binding) == secret)
      #expect(SealedSecret.open(sealed, key: key, binding: binding + [0]) == nil)
      #expect(SealedSecret.open(sealed, key: samples.random.bytes(32), binding: binding) == nil)
      #expect(SealedSecret.open(Array(sealed.dropLast()), key: key, binding: binding) == nil)
      #expect(SealedSecret.open([], key: key, binding: binding) == nil)
    }
  }

  @Test(
    "a key that a passphrase wraps opens with it alone, and whatever byte is changed it does not",
    arguments: Seed.several)
  func passphrases(seed: Seed) throws {
    var samples = Samples(random: seed.generator)
    let cost = try #require(Scrypt(logCost: 10, blockSize: 1, parallelism: 1))
    for _ in 0..<10 {
      let (key, passphrase) = (
        samples.random.bytes(32), samples.random.bytes(Int(samples.small(40)) + 1)
      )
      let wrap = try PassphraseWrap.wrap(
        key, passphrase: passphrase, domain: "mine", version: 1, cost: cost,
        salt: samples.random.bytes(16), nonce: samples.random.bytes(12))
      #expect(wrap.isClients && wrap.bytes.count == 80)
      func open(
        _ wrap: MasterWrap, _ passphrase: [UInt8], _ domain: String = "mine", _ version: UInt32 = 1
      ) -> Result<[UInt8], PassphraseWrap.Problem> {
        do throws(PassphraseWrap.Problem) {
          return .success(
            try PassphraseWrap.open(wrap, passphrase: passphrase, domain: domain, version: version))
        } catch {
          return .failure(error)
        }
      }
      #expect(open(wrap, passphrase) == .success(key))
      // Not [0]: HMAC fills short keys up with zeros.
      #expect(open(wrap, passphrase + [1]) == .failure(.wrongPassphrase))
      #expect(open(wrap, passphrase, "other") == .failure(.wrongPassphrase))
      #expect(open(wrap, passphrase, "mine", 2) == .failure(.wrongPassphrase))
      for place in wrap.bytes.indices where place != 1 || samples.random.next() % 4 == 0 {
        var wrong = wrap
        wrong.bytes[place] ^= 1 << UInt8(samples.random.next() % (place < 4 ? 2 : 8))
        #expect(throws: PassphraseWrap.Problem.self) { try open(wrong, passphrase).get() }
      }
      var wrong = wrap
      wrong.bytes[1] = 63
      #expect(open(wrong, passphrase) == .failure(.malformed))
      wrong = wrap
      wrong.bytes.removeLast(Int(samples.random.next() % 80) + 1)
      #expect(open(wrong, passphrase) == .failure(.malformed))
      wrong = wrap
      wrong.masterKey = "a master key"
      #expect(!wrong.isClients && open(wrong, passphrase) == .failure(.malformed))
    }
  }
}
