import Cluster
import Messages
import Ring
import ShardStore
import Simulation
import TestSupport
import Testing
import Wire

@testable import Node

/// Devices that cannot be opened, or cannot be written, when their node starts.
struct LeftOutDeviceTests {
  /// The second device is a disk of its own.
  private func mount(_ world: SimulatedWorld) -> SimulatedDisk {
    let disk = world.disk("second")
    world.machine("n1").mount("/data/device-2", disk)
    return disk
  }

  @Test("a device too full to note its cluster serves, and notes it once there is room")
  func fullBeforeItsCluster() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let disk = mount(world)
      let first = try await NodeScene.start(world.process("n1"))
      let devices = first.devices
      // Killed between its own note and the devices'.
      try await #require(first.directory).adopt(cluster: 42)
      world.living("n1")!.kill()

      let room = disk.capacityByteCount
      disk.capacityByteCount = 0
      let coordinator = FakeCoordinator(cluster: 42)
      try await coordinator.start(world.process("c1"))
      let node = try await NodeScene.start(world.process("n1"))
      #expect(node.devices == devices && node.unopened.isEmpty)
      await world.sleep(.seconds(3))
      #expect(node.store(of: devices[1])?.cluster == 0)
      #expect(node.store(of: devices[0])?.cluster == 42)
      // Its node's word is enough to follow a leader.
      let client = NodeScene.client(world)
      let lease = HoldLease(
        clusterID: 42, epoch: 3, leaseMilliseconds: 1000, holder: "c1", rootVersion: 1, root: [1])
      #expect(try await client.ask(lease).clusterID == 42)

      disk.capacityByteCount = room
      await world.sleep(.seconds(3))
      #expect(node.store(of: devices[1])?.cluster == 42)
      await client.close()
      await node.stop()
      await coordinator.server?.stop()
    }
  }

  @Test("a device that could not be made for want of room is made once there is some")
  func fullAtItsMaking() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let disk = mount(world)
      let room = disk.capacityByteCount
      disk.faults = { $0.kind == .makeDirectory || $0.kind == .write ? .fail(28) : .none }
      let coordinator = FakeCoordinator(cluster: 42)
      try await coordinator.start(world.process("c1"))
      let node = try await NodeScene.start(world.process("n1"))
      #expect(node.devices.count == 1 && node.unopened.count == 1)
      await world.sleep(.seconds(5))
      #expect(node.devices.count == 1 && coordinator.hellos.last?.devices.count == 1)
      disk.faults = nil
      disk.capacityByteCount = room
      await world.sleep(.seconds(40))
      #expect(node.devices.count == 2 && node.unopened.isEmpty)
      #expect(coordinator.hellos.last?.devices.map(\.id) == node.devices)
      #expect(node.devices.allSatisfy { node.store(of: $0)?.cluster == 42 })
      await node.stop()
      await coordinator.server?.stop()
    }
  }

  @Test("a device whose file system is mounted late joins the others, its copy of the lease too")
  func mountedLate() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("n1")
      var node = try await NodeScene.start(process)
      let devices = node.devices
      let sample = BlockSample(stripe: 3)
      var client = NodeScene.client(world)
      try await client.write(sample, to: devices[0])
      try await client.write(sample, to: devices[1])
      await client.close()
      await node.stop()

      try await process.rename("/data/device-2", to: "/data/away")
      node = try await NodeScene.start(process)
      #expect(node.devices == [devices[0]])
      client = NodeScene.client(world)
      func hold(_ epoch: UInt64) async throws -> HoldLease.Answer {
        try await client.ask(
          HoldLease(
            clusterID: 42, epoch: epoch, leaseMilliseconds: 1000, holder: "c1", rootVersion: 1,
            root: [1]))
      }
      _ = try await hold(3)
      var ahead = LeaseRecord(node: try #require(node.node))
      ahead.epoch = 7
      try await process.replaceFile("/data/away/lease", with: ahead.encoded)
      try await process.rename("/data/away", to: "/data/device-2")
      await world.sleep(.seconds(40))
      #expect(node.devices == devices)
      #expect(try await client.has(sample, on: devices[1]))
      #expect(node.highestEpoch == 7)
      #expect(
        await refusal { () throws(WireError) in
          _ = try await client.ask(
            HoldLease(
              clusterID: 42, epoch: 6, leaseMilliseconds: 1, holder: "", rootVersion: 0, root: []))
        } == .staleEpoch)
      #expect(try await hold(8).highestEpoch == 8)
      let copy = try #require(
        LeaseRecord(decoding: try world.disk("n1").contents("/data/device-2/lease")))
      #expect(copy.epoch == 8)
      await client.close()
      await node.stop()
    }
  }
}
