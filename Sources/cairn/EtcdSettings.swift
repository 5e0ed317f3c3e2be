import Coordinator
import HTTP
import Ring
import Service
import Wire

/// The table `[etcd]` of a coordinator's configuration. With it several coordinators serve one cluster.
///
///     [etcd]
///     endpoints = ["http://127.0.0.1:2379"]   # https:// with TLS; the next is tried when one does not answer
///     prefix = "cairn"                        # of all keys; one for each cluster
///     ca = "ca.pem"                           # whose servers are believed; needed for https
///     certificate = "client.pem"              # shown to etcd, with its key, when it asks for one
///     key = "client.key"
///     user = "cairn"                          # when etcd wants users
///     password_file = "etcd.password"
struct EtcdSettings {
  private let endpoints: [HTTPEndpoint]
  private let prefix: String
  private let authorities: String?
  private let certificate: String?
  private let key: String?
  private let user: String?
  private let passwordFile: String?

  init(_ table: ConfigurationTable) throws(ConfigurationError) {
    endpoints = try table.required("endpoints")
    guard !endpoints.isEmpty else { throw table.error("endpoints", "must name at least one") }
    prefix = try table.value("prefix", default: "cairn")
    guard (1...200).contains(prefix.utf8.count),
      prefix.utf8.allSatisfy({ $0 > 32 && $0 < 127 }), prefix.utf8.last != UInt8(ascii: "/")
    else {
      throw table.error(
        "prefix", "must be 1 to 200 printable ASCII characters without a slash at the end")
    }
    authorities = try table.optional("ca")
    certificate = try table.optional("certificate")
    key = try table.optional("key")
    user = try table.optional("user")
    passwordFile = try table.optional("password_file")
    if endpoints.contains(where: \.isSecure) {
      if authorities == nil { throw table.error("ca", "is missing: https needs it") }
    } else if authorities != nil {
      throw table.error("ca", "says nothing where no endpoint is https")
    }
    if (certificate == nil) != (key == nil) {
      throw table.error(
        certificate == nil ? "key" : "certificate", "goes with the other of certificate and key")
    }
    if certificate != nil && authorities == nil {
      throw table.error("certificate", "says nothing where no endpoint is https")
    }
    if (user == nil) != (passwordFile == nil) {
      throw table.error(
        user == nil ? "password_file" : "user", "goes with the other of user and password_file")
    }
  }

  /// Reads what the table names.
  func load(_ settings: Settings, on driver: any Driver) async throws(Failure) -> EtcdConfiguration
  {
    func secretBytes(_ file: String?, _ what: String) async throws(Failure) -> [UInt8]? {
      guard let file else { return nil }
      return try await secret(what, in: settings.resolve(file), limit: 1 << 20, on: driver)
    }
    func bytes(_ file: String?) async throws(Failure) -> [UInt8]? {
      guard let file else { return nil }
      let path = settings.resolve(file)
      do throws(RingError) {
        return try await driver.readFile(path, limit: 1 << 20)
      } catch {
        throw .failed("cannot read what [etcd] names: \(error.reason)", path)
      }
    }
    var configuration = EtcdConfiguration(endpoints: endpoints, prefix: prefix)
    if let authorities = try await bytes(authorities) {
      let (certificate, key) = (
        try await bytes(certificate), try await secretBytes(key, "the key that [etcd] names")
      )
      do throws(TLSTrust.Failure) {
        configuration.trust = try TLSTrust(
          authorities: authorities, certificate: certificate, key: key, driver: driver)
      } catch {
        throw .failed("[etcd] \(error.reason)", settings.path)
      }
    }
    configuration.user = user
    if let password = try await secretBytes(
      passwordFile, "the password that [etcd] names")
    {
      guard let text = String(validating: password, as: UTF8.self) else {
        throw .failed("the password is not UTF-8", passwordFile ?? "")
      }
      // As editors leave it.
      configuration.password = text.hasSuffix("\n") ? String(text.dropLast()) : text
    }
    return configuration
  }
}
