import Gateway
import HTTP
import Ring
import Service
import Wire

/// The tables `[notifications.NAME]` of a gateway's configuration: webhooks that buckets may have told of writes.
///
///     [notifications.index]
///     url = "https://10.0.0.7:8443/hook"       # or http://; without a port 80, or 443
///     ca = "ca.pem"                            # whose servers are believed; needed for https
///     authorization = "Bearer SECRET"          # the field of that name in each request; or
///     authorization_file = "hook.secret"       # a file with it
///     queue = "hook-queue"                     # a folder for what is not delivered yet; left out: memory
///     limit = "64MiB"                          # of events that wait
struct NotificationSettings {
  private var configuration: NotificationTarget.Configuration
  private let authorities: String?
  private let authorizationFile: String?
  private let queue: String?

  init(_ name: String, _ table: ConfigurationTable) throws(ConfigurationError) {
    guard NotificationTarget.isName(name) else {
      throw table.error("url", "belongs to a name that is not 1 to 64 letters, digits, '-' and '_'")
    }
    let text: String = try table.required("url")
    guard let (endpoint, target) = Self.parse(text) else {
      throw table.error("url", "must be like \"http://10.0.0.7:8080/path\"")
    }
    configuration = NotificationTarget.Configuration(
      name: name, endpoint: endpoint, target: target)
    authorities = try table.optional("ca")
    if endpoint.isSecure != (authorities != nil) {
      throw table.error(
        "ca", endpoint.isSecure ? "is missing: https needs it" : "says nothing where 'url' is http")
    }
    authorizationFile = try table.optional("authorization_file")
    if let authorization: String = try table.optional("authorization") {
      if authorizationFile != nil {
        throw table.error("authorization", "is said twice: 'authorization_file' is there")
      }
      guard Self.isField(authorization) else {
        throw table.error("authorization", "must be 1 to 4096 printable ASCII characters")
      }
      configuration.authorization = authorization
    }
    queue = try table.optional("queue")
    let limit = try table.value("limit", default: ByteSize(UInt64(configuration.byteLimit)))
    guard (64 << 10...16 << 30).contains(limit.byteCount) else {
      throw table.error("limit", "must be between 64KiB and 16GiB")
    }
    configuration.byteLimit = limit.int
  }

  /// Where to connect to, and what to ask there.
  private static func parse(_ text: String) -> (HTTPEndpoint, String)? {
    let isSecure = text.hasPrefix("https://")
    guard isSecure || text.hasPrefix("http://"),
      text.utf8.allSatisfy({ $0 > 32 && $0 < 127 && $0 != UInt8(ascii: "#") })
    else { return nil }
    let scheme = isSecure ? "https://" : "http://"
    let rest = text.dropFirst(scheme.count)
    let host = rest.prefix { $0 != "/" && $0 != "?" }
    var target = String(rest.dropFirst(host.count))
    if !target.hasPrefix("/") { target = "/" + target }
    let endpoint =
      HTTPEndpoint(scheme + host) ?? HTTPEndpoint(scheme + host + (isSecure ? ":443" : ":80"))
    return endpoint.map { ($0, target) }
  }

  private static func isField(_ text: String) -> Bool {
    (1...4096).contains(text.utf8.count) && text.utf8.allSatisfy { $0 >= 32 && $0 < 127 }
  }

  /// Reads what the table names, and opens the target.
  func open(_ settings: Settings, on driver: any Driver, log: Log) async throws(Failure)
    -> NotificationTarget
  {
    func bytes(_ file: String?) async throws(Failure) -> [UInt8]? {
      guard let file else { return nil }
      let path = settings.resolve(file)
      do throws(RingError) {
        return try await driver.readFile(path, limit: 1 << 20)
      } catch {
        throw .failed(
          "cannot read what [notifications.\(configuration.name)] names: \(error.reason)", path)
      }
    }
    var configuration = configuration
    if let authorities = try await bytes(authorities) {
      do throws(TLSTrust.Failure) {
        configuration.trust = try TLSTrust(authorities: authorities, driver: driver)
      } catch {
        throw .failed("[notifications.\(configuration.name)] \(error.reason)", settings.path)
      }
    }
    if authorizationFile == nil, !configuration.authorization.isEmpty {
      // As with files of secrets: the configuration is one.
      _ = try await secret(
        "the authorization of [notifications.\(configuration.name)]", in: settings.path,
        limit: 1 << 20, on: driver)
    }
    if let file = authorizationFile {
      let found = try await secret(
        "the authorization of [notifications.\(configuration.name)]", in: settings.resolve(file),
        limit: 1 << 20, on: driver)
      // As editors leave it.
      let text = String(decoding: found.last == 10 ? found.dropLast() : found[...], as: UTF8.self)
      guard Self.isField(text) else {
        throw .failed("must hold 1 to 4096 printable ASCII characters", settings.resolve(file))
      }
      configuration.authorization = text
    }
    if let queue { configuration.queue = settings.resolve(queue) }
    do throws(NotificationTarget.Failure) {
      return try await NotificationTarget.open(configuration, on: driver, log: log)
    } catch {
      throw .failed("the notification queue cannot be used: \(error.reason)", error.path)
    }
  }
}
