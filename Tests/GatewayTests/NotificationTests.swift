import HTTP
import Messages
import Ring
import Service
import Simulation
import TestSupport
import Testing

@testable import Gateway

/// A webhook that keeps what it is told, and fails as it is told to.
private final class Webhook: HTTPHandler, @unchecked Sendable {
  // Loop-confined.
  enum Mode: CaseIterable {
    case takes, refuses, stalls
    /// It is taken, and the answer never comes.
    case forgets
  }
  var mode = Mode.takes
  /// Said by `refuses`.
  var status = 503
  private(set) var events: [JSON] = []
  private(set) var heads: [HTTPRequestHead] = []
  private let world: SimulatedWorld
  private var server: HTTPServer?

  init(_ world: SimulatedWorld) { self.world = world }

  static let endpoint = HTTPEndpoint("http://hook:8080")!

  func start() async throws {
    let server = HTTPServer(driver: world.process("hook"), handler: self)
    _ = try await server.start(on: Self.endpoint.address)
    self.server = server
  }
  func die() { world.living("hook")?.kill() }

  func answer(_ exchange: HTTPExchange) async {
    do {
      let bytes = try await exchange.body.all(limit: 1 << 20, pool: exchange.driver.buffers)
      let mode = self.mode
      if mode == .takes || mode == .forgets {
        events.append(try JSON(parsing: bytes))
        heads.append(exchange.head)
      }
      switch mode {
      case .takes: try await exchange.answer(204, HTTPFields())
      case .refuses: try await exchange.answer(status, HTTPFields(), Array("no".utf8))
      case .stalls, .forgets: await exchange.driver.sleep(.seconds(30))
      }
    } catch {
      // The gateway is gone.
    }
  }
  func refusal(status: Int, reason: String) -> (fields: HTTPFields, body: [UInt8]) {
    (HTTPFields(), Array(reason.utf8))
  }

  /// The records, as they came.
  var records: [JSON] { events.compactMap { $0["Records"]?.elements?.first } }
  /// "ObjectCreated:Put key", as they came.
  var told: [String] {
    records.map { "\($0["eventName"]?.string ?? "") \($0["s3"]?["object"]?["key"]?.string ?? "")" }
  }
}

@Suite("Notifications") struct NotificationTests {
  private static func target(_ name: String = "hook", queue: String = "", limit: Int = 64 << 20)
    -> NotificationTarget.Configuration
  {
    var target = NotificationTarget.Configuration(
      name: name, endpoint: Webhook.endpoint, target: "/events?from=s3")
    target.authorization = "Bearer secret"
    target.queue = queue
    target.byteLimit = limit
    return target
  }

  private static func document(
    _ events: [String] = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"], prefix: String = "",
    target: String = "hook"
  ) -> String {
    "<NotificationConfiguration><QueueConfiguration><Id>all</Id><Queue>arn:cairn:sqs:us-east-1:000000000000:\(target)</Queue>"
      + events.map { "<Event>\($0)</Event>" }.joined()
      + "<Filter><S3Key><FilterRule><Name>prefix</Name><Value>\(prefix)</Value></FilterRule></S3Key></Filter></QueueConfiguration></NotificationConfiguration>"
  }

  /// Until it is so, for a while.
  private static func wait(
    _ world: SimulatedWorld, _ condition: () -> Bool, _ what: Comment,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async {
    let end = world.now + .seconds(600)
    while !condition() && world.now < end { await world.sleep(.milliseconds(50)) }
    #expect(condition(), what, sourceLocation: sourceLocation)
  }

  private func run(
    _ seed: UInt64 = 1, _ target: NotificationTarget.Configuration = target(),
    _ body:
      @escaping @Sendable (Webhook, SignedClient, S3Gateway, TestCluster, SimulatedWorld)
      async throws -> Void
  ) throws {
    try SimulatedWorld.run(seed: seed) { world in
      let hook = Webhook(world)
      try await hook.start()
      let cluster = try await TestCluster(world)
      let (gateway, root) = try await TestGateway.start(
        world, try await cluster.backend(), targets: [target])
      #expect(try await root.outcome("PUT", "/bucket") == "200")
      try await body(hook, root, gateway, cluster, world)
      await root.client.close()
    }
  }

  @Test("writes are told as S3 tells them")
  func records() throws {
    try run { (hook, root, gateway, _, world) async throws in
      let none = try await root.send("GET", "/bucket?notification").text
      #expect(none.contains("<NotificationConfiguration ") && !none.contains("<Queue"))
      let document = Self.document(prefix: "in/")
      #expect(try await root.outcome("PUT", "/bucket?notification", body: document) == "200")
      let kept = try await root.send("GET", "/bucket?notification").text
      #expect(kept.contains("<Id>all</Id>") && kept.contains("<Value>in/</Value>"))
      #expect(hook.events.count == 1 && hook.events[0]["Event"]?.string == "s3:TestEvent")
      #expect(hook.events[0]["Bucket"]?.string == "bucket")
      #expect(hook.heads[0].target == "/events?from=s3" && hook.heads[0].method == "POST")
      #expect(hook.heads[0].fields["Authorization"] == "Bearer secret")
      #expect(hook.heads[0].fields["Content-Type"] == "application/json")

      #expect(try await root.outcome("PUT", "/bucket/out/a", body: "not told") == "200")
      let put = try await root.send("PUT", "/bucket/in/a%20b%2Bc%C3%BC", body: "bytes")
      let copied = [("x-amz-copy-source", "/bucket/out/a")]
      #expect(try await root.outcome("PUT", "/bucket/in/copy", copied) == "200")
      let begun = try await root.send("POST", "/bucket/in/parts?uploads").text
      let id = begun.split(separator: "UploadId>")[1].prefix { $0 != "<" }
      let part = try await root.send(
        "PUT", "/bucket/in/parts?partNumber=1&uploadId=\(id)", body: "a part")
      let done =
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\(part.fields["ETag"] ?? "")</ETag></Part></CompleteMultipartUpload>"
      #expect(
        try await root.outcome("POST", "/bucket/in/parts?uploadId=\(id)", body: done) == "200")
      #expect(try await root.outcome("DELETE", "/bucket/in/copy") == "204")
      // Nothing is there, so nothing happened.
      #expect(try await root.outcome("DELETE", "/bucket/in/copy") == "204")
      #expect(try await root.outcome("DELETE", "/bucket/out/a") == "204")
      #expect(
        try await root.outcome("PUT", "/bucket/in/no", [("If-Match", "\"x\"")]) == "404 NoSuchKey")
      #expect(
        try await root.outcome(
          "PUT", "/bucket?versioning",
          body: "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
          == "200")
      let version = try await root.send("PUT", "/bucket/in/v", body: "v").fields["x-amz-version-id"]
      let marker = try await root.send("DELETE", "/bucket/in/v").fields["x-amz-version-id"]
      for gone in [marker, version] {
        #expect(try await root.outcome("DELETE", "/bucket/in/v?versionId=\(gone ?? "")") == "204")
      }
      let many =
        "<Delete><Object><Key>in/parts</Key></Object><Object><Key>out/x</Key></Object></Delete>"
      #expect(try await root.outcome("POST", "/bucket?delete", body: many) == "200")
      await Self.wait(world, { hook.records.count == 9 }, "\(hook.told)")
      let sorted = hook.records.sorted {
        ($0["s3"]?["object"]?["sequencer"]?.string ?? "")
          < ($1["s3"]?["object"]?["sequencer"]?.string ?? "")
      }
      let told = sorted.map {
        "\($0["eventName"]?.string ?? "") \($0["s3"]?["object"]?["key"]?.string ?? "")"
      }
      #expect(
        told == [
          "ObjectCreated:Put in/a+b%2Bc%C3%BC", "ObjectCreated:Copy in/copy",
          "ObjectCreated:CompleteMultipartUpload in/parts", "ObjectRemoved:Delete in/copy",
          "ObjectCreated:Put in/v", "ObjectRemoved:DeleteMarkerCreated in/v",
          "ObjectRemoved:Delete in/v", "ObjectRemoved:Delete in/v",
          "ObjectRemoved:DeleteMarkerCreated in/parts",
        ])
      let first = sorted[0]
      #expect(first["eventVersion"]?.string == "2.1" && first["eventSource"]?.string == "aws:s3")
      #expect(first["awsRegion"]?.string == "us-east-1")
      #expect(first["requestParameters"]?["sourceIPAddress"]?.string?.isEmpty == false)
      #expect(first["userIdentity"]?["principalId"]?.string == Requester.account)
      #expect(
        first["responseElements"]?["x-amz-request-id"]?.string == put.fields["x-amz-request-id"])
      #expect(first["s3"]?["configurationId"]?.string == "all")
      #expect(first["s3"]?["bucket"]?["arn"]?.string == "arn:aws:s3:::bucket")
      #expect(first["s3"]?["object"]?["size"]?.whole == 5)
      let etag = first["s3"]?["object"]?["eTag"]?.string
      #expect(etag.map { "\"\($0)\"" } == put.fields["ETag"])
      #expect(first["s3"]?["object"]?["versionId"] == nil)
      #expect(sorted[1]["s3"]?["object"]?["size"]?.whole == 8)
      #expect(sorted[2]["s3"]?["object"]?["size"]?.whole == 6)
      #expect(sorted[2]["s3"]?["object"]?["eTag"]?.string?.hasSuffix("-1") == true)
      #expect(sorted[3]["s3"]?["object"]?["size"] == nil)
      #expect(sorted[4]["s3"]?["object"]?["versionId"]?.string == version)
      #expect(sorted[5]["s3"]?["object"]?["versionId"]?.string == marker)
      // Without rules nobody is told.
      #expect(
        try await root.outcome("PUT", "/bucket?notification", body: "<NotificationConfiguration/>")
          == "200")
      #expect(try await root.outcome("PUT", "/bucket/in/silent", body: "x") == "200")
      await world.sleep(.seconds(5))
      #expect(hook.records.count == 9)
      await gateway.stop()
    }
  }

  @Test("what cannot be set is refused, and what was set stays")
  func refusals() throws {
    try run { (hook, root, gateway, _, _) async throws in
      let good = Self.document()
      #expect(try await root.outcome("PUT", "/bucket?notification", body: good) == "200")
      for (text, wanted) in [
        (Self.document(target: "other"), "400 InvalidArgument"),
        (Self.document(["s3:LifecycleExpiration:*"]), "400 InvalidArgument"),
        (good.replacing("us-east-1", with: "mars-1"), "400 InvalidArgument"),
        (good.replacing("<Id>", with: "<Name>"), "400 MalformedXML"), ("", "400 MalformedXML"),
      ] {
        #expect(try await root.outcome("PUT", "/bucket?notification", body: text) == wanted)
      }
      #expect(try await root.outcome("PUT", "/none?notification", body: good) == "404 NoSuchBucket")
      #expect(try await root.outcome("GET", "/none?notification") == "404 NoSuchBucket")
      #expect(
        try await root.signing(nil).outcome("GET", "/bucket?notification") == "403 AccessDenied")
      // A webhook that does not take the test is not set, unless the client says that it knows.
      let other = Self.document(["s3:ObjectCreated:Put"])
      let skips = [("x-amz-skip-destination-validation", "true")]
      for mode in [Webhook.Mode.refuses, .stalls] {
        hook.mode = mode
        #expect(
          try await root.outcome("PUT", "/bucket?notification", body: other)
            == "400 InvalidArgument")
      }
      #expect(try await root.send("GET", "/bucket?notification").text.contains("ObjectRemoved"))
      #expect(try await root.outcome("PUT", "/bucket?notification", skips, body: other) == "200")
      #expect(!(try await root.send("GET", "/bucket?notification").text.contains("ObjectRemoved")))
      await gateway.stop()
    }
  }

  @Test(
    "a webhook that refuses, stalls, forgets and dies is told all of it, of one key in order",
    arguments: Seed.several, [false, true])
  func failures(seed: Seed, hasQueue: Bool) throws {
    try run(seed.value, Self.target(queue: hasQueue ? "/var/queue" : "")) {
      (hook, root, gateway, _, world) async throws in
      var random = seed.generator
      #expect(
        try await root.outcome("PUT", "/bucket?notification", body: Self.document()) == "200")
      var wanted: [String: [String]] = [:]
      var isDead = false
      for number in 0..<40 {
        if number.isMultiple(of: 4) {
          if isDead { try await hook.start() }
          isDead = Int.random(in: 0..<4, using: &random) == 0
          if isDead { hook.die() }
          hook.mode = Webhook.Mode.allCases.randomElement(using: &random)!
          hook.status = [500, 503, 404, 429, 302].randomElement(using: &random)!
        }
        let key = "key\(Int.random(in: 0..<5, using: &random))"
        let answer = try await root.send("PUT", "/bucket/\(key)", body: "\(number)")
        #expect(answer.status == 200)
        wanted[key, default: []].append(answer.fields["x-amz-request-id"] ?? "")
        if Bool.random(using: &random) {
          await world.sleep(.milliseconds(Int64.random(in: 0...3000, using: &random)))
        }
      }
      if isDead { try await hook.start() }
      hook.mode = .takes
      let all = Set(wanted.values.flatMap { $0 })
      func found(_ key: String?) -> [String] {
        var seen: [String] = []
        for record in hook.records
        where key == nil || record["s3"]?["object"]?["key"]?.string == key {
          let id = record["responseElements"]?["x-amz-request-id"]?.string ?? ""
          // What comes twice counts where it came first.
          if !seen.contains(id) { seen.append(id) }
        }
        return seen
      }
      await Self.wait(world, { Set(found(nil)) == all }, "all are told")
      for (key, ids) in wanted { #expect(found(key) == ids, "\(key)") }
      await gateway.stop()
    }
  }

  @Test(
    "what was answered is told after a crash, when there is a queue", arguments: Seed.several,
    [false, true])
  func restart(seed: Seed, isPowerCut: Bool) throws {
    let target = Self.target(queue: "/var/queue")
    try run(seed.value, target) { (hook, root, _, cluster, world) async throws in
      #expect(
        try await root.outcome("PUT", "/bucket?notification", body: Self.document()) == "200")
      hook.die()
      for number in 0..<20 {
        #expect(try await root.outcome("PUT", "/bucket/key\(number)", body: "x") == "200")
      }
      for name in ["s3", "gateway", "client of s3"] {
        guard let process = world.living(name) else { continue }
        if isPowerCut { process.machine.powerCut() } else { process.kill() }
      }
      try await hook.start()
      let (gateway, _) = try await TestGateway.start(
        world, try await cluster.backend("gateway 2"), targets: [target])
      await Self.wait(
        world, { Set(hook.told).count == 20 }, "the queue is told: \(hook.told.count)")
      await gateway.stop()
      #expect(
        try await world.process("look", .init(machine: world.machine("s3"))).list("/var/queue")
          .count == 1)
    }
  }

  @Test("when too many wait, those that come are lost and counted, and writes go on")
  func full() throws {
    try SimulatedWorld.run(seed: 3) { world in
      let hook = Webhook(world)
      let process = world.process("s3")
      let target = try await NotificationTarget.open(
        Self.target(limit: 64 << 10), on: process, log: Log(driver: process, level: .error))
      let body = Array("\"\(String(repeating: "x", count: 998))\"".utf8)
      for number in 0..<100 { await target.send(body, lane: UInt32(number)) }
      #expect(target.waitingCount == 58 && target.lostCount == 42)
      await world.sleep(.seconds(30))
      try await hook.start()
      await Self.wait(world, { target.waitingCount == 0 }, "what waits is delivered")
      #expect(target.deliveredCount == 58 && target.lostCount == 42)
      // An event that the webhook itself finds wrong does not stop those behind it for good.
      hook.mode = .refuses
      hook.status = 400
      await target.send(body, lane: 1)
      await Self.wait(world, { target.waitingCount == 0 }, "what is refused is given up")
      #expect(target.deliveredCount == 58 && target.lostCount == 43)
      hook.die()
      await target.send(body, lane: 1)
      await target.stop()
      #expect(target.lostCount == 44)
    }
  }
}
