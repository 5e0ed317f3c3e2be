import Ring
import Service
import Wire

/// What a client needs to reach a cluster: `client.toml`.
///
///     coordinators = ["127.0.0.1:7400"]
///     key_file = "cluster.key"        # relative to this file
///     security = "automatic"          # "automatic", "always", "never"
struct ClientConfiguration: Sendable {
  var coordinators: [SocketAddress]
  var key: ClusterKey
  var security: TransportSecurity

  /// `--config`, `CAIRN_CONFIG`, or `./.cairn/client.toml`.
  static func path(_ arguments: Arguments) -> String {
    arguments["--config"] ?? HostProcess.environment("CAIRN_CONFIG") ?? ".cairn/client.toml"
  }

  static func load(_ path: String, on driver: any Driver) async throws(Failure)
    -> ClientConfiguration
  {
    let bytes: [UInt8]
    do throws(RingError) {
      bytes = try await driver.readFile(path, limit: 1 << 20)
    } catch {
      throw .failed(
        "no cluster configuration (\(error.reason)); start one with 'cairn cluster up' or name it with --config",
        path)
    }
    do throws(ConfigurationError) {
      let file = try ConfigurationFile(parsing: bytes, path: path)
      let coordinators = try addresses(file, "coordinators", path: path)
      let keyFile = try file.string("key_file")
      let security = try transportSecurity(file, path: path)
      try file.finish()
      let key = try await loadKey(resolve(keyFile, beside: path), on: driver)
      return ClientConfiguration(coordinators: coordinators, key: key, security: security)
    } catch {
      throw .failed("\(error)")
    }
  }
}
