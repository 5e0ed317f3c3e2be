import Messages
import Ring
import Simulation
import TestSupport
import Testing

@testable import DataPath

@Suite struct ChaosTests {
  @Test(
    "whatever is killed and started again, every acknowledged object reads back, and no other shows wrong bytes",
    arguments: Seed.several)
  func anything(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "3+2", nodes: 6)
      let isOver = Gate()
      let killerSeed = random.next()
      let killer = world.harness.spawn("killer") {
        var random = SeededGenerator(seed: killerSeed)
        while !isOver.isOpen {
          await world.sleep(.milliseconds(Int64(random.next() % 400)))
          let victims = Array(0..<6).shuffled(using: &random).prefix(Int(random.next() % 3))
          for victim in victims {
            if random.next() % 2 == 0 {
              world.living("n\(victim)")?.machine.powerCut()
            } else {
              cluster.killNode(victim)
            }
          }
          let takesCoordinator = random.next() % 3 == 0
          if takesCoordinator { cluster.killCoordinator() }
          await world.sleep(.milliseconds(Int64(random.next() % 3000)))
          for victim in victims { try? await cluster.startNode(victim) }
          if takesCoordinator { try? await cluster.startCoordinator() }
          // What was down may have missed blocks: only m may be missing at any time.
          await world.sleep(.milliseconds(Int64(random.next() % 2000)))
        }
      }
      var acknowledged: [String: [UInt8]] = [:]
      var failures = 0
      for round in 0..<4 {
        let client = SmallClient(cluster, "client \(round)")
        let writer = ObjectWriter(client.access)
        let objects = (0..<8).map { index in
          (key: "\(round)/\(index)", bytes: noise(Int(random.next() % 400_000), &random))
        }
        let results = await withTaskGroup(
          of: (String, [UInt8], Result<PutResult, DataPathError>).self
        ) { group in
          for (key, bytes) in objects {
            group.addTask { (key, bytes, await client.put(writer, key, TestSource(bytes))) }
          }
          var results: [(String, [UInt8], Result<PutResult, DataPathError>)] = []
          for await result in group { results.append(result) }
          return results
        }
        for (key, bytes, result) in results {
          switch result {
          case .success: acknowledged[key] = bytes
          case .failure: failures += 1
          }
        }
        try? await writer.finish()
        await client.close()
      }
      isOver.open()
      await killer.wait()
      await world.sleep(.seconds(10))
      let reader = SmallClient(cluster, "reader")
      for (key, bytes) in acknowledged.sorted(by: { $0.key < $1.key }) {
        let found = await reader.get(key, 0..<UInt64(bytes.count))
        #expect(found == .success(bytes), "\(key)")
      }
      #expect(acknowledged.count >= 16, "\(failures) puts failed")
      await reader.close()
    }
  }
}
