import Glibc
import Ring
import Simulation
import TestSupport
import Testing

@Suite struct WorldTests {
  /// A bit of everything: files, a client and a server, timers, random numbers.
  static func busyRun(_ seed: UInt64, order: SimulatedWorld.Options.JobOrder = .seeded) throws
    -> UInt64
  {
    var options = SimulatedWorld.Options()
    options.jobOrder = order
    return try busyRun(seed, options: options)
  }

  static func busyRun(_ seed: UInt64, options: SimulatedWorld.Options) throws -> UInt64 {
    try SimulatedWorld.run(seed: seed, options: options) { world in
      let server = world.process("server")
      let client = world.process("client")
      let listener = try await Listener.listen(
        on: SocketAddress(host: "server", port: 7), driver: server)
      server.spawn("echo") {
        guard let connection = try? await listener.accept() else { return }
        let slice = server.buffers.slice(5000)
        while let count = try? await connection.receive(into: slice), count > 0 {
          try? await connection.send([slice[0..<count]])
        }
        await connection.close()
      }
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in 0..<8 {
          group.addTask {
            await client.sleep(.microseconds(Int64(client.random() % 1000)))
            let file = try await File.open("/f\(number)", O_RDWR | O_CREAT, on: client)
            try await file.write([Slice(copying: client.randomBytes(3000))], at: 100)
            try await file.synchronize()
            await file.close()
          }
        }
        try await group.waitForAll()
      }
      let connection = try await Connection.connect(to: listener.address, on: client)
      let sent = client.randomBytes(20_000)
      async let echoed = Self.receive(20_000, connection, client)
      try await connection.send([Slice(copying: sent)])
      #expect(try await echoed == sent)
      await connection.close()
      world.machine("client").powerCut()
      return world.eventHash
    }
  }

  static func receive(_ count: Int, _ connection: Connection, _ driver: any Driver) async throws
    -> [UInt8]
  {
    let slice = driver.buffers.slice(count)
    let found = try await connection.receive(into: slice, waitForAll: true)
    return slice[0..<found].array
  }

  @Test("a seed replays a run exactly", arguments: Seed.several)
  func replay(seed: Seed) throws {
    #expect(try Self.busyRun(seed.value) == Self.busyRun(seed.value))
    #expect(
      try Self.busyRun(seed.value, order: .firstComeFirstServed)
        == Self.busyRun(seed.value, order: .firstComeFirstServed))
  }

  @Test("different seeds give different runs")
  func seedsDiffer() throws {
    let hashes = try (UInt64(1)...20).map { try Self.busyRun($0) }
    #expect(Set(hashes).count == 20)
  }

  @Test("an hour of sleep takes no time, and the clocks show an hour")
  func timeJumps() throws {
    try SimulatedWorld.run(seed: 1) { world in
      var options = SimulatedProcess.Options()
      options.clockOffset = .seconds(17)
      options.wallClockOffset = .seconds(-60)
      let process = world.process("p", options)
      #expect(process.now == .seconds(17))
      let wall = process.wallClock
      for _ in 0..<3600 { #expect(await process.sleep(.seconds(1))) }
      #expect(process.now == .seconds(3617))
      #expect(process.wallClock - wall == .seconds(3600))
      #expect(world.now == .seconds(3600))
    }
  }

  @Test("a fast clock's second is shorter than the world's, and never early")
  func drift() throws {
    try SimulatedWorld.run(seed: 1) { world in
      var options = SimulatedProcess.Options()
      options.clockDriftPartsPerMillion = 1000
      let process = world.process("fast", options)
      await process.sleep(.seconds(1000))
      #expect(process.now >= .seconds(1000))
      #expect(process.now < .seconds(1000) + .microseconds(1))
      #expect(world.now < .seconds(1000))
    }
  }

  @Test("a clock's drift may change, and never makes it jump")
  func driftChanges() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("p")
      var expected = Duration.zero
      for drift in [0, 500, -300, 200_000] {
        process.setClockDrift(partsPerMillion: drift)
        #expect(abs((process.now - expected).saturatedNanoseconds) < 10)
        await world.sleep(.seconds(100))
        expected += .seconds(100) + .microseconds(100 * drift)
        let before = world.now
        await process.sleep(.seconds(10))
        let took = (world.now - before).saturatedNanoseconds
        #expect(abs(took - 10_000_000_000_000_000 / Int64(1_000_000 + drift)) < 10)
        expected += .seconds(10)
        #expect(abs((process.now - expected).saturatedNanoseconds) < 10)
      }
    }
  }

  @Test("a wall clock that jumps takes no other clock with it")
  func wallClockJumps() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("p")
      let other = world.process("q")
      let before = process.wallClock
      for span in [Duration.seconds(3600), .seconds(-90_000)] {
        process.jumpWallClock(by: span)
      }
      #expect(process.wallClock - before == .seconds(3600 - 90_000))
      #expect(process.now == .zero && other.wallClock == before)
      #expect(process.restart().wallClock == before)
    }
  }

  @Test("a body that waits for nothing that can come is a deadlock, named with its seed")
  func deadlock() {
    #expect {
      try SimulatedWorld.run(seed: 99) { world in
        let process = world.process("lonely")
        let listener = try await Listener.listen(
          on: SocketAddress(host: "lonely", port: 1), driver: process)
        _ = try await listener.accept()
      }
    } throws: { error in
      let text = "\(error)"
      return text.contains("deadlock") && text.contains("99") && text.contains("lonely: accept 3")
    }
    #expect {
      try SimulatedWorld.run(seed: 98) { _ in await WaitQueue().wait() }
    } throws: { "\($0)".contains("deadlock") && "\($0)".contains("98") }
  }

  @Test("timers that go on for ever do not hide that the body never ends")
  func tooLate() {
    #expect {
      try SimulatedWorld.run(seed: 97) { world in
        world.harness.spawn("tick") {
          while !Task.isCancelled { await world.sleep(.seconds(60)) }
        }
        await Gate().wait()
      }
    } throws: { "\($0)".contains("not done after") && "\($0)".contains("97") }
  }

  @Test("an endless loop at one moment is found")
  func endless() {
    var options = SimulatedWorld.Options()
    options.maximumSteps = 10_000
    #expect {
      try SimulatedWorld.run(seed: 96, options: options) { _ in
        while true { await Task.yield() }
      }
    } throws: { "\($0)".contains("10001 steps") && "\($0)".contains("96") }
  }

  @Test("a run that takes too much real time is ended, and says so with its seed")
  func realTime() {
    final class Asked: @unchecked Sendable { var count = 0 }
    let asked = Asked()
    var options = SimulatedWorld.Options()
    options.isOver = {
      asked.count += 1
      return asked.count == 3
    }
    #expect {
      try SimulatedWorld.run(seed: 94, options: options) { world in
        while true { await world.sleep(.milliseconds(1)) }
      }
    } throws: { "\($0)".contains("real time") && "\($0)".contains("seed 94") }
    #expect(asked.count == 3)
  }

  @Test("a job from another thread is an error")
  func stray() {
    #expect {
      try SimulatedWorld.run(seed: 95) { world in
        await Task.detached {}.value
        await world.sleep(.seconds(1))
      }
    } throws: { "\($0)".contains("another thread") || "\($0)".contains("deadlock") }
  }

  @Test("a trace tells what happened, by process")
  func trace() throws {
    let lines = Outcome<[String]>()
    lines.value = []
    var options = SimulatedWorld.Options()
    options.trace = { lines.value!.append($0) }
    try SimulatedWorld.run(seed: 1, options: options) { world in
      let process = world.process("p")
      try await process.replaceFile("/f", with: [1])
      _ = await process.submit(.open(path: "/missing", flags: O_RDONLY, mode: 0))
      let line = Slice(copying: Array("hello\n".utf8))
      _ = await process.submit(.write(descriptor: 2, from: [line], offset: .max))
      await process.sleep(.seconds(2))
      process.kill()
    }
    let parts = lines.value!.map { line in
      line.split(separator: " ", maxSplits: 2).map { $0.trimmingPrefix { $0 == " " } }
    }
    for (time, who, what) in parts.map({ ($0[0], $0[1], $0[2]) }) {
      #expect(Double(time) != nil && time.count >= 8)
      #expect(who == "p", "\(what)")
    }
    let told = parts.map { String($0[2]) }
    for what in ["start", "write /f.new 1 bytes at 0 = 1", "rename /f.new to /f = 0", "killed"] {
      #expect(told.contains(what), "\(told)")
    }
    #expect(told.contains("open /missing flags 0o0 = -ENOENT"))
    #expect(told.contains("says hello" + " = 6"))
    #expect(told.contains("sleep 2.0 seconds = 0 after 2000 ms"))
  }

  @Test("a world leaves nothing in memory")
  func noLeak() throws {
    final class Witness: Sendable {}
    weak var world: SimulatedWorld?
    weak var witness: Witness?
    _ = try SimulatedWorld.run(seed: 1) { inner in
      let held = Witness()
      let process = inner.process("p")
      let listener = try await Listener.listen(
        on: SocketAddress(host: "p", port: 1), driver: process)
      process.spawn("accepts") {
        _ = try? await listener.accept()
        withExtendedLifetime(held) {}
      }
      let connection = try await Connection.connect(to: listener.address, on: inner.harness)
      try await connection.send([Slice(copying: [1, 2, 3])])
      await inner.sleep(.seconds(1))
      return Leaks(world: inner, witness: held)
    }.look {
      world = $0
      witness = $1 as? Witness
    }
    #expect(world == nil)
    #expect(witness == nil)
  }

  @Test("what a killed process still waits for keeps no bytes of the disks")
  func bulkIsDropped() throws {
    let disk = try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("p")
      try await process.replaceFile("/f", with: [UInt8](repeating: 1, count: 10_000))
      process.spawn("waits for ever") { await process.offload(lane: 0) {} }
      await world.sleep(.zero)
      process.kill()
      return process.machine.disk
    }
    #expect(try disk.files().isEmpty)
  }

  struct Leaks: @unchecked Sendable {
    let world: SimulatedWorld
    let witness: AnyObject
    func look(_ body: (SimulatedWorld, AnyObject) -> Void) { body(world, witness) }
  }

  @Test("what the body throws comes out")
  func bodyThrows() {
    #expect(throws: RingError.self) {
      try SimulatedWorld.run(seed: 1) { world in
        _ = try await File.open("/missing", O_RDONLY, on: world.harness)
      }
    }
  }

  @Test("the seed decides who runs first; first come first served does not")
  func order() throws {
    func orders(_ order: SimulatedWorld.Options.JobOrder) throws -> Set<[Int]> {
      var seen = Set<[Int]>()
      for seed in UInt64(0)..<40 {
        var options = SimulatedWorld.Options()
        options.jobOrder = order
        seen.insert(
          try SimulatedWorld.run(seed: seed, options: options) { _ in
            await withTaskGroup { group in
              for number in 0..<3 { group.addTask { number } }
              return await group.reduce(into: []) { $0.append($1) }
            }
          })
      }
      return seen
    }
    #expect(try orders(.seeded).count > 3)
    #expect(try orders(.firstComeFirstServed).count == 1)
  }

  @Test("nobody runs between a check and the wait that follows it", arguments: 0..<20)
  func checkAndWait(seed: Int) throws {
    try SimulatedWorld.run(seed: UInt64(seed)) { world in
      let marker = Outcome<Int>()
      await withTaskGroup { group in
        for number in 0..<10 {
          group.addTask {
            for _ in 0..<20 {
              await Task.yield()
              marker.value = number
              await withUnsafeContinuation { (waiter: UnsafeContinuation<Void, Never>) in
                #expect(marker.value == number)
                waiter.resume()
              }
              marker.value = number
              let gate = Gate()
              world.harness.spawn("open") { gate.open() }
              #expect(marker.value == number)
              await gate.wait()
            }
          }
        }
      }
    }
  }

  @Test("a new consumer of random numbers does not disturb the others")
  func splitRandom() throws {
    let alone = try SimulatedWorld.run(seed: 5) { world in world.process("a").randomBytes(100) }
    let both = try SimulatedWorld.run(seed: 5) { world in
      let b = world.process("b")
      _ = b.randomBytes(50)
      return world.process("a").randomBytes(100)
    }
    #expect(alone == both)
  }

  @Test("work of one lane runs in order, and the caller gets its value", arguments: Seed.several)
  func lanes(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let process = world.process("p")
      let order = Outcome<[Int]>()
      order.value = []
      await withTaskGroup { group in
        // Children start in any order, so each waits for its turn to hand in its work.
        for number in 0..<20 {
          group.addTask {
            await process.sleep(.microseconds(Int64(number)))
            let answer = await process.offload(lane: 1) {
              order.value!.append(number)
              return number * 2
            }
            #expect(answer == number * 2)
          }
        }
      }
      #expect(order.value == Array(0..<20))
    }
  }

  @Test("what the simulation has not is refused by name")
  func unsupported() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let launch = ProcessLaunch(executable: "/bin/true", arguments: [], logPath: "/log")
      #expect(await world.harness.submit(.spawnProcess(launch, Outcome<Int32>())) == -ENOSYS)
      #expect(await world.harness.submit(.signalProcess(pid: 1, signal: 9)) == -ENOSYS)
      #expect(await world.harness.submit(.waitForProcess(pid: 1)) == -ENOSYS)
      #expect(
        world.unsupportedOperations == ["spawnProcess", "signalProcess", "waitForProcess"])
    }
  }

  @Test("every other operation is answered as the kernel does")
  func everyOperation() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("p")
      let slice = process.buffers.slice(4096)
      func answer(_ operation: RingOperation) async -> Int32 { await process.submit(operation) }
      let file = await answer(.open(path: "/f", flags: O_RDWR | O_CREAT, mode: 0o600))
      #expect(await answer(.write(descriptor: file, from: [slice], offset: 0)) == 4096)
      #expect(await answer(.read(descriptor: file, into: slice, offset: 100)) == 3996)
      #expect(await answer(.synchronize(descriptor: file, dataOnly: true)) == 0)
      #expect(await answer(.allocate(descriptor: file, mode: 0, offset: 0, byteCount: 9000)) == 0)
      #expect(await answer(.truncate(descriptor: file, byteCount: 10)) == 0)
      #expect(await answer(.lock(descriptor: file)) == 0)
      let own = Outcome<FileStatus>()
      #expect(await answer(.fileStatus(descriptor: file, own)) == 0)
      #expect(own.value?.byteCount == 10)
      #expect(await answer(.close(descriptor: file)) == 0)
      #expect(await answer(.close(descriptor: file)) == -EBADF)
      let status = Outcome<FileStatus>()
      #expect(await answer(.status(path: "/f", followLinks: true, status)) == 0)
      #expect(status.value?.byteCount == 10)
      #expect(await answer(.makeDirectory(path: "/d", mode: 0o700)) == 0)
      #expect(await answer(.rename(from: "/f", to: "/d/g", exclusive: true)) == 0)
      #expect(await answer(.makeSymbolicLink(path: "/l", target: Array("d/g".utf8))) == 0)
      let link = Outcome<[UInt8]>()
      #expect(await answer(.readSymbolicLink(path: "/l", link)) == 0)
      #expect(await answer(.setAttributes(path: "/d/g", mode: 0o600, modified: 1)) == 0)
      let space = Outcome<FileSystemSpace>()
      #expect(await answer(.space(path: "/d", space)) == 0)
      let names = Outcome<[DirectoryEntry]>()
      #expect(await answer(.list(path: "/d", withStatus: true, names)) == 0)
      #expect(names.value?.map(\.name) == [[0x67]])
      #expect(names.value?.first?.status?.byteCount == 10)
      #expect(await answer(.remove(path: "/d/g", isDirectory: false)) == 0)
      #expect(await answer(.remove(path: "/d", isDirectory: true)) == 0)
      let bound = Outcome<SocketAddress>()
      let address = SocketAddress(host: "p", port: 0)
      let listener = await answer(.listen(address, backlog: 1, bound))
      let near = await answer(.connect(bound.value!))
      let far = await answer(.accept(descriptor: listener, Outcome<SocketAddress>()))
      #expect(await answer(.send(descriptor: near, from: [slice])) == 4096)
      #expect(await answer(.receive(descriptor: far, into: slice, waitForAll: true)) == 4096)
      #expect(await answer(.shutdown(descriptor: near)) == 0)
      #expect(await answer(.sleep(.milliseconds(1))) == 0)
      let waits = process.spawn("signal") {
        #expect(await process.submit(.waitForSignal([15])) == -ECANCELED)
      }
      await world.sleep(.seconds(1))
      waits.cancel()
      await waits.wait()
      #expect(world.unsupportedOperations.isEmpty)
    }
  }
}
