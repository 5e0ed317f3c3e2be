import Messages
import Ring
import Simulation
import TestSupport
import Testing

@testable import DataPath

@Suite struct LargeObjectTests {
  @Test(
    "an object of many pages comes back, and changed in one place it stores little more",
    arguments: Seed.several.suffix(1))
  func pages(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client")
      // The same few bytes over and over: chunks are found, pages are not.
      let part = noise(3_000_000, &random)
      var bytes: [UInt8] = []
      while bytes.count < 30_000_000 {
        bytes += part
        bytes += noise(Int(random.next() % 3000), &random)
      }
      let writer = ObjectWriter(client.access)
      _ = try await client.put(writer, "before", TestSource(bytes)).get()
      guard case .root(let before) = await client.stat("before")?.content else {
        throw Unexpected()
      }
      let stored = writer.newByteCount
      #expect(stored < 8_000_000)
      var changed = bytes
      changed.insert(contentsOf: noise(10_000, &random), at: 15_000_000)
      _ = try await client.put(writer, "after", TestSource(changed)).get()
      guard case .root(let after) = await client.stat("after")?.content else { throw Unexpected() }
      #expect(writer.newByteCount - stored < 1_000_000)
      #expect(after != before)
      // Equal bytes find their pages by name.
      _ = try await client.put(writer, "again", TestSource(bytes), unlessIdentical: false).get()
      #expect(await client.stat("again")?.content == .root(before))
      try await writer.finish()
      #expect(await client.get("before", 0..<UInt64(bytes.count)) == .success(bytes))
      #expect(await client.get("after", 0..<UInt64(changed.count)) == .success(changed))
      for _ in 0..<5 {
        let first = Int(random.next() % UInt64(changed.count - 100_000))
        #expect(
          await client.get("after", UInt64(first)..<UInt64(first + 100_000))
            == .success(Array(changed[first..<first + 100_000])))
      }
      await client.close()
    }
  }
}
