import Cluster
import Ring
import Service
import Wire

/// What a client needs to reach a cluster: `client.toml`.
///
///     coordinators = ["127.0.0.1:7400"]
///     key_file = "cluster.key"        # relative to this file
///     security = "automatic"          # "automatic", "always", "never"
///     read_policy = "data-first"      # which blocks are asked for first, and from where: docs/repair.md
///     passphrase_file = "passphrase"  # opens buckets that 'cairn mb --encrypt' made
struct ClientConfiguration: Sendable {
  var coordinators: [SocketAddress]
  var key: ClusterKey
  var security: TransportSecurity
  var reading: ReadSettings
  /// Absolute.
  var passphraseFile: String?

  /// `--config`, `CAIRN_CONFIG`, or `./.cairn/client.toml`.
  static func path(_ arguments: Arguments) -> String {
    arguments["--config"] ?? HostProcess.environment("CAIRN_CONFIG") ?? ".cairn/client.toml"
  }

  static func load(_ path: String, on driver: any Driver) async throws(Failure)
    -> ClientConfiguration
  {
    let found = await driver.submit(
      .status(path: path, followLinks: true, Outcome<FileStatus>()))
    guard found != -Errno.noEntry else {
      throw .failed(
        "no cluster configuration here; start a cluster with 'cairn cluster up' or name one with --config",
        path)
    }
    let settings = try await Settings(path, on: driver)
    let (coordinators, keyFile, security, reading, passphraseFile) = try settings.read {
      root throws(ConfigurationError) in
      (
        try settings.addresses("coordinators", in: root),
        try root.required("key_file", as: String.self), try settings.security(in: root),
        try ReadSettings(root), try root.optional("passphrase_file", as: String.self)
      )
    }
    return ClientConfiguration(
      coordinators: coordinators, key: try await settings.key(keyFile, on: driver),
      security: security, reading: reading,
      passphraseFile: passphraseFile.map { settings.resolve($0) })
  }
}
