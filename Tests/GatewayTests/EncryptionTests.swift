import HTTP
import Messages
import Ring
import Simulation
import TestSupport
import Testing

@testable import Gateway

@Suite("Encryption as S3 names it") struct EncryptionTests {
  private typealias Headers = [(String, String)]
  private static let algorithm = "x-amz-server-side-encryption"
  private static let keyID = "x-amz-server-side-encryption-aws-kms-key-id"
  private static let aes: Headers = [(algorithm, "AES256")]
  private static func kms(_ key: String? = nil) -> Headers {
    [(algorithm, "aws:kms")] + (key.map { [(keyID, $0)] } ?? [])
  }

  private static func document(_ algorithm: String, _ key: String? = nil) -> String {
    let named = key.map { "<KMSMasterKeyID>\($0)</KMSMasterKeyID>" } ?? ""
    return
      "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>\(algorithm)</SSEAlgorithm>\(named)</ApplyServerSideEncryptionByDefault><BucketKeyEnabled>true</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>"
  }

  /// "AES256", "aws:kms other", "" for none.
  private static func told(_ answer: SignedClient.Answer) -> String {
    [answer.fields[algorithm], answer.fields[keyID]].compactMap { $0 }.joined(separator: " ")
  }

  /// A cluster with the key domains "own" and "other", and a gateway whose own is "own"; `bare` is one without any.
  private func run(
    _ body:
      @escaping @Sendable (
        _ cluster: TestCluster, _ own: SignedClient, _ bare: SignedClient, _ world: SimulatedWorld
      ) async throws -> Void
  ) throws {
    try SimulatedWorld.run(seed: 1) { world in
      let cluster = try await TestCluster(world, hasMasterKey: true)
      let backend = try await cluster.backend(keyDomain: "own")
      for name in ["own", "other"] { _ = try await backend.ask(CreateKeyDomain(name: name)) }
      let (gateway, own) = try await TestGateway.start(world, backend)
      let (second, bare) = try await TestGateway.start(
        world, try await cluster.backend("bare gateway"), host: "s3-bare")
      try await body(cluster, own, bare, world)
      for client in [own, bare] { await client.client.close() }
      for gateway in [gateway, second] { await gateway.stop() }
    }
  }

  @Test("a bucket's key domain is told, set while it is empty, and stays when it is not")
  func buckets() throws {
    try run { (_, own, bare, _) async throws in
      let none = "404 ServerSideEncryptionConfigurationNotFoundError"
      #expect(try await bare.outcome("PUT", "/plain") == "200")
      #expect(try await bare.outcome("GET", "/plain?encryption") == none)
      #expect(try await own.outcome("PUT", "/mine") == "200")
      let mine = try await own.send("GET", "/mine?encryption").text
      #expect(mine.contains("<SSEAlgorithm>AES256</SSEAlgorithm>") && !mine.contains("KMSMaster"))
      // To a gateway that has not this one it is a key domain like others.
      let seen = try await bare.send("GET", "/mine?encryption").text
      #expect(seen.contains("<SSEAlgorithm>aws:kms</SSEAlgorithm>"))
      #expect(seen.contains("<KMSMasterKeyID>own</KMSMasterKeyID>"))

      for (asked, client, wanted) in [
        (Self.document("AES256"), bare, "400 InvalidRequest"),
        (Self.document("AES256"), own, "200"), (Self.document("AES256"), own, "200"),
        (Self.document("aws:kms", "other"), bare, "200"),
        (Self.document("aws:kms", "arn:aws:kms:us-east-1:000000000000:key/own"), bare, "200"),
        (Self.document("aws:kms"), own, "200"),
        (Self.document("aws:kms"), bare, "400 InvalidRequest"),
        (Self.document("aws:kms", "nothing"), own, "400 KMS.NotFoundException"),
        (Self.document("aws:kms", "No Name"), own, "400 KMS.NotFoundException"),
        (Self.document("aws:kms", ""), own, "400 KMS.NotFoundException"),
        (Self.document("AES256", "own"), own, "400 InvalidArgument"),
        (Self.document("aws:kms:dsse"), own, "501 NotImplemented"),
        (Self.document("ROT13"), own, "400 MalformedXML"), ("<x/>", own, "400 MalformedXML"),
        (Self.document("AES256").replacing("true", with: "perhaps"), own, "400 MalformedXML"),
        ("<ServerSideEncryptionConfiguration/>", own, "400 MalformedXML"),
      ] {
        #expect(
          try await client.outcome("PUT", "/plain?encryption", body: asked) == wanted, "\(asked)")
      }
      #expect(
        try await own.outcome("PUT", "/none?encryption", body: Self.document("AES256"))
          == "404 NoSuchBucket")
      #expect(try await own.outcome("GET", "/none?encryption") == "404 NoSuchBucket")
      #expect(try await bare.send("GET", "/plain?encryption").text.contains(">own<"))
      #expect(try await bare.outcome("DELETE", "/plain?encryption") == "204")
      #expect(try await bare.outcome("GET", "/plain?encryption") == none)
      // What a gateway makes encrypted it does not make plain.
      #expect(try await own.outcome("DELETE", "/plain?encryption") == "204")
      #expect(try await own.outcome("GET", "/plain?encryption") == "200")

      #expect(try await own.outcome("PUT", "/plain/key", body: "bytes") == "200")
      #expect(
        try await own.outcome("PUT", "/plain?encryption", body: Self.document("AES256")) == "200")
      #expect(try await own.outcome("DELETE", "/plain?encryption") == "204")
      let refused = try await own.send(
        "PUT", "/plain?encryption", body: Self.document("aws:kms", "other"))
      #expect(refused.status == 409 && refused.code == "InvalidBucketState")
      #expect(refused.text.contains("copy them there"))
      #expect(try await bare.outcome("DELETE", "/plain?encryption") == "409 InvalidBucketState")
      #expect(try await own.send("GET", "/plain/key").text == "bytes")
    }
  }

  @Test("a bucket is made in the key domain that is asked for")
  func making() throws {
    try run { (_, own, bare, _) async throws in
      for (name, client, headers, wanted, told) in [
        ("a", own, Self.aes, "200", "AES256"), ("b", own, [], "200", "AES256"),
        ("c", own, Self.kms("other"), "200", "aws:kms other"),
        ("d", own, Self.kms(), "200", "AES256"),
        ("e", bare, Self.kms("own"), "200", "aws:kms own"), ("f", bare, [], "200", ""),
        ("g", bare, Self.aes, "400 InvalidRequest", nil),
        ("h", own, Self.kms("nothing"), "400 KMS.NotFoundException", nil),
        ("i", own, [(Self.algorithm, "ROT13")], "400 InvalidEncryptionAlgorithmError", nil),
        ("j", own, [(Self.keyID, "own")], "400 InvalidArgument", nil),
      ] as [(String, SignedClient, Headers, String, String?)] {
        let path = "/made-" + name
        #expect(try await client.outcome("PUT", path, headers) == wanted, "\(name)")
        guard let told else {
          #expect(try await client.outcome("HEAD", path) == "404")
          continue
        }
        #expect(Self.told(try await client.send("PUT", path + "/key", body: "x")) == told)
        #expect(Self.told(try await client.send("GET", path + "/key")) == told, "\(name)")
      }
    }
  }

  @Test("what asks for another encryption than the bucket's is not stored, and answers tell it")
  func objects() throws {
    try run { (_, own, bare, _) async throws in
      for (bucket, client, headers) in [
        ("plain", bare, []), ("mine", own, []), ("other", own, Self.kms("other")),
      ] as [(String, SignedClient, Headers)] {
        #expect(try await client.outcome("PUT", "/\(bucket)", headers) == "200")
        #expect(try await client.outcome("PUT", "/\(bucket)/old", body: "old") == "200")
      }
      let customer = [
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        (
          "x-amz-server-side-encryption-customer-key",
          "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
        ),
      ]
      let cases: [(bucket: String, headers: Headers, wanted: String)] = [
        ("plain", [], "200"), ("plain", Self.aes, "400 InvalidRequest"),
        ("plain", Self.kms(), "400 InvalidRequest"),
        ("plain", Self.kms("own"), "400 InvalidRequest"),

        ("mine", [], "200 AES256"), ("mine", Self.aes, "200 AES256"),
        ("mine", Self.kms(), "200 aws:kms own"), ("mine", Self.kms("own"), "200 aws:kms own"),
        ("mine", Self.kms("a/b:c/own"), "400 KMS.NotFoundException"),
        ("mine", Self.kms("arn:aws:kms:x:1:key/own"), "200 aws:kms own"),
        ("mine", Self.kms("other"), "400 InvalidRequest"),
        ("mine", Self.kms("nothing"), "400 KMS.NotFoundException"),
        ("other", [], "200 aws:kms other"), ("other", Self.kms("other"), "200 aws:kms other"),
        ("other", Self.aes, "400 InvalidRequest"), ("other", Self.kms(), "200 aws:kms other"),
        ("mine", [(Self.algorithm, "ROT13")], "400 InvalidEncryptionAlgorithmError"),
        ("mine", [(Self.keyID, "own")], "400 InvalidArgument"),
        (
          "mine", Self.aes + [("x-amz-server-side-encryption-context", "e30=")],
          "501 NotImplemented"
        ),
        (
          "mine", Self.kms() + [("x-amz-server-side-encryption-bucket-key-enabled", "true")],
          "200 aws:kms own"
        ),
      ]
      for (number, (bucket, headers, wanted)) in cases.enumerated() {
        let path = "/\(bucket)/new-\(number)"
        for (method, target, more, body) in [
          ("PUT", path, [], "new"), ("PUT", path, [("x-amz-copy-source", "/plain/old")], ""),
          ("POST", path + "?uploads", [], ""),
        ] as [(String, String, Headers, String)] {
          let answer = try await own.send(method, target, headers + more, body: body)
          let outcome = [String(answer.status), answer.code ?? Self.told(answer)]
            .filter { !$0.isEmpty }.joined(separator: " ")
          #expect(outcome == wanted, "\(method) \(target) \(headers) \(more)")
        }
        let isStored = wanted.hasPrefix("200")
        #expect(try await own.outcome("GET", path) == (isStored ? "200" : "404 NoSuchKey"))
      }
      for (bucket, told) in [("plain", ""), ("mine", "AES256"), ("other", "aws:kms other")] {
        for method in ["GET", "HEAD"] {
          #expect(Self.told(try await own.send(method, "/\(bucket)/old")) == told)
        }
        // Parts and the end of an upload tell it, too.
        let begun = try await own.send("POST", "/\(bucket)/parts?uploads").text
        let id = begun.split(separator: "UploadId>")[1].prefix { $0 != "<" }
        let part = try await own.send(
          "PUT", "/\(bucket)/parts?partNumber=1&uploadId=\(id)", body: "part")
        #expect(Self.told(part) == told)
        let copied = try await own.send(
          "PUT", "/\(bucket)/parts?partNumber=1&uploadId=\(id)",
          [("x-amz-copy-source", "/plain/old")])
        #expect(Self.told(copied) == told)
        #expect(
          try await own.outcome(
            "PUT", "/\(bucket)/parts?partNumber=2&uploadId=\(id)", customer, body: "part")
            == "400 InvalidRequest")
        let etag = copied.text.split(separator: "ETag>")[1].prefix { $0 != "<" }
        let done = try await own.send(
          "POST", "/\(bucket)/parts?uploadId=\(id)",
          body:
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\(etag)</ETag></Part></CompleteMultipartUpload>"
        )
        #expect(done.status == 200 && Self.told(done) == told, "\(done.text)")
        #expect(try await own.send("GET", "/\(bucket)/parts").text == "old")
      }
      // Reads have no say, and nobody brings a key of their own.
      #expect(try await own.outcome("GET", "/mine/old", Self.aes) == "400 InvalidArgument")
      #expect(try await own.outcome("HEAD", "/mine/old", Self.aes) == "400")
      #expect(try await own.outcome("GET", "/mine/old", customer) == "400 InvalidRequest")
      let foreign = [
        ("x-amz-copy-source", "/mine/old"),
        ("x-amz-copy-source-server-side-encryption-customer-algorithm", "AES256"),
      ]
      #expect(try await own.outcome("PUT", "/mine/copy", foreign) == "400 InvalidRequest")
      let unknown = [("x-amz-server-side-encryption-customer-what", "x")]
      #expect(try await own.outcome("PUT", "/mine/no", unknown, body: "x") == "501 NotImplemented")
      // S3 lets an object be copied onto itself when an encryption is named.
      let itself = [("x-amz-copy-source", "/mine/old")]
      #expect(try await own.outcome("PUT", "/mine/old", itself) == "400 InvalidRequest")
      #expect(try await own.outcome("PUT", "/mine/old", itself + Self.aes) == "200")
    }
  }

  @Test(
    "policies may demand an encryption, and who may make buckets may not choose theirs for that")
  func policies() throws {
    try run { (_, own, _, _) async throws in
      #expect(try await own.outcome("PUT", "/mine") == "200")
      let policy =
        "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Deny\",\"Principal\":\"*\",\"Action\":\"s3:PutObject\",\"Resource\":\"arn:aws:s3:::mine/*\",\"Condition\":{\"StringNotEquals\":{\"s3:x-amz-server-side-encryption\":\"aws:kms\"}}},{\"Effect\":\"Deny\",\"Principal\":\"*\",\"Action\":\"s3:PutObject\",\"Resource\":\"arn:aws:s3:::mine/*\",\"Condition\":{\"StringNotEquals\":{\"s3:x-amz-server-side-encryption-aws-kms-key-id\":\"own\"}}},{\"Effect\":\"Deny\",\"Principal\":\"*\",\"Action\":\"s3:PutObject\",\"Resource\":\"arn:aws:s3:::mine/*\",\"Condition\":{\"Null\":{\"s3:x-amz-server-side-encryption-customer-algorithm\":\"false\"}}}]}"
      #expect(try await own.outcome("PUT", "/mine?policy", body: policy) == "204")
      for (headers, wanted) in [
        ([], "403 AccessDenied"), (Self.aes, "403 AccessDenied"),
        (Self.kms(), "403 AccessDenied"),
        (Self.kms("own"), "200"), (Self.kms("other"), "403 AccessDenied"),
      ] as [(Headers, String)] {
        #expect(try await own.outcome("PUT", "/mine/key", headers, body: "x") == wanted)
      }
      let request = try S3Request(
        HTTPRequestHead(
          method: "PUT", target: "/new",
          fields: HTTPFields([.init("Host", "s3"), .init(Self.algorithm, "AES256")])), domain: "")
      #expect(
        try OperationTable.needs(request)?.map(\.action.name) == [
          "s3:CreateBucket", "s3:PutEncryptionConfiguration",
        ])
    }
  }

  @Test("a key domain that cannot be opened is told without a word of where its key is")
  func closed() throws {
    try run { (cluster, own, bare, world) async throws in
      #expect(try await own.outcome("PUT", "/mine") == "200")
      #expect(
        try await own.outcome("PUT", "/mine/key", body: String(repeating: "x", count: 9000))
          == "200")
      #expect(try await bare.outcome("PUT", "/plain") == "200")
      #expect(try await bare.outcome("PUT", "/plain/key", body: "plain") == "200")
      try await cluster.restartCoordinator(hasMasterKey: false)
      // The other gateway was never given a key.
      for (method, target, body) in [
        ("GET", "/mine/key", ""), ("PUT", "/mine/new", "new"), ("PUT", "/mine/none", ""),
      ] {
        let answer = try await bare.send(method, target, body: body)
        #expect(answer.status == 400 && answer.code == "KMS.DisabledException", "\(answer.text)")
        #expect(!answer.text.contains("master") && !answer.text.contains("coordinator"))
      }
      #expect(try await bare.outcome("HEAD", "/mine/key") == "200")
      #expect(try await bare.send("GET", "/plain/key").text == "plain")
      try await cluster.restartCoordinator(hasMasterKey: true)
      #expect(try await bare.send("GET", "/mine/key").text.count == 9000)
    }
  }
}
