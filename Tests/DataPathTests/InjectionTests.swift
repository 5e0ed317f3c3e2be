import Messages
import Ring
import Simulation
import TestSupport
import Testing

@testable import DataPath

@Suite struct InjectionTests {
  @Test(
    "whatever rare paths are taken, what is acknowledged reads back", arguments: Seed.several)
  func everyPoint(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 4)
      for point in InjectionPoint.allCases {
        // From one pass in 16 to one in 64.
        world.injections[point] = (1 << 16) >> Int(random.next() % 3)
      }
      world.injections[.leaseLostEarly] = 20_000
      world.injections[.sessionExpiredEarly] = 20_000
      var acknowledged: [(String, [UInt8])] = []
      for round in 0..<4 {
        let client = SmallClient(cluster, "client \(round)")
        let writer = ObjectWriter(client.access)
        for index in 0..<8 {
          let bytes = noise(Int(random.next() % 500_000), &random)
          if case .success = await client.put(writer, "\(round)/\(index)", TestSource(bytes)) {
            acknowledged.append(("\(round)/\(index)", bytes))
          }
          await world.sleep(.milliseconds(Int64(random.next() % 1500)))
        }
        try? await writer.finish()
        for (key, bytes) in acknowledged {
          #expect(await client.get(key, 0..<UInt64(bytes.count)) == .success(bytes), "\(key)")
        }
        await client.close()
      }
      #expect(acknowledged.count >= 16)
      #expect(world.injections.met.count >= InjectionPoint.allCases.count / 2)
    }
  }
}
