import Ring
import TestSupport
import Testing

@Suite("waiting")
struct WaitingTests {
  @Test(
    "a semaphore serves in order of arrival and never gives more than it has",
    arguments: Seed.several)
  func semaphore(seed: Seed) async {
    await onLoop { driver in
      var random = seed.generator
      let semaphore = Semaphore(10)
      let held = Box(0)
      let order = Box<[Int]>([])
      await withTaskGroup { group in
        for number in 0..<300 {
          let permits = 1 + Int(random.next() % 10)
          let yields = Int(random.next() % 5)
          group.addTask {
            await semaphore.acquire(permits)
            order.value.append(number)
            held.value += permits
            #expect(held.value <= 10)
            for _ in 0..<yields { await Task.yield() }
            held.value -= permits
            semaphore.release(permits)
          }
        }
      }
      #expect(order.value == Array(0..<300))
      #expect(semaphore.available == 10)
      #expect(semaphore.tryAcquire(10))
      #expect(!semaphore.tryAcquire())
    }
  }

  @Test("a channel hands on everything once and in order, then its end")
  func channel() async {
    await onLoop { driver in
      let channel = Channel<Int>()
      let received = Box<[Int]>([])
      let ends = Box(0)
      await withTaskGroup { group in
        for _ in 0..<3 {
          group.addTask {
            while let element = await channel.receive() { received.value.append(element) }
            ends.value += 1
          }
        }
        group.addTask {
          for number in 0..<2000 {
            channel.send(number)
            if number % 7 == 0 { await Task.yield() }
          }
          channel.close()
        }
      }
      #expect(received.value == Array(0..<2000))
      #expect(ends.value == 3)
      #expect(channel.count == 0)
    }
  }

  @Test("gates and promises let everyone through, before and after")
  func gates() async {
    await onLoop { driver in
      let gate = Gate()
      let promise = Promise<Int>()
      let sum = Box(0)
      await withTaskGroup { group in
        for _ in 0..<50 {
          group.addTask {
            await gate.wait()
            sum.value += await promise.get()
          }
        }
        group.addTask {
          await Task.yield()
          #expect(sum.value == 0)
          gate.open()
          await Task.yield()
          promise.fulfil(2)
          promise.fulfil(3)
        }
      }
      #expect(await promise.get() == 2)
      #expect(sum.value == 100)
    }
  }

  @Test("waiters are woken in order, one or all, and late ones wait on")
  func waitQueue() async {
    await onLoop { driver in
      let queue = WaitQueue()
      let order = Box<[Int]>([])
      let tasks = (0..<200).map { number in
        driver.spawn("waiter") {
          await queue.wait()
          order.value.append(number)
        }
      }
      for _ in 0..<3 { await Task.yield() }
      for _ in 0..<150 { queue.wakeOne() }
      await tasks[149].wait()
      #expect(order.value == Array(0..<150))
      #expect(!queue.isEmpty)
      queue.wakeAll()
      for task in tasks { await task.wait() }
      #expect(order.value == Array(0..<200))
      #expect(queue.isEmpty)
      queue.wakeOne()
    }
  }

  @Test("a queue behaves like an array", arguments: Seed.several)
  func queue(seed: Seed) {
    var random = seed.generator
    var queue = Queue<Int>()
    var model: [Int] = []
    for number in 0..<5000 {
      if random.next() % 100 < (number < 2500 ? 60 : 35) {
        queue.append(number)
        model.append(number)
      } else {
        #expect(queue.popFirst() == (model.isEmpty ? nil : model.removeFirst()))
      }
      #expect(queue.count == model.count)
      #expect(queue.first == model.first)
    }
  }
}
