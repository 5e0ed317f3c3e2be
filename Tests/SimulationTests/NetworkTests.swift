import Glibc
import Ring
import Simulation
import TestSupport
import Testing

@Suite struct NetworkTests {
  struct Pair: Sendable {
    let server: SimulatedProcess
    let client: SimulatedProcess
    let near: Connection
    let far: Connection
  }

  static func pair(_ world: SimulatedWorld) async throws -> Pair {
    let server = world.process("server")
    let client = world.process("client")
    let listener = try await Listener.listen(
      on: SocketAddress(host: "server", port: 80), driver: server)
    async let accepted = listener.accept()
    let near = try await Connection.connect(to: listener.address, on: client)
    return Pair(server: server, client: client, near: near, far: try await accepted)
  }

  @Test("bytes arrive once and in order, both ways at a time", arguments: Seed.several)
  func order(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      world.network.shortSendsPerThousand = Int(seed.value % 2) * 300
      let pair = try await Self.pair(world)
      @Sendable func push(_ connection: Connection, _ bytes: [UInt8], _ random: SeededGenerator)
        async throws
      {
        var random = random
        var rest = bytes[...]
        while !rest.isEmpty {
          let count = min(rest.count, Int(random.next() % 90_000) + 1)
          let cut = Int(random.next() % UInt64(count + 1))
          let part = Array(rest.prefix(count))
          try await connection.send([
            Slice(copying: Array(part[..<cut])), Slice(copying: Array(part[cut...])),
          ])
          rest = rest.dropFirst(count)
        }
        await connection.shutdown()
      }
      @Sendable func pull(_ connection: Connection, _ driver: any Driver) async throws -> [UInt8] {
        var found: [UInt8] = []
        let slice = driver.buffers.slice(30_000)
        while true {
          let count = try await connection.receive(
            into: slice[0..<Int(driver.random() % 30_000) + 1])
          if count == 0 { return found }
          found += slice[0..<count].array
        }
      }
      var random = seed.generator
      let up = random.bytes(700_000)
      let down = random.bytes(300_000)
      // The reader of each direction must be done before its own side shuts down both.
      let (a, b) = (random, SeededGenerator(seed: random.next()))
      let slice = pair.client.buffers.slice(down.count)
      async let pulled = pull(pair.far, pair.server)
      async let pushed: Void = pair.far.send([Slice(copying: down)])
      #expect(try await pair.near.receive(into: slice, waitForAll: true) == down.count)
      try await pushed
      _ = b
      try await push(pair.near, up, a)
      #expect(slice.array == down)
      #expect(try await pulled == up)
    }
  }

  @Test("a sender waits for its reader")
  func backPressure() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let pair = try await Self.pair(world)
      let big = pair.client.buffers.slice(2 << 20)
      let task = pair.client.spawn("send") { try? await pair.near.send([big]) }
      let isDone = Gate()
      pair.client.spawn("watch") {
        await task.wait()
        isDone.open()
      }
      await world.sleep(.seconds(10))
      #expect(!isDone.isOpen)
      let slice = pair.server.buffers.slice(2 << 20)
      #expect(try await pair.far.receive(into: slice, waitForAll: true) == 2 << 20)
      await isDone.wait()
    }
  }

  @Test("a closed port refuses, an unknown host is unreachable, a used port is in use")
  func refusals() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let a = world.process("a")
      _ = world.process("b")
      #expect(await a.submit(.connect(SocketAddress(host: "b", port: 1))) == -ECONNREFUSED)
      #expect(await a.submit(.connect(SocketAddress(host: "x", port: 1))) == -EHOSTUNREACH)
      let outcome = Outcome<SocketAddress>()
      let address = SocketAddress(host: "0.0.0.0", port: 0)
      #expect(await a.submit(.listen(address, backlog: 1, outcome)) > 0)
      let port = outcome.value!.port
      #expect(port != 0)
      let again = SocketAddress(host: "a", port: port)
      #expect(await a.submit(.listen(again, backlog: 1, outcome)) == -EADDRINUSE)
      let other = SocketAddress(host: "b", port: 1)
      #expect(await a.submit(.listen(other, backlog: 1, outcome)) == -EADDRNOTAVAIL)
      let local = SocketAddress(host: "127.0.0.1", port: port)
      #expect(await a.submit(.connect(local)) > 0)
    }
  }

  @Test("a killed process's peers see a reset", arguments: Seed.several)
  func killResets(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let pair = try await Self.pair(world)
      pair.server.kill()
      await #expect(
        throws: RingError(errno: ECONNRESET, operation: "receive", subject: "server:80")
      ) {
        _ = try await pair.near.receive(into: pair.client.buffers.slice(10))
      }
      #expect(
        await pair.client.submit(.connect(SocketAddress(host: "server", port: 80)))
          == -ECONNREFUSED)
    }
  }

  @Test("a machine without power says nothing until it is back", arguments: Seed.several)
  func powerCut(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let pair = try await Self.pair(world)
      world.machine("server").powerCut()
      let one = Slice(copying: [1])
      try await pair.near.send([one])
      let answer = Promise<Int32>()
      pair.client.spawn("read") {
        answer.fulfil(
          await pair.client.submit(
            .receive(
              descriptor: pair.near.descriptor, into: pair.client.buffers.slice(1),
              waitForAll: false)))
      }
      await world.sleep(.seconds(60))
      #expect(!answer.isFulfilled)
      if seed.value % 2 == 0 {
        _ = pair.server.restart()
        #expect(await answer.get() == -ECONNRESET)
        #expect(world.now < .seconds(61))
      } else {
        #expect(await answer.get() == -ETIMEDOUT)
        #expect(world.now > .seconds(900))
      }
    }
  }

  @Test("a cut holds bytes, healing delivers them in order", arguments: Seed.several)
  func cutAndHeal(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      let pair = try await Self.pair(world)
      let sent = random.bytes(150_000)
      let slice = pair.server.buffers.slice(sent.count)
      let task = pair.client.spawn("send") { try? await pair.near.send([Slice(copying: sent)]) }
      async let received = pair.far.receive(into: slice, waitForAll: true)
      for _ in 0..<5 {
        await world.sleep(.microseconds(Int64(random.next() % 200)))
        world.network.cut("client", "server", oneWay: random.next() % 2 == 0)
        await world.sleep(.seconds(Int64(random.next() % 5)))
        world.network.heal("server", "client")
      }
      #expect(try await received == sent.count)
      #expect(slice.array == sent)
      await task.wait()
    }
  }

  @Test("bytes lost in a cut end the connection at the healing")
  func lost() throws {
    try SimulatedWorld.run(seed: 2) { world in
      let pair = try await Self.pair(world)
      try await pair.near.send([Slice(copying: [1, 2, 3])])
      world.network.cut("client", "server", pending: .lost)
      await world.sleep(.seconds(5))
      world.network.healAll()
      let slice = pair.server.buffers.slice(3)
      await #expect(throws: RingError.self) { try await pair.far.receive(into: slice) }
      await #expect(throws: RingError.self) { try await pair.near.receive(into: slice) }
    }
  }

  @Test("a cut that resets is seen at once on both ends")
  func cutResets() throws {
    try SimulatedWorld.run(seed: 2) { world in
      let pair = try await Self.pair(world)
      world.network.cut("client", "server", connections: .reset)
      let slice = pair.server.buffers.slice(3)
      await #expect(throws: RingError.self) { try await pair.far.receive(into: slice) }
      await #expect(throws: RingError.self) { try await pair.near.receive(into: slice) }
      #expect(
        await pair.client.submit(.connect(SocketAddress(host: "server", port: 80)))
          == -ETIMEDOUT)
      #expect(world.now > .seconds(120))
    }
  }

  @Test("a shutdown wakes both ends' readers; the peer gets all bytes and then the end")
  func shutdown() throws {
    try SimulatedWorld.run(seed: 2) { world in
      let pair = try await Self.pair(world)
      async let own = pair.near.receive(into: pair.client.buffers.slice(5))
      try await pair.near.send([Slice(copying: [1, 2, 3])])
      await pair.near.shutdown()
      #expect(try await own == 0)
      let slice = pair.server.buffers.slice(10)
      #expect(try await pair.far.receive(into: slice, waitForAll: true) == 3)
      #expect(slice[0..<3].array == [1, 2, 3])
      await #expect(throws: RingError(errno: EPIPE, operation: "send", subject: "server:80")) {
        try await pair.near.send([slice])
      }
      await pair.near.close()
      await pair.far.close()
      await world.sleep(.seconds(1))
      #expect(world.network.connectionCount == 0)
    }
  }

  @Test("a side that gave up answers late bytes with a reset")
  func lateBytes() throws {
    try SimulatedWorld.run(seed: 2) { world in
      let pair = try await Self.pair(world)
      world.network.cut("client", "server")
      try await pair.near.send([Slice(copying: [1])])
      let slice = pair.client.buffers.slice(10)
      await #expect(throws: RingError(errno: ETIMEDOUT, operation: "receive", subject: "server:80"))
      {
        try await pair.near.receive(into: slice)
      }
      world.network.heal("client", "server")
      try await pair.far.send([Slice(copying: [1])])
      await #expect(throws: RingError.self) { try await pair.far.receive(into: slice) }
    }
  }

  private static let ramp = (0..<5400).map { UInt8(truncatingIfNeeded: $0) }

  static func counting(from first: UInt8, _ count: Int) -> [UInt8] {
    Array(ramp[Int(first)..<Int(first) + count])
  }

  @Test("random traffic with resets, cuts and kills never hangs or reorders", arguments: 0..<30)
  func chaos(seed: Int) throws {
    try SimulatedWorld.run(seed: UInt64(seed)) { world in
      var random = SeededGenerator(seed: UInt64(seed))
      for name in ["a", "b", "c"] { _ = world.process(name) }
      /// Each connection carries a count upwards; the reader checks it.
      @Sendable func serve(_ process: SimulatedProcess) async {
        guard
          let listener = try? await Listener.listen(
            on: SocketAddress(host: process.name, port: 9), driver: process)
        else { return }
        while let connection = try? await listener.accept() {
          process.spawn("read") {
            var next: UInt8 = 0
            let slice = process.buffers.slice(3000)
            while let count = try? await connection.receive(into: slice), count > 0 {
              #expect(slice[0..<count].array == Self.counting(from: next, count))
              next &+= UInt8(truncatingIfNeeded: count)
            }
            await connection.close()
          }
        }
      }
      @Sendable func drive(_ process: SimulatedProcess, _ target: String) async {
        while !Task.isCancelled {
          await process.sleep(.milliseconds(Int64(process.random() % 2000)))
          let address = SocketAddress(host: target, port: 9)
          guard let connection = try? await Connection.connect(to: address, on: process) else {
            continue
          }
          var next: UInt8 = 0
          for _ in 0..<process.random() % 20 {
            let bytes = Self.counting(from: next, Int(process.random() % 5000))
            next &+= UInt8(truncatingIfNeeded: bytes.count)
            guard (try? await connection.send([Slice(copying: bytes)])) != nil else { break }
          }
          await connection.close()
        }
      }
      @Sendable func start(_ process: SimulatedProcess) {
        process.spawn("serve") { await serve(process) }
        for target in ["a", "b", "c"] where target != process.name {
          process.spawn("drive") { await drive(process, target) }
        }
      }
      for process in world.livingProcesses { start(process) }
      for _ in 0..<40 {
        await world.sleep(.milliseconds(Int64(random.next() % 3000)))
        let names = ["a", "b", "c"].shuffled(using: &random)
        switch random.next() % 6 {
        case 0:
          world.network.cut(
            names[0], names[1], oneWay: random.next() % 2 == 0,
            pending: random.next() % 2 == 0 ? .held : .lost,
            connections: random.next() % 2 == 0 ? .hang : .reset)
        case 1: world.network.heal(names[0], names[1])
        case 2: world.network.resetConnections(names[0], names[1])
        case 3:
          if let process = world.living(names[0]) { start(process.restart()) }
        case 4:
          world.machine(names[0]).powerCut()
          start(world.process(names[0]))
        default: world.network.isolate(names[0])
        }
      }
      world.network.healAll()
      for process in world.livingProcesses { process.kill() }
      await world.sleep(.seconds(2000))
      #expect(world.network.connectionCount == 0)
    }
  }

  @Test("a slow link takes its time")
  func slowLink() throws {
    try SimulatedWorld.run(seed: 2) { world in
      let pair = try await Self.pair(world)
      world.network.setLink(
        "client", "server",
        LinkOptions(latency: .milliseconds(1)...(.milliseconds(2)), bytesPerSecond: 1_000_000))
      let before = world.now
      async let sent: Void = pair.near.send([pair.client.buffers.slice(3_000_000)])
      let slice = pair.server.buffers.slice(3_000_000)
      _ = try await pair.far.receive(into: slice, waitForAll: true)
      try await sent
      #expect(world.now - before > .milliseconds(2_900))
    }
  }

  @Test("a one-way cut stops one direction only")
  func oneWay() throws {
    try SimulatedWorld.run(seed: 3) { world in
      let pair = try await Self.pair(world)
      world.network.cut("client", "server", oneWay: true)
      try await pair.far.send([Slice(copying: [1, 2])])
      let slice = pair.client.buffers.slice(2)
      #expect(try await pair.near.receive(into: slice, waitForAll: true) == 2)
      try await pair.near.send([Slice(copying: [3])])
      let answer = Promise<Int>()
      pair.server.spawn("read") {
        answer.fulfil((try? await pair.far.receive(into: pair.server.buffers.slice(1))) ?? -1)
      }
      await world.sleep(.seconds(100))
      #expect(!answer.isFulfilled)
      world.network.heal("client", "server")
      #expect(await answer.get() == 1)
    }
  }

  @Test("a refusing firewall looks like a closed port to new connections, and open ones stay")
  func refusing() throws {
    try SimulatedWorld.run(seed: 3) { world in
      let pair = try await Self.pair(world)
      let address = SocketAddress(host: "server", port: 80)
      world.network.refuse("client", "server")
      #expect(await pair.client.submit(.connect(address)) == -ECONNREFUSED)
      #expect(await pair.server.submit(.connect(address)) > 0)
      try await pair.near.send([Slice(copying: [1])])
      #expect(try await pair.far.receive(into: pair.server.buffers.slice(1)) == 1)
      world.network.heal("client", "server")
      #expect(await pair.client.submit(.connect(address)) > 0)
      #expect(world.faults[.refusal] == 1)
    }
  }

  @Test(
    "a half-open connection carries nothing and tells nobody; a new one works",
    arguments: Seed.several)
  func halfOpen(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let pair = try await Self.pair(world)
      world.network.forgetConnections("server", "client")
      try await pair.near.send([Slice(copying: [1])])
      let told = Promise<Int32>()
      pair.server.spawn("read") {
        told.fulfil(
          await pair.server.submit(
            .receive(
              descriptor: pair.far.descriptor, into: pair.server.buffers.slice(1),
              waitForAll: false)))
      }
      if seed.value % 2 == 0 { pair.client.kill() }
      world.network.healAll()
      let driver = seed.value % 2 == 0 ? pair.client.restart() : pair.client
      #expect(await driver.submit(.connect(SocketAddress(host: "server", port: 80))) > 0)
      await world.sleep(.seconds(900))
      #expect(!told.isFulfilled)
      if seed.value % 2 == 1 {
        let slice = pair.client.buffers.slice(1)
        let answer = await pair.client.submit(
          .receive(descriptor: pair.near.descriptor, into: slice, waitForAll: false))
        #expect(answer == -ETIMEDOUT)
      }
      #expect(world.faults[.halfOpen] == 1)
    }
  }

  @Test("a heavy tail: few segments are very late, none later than its limit, and order stays")
  func tail() throws {
    try SimulatedWorld.run(seed: 3) { world in
      let pair = try await Self.pair(world)
      var options = LinkOptions.localNetwork
      options.tail = LatencyTail(perMillion: 100_000, limit: .milliseconds(50))
      world.network.setLink("client", "server", options)
      let slice = pair.server.buffers.slice(1)
      var times: [Duration] = []
      for index in 0..<600 {
        let before = world.now
        try await pair.near.send([Slice(copying: [UInt8(truncatingIfNeeded: index)])])
        #expect(try await pair.far.receive(into: slice) == 1)
        #expect(slice.array == [UInt8(truncatingIfNeeded: index)])
        times.append(world.now - before)
      }
      let late = times.filter { $0 > .microseconds(320) }
      #expect((20..<120).contains(late.count))
      #expect(late.max()! > .milliseconds(5) && late.max()! < .milliseconds(51))
      #expect(late.count { $0 > .milliseconds(5) } < late.count / 3)
    }
  }
}
