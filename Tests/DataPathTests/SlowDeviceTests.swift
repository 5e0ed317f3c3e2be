import Cluster
import Coding
import Messages
import Node
import Ring
import Simulation
import TestSupport
import Testing

@testable import DataPath

@Suite("A slow device")
struct SlowDeviceTests {
  @Test(
    "is found by what its node says, gets nothing new, is asked last, and is used again when it is quick"
  )
  func spared() throws {
    try simulate(11) { world in
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 6)
      let client = SmallClient(cluster, "client")
      let writer = ObjectWriter(client.access)
      let slow = try #require(cluster.nodes[2]?.devices.first)
      let bytes = [UInt8](unsafeUninitializedCapacity: 300_000) { target, count in
        var random = Seed(3).generator
        for index in target.indices {
          target.initializeElement(at: index, to: UInt8(truncatingIfNeeded: random.next()))
        }
        count = target.count
      }
      var number = 0
      func put(_ count: Int) async throws {
        for _ in 0..<count {
          number += 1
          var own = bytes
          for index in stride(from: 0, to: own.count, by: 1000) {
            own[index] = UInt8(truncatingIfNeeded: number &* 31 &+ index)
          }
          _ = try await client.put(writer, "o\(number)", TestSource(own, isSized: true, seed: 1))
            .get()
          #expect(await client.get("o\(number)", 0..<UInt64(own.count)) == .success(own))
          await world.sleep(.milliseconds(200))
        }
      }
      func degraded() async throws -> [DeviceID] {
        try await client.coordinator.query(GetMap(level: .strong)).degraded
      }
      try await put(40)
      #expect(try await degraded() == [])
      world.disk("n2").faults = { access in
        var fault = DiskFault()
        if access.path.contains("/volumes/") { fault.delay = .milliseconds(300) }
        return fault
      }
      let began = world.now
      while try await degraded() != [slow], world.now - began < .seconds(120) { try await put(2) }
      #expect(try await degraded() == [slow])

      // New containers are elsewhere.
      let before = try await load(client, of: slow)
      var known: Set<ContainerID> = []
      for index in 1...number {
        let name = ObjectName(bucket: "bucket", key: "o\(index)")
        let stat = try await client.coordinator.query(StatObject(level: .strong, name: name))
        known.formUnion(stat.containers.map(\.container))
      }
      let renewed = ObjectWriter(client.access)
      await world.sleep(.seconds(3))
      for index in 0..<10 {
        _ = try await client.put(
          renewed, "new\(index)", TestSource(bytes + [UInt8(index)], isSized: true, seed: 1)
        ).get()
        let name = ObjectName(bucket: "bucket", key: "new\(index)")
        let stat = try await client.coordinator.query(StatObject(level: .strong, name: name))
        let isOld = stat.containers.allSatisfy { known.contains($0.container) }
        #expect(isOld || !stat.containers.flatMap(\.places).map(\.device).contains(slow))
      }
      // What is there is read from the others.
      for index in 1...20 { _ = try await client.get("o\(index)", 0..<1000).get() }
      await world.sleep(.seconds(2))
      let after = try await load(client, of: slow)
      // A hedge may ask it all the same.
      #expect(after.reads.count <= before.reads.count + 2)

      world.disk("n2").faults = nil
      let mended = world.now
      while try await degraded() == [slow], world.now - mended < .seconds(300) { try await put(1) }
      #expect(try await degraded() == [])
      await client.close()
    }
  }

  private func load(_ client: SmallClient, of device: DeviceID) async throws -> DeviceLoad {
    let status = try await client.coordinator.query(GetStatus())
    return try #require(status.nodes.flatMap(\.devices).first { $0.id == device }).load
  }
}
