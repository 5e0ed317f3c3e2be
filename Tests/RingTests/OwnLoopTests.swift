import Glibc
import Ring
import TestSupport
import Testing

@Suite("loops beside a loop")
struct OwnLoopTests {
  @Test("a body on a loop of its own runs on another thread, and its value comes back")
  func ownLoop() async {
    let (mine, theirs, slept) = await onLoop { driver in
      let other = try! await driver.onOwnLoop("other") { other in
        let slept = await other.sleep(.milliseconds(1))
        return (thread: pthread_self(), slept: slept)
      }
      return (pthread_self(), other.thread, other.slept)
    }
    #expect(mine != theirs)
    #expect(slept)
  }

  @Test("cancelling the caller cancels a body on a loop of its own, before or after it began")
  func ownLoopCancelled() async {
    let ends = await onLoop { driver in
      var ends: [Bool] = []
      for waitsForStart in [false, true] {
        let ended = Promise<Bool>()
        let marks = Log<Int>()
        let caller = driver.spawn("caller") {
          ended.fulfil(
            try! await driver.onOwnLoop("other") { other in
              marks.append(1)
              return await other.sleep(.seconds(600))
            })
        }
        while waitsForStart && marks.all.isEmpty { await driver.sleep(.milliseconds(1)) }
        caller.cancel()
        ends.append(await ended.get())
      }
      return ends
    }
    #expect(ends == [false, false])
  }

  @Test("several loops at once give each its own thread's usage")
  func ownLoops() async {
    let usages = await onLoop { driver in
      await withTaskGroup(of: Duration.self) { group in
        for busy in [true, false] {
          group.addTask {
            try! await driver.onOwnLoop("other") { other in
              let start = other.usage(of: .thread)
              let end = other.now + .milliseconds(40)
              if busy { while other.now < end {} } else { await other.sleep(.milliseconds(40)) }
              let used = other.usage(of: .thread).since(start)
              return used.user + used.system
            }
          }
        }
        var usages: [Duration] = []
        for await usage in group { usages.append(usage) }
        return usages.sorted()
      }
    }
    #expect(usages[0] < usages[1])
    #expect(usages[1] > .milliseconds(1))
  }
}
