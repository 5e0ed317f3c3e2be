import Messages
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import DataPath

/// Ctrl-C at any moment.
@Suite struct CancellationTests {
  @Test(
    "puts cancelled at any moment leave whole objects or none, and no task", arguments: Seed.several
  )
  func puts(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let reader = SmallClient(cluster, "reader")
      for round in 0..<12 {
        let client = SmallClient(cluster, "client \(round)")
        let objects = (0..<6).map { index in
          noise(index == 0 ? 100 : Int(random.next() % 400_000), &random)
        }
        let writer = ObjectWriter(client.access)
        let results = Outcome<[Result<PutResult, DataPathError>]>()
        let task = client.driver.spawn("puts") {
          results.value = await ObjectTests.putAll(client, writer, objects, prefix: "\(round)/")
        }
        // From before the first connection to after the last commit.
        await world.sleep(.microseconds(Int64(random.next() % (round % 2 == 0 ? 3000 : 20_000))))
        if round % 4 == 3 { cluster.killNode(round / 4 % 3) }
        task.cancel()
        let cancelledAt = world.now
        await task.wait()
        await writer.abandon()
        await client.coordinator.close()
        await client.wire.close()
        #expect(world.now - cancelledAt < .seconds(3), "round \(round)")
        #expect(client.driver.taskNames == [], "round \(round)")
        client.driver.kill()
        for (index, result) in try #require(results.value).enumerated() {
          let key = "\(round)/\(index)"
          switch result {
          case .success: break
          case .failure(let error):
            #expect(error == .cancelled)
            guard await reader.stat(key) != nil else { continue }
          }
          #expect(
            await reader.get(key, 0..<UInt64(objects[index].count)) == .success(objects[index]))
        }
        if round % 4 == 3 { try await cluster.startNode(round / 4 % 3) }
      }
      await reader.close()
    }
  }

  @Test("gets cancelled at any moment end at once and write no byte after", arguments: Seed.several)
  func gets(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let writing = SmallClient(cluster, "writer")
      let writer = ObjectWriter(writing.access)
      let bytes = noise(9_000_000, &random)
      _ = try await writing.put(writer, "k", TestSource(bytes)).get()
      try await writer.finish()
      await writing.close()
      for round in 0..<16 {
        let client = SmallClient(cluster, "client \(round)", readBudget: 1 << 20)
        let sink = TestSink(0..<9_000_000, isOrdered: round % 2 == 0, driver: client.driver)
        let outcome = Outcome<Result<Void, DataPathError>>()
        let task = client.driver.spawn("get") {
          do throws(DataPathError) {
            try await ObjectReader(client.access).read(
              ObjectName(bucket: "bucket", key: "k"), identity: 0, range: 0..<9_000_000, into: sink)
            outcome.value = .success(())
          } catch {
            outcome.value = .failure(error)
          }
        }
        await world.sleep(.microseconds(Int64(random.next() % 20_000)))
        if round % 4 == 3 { cluster.killNode(round / 4 % 3) }
        task.cancel()
        let cancelledAt = world.now
        await task.wait()
        #expect(world.now - cancelledAt < .milliseconds(100), "round \(round)")
        let written = sink.writtenCount
        await client.coordinator.close()
        await client.wire.close()
        await world.sleep(.seconds(1))
        #expect(sink.writtenCount == written && sink.problems.isEmpty)
        #expect(client.driver.taskNames == [], "round \(round)")
        switch try #require(outcome.value) {
        case .success: #expect(sink.bytes == bytes)
        case .failure(let error): #expect(error == .cancelled)
        }
        #expect(client.access.readBudget.available == 1 << 20)
        client.driver.kill()
        if round % 4 == 3 { try await cluster.startNode(round / 4 % 3) }
      }
    }
  }
}
