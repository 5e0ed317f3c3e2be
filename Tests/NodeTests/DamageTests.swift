import Cluster
import Messages
import Ring
import ShardStore
import Simulation
import TestSupport
import Testing
import Wire

@testable import Node

struct DamageTests {
  @Test("what a node finds wrong it tells in its hellos, all of it in turn, until it is mended")
  func told() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let coordinator = FakeCoordinator(cluster: 77)
      try await coordinator.start(world.process("c1"))
      let node = try await NodeScene.start(world.process("n1"))
      let client = NodeScene.client(world)
      let device = node.devices[1]
      let samples = (0..<100 as Range<UInt64>).map { BlockSample(stripe: $0) }
      for sample in samples { try await client.write(sample, to: device) }
      await world.sleep(.seconds(2))
      let quiet = try #require(coordinator.hellos.last)
      #expect(quiet.damage.isEmpty)
      #expect(quiet.devices.allSatisfy { $0.damagedCount == 0 && $0.scrub == ScrubReport() })

      let store = try #require(node.store(of: device))
      for sample in samples {
        let place = try #require(try await store.location(of: sample.block.key))
        try world.disk("n1").flipBit(
          store.path + "/" + place.path, bit: Int(place.offset + 5000) * 8)
      }
      let begun = try await client.ask(ScrubNow(device: nil, byteRate: 1 << 30))
      #expect(begun.devices.map(\.device) == node.devices.sorted())
      #expect(begun.devices.allSatisfy { $0.report.round == 1 })
      await store.waitForScrub(1)
      let standing = try await client.ask(GetScrub(device: device))
      #expect(standing.devices.map(\.damagedCount) == [100])
      #expect(standing.devices[0].report.finishedRound == 1)
      #expect(standing.devices[0].report.foundInRound == 100)
      #expect(
        await refusal { () throws(WireError) in
          _ = try await client.ask(GetScrub(device: DeviceID(1)))
        } == .noSuchDevice)

      await world.sleep(.seconds(3))
      let loud = coordinator.hellos.suffix(2)
      for hello in loud {
        #expect(hello.damage.map(\.device) == [device])
        #expect(hello.damage[0].damaged.count == DeviceDamage.keyLimit)
        #expect(hello.devices.first { $0.id == device }?.damagedCount == 100)
      }
      #expect(Set(loud.flatMap { $0.damage[0].damaged }) == Set(samples.map(\.block.key)))

      for sample in samples { try await client.write(sample, to: device) }
      await world.sleep(.seconds(2))
      #expect(coordinator.hellos.last?.damage.isEmpty == true)
      #expect(coordinator.hellos.last?.devices.allSatisfy { $0.damagedCount == 0 } == true)
      for sample in samples { #expect(try await client.has(sample, on: device)) }
      await client.close()
      await node.stop()
    }
  }

  @Test("what a reader reports is read before it is believed")
  func reported() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let coordinator = FakeCoordinator(cluster: 77)
      try await coordinator.start(world.process("c1"))
      let node = try await NodeScene.start(world.process("n1"))
      let client = NodeScene.client(world)
      let device = node.devices[0]
      let samples = (0..<3 as Range<UInt64>).map { BlockSample(stripe: $0) }
      for sample in samples { try await client.write(sample, to: device) }
      let store = try #require(node.store(of: device))
      let place = try #require(try await store.location(of: samples[1].block.key))
      try world.disk("n1").makeUnreadable(
        store.path + "/" + place.path, Int(place.offset)..<Int(place.offset) + 1)
      let answer = try await client.ask(
        ReportDamage(
          device: device, keys: samples.map(\.block.key) + [BlockSample(stripe: 9).block.key]))
      #expect(answer == ReportDamage.Answer(damagedCount: 1, suspectedCount: 2))
      await world.sleep(.seconds(2))
      let damage = try #require(coordinator.hellos.last?.damage)
      #expect(
        damage == [
          DeviceDamage(
            device: device, damaged: [samples[1].block.key],
            suspected: [samples[0].block.key, samples[2].block.key])
        ])
      #expect(store.state == .healthy)

      // Mended with the same bytes, cleared by them, replaced by others.
      var other = samples[2]
      other.bytes[77] ^= 1
      for sample in [samples[0], samples[1], other] { try await client.write(sample, to: device) }
      await world.sleep(.seconds(2))
      #expect(coordinator.hellos.last?.damage.isEmpty == true)
      #expect(try await client.has(other, on: device))
      #expect(
        await refusal { () throws(WireError) in try await client.write(samples[2], to: device) }
          == .blockExists)
      #expect(
        await refusal { () throws(WireError) in
          _ = try await client.ask(ReportDamage(device: DeviceID(1), keys: []))
        } == .noSuchDevice)
      await client.close()
      await node.stop()
    }
  }
}
