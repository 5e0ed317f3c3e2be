import Glibc
import Ring
import Simulation
import TestSupport
import Testing

/// A fault counts when it hits, not when it is planned.
@Suite struct FaultCountTests {
  private static func counts(
    _ body: @escaping @Sendable (SimulatedWorld, SimulatedProcess) async throws -> Void
  ) throws -> [FaultKind: Int] {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("p")
      try await body(world, process)
      #expect(world.faults.total == world.faults.occurred.reduce(0) { $0 + $1.count })
      return Dictionary(uniqueKeysWithValues: world.faults.occurred.map { ($0.kind, $0.count) })
    }
  }

  @Test(
    "processes: killed, paused, cut from power, their clocks changed; not those that end by themselves"
  )
  func processes() throws {
    let found = try Self.counts { world, process in
      process.pause()
      process.pause()
      process.resume()
      process.jumpWallClock(by: .seconds(1))
      process.setClockDrift(partsPerMillion: 10)
      process.kill()
      process.kill()
      let next = process.restart()
      next.exit()
      let third = next.restart()
      third.machine.powerCut()
      _ = third.restart().restart()
    }
    #expect(found == [.kill: 2, .pause: 1, .clockJump: 1, .clockDrift: 1, .powerCut: 1])
  }

  @Test("disks: each operation that was hit, each bit, each place")
  func disks() throws {
    let found = try Self.counts { world, process in
      let disk = process.machine.disk
      let slice = process.buffers.slice(4096)
      let file = try await File.open("/f", O_RDWR | O_CREAT, on: process)
      try await file.write([slice], at: 0)
      try await file.synchronize()
      func failing(_ fault: DiskFault, _ operations: RingOperation...) async {
        disk.faults = { _ in fault }
        for operation in operations { _ = await process.submit(operation) }
        disk.faults = nil
      }
      let read = RingOperation.read(descriptor: file.descriptor, into: slice, offset: 0)
      let write = RingOperation.write(descriptor: file.descriptor, from: [slice], offset: 0)
      let sync = RingOperation.synchronize(descriptor: file.descriptor, dataOnly: true)
      await failing(.fail(EIO), read, write, sync, .makeDirectory(path: "/d", mode: 0))
      await failing(.lost, write, sync)
      await failing(.misdirected(to: 8192), write)
      await failing(.delay(.seconds(1)), read, write)
      disk.isReadOnly = true
      _ = await process.submit(write)
      _ = await process.submit(.makeDirectory(path: "/d", mode: 0))
      disk.isReadOnly = false
      disk.capacityByteCount = 4096
      _ = await process.submit(.write(descriptor: file.descriptor, from: [slice], offset: 1 << 20))
      try disk.flipBit("/f", bit: 1)
      try disk.makeUnreadable("/f", 0..<1)
      _ = await process.submit(read)
      try disk.truncate("/f", to: 3)
      process.exit()
      disk.crash()
      disk.wipe()
    }
    #expect(
      found == [
        .readError: 2, .writeError: 1, .synchronizeError: 1, .nameError: 1, .lostWrite: 1,
        .lyingSynchronize: 1, .misdirectedWrite: 1, .slowOperation: 2, .readOnly: 2, .full: 1,
        .bitFlip: 1, .latentError: 1, .tampering: 1, .diskCrash: 1, .wipe: 1,
      ])
  }

  @Test(
    "the network: each cut, isolation, reset, forgotten or refused connection that made a difference"
  )
  func network() throws {
    let found = try Self.counts { world, process in
      for name in ["q", "r", "s"] { _ = world.process(name) }
      let listener = try await Listener.listen(
        on: SocketAddress(host: "p", port: 1), driver: process)
      let network = world.network
      network.resetConnections("p", "q")
      network.cut("p", "q")
      network.cut("q", "p")
      network.healAll()
      network.isolate("p")
      network.healAll()
      let client = world.living("q")!
      _ = try await Connection.connect(to: listener.address, on: client)
      network.resetConnections("q", "p")
      _ = try await Connection.connect(to: listener.address, on: client)
      network.forgetConnections("q", "p")
      network.setLink("p", "q", .slow)
      network.setLink("p", "q", .localNetwork)
      network.refuse("q", "p")
      _ = await client.submit(.connect(listener.address))
    }
    #expect(found == [.cut: 2, .reset: 1, .halfOpen: 1, .slowLink: 1, .refusal: 1])
  }
}
