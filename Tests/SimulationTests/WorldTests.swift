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
    return try SimulatedWorld.run(seed: seed, options: options) { world in
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
      process.kill()
    }
    let text = lines.value!.joined(separator: "\n")
    for part in ["p: start", "p: open /f.new", "p: rename /f.new to /f = 0", "p: killed"] {
      #expect(text.contains(part))
    }
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
      #expect(world.unsupportedOperations == ["spawnProcess", "signalProcess"])
    }
  }
}
