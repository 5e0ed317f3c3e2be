import Glibc
import Ring
import TestSupport
import Testing

@Suite("processes and signals")
struct ProcessTests {
  static func start(_ words: [String], log: String, _ driver: any Driver) async throws(RingError)
    -> Int32
  {
    let outcome = Outcome<Int32>()
    try await driver.perform(
      .spawnProcess(
        ProcessLaunch(executable: words[0], arguments: Array(words.dropFirst()), logPath: log),
        outcome), "spawn", words[0])
    return outcome.value!
  }

  @Test("a child's output is appended to its log and its status comes back")
  func output() async {
    await withTemporaryFolder { folder in
      await onLoop { driver in
        do throws(RingError) {
          let log = folder + "/log"
          for _ in 0..<2 {
            let pid = try await Self.start(
              ["/bin/sh", "-c", "echo out; echo err >&2; read x; echo \"[$x]\"; exit 7"], log: log,
              driver)
            #expect(await driver.submit(.waitForProcess(pid: pid)) == 7)
          }
          let once = Array("out\nerr\n[]\n".utf8)
          #expect(try await driver.readFile(log) == once + once)
          #expect(
            await driver.submit(
              .spawnProcess(
                ProcessLaunch(executable: folder + "/none", arguments: [], logPath: log), Outcome())
            ) == -ENOENT)
        } catch { Issue.record(error) }
      }
    }
  }

  @Test("a child leads its own session, dies of ordinary signals and inherits no descriptor")
  func isolation() async {
    await withTemporaryFolder { folder in
      await onLoop { driver in
        do throws(RingError) {
          let log = folder + "/log"
          let sleeper = try await Self.start(["/bin/sleep", "1000"], log: log, driver)
          #expect(getsid(sleeper) == sleeper)
          async let status = driver.submit(.waitForProcess(pid: sleeper))
          #expect(await driver.submit(.signalProcess(pid: sleeper, signal: SIGTERM)) == 0)
          let ended = await status
          #expect(ended == 128 + SIGTERM)

          // One without close-on-exec, as a library might open it.
          let stray = open("/dev/null", O_RDONLY)
          let lister = try await Self.start(["/bin/ls", "/proc/self/fd"], log: log, driver)
          #expect(await driver.submit(.waitForProcess(pid: lister)) == 0)
          close(stray)
          #expect(try await driver.readFile(log) == Array("0\n1\n2\n3\n".utf8))
          #expect(await driver.submit(.signalProcess(pid: lister, signal: 0)) == -ESRCH)
        } catch { Issue.record(error) }
      }
    }
  }

  @Test("a signal sent while nobody waited is seen by the next who does")
  func signals() async {
    await onLoop { driver in
      pthread_kill(pthread_self(), SIGTERM)
      #expect(await driver.submit(.waitForSignal([SIGTERM, SIGINT])) == SIGTERM)
      let waiter = driver.spawn("signal") {
        #expect(await driver.submit(.waitForSignal([SIGHUP])) == SIGHUP)
      }
      await driver.sleep(.milliseconds(2))
      pthread_kill(pthread_self(), SIGHUP)
      await waiter.wait()
    }
  }
}
