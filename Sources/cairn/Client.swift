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
  var coordinator: CoordinatorClient { access.coordinator }

  private init(output: Output, access: ClusterAccess, wire: WireClient) {
    driver = access.driver
    self.output = output
    self.access = access
    self.wire = wire
  }

  /// Reads the configuration, finds the leader, gives the client to `body` and closes it after.
  static func with(
    _ context: Context, _ body: (Client) async throws(Failure) -> Void
  ) async throws(Failure) {
    let configuration = try await ClientConfiguration.load(
      ClientConfiguration.path(context.arguments), on: context.driver)
    let wire = WireClient(
      driver: context.driver, key: configuration.key, name: "client",
      security: configuration.security)
    let coordinator = CoordinatorClient(
      driver: context.driver, wire: wire, addresses: configuration.coordinators, name: "cairn")
    let map = MapCache(driver: context.driver, coordinator: coordinator)
    let client = Client(
      output: context.output,
      access: ClusterAccess(
        driver: context.driver, coordinator: coordinator, map: map,
        stripes: StripeIO(driver: context.driver, client: wire, directory: map)), wire: wire)
    do throws(Failure) {
      try await body(client)
      await client.close()
    } catch {
      await client.close()
      throw error
    }
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

  /// A read, always at the strong level.
  func ask<Request: Call>(_ request: Request, about subject: String) async throws(Failure)
    -> Request.Answer
  {
    do throws(DataPathError) {
      return try await coordinator.query(request)
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
