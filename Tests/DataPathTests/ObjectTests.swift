import Coding
import Messages
import Ring
import Simulation
import TestSupport
import Testing

@testable import DataPath

/// Objects through the whole of it: real coordinator, real nodes, a simulated world.
@Suite struct ObjectTests {
  static let sizes = [0, 1, 4096, 4097, 32 << 10, 100_000, 700_000, 2_500_000]

  /// Puts one object of each size at once.
  static func putAll(
    _ client: SmallClient, _ writer: ObjectWriter, _ objects: [[UInt8]], prefix: String
  ) async -> [Result<PutResult, DataPathError>] {
    await withTaskGroup(of: (Int, Result<PutResult, DataPathError>).self) { group in
      for (index, bytes) in objects.enumerated() {
        group.addTask {
          (
            index,
            await client.put(
              writer, "\(prefix)\(index)",
              TestSource(bytes, isSized: index % 3 != 0, seed: UInt64(index)))
          )
        }
      }
      var results = [Result<PutResult, DataPathError>](
        repeating: .failure(.cancelled), count: objects.count)
      for await (index, result) in group { results[index] = result }
      return results
    }
  }

  static func checkAll(_ client: SmallClient, _ objects: [[UInt8]], prefix: String, _ seed: Seed)
    async
  {
    var random = seed.generator
    for (index, bytes) in objects.enumerated() {
      let whole = await client.get(
        "\(prefix)\(index)", 0..<UInt64(bytes.count), isOrdered: index % 2 == 0)
      #expect(whole == .success(bytes), "object \(index) of \(bytes.count) bytes")
      guard !bytes.isEmpty else { continue }
      for _ in 0..<3 {
        let a = Int(random.next() % UInt64(bytes.count))
        let b = Int(random.next() % UInt64(bytes.count))
        let range = min(a, b)..<max(a, b) + 1
        let part = await client.get(
          "\(prefix)\(index)", UInt64(range.lowerBound)..<UInt64(range.upperBound))
        #expect(part == .success(Array(bytes[range])), "bytes \(range) of object \(index)")
      }
    }
  }

  @Test(
    "objects of all sizes come back whole and in part, with m nodes killed after and before they are put",
    arguments: Seed.several)
  func roundTrip(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "3+2", nodes: 5)
      let client = SmallClient(cluster, "client")
      let objects = Self.sizes.map { noise($0, &random) }
      let writer = ObjectWriter(client.access)
      for (index, result) in await Self.putAll(client, writer, objects, prefix: "a").enumerated() {
        let found = try result.get()
        #expect(found.byteCount == UInt64(objects[index].count))
        let record = try #require(await client.stat("a\(index)"))
        #expect(record.identity == found.identity && record.contentHash == found.contentHash)
      }
      try await writer.finish()
      await Self.checkAll(client, objects, prefix: "a", seed)
      let victims = Array(0..<5).shuffled(using: &random)
      cluster.killNode(victims[0])
      cluster.killNode(victims[1])
      await Self.checkAll(client, objects, prefix: "a", seed)
      // New objects go to what is left: 1+2.
      let second = ObjectWriter(client.access)
      let others = Self.sizes.map { noise($0, &random) }
      for result in await Self.putAll(client, second, others, prefix: "b") { _ = try result.get() }
      try await second.finish()
      await Self.checkAll(client, others, prefix: "b", seed)
      await client.close()
    }
  }

  @Test(
    "nodes killed while objects are put cost time, not bytes; the coordinator killed too is waited for",
    arguments: Seed.several)
  func killedInTheMiddle(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "3+2", nodes: 5)
      let client = SmallClient(cluster, "client")
      let objects = (Self.sizes + Self.sizes).map { noise($0, &random) }
      let writer = ObjectWriter(client.access)
      // One that has met its cluster waits for it; one that never has does not.
      #expect(await client.stat("a0") == nil)
      let first = Int(random.next() % 5)
      let delay = Int64(random.next() % 20_000)
      world.harness.spawn("killer") {
        await world.sleep(.microseconds(delay))
        cluster.killNode(first)
        await world.sleep(.microseconds(delay / 2))
        cluster.killNode((first + 1) % 5)
        cluster.killCoordinator()
        await world.sleep(.seconds(1))
        try? await cluster.startCoordinator()
      }
      for result in await Self.putAll(client, writer, objects, prefix: "a") {
        _ = try result.get()
      }
      try await writer.finish()
      await Self.checkAll(client, objects, prefix: "a", seed)
      await client.close()
    }
  }

  @Test(
    "the same bytes are stored once: in one object, in one run, and in the next",
    arguments: Seed.several)
  func duplicates(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client")
      let once = noise(900_000, &random)
      let zeros = [UInt8](repeating: 0, count: 1_000_000)
      let objects = [once, once, zeros, once + noise(50_000, &random), once]
      let writer = ObjectWriter(client.access)
      let started = world.now
      for result in await Self.putAll(client, writer, objects, prefix: "a") {
        _ = try result.get()
      }
      // Nothing fails here, so nothing may wait for a timer to run out.
      #expect(world.now - started < .seconds(1))
      // Zeros are one chunk of the largest size and a shorter one at the end.
      #expect(writer.newByteCount <= 900_000 + (128 << 10) * 2 + 50_000 + (128 << 10) * 2)
      try await writer.finish()
      await Self.checkAll(client, objects, prefix: "a", seed)

      let again = ObjectWriter(client.access)
      for result in await Self.putAll(client, again, objects, prefix: "b") {
        _ = try result.get()
      }
      #expect(again.newByteCount == 0)
      try await again.finish()
      await Self.checkAll(client, objects, prefix: "b", seed)
      await client.close()
    }
  }

  @Test("what is put again unchanged stays the version it was; what changed is another")
  func identical() throws {
    try simulate(11) { world in
      var random = SeededGenerator(seed: 11)
      let cluster = try await SmallCluster(world, scheme: "1+1", nodes: 2)
      let client = SmallClient(cluster, "client")
      for bytes in [noise(100, &random), noise(300_000, &random)] {
        let key = "k\(bytes.count)"
        let writer = ObjectWriter(client.access)
        let first = try await client.put(writer, key, TestSource(bytes)).get()
        let same = try await client.put(writer, key, TestSource(bytes)).get()
        #expect(same.identity == first.identity)
        let touched = try await client.put(
          writer, key, TestSource(bytes), attributes: ObjectAttributes(mode: 0o600)
        ).get()
        #expect(touched.identity > first.identity)
        let forced = try await client.put(
          writer, key, TestSource(bytes), unlessIdentical: false
        ).get()
        #expect(forced.identity > touched.identity)
        let absent = await client.put(writer, key, TestSource(bytes), precondition: .absent)
        guard case .failure(let error) = absent else { throw Unexpected() }
        #expect(error.refusalCode == .preconditionFailed)
        try await writer.finish()
      }
      await client.close()
    }
  }

  @Test(
    "a source that fails, shrinks or is given up leaves nothing visible and harms no other object",
    arguments: Seed.several)
  func failingSources(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client")
      let writer = ObjectWriter(client.access)
      let good = noise(500_000, &random)
      let failing = TestSource(noise(1_500_000, &random))
      failing.failsAfter = Int(random.next() % 1_500_000)
      let shrinking = TestSource(noise(400_000, &random))
      shrinking.endsAfter = Int(random.next() % 400_000)
      let hanging = TestSource(noise(400_000, &random))
      hanging.pause = { await client.driver.sleep(.seconds(1000)) }

      async let a = client.put(writer, "good", TestSource(good))
      async let b = client.put(writer, "failing", failing)
      async let c = client.put(writer, "shrinking", shrinking)
      let cancelled = Outcome<Result<PutResult, DataPathError>>()
      let task = client.driver.spawn("put") {
        cancelled.value = await client.put(writer, "cancelled", hanging)
      }
      _ = try await a.get()
      #expect(await b == .failure(.source("vanished")))
      guard case .failure(.source) = await c else { throw Unexpected() }
      task.cancel()
      await task.wait()
      #expect(cancelled.value == .failure(.cancelled))
      try await writer.finish()
      for key in ["failing", "shrinking", "cancelled"] { #expect(await client.stat(key) == nil) }
      #expect(await client.get("good", 0..<500_000) == .success(good))
      await client.close()
    }
  }

  @Test(
    "a put that is cancelled at any moment harms no other, not even one with the same bytes",
    arguments: Seed.several)
  func cancelledAtAnyMoment(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      for round in 0..<25 {
        let client = SmallClient(cluster, "client \(round)")
        let writer = ObjectWriter(client.access)
        let common = noise(100_000, &random)
        let other = common + noise(60_000, &random)
        let cancelled = Outcome<Result<PutResult, DataPathError>>()
        let task = client.driver.spawn("put") {
          cancelled.value = await client.put(writer, "a\(round)", TestSource(common))
        }
        let delay = Int64(random.next() % 8000)
        client.driver.spawn("cancel") {
          await client.driver.sleep(.microseconds(delay))
          task.cancel()
        }
        await client.driver.sleep(.microseconds(Int64(random.next() % 3000)))
        let result = await client.put(writer, "b\(round)", TestSource(other))
        #expect((try? result.get()) != nil, "round \(round): \(result)")
        await task.wait()
        try await writer.finish()
        #expect(await client.get("b\(round)", 0..<160_000) == .success(other))
        if case .success = cancelled.value {
          #expect(await client.get("a\(round)", 0..<100_000) == .success(common))
        } else {
          #expect(cancelled.value == .failure(.cancelled))
        }
        await client.close()
      }
    }
  }

  @Test(
    "many objects larger than their share of a small memory all come through",
    arguments: Seed.several)
  func memory(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client", readBudget: 300_000)
      let writer = ObjectWriter(
        client.access,
        options: ObjectWriter.Options(memoryByteCount: 600_000, pieceByteCount: 200_000))
      let objects = (0..<12).map { _ in noise(Int(random.next() % 900_000), &random) }
      let results = await client.driver.withDeadline(.seconds(300)) {
        await Self.putAll(client, writer, objects, prefix: "a")
      }
      for result in try #require(results) { _ = try result.get() }
      try await writer.finish()
      #expect(writer.budget.available == 600_000)
      let isRead: Void? = await client.driver.withDeadline(.seconds(300)) {
        await withTaskGroup(of: Void.self) { group in
          for (index, bytes) in objects.enumerated() {
            group.addTask {
              let found = await client.get(
                "a\(index)", 0..<UInt64(bytes.count), isOrdered: index % 2 == 0)
              #expect(found == .success(bytes))
            }
          }
        }
      }
      #expect(isRead != nil)
      #expect(client.access.readBudget.available == 300_000)
      await client.close()
    }
  }

  @Test(
    "objects that end in duplicates without end come through a window of a few chunks",
    arguments: Seed.several)
  func window(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client")
      func zeros(_ chunks: Int) -> [UInt8] { [UInt8](repeating: 0, count: chunks * 128 << 10) }
      let once = noise(100_000, &random)
      let objects = [
        once + zeros(8), zeros(6), once + zeros(5) + once, zeros(5) + once + zeros(5),
      ]
      for window in [1, 3] {
        let writer = ObjectWriter(
          client.access,
          options: ObjectWriter.Options(pieceByteCount: 256 << 10, windowChunkCount: window))
        // One after the other, and then all at once: others that could add to a stripe are no reason to wait for ever.
        for (index, bytes) in objects.enumerated() {
          let stored: Result<PutResult, DataPathError>? = await client.driver.withDeadline(
            .seconds(10)
          ) { await client.put(writer, "a\(index)", TestSource(bytes), unlessIdentical: false) }
          _ = try #require(stored, "object \(index) through \(window)").get()
        }
        let stored = await client.driver.withDeadline(.seconds(20)) {
          await Self.putAll(client, writer, objects, prefix: "b\(window)")
        }
        for result in try #require(stored) { _ = try result.get() }
        try await writer.finish()
        await Self.checkAll(client, objects, prefix: "a", seed)
        await Self.checkAll(client, objects, prefix: "b\(window)", seed)
      }
      await client.close()
    }
  }

  @Test("a failing sink ends the read with its error; more lost nodes than m are named")
  func readErrors() throws {
    try simulate(21) { world in
      var random = SeededGenerator(seed: 21)
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client")
      let writer = ObjectWriter(client.access)
      let bytes = noise(2_000_000, &random)
      _ = try await client.put(writer, "object", TestSource(bytes)).get()
      try await writer.finish()
      let name = ObjectName(bucket: "bucket", key: "object")
      let sink = TestSink(0..<2_000_000, isOrdered: true, driver: client.driver)
      sink.failsAfter = 1
      do throws(DataPathError) {
        try await ObjectReader(client.access).read(
          name, identity: 0, range: 0..<2_000_000, into: sink)
        throw .cancelled
      } catch {
        // One stripe holds it all, so the first write may take everything.
        #expect(error == .sink("disk full") || sink.isComplete)
      }
      do throws(DataPathError) {
        try await ObjectReader(client.access).read(
          name, identity: 1, range: 0..<10,
          into: TestSink(0..<10, isOrdered: true, driver: client.driver))
        throw .cancelled
      } catch {
        #expect(error == .changed)
      }
      // Whatever is current may have become shorter than whoever asks believes.
      do throws(DataPathError) {
        try await ObjectReader(client.access).read(
          name, identity: 0, range: 0..<2_000_001,
          into: TestSink(0..<2_000_001, isOrdered: true, driver: client.driver))
        throw .cancelled
      } catch {
        #expect(error.refusalCode == .invalidRange)
      }
      cluster.killNode(0)
      cluster.killNode(2)
      guard
        case .failure(.unreadable(let missing, let needed, let found)) = await client.get(
          "object", 0..<2_000_000)
      else { throw Unexpected() }
      #expect(missing == ["n0", "n2"] && needed == 2 && found == 1)
      await client.close()
    }
  }

  @Test("connections that all break at once while a read is under way do not fail it")
  func brokenConnections() throws {
    try simulate(42) { world in
      var random = SeededGenerator(seed: 42)
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client")
      let bytes = noise(700_000, &random)
      let writer = ObjectWriter(client.access)
      _ = try await client.put(writer, "k", TestSource(bytes)).get()
      try await writer.finish()
      for microseconds in stride(from: Int64(0), to: 6000, by: 300) {
        async let found = client.get("k", 0..<UInt64(bytes.count))
        await world.sleep(.microseconds(microseconds))
        for node in 0..<3 { world.network.resetConnections("client", "n\(node)") }
        #expect(await found == .success(bytes), "after \(microseconds) microseconds")
        // Who did not answer is asked last for a while.
        await world.sleep(.seconds(30))
      }
      await client.close()
    }
  }

  @Test("when too few nodes are left to write safely, a put says so and changes nothing")
  func tooFewDomains() throws {
    try simulate(31) { world in
      var random = SeededGenerator(seed: 31)
      let cluster = try await SmallCluster(world, scheme: "2+2", nodes: 4)
      let client = SmallClient(cluster, "client")
      let writer = ObjectWriter(client.access)
      for number in 0..<2 { cluster.killNode(number) }
      await world.sleep(.seconds(10))
      let result = await client.put(writer, "object", TestSource(noise(200_000, &random)))
      guard case .failure(let error) = result else { throw Unexpected() }
      // Two nodes cannot even take the log's links.
      #expect("\(error)".contains("domains"), "\(error)")
      #expect(await client.stat("object") == nil)
      try? await writer.finish()
      await client.close()
    }
  }
}
