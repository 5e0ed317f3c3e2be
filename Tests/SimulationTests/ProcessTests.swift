import Glibc
import Ring
import Simulation
import TestSupport
import Testing

@Suite struct ProcessTests {
  @Test("a killed process ends: its operations, its tasks, and all it tries later")
  func kill() throws {
    try SimulatedWorld.run(seed: 3) { world in
      let process = world.process("p")
      let ended = Promise<[Int32]>()
      let task = process.spawn("waits") {
        var answers: [Int32] = []
        answers.append(await process.submit(.sleep(.seconds(100))))
        answers.append(await process.submit(.sleep(.zero)))
        answers.append(
          await process.submit(.open(path: "/late", flags: O_RDWR | O_CREAT, mode: 0o644)))
        #expect(Task.isCancelled)
        ended.fulfil(answers)
      }
      await world.sleep(.seconds(1))
      process.kill()
      #expect(await ended.get() == [-ECANCELED, -ECANCELED, -ECANCELED])
      await task.wait()
      #expect(world.now == .seconds(1))
      #expect(!process.isAlive)
      let next = process.restart()
      #expect(next.incarnation == 1)
      #expect(await !next.exists("/late"))
    }
  }

  @Test("a kill at any operation leaves finished writes and frees locks", arguments: 0..<12)
  func killAnywhere(at index: Int) throws {
    for seed in UInt64(0)..<20 {
      try SimulatedWorld.run(seed: seed) { world in
        let process = world.process("p")
        process.beforeOperation = { [unowned process] number, _ in
          if number == index { process.kill() }
        }
        let done = Outcome<[UInt64]>()
        done.value = []
        let task = process.spawn("writes") {
          guard let file = try? await File.open("/f", O_RDWR | O_CREAT, on: process),
            (try? await file.lock()) == true
          else { return }
          for block in UInt64(0)..<8 {
            let bytes = [UInt8](repeating: UInt8(block + 1), count: 4096)
            guard (try? await file.write([Slice(copying: bytes)], at: block * 4096)) != nil
            else { return }
            done.value!.append(block)
          }
        }
        await task.wait()
        process.kill()
        let next = process.restart()
        guard await next.exists("/f") else {
          #expect(done.value!.isEmpty)
          return
        }
        let file = try await File.open("/f", O_RDWR, on: next)
        #expect(try await file.lock())
        let bytes = try await next.readFile("/f")
        for block in done.value! {
          let start = Int(block) * 4096
          #expect(bytes[start..<start + 4096].allSatisfy { $0 == UInt8(block + 1) })
        }
      }
    }
  }

  @Test("a task that ignores every error after a kill does not stop the world")
  func stubborn() throws {
    try SimulatedWorld.run(seed: 4) { world in
      let process = world.process("p")
      process.spawn("stubborn") { while true { await process.sleep(.milliseconds(1)) } }
      await world.sleep(.seconds(1))
      process.kill()
      await world.sleep(.seconds(1))
    }
  }

  @Test("a paused process hears nothing until it goes on, and then its clock has jumped")
  func pause() throws {
    try SimulatedWorld.run(seed: 6) { world in
      let process = world.process("p")
      let ticks = Outcome<Int>()
      ticks.value = 0
      process.spawn("tick") {
        while await process.sleep(.seconds(1)) { ticks.value! += 1 }
      }
      await world.sleep(.milliseconds(3500))
      process.pause()
      await world.sleep(.seconds(100))
      #expect(ticks.value == 3)
      process.resume()
      await world.sleep(.milliseconds(500))
      #expect(ticks.value == 4)
    }
  }

  @Test("a cancelled wait answers -ECANCELED at once, in every kind of wait")
  func cancellation() throws {
    try SimulatedWorld.run(seed: 7) { world in
      let process = world.process("p")
      let listener = try await Listener.listen(
        on: SocketAddress(host: "p", port: 1), driver: process)
      let mute = try await Listener.listen(
        on: SocketAddress(host: "p", port: 2), driver: process)
      let client = try await Connection.connect(to: mute.address, on: process)
      let lazy = try await mute.accept()
      world.machine("dark").host = "dark"
      _ = world.process("dark", SimulatedProcess.Options(machine: world.machine("dark")))
      world.network.cut("p", "dark")
      let big = process.buffers.slice(4 << 20)
      let operations: [RingOperation] = [
        .sleep(.seconds(1000)),
        .accept(descriptor: listener.descriptor, Outcome<SocketAddress>()),
        .connect(SocketAddress(host: "dark", port: 1)),
        .receive(descriptor: client.descriptor, into: process.buffers.slice(10), waitForAll: false),
        .send(descriptor: lazy.descriptor, from: [big]),
        .waitForSignal([SIGTERM]),
      ]
      for operation in operations {
        let answer = Outcome<Int32>()
        let task = process.spawn("wait") { answer.value = await process.submit(operation) }
        await world.sleep(.milliseconds(100))
        #expect(answer.value == nil)
        let before = world.now
        task.cancel()
        await task.wait()
        #expect(answer.value == -ECANCELED)
        #expect(world.now == before)
      }
      // A task cancelled beforehand does not even begin to wait.
      let answer = Outcome<Int32>()
      let task = process.spawn("late") { answer.value = await process.submit(.sleep(.seconds(9))) }
      task.cancel()
      await task.wait()
      #expect(answer.value == -ECANCELED)
      // Other operations run to their end.
      let write = process.spawn("write") {
        answer.value = await process.submit(
          .open(path: "/f", flags: O_CREAT | O_RDWR, mode: 0o600))
      }
      write.cancel()
      await write.wait()
      #expect(answer.value! > 0)
    }
  }

  @Test("after a restart the disk is the same and the random numbers are new")
  func restart() throws {
    try SimulatedWorld.run(seed: 8) { world in
      let first = world.process("p")
      try await first.replaceFile("/id", with: [1, 2, 3])
      let drawn = first.randomBytes(16)
      let second = first.restart()
      #expect(try await second.readFile("/id") == [1, 2, 3])
      #expect(second.randomBytes(16) != drawn)
    }
  }

  @Test("after a restart with a wiped disk nothing is left but the machine's name")
  func wiped() throws {
    try SimulatedWorld.run(seed: 8) { world in
      let first = world.process("p")
      try await first.replaceFile("/id", with: [1])
      first.kill()
      first.machine.disk.wipe()
      let second = first.restart()
      #expect(await !second.exists("/id"))
      #expect(second.machine === first.machine && second.machine.disk.usedByteCount == 0)
      try await second.replaceFile("/id", with: [2])
      second.machine.powerCut()
      #expect(try await second.restart().readFile("/id") == [2])
    }
  }

  @Test("what a process writes to its console is kept")
  func console() throws {
    try SimulatedWorld.run(seed: 9) { world in
      let process = world.process("p")
      let line = Slice(copying: Array("hello\n".utf8))
      #expect(await process.submit(.write(descriptor: 2, from: [line], offset: .max)) == 6)
      #expect(process.consoleOutput == Array("hello\n".utf8))
    }
  }
}
