import Glibc
import Ring
import TestSupport
import Testing

@Suite("sockets")
struct SocketTests {
  static let anyPort = SocketAddress(host: "127.0.0.1", port: 0)

  /// Sends back whatever comes, on every connection, until cancelled.
  static func echo(_ listener: Listener, _ driver: any Driver) async {
    await withTaskGroup { group in
      while let connection = try? await listener.accept() {
        group.addTask {
          let slice = driver.buffers.slice(16384)
          while let count = try? await connection.receive(into: slice), count > 0 {
            guard (try? await connection.send([slice[0..<count]])) != nil else { break }
          }
          await connection.close()
        }
      }
    }
  }

  @Test("many connections at once each get their own bytes back")
  func echoes() async {
    await onLoop { driver in
      do throws(RingError) {
        let listener = try await Listener.listen(on: Self.anyPort, driver: driver)
        let server = driver.spawn("echo") { await Self.echo(listener, driver) }
        await withTaskGroup { group in
          for number in 0..<100 {
            group.addTask {
              do throws(RingError) {
                let connection = try await Connection.connect(to: listener.address, on: driver)
                for round in 0..<10 {
                  let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: number &* $0 &+ round) }
                  let text = Slice(copying: bytes, pool: driver.buffers)
                  try await connection.send([text[0..<1], text[1..<400], text[400..<1000]])
                  let back = driver.buffers.slice(1000)
                  #expect(try await connection.receive(into: back, waitForAll: true) == 1000)
                  #expect(back.array == bytes)
                }
                await connection.close()
              } catch { Issue.record(error) }
            }
          }
        }
        server.cancel()
        await server.wait()
        await listener.close()
      } catch { Issue.record(error) }
    }
  }

  @Test("a large transfer arrives whole and in order, then the end is seen", arguments: [1, 1500])
  func bulk(sliceCount: Int) async {
    await onLoop { driver in
      do throws(RingError) {
        let listener = try await Listener.listen(on: Self.anyPort, driver: driver)
        let total = 24 << 20
        let source = driver.buffers.slice(total / sliceCount)
        source.withMutableBytes { bytes in
          for index in stride(from: 0, to: bytes.count - 8, by: 8) {
            bytes.storeBytes(of: UInt64(index) &* 0x9E37_79B9, toByteOffset: index, as: UInt64.self)
          }
        }
        driver.spawn("sender") {
          do throws(RingError) {
            let connection = try await listener.accept()
            try await connection.send(Array(repeating: source, count: sliceCount))
            await connection.close()
          } catch { Issue.record(error) }
        }
        let connection = try await Connection.connect(to: listener.address, on: driver)
        let expected = source.array
        for _ in 0..<sliceCount {
          let back = driver.buffers.slice(source.count)
          #expect(try await connection.receive(into: back, waitForAll: true) == source.count)
          let same = back.withBytes { back in
            expected.withUnsafeBytes { memcmp(back.baseAddress!, $0.baseAddress!, back.count) == 0 }
          }
          #expect(same)
        }
        let back = driver.buffers.slice(4096)
        #expect(try await connection.receive(into: back, waitForAll: true) == 0)
        await connection.close()
        await listener.close()
      } catch { Issue.record(error) }
    }
  }

  @Test("options are set: no delay, close on exec; addresses are told")
  func options() async {
    await onLoop { driver in
      do throws(RingError) {
        for host in ["127.0.0.1", "::1", "localhost"] {
          let listener = try await Listener.listen(
            on: SocketAddress(host: host, port: 0), driver: driver)
          #expect(listener.address.port != 0)
          async let accepting = listener.accept()
          let connection = try await Connection.connect(
            to: SocketAddress(host: host, port: listener.address.port), on: driver)
          let accepted = try! await accepting
          for descriptor in [connection.descriptor, accepted.descriptor] {
            var value: Int32 = 0
            var size = socklen_t(4)
            getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &value, &size)
            #expect(value != 0)
            #expect(fcntl(descriptor, F_GETFD) & FD_CLOEXEC != 0)
          }
          #expect(accepted.peer.isLoopback)
          #expect(accepted.peer.port != 0)
          await connection.shutdown()
          #expect(try await accepted.receive(into: driver.buffers.slice(10)) == 0)
          await connection.close()
          await accepted.close()
          await listener.close()
        }
      } catch { Issue.record(error) }
    }
  }

  @Test("nobody listening, an unknown name and a closed peer are errors, not signals")
  func refusals() async {
    await onLoop { driver in
      do throws(RingError) {
        let listener = try await Listener.listen(on: Self.anyPort, driver: driver)
        let connection = try await Connection.connect(to: listener.address, on: driver)
        await (try listener.accept()).close()
        let slice = driver.buffers.slice(1 << 20)
        var failure: RingError?
        for _ in 0..<10 where failure == nil {
          do throws(RingError) { try await connection.send([slice]) } catch { failure = error }
        }
        #expect(failure?.errno == EPIPE || failure?.errno == ECONNRESET)
        await connection.close()
        await listener.close()
        #expect(await driver.submit(.connect(listener.address)) == -ECONNREFUSED)
        let nowhere = SocketAddress(host: "no-such-host.invalid", port: 1)
        #expect(await driver.submit(.connect(nowhere)) < 0)
        #expect(await driver.submit(.accept(descriptor: -1, Outcome())) == -EBADF)
      } catch { Issue.record(error) }
    }
  }
}
