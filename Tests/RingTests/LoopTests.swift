import Glibc
import Ring
import Synchronization
import TestSupport
import Testing

@Suite("the loop")
struct LoopTests {
  @Test(
    "timers end in order of their times, whatever the order of their start",
    arguments: Seed.several)
  func timers(seed: Seed) async {
    var random = seed.generator
    let durations = (0..<60).map { _ in Duration.microseconds(5000 + Int(random.next() % 40_000)) }
    await onLoop { driver in
      // When each began, in order of starting, and which ended, in order of ending.
      let began = Box<[Duration]>([])
      let ended = Box<[Int]>([])
      await withTaskGroup { group in
        for duration in durations {
          group.addTask {
            let number = began.value.count
            began.value.append(driver.now)
            #expect(await driver.sleep(duration))
            #expect(driver.now - began.value[number] >= duration)
            ended.value.append(number)
          }
        }
      }
      // A sleep began after its task did and before the next task did; the thread may have been
      // held up between.
      let earliest = zip(began.value, durations).map { $0 + $1 }
      let latest = zip(began.value.dropFirst() + [.seconds(1 << 40)], durations).map { $0 + $1 }
      #expect(ended.value.count == durations.count)
      for (place, first) in ended.value.enumerated() {
        for second in ended.value[(place + 1)...] {
          #expect(!(latest[second] < earliest[first]))
        }
      }
      #expect(await driver.sleep(.zero))
      #expect(await driver.sleep(.seconds(-3)))
    }
  }

  @Test(
    "thousands of timers, most of them cancelled, end once and in time", arguments: Seed.several)
  func manyTimers(seed: Seed) async {
    await onLoop { driver in
      var random = seed.generator
      let ended = Box(0)
      let cancelled = Box(0)
      var tasks: [(SpawnedTask, Bool)] = []
      for _ in 0..<3000 {
        let isShort = random.next() % 3 == 0
        let duration = Duration.microseconds(isShort ? Int(random.next() % 20_000) : 3_000_000_000)
        let task = driver.spawn("sleeper") {
          if await driver.sleep(duration) { ended.value += 1 } else { cancelled.value += 1 }
        }
        tasks.append((task, isShort))
        if random.next() % 50 == 0 { await Task.yield() }
      }
      await Task.yield()
      tasks.shuffle(using: &random)
      let shortCount = tasks.count { $0.1 }
      for (task, isShort) in tasks where !isShort { task.cancel() }
      for (task, _) in tasks { await task.wait() }
      #expect(ended.value == shortCount)
      #expect(cancelled.value == 3000 - shortCount)
    }
  }

  @Test("a tiny ring loses none of thousands of operations", arguments: [false, true])
  func tinyRing(plain: Bool) async {
    var options = EventLoop.Options()
    options.submissionEntries = 4
    options.completionEntries = 8
    options.usesPlainSetup = plain
    await withTemporaryFolder { folder in
      await onLoop(options) { driver in
        do throws(RingError) {
          let bytes = (0..<65536).map { UInt8(truncatingIfNeeded: $0 / 16) }
          try await driver.replaceFile(folder + "/f", with: bytes)
          let file = try await File.open(folder + "/f", O_RDONLY, on: driver)
          let right = await withTaskGroup { group in
            for number in 0..<3000 {
              group.addTask {
                let slice = driver.buffers.slice(16)
                guard (try? await file.read(into: slice, at: UInt64(number * 16))) == 16 else {
                  return 0
                }
                return slice.array == [UInt8](repeating: UInt8(number & 255), count: 16) ? 1 : 0
              }
              group.addTask { await driver.sleep(.microseconds(number)) ? 1 : 0 }
            }
            var right = 0
            for await one in group { right += one }
            return right
          }
          #expect(right == 6000)
          await file.close()
        } catch { Issue.record(error) }
      }
    }
  }

  @Test("cancelled sleeps, accepts and receives end at once and leave the buffer alone")
  func cancellation() async {
    await onLoop { driver in
      do throws(RingError) {
        let listener = try await Listener.listen(on: SocketTests.anyPort, driver: driver)
        let client = try await Connection.connect(to: listener.address, on: driver)
        let server = try await listener.accept()
        let slice = driver.buffers.slice(4096)
        slice.withMutableBytes { _ = memset($0.baseAddress!, 7, 4096) }
        let start = driver.now
        let tasks = [
          driver.spawn("sleep") {
            #expect(await driver.submit(.sleep(.seconds(1000))) == -ECANCELED)
          },
          driver.spawn("accept") {
            #expect(
              await driver.submit(.accept(descriptor: listener.descriptor, Outcome()))
                == -ECANCELED)
          },
          driver.spawn("receive") {
            #expect(
              await driver.submit(
                .receive(descriptor: client.descriptor, into: slice, waitForAll: true))
                == -ECANCELED)
            // Also when it was cancelled before it began.
            #expect(
              await driver.submit(
                .receive(descriptor: client.descriptor, into: slice, waitForAll: false))
                == -ECANCELED)
            #expect(await driver.sleep(.seconds(1000)) == false)
          },
          driver.spawn("signal") {
            #expect(await driver.submit(.waitForSignal([SIGUSR2])) == -ECANCELED)
          },
        ]
        await driver.sleep(.milliseconds(5))
        for task in tasks { task.cancel() }
        for task in tasks { await task.wait() }
        #expect(driver.now - start < .seconds(100))
        try await server.send([Slice(copying: [1, 2, 3])])
        await driver.sleep(.milliseconds(2))
        #expect(slice.array.allSatisfy { $0 == 7 })
        let fresh = driver.buffers.slice(3)
        #expect(try await client.receive(into: fresh) == 3)
        #expect(fresh.array == [1, 2, 3])
        await client.close()
        await server.close()
        await listener.close()
      } catch { Issue.record(error) }
    }
  }

  @Test(
    "receives cancelled at random, from this thread and others, lose no byte",
    arguments: Seed.several)
  func randomCancellation(seed: Seed) async {
    await onLoop { driver in
      do throws(RingError) {
        let random = Box(seed.generator)
        let listener = try await Listener.listen(on: SocketTests.anyPort, driver: driver)
        let client = try await Connection.connect(to: listener.address, on: driver)
        let server = try await listener.accept()
        let total = 200_000
        let bytes = random.value.bytes(total)
        let sender = driver.spawn("sender") {
          var sent = 0
          while sent < total {
            let count = min(total - sent, 1 + Int(random.value.next() % 1000))
            let piece = Slice(copying: Array(bytes[sent..<(sent + count)]), pool: driver.buffers)
            guard (try? await server.send([piece])) != nil else { break }
            sent += count
            if random.value.next() % 4 == 0 {
              await driver.sleep(.microseconds(Int(random.value.next() % 200)))
            }
          }
          await server.close()
        }
        let received = Box<[UInt8]>([])
        let isDone = Box(false)
        while !isDone.value {
          let receiver = driver.spawn("receiver") {
            while true {
              let slice = driver.buffers.slice(700)
              let result = await driver.submit(
                .receive(descriptor: client.descriptor, into: slice, waitForAll: false))
              if result == -ECANCELED { return }
              if result <= 0 {
                isDone.value = true
                return
              }
              received.value += slice[0..<Int(result)].array
            }
          }
          for _ in 0..<(random.value.next() % 8) { await Task.yield() }
          if random.value.next() % 2 == 0 {
            receiver.cancel()
          } else {
            await driver.offload(lane: 0) { receiver.cancel() }
          }
          await receiver.wait()
        }
        await sender.wait()
        #expect(received.value == bytes)
        await client.close()
        await listener.close()
      } catch { Issue.record(error) }
    }
  }

  @Test("an accept cancelled as a connection arrives leaks no descriptor", arguments: Seed.several)
  func cancelledAccepts(seed: Seed) async {
    await onLoop { driver in
      do throws(RingError) {
        var random = seed.generator
        let listener = try await Listener.listen(on: SocketTests.anyPort, driver: driver)
        var clients: [Connection] = []
        for _ in 0..<100 {
          let accepting = driver.spawn("accept") {
            if let connection = try? await listener.accept() { await connection.close() }
          }
          await Task.yield()
          let address = listener.address
          async let connecting = Connection.connect(to: address, on: driver)
          for _ in 0..<(random.next() % 12) { await Task.yield() }
          accepting.cancel()
          await accepting.wait()
          if let client = try? await connecting { clients.append(client) }
        }
        await listener.close()
        // A descriptor left open on the other side would keep its client waiting.
        for client in clients {
          let end = await driver.withDeadline(.seconds(20)) {
            await driver.submit(
              .receive(
                descriptor: client.descriptor, into: driver.buffers.slice(16), waitForAll: false))
          }
          #expect(end == 0 || end == -ECONNRESET)
          await client.close()
        }
      } catch { Issue.record(error) }
    }
  }

  @Test("work of one lane runs in order, lanes run side by side")
  func offload() async {
    await onLoop { driver in
      let meeting = Meeting()
      // Each waits for the other, so one thread could not do both.
      async let left = driver.offload(lane: 0) { meeting.meet() }
      async let right = driver.offload(lane: 3) { meeting.meet() }
      let (leftMet, rightMet) = await (left, right)
      #expect(leftMet && rightMet)

      let order = Log<Int>()
      await withTaskGroup { group in
        for number in 0..<500 {
          group.addTask {
            let back = await driver.offload(lane: 1) {
              order.append(number)
              return number * 2
            }
            #expect(back == number * 2)
          }
        }
      }
      #expect(order.all == Array(0..<500))
    }
  }

  @Test(
    "work that hangs is given up in time, what waits behind it never begins, and the loop ends without it"
  )
  func offloadThatHangs() async {
    let hangs = Hang()
    let begun = Log<Int>()
    await onLoop { driver in
      #expect(await driver.offload(within: .seconds(60)) { 7 } == 7)
      let start = driver.now
      async let first: Int? = driver.offload(within: .milliseconds(50)) {
        begun.append(1)
        hangs.wait()
        return 1
      }
      async let second: Int? = driver.offload(within: .milliseconds(100)) {
        begun.append(2)
        return 2
      }
      #expect(await [first, second] == [nil, nil])
      #expect(driver.now - start < .seconds(20))
      let cancelled = driver.spawn("cancelled") {
        #expect(await driver.offload(within: .seconds(60)) { 3 } == nil)
      }
      cancelled.cancel()
      await cancelled.wait()
      hangs.isOn.store(false, ordering: .sequentiallyConsistent)
      #expect(await driver.offload(within: .seconds(60)) { 4 } == 4)
      #expect(begun.all == [1])
      // The next one is not waited for when the loop ends.
      hangs.isOn.store(true, ordering: .sequentiallyConsistent)
      let last: Void? = await driver.offload(within: .milliseconds(20)) {
        hangs.wait()
      }
      #expect(last == nil)
    }
    hangs.isOn.store(false, ordering: .sequentiallyConsistent)
  }

  final class Hang: Sendable {
    let isOn = Atomic<Bool>(true)
    func wait() {
      while isOn.load(ordering: .sequentiallyConsistent) { sched_yield() }
    }
  }

  /// Two threads that wait for each other.
  final class Meeting: Sendable {
    private let arrived = Atomic<Int>(0)
    func meet() -> Bool {
      arrived.add(1, ordering: .sequentiallyConsistent)
      for _ in 0..<100_000_000 where arrived.load(ordering: .sequentiallyConsistent) < 2 {
        sched_yield()
      }
      return arrived.load(ordering: .sequentiallyConsistent) == 2
    }
  }

  @Test("every resumption from other threads reaches a loop that sleeps or works")
  func foreignWakeups() async {
    let done = await onLoop { driver in
      await withTaskGroup { group in
        for lane in 0..<4 {
          group.addTask {
            var done = 0
            for round in 0..<1500 {
              // Sometimes the loop is asleep when the answer comes, sometimes busy.
              if round % 3 == 0 { await Task.yield() }
              done += await driver.offload(lane: lane) { 1 }
            }
            return done
          }
        }
        var done = 0
        for await one in group { done += one }
        return done
      }
    }
    #expect(done == 6000)
  }

  @Test("what a loop leaves running is cancelled, and waited for")
  func cleanShutdown() async {
    let ends = Log<String>()
    let ended: @Sendable (String) -> Void = { ends.append($0) }
    await onLoop { driver in
      driver.spawn("sleeper") {
        await driver.sleep(.seconds(1000))
        // Uninterruptible work of a cancelled task is still done, here and in tasks it starts.
        _ = await driver.submit(.status(path: "/", followLinks: true, Outcome()))
        driver.spawn("late") {
          #expect(Task.isCancelled)
          ended("late")
        }
        ended("sleeper")
      }
      driver.spawn("stuck") {
        // Nobody will ever open this: abandoned.
        await Gate().wait()
        ended("stuck")
      }
      driver.spawn("short") { ended("short") }
      await driver.sleep(.milliseconds(2))
      ended("body")
    }
    #expect(ends.all == ["short", "body", "sleeper", "late"])
  }

  @Test("group children, async let and actors stay on the loop's thread")
  func staysOnThread() async {
    actor Counter {
      var count = 0
      func add() -> UInt {
        count += 1
        return UInt(pthread_self())
      }
    }
    await onLoop { driver in
      let home = UInt(pthread_self())
      let counter = Counter()
      await withTaskGroup { group in
        for _ in 0..<20 {
          group.addTask {
            await Task.yield()
            #expect(UInt(pthread_self()) == home)
            #expect(await counter.add() == home)
            await driver.sleep(.microseconds(10))
            #expect(UInt(pthread_self()) == home)
          }
        }
      }
      async let child = { UInt(pthread_self()) }()
      let place = await child
      #expect(place == home)
    }
  }

  @Test("a deadline cancels what is late and gives what is not")
  func deadlines() async {
    await onLoop { driver in
      let late = await driver.withDeadline(.milliseconds(2)) {
        await driver.sleep(.seconds(1000))
      }
      #expect(late == nil)
      let start = driver.now
      let early = await driver.withDeadline(.seconds(1000)) { 5 }
      #expect(early == 5)
      #expect(driver.now - start < .seconds(100))
      // Cancelled from outside: the value counts, for no deadline passed.
      let outer = driver.spawn("outer") {
        let value = await driver.withDeadline(.seconds(1000)) {
          await driver.sleep(.seconds(1000)) ? 1 : 2
        }
        #expect(value == 2)
      }
      await driver.sleep(.milliseconds(2))
      outer.cancel()
      await outer.wait()
    }
  }

  @Test("random words differ and clocks advance")
  func randomAndClocks() async {
    await onLoop { driver in
      let words = (0..<1000).map { _ in driver.random() }
      #expect(Set(words).count == 1000)
      #expect(driver.randomBytes(33).count == 33)
      let first = driver.now
      #expect(driver.now >= first)
      #expect(driver.wallClock > .seconds(1_600_000_000))
    }
  }
}
