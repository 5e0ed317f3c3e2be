import Coding
import Messages
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import DataPath

/// Objects of a few KiB: many at once share groups, one alone is stored by its commit.
@Suite struct SmallObjectTests {
  /// Does `body` while as many others are under way as make company, all of which give nothing before its end.
  private static func amongOthers(
    _ client: SmallClient, _ writer: ObjectWriter, _ body: () async -> Void
  ) async {
    let isOver = Gate()
    await withTaskGroup { group in
      for index in 0..<ObjectWriter.company {
        // Of unknown size each would take its share of the memory that all have.
        let source = TestSource([UInt8(index)])
        source.pause = { await isOver.wait() }
        group.addTask { _ = await client.put(writer, "other\(index)", source) }
      }
      await client.driver.sleep(.milliseconds(100))
      await body()
      isOver.open()
    }
  }

  @Test(
    "many small objects at once come back as they were, equal ones are stored once, and are found the next time",
    arguments: Seed.several)
  func together(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client")
      var objects: [[UInt8]] = []
      for _ in 0..<150 {
        if !objects.isEmpty && random.next() % 4 == 0 {
          objects.append(objects[Int(random.next() % UInt64(objects.count))])
        } else {
          objects.append(shrinking(Int(random.next() % 6000), &random))
        }
      }
      let grouped = Set(objects).filter { $0.count > ObjectWriter.inlinedAmongOthers }
      let distinct = grouped.reduce(0) { $0 + $1.count }

      let writer = ObjectWriter(client.access)
      await Self.amongOthers(client, writer) {
        for result in await ObjectTests.putAll(client, writer, objects, prefix: "a") {
          #expect((try? result.get()) != nil)
        }
      }
      try await writer.finish()
      #expect(writer.newByteCount == UInt64(distinct))
      for (index, bytes) in objects.enumerated() {
        let record = try #require(await client.stat("a\(index)"))
        if case .inline(let inlined) = record.content {
          #expect(inlined == bytes && bytes.count <= ObjectWriter.inlinedAmongOthers)
        } else {
          #expect(bytes.count > ObjectWriter.inlinedAmongOthers)
        }
      }
      await ObjectTests.checkAll(client, objects, prefix: "a", seed)

      let again = ObjectWriter(client.access)
      await Self.amongOthers(client, again) {
        for result in await ObjectTests.putAll(client, again, objects, prefix: "b") {
          #expect((try? result.get()) != nil)
        }
      }
      try await again.finish()
      #expect(again.newByteCount == 0)
      await ObjectTests.checkAll(client, objects, prefix: "b", seed)
      await client.close()
    }
  }

  @Test("a small object alone is inlined and takes one round trip; so does each of a few")
  func alone() throws {
    try simulate(21) { world in
      var random = SeededGenerator(seed: 21)
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client")
      let writer = ObjectWriter(client.access)
      // The session and the bucket's class are asked for once.
      _ = try await client.put(writer, "first", TestSource([1])).get()
      let before = client.wire.currentStatistics.calls
      _ = try await client.put(writer, "one", TestSource(noise(4096, &random))).get()
      #expect(client.wire.currentStatistics.calls - before == 1)
      let few = (0..<ObjectWriter.company - 1).map { _ in noise(4096, &random) }
      for result in await ObjectTests.putAll(client, writer, few, prefix: "a") {
        _ = try result.get()
      }
      #expect(writer.newByteCount == 0)
      for index in few.indices {
        let record = try #require(await client.stat("a\(index)"))
        #expect(record.content == .inline(few[index]))
      }
      try await writer.finish()
      await client.close()
    }
  }

  @Test("small objects among others that give nothing are not kept waiting for them")
  func slowCompany() throws {
    try simulate(22) { world in
      var random = SeededGenerator(seed: 22)
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client")
      let writer = ObjectWriter(client.access)
      let bytes = noise(3000, &random)
      await Self.amongOthers(client, writer) {
        let begun = world.now
        let result = await client.put(writer, "small", TestSource(bytes))
        #expect((try? result.get()) != nil)
        #expect(world.now - begun < .milliseconds(500))
      }
      let record = try #require(await client.stat("small"))
      guard case .embedded = record.content else {
        Issue.record("not in a group: \(record.content)")
        return
      }
      #expect(await client.get("small", 0..<3000) == .success(bytes))
      try await writer.finish()
      await client.close()
    }
  }

  @Test("commits of many objects take few calls, each has its own outcome")
  func fewCalls() throws {
    try simulate(23) { world in
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client")
      let writer = ObjectWriter(client.access)
      _ = try await client.put(writer, "there", TestSource([1])).get()
      let before = client.wire.currentStatistics.calls
      let results = await withTaskGroup(of: (Int, Result<PutResult, DataPathError>).self) { group in
        for index in 0..<300 {
          // Every third is refused: its key is there.
          let key = index % 3 == 0 ? "there" : "new\(index)"
          group.addTask {
            (
              index,
              await client.put(
                writer, key, TestSource([UInt8(index % 256), 7]), precondition: .absent)
            )
          }
        }
        var results: [Int: Result<PutResult, DataPathError>] = [:]
        for await (index, result) in group { results[index] = result }
        return results
      }
      #expect(client.wire.currentStatistics.calls - before < 30)
      for (index, result) in results {
        switch result {
        case .success: #expect(index % 3 != 0)
        case .failure(let error):
          #expect(index % 3 == 0 && error.refusalCode == .preconditionFailed)
        }
      }
      for index in 0..<300 where index % 3 != 0 {
        #expect(await client.get("new\(index)", 0..<2) == .success([UInt8(index % 256), 7]))
      }
      try await writer.finish()
      await client.close()
    }
  }
}
