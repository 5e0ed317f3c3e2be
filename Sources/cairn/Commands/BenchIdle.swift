import Ring
import Service
import Wire

/// `bench idle`: many proven connections that ask nothing, and what they do to one who asks.
func benchIdle(_ context: Context) async throws(Failure) {
  let arguments = context.arguments
  let driver = context.driver
  let count = try arguments.number("--connections", in: 1...4_000_000) ?? 1000
  var hold = Duration.seconds(10)
  if let text = arguments["--hold"] {
    guard let parsed = Duration(text: text) ?? Duration(text: text + "s"), parsed > .zero,
      parsed <= .seconds(86_400)
    else { throw .usage("--hold takes seconds, or a time such as 2min: \(text)") }
    hold = parsed
  }
  var addresses: [SocketAddress] = []
  for text in arguments.operands {
    guard let address = SocketAddress(text) else {
      throw .usage("an address such as 10.0.0.1:7000 is wanted: \(text)")
    }
    addresses.append(address)
  }
  let configuration = try await ClientConfiguration.load(
    ClientConfiguration.path(arguments), on: driver)
  let bench = IdleBench(configuration, addresses, driver: driver)

  let before = try await bench.askAlone(for: hold)
  let begun = driver.now
  await bench.open(count)
  let opening = driver.now - begun
  var during: IdleBench.Latencies?
  var lost = 0
  if bench.openCount > 0 {
    during = try await bench.askAlone(for: hold)
    lost = bench.openCount - bench.stillOpenCount
  }
  let held = bench.openCount - lost
  let obstacle = bench.obstacle
  if arguments.has("--json") {
    try await context.output.line(
      JSON.object([
        ("asked", .number(count)), ("held", .number(held)), ("lost", .number(lost)),
        ("obstacle", obstacle.map { JSON.string($0) } ?? .null),
        ("openingSeconds", .double(opening.secondCount)),
        ("alone", before.json), ("beside", during?.json ?? .null),
      ]).text)
  } else {
    try await context.output.line(
      "\(held) of \(count) connections held\(lost > 0 ? ", \(lost) lost" : ""), opened in \(opening.text)"
    )
    if let obstacle { try await context.output.line("ended by: \(obstacle)") }
    try await context.output.line("a call alone:        \(before.text)")
    if let during { try await context.output.line("a call beside them:  \(during.text)") }
  }
  try await context.output.flush()
  await bench.close()
  if held < count { throw .reported }
}

/// Clients of one connection each.
private final class IdleBench: @unchecked Sendable {
  // Loop-confined.
  struct Latencies {
    var sorted: [Duration]

    func at(_ share: Double) -> Duration {
      sorted[min(sorted.count - 1, Int(Double(sorted.count) * share))]
    }
    var text: String {
      "\(sorted.count) calls, p50 \(at(0.5).text), p99 \(at(0.99).text), longest \(at(1).text)"
    }
    var json: JSON {
      .object([
        ("calls", .number(sorted.count)), ("p50Seconds", .double(at(0.5).secondCount)),
        ("p99Seconds", .double(at(0.99).secondCount)),
        ("longestSeconds", .double(at(1).secondCount)),
      ])
    }
  }

  private let configuration: ClientConfiguration
  private let addresses: [SocketAddress]
  private let driver: any Driver
  private var clients: [WireClient] = []
  private var started = 0
  /// Why no more could be opened.
  private(set) var obstacle: String?

  /// Handshakes under way at once.
  private static let lanes = 64
  private static let deadline = Duration.seconds(60)
  /// No daemon answers this method; that it is refused is answer enough.
  private static let method: UInt16 = 0xFFFF

  init(_ configuration: ClientConfiguration, _ addresses: [SocketAddress], driver: any Driver) {
    self.configuration = configuration
    self.addresses = addresses
    self.driver = driver
  }

  var openCount: Int { clients.count }
  var stillOpenCount: Int { clients.count { $0.currentStatistics.openConnections == 1 } }

  private func makeClient() -> WireClient {
    WireClient(
      driver: driver, key: configuration.key, name: "bench idle", security: configuration.security)
  }

  private func ask(_ client: WireClient, _ address: SocketAddress) async throws(WireError) {
    do throws(WireError) {
      _ = try await client.call(address, method: Self.method, Packet(), deadline: Self.deadline)
    } catch .refused {}
  }

  /// Opens connections until there are `count`, or no more can be had.
  func open(_ count: Int) async {
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
              if obstacle == nil { obstacle = "connection \(clients.count + 1): \(error)" }
              await client.close()
            }
          }
        }
      }
    }
  }

  /// One call every other millisecond, on a connection of its own.
  func askAlone(for time: Duration) async throws(Failure) -> Latencies {
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
      throw .failed("no answer: \(error)", "\(addresses[0])")
    }
    await client.close()
    return Latencies(sorted: found.sorted())
  }

  func close() async {
    for client in clients { await client.close() }
  }
}

extension Duration {
  fileprivate var secondCount: Double {
    Double(components.seconds) + Double(components.attoseconds) / 1e18
  }
}
