package import Ring
package import Wire

/// Connections to daemons that have proved the cluster's key, asked once and ask nothing more: clients of one connection each.
package final class IdleConnections: @unchecked Sendable {
  // Loop-confined.
  package struct Latencies: Sendable {
    /// At least one, the shortest first.
    package var sorted: [Duration]

    /// - Parameter share: 0.99 for the time that 99 of 100 calls do not exceed.
    package func at(_ share: Double) -> Duration {
      sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))]
    }
  }

  private let addresses: [SocketAddress]
  private let key: ClusterKey
  private let security: TransportSecurity
  private let driver: any Driver
  private var clients: [WireClient] = []
  private var started = 0
  /// Why no more could be opened.
  package private(set) var obstacle: String?

  /// Handshakes under way at once.
  private static let lanes = 64
  private static let deadline = Duration.seconds(60)
  /// No daemon answers this method; that it is refused is answer enough.
  private static let method: UInt16 = 0xFFFF

  /// - Parameter addresses: at least one; connections go to each in turn.
  package init(
    to addresses: [SocketAddress], key: ClusterKey, security: TransportSecurity,
    driver: any Driver
  ) {
    self.addresses = addresses
    self.key = key
    self.security = security
    self.driver = driver
  }

  package var openCount: Int { clients.count }
  package var stillOpenCount: Int { clients.count { $0.currentStatistics.openConnections == 1 } }

  private func makeClient() -> WireClient {
    WireClient(
      driver: driver, key: key, name: "bench idle", security: security)
  }

  private func ask(_ client: WireClient, _ address: SocketAddress) async throws(WireError) {
    do throws(WireError) {
      _ = try await client.call(address, method: Self.method, Packet(), deadline: Self.deadline)
    } catch .refused {}
  }

  private static func words(_ error: WireError) -> String {
    switch error {
    case .unreachable(let text), .disconnected(let text), .malformed(let text): text
    default: "\(error)"
    }
  }

  /// Opens connections until there are `count`, or no more can be had.
  package func open(_ count: Int) async {
    await withTaskGroup { group in
      for _ in 0..<min(count, Self.lanes) {
        group.addTask { [self] in
          while started < count && obstacle == nil && !Task.isCancelled {
            let address = addresses[started % addresses.count]
            started += 1
            let client = makeClient()
            do throws(WireError) {
              try await ask(client, address)
              clients.append(client)
            } catch {
              if obstacle == nil {
                obstacle = "connection \(clients.count + 1): \(Self.words(error))"
              }
              await client.close()
            }
          }
        }
      }
    }
  }

  /// One call every other millisecond, on a connection of its own.
  ///
  /// - Throws: when a call is not answered.
  package func askAlone(for time: Duration) async throws(BenchError) -> Latencies {
    let client = makeClient()
    var found: [Duration] = []
    let end = driver.now + time
    do throws(WireError) {
      try await ask(client, addresses[0])
      repeat {
        let begun = driver.now
        try await ask(client, addresses[0])
        found.append(driver.now - begun)
        guard await driver.sleep(.milliseconds(2)) else { break }
      } while driver.now < end
    } catch {
      await client.close()
      throw .failed(Self.words(error))
    }
    await client.close()
    return Latencies(sorted: found.sorted())
  }

  package func close() async {
    for client in clients { await client.close() }
  }
}
