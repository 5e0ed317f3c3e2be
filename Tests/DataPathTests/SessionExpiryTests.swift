import Messages
import Ring
import Simulation
import TestSupport
import Testing

@testable import DataPath

@Suite struct SessionExpiryTests {
  @Test(
    "a session that expires in the middle of many puts costs time; only what cannot be redone fails, and says so",
    arguments: Seed.several)
  func inTheMiddle(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      for round in 0..<3 {
        let client = SmallClient(cluster, "client \(round)")
        let writer = ObjectWriter(client.access)
        let common = noise(90_000, &random)
        var objects = (0..<10).map { _ in noise(Int(random.next() % 300_000), &random) + common }
        objects[0] = []
        objects[1] = noise(300, &random)
        // Something is open, held and remembered before.
        _ = try await client.put(writer, "first", TestSource(common)).get()
        let once = TestSource(noise(500_000, &random))
        once.canRewind = false
        let delay = Int64(random.next() % 12_000)
        let doomed = CommitsUnderWay()
        world.harness.spawn("pause") {
          await world.sleep(.microseconds(delay))
          client.driver.pause()
          let session = client.coordinator.session
          doomed.note(client.coordinator)
          await world.sleep(.seconds(100))
          client.driver.resume()
          // Until the client learns that its session is gone it sends more in it. Far shorter than a round trip.
          while session != nil && client.coordinator.session == session {
            doomed.note(client.coordinator)
            await world.sleep(.microseconds(10))
          }
        }
        async let stream = client.put(writer, "stream", once)
        let results = await ObjectTests.putAll(client, writer, objects, prefix: "\(round)/")
        let streamed = await stream
        // Another round with the same writer, over whatever the first left.
        var more = await ObjectTests.putAll(client, writer, objects, prefix: "\(round)/again/")
        // The pause may have come as late as that.
        for (index, result) in more.enumerated() {
          guard case .failure(let error) = result else { continue }
          #expect(error == .outcomeUnknown, "round \(round), \(index), again")
          #expect(
            doomed.keys.contains("\(round)/again/\(index)"),
            "of those under way: \(doomed.keys.sorted())")
          more = await ObjectTests.putAll(client, writer, objects, prefix: "\(round)/again/")
          break
        }
        try await writer.finish()
        for (index, result) in results.enumerated() {
          switch result {
          case .success:
            #expect(
              await client.get("\(round)/\(index)", 0..<UInt64(objects[index].count))
                == .success(objects[index]))
          // Sent and not answered when the session ended: it may be there. All else is redone.
          case .failure(let error):
            #expect(error == .outcomeUnknown, "round \(round), \(index)")
            #expect(
              doomed.keys.contains("\(round)/\(index)"),
              "of those under way: \(doomed.keys.sorted())")
          }
        }
        for result in more { _ = try result.get() }
        await ObjectTests.checkAll(client, objects, prefix: "\(round)/again/", seed)
        switch streamed {
        case .success: #expect(await client.get("stream", 0..<500_000) == .success(once.bytes))
        case .failure(.outcomeUnknown): break
        case .failure(let error):
          guard case .source(let reason) = error else { throw error }
          #expect(reason.contains("session"))
        }
        await client.close()
      }
    }
  }

  @Test(
    "commands that name no upload are sent again under a new session when the old one surely took none"
  )
  func transparent() throws {
    try simulate(6) { world in
      let cluster = try await SmallCluster(world, scheme: "1+1", nodes: 2)
      let client = SmallClient(cluster, "client")
      for round in 0..<3 {
        _ = try await client.coordinator.execute(.createBucket(name: "bucket-\(round)"))
        client.driver.pause()
        await world.sleep(.seconds(120))
        client.driver.resume()
        // What is sent before the connection is known to be broken may have arrived, for all the client can tell.
        await client.driver.sleep(.seconds(1))
      }
      _ = try await client.coordinator.execute(.removeBucket(name: "bucket-0"))
      await client.close()
    }
  }
}

/// The keys whose commits were sent in a session and not answered.
private final class CommitsUnderWay: @unchecked Sendable {
  // Loop-confined.
  private(set) var keys: Set<String> = []

  func note(_ coordinator: CoordinatorClient) {
    for case .commitObject(_, let name, _, _, _, _, _, _, _) in coordinator.unanswered.values {
      keys.insert(name.key)
    }
  }
}
