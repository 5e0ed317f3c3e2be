import Cluster
import DataPath
import Messages
import Ring
import Service
import Stripes
import Wire

/// A connected client: what every command that talks to a cluster starts with. Loop-confined.
final class Client: @unchecked Sendable {
  let driver: any Driver
  let output: Output
  let access: ClusterAccess
  private let wire: WireClient
  private let session: SessionFile?
  /// Seals what is to be kept of access keys.
  let secrets: SecretBox
  var coordinator: CoordinatorClient { access.coordinator }
  /// How fresh what is read must be.
  var level: ReadLevel { access.map.level }

  private init(
    output: Output, access: ClusterAccess, wire: WireClient, session: SessionFile?, key: ClusterKey
  ) {
    secrets = SecretBox(key)
    driver = access.driver
    self.output = output
    self.access = access
    self.wire = wire
    self.session = session
  }

  /// Reads the configuration, finds the leader, gives the client to `body` and closes it after.
  static func with(
    _ context: Context, _ body: (Client) async throws(Failure) -> Void
  ) async throws(Failure) {
    let configuration = try await ClientConfiguration.load(
      ClientConfiguration.path(context.arguments), on: context.driver)
    let session = context.arguments["--session"].map {
      SessionFile(driver: context.driver, path: $0)
    }
    let level = try await readLevel(context.arguments, session)
    let passphrase = try await passphrase(context, configured: configuration.passphraseFile)
    let wire = WireClient(
      driver: context.driver, key: configuration.key, name: "client",
      security: configuration.security)
    let coordinator = CoordinatorClient(
      driver: context.driver, wire: wire, addresses: configuration.coordinators, name: "cairn")
    // For people only: an error is one line.
    if HostProcess.isTerminal(2) {
      coordinator.onWait = { reason in
        context.driver.spawn("notice") {
          await context.output.error("cairn: \(reason); trying on")
        }
      }
    }
    let map = MapCache(driver: context.driver, coordinator: coordinator)
    map.level = level
    let client = Client(
      output: context.output,
      access: ClusterAccess(
        driver: context.driver, coordinator: coordinator, map: map,
        stripes: StripeIO(
          driver: context.driver, client: wire, directory: map,
          options: StripeIO.Options(policy: configuration.reading.policy))), wire: wire,
      session: session, key: configuration.key)
    if let passphrase { client.unlock(with: passphrase) }
    do throws(Failure) {
      if configuration.reading.needsCheck {
        let found = try await client.ask(GetMap(level: level), at: level, about: "the map").map
        try configuration.reading.check(found.nodes)
      }
      try await body(client)
      await client.close()
    } catch {
      await client.close()
      // Some of it may have been done.
      try? await session?.note(coordinator.position)
      throw error
    }
    try await session?.note(coordinator.position)
  }

  /// Runs to its end also when the command was cancelled, so that nothing is left to expire.
  private func close() async {
    let access = access
    let coordinator = coordinator
    let wire = wire
    await driver.spawn("close client") {
      await access.close()
      await coordinator.close()
      await wire.close()
    }.wait()
  }

  /// A question.
  ///
  /// - Parameter level: the one that the request names.
  func ask<Request: Call>(
    _ request: Request, at level: ReadLevel = .strong, about subject: String
  ) async throws(Failure) -> Request.Answer {
    do throws(DataPathError) {
      return try await coordinator.query(request, at: level)
    } catch {
      throw failure(error, subject)
    }
  }

  /// A change, carried out exactly once.
  @discardableResult
  func change(_ command: ClientCommand, about subject: String) async throws(Failure)
    -> CommandOutcome
  {
    do throws(DataPathError) {
      return try await coordinator.execute(command)
    } catch {
      throw failure(error, subject)
    }
  }
}

/// What a command runs with.
struct Context: Sendable {
  var driver: any Driver
  var output: Output
  var arguments: Arguments
}
