import Coding
import HTTP
import Messages
import Ring
import Service
import Simulation
import TestSupport
import Testing

@testable import Gateway

@Suite("Keys that clients bring") struct CustomerKeyTests {
  private static let prefix = "x-amz-server-side-encryption-customer-"
  private static let sourcePrefix = "x-amz-copy-source-server-side-encryption-customer-"
  private static func headers(_ key: [UInt8], _ prefix: String = prefix) -> [(String, String)] {
    [
      (prefix + "algorithm", "AES256"), (prefix + "key", Base64.encode(key)),
      (prefix + "key-md5", Base64.encode(RunningDigest.of(key, .md5))),
    ]
  }

  private static func opened(_ seed: UInt8) -> CustomerSeal.Opened {
    CustomerSeal.Opened(key: (0..<32).map { $0 ^ seed })
  }

  private static func apply(_ cipher: CustomerCipher, _ bytes: [UInt8], at offset: Int) -> [UInt8] {
    var bytes = bytes
    bytes.withUnsafeMutableBytes { cipher.apply(to: $0, at: UInt64(offset)) }
    return bytes
  }

  @Test(
    "bytes are encrypted alike however they are cut, and come back by the same",
    arguments: Seed.several)
  func cipher(seed: Seed) {
    var random = seed.generator
    let cipher = CustomerCipher(Self.opened(7))
    let plain = random.bytes(Int.random(in: 1...100_000, using: &random))
    let sealed = Self.apply(cipher, plain, at: 0)
    #expect(zip(plain, sealed).count { $0 == $1 } < 16 + plain.count / 64)
    #expect(Self.apply(cipher, sealed, at: 0) == plain)
    var place = 0
    var pieces: [UInt8] = []
    while place < plain.count {
      let end = min(plain.count, place + Int.random(in: 1...30_000, using: &random))
      pieces += Self.apply(cipher, Array(plain[place..<end]), at: place)
      place = end
    }
    #expect(pieces == sealed)
    for _ in 0..<20 {
      let from = Int.random(in: 0..<plain.count, using: &random)
      let end = Int.random(in: from...plain.count, using: &random)
      #expect(Self.apply(cipher, Array(sealed[from..<end]), at: from) == Array(plain[from..<end]))
    }
    // Each unit is what GCM makes of it under its number.
    var gcm = AES256GCM(key: Self.opened(7).key)
    let unit = Int.random(in: 0...(plain.count - 1) / CustomerCipher.unitByteCount, using: &random)
    let start = unit * CustomerCipher.unitByteCount
    let end = min(plain.count, start + CustomerCipher.unitByteCount)
    var wanted = [UInt8](repeating: 0, count: end - start + AES256GCM.tagByteCount)
    plain[start..<end].withUnsafeBytes { plain in
      wanted.withUnsafeMutableBytes {
        gcm.seal(plain, into: $0, nonce: AES256GCM.Nonce(high: 0, low: UInt64(unit)))
      }
    }
    #expect(Array(wanted.dropLast(AES256GCM.tagByteCount)) == Array(sealed[start..<end]))
    #expect(Self.apply(CustomerCipher(Self.opened(8)), plain, at: 0) != sealed)
  }

  @Test(
    "an object of parts is decrypted from any place, and equal parts are not equal when encrypted",
    arguments: Seed.several)
  func parts(seed: Seed) throws {
    var random = seed.generator
    let whole = Self.opened(9)
    let same = random.bytes(40_000)
    var plain: [UInt8] = []
    var sealed: [UInt8] = []
    var listed: [ListParts.Part] = []
    for number in 1...Int.random(in: 2...9, using: &random) {
      let part =
        number < 3 ? same : random.bytes(Int.random(in: 0...50_000, using: &random))
      let one = CustomerPart(whole: whole, nonce: random.bytes(CustomerParts.nonceByteCount))
      plain += part
      sealed += Self.apply(CustomerCipher(one.opened), part, at: 0)
      listed.append(
        ListParts.Part(
          part: NewPart(
            number: UInt32(number), page: 7, byteCount: UInt64(part.count),
            digest: one.digest([UInt8](repeating: 0, count: 16)), checksum: []), identity: 1,
          modified: 1))
    }
    #expect(sealed.prefix(40_000) != sealed.dropFirst(40_000).prefix(40_000))
    let parts = try CustomerParts(listed)
    #expect(CustomerParts(ObjectAttributes(user: parts.attributes)) == parts)
    #expect(!ObjectFacts(ObjectAttributes(), contentName: "").hasDamagedCustomerParts)
    var opened = whole
    opened.parts = parts
    let cipher = CustomerCipher(opened)
    #expect(Self.apply(cipher, sealed, at: 0) == plain)
    for _ in 0..<50 {
      let from = Int.random(in: 0..<plain.count, using: &random)
      let end = Int.random(in: from...plain.count, using: &random)
      #expect(Self.apply(cipher, Array(sealed[from..<end]), at: from) == Array(plain[from..<end]))
    }
    // Bytes that are none trap nowhere.
    for _ in 0..<100 {
      let text = Base64.encode(random.bytes(Int.random(in: 0...40, using: &random)))
      let name = parts.attributes[0].name
      let attributes = ObjectAttributes(user: [.init(name: name, value: text)])
      let found = CustomerParts(attributes)
      let facts = ObjectFacts(attributes, contentName: "")
      #expect(facts.hasDamagedCustomerParts == (found == nil))
      opened.parts = found
      _ = Self.apply(CustomerCipher(opened), [1, 2, 3], at: Int.random(in: 0...99, using: &random))
    }
    // The most that there may be fit the attributes that there may be.
    let most = (1...CustomerParts.countLimit).map {
      ListParts.Part(
        part: NewPart(
          number: UInt32($0), page: 7, byteCount: 5 << 30, digest: random.bytes(24), checksum: []),
        identity: 1, modified: 1)
    }
    #expect(try CustomerParts(most).attributes.count <= 10)
  }

  @Test("what was changed of a kept seal opens by no key")
  func seals() throws {
    let request = try S3Request(
      .init(
        method: "GET", target: "/b/k",
        fields: .init(
          [.init("Host", "s3")]
            + Self.headers([UInt8](repeating: 1, count: 32)).map { .init($0.0, $0.1) })), domain: ""
    )
    let key = try #require(try CustomerKey(request, isSecure: true))
    let seal = CustomerSeal(key, salt: [UInt8](repeating: 3, count: 32))
    #expect(CustomerSeal(text: seal.text) == seal && seal.open(key) != nil)
    for text in ["", "00", "x", String(seal.text.dropLast(2)), seal.text + "00"] {
      #expect(CustomerSeal(text: text).open(key) == nil)
    }
    for place in [0, 63, 64, 127] {
      var digits = Array(seal.text)
      digits[place] = digits[place] == "0" ? "1" : "0"
      #expect(CustomerSeal(text: String(digits)).open(key) == nil)
    }
  }

  @Test(
    "an object that was stored with a key is given to who brings it, and to nobody else",
    arguments: BackendKind.allCases)
  func objects(kind: BackendKind) throws {
    try SimulatedWorld.run(seed: 5) { world in
      var random = SeededGenerator(seed: 5)
      let backend: any ObjectBackend =
        switch kind {
        case .cluster: try await TestCluster(world).backend("objects")
        case .filesystem: try await FilesystemBackend.open("/base", on: world.process("objects"))
        }
      let (gateway, root) = try await TestGateway.start(
        world, backend, host: "gateway", isSecure: true)
      #expect(try await root.outcome("PUT", "/bucket") == "200")
      let (key, other) = (random.bytes(32), random.bytes(32))
      let mine = Self.headers(key)
      let body = String(
        decoding: (0..<50_000).map { _ in UInt8.random(in: 32..<127, using: &random) },
        as: UTF8.self)
      let digest = hexText(RunningDigest.of(Array(body.utf8), .md5))
      let put = try await root.send("PUT", "/bucket/key", mine, body: body)
      #expect(put.status == 200 && put.fields[Self.prefix + "key-MD5"] == mine[2].1)
      #expect(put.fields[Self.prefix + "algorithm"] == "AES256")
      #expect(put.fields["ETag"] != "\"\(digest)\"" && put.fields["ETag"]?.utf8.count == 34)

      let whole = try await root.send("GET", "/bucket/key", mine)
      #expect(whole.status == 200 && whole.text == body)
      #expect(whole.fields["ETag"] == put.fields["ETag"])
      #expect(whole.fields[Self.prefix + "key-MD5"] == mine[2].1)
      for (from, to) in [(0, 0), (1, 16_383), (16_383, 16_384), (20_000, 49_999), (49_999, 49_999)]
      {
        let part = try await root.send(
          "GET", "/bucket/key", mine + [("Range", "bytes=\(from)-\(to)")])
        #expect(part.status == 206)
        #expect(part.text == String(body.dropFirst(from).prefix(to - from + 1)), "\(from) \(to)")
      }
      #expect(try await root.send("HEAD", "/bucket/key", mine).fields["Content-Length"] == "50000")
      for (headers, wanted) in [
        ([], "400 InvalidRequest"), (Self.headers(other), "403 AccessDenied"),
        (Array(mine.dropFirst()), "400 InvalidArgument"), ([mine[0]], "400 InvalidArgument"),
        (Array(mine.dropLast()), "400 InvalidArgument"),
        (mine.dropLast() + [Self.headers(other)[2]], "400 InvalidArgument"),
        (Self.headers(Array(key.dropLast())), "400 InvalidArgument"),
        (
          [(Self.prefix + "algorithm", "ROT13")] + mine.dropFirst(),
          "400 InvalidEncryptionAlgorithmError"
        ),
        (mine + [mine[1]], "400 InvalidRequest"),
      ] as [([(String, String)], String)] {
        #expect(try await root.outcome("GET", "/bucket/key", headers) == wanted, "\(headers)")
        #expect(try await root.outcome("HEAD", "/bucket/key", headers) == String(wanted.prefix(3)))
        if headers.isEmpty
          || headers[0].1 == "AES256" && headers.count == 3 && wanted.hasPrefix("403")
        {
          continue
        }
        #expect(try await root.outcome("PUT", "/bucket/no", headers, body: "x") == wanted)
      }
      let attributes = [("x-amz-object-attributes", "ETag")]
      #expect(
        try await root.outcome("GET", "/bucket/key?attributes", attributes) == "400 InvalidRequest")
      #expect(try await root.outcome("GET", "/bucket/key?attributes", attributes + mine) == "200")
      // What is kept is not what came.
      let found = try await backend.find(ObjectName(bucket: "bucket", key: "key"), wanted: 0..<0)
      #expect(found.byteCount == 50_000)
      // The MD5 is that of the plain bytes, whenever it is made.
      let facts = ObjectFacts(found.attributes, contentName: found.contentName)
      let request = try S3Request(
        .init(
          method: "GET", target: "/b/k",
          fields: .init([.init("Host", "s3")] + mine.map { .init($0.0, $0.1) })), domain: "")
      let opened = try #require(
        try CustomerKey(request, isSecure: true).flatMap { facts.customer?.open($0) })
      #expect(put.fields["ETag"] == "\"\(opened.etag(hexBytes(digest)!))\"")
      for (claimed, wanted) in [(body, "200"), (body + "x", "400 BadDigest")] {
        let md5 = Base64.encode(RunningDigest.of(Array(claimed.utf8), .md5))
        #expect(
          try await root.outcome(
            "PUT", "/bucket/claimed", mine + [("Content-MD5", md5)], body: body) == wanted)
      }
      #expect(try await root.send("GET", "/bucket/claimed", mine).text == body)
      #expect(!found.attributes.user.contains { $0.value.contains(hexText(key)) })
      #expect(try await root.outcome("PUT", "/bucket/plain", body: body) == "200")
      #expect(try await root.outcome("GET", "/bucket/plain", mine) == "400 InvalidRequest")
      #expect(
        try await root.outcome(
          "PUT", "/bucket/no", mine + [("x-amz-server-side-encryption", "AES256")], body: "x")
          == "400 InvalidArgument")
      #expect(try await root.outcome("POST", "/bucket/no?uploads", mine) == "200")

      // A copy keeps the key, and needs it.
      let source = [("x-amz-copy-source", "/bucket/key")]
      let sourceKey = Self.headers(key, Self.sourcePrefix)
      for (headers, wanted) in [
        (source, "400 InvalidRequest"), (source + mine, "400 InvalidRequest"),
        (source + Self.headers(other, Self.sourcePrefix), "403 AccessDenied"),
        (source + sourceKey, "501 NotImplemented"),
        (source + sourceKey + Self.headers(other), "501 NotImplemented"),
        ([("x-amz-copy-source", "/bucket/plain")] + mine, "501 NotImplemented"),
        ([("x-amz-copy-source", "/bucket/plain")] + sourceKey, "400 InvalidRequest"),
        (source + sourceKey + mine, "200"),
        (source + sourceKey + mine + [("x-amz-metadata-directive", "REPLACE")], "200"),
      ] {
        #expect(try await root.outcome("PUT", "/bucket/copy", headers) == wanted, "\(headers)")
      }
      #expect(try await root.send("GET", "/bucket/copy", mine).text == body)
      #expect(try await root.outcome("GET", "/bucket/copy") == "400 InvalidRequest")
      let begun = try await root.send("POST", "/bucket/parts?uploads").text
      let id = begun.split(separator: "UploadId>")[1].prefix { $0 != "<" }
      let part = "/bucket/parts?partNumber=1&uploadId=\(id)"
      #expect(try await root.outcome("PUT", part, mine, body: "x") == "400 InvalidRequest")
      #expect(try await root.outcome("PUT", part, source) == "400 InvalidRequest")
      #expect(try await root.outcome("PUT", part, source + sourceKey) == "200")

      // An upload that is begun with a key: each part is encrypted by itself, also when it is put twice.
      let sealed = try await root.send("POST", "/bucket/sealed?uploads", mine)
      #expect(sealed.fields[Self.prefix + "algorithm"] == "AES256")
      let upload = "uploadId=" + sealed.text.split(separator: "UploadId>")[1].prefix { $0 != "<" }
      let first = "/bucket/sealed?partNumber=1&" + upload
      #expect(try await root.outcome("PUT", first, body: body) == "400 InvalidRequest")
      #expect(
        try await root.outcome("PUT", first, Self.headers(other), body: body)
          == "400 InvalidRequest")
      var nonces: Set<[UInt8]> = []
      for _ in 0..<3 {
        #expect(try await root.outcome("PUT", first, mine, body: body) == "200")
        let name = UploadName(
          ObjectName(bucket: "bucket", key: "sealed"), id: String(upload.dropFirst(9)))
        let kept = try await backend.parts(name, after: 0, limit: 10).parts[0].part
        nonces.insert(kept.nonce)
        #expect(kept.digest.count == 24)
      }
      #expect(nonces.count == 3)
      let copied = try await root.send("PUT", first, source + sourceKey + mine)
      let etag = copied.text.split(separator: "ETag>")[1].prefix { $0 != "<" }
      let document =
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\(etag)</ETag></Part></CompleteMultipartUpload>"
      #expect(
        try await root.outcome(
          "POST", "/bucket/sealed?" + upload, Self.headers(other), body: document)
          == "400 InvalidRequest")
      #expect(
        try await root.outcome("POST", "/bucket/sealed?" + upload, mine, body: document) == "200")
      #expect(try await root.send("GET", "/bucket/sealed", mine).text == body)
      #expect(try await root.outcome("GET", "/bucket/sealed") == "400 InvalidRequest")
      #expect(
        try await root.send("GET", "/bucket/sealed", mine + [("Range", "bytes=20000-20003")]).text
          == String(decoding: Array(body.utf8)[20000..<20004], as: UTF8.self))
      #expect(try await root.outcome("PUT", "/bucket/empty", mine) == "200")
      #expect(try await root.send("GET", "/bucket/empty", mine).text == "")
      await root.client.close()
      await gateway.stop()
    }
  }

  @Test("no key is taken over a connection that others may read")
  func insecure() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let backend = try await FilesystemBackend.open("/base", on: world.process("objects"))
      let (gateway, root) = try await TestGateway.start(world, backend)
      #expect(try await root.outcome("PUT", "/bucket") == "200")
      let mine = Self.headers([UInt8](repeating: 7, count: 32))
      #expect(try await root.outcome("PUT", "/bucket/key", mine, body: "x") == "400 InvalidRequest")
      #expect(try await root.outcome("PUT", "/bucket/key", body: "x") == "200")
      #expect(try await root.outcome("GET", "/bucket/key", mine) == "400 InvalidRequest")
      await root.client.close()
      await gateway.stop()
    }
  }
}
