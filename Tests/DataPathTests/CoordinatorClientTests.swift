import Cluster
import Messages
import Ring
import Simulation
import TestSupport
import Testing

@testable import DataPath

@Suite struct CoordinatorClientTests {
  @Test(
    "a command is carried out once, whatever connections break and whoever is killed meanwhile",
    arguments: Seed.several)
  func exactlyOnce(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "1+1", nodes: 2)
      let client = SmallClient(cluster, "client")
      #expect(await client.stat("nothing") == nil)
      let isOver = Gate()
      let trouble = random.next()
      let troublemaker = world.harness.spawn("trouble") {
        var random = SeededGenerator(seed: trouble)
        while !isOver.isOpen {
          await world.sleep(.microseconds(Int64(random.next() % 30_000)))
          world.network.resetConnections("client", "c1")
          if random.next() % 8 == 0 {
            cluster.killCoordinator()
            await world.sleep(.milliseconds(Int64(random.next() % 500)))
            try? await cluster.startCoordinator()
            // The lease of the one before has to run out.
            await world.sleep(.seconds(12))
          }
        }
      }
      // A bucket made twice is refused the second time: that would tell.
      await withTaskGroup(of: DataPathError?.self) { group in
        for number in 0..<200 {
          let delay = Int64(random.next() % 2_000_000)
          group.addTask {
            await client.driver.sleep(.microseconds(delay))
            do throws(DataPathError) {
              _ = try await client.coordinator.execute(.createBucket(name: "b-\(number)"))
              _ = try await client.coordinator.execute(.removeBucket(name: "b-\(number)"))
              _ = try await client.coordinator.execute(.createBucket(name: "b-\(number)"))
              return nil
            } catch {
              return error
            }
          }
        }
        var errors: [DataPathError] = []
        for await error in group { if let error { errors.append(error) } }
        #expect(errors.count == 0, "\(errors.first.map { "\($0)" } ?? "")")
      }
      isOver.open()
      await troublemaker.wait()
      let buckets = try await client.coordinator.query(ListBuckets(level: .strong)).buckets
      #expect(buckets.count == 201)
      await client.close()
    }
  }

  @Test("a session that expired is told as an unknown outcome once, and then there is another")
  func expiry() throws {
    try simulate(8) { world in
      let cluster = try await SmallCluster(world, scheme: "1+1", nodes: 2)
      let client = SmallClient(cluster, "client")
      _ = try await client.coordinator.execute(.createBucket(name: "one"))
      // Longer than a session lives without a sign.
      client.driver.pause()
      await world.sleep(.seconds(120))
      client.driver.resume()
      do throws(DataPathError) {
        _ = try await client.coordinator.execute(.createBucket(name: "two"))
      } catch {
        #expect(error == .outcomeUnknown)
      }
      _ = try await client.coordinator.execute(.createBucket(name: "three"))
      await client.close()
    }
  }

  @Test("where no coordinator ever answered that is said soon; a wrong key at once")
  func nobody() throws {
    try simulate(9) { world in
      let cluster = try await SmallCluster(world, scheme: "1+1", nodes: 2)
      cluster.killCoordinator()
      let client = SmallClient(cluster, "client")
      let started = world.now
      do throws(DataPathError) {
        _ = try await client.coordinator.query(ListBuckets(level: .strong))
        throw .cancelled
      } catch {
        guard case .noCoordinator = error else { throw error }
      }
      #expect(world.now - started < .seconds(5))
      await client.close()
    }
  }

  @Test("the map tells addresses and who is down, and follows the cluster")
  func map() throws {
    try simulate(10) { world in
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = SmallClient(cluster, "client")
      try await client.access.map.refresh()
      let nodes = try await client.coordinator.query(GetMap(level: .strong)).map.nodes
      let devices = nodes.map { $0.devices[0].id }
      for (node, device) in zip(nodes, devices) {
        #expect(client.access.map.address(of: device) == node.address)
        #expect(client.access.map.nodeName(of: device) == node.name)
        #expect(!client.access.map.isDown(device))
      }
      let victim = Int(nodes[1].name.dropFirst())!
      cluster.killNode(victim)
      await world.sleep(.seconds(7))
      try await client.access.map.prepare(epoch: 0, devices: devices)
      #expect(client.access.map.isDown(devices[1]))
      try await cluster.startNode(victim)
      await world.sleep(.seconds(7))
      try await client.access.map.prepare(epoch: 0, devices: devices)
      #expect(!client.access.map.isDown(devices[1]))
      await client.close()
    }
  }
}
