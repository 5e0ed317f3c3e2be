import Coordinator
import HTTP
import Ring
import Service
import Wire

/// Where a coordinator's configuration says that the master keys are.
///
///     master_keys = "master.keys"             # a file; or
///
///     [master_keys]
///     provider = "file"                       # a file, too
///     path = "master.keys"
///
///     [master_keys]
///     provider = "pkcs11"
///     module = "/usr/lib/softhsm/libsofthsm2.so"
///     token = "cairn"                         # the token's label, its serial number (serial = "..."), or both
///     pin_file = "token.pin"
///     key = "m1"                              # the label of the AES-256 key that wraps now
///
///     [master_keys]
///     provider = "vault"                      # HashiCorp Vault, OpenBao
///     url = "https://vault:8200"
///     ca_file = "vault-ca.pem"                # whose certificates are believed; else the system's
///     token_file = "vault.token"
///     namespace = "team"                      # none unless given
///     mount = "transit"                       # where the transit engine is
///     key = "m1"
///
///     [master_keys.old]                       # where they were before: the same again, to unwrap alone
struct MasterKeySettings {
  private let current: Place
  private let former: Place?

  /// Nil where there are none.
  init?(in root: ConfigurationTable) throws(ConfigurationError) {
    guard root.hasTable("master_keys"), let table = try root.table("master_keys") else {
      let path: String = try root.value("master_keys", default: "")
      if path.isEmpty { return nil }
      current = .file(path)
      former = nil
      return
    }
    current = try Place(table)
    former = try table.table("old").map { (old) throws(ConfigurationError) in try Place(old) }
  }

  /// Reads what the tables name, but for the keys.
  ///
  /// - Throws: also when everybody may read a file of secrets that is there.
  func load(_ settings: Settings, on driver: any Driver) async throws(Failure)
    -> KeyProviderChoice
  {
    let choice = try await current.load(settings, on: driver)
    guard let former else { return choice }
    return .moving(from: try await former.load(settings, on: driver), to: choice)
  }

  /// One place, as it stands in its table.
  private enum Place {
    case file(String)
    /// Paths are relative to the configuration.
    case token(TokenSettings)
    case transit(Transit)

    struct Transit {
      var endpoint: HTTPEndpoint
      var authorities: String
      var tokenFile: String
      var namespace: String?
      var mount: String
      var key: String
    }

    private enum Provider: String, ConfigurationChoice { case file, pkcs11, vault }
    /// Debian's, where its package ca-certificates puts them.
    private static let systemAuthorities = "/etc/ssl/certs/ca-certificates.crt"

    init(_ table: ConfigurationTable) throws(ConfigurationError) {
      switch try table.required("provider", as: Provider.self) {
      case .file: self = .file(try table.required("path"))
      case .pkcs11:
        let name = TokenName(
          label: try table.optional("token"), serial: try table.optional("serial"))
        if name.label == nil && name.serial == nil {
          throw table.error("token", "is missing: the label of a token, or its 'serial'")
        }
        self = .token(
          TokenSettings(
            module: try table.required("module"), token: name,
            pinFile: try table.required("pin_file"), key: try Self.keyName(table)))
      case .vault: self = .transit(try Self.transit(table))
      }
    }

    private static func transit(_ table: ConfigurationTable) throws(ConfigurationError) -> Transit {
      let endpoint: HTTPEndpoint = try table.required("url")
      guard endpoint.isSecure else { throw table.error("url", "must begin with https://") }
      let mount = try table.value("mount", default: "transit")
      guard TransitSettings.isPath(mount) else {
        throw table.error(
          "mount", "must be a path such as \"transit\", without slashes at its ends")
      }
      let namespace: String? = try table.optional("namespace")
      guard namespace.map(TransitSettings.isPath) ?? true else {
        throw table.error(
          "namespace", "must be a path such as \"team/one\", without slashes at its ends")
      }
      let key = try keyName(table)
      guard TransitSettings.isKeyName(key) else {
        throw table.error("key", "must not begin or end with a dot or a hyphen")
      }
      return Transit(
        endpoint: endpoint, authorities: try table.value("ca_file", default: systemAuthorities),
        tokenFile: try table.required("token_file"), namespace: namespace, mount: mount, key: key)
    }

    private static func keyName(_ table: ConfigurationTable) throws(ConfigurationError) -> String {
      let name: String = try table.required("key")
      guard KeyFile.isName(name) else {
        throw table.error("key", "must be 1 to 64 letters, digits, dots, hyphens and underscores")
      }
      return name
    }

    func load(_ settings: Settings, on driver: any Driver) async throws(Failure)
      -> KeyProviderChoice
    {
      switch self {
      case .file(let path):
        let path = settings.resolve(path)
        try await Self.refuseOpen("the master keys", path, on: driver)
        return .file(path)
      case .token(var token):
        token.module = settings.resolve(token.module)
        token.pinFile = settings.resolve(token.pinFile)
        try await Self.refuseOpen("the token's PIN", token.pinFile, on: driver)
        return .token(token)
      case .transit(let transit):
        let tokenFile = settings.resolve(transit.tokenFile)
        try await Self.refuseOpen("the key service's token", tokenFile, on: driver)
        return .transit(
          TransitSettings(
            endpoint: transit.endpoint,
            trust: try await Self.trust(settings.resolve(transit.authorities), on: driver),
            tokenFile: tokenFile, namespace: transit.namespace, mount: transit.mount,
            key: transit.key))
      }
    }

    private static func trust(_ path: String, on driver: any Driver) async throws(Failure)
      -> TLSTrust
    {
      let bytes: [UInt8]
      do throws(RingError) {
        bytes = try await driver.readFile(path, limit: 4 << 20)
      } catch {
        throw .failed("cannot read the authorities of [master_keys]: \(error.reason)", path)
      }
      do throws(TLSTrust.Failure) {
        return try TLSTrust(authorities: bytes, driver: driver)
      } catch {
        throw .failed("[master_keys] \(error.reason)", path)
      }
    }

    /// A file that is not there yet, or cannot be read, is a matter for when it is wanted: what needs no key goes on without.
    private static func refuseOpen(_ what: String, _ path: String, on driver: any Driver)
      async throws(Failure)
    {
      do throws(SecretFileError) {
        _ = try await driver.readSecret(path, limit: KeyFile.byteLimit)
      } catch {
        if case .open = error { throw .failed(error.reason(what), path) }
      }
    }
  }
}
