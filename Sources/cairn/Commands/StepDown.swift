import Messages
import Ring
import Service
import Wire

/// `admin step-down`: the leader hands over to a standby.
func stepDown(_ context: Context) async throws(Failure) {
  let driver = context.driver
  let configuration = try await ClientConfiguration.load(
    ClientConfiguration.path(context.arguments), on: driver)
  let wire = WireClient(
    driver: driver, key: configuration.key, name: "client", security: configuration.security)
  let outcome: Result<HandOver, Failure>
  do throws(Failure) {
    outcome = .success(try await handOver(configuration.coordinators, wire, driver))
  } catch {
    outcome = .failure(error)
  }
  await wire.close()
  let done = try outcome.get()
  if context.arguments.has("--json") {
    try await context.output.line(
      JSON.object([
        ("from", .string(done.from)), ("to", .string(done.to)), ("epoch", .number(done.epoch)),
        ("seconds", .double(done.seconds)),
      ]).text)
  } else {
    try await context.output.line(
      "\(done.to) leads instead of \(done.from), after \(Int(done.seconds * 1000)) ms")
  }
  try await context.output.flush()
}

private struct HandOver: Sendable {
  var from: String
  var to: String
  /// Of the new leader.
  var epoch: UInt64
  /// Without a leader.
  var seconds: Double
}

private func handOver(
  _ coordinators: [SocketAddress], _ wire: WireClient, _ driver: any Driver
) async throws(Failure) -> HandOver {
  func status(_ address: SocketAddress) async -> GetStatus.Answer? {
    do throws(WireError) {
      return try await wire.call(GetStatus(), at: address, deadline: .seconds(2)).answer
    } catch {
      return nil
    }
  }
  var leader: (address: SocketAddress, status: GetStatus.Answer)?
  var standbys: [SocketAddress] = []
  var detail = "no coordinator answers"
  for address in coordinators {
    guard let status = await status(address) else { continue }
    switch status.role {
    case "leader": leader = (address, status)
    case "standby": standbys.append(address)
    default: detail = status.detail
    }
  }
  guard let leader else { throw .failed("no coordinator leads", detail) }
  if standbys.isEmpty {
    throw .failed("no standby answers that could lead instead", leader.status.name)
  }
  do throws(WireError) {
    _ = try await wire.call(StepDown(), at: leader.address, deadline: .seconds(10))
  } catch {
    if case .refused(_, let reason) = error { throw .failed(reason, leader.status.name) }
    throw .failed("did not say that it handed over: \(error)", leader.status.name)
  }
  let gone = driver.now
  while driver.now - gone < .seconds(30) {
    for address in coordinators {
      if let status = await status(address), status.role == "leader",
        status.epoch > leader.status.epoch
      {
        return HandOver(
          from: leader.status.name, to: status.name, epoch: status.epoch,
          seconds: (driver.now - gone) / .seconds(1))
      }
    }
    await driver.sleep(.milliseconds(5))
  }
  throw .failed("handed over, but no coordinator leads yet", leader.status.name)
}
