import Ring
import TestSupport
import Testing

@testable import Wire

/// Client and server in one thread, so that the CPU time is that of both ends and of the kernel's
/// loopback between them. Run with
/// `CAIRN_BENCH=1 swift test -c release -Xswiftc -enable-testing --filter Throughput`.
@Suite(.enabled(if: environment("CAIRN_BENCH") != nil), .serialized)
struct ThroughputTests {
  private struct Rate {
    var count = 0
    var wall = 0.0
    var cpu = 0.0
  }

  /// `lanes` callers, one call after the other each, for about a second.
  private static func measure(
    _ security: TransportSecurity, lanes: Int, request: Int, answer: Int, message: Int = 32
  ) throws -> Rate {
    try EventLoop.run { driver in
      let body = answer > 0 ? [driver.buffers.slice(answer)] : []
      let answerPacket = Packet(message: [UInt8](repeating: 7, count: message), body: body)
      let server = WireServer(driver: driver, key: key, name: "server", security: security) {
        (_, _, _) async throws(Refusal) in answerPacket
      }
      let address = try! await server.start(on: SocketAddress(host: "127.0.0.1", port: 0))
      let client = WireClient(driver: driver, key: key, name: "client", security: security)
      let packet = Packet(
        message: [UInt8](repeating: 1, count: message),
        body: request > 0 ? [driver.buffers.slice(request)] : [])
      func run(for duration: Duration) async -> Rate {
        let end = driver.now + duration
        let start = (driver.now, driver.usage(of: .process).processor)
        var rate = Rate()
        rate.count = await withTaskGroup(of: Int.self) { group in
          for _ in 0..<lanes {
            group.addTask {
              var count = 0
              while driver.now < end {
                _ = try? await client.call(address, method: 1, packet, deadline: .seconds(10))
                count += 1
              }
              return count
            }
          }
          return await group.reduce(0, +)
        }
        let (seconds, attoseconds) = (driver.now - start.0).components
        rate.wall = Double(seconds) + Double(attoseconds) / 1e18
        rate.cpu = (driver.usage(of: .process).processor - start.1) / .seconds(1)
        return rate
      }
      _ = await run(for: .milliseconds(200))
      let rate = await run(for: .seconds(1))
      await client.close()
      await server.stop()
      return rate
    }
  }

  @Test("small calls", arguments: [TransportSecurity.never, .always], [1, 16, 128])
  func smallCalls(security: TransportSecurity, lanes: Int) throws {
    let rate = try Self.measure(security, lanes: lanes, request: 0, answer: 0)
    print(
      "small \(security) x\(lanes): \(Int(Double(rate.count) / rate.wall)) calls/s, "
        + "\(Int(rate.cpu * 1e9 / Double(rate.count))) ns CPU a call, both ends")
  }

  @Test(
    "bulk", arguments: [TransportSecurity.never, .always],
    [(1 << 20, 0, 1), (1 << 20, 0, 8), (0, 1 << 20, 8), (65536, 0, 8), (4096, 0, 32)])
  func bulk(security: TransportSecurity, shape: (request: Int, answer: Int, lanes: Int)) throws {
    if let only = environment("CAIRN_BENCH"), only != "1", !"\(security) \(shape)".contains(only) {
      return
    }
    let rate = try Self.measure(
      security, lanes: shape.lanes, request: shape.request, answer: shape.answer)
    let bytes = Double(rate.count * (shape.request + shape.answer))
    func round(_ value: Double) -> Double { (value / 1e7).rounded() / 100 }
    print(
      "bulk \(security) \(shape): \(round(bytes / rate.wall)) GB/s, "
        + "\(round(bytes / rate.cpu)) GB per CPU-second of both ends")
  }
}
