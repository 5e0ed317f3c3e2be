import Messages
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import DataPath

/// What a key may hold: the last acknowledged content, or any that was in doubt since.
private struct KeyHistory {
  var possible: [[UInt8]?] = [nil]

  mutating func put(_ bytes: [UInt8], _ result: Result<PutResult, DataPathError>) {
    if case .success = result { possible = [] }
    possible.append(bytes)
  }
}

@Suite struct StormTests {
  @Test(
    "several clients overwrite their keys with shared content while all that may fail fails: each key holds what it may, and no task is left",
    arguments: Seed.several)
  func storm(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "3+2", nodes: 6)
      for point in InjectionPoint.allCases {
        world.injections[point] = 1 << Int(random.next() % 15)
      }
      world.injections[.leaseLostEarly] = 0
      world.injections[.sessionExpiredEarly] = random.next() % 2 == 0 ? 0 : 2000
      let pool = (0..<6).map { _ in noise(Int(random.next() % 250_000) + 1, &random) }
      let isOver = Gate()
      let stormSeed = random.next()
      let clientNames = (0..<3).map { "client \($0)" }
      let weather = world.harness.spawn("weather") {
        var random = SeededGenerator(seed: stormSeed)
        while !isOver.isOpen {
          await world.sleep(.milliseconds(Int64(random.next() % 1500)))
          let client = clientNames[Int(random.next() % 3)]
          let node = Int(random.next() % 6)
          let span = Duration.milliseconds(Int64(random.next() % 6000))
          switch random.next() % 9 {
          case 0:
            cluster.killNode(node)
            await world.sleep(span)
            try? await cluster.startNode(node)
          case 1:
            world.living("n\(node)")?.machine.powerCut()
            await world.sleep(span)
            try? await cluster.startNode(node)
          case 2:
            cluster.killCoordinator()
            await world.sleep(.milliseconds(500))
            try? await cluster.startCoordinator()
            await world.sleep(.seconds(12))
          case 3:
            world.living(client)?.pause()
            await world.sleep(random.next() % 3 == 0 ? .seconds(50) : span)
            world.living(client)?.resume()
          case 4:
            world.living("n\(node)")?.pause()
            await world.sleep(span * 3)
            world.living("n\(node)")?.resume()
          case 5: world.network.resetConnections(client, "c1")
          case 6: world.network.resetConnections(client, "n\(node)")
          case 7:
            world.network.cut(client, "n\(node)")
            await world.sleep(span * 3)
            world.network.healAll()
          default:
            world.network.cut(client, "c1", pending: random.next() % 2 == 0 ? .held : .lost)
            await world.sleep(span * 2)
            world.network.healAll()
          }
        }
      }
      let histories = await withTaskGroup(of: [String: KeyHistory].self) { group in
        for name in clientNames {
          let own = random.next()
          group.addTask {
            var random = SeededGenerator(seed: own)
            var histories: [String: KeyHistory] = [:]
            for round in 0..<3 {
              let client = SmallClient(cluster, name)
              let writer = ObjectWriter(client.access)
              for step in 0..<4 {
                var batch: [(String, [UInt8])] = []
                for index in 0..<4 where random.next() % 3 != 0 {
                  var bytes = pool[Int(random.next() % 6)]
                  if random.next() % 2 == 0 { bytes += pool[Int(random.next() % 6)] }
                  if random.next() % 2 == 0 { bytes += noise(Int(random.next() % 90_000), &random) }
                  if random.next() % 4 == 0 {
                    bytes = Array(bytes.prefix(Int(random.next() % 5000)))
                  }
                  batch.append(("\(name)/\(index)", bytes))
                }
                let results = await withTaskGroup(
                  of: (String, [UInt8], Result<PutResult, DataPathError>).self
                ) { puts in
                  for (key, bytes) in batch {
                    puts.addTask {
                      let result = await client.put(
                        writer, key, TestSource(bytes, isSized: bytes.count % 2 == 0))
                      return (key, bytes, result)
                    }
                  }
                  var results: [(String, [UInt8], Result<PutResult, DataPathError>)] = []
                  for await result in puts { results.append(result) }
                  return results
                }
                for (key, bytes, result) in results {
                  histories[key, default: KeyHistory()].put(bytes, result)
                  if case .failure(.corrupt(let what)) = result { Issue.record("\(what)") }
                }
                // A client sees its own writes, also in the storm; it may be too bad to see anything.
                for (key, bytes, _) in results {
                  let possible = histories[key]!.possible
                  guard let record = await client.stat(key) else { continue }
                  switch await client.get(key, 0..<record.byteCount) {
                  case .success(let found):
                    #expect(possible.contains(found), "\(key), round \(round), step \(step)")
                  case .failure(.corrupt(let what)): Issue.record("\(key): \(what)")
                  case .failure: break
                  }
                  _ = bytes
                }
              }
              if random.next() % 2 == 0 {
                try? await writer.finish()
              } else {
                await writer.abandon()
              }
              await client.coordinator.close()
              await client.wire.close()
              #expect(client.driver.taskNames == [], "\(name), round \(round)")
              client.driver.kill()
            }
            return histories
          }
        }
        var all: [String: KeyHistory] = [:]
        for await some in group { all.merge(some) { one, _ in one } }
        return all
      }
      isOver.open()
      await weather.wait()
      world.network.healAll()
      await world.sleep(.seconds(20))
      let reader = SmallClient(cluster, "reader")
      for (key, history) in histories.sorted(by: { $0.key < $1.key }) {
        let name = ObjectName(bucket: "bucket", key: key)
        do throws(DataPathError) {
          let record = try await reader.coordinator.query(
            StatObject(level: .strong, name: name)
          ).record
          let found = try await reader.get(key, 0..<record.byteCount).get()
          #expect(history.possible.contains(found), "\(key)")
        } catch {
          #expect(
            error.refusalCode == .noSuchKey && history.possible.contains(nil), "\(key): \(error)")
        }
      }
      await reader.close()
    }
  }
}
