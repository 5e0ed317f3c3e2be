import Coding
import HTTP
import Messages
import Ring
import Service
import Simulation
import TestSupport
import Testing

@testable import Gateway

@Suite("Who may do what") struct AccessTests {
  private static let alice = AccessKey(name: "ALICEALICEALICEALICE", secret: "alice's secret")
  private static let bob = AccessKey(name: "BOBBOBBOBBOBBOBBOBBO", secret: "bob's secret")

  private func run(
    _ kind: BackendKind,
    _ body:
      @escaping @Sendable (any ObjectBackend, SignedClient, SimulatedWorld) async throws ->
      Void
  ) throws {
    try SimulatedWorld.run(seed: 1) { world in
      let backend = try await kind.open(world)
      let (gateway, root) = try await TestGateway.start(world, backend)
      #expect(try await root.outcome("PUT", "/bucket") == "200")
      #expect(try await root.outcome("PUT", "/bucket/key", body: "bytes") == "200")
      try await body(backend, root, world)
      await root.client.close()
      await gateway.stop()
    }
  }

  private static func user(_ backend: any ObjectBackend, _ name: String, _ key: AccessKey)
    async throws
  {
    let cluster = try #require(backend as? ClusterBackend)
    try await cluster.change(.changeUser(name: name, .create))
    let sealed = TestCluster.secrets.seal(
      key.secret, of: key.name, user: name, nonce: Array(1...12))
    try await cluster.change(
      .changeAccessKey(name: key.name, .create(user: name, sealedSecret: sealed)))
  }

  private static func document(
    _ effect: String, _ action: String, _ resource: String, _ more: String = ""
  )
    -> String
  {
    "{\"Version\":\"2012-10-17\",\"Statement\":{\"Effect\":\"\(effect)\",\"Action\":\"\(action)\",\"Resource\":\"arn:aws:s3:::\(resource)\"\(more)}}"
  }
  private static let anybody = ",\"Principal\":\"*\""

  @Test("a user may do nothing, then what its policy says, and nothing again when it is disabled")
  func users() throws {
    try run(.cluster) { backend, root, world in
      let cluster = try #require(backend as? ClusterBackend)
      let alice = root.signing(Self.alice)
      #expect(try await alice.outcome("GET", "/bucket/key") == "403 InvalidAccessKeyId")
      try await Self.user(backend, "alice", Self.alice)
      // That there is none is believed for a while, too.
      await world.sleep(Gatekeeper.lifetime)
      for (method, target) in [
        ("GET", "/"), ("GET", "/bucket"), ("GET", "/bucket/key"), ("PUT", "/bucket/other"),
        ("PUT", "/own"), ("GET", "/none"), ("POST", "/bucket/key?uploads"), ("DELETE", "/bucket"),
        ("GET", "/bucket?policy"), ("PATCH", "/bucket/key"),
      ] {
        let outcome = try await alice.outcome(method, target)
        #expect(outcome == "403 AccessDenied", "\(method) \(target)")
      }
      try await cluster.change(
        .changeUser(
          name: "alice",
          .setPolicy(
            NamedPolicy(
              name: "read", document: Self.document("Allow", "s3:GetObject", "bucket/*")))))
      await world.sleep(Gatekeeper.lifetime)
      #expect(try await alice.send("GET", "/bucket/key").text == "bytes")
      #expect(try await alice.outcome("PUT", "/bucket/key", body: "x") == "403 AccessDenied")
      // Whether it is there is not for those to know who may not list.
      #expect(try await alice.outcome("GET", "/bucket/none") == "403 AccessDenied")
      #expect(try await root.outcome("GET", "/bucket/none") == "404 NoSuchKey")
      #expect(
        try await alice.signing(AccessKey(name: Self.alice.name, secret: "wrong"))
          .outcome("GET", "/bucket/key") == "403 SignatureDoesNotMatch")
      // A policy that denies outweighs one that allows.
      try await cluster.change(
        .changeUser(
          name: "alice",
          .setPolicy(NamedPolicy(name: "not", document: Self.document("Deny", "*", "bucket/key")))))
      await world.sleep(Gatekeeper.lifetime)
      #expect(try await alice.outcome("GET", "/bucket/key") == "403 AccessDenied")
      try await cluster.change(.changeUser(name: "alice", .deletePolicy("not")))
      await world.sleep(Gatekeeper.lifetime)
      #expect(try await alice.outcome("GET", "/bucket/key") == "200")
      for change in [
        ClientCommand.changeUser(name: "alice", .setEnabled(false)),
        .changeAccessKey(name: Self.alice.name, .setEnabled(false)),
        .changeUser(name: "alice", .setEnabled(true)), .changeUser(name: "alice", .delete),
      ] {
        try await cluster.change(change)
        await world.sleep(Gatekeeper.lifetime)
        #expect(try await alice.outcome("GET", "/bucket/key") == "403 InvalidAccessKeyId")
      }
    }
  }

  @Test("nobody asks unsigned but where a bucket says so", arguments: BackendKind.allCases)
  func anonymous(kind: BackendKind) throws {
    try run(kind) { (_, root, _) async throws in
      let nobody = root.signing(nil)
      for target in ["/", "/bucket", "/bucket/key", "/none", "/none/key"] {
        #expect(try await nobody.outcome("GET", target) == "403 AccessDenied")
      }
      let open = Self.document("Allow", "s3:GetObject", "bucket/*", Self.anybody)
      #expect(try await root.outcome("PUT", "/bucket?policy", body: open) == "204")
      #expect(try await root.send("GET", "/bucket?policy").text == open)
      #expect(try await root.send("GET", "/bucket?policyStatus").text.contains(">true<"))
      #expect(try await nobody.send("GET", "/bucket/key").text == "bytes")
      #expect(try await nobody.outcome("GET", "/bucket") == "403 AccessDenied")
      #expect(try await nobody.outcome("GET", "/bucket/none") == "403 AccessDenied")
      #expect(try await nobody.outcome("PUT", "/bucket/key", body: "x") == "403 AccessDenied")
      #expect(try await nobody.outcome("GET", "/bucket?policy") == "403 AccessDenied")
      // The block outweighs the policy.
      let block =
        "<PublicAccessBlockConfiguration><RestrictPublicBuckets>true</RestrictPublicBuckets><BlockPublicPolicy>true</BlockPublicPolicy></PublicAccessBlockConfiguration>"
      #expect(try await root.outcome("PUT", "/bucket?publicAccessBlock", body: block) == "200")
      #expect(try await nobody.outcome("GET", "/bucket/key") == "403 AccessDenied")
      #expect(try await root.outcome("PUT", "/bucket?policy", body: open) == "403 AccessDenied")
      #expect(try await root.outcome("DELETE", "/bucket?publicAccessBlock") == "204")
      #expect(try await nobody.outcome("GET", "/bucket/key") == "200")
      #expect(try await root.outcome("DELETE", "/bucket?policy") == "204")
      #expect(try await root.outcome("GET", "/bucket?policy") == "404 NoSuchBucketPolicy")
      #expect(try await nobody.outcome("GET", "/bucket/key") == "403 AccessDenied")
    }
  }

  @Test(
    "what browsers may do is asked of the cluster once in a while, not for each of their questions")
  func crossOrigin() throws {
    try run(.cluster) { backend, root, world in
      let nobody = root.signing(nil)
      let asking = [("Origin", "http://page.example"), ("Access-Control-Request-Method", "GET")]
      func preflight() async throws -> String {
        try await nobody.outcome("OPTIONS", "/bucket/key", asking)
      }
      #expect(try await preflight() == "403 AccessForbidden")
      let rules =
        "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
      // Through another gateway: this one goes on with what it was told.
      try await backend.set(BucketSetting(.cors, Array(rules.utf8)), of: "bucket")
      #expect(try await preflight() == "403 AccessForbidden")
      await world.sleep(Gatekeeper.lifetime)
      #expect(try await preflight() == "200")
      let answer = try await nobody.send("GET", "/bucket/key", [("Origin", "http://page.example")])
      #expect(answer.status == 403)
      #expect(answer.fields["Access-Control-Allow-Origin"] == "*")
      // What goes through this one counts at once.
      #expect(try await root.outcome("DELETE", "/bucket?cors") == "204")
      #expect(try await preflight() == "403 AccessForbidden")
      #expect(try await root.outcome("PUT", "/bucket?cors", body: rules) == "200")
      #expect(try await preflight() == "200")
      #expect(try await root.outcome("DELETE", "/bucket/key") == "204")
      #expect(try await root.outcome("DELETE", "/bucket") == "204")
      #expect(try await preflight() == "403 AccessForbidden")
    }
  }

  @Test("a body of which nothing says how long it is makes no empty object")
  func length() throws {
    try run(.filesystem) { (_, root, world) async throws in
      let open = [("x-amz-acl", "public-read-write")]
      #expect(try await root.outcome("PUT", "/bucket?acl", open) == "200")
      let process = world.process("bare")
      for (framing, wanted) in [
        ("", "411"), ("Content-Length: 0\r\n", "200"), ("Transfer-Encoding: chunked\r\n", "200"),
      ] {
        let connection = try await Connection.connect(
          to: SocketAddress(host: "s3", port: 9000), on: process)
        let text = "PUT /bucket/key HTTP/1.1\r\nHost: s3\r\n\(framing)\r\n0\r\n\r\n"
        try await connection.send([Slice(copying: Array(text.utf8), pool: process.buffers)])
        let slice = process.buffers.slice(4096)
        let count = try await connection.receive(into: slice)
        let answer = String(decoding: slice[0..<count].array, as: UTF8.self)
        #expect(answer.hasPrefix("HTTP/1.1 \(wanted)"), "\(framing)")
        if wanted == "411" {
          #expect(answer.contains("<Code>MissingContentLength</Code>"))
          #expect(try await root.send("GET", "/bucket/key").text == "bytes")
        }
        await connection.close()
      }
    }
  }

  @Test("ACLs of buckets are what S3 says of them", arguments: BackendKind.allCases)
  func acls(kind: BackendKind) throws {
    try run(kind) { (_, root, _) async throws in
      let nobody = root.signing(nil)
      let acl = { (name: String) in [("x-amz-acl", name)] }
      #expect(try await root.outcome("PUT", "/bucket?acl", acl("public-read")) == "200")
      let answer = try await root.send("GET", "/bucket?acl").text
      #expect(answer.contains("AllUsers") && answer.contains("<Permission>READ</Permission>"))
      #expect(try await nobody.outcome("GET", "/bucket") == "200")
      #expect(try await nobody.outcome("GET", "/bucket/key") == "200")
      #expect(try await nobody.outcome("GET", "/bucket/none") == "404 NoSuchKey")
      #expect(try await nobody.outcome("PUT", "/bucket/new", body: "x") == "403 AccessDenied")
      #expect(try await nobody.outcome("GET", "/bucket?acl") == "403 AccessDenied")
      // What was given is taken as a document, too.
      #expect(try await root.outcome("PUT", "/bucket?acl", acl("public-read-write")) == "200")
      let document = try await root.send("GET", "/bucket?acl").text
      #expect(try await root.outcome("PUT", "/bucket?acl", acl("private")) == "200")
      #expect(try await nobody.outcome("GET", "/bucket") == "403 AccessDenied")
      #expect(try await root.outcome("PUT", "/bucket?acl", body: document) == "200")
      #expect(try await nobody.outcome("PUT", "/bucket/new", body: "x") == "200")
      #expect(try await nobody.outcome("DELETE", "/bucket/new") == "204")
      #expect(try await nobody.outcome("DELETE", "/bucket") == "403 AccessDenied")
      let ignore =
        "<PublicAccessBlockConfiguration><IgnorePublicAcls>true</IgnorePublicAcls></PublicAccessBlockConfiguration>"
      #expect(try await root.outcome("PUT", "/bucket?publicAccessBlock", body: ignore) == "200")
      #expect(try await nobody.outcome("GET", "/bucket") == "403 AccessDenied")
      let ownership =
        "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>"
      #expect(
        try await root.outcome("PUT", "/bucket?ownershipControls", body: ownership)
          == "400 InvalidBucketAclWithObjectOwnership")
      #expect(try await root.outcome("PUT", "/bucket?acl", acl("private")) == "200")
      #expect(try await root.outcome("PUT", "/bucket?ownershipControls", body: ownership) == "200")
      #expect(
        try await root.outcome("PUT", "/bucket?acl", acl("public-read"))
          == "400 AccessControlListNotSupported")
      #expect(
        try await root.outcome("PUT", "/bucket?acl", acl("none")) == "400 InvalidArgument")
      #expect(
        try await root.outcome("PUT", "/bucket/key?acl", acl("public-read"))
          == "400 AccessControlListNotSupported")
      #expect(try await root.send("GET", "/bucket/key?acl").text.contains("FULL_CONTROL"))
      #expect(try await root.outcome("GET", "/bucket/none?acl") == "404 NoSuchKey")
      // With a new bucket; and one of its name has none of it.
      #expect(try await root.outcome("PUT", "/open", acl("public-read")) == "200")
      #expect(try await nobody.outcome("GET", "/open") == "200")
      #expect(try await root.outcome("DELETE", "/open") == "204")
      #expect(try await root.outcome("PUT", "/open") == "200")
      #expect(try await nobody.outcome("GET", "/open") == "403 AccessDenied")
    }
  }

  @Test(
    "many keys are judged one by one, a copy by its source too, and buckets are shown that may be listed"
  )
  func parts() throws {
    try run(.cluster) { backend, root, world in
      let cluster = try #require(backend as? ClusterBackend)
      try await Self.user(backend, "alice", Self.alice)
      let alice = root.signing(Self.alice)
      #expect(try await root.outcome("PUT", "/hidden") == "200")
      #expect(try await root.outcome("PUT", "/hidden/key", body: "secret") == "200")
      let document =
        "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"s3:*\",\"Resource\":[\"arn:aws:s3:::bucket\",\"arn:aws:s3:::bucket/${aws:username}/*\"]}]}"
      try await cluster.change(
        .changeUser(name: "alice", .setPolicy(NamedPolicy(name: "own", document: document))))
      await world.sleep(Gatekeeper.lifetime)
      let listed = try await alice.send("GET", "/")
      #expect(listed.text.contains("<Name>bucket</Name>") && !listed.text.contains("hidden"))
      #expect(try await alice.outcome("PUT", "/bucket/alice/a", body: "x") == "200")
      #expect(try await alice.outcome("PUT", "/bucket/bob/a", body: "x") == "403 AccessDenied")
      let many =
        "<Delete><Object><Key>alice/a</Key></Object><Object><Key>key</Key></Object></Delete>"
      let answer = try await alice.send("POST", "/bucket?delete", body: many).text
      #expect(answer.contains("<Deleted><Key>alice/a</Key></Deleted>"))
      #expect(answer.contains("<Key>key</Key><Code>AccessDenied</Code>"))
      #expect(try await root.outcome("GET", "/bucket/key") == "200")
      for (source, wanted) in [
        ("/hidden/key", "403 AccessDenied"), ("/hidden/none", "403 AccessDenied"),
        ("/bucket/key", "403 AccessDenied"), ("/bucket/alice/none", "404 NoSuchKey"),
      ] {
        #expect(
          try await alice.outcome("PUT", "/bucket/alice/b", [("x-amz-copy-source", source)])
            == wanted)
      }
      // A bucket's policy lets one user in and keeps all others out, root too, who can take it away.
      let rules =
        "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Deny\",\"Principal\":\"*\",\"Action\":\"s3:GetObject\",\"Resource\":\"arn:aws:s3:::hidden/*\",\"Condition\":{\"StringNotEquals\":{\"aws:username\":\"alice\"}}},{\"Effect\":\"Allow\",\"Principal\":{\"AWS\":\"arn:aws:iam::000000000000:user/alice\"},\"Action\":\"s3:GetObject\",\"Resource\":\"arn:aws:s3:::hidden/*\"}]}"
      #expect(
        try await root.outcome(
          "PUT", "/hidden?policy", body: rules.replacing("user/alice", with: "user/nobody"))
          == "400 MalformedPolicy")
      #expect(try await root.outcome("PUT", "/hidden?policy", body: rules) == "204")
      await world.sleep(Gatekeeper.lifetime)
      #expect(try await alice.send("GET", "/hidden/key").text == "secret")
      #expect(try await root.outcome("GET", "/hidden/key") == "403 AccessDenied")
      #expect(try await root.outcome("DELETE", "/hidden?policy") == "204")
      #expect(try await root.outcome("GET", "/hidden/key") == "200")
    }
  }

  @Test(
    "a signature is good for its request, for a while, and access keys of any bytes are only unknown"
  )
  func signatures() throws {
    try run(.cluster) { backend, root, world in
      #expect(
        try await root.send("GET", "/bucket/key", date: root.driver.wallClock - .seconds(1000)).code
          == "RequestTimeTooSkewed")
      for name in [
        "a", "a/b", "x'\"<&>", String(repeating: "A", count: 4000), "ünïcode-key-0001",
        "%00%00",
      ] {
        let outcome = try await root.signing(AccessKey(name: name, secret: "s")).outcome(
          "GET", "/bucket/key")
        #expect(outcome.hasPrefix("40") && !outcome.hasPrefix("404"), "\(name): \(outcome)")
      }
      #expect(
        try await root.outcome("PUT", "/bucket?policy", body: String(repeating: "[", count: 60_000))
          == "400 MalformedPolicy")
      #expect(
        try await root.outcome(
          "PUT", "/bucket?policy", body: String(repeating: " ", count: 300_000))
          == "400 EntityTooLarge")
      #expect(try await root.outcome("PUT", "/none?policy", body: "{}") == "404 NoSuchBucket")
      #expect(
        try await root.outcome("POST", "/bucket?policy", body: "{}") == "405 MethodNotAllowed")
      // A request about something of a bucket is none about the bucket.
      for item in [
        "notification", "versioning", "object-lock", "acl", "policyStatus", "location", "uploads",
        "versions",
      ] {
        let removed = try await root.outcome("DELETE", "/bucket?\(item)")
        #expect(removed == "405 MethodNotAllowed", "\(item)")
      }
      #expect(try await root.outcome("PUT", "/made?uploads") == "405 MethodNotAllowed")
      #expect(try await root.outcome("HEAD", "/bucket") == "200")
    }
  }
}
