import Cluster
import Messages
import Ring
import ShardStore
import Simulation
import TestSupport
import Testing
import Wire

@testable import Node

struct DeviceLedgerTests {
  @Test("a device that is gone is not made anew until the operator gives it up, by name and once")
  func missing() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let disk = world.disk("n1")
      func start(_ configuration: NodeConfiguration = NodeScene.configuration()) async throws
        -> [DeviceID]
      {
        let node = try await NodeScene.start(
          world.living("n1") ?? world.process("n1"), configuration)
        let devices = node.devices
        await node.stop()
        return devices
      }
      let first = try await start()
      #expect(first.count == 2)
      // As a mount point that is empty, and as one that is not even there.
      for isThere in [true, false] {
        try disk.erase("/data/device-1")
        if isThere { try await world.living("n1")!.makeDirectories("/data/device-1") }
        let devices = try await start()
        #expect(devices == [first[1]])
        #expect(await !world.living("n1")!.exists("/data/device-1/identity"))
        let log = String(decoding: try disk.contents("/log"), as: UTF8.self)
        #expect(log.contains("/data/device-1") && log.contains("\(first[0]) stood here"))
        if !isThere { try await world.living("n1")!.makeDirectories("/data/device-1") }
      }
      let wrong = NodeScene.configuration { $0.devices[0].replaces = first[1] }
      #expect(try await start(wrong) == [first[1]])
      let right = NodeScene.configuration { $0.devices[0].replaces = first[0] }
      let second = try await start(right)
      #expect(second.count == 2 && second[1] == first[1] && second[0] != first[0])
      #expect(try await start(right) == second)
      try disk.erase("/data/device-1")
      #expect(try await start(right) == [first[1]])
      try disk.erase("/data/device-2")
      guard
        case .noDevices(let reasons) = try await NodeScene.refusal(
          world.living("n1")!, NodeScene.configuration())
      else {
        Issue.record("started without a device")
        return
      }
      #expect(
        reasons.contains("/data/device-1: device \(second[0]) stood here")
          && reasons.contains("/data/device-2: device \(first[1]) stood here"))
    }
  }

  @Test(
    "an old directory without a list of devices opens, and has one from then on; it may be moved")
  func oldAndMoved() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let disk = world.disk("n1")
      let process = world.process("n1")
      var node = try await NodeScene.start(process)
      let devices = node.devices
      await node.stop()
      try disk.erase("/data/devices")
      node = try await NodeScene.start(process)
      #expect(node.devices == devices)
      await node.stop()
      try await process.rename("/data", to: "/elsewhere")
      let moved = NodeScene.configuration {
        $0.directory = "/elsewhere"
        for index in $0.devices.indices {
          $0.devices[index].path = "/elsewhere/device-\(index + 1)"
        }
      }
      try disk.erase("/elsewhere/device-2")
      node = try await NodeScene.start(process, moved)
      #expect(node.devices == [devices[0]])
      await node.stop()
    }
  }

  @Test("a device that failed and could not note it is known as failed after a restart")
  func retirement() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let disk = world.disk("n1")
      let coordinator = FakeCoordinator(cluster: 9)
      try await coordinator.start(world.process("c1"))
      var node = try await NodeScene.start(world.process("n1"))
      var client = NodeScene.client(world)
      let device = node.devices[0]
      let kept = BlockSample(stripe: 0)
      try await client.write(kept, to: device)
      disk.faults = { access in
        let isFailing =
          access.path.hasPrefix("/data/device-1/")
          && (access.kind == .synchronize || access.path.contains("/retired"))
        return isFailing ? .fail(Errno.inputOutput) : .none
      }
      for round in 0..<3 as Range<UInt64> {
        #expect(
          await refusal { () throws(WireError) in
            try await client.write(BlockSample(stripe: 1 + round), to: device)
          } == .deviceFailed)
        #expect(try await client.has(kept, on: device))
        await world.sleep(.seconds(3))
        let report = try #require(coordinator.hellos.last?.devices.first { $0.id == device })
        #expect(report.isFailed && report.isRetired && report.free == 0)
        #expect(coordinator.hellos.last?.devices.last?.isFailed == false)
        await client.close()
        world.living("n1")!.kill()
        // It seems to be well again.
        disk.faults = nil
        node = try await NodeScene.start(world.process("n1"))
        client = NodeScene.client(world)
      }
      await client.close()
      await node.stop()
      await coordinator.server?.stop()
    }
  }

  @Test(
    "a device on a read-only file system, or whose note of retirement cannot be read, is said to fail now, and no more"
  )
  func failingForAWhile() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let disk = world.disk("device")
      world.machine("n1").mount("/data/device-1", disk)
      let coordinator = FakeCoordinator(cluster: 9)
      try await coordinator.start(world.process("c1"))
      // Formatted, and told its cluster.
      func life() async throws -> DeviceReport {
        let node = try await NodeScene.start(world.living("n1") ?? world.process("n1"))
        await world.sleep(.seconds(3))
        let report = try #require(
          coordinator.hellos.last?.devices.first { $0.id == node.devices[0] })
        world.living("n1")!.kill()
        return report
      }
      #expect(try await !life().isFailed)
      disk.faults = { access in
        access.path.hasPrefix("/data/device-1/retired") ? .fail(Errno.inputOutput) : .none
      }
      var report = try await life()
      #expect(report.isFailed && !report.isRetired && report.free == 0)
      disk.faults = nil
      report = try await life()
      #expect(!report.isFailed && !report.isRetired && report.free > 0)
      disk.isReadOnly = true
      report = try await life()
      #expect(report.isFailed && !report.isRetired && report.free == 0)
      disk.isReadOnly = false
      report = try await life()
      #expect(!report.isFailed && !report.isRetired && report.free > 0)
      await coordinator.server?.stop()
    }
  }

  @Test("a list of devices with any bit turned over, or cut off, or of a later format is refused")
  func damage() throws {
    var ledger = DeviceLedger()
    ledger.place(DeviceID(7), at: "device-1")
    ledger.place(DeviceID(8), at: "/mnt/b")
    ledger.retire(DeviceID(8), "sync: I/O error")
    #expect(try DeviceLedger.parse(ledger.encoded, path: "p") == ledger)
    #expect(ledger.retired(DeviceID(8)) != nil && ledger.retired(DeviceID(7)) == nil)
    ledger.place(DeviceID(8), at: "device-1")
    #expect(ledger.lines.map(\.device) == [DeviceID(8)] && ledger.retired(DeviceID(8)) != nil)
    let bytes = ledger.encoded
    for bit in 0..<bytes.count * 8 {
      var wrong = bytes
      wrong[bit / 8] ^= 1 << (bit % 8)
      #expect(throws: NodeError.ledgerDamaged(path: "p")) {
        try DeviceLedger.parse(wrong, path: "p")
      }
    }
    for count in 0..<bytes.count {
      #expect(throws: NodeError.ledgerDamaged(path: "p")) {
        try DeviceLedger.parse(Array(bytes[..<count]), path: "p")
      }
    }
    var later = bytes
    later[8] = 2
    resign(&later)
    #expect(throws: NodeError.newerFormat(path: "p", version: 2)) {
      try DeviceLedger.parse(later, path: "p")
    }
  }
}
