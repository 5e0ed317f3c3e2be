import Bench
import Ring
import Service
import Wire

/// `bench idle`: many proven connections that ask nothing, and what they do to one who asks.
func benchIdle(_ context: Context) async throws(Failure) {
  let arguments = context.arguments
  let driver = context.driver
  let count = try arguments.number("--connections", in: 1...4_000_000) ?? 1000
  let hold = try arguments.seconds("--hold", upTo: .seconds(86_400)) ?? .seconds(10)
  var addresses: [SocketAddress] = []
  for text in arguments.operands {
    guard let address = SocketAddress(text) else {
      throw .usage("an address such as 10.0.0.1:7000 is wanted: \(text)")
    }
    addresses.append(address)
  }
  let configuration = try await ClientConfiguration.load(
    ClientConfiguration.path(arguments), on: driver)
  let bench = IdleConnections(
    to: addresses, key: configuration.key, security: configuration.security, driver: driver)

  func ask() async throws(Failure) -> IdleConnections.Latencies {
    do throws(BenchError) { return try await bench.askAlone(for: hold) } catch {
      throw .failed(error.text)
    }
  }
  let before = try await ask()
  let begun = driver.now
  await bench.open(count)
  let opening = driver.now - begun
  var during: IdleConnections.Latencies?
  var lost = 0
  if bench.openCount > 0 {
    during = try await ask()
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

extension IdleConnections.Latencies {
  fileprivate var text: String {
    "\(sorted.count) calls, p50 \(at(0.5).text), p99 \(at(0.99).text), longest \(at(1).text)"
  }
  fileprivate var json: JSON {
    .object([
      ("calls", .number(sorted.count)), ("p50Seconds", .double(at(0.5).secondCount)),
      ("p99Seconds", .double(at(0.99).secondCount)),
      ("longestSeconds", .double(at(1).secondCount)),
    ])
  }
}

extension Duration {
  fileprivate var secondCount: Double {
    Double(components.seconds) + Double(components.attoseconds) / 1e18
  }
}
