import Messages
import Ring
import Simulation
import TestSupport
import Testing

@testable import DataPath

@Suite("slow links")
struct SlowLinkTests {
  @Test(
    "an object that takes many times a block's deadline is read, and quickly again on a fast link",
    arguments: Seed.several)
  func large(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client", readBudget: 64 << 20)
      let bytes = noise(40_000_000, &random)
      let writer = ObjectWriter(client.access)
      _ = try await client.put(writer, "large", TestSource(bytes)).get()
      try await writer.finish()
      let slow = LinkOptions(
        latency: .milliseconds(1)...(.milliseconds(20)), bytesPerSecond: 700_000)
      for (link, limit) in [(slow, 120), (LinkOptions.localNetwork, 5)] {
        for number in 1...3 { world.network.setLink("client", "n\(number)", link) }
        let begun = client.driver.now
        #expect(await client.get("large", 0..<UInt64(bytes.count)) == .success(bytes))
        #expect(client.driver.now - begun < .seconds(limit))
      }
      await client.close()
    }
  }
}
