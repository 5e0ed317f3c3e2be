import Cluster
import Ring
import Service
import Wire

/// A configuration file and what all of ours have in common. Paths in a file are relative to the file.
struct Settings: Sendable {
  let path: String
  private let file: ConfigurationFile

  init(_ path: String, on driver: any Driver) async throws(Failure) {
    self.path = path
    let bytes: [UInt8]
    do throws(RingError) {
      bytes = try await driver.readFile(path, limit: 1 << 20)
    } catch {
      throw .failed("cannot read the configuration: \(error.reason)", path)
    }
    do throws(ConfigurationError) {
      file = try ConfigurationFile(parsing: bytes, path: path)
    } catch {
      throw .failed("\(error)")
    }
  }

  /// Hands the root table to `body`; then every key that `body` did not ask for is refused.
  func read<Value>(_ body: (ConfigurationTable) throws(ConfigurationError) -> Value)
    throws(Failure) -> Value
  {
    do throws(ConfigurationError) {
      let value = try body(file.root)
      try file.finish()
      return value
    } catch {
      throw .failed("\(error)")
    }
  }

  /// What `body` reads; keys that it does not ask for are nobody's business here.
  func peek<Value>(_ body: (ConfigurationTable) throws(ConfigurationError) -> Value)
    throws(Failure) -> Value
  {
    do throws(ConfigurationError) {
      return try body(file.root)
    } catch {
      throw .failed("\(error)")
    }
  }

  func addresses(_ key: String, in table: ConfigurationTable) throws(ConfigurationError)
    -> [SocketAddress]
  {
    let addresses: [SocketAddress] = try table.required(key)
    if addresses.isEmpty { throw table.error(key, "must name at least one address") }
    return addresses
  }

  func security(in table: ConfigurationTable) throws(ConfigurationError) -> TransportSecurity {
    let text = try table.value("security", default: "automatic")
    guard let security = TransportSecurity(rawValue: text) else {
      throw table.error("security", "must be \"automatic\", \"always\" or \"never\"")
    }
    return security
  }

  /// `relative` as seen from the file's folder, made absolute.
  func resolve(_ relative: String) -> String {
    if relative.utf8.first == slash { return relative }
    var folder = HostProcess.absolute(path).utf8.split(separator: slash).dropLast().map {
      String(Substring($0))
    }
    for component in relative.utf8.split(separator: slash) {
      if component.elementsEqual("..".utf8) {
        _ = folder.popLast()
      } else if !component.elementsEqual(".".utf8) {
        folder.append(String(Substring(component)))
      }
    }
    return "/" + folder.joined(separator: "/")
  }

  /// The cluster's key from its file: 64 hexadecimal digits.
  func key(_ relative: String, on driver: any Driver) async throws(Failure) -> ClusterKey {
    let path = resolve(relative)
    let bytes = try await secret("the cluster key", in: path, limit: 4096, on: driver)
    let text = String(decoding: bytes, as: UTF8.self).filter { !$0.isWhitespace }
    guard let key = ClusterKey(hex: text) else {
      throw .failed("no cluster key: 64 hexadecimal digits are wanted", path)
    }
    return key
  }
}

/// What a file of secrets holds; refused when everybody on this machine can get at it.
///
/// - Parameter what: it is, for people: "the cluster key".
func secret(_ what: String, in path: String, limit: Int, on driver: any Driver)
  async throws(Failure) -> [UInt8]
{
  do throws(SecretFileError) {
    return try await driver.readSecret(path, limit: limit)
  } catch {
    throw .failed(error.reason(what), path)
  }
}
