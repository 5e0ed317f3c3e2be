import Coding
import DataPath
import Messages
import Ring
import Service
import Simulation
import TestSupport
import Testing
import Wire

@testable import Gateway

@Suite("Versions are moved to other classes") struct TransitionTests {
  private static func name(_ key: String) -> ObjectName { ObjectName(bucket: "bucket", key: key) }

  /// Bytes that a codec makes half of.
  private static func bytes(_ count: Int, _ random: inout SeededGenerator) -> [UInt8] {
    (0..<count).map { _ in UInt8.random(in: 0..<16, using: &random) }
  }

  @Test(
    "by two gateways at once, under a reader that is in the middle: all bytes, parts and attributes stay",
    arguments: Seed.several)
  func moves(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      let cluster = try await TestCluster(world)
      let backend = try await cluster.backend()
      let other = try await cluster.backend("gateway-2")
      try await backend.createBucket("bucket")
      var bodies: [String: [UInt8]] = [:]
      for number in 0..<8 {
        let body = Self.bytes(number == 0 ? 900_000 : 131_072 + number, &random)
        bodies["k\(number)"] = body
        _ = try await backend.put(
          Self.name("k\(number)"), source: MemorySource(body), precondition: .none
        ) { ObjectAttributes(user: [.init(name: "x-amz-meta-n", value: "\(number)")]) }
      }
      bodies["small"] = [1, 2, 3]
      _ = try await backend.put(
        Self.name("small"), source: MemorySource([1, 2, 3]), precondition: .none
      ) { ObjectAttributes() }
      let parts = [200_000, 70_001, 99_999].map { Self.bytes($0, &random) }
      let upload = UploadName(
        Self.name("parts"),
        id: try await backend.beginUpload(
          Self.name("parts"), attributes: ObjectAttributes(), owner: "o"))
      for (index, part) in parts.enumerated() {
        try await backend.putPart(
          upload, number: UInt32(2 * index + 1), source: MemorySource(part)
        ) { PartWords() }
      }
      let known = try await backend.parts(upload, after: 0, limit: 10).parts
      _ = try await backend.complete(
        upload, parts: known,
        attributes: ObjectAttributes(user: [.init(name: "etag", value: "0123-3")]),
        precondition: .none)
      bodies["parts"] = Array(parts.joined())

      let before = try await backend.list(ListRequest(bucket: "bucket")).entries
      // It resolves little at once, and waits after its first bytes until all was moved and the old bytes are gone.
      world.injections[.readWindowSmall] = 1 << 16
      let slow = SlowSink()
      let found = try await backend.find(Self.name("k0"), wanted: 0..<0)
      let reading = world.living("gateway")!.spawn("slow reader") {
        do {
          try await backend.read(found, 0..<found.byteCount, into: slow)
        } catch {
          slow.failure = "\(error)"
        }
      }
      await slow.begun.get()

      var rule = Lifecycle.Rule()
      rule.transitions = [Transition(.days(0), to: .glacierIR, storageClass: "cold")]
      try await backend.set(
        BucketSetting(.lifecycle, Lifecycle(rules: [rule]).encoded), of: "bucket")
      let workers = [backend, other].enumerated().map { index, backend in
        let driver = world.living(index == 0 ? "gateway" : "gateway-2")!
        return TransitionWorker(
          backend, rate: 4 << 20, driver: driver, log: Log(driver: driver, level: .error))
      }
      for worker in workers { worker.start() }
      func tiers() async throws -> [String: ObjectTier] {
        var found: [String: ObjectTier] = [:]
        for entry in try await backend.list(ListRequest(bucket: "bucket")).entries {
          found[entry.key] = ObjectTier(of: entry.attributes)
        }
        return found
      }
      let end = world.now + .seconds(600)
      while try await tiers().count < bodies.count - 1, world.now < end {
        await world.sleep(.seconds(1))
      }
      #expect(
        try await tiers() == bodies.mapValues { _ in .glacierIR }.filter { $0.key != "small" })
      // Writers' turns end, edges are returned, containers condemned and their blocks deleted.
      func warm() async throws -> ClassUsage {
        try await backend.ask(ListClasses(level: .strong)).classes[1]
      }
      while try await warm().chunkBytes > 0, world.now < end { await world.sleep(.seconds(5)) }
      #expect(try await warm().chunkBytes == 0)
      #expect(try await warm().objectCount == 1)
      await world.sleep(.seconds(90))

      slow.goOn.fulfil(())
      await reading.wait()
      #expect(slow.failure == nil)
      #expect(slow.bytes == bodies["k0"])
      world.injections[.readWindowSmall] = 0
      let after = try await backend.list(ListRequest(bucket: "bucket")).entries
      for (old, new) in zip(before, after) {
        #expect(old.key == new.key && old.modified == new.modified)
        #expect(old.contentName == new.contentName && old.byteCount == new.byteCount)
        #expect(old.attributes == new.attributes.withoutTier)
        let now = try await backend.find(Self.name(new.key), wanted: 0..<0)
        let sink = SlowSink()
        sink.goOn.fulfil(())
        try await backend.read(now, 0..<now.byteCount, into: sink)
        #expect(sink.bytes == bodies[new.key], "\(new.key)")
      }
      let whole = try await backend.find(Self.name("parts"), wanted: 0..<0)
      var first: UInt64 = 0
      for (index, part) in parts.enumerated() {
        let range = try await backend.part(whole, ordinal: UInt32(index + 1), partCount: 3)
        #expect(range == first..<first + UInt64(part.count))
        first = range.upperBound
      }
      for worker in workers { await worker.stop() }
      await other.close()
      await backend.close()
    }
  }

  @Test("a worker that ends in the middle has changed nothing, and the next one does it all")
  func stopped() throws {
    try SimulatedWorld.run(seed: 3) { world in
      var random = SeededGenerator(seed: 3)
      let backend = try await TestCluster(world).backend()
      try await backend.createBucket("bucket")
      let body = Self.bytes(3 << 20, &random)
      _ = try await backend.put(
        Self.name("k"), source: MemorySource(body), precondition: .none
      ) { ObjectAttributes() }
      let before = try await backend.find(Self.name("k"), wanted: 0..<0)
      var rule = Lifecycle.Rule()
      rule.transitions = [Transition(.days(0), to: .glacierIR, storageClass: "cold")]
      try await backend.set(
        BucketSetting(.lifecycle, Lifecycle(rules: [rule]).encoded), of: "bucket")
      let driver = world.living("gateway")!
      let log = Log(driver: driver, level: .error)
      let slow = TransitionWorker(backend, rate: 10_000, driver: driver, log: log)
      slow.start()
      await world.sleep(.seconds(20))
      let begun = world.now
      await slow.stop()
      #expect(world.now - begun < .seconds(5))
      let between = try await backend.find(Self.name("k"), wanted: 0..<0)
      #expect(between.version == before.version && between.attributes == before.attributes)
      let next = TransitionWorker(backend, rate: 1 << 30, driver: driver, log: log)
      next.start()
      // The bucket was seen to its end: it is looked at again after `lifecycle_interval`.
      let end = world.now + .seconds(3700)
      var tier: ObjectTier?
      while tier == nil, world.now < end {
        await world.sleep(.seconds(10))
        tier = ObjectTier(of: try await backend.find(Self.name("k"), wanted: 0..<0).attributes)
      }
      #expect(tier == .glacierIR)
      let after = try await backend.find(Self.name("k"), wanted: 0..<0)
      let sink = SlowSink()
      sink.goOn.fulfil(())
      try await backend.read(after, 0..<after.byteCount, into: sink)
      #expect(sink.bytes == body)
      await next.stop()
      await backend.close()
    }
  }

  @Test("rules that are read are written, and read again as the same; what S3 refuses is refused")
  func documents() throws {
    let classes: [ObjectTier: String] = [.standardIA: "warm", .glacierIR: "cold", .glacier: "cold"]
    func read(_ actions: String) throws(S3Error) -> Lifecycle {
      try S3Lifecycle.read(
        Array(
          "<LifecycleConfiguration><Rule><ID>x</ID><Filter/><Status>Enabled</Status>\(actions)</Rule></LifecycleConfiguration>"
            .utf8), classes: classes)
    }
    func move(_ when: String, _ tier: String, _ name: String = "Transition") -> String {
      "<\(name)>\(when)<StorageClass>\(tier)</StorageClass></\(name)>"
    }
    let (old, days) = ("NoncurrentVersionTransition", "<Days>3</Days>")
    let oldDays = "<NoncurrentDays>3</NoncurrentDays>"
    for actions in [
      move("<Days>0</Days>", "STANDARD_IA"),
      move("<Date>2026-01-01T00:00:00Z</Date>", "GLACIER"),
      move(days, "STANDARD_IA") + move("<Days>4</Days>", "GLACIER_IR")
        + "<Expiration><Days>5</Days></Expiration>",
      move(oldDays, "GLACIER_IR", old) + move(days, "GLACIER_IR")
        + "<NoncurrentVersionExpiration><NoncurrentDays>4</NoncurrentDays></NoncurrentVersionExpiration>",
      move(oldDays + "<NewerNoncurrentVersions>7</NewerNoncurrentVersions>", "GLACIER_IR", old),
    ] {
      let rules = try read(actions)
      #expect(rules.hasTransitions)
      #expect(try S3Lifecycle.read(S3Lifecycle.write(rules), classes: classes) == rules)
      #expect(try Lifecycle(decoding: rules.encoded) == rules)
    }
    for (code, actions) in [
      (S3Error.Code.malformedXML, move("", "STANDARD_IA")),
      (.malformedXML, "<Transition>\(days)</Transition>"),
      (.malformedXML, move(days, "STANDARD")),
      (.malformedXML, move(days + days, "STANDARD_IA")),
      (.malformedXML, move(days + "<Date>2026-01-01T00:00:00Z</Date>", "STANDARD_IA")),
      (.malformedXML, move(oldDays, "STANDARD_IA")), (.malformedXML, move(days, "GLACIER_IR", old)),
      (.invalidStorageClass, move(days, "DEEP_ARCHIVE")),
      (.invalidArgument, move("<Days>-1</Days>", "STANDARD_IA")),
      (.invalidArgument, move("<Date>2026-01-01T00:00:01Z</Date>", "STANDARD_IA")),
      (.invalidRequest, move(days, "GLACIER_IR") + move("<Days>4</Days>", "GLACIER_IR")),
      (
        .invalidRequest,
        move(days, "STANDARD_IA") + move("<Date>2026-01-01T00:00:00Z</Date>", "GLACIER_IR")
      ),
      (.invalidArgument, move(days, "STANDARD_IA") + move(days, "GLACIER_IR")),
      (.invalidArgument, move(days, "GLACIER_IR") + "<Expiration><Days>3</Days></Expiration>"),
      (
        .invalidArgument,
        move(oldDays, "GLACIER_IR", old)
          + "<NoncurrentVersionExpiration>\(oldDays)</NoncurrentVersionExpiration>"
      ),
    ] {
      do throws(S3Error) {
        _ = try read(actions)
        Issue.record("taken: \(actions)")
      } catch {
        #expect(error.code == code, "\(actions): \(error.message)")
      }
    }
  }

  @Test("a worker keeps to its rate", arguments: Seed.several)
  func rate(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      let pacer = TransitionPacer(world.process("pacer"), rate: 1 << 20)
      let begun = world.now
      var sum = 0
      while sum < 20 << 20 {
        let count = Int.random(in: 1...1 << 20, using: &random)
        #expect(await pacer.wait(count))
        sum += count
      }
      let seconds = (world.now - begun) / .seconds(1)
      #expect(seconds > Double(sum - (1 << 20)) / Double(1 << 20) - 0.1)
      #expect(seconds < Double(sum) / Double(1 << 20) + 0.1)
    }
  }
}

/// Takes its first bytes and then none until it is told to go on.
private final class SlowSink: ByteSink, @unchecked Sendable {
  // Loop-confined.
  private(set) var bytes: [UInt8] = []
  var failure: String?
  let begun = Promise<Void>()
  let goOn = Promise<Void>()
  var isOrdered: Bool { true }
  func write(_ slices: [Slice], at offset: UInt64) async throws(DataPathError) {
    for slice in slices { bytes += slice.array }
    if !begun.isFulfilled { begun.fulfil(()) }
    await goOn.get()
  }
}
